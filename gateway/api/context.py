"""What one request knows: who asks, in which language, the transaction, the loaders.

A root mutation field has one writing transaction (`tx`). Reads of one request share a reading
transaction (`reading`), which is ended before a partner is asked and after an effect, so that
nothing is open across a partner's call and what follows an effect sees it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import strawberry
from graphql import DocumentNode
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.api.loaders import Loaders
from gateway.api.messages import UNREAD, fill
from gateway.api.rates import Rates
from gateway.db import Clock, Database, claim_key, settle_key
from gateway.errors import NoAnswer, PartnerUnavailable
from gateway.events.watching import Watcher
from gateway.events.webhooks import Webhooks
from gateway.merchants.model import Merchant
from gateway.oauth.guard import Actor, Guard
from gateway.ports import Partner
from gateway.redemption.service import Redemptions
from gateway.settings import Settings
from gateway.subgraphs.publishing import Publishing
from gateway.values import InvalidInput, legible, month_of

Info: TypeAlias = strawberry.Info["Context", None]
KEY_LENGTH = 200
_CLOCK_SECONDS = 1.0  # How long another process's move of the sandbox clock may go unseen.


@dataclass(frozen=True, slots=True)
class Conformance:
    """A run of the partner contract: check id, PASS, FAIL or SKIP, and why."""

    merchant: str
    checks: tuple[tuple[str, str, str | None], ...]


Certify = Callable[[str], Awaitable[Conformance]]


@dataclass(slots=True)
class Services:
    """What lives as long as the application."""

    database: Database
    clock: Clock
    partners: Mapping[str, Partner]
    settings: Settings
    guard: Guard
    redemptions: Redemptions
    webhooks: Webhooks
    watcher: Watcher
    certify: Certify  # runs the partner contract against a merchant's system
    rates: Rates
    publishing: Publishing
    wake: Callable[[], None] = lambda: None  # tells the worker inside that work is due
    clock_read_at: float = 0.0


@dataclass(slots=True)
class Warning:  # noqa: A001 - the API's own word for it.
    """A partner that did not answer a catalog query in time."""

    merchant: str
    code: str
    message: str
    stale_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The id of what an effect made, and whether an earlier request had made it."""

    id: str
    replayed: bool


