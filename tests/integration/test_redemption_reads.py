"""What is read of redemptions: pages, what is due, what is stuck, how old doubt is; and refusals
of the member's and the merchant's requests, with what they say."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.db import Database, system_now
from gateway.errors import NotFound
from gateway.points.service import HoldAlreadyResolved
from gateway.ports import CancelTooLate, QuoteExpired
from gateway.redemption import event_rows, figures, queue
from gateway.redemption import service as redemptions
from gateway.redemption.effects import REVIEW_WITHIN
from gateway.redemption.model import (
    AlreadyUsed,
    OwnerMismatch,
    Redemption,
    State,
    Step,
)
from tests.integration.conftest import MORNING, Coalition

MEMBER = "mbr_demo_01"
TICKET = (MEMBER, "XH-01", ("P-LL", None))
OWN = ("mbr_demo_18", "CA-01", ("P-CA", None))
SECOND = timedelta(seconds=1)


async def at(coalition: Coalition, seconds: int, *order: Any, confirm: bool = True) -> Redemption:
    """A redemption made so many seconds after the morning."""
    coalition.clock.instant = MORNING + timedelta(seconds=seconds)
    return await (coalition.redeemed if confirm else coalition.held)(*order)


async def page(database: Database, **asked: Any) -> list[str]:
    async with database.reading() as tx:
        return [one.id for one in await redemptions.redemptions(tx, **asked)]


async def test_redemptions_are_read_newest_first_page_by_page(coalition: Coalition) -> None:
    mine = [await at(coalition, second // 2, *TICKET, confirm=False) for second in range(4)]
    other = await at(coalition, 9, *OWN)
    ids = [one.id for one in sorted(mine, key=lambda one: (one.created_at, one.id), reverse=True)]
    db = coalition.database
    assert await page(db) == [other.id, *ids]
    assert await page(db, member_id=MEMBER) == ids
    assert await page(db, merchant_id="M02") == [other.id]
    assert await page(db, merchant_id="M05", states=["COMMITTED"]) == []
    assert await page(db, states=["HELD", "COMMITTED"], limit=2) == [other.id, ids[0]]
    seen: list[str] = []
    async with db.reading() as tx:
        known = await redemptions.redemptions_by_id(tx, [other.id, *ids])
    while True:
        after = (known[seen[-1]].created_at, seen[-1]) if seen else None
        found = await page(db, after=after, limit=2)
        seen += found
        if len(found) < 2:
            break
    assert seen == [other.id, *ids]
    assert {one.id: one for one in mine} == {name: known[name] for name in ids}


async def leased(coalition: Coalition, **more: Any) -> list[tuple[str, str]]:
    asked = {"now": coalition.clock.now(), "system_now": system_now(), "limit": 9} | more
    asked.setdefault("until", asked["system_now"] + timedelta(minutes=1))
    async with coalition.database.transaction() as tx:
        return await queue.lease_due(tx, **asked)


async def doubtful(coalition: Coalition, seconds: int, merchant: str, *order: Any) -> Redemption:
    coalition.partners[merchant].script["confirm"] = ["lost_before"]
    return await at(coalition, seconds, *order)


async def test_what_is_due_longest_is_leased_first_and_once(coalition: Coalition) -> None:
    late = await doubtful(coalition, 50, "M02", *OWN)
    early = await doubtful(coalition, 0, "M05", *TICKET)
    await at(coalition, 0, *TICKET)  # Committed: nothing is due.
    both = [(early.id, "M05"), (late.id, "M02")]
    assert early.due_at
    coalition.clock.instant = early.due_at - SECOND
    assert await leased(coalition) == []
    coalition.clock.instant = early.due_at
    assert await leased(coalition, full=["M05"]) == []
    coalition.clock.instant = MORNING + timedelta(seconds=60)
    async with coalition.database.reading() as tx:
        depth = await queue.depth(tx, now=coalition.clock.now())
    assert (depth.waiting, depth.oldest) == (2, coalition.clock.now() - early.due_at)
    assert await leased(coalition, limit=1) == both[:1]
    assert await leased(coalition) == both[1:]
    assert await leased(coalition) == []
    later = system_now() + timedelta(minutes=2)  # Leases have ended.
    assert await leased(coalition, system_now=later) == both
    async with coalition.database.transaction() as tx:
        await queue.hand_back(tx, [late.id])
    assert await leased(coalition) == both[1:]
    assert await leased(coalition, system_now=later, full=["M02"]) == []


async def test_nothing_due_is_no_depth(coalition: Coalition) -> None:
    async with coalition.database.reading() as tx:
        for depth in (queue.depth, queue.events_depth):
            found = await depth(tx, now=MORNING)
            assert (found.waiting, found.oldest) == (0, timedelta(0))


async def test_stored_webhooks_that_wait_are_counted(coalition: Coalition) -> None:
    async with coalition.database.transaction() as tx:
        for number in (1, 2):
            row = {"merchant_id": "M05", "event_id": f"e{number}", "body": {}}
            seen = MORNING + number * SECOND
            assert await event_rows.add_event(tx, row | {"received_at": seen})
    async with coalition.database.reading() as tx:
        found = await queue.events_depth(tx, now=MORNING + 9 * SECOND)
    assert (found.waiting, found.oldest) == (2, 8 * SECOND)


async def test_the_age_of_doubt_below_which_99_of_100_are(coalition: Coalition) -> None:
    for second in (0, 40):
        await doubtful(coalition, second, "M05", *TICKET)
    async with coalition.database.reading() as tx:
        ages = await queue.doubt_ages(tx, now=MORNING + 45 * SECOND)
    assert ages == {"M05": queue.DoubtAge(2, 45 * SECOND, 45 * SECOND)}
    async with coalition.database.reading() as tx:
        assert (await queue.doubt_ages(tx, now=MORNING))["M05"].oldest == timedelta(0)


async def stuck(coalition: Coalition, now: datetime, **more: Any) -> dict[str, Sequence[str]]:
    asked = {"system_now": system_now(), "patience": timedelta(minutes=10)} | more
    async with coalition.database.reading() as tx:
        return dict(await figures.stuck(tx, now=now, **asked))


async def test_what_ought_to_have_moved_on_is_stuck(coalition: Coalition) -> None:
    lost = await doubtful(coalition, 0, "M05", *TICKET)
    held = await at(coalition, 0, *TICKET, confirm=False)
    done = await at(coalition, 0, *OWN)
    body = {"id": "e", "kind": "booking.rejected", "op_key": done.op_key(Step.CONFIRM)}
    await coalition.redemptions.inbox.receive("M02", "e", body | {"version": 1})
    until = held.points_hold_until + timedelta(minutes=10)
    assert await stuck(coalition, until) == {
        "leased": [], "held": [], "review": [done.id], "overdue": [],
    }  # fmt: skip
    assert (await stuck(coalition, until + SECOND))["held"] == [held.id]
    given = MORNING + REVIEW_WITHIN
    assert (await stuck(coalition, given))["overdue"] == []
    assert (await stuck(coalition, given + SECOND))["overdue"] == [done.id]
    coalition.clock.instant = MORNING + timedelta(seconds=5)
    ends = system_now()
    assert len(await leased(coalition, until=ends)) == 1
    late = ends + timedelta(minutes=10)
    assert (await stuck(coalition, coalition.clock.now(), system_now=late))["leased"] == []
    late += SECOND
    assert (await stuck(coalition, coalition.clock.now(), system_now=late))["leased"] == [lost.id]
    async with coalition.database.reading() as tx:
        open_ = await figures.open_states(tx)
        assert {state: many for state, many in open_.items() if many} == {
            "IN_DOUBT": 1, "HELD": 1, "NEEDS_REVIEW": 1,
        }  # fmt: skip
        assert open_["RELEASING"] == 0
        assert "COMMITTED" not in open_
        assert await figures.outbox(tx) == (0, None)  # Each call has its answer.


async def test_a_call_without_an_answer_is_counted(coalition: Coalition) -> None:
    held = await at(coalition, 3, *TICKET, confirm=False)
    async with coalition.database.transaction() as tx:
        current = await redemptions.redemption(tx, held.id)
        await coalition.redemptions.saga.queue_confirm(tx, current)
    async with coalition.database.reading() as tx:
        assert await figures.outbox(tx) == (1, MORNING + 3 * SECOND)
        assert await figures.trace_of(tx, held.id) is None  # Nothing is traced here.


async def test_findings_are_read_by_redemption_and_time(coalition: Coalition) -> None:
    made = [await at(coalition, 0, *order) for order in (TICKET, OWN)]
    async with coalition.database.transaction() as tx:
        for number, one in enumerate(made):
            await redemptions.store.add_finding(
                tx,
                redemption_id=one.id,
                code="LATE_HOLD",
                detail="why",
                now=MORNING + number * SECOND,
            )
    second = MORNING + SECOND

    async def found(**asked: Any) -> list[str]:
        async with coalition.database.reading() as tx:
            return [row.redemption_id for row in await redemptions.findings(tx, **asked)]

    first, last = (one.id for one in made)
    assert await found() == [first, last]
    assert await found(redemption_id=last) == [last]
    assert await found(since=second) == [last]
    assert await found(until=second) == [first]
    async with coalition.database.reading() as tx:
        row, _ = await redemptions.findings(tx)
    assert (row.code, row.detail, row.merchant_id, row.list_fen) == (
        "LATE_HOLD", "why", "M05", 4_500
    )  # fmt: skip


# -- refusals -------------------------------------------------------------------------------------


async def refusal(expected: type[Exception], doing: Any) -> dict[str, Any]:
    with pytest.raises(expected) as refused:
        await doing
    return dict(refused.value.context)


async def test_a_hold_is_given_up_by_its_member_once(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    mine: dict[str, Any] = {"member_id": MEMBER, "redemption_id": held.id}
    release = coalition.redemptions.release
    stranger = mine | {"member_id": "mbr_demo_02"}
    assert await refusal(NotFound, release(**stranger, key="r")) == {"id": held.id}
    made, replayed = await release(**mine, key="r")
    assert (made.state, replayed) == (State.RELEASED, False)
    again, replayed = await release(**mine, key="r")
    assert (again.state, replayed) == (State.RELEASED, True)
    assert await coalition.wallet(MEMBER, "P-LL") == (20_000, 0)
    done = await coalition.redeemed(*TICKET)
    said = await refusal(HoldAlreadyResolved, release(**mine | {"redemption_id": done.id}, key="x"))
    assert said == {"hold": done.id, "state": "COMMITTED"}


async def test_a_cancellation_is_quoted_before_it_is_asked(coalition: Coalition) -> None:
    saga, held = coalition.redemptions, await coalition.held(*TICKET)
    done = await coalition.redeemed(*TICKET)
    mine: dict[str, Any] = {"member_id": MEMBER, "redemption_id": done.id}
    assert await refusal(
        HoldAlreadyResolved, saga.cancel_quote(**mine | {"redemption_id": held.id})
    )
    stranger = mine | {"member_id": "mbr_demo_02"}
    assert await refusal(NotFound, saga.cancel_quote(**stranger)) == {"id": done.id}
    offered = await saga.cancel_quote(**mine)
    assert offered.id.startswith("cnq_")
    assert (offered.redemption_id, offered.partner_id, offered.refundable, offered.fee_fen) == (
        done.id, f"cq/{done.booking_ref}", True, 0,
    )  # fmt: skip
    assert (offered.expires_at, offered.until) == (MORNING + timedelta(minutes=5), None)
    ask = mine | {"cancel_quote_id": offered.id}
    assert await refusal(NotFound, saga.cancel(**ask | {"cancel_quote_id": "cnq_9"}, key="1")) == {
        "id": "cnq_9"
    }
    other = await coalition.redeemed(*TICKET)
    foreign = ask | {"redemption_id": other.id}
    assert await refusal(NotFound, saga.cancel(**foreign, key="2")) == {"id": offered.id}
    coalition.clock.instant = offered.expires_at
    late = await refusal(QuoteExpired, saga.cancel(**ask, key="3"))
    assert late == {"expired_at": "2026-11-20T01:05:00+00:00"}
    coalition.clock.instant -= SECOND
    cancelled, replayed = await saga.cancel(**ask, key="3")
    assert (cancelled.state, replayed) == (State.CANCELLED, False)
    for key, seen in (("3", True), ("4", False)):
        assert await saga.cancel(**ask, key=key) == (cancelled, seen)


async def test_the_first_answer_says_what_came_back_as_the_second_does(
    coalition: Coalition,
) -> None:
    legs = (("P-LL", 8_000), ("P-KX", None))
    ride = await coalition.redeemed("mbr_demo_07", "KX-03", *legs)
    asked: dict[str, Any] = {"merchant_id": "M07", "redemption_id": ride.id}
    asked |= {"final_fare_fen": 7_500, "key": "f"}
    first, _ = await coalition.redemptions.record_fulfilment(**asked)
    assert [leg.returned_points for leg in first.legs] == [500, 4_000]
    assert await coalition.redemptions.record_fulfilment(**asked) == (first, True)


async def test_what_is_used_is_not_cancelled(coalition: Coalition) -> None:
    saga, done = coalition.redemptions, await coalition.redeemed(*TICKET)
    mine: dict[str, Any] = {"member_id": MEMBER, "redemption_id": done.id}
    offered = await saga.cancel_quote(**mine)
    asked = {"merchant_id": "M05", "redemption_id": done.id, "final_fare_fen": None}
    used, replayed = await saga.record_fulfilment(**asked, key="f")
    assert (used.state, replayed) == (State.FULFILLED, False)
    assert await saga.record_fulfilment(**asked, key="f") == (used, True)
    until = {"until": "2026-11-20T01:00:00+00:00"}
    assert await refusal(CancelTooLate, saga.cancel_quote(**mine)) == until
    assert await refusal(
        CancelTooLate, saga.cancel(**mine, cancel_quote_id=offered.id, key="c")
    ) == (until)


async def test_what_is_used_is_told_by_its_merchant(coalition: Coalition) -> None:
    saga, held = coalition.redemptions, await coalition.held(*TICKET)
    asked = {"merchant_id": "M05", "redemption_id": held.id, "final_fare_fen": None}
    said = await refusal(HoldAlreadyResolved, saga.record_fulfilment(**asked, key="1"))
    assert said == {"hold": held.id, "state": "HELD"}
    foreign = asked | {"merchant_id": "M07"}
    assert await refusal(NotFound, saga.record_fulfilment(**foreign, key="2")) == {"id": held.id}
    unknown = asked | {"redemption_id": "red_9"}
    assert await refusal(NotFound, saga.record_fulfilment(**unknown, key="3")) == {"id": "red_9"}
    assert await refusal(NotFound, saga.fence(redemption_id="red_9")) == {"id": "red_9"}


async def test_a_voucher_is_taken_once_from_its_holder(coalition: Coalition) -> None:
    saga, done = coalition.redemptions, await coalition.redeemed(*TICKET)
    till: dict[str, Any] = {"merchant_id": "M05", "code": "C0000001", "holder": MEMBER}
    wrong = till | {"code": "C9"}
    assert await refusal(NotFound, saga.verify_voucher(**wrong, key="1")) == {"id": "C9"}
    foreign = till | {"merchant_id": "M07"}
    assert await refusal(NotFound, saga.verify_voucher(**foreign, key="2")) == {"id": "C0000001"}
    other = till | {"holder": "mbr_demo_02"}
    assert await refusal(OwnerMismatch, saga.verify_voucher(**other, key="3")) == {
        "voucher": "C0000001"
    }
    used, replayed = await saga.verify_voucher(**till, key="4")
    assert (used.id, used.state, replayed) == (done.id, State.FULFILLED, False)
    assert await saga.verify_voucher(**till, key="4") == (used, True)
    assert await refusal(AlreadyUsed, saga.verify_voucher(**till, key="5")) == {
        "used_at": "2026-11-20T01:00:00+00:00", "where": "M05",
    }  # fmt: skip


async def test_a_voucher_of_what_was_cancelled_is_none(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    body = {"id": "e", "kind": "booking.cancelled", "op_key": done.op_key(Step.CONFIRM)}
    await coalition.redemptions.inbox.receive("M05", "e", body | {"version": 2})
    till: dict[str, Any] = {"merchant_id": "M05", "code": "C0000001", "holder": None}
    assert await refusal(NotFound, coalition.redemptions.verify_voucher(**till, key="1")) == {
        "id": "C0000001"
    }


async def test_a_merchants_webhook_that_names_nothing_is_noted(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    e = redemptions.store.events
    wrong = {"kind": "booking.cancelled", "version": 9}
    for number, (merchant, op_key) in enumerate(
        [("M05", "nothing"), ("M05", "red_9:confirm:1"), ("M07", done.op_key(Step.CONFIRM))]
    ):
        body = wrong | {"id": f"e{number}", "op_key": op_key}
        assert await coalition.redemptions.inbox.receive(merchant, f"e{number}", body)
    async with coalition.database.reading() as tx:
        rows = list(await tx.execute(e.select().order_by(e.c.event_id)))
    assert all(row.outcome.startswith("ignored: NOT_FOUND") for row in rows)
    assert {row.applied_at for row in rows} == {MORNING}
    assert (await coalition.get(done)).state is State.COMMITTED
