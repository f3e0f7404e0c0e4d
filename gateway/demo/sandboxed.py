"""What the operator's commands do in a sandbox: certify a partner, run stand-ins, set the clock."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from gateway.db import Clock, Database, SandboxOnly
from gateway.demo import install
from gateway.demo.data import catalog
from gateway.demo.supervisor import listening
from gateway.oauth.client import PartnerClient, partner_client
from gateway.runtime import read_connections
from gateway.settings import Settings
from partners import Connection, conformance
from partners.conformance import report
from partners.conformance.stand_in import at
from partners.simulators import __main__ as stand_ins
from partners.simulators.config import Config
from partners.simulators.config import read as read_config
from partners.simulators.remote import Control


@dataclass(frozen=True, slots=True)
class Certificate:
    """What came of a certification, in every form it can be printed."""

    ready: bool
    text: str
    document: dict[str, Any]
    junit: str


async def certify(settings: Settings, code: str, groups: Iterable[str]) -> Certificate:
    """Run the partner contract against a connected partner's sandbox.

    Checks that need a hand behind the partner run where it is one of our stand-ins.

    Raises:
        LookupError: No partner of that id or short name is connected.
        ConnectionError: It does not answer.
    """
    slugs = {row["slug"]: row["id"] for row in catalog()["merchants"]}
    connections = read_connections(settings)
    connection = connections.get(slugs.get(code, code))
    if connection is None:
        raise LookupError(f"{code}: not connected in {settings.partners_path}")
    async with contextlib.AsyncExitStack() as stack:
        await _reached(connection)
        control = await stack.enter_async_context(_control(settings))
        box = await stack.enter_async_context(at(connection, client_for(settings), control=control))
        results = await conformance.certify(box, groups)
    return Certificate(
        report.ready(results),
        report.text(results),
        report.document(results),
        report.junit(connection.merchant, results),
    )


def client_for(
    settings: Settings,
) -> Callable[[Connection, Callable[[], datetime]], PartnerClient]:
    """How the gateway talks to a partner."""

    def made(connection: Connection, clock: Callable[[], datetime]) -> PartnerClient:
        return partner_client(
            connection,
            clock=clock,
            sandbox=settings.sandbox,
            timeout=settings.partner_timeout_seconds,
            concurrency=settings.partner_concurrency,
        )

    return made


async def _reached(connection: Connection) -> None:
    """Raises ConnectionError if nobody listens there."""
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as http:
        try:
            await http.get(connection.base_url)
        except httpx2.TransportError as error:
            raise ConnectionError(
                f"{connection.merchant}: {connection.base_url}: {error}"
            ) from error


@contextlib.asynccontextmanager
async def _control(settings: Settings) -> AsyncIterator[Control | None]:
    """The hand behind our stand-ins, if they run here."""
    try:
        control = Control(*install.opened(settings.home).control())
    except FileNotFoundError:
        yield None
        return
    try:
        yield control
    finally:
        await control.aclose()


def run_simulators(settings: Settings) -> None:
    """Run the stand-ins of an installation until SIGTERM.

    They listen where they did last, so that who is connected to them stays so; where such a port
    is taken they take another, and the partners file says which.
    """
    made = install.prepare(settings, port=settings.port)
    config = _where_they_were(read_config(made.simulators_file), made)
    asyncio.run(
        stand_ins.run(
            config,
            made.sandbox / "state",
            ports_file=made.ports_file,
            listening=lambda ports: install.connect(made, settings, ports),
        )
    )


def _where_they_were(config: Config, made: install.Install) -> Config:
    """The configuration with the ports of the last run, as far as they are free."""
    try:
        last = json.loads(made.ports_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return config
    return replace(
        config,
        control_port=_if_free(last["control"]),
        merchants=tuple(
            replace(each, port=_if_free(last["merchants"].get(each.id, "")))
            for each in config.merchants
        ),
    )


def _if_free(url: str) -> int:
    """The port of a loopback address, or 0 if somebody listens there."""
    port = urlsplit(url).port or 0
    try:
        with listening("127.0.0.1", port):
            return port
    except OSError:
        return 0


async def set_clock(settings: Settings, instant: datetime) -> datetime:
    """Move the business clock of every process on this database; returns what it was.

    Raises:
        SandboxOnly: It is no sandbox.
    """
    if not settings.sandbox:
        raise SandboxOnly
    database = Database(settings.url)
    try:
        clock = Clock()
        async with database.transaction() as tx:
            await clock.refresh(tx)
            before = clock.now()
            await clock.set(tx, instant)
            return before
    finally:
        await database.close()
