"""Publishing and unpublishing as a whole: judged and composed first, then written at once.

Composition takes a while, and nobody waits for it: the live version is read, a new one is
composed with it, and it is written only if no other was activated meanwhile; else all is done
again on what is live then.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from graphql import GraphQLSchema
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Raced
from gateway.db import Clock, Database
from gateway.errors import NotFound
from gateway.events.model import check_url
from gateway.federation.supergraph import Supergraph
from gateway.merchants import service as merchants
from gateway.oauth.guard import RateLimited
from gateway.subgraphs import service
from gateway.subgraphs.composing import Ours, Verdict, judge, judge_without
from gateway.subgraphs.model import Live, Operation, Subgraph, Submitted, Version, digest, prefix_of
from gateway.values import InvalidInput

_TRIES = 5
_WAITING, _ALL_WAITING = 3, 12  # publications of one merchant and of all, looked at or waiting
_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True)
class _Base:
    """What a publication or an unpublishing rests on."""

    slug: str
    live: Live
    version: Version | None
    members: tuple[Subgraph, ...]
    operations: tuple[Operation, ...]

    def member(self, merchant_id: str) -> Subgraph | None:
        return next((each for each in self.members if each.merchant_id == merchant_id), None)

    def others(self, merchant_id: str) -> list[Submitted]:
        """The subgraphs of the other merchants."""
        return [
            Submitted(each.merchant_id, each.url, each.sdl)
            for each in self.members
            if each.merchant_id != merchant_id
        ]


@dataclass(frozen=True, slots=True)
class Request:
    """A publication that is asked for.

    Args:
        breaking: It may break the API and saved operations.
        scope, key: Its idempotency key.
        actor: Who asks.
    """

    submitted: Submitted
    scope: str
    key: str
    actor: str
    breaking: bool = False

    @property
    def input(self) -> Mapping[str, object]:
        """What the key stands for."""
        sent = self.submitted
        return {"sdl": digest(sent.sdl), "url": sent.url, "allow_breaking": self.breaking}


@dataclass(frozen=True, slots=True)
class Unpublishing:
    """That a merchant's subgraph leaves the graph, as asked for. Fields as in `Request`."""

    merchant_id: str
    scope: str
    key: str
    actor: str
    breaking: bool = False

    @property
    def input(self) -> Mapping[str, object]:
        """What the key stands for."""
        return {"unpublish": self.merchant_id, "allow_breaking": self.breaking}


Found = tuple[Subgraph, Verdict | None, bool]
"""A subgraph; what was found about it, if it was looked at now; whether it is a replay."""


