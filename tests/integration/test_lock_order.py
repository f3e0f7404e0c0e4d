"""Rows are locked in one order everywhere, so that nobody waits for somebody who waits for them."""

import asyncio
from collections.abc import Awaitable

import pytest

from gateway.db import Database
from gateway.errors import NotFound, Refused
from gateway.points.service import HoldAlreadyResolved
from gateway.reconciliation import service as reconciliation
from gateway.redemption import store
from gateway.redemption.model import AlreadyUsed, Redemption, State
from gateway.settlement import service as settlement
from gateway.settlement import store as settlement_store
from tests.integration.conftest import Coalition
from tests.integration.test_reconciliation import NINE, STATEMENTS, matched
from tests.integration.test_settlement import W47
from tests.support import day

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))
SECOND = {"actor": "usr_second", "limit_fen": 10**9, "now": NINE}


@pytest.fixture
async def played(database: Database) -> Database:
    """The demo day, its window published."""
    async with database.transaction() as tx:
        await day.seed(tx)
    await day.play(database)
    async with database.transaction() as tx:
        await settlement.close_window(tx, now=day.CUT)
    async with database.transaction() as tx:
        await settlement.net_window(tx, window_id=W47, now=day.CUT)
        await settlement.publish_window(tx, window_id=W47, now=day.CUT)
    return database


async def waits(work: Awaitable[object]) -> asyncio.Task[object]:
    """Begin something that must wait for a lock which the caller has, and take its own first."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0.3)
    return task


async def code_of(coalition: Coalition, redemption: Redemption) -> str:
    async with coalition.database.reading() as tx:
        return str((await store.voucher_of(tx, [redemption.id]))[redemption.id].code)


async def test_a_till_waits_for_the_redemption_before_its_voucher(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    code = await code_of(coalition, done)
    asked = {"merchant_id": "M05", "code": code, "holder": None}
    async with coalition.database.transaction() as tx:
        assert await store.find(tx, done.id, lock=True)
        till = await waits(coalition.redemptions.verify_voucher(**asked, key="till"))
        await store.set_voucher(tx, done.id, state="VOID", used_at=None)
    with pytest.raises(NotFound):  # Cancelled while it waited.
        await till
    async with coalition.database.transaction() as tx:
        await store.set_voucher(tx, done.id, state="ISSUED", used_at=None)
    assert (await coalition.redemptions.verify_voucher(**asked, key="till"))[1] is False


async def test_tills_and_a_cancellation_at_once(coalition: Coalition) -> None:
    for number in range(4):
        done = await coalition.redeemed(*TICKET)
        code = await code_of(coalition, done)
        ask = {"member_id": done.member_id, "redemption_id": done.id}
        offered = await coalition.redemptions.cancel_quote(**ask)
        cancel = coalition.redemptions.cancel(
            **ask, cancel_quote_id=offered.id, key=f"cancel {number}"
        )
        tills = [
            coalition.redemptions.verify_voucher(
                merchant_id="M05", code=code, holder=None, key=f"till {number}.{till}"
            )
            for till in range(6)
        ]
        cancelled, *taken = await asyncio.gather(cancel, *tills, return_exceptions=True)
        refusals = [each for each in (cancelled, *taken) if isinstance(each, BaseException)]
        assert [each for each in refusals if not isinstance(each, Refused)] == []
        if not isinstance(cancelled, BaseException):
            assert (cancelled[0].state, cancelled[1]) == (State.CANCELLED, False)
        else:
            assert sum(isinstance(each, AlreadyUsed) for each in taken) == 5
        await coalition.work(seconds=60)


async def test_a_release_that_comes_second_says_so(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    ask = {"member_id": held.member_id, "redemption_id": held.id, "key": "one"}
    async with coalition.database.transaction() as tx:
        assert await store.find(tx, held.id, lock=True)
        released = await waits(coalition.redemptions.release(**ask))
        await store.update(tx, held.id, {"state": State.CONFIRMING})
    with pytest.raises(HoldAlreadyResolved):
        await released
    async with coalition.database.transaction() as tx:
        await store.update(tx, held.id, {"state": State.HELD})
    assert (await coalition.redemptions.release(**ask))[1] is False  # A refusal keeps no key.


async def test_a_decision_about_a_break_waits_for_the_break(played: Database) -> None:
    run = await matched(played, list(STATEMENTS.values()))
    async with played.transaction() as tx:
        found = (await reconciliation.breaks(tx, run_id=run.id))[0]
        asked = {"break_id": found.id, "action": "ACCEPT_OURS", "note": "seen", "now": NINE}
        first = await reconciliation.propose_resolution(tx, **asked, actor="usr_first")
    async with played.transaction() as tx:
        await reconciliation.assign_break(tx, break_id=found.id, owner="usr_first")
        approved = await waits(_approved(played, first.id))
        await reconciliation.propose_resolution(tx, **asked, actor="usr_first")
    with pytest.raises(NotFound):  # It was withdrawn while its approver waited.
        await approved


async def _approved(database: Database, resolution_id: str) -> None:
    async with database.transaction() as tx:
        await reconciliation.approve_resolution(tx, resolution_id=resolution_id, **SECOND)


async def test_an_approval_waits_for_the_window_before_the_settlement(played: Database) -> None:
    async with played.transaction() as tx:
        draft = await settlement.propose_settlement(tx, window_id=W47, actor="usr_a", now=NINE)

    async def approve() -> None:
        async with played.transaction() as tx:
            asked = {"settlement_id": draft.id, "net_hash": draft.net_hash}
            await settlement.approve_settlement(tx, **asked, **SECOND)

    async with played.transaction() as tx:
        assert await settlement_store.find_window(tx, W47, lock=True)
        approved = await waits(approve())
        await settlement_store.update_settlement(tx, draft.id, state=draft.state)
    await approved
    async with played.reading() as tx:
        (leg, *_) = await settlement.legs(tx, settlement_id=draft.id)

    async def book() -> None:
        async with played.transaction() as tx:
            await settlement.book_leg(tx, leg_id=leg.id, actor="usr_a", now=NINE)

    async with played.transaction() as tx:
        assert await settlement_store.find_window(tx, W47, lock=True)
        booked = await waits(book())
        assert await settlement_store.lock_settlement(tx, draft.id)
    await booked
