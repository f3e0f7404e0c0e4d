"""Batches on real databases: order, rows touched again, what is expected, savepoints."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from gateway import db
from gateway.batch import Ask, Raced
from gateway.db import Database
from gateway.jobs import jobs
from gateway.ledger.store import balances

NOW = datetime(2026, 11, 20, 1, 2, 3, 456_789, tzinfo=UTC)
INSERT = sa.insert(jobs)
BUMP = (
    sa.update(jobs)
    .where(jobs.c.job_id == sa.bindparam("job"), jobs.c.attempts < sa.bindparam("most"))
    .values(attempts=jobs.c.attempts + 1)
)
FIND = sa.select(jobs).where(jobs.c.job_id == sa.bindparam("job"))


def job(name: str, **more: object) -> dict[str, object]:
    row = {"job_id": name, "name": "n", "key": name, "payload": {"deep": [1, None, "字"]}}
    return row | {"state": "DUE", "due_at": NOW, "attempts": 0} | more


@contextmanager
def sent(database: Database) -> Iterator[list[str]]:
    """The statements sent meanwhile."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, text: str, *_rest: object) -> None:
        seen.append(text)

    engine = database.engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(engine, "before_cursor_execute", note)


async def attempts(tx) -> dict[str, int]:
    query = sa.select(jobs.c.job_id, jobs.c.attempts).order_by(jobs.c.job_id)
    return {row.job_id: row.attempts for row in await tx.execute(query)}


async def test_writes_go_together_and_reads_go_together(database: Database) -> None:
    async with database.transaction() as tx:
        with sent(database) as seen:
            await db.write(tx, INSERT, [job("a"), job("b")])
            await db.write(tx, sa.insert(balances), [{"book": "B", "account": "A", "balance": 1}])
            assert seen == []
            (one,), none, kept = await db.read(
                tx, Ask(FIND, {"job": "a"}), Ask(FIND, {"job": "x"}), Ask(sa.select(balances), {})
            )
        assert len(seen) == 2
        assert (one.payload, one.due_at, one.leased_until) == (job("a")["payload"], NOW, None)
        assert none == []
        assert [tuple(row) for row in kept] == [("B", "A", 1)]


async def test_a_row_touched_again_lets_the_queue_go_first(database: Database) -> None:
    async with database.transaction() as tx:
        with sent(database) as seen:
            await db.write(tx, INSERT, [job("a"), job("b")])
            both = [{"job": "a", "most": 9}, {"job": "b", "most": 9}]
            await db.write(tx, BUMP, both, by=("job",), expect=2)
            await db.write(tx, BUMP, [{"job": "a", "most": 9}], by=("job",), expect=1)
            await db.write(tx, BUMP, [{"job": "b", "most": 9}], by=("job",), expect=1)
            await db.flush(tx)
        assert len(seen) == 3
        assert await attempts(tx) == {"a": 2, "b": 2}


async def test_more_rows_than_a_statement_has_places_for(database: Database) -> None:
    names = [f"j{number:05}" for number in range(3_001)]
    touched = [{"job": name, "most": 1} for name in [*names, "none"]]
    with sent(database) as seen:
        async with database.transaction() as tx:
            await db.write(tx, INSERT, [job(name) for name in names], expect=len(names))
            await db.write(tx, sa.insert(balances), [{"book": "B", "account": "A", "balance": 1}])
            await db.write(tx, BUMP, touched, by=("job",), expect=len(names))
    assert (len(seen) > 10) == (database.engine.dialect.name == "postgresql")
    async with database.reading() as tx:
        assert await attempts(tx) == dict.fromkeys(names, 1)
    with pytest.raises(Raced):
        async with database.transaction() as tx:
            await db.write(tx, BUMP, touched, by=("job",), expect=len(names))
    async with database.reading() as tx:
        assert await attempts(tx) == dict.fromkeys(names, 1)


async def test_what_expects_other_rows_is_raced_and_leaves_nothing(database: Database) -> None:
    with pytest.raises(Raced):
        async with database.transaction() as tx:
            await db.write(tx, INSERT, [job("a")])
            await db.write(tx, BUMP, [{"job": "a", "most": 0}], by=("job",), expect=1)
    async with database.transaction() as tx:
        assert await attempts(tx) == {}


