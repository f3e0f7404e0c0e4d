"""The figures that only the database knows, read when metrics are asked for."""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.db import Clock, Database, system_now
from gateway.jobs import job_depths
from gateway.oauth.breaker import Breaker
from gateway.operations import watch
from gateway.redemption import event_rows, queue
from gateway.redemption import figures as redemptions
from gateway.settlement import service as settlement
from gateway.settlement.model import WindowState
from gateway.telemetry import metrics, work

log = logging.getLogger(__name__)

KEPT = 5.0  # Seconds for which figures are shown again: however many scrape, one looks.
PATIENCE = 5.0
SEALS_COUNTED = 10_000


class Figures:
    """Reads them for one process.

    Args:
        breakers: By merchant.
        kept: Seconds for which they are shown again.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        breakers: Mapping[str, Breaker],
        *,
        kept: float = KEPT,
    ) -> None:
        self.database = database
        self.clock = clock
        self.breakers = breakers
        self._kept = kept
        self._read_at = float("-inf")
        self._turn = asyncio.Lock()

    async def text(self) -> bytes:
        """All metrics as Prometheus reads them; without a database, those that need none."""
        async with self._turn:
            if time.monotonic() - self._read_at >= self._kept:
                await self._read()
                self._read_at = time.monotonic()
        pool = self.database.engine.sync_engine.pool
        metrics.POOL_USED.set(pool.checkedout())  # type: ignore[attr-defined]  # A QueuePool has it.
        for merchant, breaker in self.breakers.items():
            metrics.BREAKER_OPEN.labels(merchant).set(breaker.open)
        if (age := work.pulse()) is not None:
            metrics.WORKER_BEAT.set(age)
        return metrics.text()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE), self.database.reading() as tx:
                await read(tx, now=self.clock.now(), at=system_now())
        except (sa.exc.SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("figures not read", exc_info=error)
            metrics.SCRAPE_FAILED.set(1)
        else:
            metrics.SCRAPE_FAILED.set(0)


async def read(tx: AsyncConnection, *, now: datetime, at: datetime) -> None:
    """Read them in one transaction.

    Args:
        now: Business time. at: System time.
    """
    await _redemptions(tx, now)
    await _jobs(tx, at)
    head, waiting, oldest = await audit.state(tx, limit=SEALS_COUNTED)
    metrics.SEAL_HEAD.set(head)
    metrics.SEAL_LAG.set(waiting)
    metrics.SEAL_AGE.set(_age(at, oldest))
    windows: dict[tuple[str, ...], float] = {}
    for window in await settlement.windows(tx):
        if window.state is not WindowState.SETTLED:
            since = window.opened_at if window.state is WindowState.OPEN else window.cuts_at
            key = (str(window.state),)
            windows[key] = max(windows.get(key, 0), _age(now, since))
    metrics.replace(metrics.WINDOW_AGE, windows)
    await watch.tell(tx, now=now)


async def _redemptions(tx: AsyncConnection, now: datetime) -> None:
    for state, many in (await redemptions.open_states(tx)).items():
        metrics.REDEMPTIONS.labels(state).set(many)
    doubts = await queue.doubt_ages(tx, now=now)
    metrics.replace(metrics.DOUBTS, {(name,): each.count for name, each in doubts.items()})
    metrics.replace(
        metrics.DOUBT_OLDEST, {(name,): _seconds(each.oldest) for name, each in doubts.items()}
    )
    metrics.replace(metrics.DOUBT_P99, {(n,): _seconds(each.p99) for n, each in doubts.items()})
    due = await queue.depth(tx, now=now)
    metrics.DUE.set(due.waiting)
    metrics.DUE_AGE.set(_seconds(due.oldest))
    waiting, oldest = await redemptions.outbox(tx)
    metrics.OUTBOX.set(waiting)
    metrics.OUTBOX_AGE.set(_age(now, oldest))
    events = await queue.events_depth(tx, now=now)
    metrics.EVENTS_WAITING.set(events.waiting)
    metrics.EVENTS_AGE.set(_seconds(events.oldest))
    aside = await event_rows.set_aside(tx, since=now - event_rows.REMEMBERED)
    metrics.EVENTS_ASIDE.set(aside.count)


async def _jobs(tx: AsyncConnection, at: datetime) -> None:
    depths: dict[tuple[str, ...], float] = {}
    ages: dict[tuple[str, ...], float] = {}
    for name, depth in (await job_depths(tx, system_now=at)).items():
        depths |= {(name, "DUE"): depth.waiting, (name, "DEAD"): depth.dead}
        ages[name,] = _seconds(depth.oldest)
    metrics.replace(metrics.JOBS, depths)
    metrics.replace(metrics.JOBS_AGE, ages)


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else _seconds(now - since)


def _seconds(age: timedelta) -> float:
    return max(0.0, age / timedelta(seconds=1))