@dataclass(slots=True)
class Context:
    services: Services
    actor: Actor
    locale: str
    request_id: str
    loaders: Loaders = field(init=False)
    warnings: list[Warning] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # codes of the payloads, for the metrics
    documents: dict[str, DocumentNode] = field(default_factory=dict)  # parsed, by their texts
    known_at: dict[str, bool] = field(default_factory=dict)  # merchants that may know the member
    _tx: AsyncConnection | None = None
    _reads: contextlib.AsyncExitStack | None = None
    _connection: AsyncConnection | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _watching: int = 0
    _watched: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.loaders = Loaders(self)

    @property
    def now(self) -> datetime:
        """Business time, UTC."""
        return self.services.clock.now()

    @property
    def tx(self) -> AsyncConnection:
        """The transaction of the root mutation field that runs."""
        assert self._tx is not None, "only a root mutation field has a writing transaction"
        return self._tx

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """One writing transaction for a root mutation field; what was read before is forgotten."""
        await self.end_reads()
        self.forget()
        try:
            async with self.services.database.transaction() as tx:
                await self._refresh_clock(tx)
                self._tx = tx
                yield
        finally:
            self._tx = None
            self.forget()

    @contextlib.asynccontextmanager
    async def unbound(self) -> AsyncIterator[None]:
        """No transaction: a service that asks partners opens its own."""
        async with self.reading() as tx:
            await self._refresh_clock(tx)
        await self.end_reads()
        self.forget()
        try:
            yield
        finally:
            await self.end_reads()
            self.forget()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """The request's reading transaction, one user at a time; in an effect, the effect's."""
        if self._tx is not None:
            yield self._tx
            return
        async with self._turn:
            if self._connection is None:
                self._reads = contextlib.AsyncExitStack()
                opened = self.services.database.reading()
                self._connection = await self._reads.enter_async_context(opened)
                await self._refresh_clock(self._connection)
            try:
                yield self._connection
            except BaseException:
                await self._close_reads()  # Failed or cancelled half-way: no good to anybody.
                raise

    async def end_reads(self) -> None:
        """End the reading transaction; the next read opens another."""
        async with self._turn:
            await self._close_reads()

    async def _close_reads(self) -> None:
        if self._reads is not None:
            reads, self._reads, self._connection = self._reads, None, None
            with contextlib.suppress(SQLAlchemyError):  # Nothing was written.
                await reads.aclose()

    def forget(self) -> None:
        """Drop what the loaders have read."""
        self.loaders = Loaders(self)

    async def _refresh_clock(self, tx: AsyncConnection) -> None:
        services = self.services
        if services.settings.sandbox and time.monotonic() > services.clock_read_at + _CLOCK_SECONDS:
            await services.clock.refresh(tx)
            services.clock_read_at = time.monotonic()

    async def once(
        self,
        mutation: str,
        input: object,
        make: Callable[[AsyncConnection], Awaitable[str]],
        *,
        caller: str | None = None,
    ) -> Done:
        """Do an effect once for its key, in the field's transaction.

        Args:
            mutation: Its name; keys of different mutations and callers are apart.
            input: The mutation's input, with its `idempotency_key`.
            make: Does it and returns the id of what it made.
            caller: Whose key it is; the actor's by default.

        Raises:
            IdempotencyConflict, IdempotencyInFlight: The key was used otherwise, or is in use.
        """
        plain = given(input)
        key = plain.pop("idempotency_key")
        scope = f"{caller}:{mutation}" if caller else self.scope(mutation)
        seen = await claim_key(self.tx, scope=scope, key=key, input=plain, now=self.now)
        if seen:
            return Done(seen.object_id, replayed=True)
        made = await make(self.tx)
        await settle_key(self.tx, scope=scope, key=key, object_id=made)
        return Done(made, replayed=False)

    def month(self, asked: str | None) -> str:
        """A month as in 2026-11; the present one by default."""
        return asked or month_of(self.now)

    def scope(self, mutation: str) -> str:
        """Whose idempotency keys, and of which mutation."""
        return f"{self.actor.subject}:{mutation}"

    async def warn(self, merchant: str, error: type[NoAnswer] = PartnerUnavailable) -> None:
        """Note that a partner did not answer, once."""
        if all(warning.merchant != merchant for warning in self.warnings):
            found = await self.loaders.merchants.load(merchant)
            names = {"merchant": _name(found, self.locale) if found else merchant}
            message = fill(UNREAD[self.locale], {}, names)
            self.warnings.append(Warning(merchant, error.code, message))

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Around a catalog field that may warn; `all_warnings` waits for its end."""
        self._watching += 1
        self._watched.clear()
        try:
            yield
        finally:
            self._watching -= 1
            if not self._watching:
                self._watched.set()

    async def all_warnings(self) -> list[Warning]:
        """The warnings of every catalog field beside this one, once they have ended."""
        await asyncio.sleep(0)  # Let the fields beside this one begin.
        if self._watching:
            await self._watched.wait()
        return self.warnings


def _name(merchant: Merchant, locale: str) -> str:
    return merchant.name_en if locale == "en" and merchant.name_en else merchant.name_zh


def given(input: object) -> dict[str, Any]:
    """The fields the caller sent, as plain values, without those left UNSET."""
    return {name: _plain(value) for name, value in _fields(input) if value is not strawberry.UNSET}


def require_legible(input: object, path: tuple[str, ...] = ()) -> None:
    """Check every text a caller sent, and its idempotency key.

    Raises:
        InvalidInput: One cannot be stored, or the key is empty or too long.
    """
    for name, value in _fields(input):
        _require_legible(value, (*path, name))
    if not path and not 1 <= len(getattr(input, "idempotency_key", "key").strip()) <= KEY_LENGTH:
        raise InvalidInput("idempotency_key", "1 to {most} characters", most=KEY_LENGTH)


def _require_legible(value: object, path: tuple[str, ...]) -> None:
    if hasattr(type(value), "__strawberry_definition__"):
        require_legible(value, path)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _require_legible(item, (*path, str(number)))
    elif isinstance(value, str | dict):
        legible(value, ".".join(path))


def _fields(input: object) -> list[tuple[str, object]]:
    return list(vars(input).items())


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(type(value), "__strawberry_definition__"):
        return given(value)
    return value
