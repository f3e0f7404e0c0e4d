"""The invariants in production: each hour one worker checks them, and every process tells of it.

One row says when they were checked last and what was found: whoever moves its instant on has the
hour. No lock is held and nothing waits: the checks read, one room after the other.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import invariants, telemetry
from gateway.db import Clock, Database
from gateway.operations import store
from gateway.telemetry import metrics

log = telemetry.log(__name__)

FIRST_AFTER_SECONDS = 180.0  # of a worker; a quarter more or less, as all that follows
LOOK_EVERY_SECONDS = 300.0
EVERY = timedelta(hours=1)
ALL_EVERY = timedelta(days=1)
QUICK = timedelta(seconds=10)  # If all take longer, they are checked once a day.
NEXT = "run `gateway doctor`; stop settling, keep everything as it is: docs/operations.md"


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of the invariants.

    Args:
        broken: Ids of those that did not hold when they were checked last.
        known: Ids of all that were checked.
        at: When some were checked last; `all_at`: when all were, which took `took`.
    """

    broken: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    at: datetime | None = None
    all_at: datetime | None = None
    took: timedelta = timedelta()

    def wants_all(self, now: datetime) -> bool:
        """All of them each hour; where that takes long, all once a day."""
        if self.all_at is None or self.took <= QUICK:
            return True
        return not self.all_at <= now < self.all_at + ALL_EVERY

    def body(self) -> dict[str, Any]:
        return {
            "broken": sorted(self.broken),
            "known": sorted(self.known),
            "at": self.at and self.at.isoformat(),
            "all_at": self.all_at and self.all_at.isoformat(),
            "took": self.took / timedelta(seconds=1),
        }


def read_found(said: Mapping[str, Any] | None) -> Found:
    """What `Found.body` wrote."""
    if not said:
        return Found()
    return Found(
        frozenset(said["broken"]),
        frozenset(said["known"]),
        said["at"] and datetime.fromisoformat(said["at"]),
        said["all_at"] and datetime.fromisoformat(said["all_at"]),
        timedelta(seconds=said["took"]),
    )


async def found(tx: AsyncConnection) -> Found:
    """What the last checks found."""
    return read_found(await store.checked(tx))


async def tell(tx: AsyncConnection, *, now: datetime) -> None:
    """Set the gauges."""
    last = await found(tx)
    broken: dict[tuple[str, ...], float] = {
        (each,): float(each in last.broken) for each in last.known
    }
    metrics.replace(metrics.INVARIANTS_BROKEN, broken)
    age = now - last.at if last.at else timedelta()
    metrics.INVARIANTS_AGE.set(max(age, timedelta()) / timedelta(seconds=1))


async def look(database: Database, clock: Clock) -> Found | None:
    """Check them if that is due; None if it is not, or another worker does it."""
    async with database.reading() as tx:
        await clock.refresh(tx)
    now = clock.now()
    async with database.transaction() as tx:
        if not await store.take_checks(tx, now=now, every=EVERY):
            return None
        before = await found(tx)
    after = await check(database, before, now=now)
    async with database.transaction() as tx:
        await store.keep_checked(tx, after.body())
    for mended in sorted(before.broken - after.broken):
        log.info("invariant holds again", invariant=mended)
    return after


async def check(database: Database, before: Found, *, now: datetime) -> Found:
    """Check all, or those that stay on always; each room's in a reading transaction of its own."""
    everything = before.wants_all(now)
    began, results = time.monotonic(), []
    for room in invariants.rooms(standing=not everything).values():
        async with database.reading(one_state=True) as tx:
            results += await room(tx, now)
    took = timedelta(seconds=time.monotonic() - began)
    for result in results:
        if not result.ok:  # Without what broke it: rows name members.
            log.error("invariant broken", invariant=result.id, title=result.title, next=NEXT)
    log.info("invariants checked", count=len(results), seconds=round(took.total_seconds(), 3))
    checked = {result.id for result in results}
    broken = (before.broken - checked) | {result.id for result in results if not result.ok}
    after = replace(before, broken=frozenset(broken), known=before.known | checked, at=now)
    return replace(after, all_at=now, took=took) if everything else after
