"""The saga on a real database: each step answered, refused, lost before and after its effect."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from gateway.catalog.pricing import LegInput
from gateway.db import Clock, system_now
from gateway.errors import PartnerRejected, PartnerUnavailable
from gateway.points.service import InsufficientPoints
from gateway.ports import PriceChanged, SoldOut
from gateway.redemption import store
from gateway.redemption.model import Fault, State, Step
from gateway.settlement import service as settlement
from tests.integration.conftest import Coalition

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))  # ¥45.00 of the cinema for 4,500 of 20,000
OWN = ("mbr_demo_18", "CA-01", ("P-CA", None))


async def rows(coalition: Coalition, cause_id: str) -> list[tuple[str, str, str, int]]:
    async with coalition.database.reading() as tx:
        found = await settlement.obligations(tx, cause_id=cause_id)
    return sorted((str(o.type), o.payer, o.payee, o.amount_fen) for o in found)


async def test_points_of_one_merchant_buy_a_service_of_another(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    assert held.state is State.HELD
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 4_500)

    done = await coalition.confirm(held)

    assert done.state is State.COMMITTED
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)
    assert await rows(coalition, done.id) == [
        ("FEE", "M04", "HUB_FEE", 20),
        ("REDEMPTION", "M04", "M05", 4_050),
    ]


async def test_a_quote_is_used_once_whatever_the_key(coalition: Coalition) -> None:
    quote = await coalition.quote(*TICKET)
    ask = {"member_id": "mbr_demo_01", "quote_id": quote.id}
    first, replayed = await coalition.redemptions.hold(**ask, key="a")
    assert not replayed
    again, replayed = await coalition.redemptions.hold(**ask, key="a")
    assert replayed
    other, _ = await coalition.redemptions.hold(**ask, key="b")
    assert first.id == again.id == other.id
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 4_500)


async def test_a_no_to_the_hold_gives_everything_back(coalition: Coalition) -> None:
    coalition.partners["M05"].script["hold"] = ["reject"]
    with pytest.raises(SoldOut):
        await coalition.held(*TICKET)
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)


async def test_a_no_to_the_confirm_gives_everything_back(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    coalition.partners["M05"].script["confirm"] = ["reject"]
    with pytest.raises(PartnerRejected):
        await coalition.confirm(held)
    assert (await coalition.get(held)).state is State.RELEASED
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)
    assert await rows(coalition, held.id) == []


@pytest.mark.parametrize("verb", ["hold", "confirm"])
async def test_what_was_never_sent_is_undone(coalition: Coalition, verb: str) -> None:
    coalition.partners["M05"].script[verb] = ["not_sent"]
    with pytest.raises(PartnerUnavailable):
        await coalition.redeemed(*TICKET)
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)
    await coalition.work(seconds=1)


@pytest.mark.parametrize("lost", ["lost_before", "lost_after"])
async def test_a_lost_hold_is_in_doubt_until_the_partner_says(
    coalition: Coalition, lost: str
) -> None:
    coalition.partners["M05"].script["hold"] = [lost]
    held = await coalition.held(*TICKET)
    assert (held.state, held.doubt) == (State.IN_DOUBT, Step.HOLD)
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 4_500)

    await coalition.work(seconds=2)

    assert (await coalition.get(held)).state is State.HELD
    assert [verb for verb, _ in coalition.partners["M05"].effects] == ["hold"]


@pytest.mark.parametrize("lost", ["lost_before", "lost_after"])
async def test_a_lost_confirm_neither_voids_nor_burns(coalition: Coalition, lost: str) -> None:
    held = await coalition.held(*TICKET)
    coalition.partners["M05"].script["confirm"] = [lost]
    doubtful = await coalition.confirm(held)
    assert (doubtful.state, doubtful.doubt) == (State.IN_DOUBT, Step.CONFIRM)
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 4_500)

    await coalition.work(seconds=2)

    assert (await coalition.get(held)).state is State.COMMITTED
    effects = [verb for verb, _ in coalition.partners["M05"].effects]
    assert effects == ["hold", "confirm"]


async def test_a_silent_partner_is_fenced_after_the_deadline(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]
    partner.script["confirm"] = ["lost_before"]
    partner.script["status"] = ["not_sent"] * 3
    doubtful = await coalition.confirm(held)
    for _ in range(3):
        await coalition.work(seconds=10)
        assert (await coalition.get(held)).state is State.IN_DOUBT

    await coalition.work(seconds=200)  # Past the deadline and the grace: NOT_FOUND, then a fence.

    ended = await coalition.get(held)
    assert (ended.state, ended.fenced) == (State.RELEASED, True)
    assert ("fence", doubtful.op_key(Step.CONFIRM)) in partner.effects
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)


async def test_a_fence_without_an_answer_settles_nothing(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]
    partner.script["confirm"] = ["lost_before"]
    partner.script["fence"] = ["lost_before", "lost_before"]
    partner.script["status"] = ["not_sent"]
    await coalition.confirm(held)
    await coalition.work(seconds=5)
    await coalition.work(seconds=200)
    assert (await coalition.get(held)).state is State.IN_DOUBT
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 4_500)
    await coalition.work(seconds=200)
    await coalition.work(seconds=200)
    assert (await coalition.get(held)).state is State.RELEASED


async def test_doubt_that_is_too_old_needs_a_person(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]
    partner.script["confirm"] = ["lost_after"]
    partner.script["status"] = ["not_sent"] * 50
    await coalition.confirm(held)
    await coalition.work(seconds=5)
    await coalition.work(hours=25)
    stuck = await coalition.get(held)
    assert stuck.state is State.NEEDS_REVIEW
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 4_500)

    partner.script["status"] = []
    settled = await coalition.redemptions.fence(redemption_id=held.id)  # It had confirmed.
    assert settled.state is State.COMMITTED


async def test_what_was_used_while_it_was_being_cancelled_is_used(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    ask = {"member_id": "mbr_demo_01", "redemption_id": done.id}
    offered = await coalition.redemptions.cancel_quote(**ask)
    partner = coalition.partners["M05"]
    partner.script["cancel"] = ["lost_before", "reject"]
    await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key="c")
    used = {"id": "e1", "kind": "booking.fulfilled", "op_key": done.op_key(Step.CONFIRM)}
    await coalition.redemptions.inbox.receive("M05", "e1", used | {"version": 2})
    assert (await coalition.get(done)).state is State.IN_DOUBT

    await coalition.work(seconds=2)

    assert (await coalition.get(done)).state is State.FULFILLED
    assert len(await rows(coalition, done.id)) == 2


async def test_what_was_used_while_a_cancellation_was_never_sent_is_used(
    coalition: Coalition,
) -> None:
    done = await coalition.redeemed(*TICKET)
    ask = {"member_id": "mbr_demo_01", "redemption_id": done.id}
    offered = await coalition.redemptions.cancel_quote(**ask)
    partner = coalition.partners["M05"]
    used = {"id": "e1", "kind": "booking.fulfilled", "op_key": done.op_key(Step.CONFIRM)}

    async def used_then_unreachable(quote_id: str, *, op_key: str) -> None:
        await coalition.redemptions.inbox.receive("M05", "e1", used | {"version": 2})
        raise PartnerUnavailable(merchant="M05")

    partner.cancel = used_then_unreachable
    with pytest.raises(PartnerUnavailable):
        await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key="c")

    await coalition.work(seconds=2)

    assert (await coalition.get(done)).state is State.FULFILLED


async def test_a_worker_that_asked_too_long_ago_puts_nothing_in_doubt(
    coalition: Coalition,
) -> None:
    """Its lease ran out while it asked about the hold; the redemption is being confirmed now."""
    partner = coalition.partners["M05"]
    asked, answered = asyncio.Event(), asyncio.Event()
    stale: list[asyncio.Task[int]] = []
    hold = partner.hold

    async def silent(op_key: str) -> None:
        asked.set()
        await answered.wait()
        raise PartnerUnavailable(merchant="M05")

    async def slow(*given, **more):
        stale.append(asyncio.create_task(coalition.redemptions.work()))
        await asked.wait()
        return await hold(*given, **more)

    partner.status, partner.hold = silent, slow
    partner.script["confirm"] = ["pending"]
    made = await coalition.redeemed(*TICKET)
    assert made.state is State.CONFIRMING

    answered.set()
    await stale[0]

    assert (await coalition.get(made)).state is State.CONFIRMING


async def test_a_confirm_under_decision_outlives_a_repetition_that_never_left(
    coalition: Coalition,
) -> None:
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]
    partner.script["confirm"] = ["pending", "not_sent"]
    await coalition.confirm(held)  # The partner decides later; its status knows nothing yet.
    await coalition.work(seconds=2)

    doubtful = await coalition.get(held)
    assert (doubtful.state, doubtful.doubt) == (State.IN_DOUBT, Step.CONFIRM)
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 4_500)
    await coalition.work(seconds=10)
    assert (await coalition.get(held)).state is State.COMMITTED


async def test_a_hold_nobody_confirms_is_let_go(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    await coalition.work(minutes=16)
    ended = await coalition.get(held)
    assert (ended.state, ended.reason) == (State.RELEASED, "HOLD_EXPIRED")
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)
    assert ("fence", held.op_key(Step.HOLD)) in coalition.partners["M05"].effects


async def test_an_asynchronous_confirm_is_decided_by_webhook_once(coalition: Coalition) -> None:
    held = await coalition.held("mbr_demo_04", "KX-01", ("P-LL", None))
    coalition.partners["M07"].script["confirm"] = ["pending"]
    asked = await coalition.confirm(held)
    assert asked.state is State.CONFIRMING

    op_key = held.op_key(Step.CONFIRM)
    body = {"id": "e1", "kind": "booking.confirmed", "op_key": op_key, "version": 1}
    assert await coalition.redemptions.inbox.receive("M07", "e1", body)
    assert not await coalition.redemptions.inbox.receive("M07", "e1", body)
    await coalition.redemptions.inbox.receive("M07", "e2", body | {"id": "e2"})

    assert (await coalition.get(held)).state is State.COMMITTED
    assert await rows(coalition, held.id) == [
        ("FEE", "M04", "HUB_FEE", 5),
        ("REDEMPTION", "M04", "M07", 900),
    ]


async def test_an_event_is_applied_by_the_clock_that_was_set_before_it_came(
    coalition: Coalition,
) -> None:
    tomorrow = system_now() + timedelta(days=1)
    inbox = coalition.redemptions.inbox
    inbox.clock = Clock()  # Another process's, which has not looked since.
    async with coalition.database.transaction() as tx:
        await Clock().set(tx, tomorrow)
    body = {"id": "e1", "kind": "booking.cancelled", "op_key": "none", "version": 1}
    await inbox.receive("M05", "e1", body)
    async with coalition.database.reading() as tx:
        (applied_at,) = await tx.scalars(sa.select(store.events.c.applied_at))
    assert applied_at >= tomorrow


async def test_another_merchants_event_changes_nothing(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    body = {"id": "e", "kind": "booking.cancelled", "op_key": done.op_key(Step.CONFIRM)}
    await coalition.redemptions.inbox.receive("M07", "e", body | {"version": 9})
    assert (await coalition.get(done)).state is State.COMMITTED


async def test_a_member_cancels_in_two_steps(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    offered = await coalition.redemptions.cancel_quote(
        member_id="mbr_demo_01", redemption_id=done.id
    )
    assert offered.refundable
    ask = {"member_id": "mbr_demo_01", "redemption_id": done.id, "cancel_quote_id": offered.id}
    cancelled, _ = await coalition.redemptions.cancel(**ask, key="c")

    assert (cancelled.state, cancelled.fault) == (State.CANCELLED, Fault.MEMBER)
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)
    assert await rows(coalition, done.id) == [
        ("FEE", "M04", "HUB_FEE", 20),
        ("REDEMPTION", "M04", "M05", 4_050),
        ("REVERSAL", "HUB_FEE", "M04", 20),
        ("REVERSAL", "M05", "M04", 4_050),
    ]


@pytest.mark.parametrize("lost", ["lost_before", "lost_after"])
async def test_a_lost_cancellation_keeps_the_points_burned(coalition: Coalition, lost: str) -> None:
    done = await coalition.redeemed(*TICKET)
    ask = {"member_id": "mbr_demo_01", "redemption_id": done.id}
    offered = await coalition.redemptions.cancel_quote(**ask)
    coalition.partners["M05"].script["cancel"] = [lost]
    doubtful, _ = await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key="c")
    assert (doubtful.state, doubtful.doubt) == (State.IN_DOUBT, Step.CANCEL)
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)
    assert await coalition.broken() == []  # Burned, and still in doubt.

    await coalition.work(seconds=2)

    assert (await coalition.get(done)).state is State.CANCELLED
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)


async def test_a_partner_at_fault_pays_for_the_compensation(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    body = {"kind": "booking.cancelled", "op_key": done.op_key(Step.CONFIRM), "version": 2}
    for event_id in ("e1", "e2"):
        await coalition.redemptions.inbox.receive("M05", event_id, body | {"id": event_id})

    assert (await coalition.get(done)).fault is Fault.REDEEMER
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_450, 0)  # 10 % on top, once
    found = await rows(coalition, done.id)
    assert ("COMPENSATION", "M05", "M04", 450) in found
    assert sum(fen for kind, payer, payee, fen in found if payee == "M04") == 4_050 + 20 + 450


async def test_what_a_poll_tells_of_a_used_booking_does_not_hide_its_use(
    coalition: Coalition,
) -> None:
    """The poll's CONFIRMED carries the booking's version, which its use has raised."""
    held = await coalition.held(*TICKET)
    partner, op_key = coalition.partners["M05"], held.op_key(Step.CONFIRM)
    partner.script["confirm"] = ["lost_after"]
    await coalition.confirm(held)
    partner.operations[op_key] = replace(partner.operations[op_key], version=2)
    await coalition.work(seconds=2)
    assert (await coalition.get(held)).fact_version == 2

    used = {"id": "e1", "kind": "booking.fulfilled", "op_key": op_key, "version": 2}
    await coalition.redemptions.inbox.receive("M05", "e1", used)

    assert (await coalition.get(held)).state is State.FULFILLED


async def test_a_lower_final_fare_gives_the_difference_back(coalition: Coalition) -> None:
    done = await coalition.redeemed("mbr_demo_07", "KX-03", ("P-LL", 8_000), ("P-KX", None))
    before = await coalition.wallet("mbr_demo_07", "P-LL")
    body = {"kind": "booking.fulfilled", "op_key": done.op_key(Step.CONFIRM), "version": 2}
    for event_id in ("e1", "e2"):
        event = body | {"id": event_id, "final_fare_fen": 7_500}
        await coalition.redemptions.inbox.receive("M07", event_id, event)

    assert (await coalition.get(done)).state is State.FULFILLED
    after = await coalition.wallet("mbr_demo_07", "P-LL")
    assert after[0] - before[0] == 500
    assert await rows(coalition, done.id) == [
        ("FEE", "M04", "HUB_FEE", 36),
        ("REDEMPTION", "M04", "M07", 7_200),
        ("REVERSAL", "HUB_FEE", "M04", 2),
        ("REVERSAL", "M07", "M04", 450),
    ]


async def test_a_late_confirmation_takes_the_points_again(coalition: Coalition) -> None:
    held = await coalition.held("mbr_demo_04", "KX-01", ("P-LL", None))
    partner = coalition.partners["M07"]
    partner.script["confirm"] = ["pending"]
    await coalition.confirm(held)
    op_key = held.op_key(Step.CONFIRM)
    reject = {"id": "e1", "kind": "booking.rejected", "op_key": op_key, "version": 1}
    await coalition.redemptions.inbox.receive("M07", "e1", reject)
    assert (await coalition.get(held)).state is State.RELEASING
    await coalition.redemptions.work()
    assert (await coalition.get(held)).state is State.RELEASED

    confirm = {"id": "e2", "kind": "booking.confirmed", "op_key": op_key, "version": 2}
    await coalition.redemptions.inbox.receive("M07", "e2", confirm)

    late = await coalition.get(held)
    assert (late.state, late.epoch) == (State.LATE_CONFIRMED, 2)


async def test_what_is_used_after_its_release_was_confirmed_too_late(
    coalition: Coalition,
) -> None:
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]
    partner.script["confirm"] = ["reject"]
    with pytest.raises(PartnerRejected):
        await coalition.confirm(held)
    assert (await coalition.get(held)).state is State.RELEASED

    used = {"id": "e1", "kind": "booking.fulfilled", "op_key": held.op_key(Step.CONFIRM)}
    await coalition.redemptions.inbox.receive("M05", "e1", used | {"version": 2})

    ended = await coalition.get(held)
    assert (ended.state, ended.epoch) == (State.FULFILLED, 2)
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)


async def test_a_contradiction_needs_a_person(coalition: Coalition) -> None:
    done = await coalition.redeemed(*OWN)
    op_key = done.op_key(Step.CONFIRM)
    body = {"id": "e1", "kind": "booking.rejected", "op_key": op_key, "version": 1}
    await coalition.redemptions.inbox.receive("M02", "e1", body)
    assert (await coalition.get(done)).state is State.NEEDS_REVIEW


async def test_points_short_by_one_hold_nothing(coalition: Coalition) -> None:
    with pytest.raises(InsufficientPoints) as refusal:
        await coalition.quote("mbr_demo_03", "LL-03", ("P-CW", None))  # 3,000 of 3,000: enough
        quote = await coalition.quote("mbr_demo_03", "LL-01", ("P-CW", None))
        await coalition.redemptions.hold(member_id="mbr_demo_03", quote_id=quote.id, key="1")
        await coalition.quote("mbr_demo_03", "LL-02", ("P-CW", None))  # 1,200 of 1,200
        await coalition.quote("mbr_demo_03", "LL-01", ("P-CW", None))  # 1,800 of 1,200
    assert refusal.value.context["missing"] == 600


async def test_twenty_clients_race_for_the_points_of_four(coalition: Coalition) -> None:
    quotes = [await coalition.quote(*TICKET) for _ in range(20)]

    async def hold(quote_id: str, n: int) -> bool:
        try:
            await coalition.redemptions.hold(
                member_id="mbr_demo_01", quote_id=quote_id, key=f"race-{n}"
            )
        except InsufficientPoints:
            return False
        return True

    won = await asyncio.gather(*(hold(quote.id, n) for n, quote in enumerate(quotes)))
    assert sum(won) == 4  # 20,000 ÷ 4,500
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (2_000, 18_000)


async def test_redeeming_at_once_never_accepts_more_than_the_catalog_shows(
    coalition: Coalition,
) -> None:
    coalition.partners["M05"].prices["XH-01"] = 9_000
    ask = {"member_id": "mbr_demo_01", "offer_id": "XH-01", "slot": None, "quantity": 1}
    ask |= {"bill_fen": None, "legs": [LegInput("P-LL", None)], "cash_fen": None}
    with pytest.raises(PriceChanged) as refusal:
        await coalition.redemptions.redeem(**ask, key="r")
    assert refusal.value.context["old_points"] == 4_500
    assert refusal.value.context["new_points"] == 9_000
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)

    held, _ = await coalition.redemptions.hold(
        member_id="mbr_demo_01", quote_id=refusal.value.context["new_quote"], key="h"
    )
    assert held.state is State.HELD
