"""The simulators' configuration file, parsed. Shape: docs/partners.md, "Simulators"."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCOPES = ("offers", "redeem", "statements", "notices")

SLOT_RULES: Mapping[str, Any] = {
    "shows": {
        "times": ["10:10", "13:20", "16:30", "19:40", "22:30"],
        "capacity": 120,
        "hold_minutes": 15,
    },
    "gate": {
        "times": ["08:00-10:00", "10:00-12:00", "12:00-14:00", "14:00-16:00"],
        "capacity": 500,
    },
    "tour": {"times": ["09:00", "11:00", "14:00"], "capacity": 20},
    "rooms": {"per": "night", "standard": 80, "deluxe": 20},
    "workshop": {"times": ["09:00", "10:30", "13:30", "15:00"], "capacity": 4},
    "designer": {"times": ["10:00", "14:00", "16:00"], "capacity": 1},
    "pickup": {"per": "15 minutes", "capacity": 6},
    "event": {"per": "Saturday", "times": ["10:00"], "capacity": 30},
    "flights": {"YT801": "SHA-PEK 08:30", "YT803": "SHA-PEK 19:00", "YT901": "SHA-TFU 09:15"},
}


@dataclass(frozen=True, slots=True)
class Client:
    """Someone who may fetch tokens: by secret (Basic) or by signed assertions."""

    id: str
    scopes: tuple[str, ...] = SCOPES
    secret: str | None = field(default=None, repr=False)
    jwks: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a merchant's events go, signed with `secret` (`whsec_…`)."""

    url: str
    secret: str = field(repr=False)
    retry_seconds: tuple[float, ...] = (0.5, 1, 2, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class Merchant:
    """One simulated merchant.

    `rates` says what an issuer pays, in bps of a claim's face; `*` is for any other issuer.
    `stock` limits offers; one that is not named is unlimited. `hidden_slots` are start times
    that are kept from points buyers: a planted breach of parity.
    """

    id: str
    kind: str  # graphql, cinemas, hotels, car_shops, rides
    port: int = 0
    issuer: str = ""  # URL as a token issuer; empty: http://<host>:<port>
    clients: tuple[Client, ...] = ()
    token_seconds: int = 600
    webhook: Webhook | None = None
    rates: Mapping[str, int] = field(default_factory=dict)
    offers: tuple[Mapping[str, Any], ...] = ()
    stock: Mapping[str, int] = field(default_factory=dict)
    stores: tuple[Mapping[str, Any], ...] = ()
    slots: Mapping[str, Any] = field(default_factory=lambda: SLOT_RULES)
    hidden_slots: Mapping[str, Sequence[str]] = field(default_factory=dict)
    quote_seconds: int = 300
    hold_seconds: int = 900
    faults: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file. The control port is for tests and the demo; it asks for a token."""

    merchants: tuple[Merchant, ...]
    host: str = "127.0.0.1"
    control_port: int = 0
    control_token: str = field(default="", repr=False)


def read(path: Path) -> Config:
    """Read and parse a configuration file.

    Raises:
        ValueError, TypeError, KeyError: The file says something that is not known.
    """
    return parse(json.loads(path.read_text(encoding="utf-8")))


def parse(document: Mapping[str, Any]) -> Config:
    """Parse a configuration; unknown names are refused."""
    control = document.get("control", {})
    merchants = tuple(_merchant(row) for row in document["merchants"])
    ids = [merchant.id for merchant in merchants]
    if len(set(ids)) != len(ids):
        raise ValueError("a merchant is configured twice")
    return Config(
        merchants=merchants,
        host=document.get("host", "127.0.0.1"),
        control_port=control.get("port", 0),
        control_token=control.get("token", ""),
    )


def _merchant(row: Mapping[str, Any]) -> Merchant:
    given = dict(row)
    given["clients"] = tuple(_client(client) for client in row.get("clients", ()))
    if hook := given.get("webhook"):
        retries = tuple(
            hook.get("retry_seconds", Webhook.__dataclass_fields__["retry_seconds"].default)
        )
        given["webhook"] = Webhook(hook["url"], hook["secret"], retries)
    for name in ("offers", "stores", "faults"):
        given[name] = tuple(given.get(name, ()))
    given["slots"] = {**SLOT_RULES, **(given.get("slots") or {})}
    return Merchant(**given)


def _client(row: Mapping[str, Any]) -> Client:
    scopes = row.get("scopes", SCOPES)
    return Client(
        id=row["client_id"],
        scopes=tuple(scopes.split() if isinstance(scopes, str) else scopes),
        secret=row.get("secret"),
        jwks=row.get("jwks"),
    )
