"""The partners: one file per kind of system, one class per file, behind `gateway.ports.Partner`.

    http.py         one way to ask over HTTP, and what each failure means; every adapter uses it
    graphql.py      any partner that serves contract.graphql
    cinemas.py  hotels.py  car_shops.py  rides.py
                    systems with words of their own
    conformance.py  the contract as a list of checks, for tests and for operators
    simulators/     stand-ins that speak HTTP; SANDBOXES makes one per adapter

A new partner with a system of its own: a module with a class that has `code`, `capabilities` and
the port's methods, made from `(code, http)`; and one line in `ADAPTERS`.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httpx2

from gateway.ports import Partner

if TYPE_CHECKING:
    from partners.conformance import Box, ClientFor

ADAPTERS: Mapping[str, tuple[str, str]] = {
    "car_shops": ("partners.car_shops", "CarShops"),
    "cinemas": ("partners.cinemas", "Cinemas"),
    "graphql": ("partners.graphql", "GraphQLPartner"),
    "hotels": ("partners.hotels", "Hotels"),
    "rides": ("partners.rides", "Rides"),
}

METHODS = ("private_key_jwt", "client_secret_basic")


@dataclass(frozen=True, slots=True)
class Auth:
    """How the gateway shows a partner who it is: a private JWK, or a secret (sandbox only)."""

    method: str
    client_id: str
    key: Mapping[str, Any] | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"auth.method: one of {', '.join(METHODS)}")
        if self.method == "private_key_jwt" and not self.key:
            raise ValueError("auth.key: private_key_jwt needs a private JWK")
        if self.method == "client_secret_basic" and not self.secret:
            raise ValueError("auth.secret: client_secret_basic needs a secret")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a merchant's system is, what it speaks and how to get in.

    `audience` is the partner's issuer URL: the audience of our assertions. `webhook_secret`
    (`whsec_…`) checks what the partner sends us. `subgraph_scope` is the scope of our token for its
    subgraph.
    """

    merchant: str
    adapter: str
    base_url: str
    token_url: str
    auth: Auth
    audience: str
    scope: str = "offers redeem statements notices"
    subgraph_scope: str = "offers"
    webhook_secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.adapter not in ADAPTERS:
            raise ValueError(f"adapter: one of {', '.join(ADAPTERS)}")


def parse(document: Mapping[str, Any]) -> Connection:
    """One connection of the partners file.

    Raises:
        ValueError: A field is missing, unknown or wrong.
    """
    given = dict(document)
    try:
        return Connection(**{**given, "auth": Auth(**given["auth"])})
    except KeyError as error:
        raise ValueError(f"{error.args[0]}: missing") from error
    except TypeError as error:
        raise ValueError(str(error)) from error


def load(
    connections: Iterable[Connection], client_for: Callable[[Connection], httpx2.AsyncClient]
) -> dict[str, Partner]:
    """Make the partners of these connections.

    Args:
        client_for: Gives each its HTTP client, with base URL, token, deadline and breaker.

    Returns:
        Merchant id to partner.
    """
    return {
        connection.merchant: adapter(connection.adapter)(
            connection.merchant, client_for(connection)
        )
        for connection in connections
    }


def adapter(name: str) -> Callable[[str, httpx2.AsyncClient], Partner]:
    """The adapter of that name; its module is imported when it is first needed."""
    module, made = ADAPTERS[name]
    return cast(
        "Callable[[str, httpx2.AsyncClient], Partner]",
        getattr(importlib.import_module(module), made),
    )


def _sandbox(name: str, client_for: "ClientFor") -> "AbstractAsyncContextManager[Box]":
    stand_in = importlib.import_module("partners.conformance.stand_in")
    return cast("AbstractAsyncContextManager[Box]", stand_in.stand_in(name, client_for))


SANDBOXES: "Mapping[str, Callable[[ClientFor], AbstractAsyncContextManager[Box]]]" = {
    name: partial(_sandbox, name) for name in ADAPTERS
}
"""An adapter's name to a box for `conformance.certify`, on a stand-in that lives with the box."""
