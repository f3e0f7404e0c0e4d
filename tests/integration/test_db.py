"""Transactions, idempotency keys, jobs and the clock, on both databases."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from gateway import db, jobs
from gateway.db import Database

NOW = datetime(2026, 11, 20, 2, tzinfo=UTC)


async def test_a_key_names_one_object_and_one_input(database: Database) -> None:
    ask = {"scope": "mbr_1:donatePoints", "key": "k1", "now": NOW}
    async with database.transaction() as tx:
        assert await db.claim_key(tx, input={"points": 1}, **ask) is None
        with pytest.raises(db.IdempotencyInFlight):
            await db.claim_key(tx, input={"points": 1}, **ask)
        await db.settle_key(tx, scope=ask["scope"], key="k1", object_id="don_1")

    async with database.transaction() as tx:
        assert await db.claim_key(tx, input={"points": 1}, **ask) == db.Replay("don_1")
        with pytest.raises(db.IdempotencyConflict):
            await db.claim_key(tx, input={"points": 2}, **ask)


async def test_a_rolled_back_transaction_leaves_no_key(database: Database) -> None:
    ask = {"scope": "s", "key": "k", "input": {}, "now": NOW}
    with pytest.raises(RuntimeError):
        async with database.transaction() as tx:
            await db.claim_key(tx, **ask)
            raise RuntimeError
    async with database.transaction() as tx:
        assert await db.claim_key(tx, **ask) is None


async def test_a_job_is_queued_once_and_leased_once(database: Database) -> None:
    async with database.transaction() as tx:
        for _ in range(2):
            await jobs.enqueue(tx, name="notice", key="leg_1", payload={"leg": "leg_1"}, due_at=NOW)
    async with database.transaction() as tx:
        lease = {"system_now": NOW, "lease_seconds": 60, "limit": 10}
        assert len(await jobs.lease_jobs(tx, **lease)) == 1
        assert await jobs.lease_jobs(tx, **lease) == []
        later = lease | {"system_now": NOW + timedelta(seconds=61)}
        (job,) = await jobs.lease_jobs(tx, **later)
        assert job.payload == {"leg": "leg_1"}
        assert await jobs.finish_job(tx, job.job_id, lease=job.lease)
        assert await jobs.lease_jobs(tx, **later) == []


async def test_the_clock_is_shared_through_the_database(database: Database) -> None:
    mine, theirs = db.Clock(), db.Clock()
    async with database.transaction() as tx:
        await mine.set(tx, NOW)
    async with database.reading() as tx:
        await theirs.refresh(tx)
    assert abs(mine.now() - theirs.now()) < timedelta(seconds=1)
    assert NOW <= mine.now() < NOW + timedelta(minutes=1)


async def test_a_clock_that_was_read_before_it_was_set_is_not_set_back(
    database: Database,
) -> None:
    clock, read, late = db.Clock(), asyncio.Event(), asyncio.Event()

    class Slow:
        """A transaction whose answer is long under way."""

        async def scalar(self, query: Any) -> Any:
            async with database.reading() as tx:
                found = await tx.scalar(query)
            read.set()
            await late.wait()
            return found

    for then in (NOW, NOW + timedelta(days=3), NOW + timedelta(days=1)):
        read.clear()
        late.clear()
        refreshing = asyncio.create_task(clock.refresh(cast("Any", Slow())))
        await read.wait()
        async with database.transaction() as tx:
            await clock.set(tx, then)
            async with database.reading() as other:  # It is not committed: this reads the old one.
                await clock.refresh(other)
            assert then <= clock.now() < then + timedelta(minutes=1)
        async with database.reading() as tx:
            await clock.refresh(tx)
        late.set()
        await refreshing
        assert then <= clock.now() < then + timedelta(minutes=1)
