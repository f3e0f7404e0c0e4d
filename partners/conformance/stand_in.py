"""Boxes to run the checks in: a stand-in of our own, or a partner's sandbox."""

import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from joserfc.jwk import ECKey

from partners import ADAPTERS, Auth, Connection, adapter
from partners.conformance import ISSUER, Box, ClientFor
from partners.simulators import config, serve
from partners.simulators.remote import Control

BY_SECRET = ("cinemas",)
CLIENT_ID = "gateway"
SLOTTED: Mapping[str, Mapping[str, Any]] = {
    "car_shops": {"kind": "service", "slots": "workshop", "name_en": "oil service"},
    "cinemas": {"kind": "slot", "slots": "shows", "name_en": "2D ticket"},
    "graphql": {"kind": "slot", "slots": "gate", "name_en": "entry"},
    "hotels": {"kind": "night", "slots": "rooms", "name_en": "one night"},
    "rides": {"kind": "service", "slots": "pickup", "name_en": "ride", "pricing": "estimate"},
}
TEN = {
    "workshop": {"times": ["09:00", "13:30"], "capacity": 10},
    "shows": {"times": ["13:20", "19:40"], "capacity": 10, "hold_minutes": 15},
    "gate": {"times": ["08:00-10:00", "10:00-12:00"], "capacity": 10},
    "rooms": {"per": "night", "standard": 10, "deluxe": 10},
    "pickup": {"per": "15 minutes", "capacity": 10},
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A stand-in per adapter: the simulators' configuration and how the gateway connects."""

    document: Mapping[str, Any]
    clients: Mapping[str, Auth]

    def connection(self, name: str, url: str) -> Connection:
        """The connection to the stand-in of an adapter, listening there."""
        return Connection(
            merchant=merchant_of(name),
            adapter=name,
            base_url=url,
            token_url=f"{url}/oauth/token",
            auth=self.clients[name],
            audience=url,
        )


def merchant_of(name: str) -> str:
    """The merchant id of an adapter's stand-in."""
    return f"ZZ_{name}"


def plan(names: Iterable[str] = ADAPTERS) -> Plan:
    """Stand-ins for these adapters: a voucher without limit, and slots of ten places."""
    clients: dict[str, Auth] = {}
    merchants = []
    for name in names:
        if name in BY_SECRET:
            auth = Auth("client_secret_basic", CLIENT_ID, secret=secrets.token_urlsafe(24))
            client: dict[str, Any] = {"client_id": CLIENT_ID, "secret": auth.secret}
        else:
            key = ECKey.generate_key("P-256", private=True, auto_kid=True)
            private = dict(key.as_dict(private=True))
            auth = Auth("private_key_jwt", CLIENT_ID, key=private)
            public = dict(key.as_dict(private=False))
            client = {"client_id": CLIENT_ID, "jwks": {"keys": [public]}}
        clients[name] = auth
        merchants.append(
            {
                "id": merchant_of(name),
                "kind": name,
                "clients": [client],
                "rates": {ISSUER: 9000, "*": 9000},
                "offers": [_offer("CF-OK", kind="voucher"), _offer("CF-TEN", **SLOTTED[name])],
                "slots": TEN,
            }
        )
    control = {"port": 0, "token": secrets.token_urlsafe(24)}
    return Plan({"control": control, "merchants": merchants}, clients)


@contextlib.asynccontextmanager
async def stand_in(name: str, client_for: ClientFor) -> AsyncIterator[Box]:
    """A box with the adapter of that name on a stand-in that lives as long as the box."""
    planned = plan([name])
    with tempfile.TemporaryDirectory() as folder:
        settings = config.parse(planned.document)
        async with serve.running(settings, Path(folder)) as simulators:
            ports = simulators.ports()
            url = ports["merchants"][merchant_of(name)]
            control = Control(ports["control"], ports["control_token"])
            try:
                async with at(planned.connection(name, url), client_for, control=control) as box:
                    yield box
            finally:
                await control.aclose()


@contextlib.asynccontextmanager
async def at(
    connection: Connection,
    client_for: ClientFor,
    *,
    control: Control | None = None,
    travels: bool | None = None,
) -> AsyncIterator[Box]:
    """A box with a partner that is already running.

    Args:
        control: Of our own stand-ins; None at a real partner's sandbox.
        travels: Whether it follows `Sandbox-Now`; by default our stand-ins do.
    """
    plain = httpx2.AsyncClient(base_url=connection.base_url, timeout=10, trust_env=False)
    async with plain, client_for(connection, lambda: box.now) as http:
        box = Box(
            partner=adapter(connection.adapter)(connection.merchant, http),
            connection=connection,
            http=plain,
            client_for=client_for,
            control=control,
            travels=control is not None if travels is None else travels,
        )
        box.watch(plain)
        box.watch(http)
        yield box


def _offer(id: str, **more: Any) -> dict[str, Any]:
    slotted = "slots" in more
    until = "free until 24 h before" if slotted else "before use, 7 days"
    return {
        "id": id,
        "name_zh": "测试权益",
        "name_en": "sample",
        "category": "测试",
        "cash_fen": 4500 if slotted else 1800,
        "own_points": 4500 if slotted else 1800,
        "own_priced_by": "value",
        "green": False,
        "high_value": False,
        "guaranteed": True,
        "max_offset_pct": 100,
        "part_payment": True,
        "parity": slotted,
        "guarantee": {
            "parity": "same slots, quality and refund terms as cash buyers",
            "cancel": until,
            "compensation": "PR-18",
            "contact": "sandbox@merchant.example",
        },
        **more,
    }
