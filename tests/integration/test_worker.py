"""The worker: leases, bounds per partner, back-off, and how it ends."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from gateway import jobs
from gateway.db import system_now
from gateway.errors import NoAnswer, PartnerUnavailable
from gateway.ports import Claim, Fact, Reservation
from gateway.redemption import queue
from gateway.redemption.hosted import Partners
from gateway.redemption.model import Redemption, State, Step
from gateway.redemption.service import Redemptions
from gateway.settings import Settings
from gateway.worker import MAX_ATTEMPTS, Places, Worker
from tests.integration.conftest import Coalition
from tests.support.scripted import ScriptedPartner

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))
OWN = ("mbr_demo_18", "CA-01", ("P-CA", None))
SOON = 0.02


class Doors(ScriptedPartner):
    """A scripted partner whose answers wait behind a door, by verb; it counts who waits."""

    doors: dict[str, asyncio.Event]

    @classmethod
    def around(cls, partner: ScriptedPartner, *verbs: str) -> "Doors":
        made = cls(partner.code, partner.prices, partner.now)
        made.__dict__ |= partner.__dict__
        made.doors = {verb: asyncio.Event() for verb in verbs}
        made.waiting = made.most = 0
        made.arrived = asyncio.Event()
        return made

    async def _pass(self, verb: str) -> None:
        if verb in self.doors:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            self.arrived.set()
            try:
                await self.doors[verb].wait()
            finally:
                self.waiting -= 1

    async def status(self, op_key: str) -> Fact:
        await self._pass("status")
        return await super().status(op_key)

    async def fence(self, op_key: str) -> Fact:
        await self._pass("fence")
        return await super().fence(op_key)

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Any
    ) -> Reservation:
        made: list[Claim] = list(claims)
        return await super().hold(quote_id, op_key=op_key, ttl_seconds=ttl_seconds, claims=made)


class Crew:
    """Workers over one coalition, each with redemptions of its own, as processes have."""

    def __init__(self, coalition: Coalition) -> None:
        self.coalition = coalition
        self.settings = replace(
            Settings(),
            worker_poll_seconds=SOON,
            feed_poll_seconds=3600.0,
            shutdown_grace_seconds=5.0,
            worker_partner_concurrency=3,
        )

    def worker(self, **settings: Any) -> Worker:
        chosen = replace(self.settings, **settings)
        here = self.coalition
        partners = Partners(here.partners, here.database, here.clock)
        redemptions = Redemptions(here.database, partners, here.clock, chosen, b"secret")
        return Worker(here.database, {}, here.clock, chosen, redemptions)

    async def lost(self, merchant: str, *order: Any) -> Redemption:
        """A redemption whose confirm was lost before it had an effect."""
        held = await self.coalition.held(*order)
        self.coalition.partners[merchant].script["confirm"] = ["lost_before"]
        return await self.coalition.confirm(held)

    def doors(self, merchant: str, *verbs: str) -> Doors:
        made = Doors.around(self.coalition.partners[merchant], *verbs)
        self.coalition.partners[merchant] = made
        return made


@pytest.fixture
async def crew(coalition: Coalition) -> AsyncIterator[Crew]:
    yield Crew(coalition)


async def reaches(coalition: Coalition, redemption: Redemption, state: State) -> None:
    async with asyncio.timeout(120):
        while (await coalition.get(redemption)).state is not state:
            await asyncio.sleep(SOON)


async def enqueued(coalition: Coalition, name: str, key: str, payload: Mapping[str, object]):
    async with coalition.database.transaction() as tx:
        await jobs.enqueue(tx, name=name, key=key, payload=payload)


async def due(coalition: Coalition, *, later: timedelta = timedelta(0)) -> list[str]:
    """States of the jobs that are not done and would be due then."""
    j = jobs.jobs.c
    async with coalition.database.reading() as tx:
        found = sa.select(j.state).where(j.state != "DONE", j.due_at <= system_now() + later)
        return list(await tx.scalars(found))


# -- leases ---------------------------------------------------------------------------------------


async def test_two_workers_never_lease_the_same(crew: Crew, coalition: Coalition) -> None:
    for order in (TICKET, OWN, TICKET):
        await crew.lost("M05" if order is TICKET else "M02", *order)
    coalition.clock.forward(seconds=3)
    one, two = crew.worker(), crew.worker()
    first, second = await asyncio.gather(
        one.redemptions.lease(limit=2), two.redemptions.lease(limit=2)
    )
    both = [redemption_id for redemption_id, _ in first + second]
    assert len(both) == len(set(both)) == 3
    await one.redemptions.hand_back([redemption_id for redemption_id, _ in first])
    again = await two.redemptions.lease(limit=9)
    assert sorted(again) == sorted(first)


async def test_a_lease_waits_for_no_other_that_is_not_committed(
    crew: Crew, coalition: Coalition
) -> None:
    """SKIP LOCKED: the second has other rows at once, while the first may still change its mind."""
    if coalition.database.file:
        pytest.skip("SQLite has one writer: no second lease waits for the first")
    for order in (TICKET, OWN, TICKET):
        await crew.lost("M05" if order is TICKET else "M02", *order)
    for key in "abc":
        await enqueued(coalition, "notice", key, {})
    coalition.clock.forward(seconds=3)
    at = system_now()

    async def leases(tx: Any, limit: int) -> tuple[set[str], set[str]]:
        until = at + timedelta(seconds=60)
        given = {"now": coalition.clock.now(), "system_now": at, "until": until, "limit": limit}
        due = await queue.lease_due(tx, **given)
        rows = await jobs.lease_jobs(tx, system_now=at, lease_seconds=60, limit=limit)
        return {redemption_id for redemption_id, _ in due}, {row.job_id for row in rows}

    async with coalition.database.transaction() as first:
        taken = await leases(first, 2)
        async with coalition.database.transaction() as second:
            await second.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
            left = await leases(second, 9)
        assert [len(each) for each in taken + left] == [2, 2, 1, 1]
        assert not taken[0] & left[0]
        assert not taken[1] & left[1]


async def test_a_stale_holder_changes_nothing_that_another_has_done(
    crew: Crew, coalition: Coalition
) -> None:
    lost = await crew.lost("M05", *TICKET)
    doors = crew.doors("M05", "status")
    coalition.clock.forward(seconds=3)
    slow, quick = crew.worker(lease_seconds=0), crew.worker()
    turn = asyncio.create_task(slow.turn())
    await doors.arrived.wait()
    door = doors.doors.pop("status")  # The next one finds it open.
    await quick.turn()
    assert (await coalition.get(lost)).state is State.COMMITTED
    body = {"id": "e", "kind": "booking.fulfilled", "op_key": lost.op_key(Step.CONFIRM)}
    await coalition.redemptions.inbox.receive("M05", "e", body | {"version": 5})
    door.set()
    await turn
    assert (await coalition.get(lost)).state is State.FULFILLED
    assert [verb for verb, _ in doors.effects] == ["hold", "confirm"]


async def test_a_stale_holders_finish_of_a_job_is_harmless(coalition: Coalition) -> None:
    await enqueued(coalition, "notice", "n", {})
    now = system_now()

    async def lease(at: timedelta) -> Any:
        async with coalition.database.transaction() as tx:
            given = {"system_now": now + at, "lease_seconds": 60, "limit": 5}
            (row,) = await jobs.lease_jobs(tx, **given)
            return row

    stale, fresh = await lease(timedelta(seconds=1)), await lease(timedelta(seconds=62))
    async with coalition.database.transaction() as tx:
        assert not await jobs.finish_job(tx, stale.job_id, lease=stale.lease)
        gone = {"lease": stale.lease, "due_at": None, "error": "late"}
        assert not await jobs.retry_job(tx, stale.job_id, **gone)
        assert not await jobs.return_job(tx, stale.job_id, lease=stale.lease)
    assert await due(coalition) == ["DUE"]
    async with coalition.database.transaction() as tx:
        assert await jobs.finish_job(tx, fresh.job_id, lease=fresh.lease)
        assert not await jobs.finish_job(tx, fresh.job_id, lease=fresh.lease)
    assert await due(coalition) == []


# -- bounds ---------------------------------------------------------------------------------------


async def test_a_slow_partner_holds_up_no_other(crew: Crew, coalition: Coalition) -> None:
    slow = [await crew.lost("M05", "mbr_demo_01", "XH-03", ("P-LL", None)) for _ in range(5)]
    quick = await crew.lost("M02", *OWN)
    doors = crew.doors("M05", "status")
    coalition.clock.forward(seconds=3)
    stop = asyncio.Event()
    running = asyncio.create_task(crew.worker().run(stop))
    await reaches(coalition, quick, State.COMMITTED)
    assert (doors.waiting, doors.most) == (3, 3)  # worker_partner_concurrency
    doors.doors["status"].set()
    for each in slow:
        await reaches(coalition, each, State.COMMITTED)
    stop.set()
    await running


async def test_places_are_bounded_in_all_and_by_lane() -> None:
    places, door = Places(total=3, each=2), asyncio.Event()

    async def work() -> None:
        await door.wait()

    asked = [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")]
    assert [places.take(key, lane, work) for key, lane in asked] == [True, True, False, True, False]
    assert (places.free, places.full) == (0, ["a"])
    assert not places.take("a1", None, work)
    door.set()
    await places.wait(every=True)
    assert (places.free, places.full) == (3, [])
    assert all(places.take(f"n{number}", None, work) for number in range(3))
    await places.wait(every=True)


# -- back-off -------------------------------------------------------------------------------------


async def test_what_nobody_answers_is_tried_for_ever(crew: Crew, coalition: Coalition) -> None:
    worker = crew.worker()

    async def silent(payload: Mapping[str, Any]) -> None:
        raise PartnerUnavailable(merchant="M05", retry_after_seconds=1800)

    worker._jobs["silent"] = silent
    await enqueued(coalition, "silent", "s", {})
    for _ in range(MAX_ATTEMPTS + 2):
        await worker.turn()
        assert await due(coalition, later=timedelta(seconds=1700)) == []  # As it asked.
        assert await due(coalition, later=timedelta(hours=2)) == ["DUE"]
        await due_now(coalition)


async def test_what_fails_by_itself_is_given_up(crew: Crew, coalition: Coalition) -> None:
    worker = crew.worker()

    async def broken(payload: Mapping[str, Any]) -> None:
        raise ZeroDivisionError

    worker._jobs["broken"] = broken
    await enqueued(coalition, "broken", "b", {})
    for _ in range(MAX_ATTEMPTS + 2):
        await worker.turn()
        await due_now(coalition)
    assert await due(coalition) == ["DEAD"]


async def due_now(coalition: Coalition) -> None:
    async with coalition.database.transaction() as tx:
        await tx.execute(jobs.jobs.update().values(due_at=system_now() - timedelta(seconds=1)))


async def test_a_throttling_partner_is_left_alone_as_long_as_it_asks(
    crew: Crew, coalition: Coalition
) -> None:
    lost = await crew.lost("M05", *TICKET)
    coalition.partners["M05"].script["status"] = ["throttled"]
    asked = coalition.clock.now() + timedelta(seconds=3)
    await coalition.work(seconds=3)
    waits = (await coalition.get(lost)).due_at
    assert waits == asked + timedelta(seconds=90)


# -- the end --------------------------------------------------------------------------------------


async def test_what_is_under_way_is_finished_at_the_end(crew: Crew, coalition: Coalition) -> None:
    lost = await crew.lost("M05", *TICKET)
    doors = crew.doors("M05", "status")
    coalition.clock.forward(seconds=3)
    stop = asyncio.Event()
    running = asyncio.create_task(crew.worker().run(stop))
    await doors.arrived.wait()
    stop.set()
    await asyncio.sleep(SOON)
    assert not running.done()
    doors.doors["status"].set()
    await running
    assert (await coalition.get(lost)).state is State.COMMITTED


async def test_what_takes_too_long_is_handed_to_another_at_once(
    crew: Crew, coalition: Coalition
) -> None:
    lost = await crew.lost("M05", *TICKET)
    doors = crew.doors("M05", "status")
    worker, job = crew.worker(shutdown_grace_seconds=0.05), asyncio.Event()

    async def endless(payload: Mapping[str, Any]) -> None:
        job.set()
        await asyncio.Event().wait()

    worker._jobs["endless"] = endless
    await enqueued(coalition, "endless", "e", {})
    coalition.clock.forward(seconds=3)
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    await doors.arrived.wait()
    await job.wait()
    stop.set()
    await running
    doors.doors["status"].set()
    other = crew.worker()
    assert await other.redemptions.lease(limit=5) == [(lost.id, "M05")]
    async with coalition.database.transaction() as tx:
        (row,) = await jobs.lease_jobs(tx, system_now=system_now(), lease_seconds=60, limit=5)
    assert (row.name, row.attempts) == ("endless", 0)  # It was not tried.
    await other.redemptions.drive(lost.id)
    assert (await coalition.get(lost)).state is State.COMMITTED


async def test_a_request_that_is_broken_off_leaves_its_redemption_to_the_workers(
    crew: Crew, coalition: Coalition
) -> None:
    held = await coalition.held(*TICKET)
    gateway = crew.worker().redemptions
    partner = coalition.partners["M05"]
    arrived, never = asyncio.Event(), asyncio.Event()
    confirm = partner.confirm

    async def hanging(*given: Any, **named: Any) -> Fact:
        await confirm(*given, **named)
        arrived.set()
        await never.wait()
        raise NoAnswer

    partner.confirm = hanging
    asked = {"member_id": "mbr_demo_01", "redemption_id": held.id, "key": "c"}
    request = asyncio.create_task(gateway.confirm(**asked))
    await arrived.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    other = crew.worker()
    assert await other.redemptions.lease(limit=5) == []  # It is leased for a minute.
    await gateway.abandon()
    partner.confirm = confirm
    await other.turn()
    done = await coalition.get(held)
    assert (done.state, done.doubt_since) == (State.COMMITTED, None)


async def test_an_answer_that_cannot_be_stored_leaves_the_lease_to_end_by_itself(
    crew: Crew, coalition: Coalition
) -> None:
    """Whoever leases it then keeps it: the process that failed hands nothing back at its end."""
    held = await coalition.held(*TICKET)
    gateway = crew.worker().redemptions

    async def full(*_: Any) -> None:
        raise OperationalError("INSERT", {}, Exception("disk full"))

    gateway.saga.close = full
    with pytest.raises(OperationalError):
        await gateway.confirm(member_id="mbr_demo_01", redemption_id=held.id, key="c")
    assert gateway.saga.under_way == set()
    await gateway.abandon()
    assert await crew.worker().redemptions.lease(limit=5) == []  # For a minute yet.


# -- figures --------------------------------------------------------------------------------------


async def test_the_age_of_doubt_is_told_by_partner(crew: Crew, coalition: Coalition) -> None:
    await crew.lost("M05", *TICKET)
    coalition.clock.forward(seconds=40)
    await crew.lost("M05", *TICKET)
    await crew.lost("M02", *OWN)
    coalition.clock.forward(seconds=5)
    async with coalition.database.reading() as tx:
        ages = await queue.doubt_ages(tx, now=coalition.clock.now())
    assert {merchant: (each.count, each.oldest.seconds) for merchant, each in ages.items()} == {
        "M02": (1, 5),
        "M05": (2, 45),
    }
    assert ages["M05"].p99.seconds == 45