class Publishing:
    """Publishes and unpublishes subgraphs; any number of processes may, over one database.

    Args:
        ours: Our own schema.
        connected: Whether there is an OAuth client of ours at a merchant's.
        told: Called after an activation, in the process that made it.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ours: Ours,
        *,
        sandbox: bool,
        connected: Callable[[str], bool],
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ours = ours
        self._sandbox = sandbox
        self._connected = connected
        self._told = told
        self._turn = asyncio.Lock()  # One composition at a time: it takes a core.
        self._waiting: Counter[str] = Counter()  # for their turn, by merchant

    async def check(self, submitted: Submitted) -> Verdict:
        """Judge a subgraph as `publish` would, and change nothing.

        The text alone is judged: a merchant's tests ask before it is connected.
        """
        check_url(submitted.url, sandbox=self._sandbox)
        return await self._judge(submitted, await self._base(submitted.merchant_id))

    async def publish(self, asked: Request) -> Found:
        """Publish a subgraph and activate the graph with it. One that is live already stays.

        Raises:
            CompositionFailed, SchemaBreaking: See `Verdict.require`.
            InvalidInput: The address may not be asked, or the prefix is another merchant's.
            IdempotencyConflict, IdempotencyInFlight: As for any key.
            RateLimited: The merchant has others under way.
        """
        check_url(asked.submitted.url, sandbox=self._sandbox)
        return await self._again(lambda: self._publish(asked))

    async def check_unpublishing(self, merchant_id: str) -> Verdict:
        """Judge an unpublishing as `unpublish` would, and change nothing.

        Raises:
            NotFound: The merchant has no subgraph in the graph.
        """
        return await self._judge_without(merchant_id, await self._base(merchant_id))

    async def unpublish(self, asked: Unpublishing) -> Found:
        """Activate the graph without a merchant's subgraph; its versions stay.

        Raises:
            NotFound: It has none in the graph.
            SchemaBreaking: That breaks the API or a saved operation, and it was not allowed.
            IdempotencyConflict, IdempotencyInFlight, RateLimited: As for `publish`.
        """
        return await self._again(lambda: self._unpublish(asked))

    async def _again(self, attempt: Callable[[], Awaitable[Found]]) -> Found:
        """Try on what is live; on what is live then, if another version was activated meanwhile."""
        for left in reversed(range(_TRIES)):
            try:
                return await attempt()
            except (DBAPIError, Raced) as error:
                if not (left and db.is_race(error)):
                    raise
        raise AssertionError("unreachable")

    async def _publish(self, asked: Request) -> Found:
        submitted = asked.submitted
        if replay := await self._replayed(asked):
            return replay, None, True
        base = await self._base(submitted.merchant_id)
        here = base.member(submitted.merchant_id)
        same = here is not None and (here.sdl, here.url) == (submitted.sdl, submitted.url)
        verdict = None if same else await self._judge(submitted, base)
        # What is wrong with the text is told first.
        sdl = verdict.require(breaking=asked.breaking) if verdict else ""
        self._require_connected(submitted.merchant_id)

        async def change(tx: AsyncConnection, now: datetime) -> Subgraph:
            if verdict is None:
                assert here is not None, "it is the same"
                return here
            return await service.publish(
                tx,
                submitted=submitted,
                prefix=prefix_of(base.slug, submitted.merchant_id),
                sdl=sdl,
                ours=self._ours.sdl,
                impact=verdict.impact,
                seen=base.live,
                actor=asked.actor,
                now=now,
            )

        return await self._keyed(asked, verdict, change)

    async def _unpublish(self, asked: Unpublishing) -> Found:
        if replay := await self._replayed(asked):
            return replay, None, True
        base = await self._base(asked.merchant_id)
        verdict = await self._judge_without(asked.merchant_id, base)
        sdl = verdict.require(breaking=asked.breaking)

        async def change(tx: AsyncConnection, now: datetime) -> Subgraph:
            return await service.unpublish(
                tx,
                merchant_id=asked.merchant_id,
                sdl=sdl,
                ours=self._ours.sdl,
                impact=verdict.impact,
                seen=base.live,
                actor=asked.actor,
                now=now,
            )

        return await self._keyed(asked, verdict, change)

    async def _keyed(
        self,
        asked: Request | Unpublishing,
        verdict: Verdict | None,
        change: Callable[[AsyncConnection, datetime], Awaitable[Subgraph]],
    ) -> Found:
        """Make a change under its key, or find what the same request made if it was faster."""
        key = {"scope": asked.scope, "key": asked.key}
        async with self._database.transaction() as tx:
            now = self._clock.now()
            if replay := await db.claim_key(tx, **key, input=asked.input, now=now):
                return await service.subgraph(tx, replay.object_id), None, True
            made = await change(tx, now)
            await db.settle_key(tx, **key, object_id=made.id)
        self._told()
        return made, verdict, False

    def _require_connected(self, merchant_id: str) -> None:
        if not self._connected(merchant_id):
            raise InvalidInput("url", "an OAuth client of the coalition at your issuer comes first")

    async def _replayed(self, asked: Request | Unpublishing) -> Subgraph | None:
        async with self._database.reading() as tx:
            replay = await db.peek_key(tx, scope=asked.scope, key=asked.key, input=asked.input)
            return await service.subgraph(tx, replay.object_id) if replay else None

    async def _base(self, merchant_id: str) -> _Base:
        async with self._database.reading() as tx:
            named = await merchants.get(tx, merchant_id)
            seen = await service.live(tx)
            version = None if seen.number is None else await service.version(tx, seen.number)
            members = await service.members_of(tx, seen.number)
            saved = await service.operations(tx)
        return _Base(named.slug, seen, version, tuple(members), tuple(saved))

    async def _judge(self, submitted: Submitted, base: _Base) -> Verdict:
        async with self._in_turn(submitted.merchant_id):
            return await asyncio.to_thread(
                lambda: judge(
                    submitted,
                    prefix=prefix_of(base.slug, submitted.merchant_id),
                    ours=self._ours,
                    others=base.others(submitted.merchant_id),
                    before=self._before(base.version),
                    operations=base.operations,
                )
            )

    async def _judge_without(self, merchant_id: str, base: _Base) -> Verdict:
        if base.member(merchant_id) is None:
            raise NotFound(id=merchant_id)
        async with self._in_turn(merchant_id):
            return await asyncio.to_thread(
                lambda: judge_without(
                    self._ours,
                    others=base.others(merchant_id),
                    before=self._before(base.version),
                    operations=base.operations,
                )
            )

    @contextlib.asynccontextmanager
    async def _in_turn(self, merchant_id: str) -> AsyncIterator[None]:
        """One composition at a time; a merchant has few waiting, so that others have a turn.

        Raises:
            RateLimited: It has as many waiting as it may.
        """
        if self._waiting[merchant_id] >= _WAITING or self._waiting.total() >= _ALL_WAITING:
            raise RateLimited(retry_after_seconds=_RETRY_SECONDS)
        self._waiting[merchant_id] += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting[merchant_id] -= 1

    def _before(self, version: Version | None) -> GraphQLSchema:
        """The API schema that is live; reading it takes a core, so it is done on a thread."""
        return self._ours.schema if version is None else Supergraph.parse(version.sdl).api_schema
