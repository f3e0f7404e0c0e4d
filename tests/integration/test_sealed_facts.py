"""What partners said is sealed by the running worker, and a change of it is named."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, migrations
from gateway.audit import service as audit
from gateway.audit import store as chain
from gateway.audit.model import BrokenChain, Fault
from gateway.redemption import invariants, store
from tests.integration.conftest import Coalition
from tests.support.issuers import open_books

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))
FACTS = store.facts


class Undone(Exception):
    """Ends a transaction whose changes must not stay."""


@asynccontextmanager
async def tampered(coalition: Coalition) -> AsyncIterator[AsyncConnection]:
    """A transaction that may change facts; nothing of it stays."""
    with pytest.raises(Undone):
        async with coalition.database.transaction() as tx:
            await open_books(tx, "partner_facts")
            yield tx
            raise Undone


async def unsealed(coalition: Coalition) -> tuple[int, int]:
    """How many facts there are, and how many of them have no link."""
    linked = sa.select(chain.seals.c.row_id).where(chain.seals.c.source == "partner_facts")
    without = sa.func.count().filter(FACTS.c.fact_id.is_(None) | FACTS.c.fact_id.not_in(linked))
    async with coalition.database.reading() as tx:
        total, waiting = (await tx.execute(sa.select(sa.func.count(), without))).one()
    return total, waiting


async def test_every_fact_is_sealed_by_the_worker(coalition: Coalition) -> None:
    await coalition.redeemed(*TICKET)
    await coalition.chores()
    assert await unsealed(coalition) == (2, 0)
    async with coalition.database.reading() as tx:
        assert (await audit.verify(tx)).tables["partner_facts"] == 2


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (sa.delete(FACTS), Fault.DELETED),
        (sa.update(FACTS).values(outcome="rejected"), Fault.CHANGED),
        (sa.update(FACTS).values(booking_ref="another"), Fault.CHANGED),
        (sa.update(FACTS).values(fact_id=None), Fault.DELETED),
    ],
    ids=["deleted", "another outcome", "another booking", "without its id"],
)
async def test_a_changed_fact_is_named(
    coalition: Coalition, change: sa.Update | sa.Delete, fault: Fault
) -> None:
    await coalition.redeemed(*TICKET)
    await coalition.chores()
    async with tampered(coalition) as tx:
        confirmed = FACTS.c.outcome == "confirmed"
        fact_id = await tx.scalar(sa.select(FACTS.c.fact_id).where(confirmed))
        await tx.execute(change.where(confirmed))
        with pytest.raises(BrokenChain) as found:
            await audit.verify(tx)
    assert (found.value.table, found.value.row_id) == ("partner_facts", fact_id)
    assert found.value.fault is fault


@pytest.mark.parametrize("outcome", [None, "rejected"])
async def test_points_burned_without_a_confirmation_break_r1(
    coalition: Coalition, outcome: str | None
) -> None:
    done = await coalition.redeemed(*TICKET)
    confirmed = FACTS.c.outcome == "confirmed"
    async with tampered(coalition) as tx:
        assert all(result.ok for result in await invariants.check(tx, now=coalition.clock.now()))
        change = sa.update(FACTS).values(outcome=outcome) if outcome else sa.delete(FACTS)
        await tx.execute(change.where(confirmed))
        (r1,) = [
            each
            for each in await invariants.check(tx, now=coalition.clock.now())
            if each.id == "R1"
        ]
    assert (r1.ok, r1.detail) == (False, done.id)


def test_no_column_has_a_default_that_a_batch_leaves_out() -> None:
    """A batch runs the statement as it is: what SQLAlchemy makes in Python would be NULL."""
    tables = migrations.all_tables().tables.values()
    made = [c for table in tables for c in table.columns if c.default or c.onupdate]
    assert [str(column) for column in made] == []


async def test_a_batch_refuses_a_row_that_would_never_be_sealed(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    row = {"op_key": "x", "version": 1, "outcome": "held", "source": "webhook", "body": {}}
    row |= {"redemption_id": done.id, "recorded_at": coalition.clock.now()}
    with pytest.raises(AssertionError, match="partner_facts: unsealed without fact_id"):
        async with coalition.database.transaction() as tx:
            await db.write(tx, sa.insert(FACTS), [row])


async def test_a_batch_refuses_a_default_made_in_python(database: db.Database) -> None:
    table = sa.Table("made", sa.MetaData(), sa.Column("a", sa.String), sa.Column("b", sa.String))
    table.c.b.default = sa.ColumnDefault(lambda: "x")
    async with database.transaction() as tx:
        with pytest.raises(AssertionError, match="give a value"):
            await db.write(tx, sa.insert(table), [{"a": "1"}])
            await db.flush(tx)
