"""Access tokens for who tries the sandbox out, got over HTTP as any client gets its own."""

import json
from pathlib import Path

import httpx2

from gateway.db import SandboxOnly
from gateway.demo import install
from gateway.demo.clients import STAFF_CONSOLE, Caller, MemberApp, Merchant, Person, Wire
from gateway.errors import NotFound
from gateway.settings import Settings


async def token(settings: Settings, who: str, *, key: Path | None = None) -> str:
    """An access token of one of the demo's people, or of a merchant's system.

    Args:
        who: A login, as in mbr_lina or usr_operator, or a merchant's id.
        key: The merchant's private JWK; by default that of the sandbox.

    Raises:
        NotFound: Nobody here is called so.
        SandboxOnly: It is no sandbox.
        ValueError: There is no sandbox in this folder, or no gateway answers.
    """
    if not settings.sandbox:
        raise SandboxOnly
    wire = Wire.open(settings.base_url)
    try:
        caller = _caller(wire, settings, who, key)
        await caller.log_in()
    except httpx2.TransportError as error:
        raise ValueError(f"no gateway at {settings.base_url}: `make serve` starts one") from error
    finally:
        await wire.aclose()
    return caller.headers()["authorization"].removeprefix("Bearer ")


def _nobody(settings: Settings) -> str:
    if settings.embedded:
        return f"no sandbox in {settings.home}: `make serve` makes one"
    return (
        f"no demo people in {settings.home}: a database of one's own (GATEWAY_DATABASE_URL) begins "
        "without; `gateway access add-person` adds one, who logs in with a browser"
    )


def _caller(wire: Wire, settings: Settings, who: str, key: Path | None) -> Caller:
    if key is not None:
        jwk = json.loads(key.read_text(encoding="utf-8"))
        return Merchant(wire, merchant_id=who, key=jwk)
    try:
        made = install.opened(settings.home)
    except FileNotFoundError as error:
        raise ValueError(_nobody(settings)) from error
    for person in install.people():
        if person.login != who:
            continue
        if person.is_member:
            return MemberApp(wire, login=who, password=made.password)
        return Person(wire, login=who, password=made.password, client_id=STAFF_CONSOLE)
    try:
        return Merchant(wire, merchant_id=who, key=made.merchant_key(who))
    except FileNotFoundError as error:
        raise NotFound(id=who) from error
