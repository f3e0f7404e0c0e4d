"""The worker: what is due is done, whoever crashed. Several may run over one database.

Redemptions, jobs, stored webhooks, chores and feeds each have a loop of their own. Redemptions
and jobs run beside each other, so many at once and so many at one partner: a slow partner takes
up its own places and no more.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import failpoint, jobs, telemetry
from gateway.audit import service as audit
from gateway.catalog import service as catalog
from gateway.compliance import service as compliance
from gateway.db import Clock, Database, system_now
from gateway.errors import NoAnswer
from gateway.events.webhooks import Webhooks
from gateway.oauth import service as oauth
from gateway.oauth.keys import Vault
from gateway.operations import watch
from gateway.outage import PAUSE_SECONDS, Outage
from gateway.points import service as points
from gateway.ports import Partner, SettlementNotice
from gateway.redemption.service import Redemptions
from gateway.settings import Settings
from gateway.settlement import service as settlement
from gateway.settlement.model import WindowState
from gateway.telemetry import work
from gateway.values import back_off

log = telemetry.log(__name__)

MAX_ATTEMPTS = 12  # of a job that fails by itself; what no partner answers is tried for ever
LONGEST_WAIT = timedelta(hours=1)
CHORES_EVERY_SECONDS = 2.0
SEAL_BATCH = 1_000  # rows chained in one transaction
FEEDS_APART = 0.1  # Seconds: read all at once, they would want a connection each.
SWEEP_EVERY = 30  # rounds of chores
LATE_EVERY = 60  # rounds of chores: then rows that were committed very late are sealed, too


class SignHead(Protocol):
    """Signs the audit chain's head, or finds the one signed since an instant."""

    async def __call__(
        self, tx: AsyncConnection, *, since: datetime, now: datetime
    ) -> str | None: ...


