"""The worker: what is due is done, whoever crashed. Several may run over one database."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from gateway import db, telemetry
from gateway.catalog import service as catalog
from gateway.compliance import service as compliance
from gateway.db import Clock, Database, system_now
from gateway.errors import NoAnswer
from gateway.events.webhooks import Webhooks
from gateway.ledger import service as ledger
from gateway.oauth import service as oauth
from gateway.points import service as points
from gateway.ports import Partner
from gateway.redemption.service import Redemptions
from gateway.settings import Settings
from gateway.settlement import service as settlement
from gateway.settlement.model import WindowState

log = telemetry.log(__name__)

MAX_ATTEMPTS = 12
CHORES_EVERY_SECONDS = 2.0


class Worker:
    """Runs redemptions that are due, queued jobs and the periodic work.

    Args:
        partners: Merchant id to adapter; hosted merchants included.
    """

    def __init__(
        self,
        database: Database,
        partners: Mapping[str, Partner],
        clock: Clock,
        settings: Settings,
        redemptions: Redemptions,
        *,
        webhooks: Webhooks | None = None,
    ) -> None:
        self.webhooks = webhooks
        self.database = database
        self.partners = partners
        self.clock = clock
        self.settings = settings
        self.redemptions = redemptions
        self._next_chores = 0.0
        self._jobs: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "settlement_notice": self._settlement_notice,
            "cancel_late": self.redemptions.cancel_late,
            "compensate": self._compensate,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; the round under way is finished first."""
        beside = [asyncio.create_task(self._read_feeds(stop))]
        if self.webhooks is not None:
            beside.append(asyncio.create_task(self.webhooks.run(stop)))
        try:
            await self._rounds(stop)
        finally:
            await asyncio.gather(*beside)

    async def _rounds(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                done = await self.turn()
            except Exception:
                log.exception("worker round failed")
                done = 0
            if not done:
                with_jitter = 0.75 + random.random() / 2  # noqa: S311 - no secret
                await _pause(stop, self.settings.worker_poll_seconds * with_jitter)

    async def _read_feeds(self, stop: asyncio.Event) -> None:
        """Follow every partner's offers; one that does not answer holds up no other."""
        while not stop.is_set():
            await asyncio.gather(*(self._read_feed(merchant) for merchant in self.partners))
            await _pause(stop, self.settings.feed_poll_seconds)

    async def _read_feed(self, merchant: str) -> None:
        partner = self.partners[merchant]
        try:
            read = await catalog.pull_feed(self.database, partner, now=self.clock.now())
        except NoAnswer as error:
            log.warning("feed not read", merchant=merchant, code=error.code)
        except Exception:
            log.exception("feed failed", merchant=merchant)
        else:
            log.info("feed read", merchant=merchant, pages=len(read))

    async def turn(self) -> int:
        """One round; returns how much was done."""
        async with self.database.reading() as tx:
            await self.clock.refresh(tx)
        done = await self.redemptions.work()
        done += await self._run_jobs()
        await self._chores()
        return done

    async def _chores(self) -> None:
        """What time itself makes due: cuts, expiry, maturity, a new year; and the seal."""
        if time.monotonic() < self._next_chores:
            return
        self._next_chores = time.monotonic() + CHORES_EVERY_SECONDS
        now = self.clock.now()
        async with self.database.transaction() as tx:
            await settlement.close_due_window(tx, now=now)
        async with self.database.transaction() as tx:
            await compliance.turn_year(tx, now=now)
            await points.mature(tx, now=now, limit=500)
            await points.expire(tx, now=now, limit=500)
        async with self.database.transaction() as tx:
            await ledger.seal(tx, now=now, limit=1000)
            await oauth.sweep(tx, now=system_now())
        await self._publish_closed(now)

    async def _publish_closed(self, now: datetime) -> None:
        """Net and publish what is closed, apart from the cut, so that the cut is short."""
        async with self.database.reading() as tx:
            windows = await settlement.windows(tx)
        for window in windows:
            if window.state is WindowState.CLOSED:
                async with self.database.transaction() as tx:
                    await settlement.net_window(tx, window_id=window.id, now=now)
                    await settlement.publish_window(tx, window_id=window.id, now=now)

    async def _run_jobs(self) -> int:
        async with self.database.transaction() as tx:
            rows = await db.lease_jobs(
                tx,
                system_now=system_now(),
                lease_seconds=self.settings.lease_seconds,
                limit=50,
            )
        for row in rows:
            await self._run_job(row)
        return len(rows)

    async def _run_job(self, row: Any) -> None:
        try:
            await self._jobs[row.name](row.payload)
        except Exception as error:
            if not isinstance(error, NoAnswer):
                log.exception("job failed", job=row.job_id, name=row.name)
            due = system_now() + timedelta(seconds=min(2 ** (row.attempts + 1), 3600))
            gone = row.attempts + 1 >= MAX_ATTEMPTS
            async with self.database.transaction() as tx:
                retry_at = None if gone else due
                await db.retry_job(tx, row.job_id, due_at=retry_at, error=repr(error))
            return
        async with self.database.transaction() as tx:
            await db.finish_job(tx, row.job_id)

    async def _settlement_notice(self, payload: dict[str, Any]) -> None:
        """Tell one merchant one leg, through its own API."""
        leg_id, merchant = payload["leg_id"], payload["merchant"]
        async with self.database.reading() as tx:
            notice = await settlement.notice(tx, leg_id)
        partner = self.partners[merchant]
        receipt = await partner.settlement_notice(notice, op_key=f"{leg_id}:{merchant}")
        async with self.database.transaction() as tx:
            await settlement.record_notice(
                tx, leg_id=leg_id, merchant=merchant, receipt=receipt, at=self.clock.now()
            )

    async def _compensate(self, payload: dict[str, Any]) -> None:
        if not await self.redemptions.compensate_again(payload):
            raise NoAnswer(reason="the slice is still empty")


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, or less when stopped."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
