"""The figures that only the database knows, read when metrics are asked for."""

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.db import Clock, Database, system_now, waiting_jobs
from gateway.oauth.breaker import Breaker
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
        metrics.POOL_USED.set(pool.checkedout())  # type: ignore[attr-defined]
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
    head, waiting, oldest = await audit.seal_state(tx, limit=SEALS_COUNTED)
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


async def _redemptions(tx: AsyncConnection, now: datetime) -> None:
    for state, many in (await redemptions.open_states(tx)).items():
        metrics.REDEMPTIONS.labels(state).set(many)
    ages = await redemptions.doubt_ages(tx, now)
    metrics.DOUBT_OLDEST.set(ages[-1] if ages else 0)
    metrics.DOUBT_P99.set(ages[math.ceil(len(ages) * 0.99) - 1] if ages else 0)
    waiting, oldest = await redemptions.outbox(tx)
    metrics.OUTBOX.set(waiting)
    metrics.OUTBOX_AGE.set(_age(now, oldest))
    metrics.EVENTS_WAITING.set(await redemptions.waiting_events(tx))


async def _jobs(tx: AsyncConnection, at: datetime) -> None:
    depths: dict[tuple[str, ...], float] = {}
    ages: dict[tuple[str, ...], float] = {}
    for row in await waiting_jobs(tx):
        depths[row.name, row.state] = row.many
        if row.state == "DUE":
            ages[row.name,] = _age(at, row.since)
    metrics.replace(metrics.JOBS, depths)
    metrics.replace(metrics.JOBS_AGE, ages)


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (now - since) / timedelta(seconds=1))