class Places:
    """Tasks under way: at most `total`, and at most `each` of one lane.

    A lane is whose system they ask; None has no bound of its own.
    """

    def __init__(self, *, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lanes: dict[str, str | None] = {}

    @property
    def free(self) -> int:
        return self._total - len(self._tasks)

    def __contains__(self, key: object) -> bool:
        return key in self._tasks

    @property
    def full(self) -> list[str]:
        """Lanes without a place."""
        used = Counter(lane for lane in self._lanes.values() if lane is not None)
        return sorted(lane for lane, count in used.items() if count >= self._each)

    def take(
        self, key: str, lane: str | None, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> bool:
        """Begin a task; False when there is no place for it, or it is under way already."""
        if self.free < 1 or key in self._tasks or lane in self.full:
            return False
        task = asyncio.create_task(work())
        self._tasks[key], self._lanes[key] = task, lane
        task.add_done_callback(lambda done: self._leave(key, done))
        return True

    def _leave(self, key: str, done: asyncio.Task[None]) -> None:
        del self._tasks[key], self._lanes[key]
        if not done.cancelled() and (error := done.exception()):  # Its lease ends by itself.
            log.error("work broke off", key=key, exc_info=error)

    async def wait(self, *, seconds: float | None = None, every: bool = False) -> None:
        """Wait until a task, or every one, has ended; no longer than `seconds`."""
        if self._tasks:
            when = asyncio.ALL_COMPLETED if every else asyncio.FIRST_COMPLETED
            await asyncio.wait(self._tasks.values(), timeout=seconds, return_when=when)

    async def break_off(self) -> list[str]:
        """Cancel what is under way; the keys of what was."""
        left = dict(self._tasks)
        for task in left.values():
            task.cancel()
        await asyncio.gather(*left.values(), return_exceptions=True)
        return sorted(left)


class Worker:
    """Runs redemptions that are due, queued jobs and the periodic work.

    Args:
        partners: Merchant id to adapter; hosted merchants included.
        vault: Seals the signing keys; without it nobody rotates them.
        sign_head: Signs the audit chain's head for an instant: see `Runtime.sign_head`.
    """

    def __init__(
        self,
        database: Database,
        partners: Mapping[str, Partner],
        clock: Clock,
        settings: Settings,
        redemptions: Redemptions,
        *,
        vault: Vault | None = None,
        sign_head: SignHead | None = None,
        webhooks: Webhooks | None = None,
    ) -> None:
        self.webhooks = webhooks
        self.database = database
        self.partners = partners
        self.clock = clock
        self.settings = settings
        self.redemptions = redemptions
        self.vault = vault
        bounds = {
            "total": settings.worker_concurrency,
            "each": settings.worker_partner_concurrency,
        }
        self._driving, self._working = Places(**bounds), Places(**bounds)
        self._leased: dict[str, datetime] = {}  # Jobs under way.
        self._rounds = 0  # of chores
        self._outage = Outage()
        self.sign_head = sign_head
        self._jobs: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "settlement_notice": self._settlement_notice,
            "cancel_late": redemptions.aftermath.cancel_late,
            "let_go": redemptions.aftermath.let_go,
            "compensate": self._compensate,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then finish what is under way, or hand it back.

        Nothing new is begun after `stop`. What takes longer than the grace is broken off and its
        leases are given up, so that another worker goes on at once.
        """
        readers = [
            asyncio.create_task(self._read_feeds(stop)),
            asyncio.create_task(self._watch_books(stop)),
        ]
        sending = [self.webhooks.run(stop)] if self.webhooks is not None else []
        loops = [
            *(asyncio.create_task(each) for each in sending),
            asyncio.create_task(self._repeat(stop, self._begin_redemptions, self._driving)),
            asyncio.create_task(self._repeat(stop, self._begin_jobs, self._working)),
            asyncio.create_task(self._repeat(stop, self._apply_events)),
            asyncio.create_task(self._repeat(stop, self._chores, pause=CHORES_EVERY_SECONDS)),
        ]
        try:
            await stop.wait()
        finally:
            for task in readers:
                task.cancel()
            await self._end([*readers, *loops])

    async def _end(self, loops: list[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.shutdown_grace_seconds
        await asyncio.wait(loops, timeout=until - loop.time())
        for places in (self._driving, self._working):
            await places.wait(seconds=max(until - loop.time(), 0), every=True)
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        redemptions = await self._driving.break_off()
        jobs = await self._working.break_off()
        try:
            await self.redemptions.hand_back(redemptions)
            for job_id in jobs:
                await self._return_job(job_id)
        except SQLAlchemyError:  # Leases end by themselves, too.
            log.exception("nothing handed back")
        log.info("worker ended", redemptions_back=len(redemptions), jobs_back=len(jobs))

    async def _repeat(
        self,
        stop: asyncio.Event,
        act: Callable[[], Awaitable[int]],
        places: Places | None = None,
        *,
        pause: float | None = None,
    ) -> None:
        """Act again and again; after a turn that did nothing, pause."""
        while not stop.is_set():
            work.beat()
            try:
                done = await act()
            except Exception as error:
                done = 0
                if self._outage.failed("worker round failed", error):
                    await _pause(stop, PAUSE_SECONDS)
                    continue
            else:
                self._outage.succeeded()
            if pause is not None:
                await _pause(stop, pause)
            elif places is not None and not places.free:
                await places.wait(seconds=self.settings.worker_poll_seconds)
            elif not done:
                await _pause(stop, self.settings.worker_poll_seconds * _jitter())

    async def turn(self) -> int:
        """One round of everything, to its end; returns how much was done."""
        done = await self._begin_redemptions() + await self._begin_jobs()
        await self._driving.wait(every=True)
        await self._working.wait(every=True)
        return done + await self._apply_events() + await self._chores()

    # -- redemptions --------------------------------------------------------------------------

    async def _begin_redemptions(self) -> int:
        places = self._driving
        if not places.free:
            return 0
        async with self.database.reading() as tx:
            await self.clock.refresh(tx)
        due = await self.redemptions.lease(limit=places.free, full=places.full)
        back: list[str] = []
        for redemption_id, merchant in due:
            if redemption_id in places:  # Still under way: its lease has been made longer.
                continue
            if not places.take(redemption_id, merchant, _of(self.redemptions.drive, redemption_id)):
                back.append(redemption_id)
        await self.redemptions.hand_back(back)
        return len(due) - len(back)

    async def _apply_events(self) -> int:
        return await self.redemptions.inbox.apply_stored(limit=50)

    # -- jobs ---------------------------------------------------------------------------------

    async def _begin_jobs(self) -> int:
        places = self._working
        if not places.free:
            return 0
        async with self.database.transaction() as tx:
            rows = await jobs.lease_jobs(
                tx,
                system_now=system_now(),
                lease_seconds=self.settings.lease_seconds,
                limit=places.free,
                full=places.full,
            )
        begun = 0
        for row in rows:
            self._leased[row.job_id] = row.lease
            if row.job_id in places:  # Still under way: its lease has been made longer.
                continue
            if places.take(row.job_id, row.lane, _of(self._run_job, row)):
                begun += 1
            else:
                await self._return_job(row.job_id)
        return begun

    async def _return_job(self, job_id: str) -> None:
        lease = self._leased.pop(job_id, None)
        if lease is not None:
            async with self.database.transaction() as tx:
                await jobs.return_job(tx, job_id, lease=lease)

    async def _run_job(self, row: Any) -> None:
        failpoint.reached(self.settings, "job", "before_call")
        try:
            with work.job(row.name):
                await self._jobs[row.name](row.payload)
            failpoint.reached(self.settings, "job", "after_call")
        except Exception as error:
            await self._try_again(row, error)
        else:
            async with self.database.transaction() as tx:
                if not await jobs.finish_job(tx, row.job_id, lease=self._leased[row.job_id]):
                    log.warning("lease lost", job=row.job_id, name=row.name)
            failpoint.reached(self.settings, "job", "stored")
        del self._leased[row.job_id]  # Kept when it is broken off: for `_return_job`.

    async def _try_again(self, row: Any, error: Exception) -> None:
        """Back off; what fails by itself is given up in the end, what nobody answers never is."""
        tries, silent = row.attempts + 1, isinstance(error, NoAnswer)
        if not silent:
            log.exception("job failed", job=row.job_id, name=row.name, exc_info=error)
        elif tries >= MAX_ATTEMPTS:
            log.error("job waits for an answer", job=row.job_id, name=row.name, tries=tries)
        wait = back_off(tries, key=row.job_id, most=LONGEST_WAIT)
        if isinstance(error, NoAnswer):
            wait = max(wait, min(error.retry_after, LONGEST_WAIT))
        gone = tries >= MAX_ATTEMPTS and not silent
        due_at = None if gone else system_now() + wait
        told = telemetry.hide(repr(error))  # People read it, and backups keep it.
        async with self.database.transaction() as tx:
            lease = self._leased[row.job_id]
            await jobs.retry_job(tx, row.job_id, lease=lease, due_at=due_at, error=told)

    async def _settlement_notice(self, payload: dict[str, Any]) -> None:
        """Tell one merchant one leg, through its own API."""
        leg_id, merchant = payload["leg_id"], payload["merchant"]
        async with self.database.reading() as tx:
            notice = await settlement.notice(tx, leg_id)
        notice = replace(notice, audit_head=await self._head_since(notice))
        partner = self.partners[merchant]
        receipt = await partner.settlement_notice(notice, op_key=f"{leg_id}:{merchant}")
        async with self.database.transaction() as tx:
            await settlement.record_notice(
                tx, leg_id=leg_id, merchant=merchant, receipt=receipt, at=self.clock.now()
            )

    async def _head_since(self, notice: SettlementNotice) -> str | None:
        """The first head after a settlement's approval: every attempt says the same."""
        if self.sign_head is None:
            return None
        now = self.clock.now()
        async with self.database.reading() as tx:
            since = (await settlement.settlement(tx, notice.settlement_id)).approved_at or now
            known = await audit.head_since(tx, since)
        if known is not None:
            return known
        async with self.database.transaction() as tx:
            while await audit.seal(tx, limit=SEAL_BATCH) == SEAL_BATCH:
                pass
            return await self.sign_head(tx, since=since, now=now)

    async def _compensate(self, payload: dict[str, Any]) -> None:
        if not await self.redemptions.aftermath.compensate_again(payload):
            raise NoAnswer(reason="the slice is still empty")

    # -- what time itself makes due -----------------------------------------------------------

    async def _chores(self) -> int:
        """Cuts, expiry, maturity, a new year, keys; and the seal."""
        async with self.database.reading() as tx:
            await self.clock.refresh(tx)
        now = self.clock.now()
        async with self.database.transaction() as tx:
            await settlement.close_due_window(tx, now=now)
        async with self.database.transaction() as tx:
            await compliance.turn_year(tx, now=now)
            await points.mature(tx, now=now, limit=500)
            await points.expire(tx, now=now, limit=500)
        if self._rounds % SWEEP_EVERY == 0:  # What has expired is taken from nobody anyway.
            async with self.database.transaction() as tx:
                await oauth.sweep(tx, now=system_now())
        await self._rotate_keys()
        await self._publish_closed(now)
        await self._seal(now)
        return 0

    async def _seal(self, now: datetime) -> None:
        """Chain what was committed, and sign the head once a business day."""
        sealed = SEAL_BATCH
        margin = audit.USUAL if self._rounds % LATE_EVERY else audit.LATEST
        self._rounds += 1
        while sealed == SEAL_BATCH:
            async with self.database.transaction() as tx:
                sealed = await audit.seal(tx, limit=SEAL_BATCH, margin=margin)
        if self.sign_head:
            async with self.database.transaction() as tx:
                await self.sign_head(tx, since=audit.head_due(now), now=now)

    async def _rotate_keys(self) -> None:
        if self.vault is None:
            return
        async with self.database.transaction() as tx:
            if await oauth.rotate_due(tx, self.vault, settings=self.settings, now=system_now()):
                log.info("signing keys rotated")

    async def _publish_closed(self, now: datetime) -> None:
        """Net and publish what is closed, apart from the cut, so that the cut is short."""
        async with self.database.reading() as tx:
            windows = await settlement.windows(tx)
        for window in windows:
            if window.state is WindowState.CLOSED:
                async with self.database.transaction() as tx:
                    await settlement.net_window(tx, window_id=window.id, now=now)
                    await settlement.publish_window(tx, window_id=window.id, now=now)

    async def _watch_books(self, stop: asyncio.Event) -> None:
        """Look now and then whether the invariants are due, and nobody else checks them."""
        await _pause(stop, watch.FIRST_AFTER_SECONDS * _jitter())
        while not stop.is_set():
            try:
                await watch.look(self.database, self.clock)
            except Exception as error:
                self._outage.failed("invariants not checked", error)
            await _pause(stop, watch.LOOK_EVERY_SECONDS * _jitter())

    async def _read_feeds(self, stop: asyncio.Event) -> None:
        """Follow every partner's offers; one that does not answer holds up no other."""
        while not stop.is_set():
            each = enumerate(self.partners)
            read = await asyncio.gather(
                *(
                    self._read_feed(merchant, after=number * FEEDS_APART)
                    for number, merchant in each
                )
            )
            await _pause(stop, self.settings.feed_poll_seconds if all(read) else PAUSE_SECONDS)

    async def _read_feed(self, merchant: str, *, after: float) -> bool:
        """Read one partner's offers; False if there was no database to keep them."""
        await asyncio.sleep(after)
        partner = self.partners[merchant]
        try:
            read = await catalog.pull_feed(self.database, partner, now=self.clock.now())
        except NoAnswer as error:
            log.warning("feed not read", merchant=merchant, code=error.code)
        except Exception as error:
            return not self._outage.failed("feed failed", error, merchant=merchant)
        else:
            log.info("feed read", merchant=merchant, pages=len(read))
        return True


def _of(
    act: Callable[[Any], Coroutine[Any, Any, None]], what: Any
) -> Callable[[], Coroutine[Any, Any, None]]:
    return lambda: act(what)


def _jitter() -> float:
    """A quarter more or less."""
    return 0.75 + random.random() / 2  # noqa: S311 - no secret


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, or less when stopped."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
