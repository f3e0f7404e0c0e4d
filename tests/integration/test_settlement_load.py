"""The cut under load, statements per step, and invariants that notice a hand on the data."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from gateway import db
from gateway.db import Database
from gateway.settlement import service as settlement
from gateway.settlement import store
from gateway.settlement.invariants import check
from tests.load import closing
from tests.support import day
from tests.support.day import CUT

AT = CUT - timedelta(days=2)


async def test_no_posting_fails_and_nothing_is_lost_while_windows_close(
    database: Database,
) -> None:
    found = await closing.run(database, writers=50, seconds=2.0, every=0.1)
    assert found.bad() == []
    assert found.postings >= 50
    assert found.spread > 1


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_conn, _cursor, statement, _parameters, _context, _many) -> None:
        statements.append(statement)

    engine = database.engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    yield statements
    sa.event.remove(engine, "before_cursor_execute", note)


async def test_a_step_takes_a_handful_of_statements(database: Database) -> None:
    async with database.transaction() as tx:
        await day.seed(tx)
        await day.hold(tx, closing.redemption(0), AT)  # the month's usage row exists now
        agreement = await settlement.agreement_for(
            tx, issuer="M04", redeemer="M05", offer_id="XH-01", category="电影", at=AT
        )
        ask = {"cause_id": "red_x", "epoch": 1}
        with counted(database) as reserve:
            leg = {"leg_no": 1, "agreement": agreement, "offer_id": "XH-01", "face_fen": 4500}
            await settlement.reserve(tx, at=AT, **ask, **leg)
        with counted(database) as accrue:
            await settlement.accrue(tx, at=AT, **ask)
            await db.flush(tx)
        with counted(database) as clear:
            await settlement.clear(tx, cause_id="red_x", at=AT)
    assert (len(reserve), len(accrue)) == (2, 2)
    assert len(clear) <= 4  # with the advisory lock


@pytest.mark.parametrize(
    ("table", "values", "noticed"),
    [
        (store.obligations, {"amount_fen": 1}, {"W1", "W3", "W4", "W6", "W7"}),
        (store.cover, {"debit_fen": 1}, {"W1"}),
        (store.settlements, {"window_id": "win_x"}, {"W4"}),
        (store.legs, {"amount_fen": 1}, {"W4"}),
        (store.windows, {"net_hash": "x"}, {"W6"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_the_invariants_notice_a_hand_on_the_data(
    database: Database, table, values, noticed
) -> None:
    async with database.transaction() as tx:
        await day.seed(tx)
    await day.play(database)
    async with database.transaction() as tx:
        window = await settlement.close_window(tx, now=CUT)
        await settlement.net_window(tx, window_id=window.id, now=CUT)
        await settlement.publish_window(tx, window_id=window.id, now=CUT)
        await settlement.propose_settlement(tx, window_id=window.id, actor="usr_a", now=CUT)
        assert [result for result in await check(tx) if not result.ok] == []
        if table is store.obligations:  # a reversal beyond what is left of its row
            await tx.execute(sa.update(table).where(table.c.type == "REDEMPTION").values(values))
        else:
            await tx.execute(sa.update(table).values(values))
        failed = {result.id for result in await check(tx) if not result.ok}
    assert failed == noticed
