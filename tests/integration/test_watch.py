"""The invariants in production: who checks them, when, and what is told."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from gateway import invariants
from gateway.db import system_now
from gateway.operations import figures, watch
from gateway.operations.backup import newest_record
from gateway.telemetry import metrics
from gateway.worker import Worker
from tests.integration.conftest import Coalition

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))
STANDING = {"L1", "L3", "R8", "W1"}


async def changed(coalition: Coalition, statement: str, **values: Any) -> None:
    async with coalition.database.transaction() as tx:
        await tx.execute(sa.text(statement), values)


async def looked(coalition: Coalition, **by: float) -> watch.Found | None:
    coalition.clock.forward(**by)
    return await watch.look(coalition.database, coalition.clock)


async def told(coalition: Coalition) -> set[str]:
    """The invariants whose gauge is 1, as whoever scrapes sees it."""
    async with coalition.database.reading() as tx:
        await figures.read(tx, now=coalition.clock.now(), at=system_now())
    (family,) = metrics.INVARIANTS_BROKEN.collect()
    return {each.labels["id"] for each in family.samples if each.value}


async def test_a_broken_book_is_told_within_the_hour_until_it_is_mended(
    coalition: Coalition,
) -> None:
    await coalition.redeemed(*TICKET)
    first = await looked(coalition)
    assert first
    assert first.known >= STANDING
    assert await told(coalition) == set()
    lot = "UPDATE points_lots SET remaining = remaining + :by WHERE member_id = 'mbr_demo_01'"
    await changed(coalition, lot, by=1)
    assert await looked(coalition, minutes=59) is None
    assert await told(coalition) == set()
    with capture_logs() as lines:
        assert await looked(coalition, minutes=1)
    assert "L3" in await told(coalition)
    errors = [each for each in lines if each["log_level"] == "error"]
    assert "L3" in {each["invariant"] for each in errors if each["event"] == "invariant broken"}
    assert all("gateway doctor" in each["next"] and "mbr_" not in str(each) for each in errors)
    await changed(coalition, lot, by=-1)
    assert await looked(coalition, hours=1)
    assert await told(coalition) == set()
    assert metrics.INVARIANTS_AGE._value.get() == 0
    await looked(coalition, minutes=10)
    await told(coalition)
    assert metrics.INVARIANTS_AGE._value.get() == 600


async def test_of_many_workers_one_checks(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def check(_database: Any, before: watch.Found, **_: Any) -> watch.Found:
        nonlocal asked
        asked += 1
        return before

    monkeypatch.setattr(watch, "check", check)
    for hour in (1, 2):
        coalition.clock.forward(hours=1)
        await asyncio.gather(*(looked(coalition) for _ in range(5)))
        assert asked == hour
    coalition.clock.forward(hours=-10)  # The sandbox may set its clock back.
    await looked(coalition)
    assert asked == 3


async def test_where_all_take_long_the_cheap_ones_stay_hourly(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "QUICK", timedelta(seconds=-1))
    everything = set(invariants_of(await looked(coalition)))
    assert everything > STANDING
    asked = []
    rooms = invariants.rooms

    def counted(*, standing: bool) -> Any:
        asked.append(standing)
        return rooms(standing=standing)

    monkeypatch.setattr(invariants, "rooms", counted)
    for _ in range(24):
        found = await looked(coalition, hours=1)
        assert set(invariants_of(found)) == everything  # What is known of the others stays.
    assert asked == [True] * 23 + [False]
    async with coalition.database.reading() as tx:
        found_now = [each for room in rooms(standing=True).values()
                     for each in await room(tx, coalition.clock.now())]  # fmt: skip
    assert {each.id for each in found_now} == STANDING


def invariants_of(found: watch.Found | None) -> frozenset[str]:
    assert found
    return found.known


async def test_the_checks_see_one_state_while_others_write(coalition: Coalition) -> None:
    held = sa.text("SELECT sum(balance) FROM ledger_balances")
    async with coalition.database.reading(one_state=True) as tx:
        before = await tx.scalar(held)
        await changed(coalition, "UPDATE ledger_balances SET balance = balance + 1")
        assert await tx.scalar(held) == before
    async with coalition.database.reading() as tx:
        assert await tx.scalar(held) > before
    await changed(coalition, "UPDATE ledger_balances SET balance = balance - 1")


async def test_a_worker_looks_by_itself(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FIRST_AFTER_SECONDS", 0.02)
    monkeypatch.setattr(watch, "LOOK_EVERY_SECONDS", 0.02)
    asked = asyncio.Event()
    tries = 0

    async def look(*_: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ZeroDivisionError
        asked.set()

    monkeypatch.setattr(watch, "look", look)
    worker: Worker = coalition.worker()
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    async with asyncio.timeout(60):
        await asked.wait()
    stop.set()
    await running


async def test_doubt_for_more_than_a_day_that_waits_for_nobody_breaks_r8(
    coalition: Coalition,
) -> None:
    held = await coalition.held(*TICKET)
    coalition.partners["M05"].script["confirm"] = ["lost_before"]
    await coalition.confirm(held)
    coalition.clock.forward(hours=24)
    assert "R8" not in {each.id for each in await coalition.broken()}
    coalition.clock.forward(minutes=11)
    (r8,) = [each for each in await coalition.broken() if each.id == "R8"]
    assert r8.detail == held.id
    await looked(coalition)
    assert await told(coalition) == {"R8"}
    await coalition.work()  # A worker that was away gives it to a person.
    assert await coalition.broken() == []
    await looked(coalition, hours=1)
    assert await told(coalition) == set()


async def test_a_check_is_no_record_of_the_books(coalition: Coalition) -> None:
    """Whoever restores a backup asks how old its newest record is; a check says nothing of it."""
    await coalition.redeemed(*TICKET)
    async with coalition.database.reading() as tx:
        newest = await newest_record(tx)
    assert newest
    assert await looked(coalition, hours=3)
    async with coalition.database.reading() as tx:
        assert await newest_record(tx) == newest