async def test_what_missed_is_mended_or_refused_in_order(database: Database) -> None:
    told = []

    async def mend(tx) -> None:
        told.append("mend")
        await db.write(tx, INSERT, [job("b")])

    async def refuse(_tx) -> None:
        told.append("refuse")
        raise LookupError

    with pytest.raises(LookupError):
        async with database.transaction() as tx:
            await db.write(tx, INSERT, [job("a")])
            await db.write(tx, BUMP, [{"job": "b", "most": 9}], by=("job",), expect=1, missed=mend)
            await db.flush(tx)
            assert await attempts(tx) == {"a": 0, "b": 0}
            for missed in (refuse, mend):
                row = {"job": "a" if missed is refuse else "c", "most": 0}
                await db.write(tx, BUMP, [row], by=("job",), expect=1, missed=missed)
    assert told == ["mend", "refuse"]
    async with database.transaction() as tx:
        assert await attempts(tx) == {}


async def test_a_savepoint_keeps_what_waited_before_and_drops_what_waits_inside(
    database: Database,
) -> None:
    async with database.transaction() as tx:
        await db.write(tx, INSERT, [job("before")])
        with pytest.raises(Raced):
            async with tx.begin_nested():
                await db.write(tx, INSERT, [job("inside")])
                await db.write(tx, BUMP, [{"job": "x", "most": 9}], by=("job",), expect=1)
        with pytest.raises(LookupError):
            async with tx.begin_nested():
                await db.write(tx, INSERT, [job("lost")])
                raise LookupError
        async with tx.begin_nested():
            await db.write(tx, INSERT, [job("kept")])
    async with database.transaction() as tx:
        assert set(await attempts(tx)) == {"before", "kept"}


def begun(tx) -> bool:
    """Whether the server knows of a transaction; a file's always does."""
    line = tx.sync_connection.connection.driver_connection
    return line.is_in_transaction() if hasattr(line, "is_in_transaction") else True


async def test_nothing_is_begun_before_it_is_needed(database: Database) -> None:
    server = database.file is None
    async with database.transaction() as tx:
        await db.write(tx, INSERT, [job("a")])
    async with database.transaction() as tx:
        ((one,),) = await db.read(tx, Ask(FIND, {"job": "a"}))
        assert one.attempts == 0
        assert begun(tx) is not server
        await db.read(tx, Ask(FIND.with_for_update(), {"job": "a"}))
        assert begun(tx)
    async with database.transaction() as tx:
        await db.write(tx, BUMP, [{"job": "a", "most": 9}], by=("job",), expect=1)
        await db.read(tx, Ask(FIND, {"job": "a"}))
        assert begun(tx)
        with pytest.raises(LookupError):
            async with tx.begin_nested():
                raise LookupError


async def test_a_batch_that_goes_alone_is_whole_or_goes_again(database: Database) -> None:
    """One that misses what it expects has done nothing; what was missed is mended as ever."""
    told = []

    async def mend(tx) -> None:
        told.append("mend")
        await db.write(tx, INSERT, [job("c")])

    with sent(database) as seen:
        async with database.transaction() as tx:
            await db.write(tx, INSERT, [job("a"), job("b")])
        assert len(seen) == 1 or database.file is not None
        async with database.transaction() as tx:
            both = [{"job": "a", "most": 9}, {"job": "b", "most": 9}]
            await db.write(tx, BUMP, both, by=("job",), expect=2)
            await db.write(tx, BUMP, [{"job": "c", "most": 9}], by=("job",), expect=1, missed=mend)
    assert told == ["mend"]
    with pytest.raises(LookupError):
        async with database.transaction() as tx:
            await db.write(tx, INSERT, [job("d")])
            raise LookupError
    async with database.transaction() as tx:
        assert await attempts(tx) == {"a": 1, "b": 1, "c": 0}


async def test_a_broken_constraint_is_an_error_of_the_database(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await db.write(tx, INSERT, [job("a"), job("a")])


async def test_of_two_that_take_a_key_at_once_one_is_told_what_the_other_did(
    database: Database,
) -> None:
    claim = {"scope": "s", "key": "k", "input": {"n": 1}}
    made = []

    async def once(number: int) -> str:
        async def work(_sure: bool) -> str:
            async with database.transaction() as tx:
                (seen,) = await db.read(tx, db.ask_key(claim))
                if replay := db.replay_of(seen, claim):
                    return replay.object_id
                await db.take_key(tx, claim, object_id=f"o{number}", now=NOW)
            made.append(number)
            return f"o{number}"

        return await db.tried(work)

    found = await asyncio.gather(*(once(number) for number in range(8)))
    assert len(made) == 1
    assert set(found) == {f"o{made[0]}"}
