"""Follows events for subscribers: one poller per process, whoever made the change.

Each tick asks once for everything that is followed: the newest sequence of the objects, and what
is new in the merchants' feeds. Subscribers that come with an old number get what they missed.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import telemetry
from gateway.db import Database
from gateway.events import store
from gateway.events.model import EVERYBODY, Event

log = telemetry.log(__name__)

_WAITING = 200  # Events a subscriber has not taken; it gets no more before.
_CHUNK = 500


@dataclass(eq=False, slots=True)
class Subscriber:
    """Somebody who follows one object, or one merchant's feed.

    `seen` is the last number handed over: an object's sequence, or a position in the feed.
    """

    key: str
    seen: int
    ready: list[tuple[int, Event]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def full(self) -> bool:
        """Whether it takes too slowly: it gets the rest when it has taken what waits."""
        return len(self.ready) >= _WAITING

    async def take(self) -> list[tuple[int, Event]]:
        """Wait for what comes next: events with their numbers, in order, at least one."""
        while not self.ready:
            self.news.clear()
            await self.news.wait()
        taken, self.ready = self.ready, []
        return taken

    def give(self, number: int, event: Event) -> None:
        if number > self.seen and not self.full:
            self.seen = number
            self.ready.append((number, event))
            self.news.set()


class Watcher:
    """The one poller of a process. It runs while somebody follows something.

    Args:
        seconds: Pause between two looks.
    """

    def __init__(self, database: Database, *, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._objects: dict[str, set[Subscriber]] = defaultdict(set)
        self._merchants: dict[str, set[Subscriber]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    @contextlib.asynccontextmanager
    async def object(self, object_id: str, *, after: int = 0) -> AsyncIterator[Subscriber]:
        """Follow an object from a sequence on; what was before is had at the first look."""
        async with self._following(self._objects, Subscriber(object_id, after)) as made:
            yield made

    @contextlib.asynccontextmanager
    async def merchant(self, merchant_id: str, *, after: int) -> AsyncIterator[Subscriber]:
        """Follow what concerns a merchant, from a position of its feed on."""
        async with self._following(self._merchants, Subscriber(merchant_id, after)) as made:
            yield made

    @contextlib.asynccontextmanager
    async def _following(
        self, those: dict[str, set[Subscriber]], subscriber: Subscriber
    ) -> AsyncIterator[Subscriber]:
        those[subscriber.key].add(subscriber)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            yield subscriber
        finally:
            those[subscriber.key].discard(subscriber)
            if not those[subscriber.key]:
                del those[subscriber.key]

    async def close(self) -> None:
        """Stop; nobody is told anything any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while self._objects or self._merchants:
            self._wake.clear()
            try:
                async with self._database.reading() as tx:
                    await self._look_at_objects(tx)
                    await self._look_at_feeds(tx)
            except Exception:
                log.exception("events not read")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._seconds)
        self._task = None

    async def _look_at_objects(self, tx: AsyncConnection) -> None:
        followed = list(self._objects)
        for start in range(0, len(followed), _CHUNK):
            newest = await store.newest(tx, followed[start : start + _CHUNK])
            behind = [
                object_id
                for object_id, seq in newest.items()
                if any(
                    each.seen < seq and not each.full for each in self._objects.get(object_id, ())
                )
            ]
            for event in await store.of_objects(tx, behind) if behind else ():
                for each in self._objects.get(event.object_id, ()):
                    each.give(event.seq, event)

    async def _look_at_feeds(self, tx: AsyncConnection) -> None:
        waiting = [each for those in self._merchants.values() for each in those if not each.full]
        if not waiting:
            return
        found = await store.of_merchants(
            tx,
            list(self._merchants),
            after=min(each.seen for each in waiting),
            limit=_CHUNK,
        )
        for position, merchant_id, event in found:
            keys = list(self._merchants) if merchant_id == EVERYBODY else [merchant_id]
            for key in keys:
                for each in self._merchants.get(key, ()):
                    each.give(position, event)
