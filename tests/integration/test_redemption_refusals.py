"""What holds, confirms, cancellations and tills refuse and why; and who comes with an old view."""

import asyncio
from collections import OrderedDict
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from gateway.catalog import quotes
from gateway.catalog.model import OfferSuspended
from gateway.errors import NotFound, PartnerRejected, PartnerUnavailable
from gateway.merchants import service as merchants
from gateway.points.service import HoldAlreadyResolved
from gateway.ports import (
    CancelQuote,
    CancelTooLate,
    Fact,
    HoldExpired,
    Outcome,
    PriceChanged,
    QuoteExpired,
    Reservation,
)
from gateway.redemption import expected, store
from gateway.redemption import service as redemptions
from gateway.redemption.model import Redemption, State, Step, VoucherExpired
from gateway.redemption.redeeming import KEPT, _keep
from gateway.values import InvalidAmount, business_day
from tests.integration.conftest import MORNING, Coalition
from tests.integration.test_redeem_at_once import Watched, redeem
from tests.integration.ways import MEMBER, TICKET, Ways

STRANGER = "mbr_demo_02"
SECOND = timedelta(seconds=1)


async def refusal(expected: type[Exception], doing: Any) -> dict[str, Any]:
    with pytest.raises(expected) as refused:
        await doing
    return dict(refused.value.context)


# -- holds and confirms ---------------------------------------------------------------------------


@pytest.mark.parametrize("at_hand", [True, False])
async def test_a_quote_is_its_members_and_ends(coalition: Coalition, at_hand: bool) -> None:
    saga, quote = coalition.redemptions, await coalition.quote(*TICKET)
    if not at_hand:
        saga._quotes.clear()
    with pytest.raises(NotFound) as refused:
        await saga.hold(member_id=STRANGER, quote_id=quote.id, key="s")
    assert (refused.value.field, refused.value.context) == (("quote",), {"id": quote.id})
    coalition.clock.instant = quote.expires_at
    said = await refusal(QuoteExpired, saga.hold(member_id=MEMBER, quote_id=quote.id, key="h"))
    assert said == {"expired_at": "2026-11-20T01:05:00+00:00"}
    coalition.clock.instant -= SECOND
    held, replayed = await saga.hold(member_id=MEMBER, quote_id=quote.id, key="h")
    assert (held.state, held.created_at, replayed) == (State.HELD, coalition.clock.now(), False)


async def test_a_paused_merchant_holds_nothing(coalition: Coalition) -> None:
    saga, quote = coalition.redemptions, await coalition.quote(*TICKET)
    async with coalition.database.transaction() as tx:
        await merchants.pause(tx, id="M05", paused=True)
    with pytest.raises(OfferSuspended) as refused:
        await saga.hold(member_id=MEMBER, quote_id=quote.id, key="h")
    assert refused.value.field == ("quote",)
    assert refused.value.context == {"offer": "XH-01", "reason": "merchant paused"}
    assert await coalition.wallet(MEMBER, "P-LL") == (20_000, 0)


async def test_a_hold_is_its_members_and_ends(coalition: Coalition) -> None:
    saga, held = coalition.redemptions, await coalition.held(*TICKET)
    ask: dict[str, Any] = {"redemption_id": held.id}
    for member, name in ((STRANGER, held.id), (MEMBER, "red_9")):
        unknown = saga.confirm(member_id=member, redemption_id=name, key="s")
        assert await refusal(NotFound, unknown) == {"id": name}
    assert held.partner_hold_until
    limit = held.partner_hold_until - timedelta(seconds=saga.settings.clock_skew_seconds)
    coalition.clock.instant = limit
    said = await refusal(HoldExpired, saga.confirm(member_id=MEMBER, **ask, key="c"))
    assert said == {"expired_at": "2026-11-20T01:15:00+00:00"}
    coalition.clock.instant = limit - SECOND
    done, _ = await saga.confirm(member_id=MEMBER, **ask, key="c")
    assert (done.state, done.deadline) == (State.COMMITTED, limit)
    gone = await coalition.held(*TICKET)
    await saga.release(member_id=MEMBER, redemption_id=gone.id, key="r")
    said = await refusal(
        HoldAlreadyResolved, saga.confirm(member_id=MEMBER, redemption_id=gone.id, key="d")
    )
    assert said == {"hold": gone.id, "state": "RELEASED"}


async def test_a_booking_that_is_not_there_has_no_price_to_cancel_it(coalition: Coalition) -> None:
    saga, held = coalition.redemptions, await coalition.held(*TICKET)
    ask = {"member_id": MEMBER, "redemption_id": held.id}
    said = await refusal(HoldAlreadyResolved, saga.cancel_quote(**ask))
    assert said == {"hold": held.id, "state": "HELD"}


@pytest.mark.parametrize(("word", "wait"), [("not_sent", 30), ("throttled", 90)])
async def test_who_could_not_be_asked_says_when_to_try_again(
    coalition: Coalition, word: str, wait: int
) -> None:
    coalition.partners["M05"].script["hold"] = [word] * 9
    said = await refusal(PartnerUnavailable, coalition.held(*TICKET))
    assert said == {"merchant": "M05", "retry_after_seconds": wait}


async def test_a_new_price_is_quoted_for_what_was_asked(coalition: Coalition) -> None:
    partner = coalition.partners["M05"]
    quote = await coalition.quote(*TICKET, quantity=2, cash_fen=1_000)

    async def dearer(*_: object, **__: object) -> Reservation:
        partner.prices["XH-01"] = 4_700
        raise PriceChanged(new_list_fen=9_400)

    partner.hold = dearer
    said = await refusal(
        PriceChanged, coalition.redemptions.hold(member_id=MEMBER, quote_id=quote.id, key="h")
    )
    assert (said["old_points"], said["new_points"]) == (8_000, 8_400)
    async with coalition.database.reading() as tx:
        again = await quotes.quote(tx, said["new_quote"])
    names = ("member_id", "offer_id", "slot", "quantity", "bill_fen", "cash_fen")
    assert [getattr(again, name) for name in names] == [getattr(quote, name) for name in names]
    assert (again.list_fen, [leg.programme_id for leg in again.legs]) == (9_400, ["P-LL"])


async def test_a_new_price_changes_the_last_leg_only(coalition: Coalition) -> None:
    partner = coalition.partners["M07"]
    legs = (("P-LL", 8_000), ("P-KX", None))
    quote = await coalition.quote("mbr_demo_07", "KX-03", *legs)

    async def dearer(*_: object, **__: object) -> Reservation:
        partner.prices["KX-03"] = 12_500
        raise PriceChanged(new_list_fen=12_500)

    partner.hold = dearer
    hold = coalition.redemptions.hold(member_id="mbr_demo_07", quote_id=quote.id, key="h")
    said = await refusal(PriceChanged, hold)
    assert (said["old_points"], said["new_points"]) == (4_000, 4_500)
    async with coalition.database.reading() as tx:
        again = await quotes.quote(tx, said["new_quote"])
    assert [(leg.programme_id, leg.points) for leg in again.legs] == [
        ("P-LL", 8_000), ("P-KX", 4_500)
    ]  # fmt: skip


async def test_what_is_redeemed_at_once_may_meet_a_new_price(coalition: Coalition) -> None:
    partner, hold = coalition.partners["M05"], coalition.partners["M05"].hold

    async def dearer(*_: object, **__: object) -> Reservation:
        partner.prices["XH-01"] = 4_700
        raise PriceChanged(new_list_fen=4_700)

    partner.hold = dearer
    said = await refusal(PriceChanged, redeem(coalition))
    assert (said["old_points"], said["new_points"]) == (4_500, 4_700)
    partner.hold = hold
    accepted = {"member_id": MEMBER, "quote_id": said["new_quote"], "key": "n"}
    held, _ = await coalition.redemptions.hold(**accepted)
    assert (held.state, held.points) == (State.HELD, 4_700)


@pytest.mark.parametrize("worker", [False, True])
async def test_what_was_not_confirmed_with_its_hold_is_confirmed_after_it(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch, worker: bool
) -> None:
    """Another was first to move it, or the worker confirms it even now: once, in any case."""
    hold_to_confirm = expected.hold_to_confirm

    async def not_at_once(*_: object, **__: object) -> None:
        return None

    async def then(*given: Any) -> Any:
        found = await hold_to_confirm(*given)
        if worker:
            await coalition.work()
        return found

    monkeypatch.setattr(expected, "held_to_confirming", not_at_once)
    monkeypatch.setattr(expected, "hold_to_confirm", then)
    done, replayed = await redeem(coalition)
    assert (done.state, replayed) == (State.COMMITTED, False)
    verbs = [verb for verb, _ in coalition.partners["M05"].calls]
    assert verbs.count("hold") == verbs.count("confirm") == 1
    assert await coalition.wallet(MEMBER, "P-LL") == (15_500, 0)


def test_what_is_at_hand_is_bounded() -> None:
    kept: OrderedDict[str, int] = OrderedDict()
    for number in range(KEPT + 1):
        _keep(kept, str(number), number)
    assert list(kept.values()) == list(range(1, KEPT + 1))


# -- cancellations and tills ----------------------------------------------------------------------


async def test_what_gives_nothing_back_is_not_cancelled(coalition: Coalition) -> None:
    saga, done = coalition.redemptions, await coalition.redeemed(*TICKET)
    mine: dict[str, Any] = {"member_id": MEMBER, "redemption_id": done.id}

    async def offered(booking_ref: str) -> CancelQuote:
        until = MORNING + timedelta(hours=2)
        return CancelQuote(f"cq/{booking_ref}", False, 700, MORNING + timedelta(minutes=1), until)

    coalition.partners["M05"].cancel_quote = offered
    quote = await saga.cancel_quote(**mine)
    assert (quote.refundable, quote.fee_fen) == (False, 700)
    assert (quote.until, quote.expires_at) == (MORNING + timedelta(hours=2), MORNING + 60 * SECOND)
    said = await refusal(CancelTooLate, saga.cancel(**mine, cancel_quote_id=quote.id, key="c"))
    assert said == {"until": "2026-11-20T03:00:00+00:00"}
    assert (await coalition.get(done)).state is State.COMMITTED


async def test_what_is_in_doubt_is_not_cancelled_again(coalition: Coalition) -> None:
    saga, done = coalition.redemptions, await coalition.redeemed(*TICKET)
    mine: dict[str, Any] = {"member_id": MEMBER, "redemption_id": done.id}
    first, second = [await saga.cancel_quote(**mine) for _ in range(2)]
    coalition.partners["M05"].script["cancel"] = ["lost_before"]
    await saga.cancel(**mine, cancel_quote_id=first.id, key="c")
    again = saga.cancel(**mine, cancel_quote_id=second.id, key="d")
    said = await refusal(HoldAlreadyResolved, again)
    assert said == {"hold": done.id, "state": "IN_DOUBT"}
    stranger = saga.cancel(**mine | {"member_id": STRANGER}, cancel_quote_id=first.id, key="e")
    assert await refusal(NotFound, stranger) == {"id": done.id}


async def test_a_voucher_is_taken_on_its_last_day(coalition: Coalition) -> None:
    saga, done = coalition.redemptions, await coalition.redeemed(*TICKET)
    till: dict[str, Any] = {"merchant_id": "M05", "code": "C0000001", "holder": MEMBER}
    today = business_day(MORNING)
    v = store.vouchers
    for last_on in (today - timedelta(days=1), today):
        async with coalition.database.transaction() as tx:
            mine = sa.update(v).where(v.c.redemption_id == done.id)
            await tx.execute(mine.values(last_on=last_on))
        if last_on < today:
            said = await refusal(VoucherExpired, saga.verify_voucher(**till, key="v"))
            assert said == {"voucher": "C0000001", "last_on": "2026-11-19"}
    used, _ = await saga.verify_voucher(**till, key="v")
    assert (used.state, used.fulfilled_at) == (State.FULFILLED, MORNING)


async def test_a_fare_below_nothing_is_refused(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    used: dict[str, Any] = {"merchant_id": "M05", "redemption_id": done.id, "key": "f"}
    with pytest.raises(InvalidAmount) as refused:
        await coalition.redemptions.record_fulfilment(**used, final_fare_fen=-1)
    assert refused.value.field == ("final_fare_fen",)
    nothing, _ = await coalition.redemptions.record_fulfilment(**used, final_fare_fen=0)
    assert (nothing.state, nothing.final_fare_fen) == (State.FULFILLED, None)


async def test_what_nobody_used_on_its_day_is_overdue(coalition: Coalition) -> None:
    done = [await coalition.redeemed(*TICKET) for _ in range(4)]
    slots = ["2026-11-21T19:30+08:00", "2026-11-21T10:00+08:00", "2026-11-22T10:00+08:00", None]
    r = store.redemptions
    async with coalition.database.transaction() as tx:
        for one, slot in zip(done, slots, strict=True):
            await tx.execute(sa.update(r).where(r.c.id == one.id).values(slot=slot))

    async def overdue() -> set[str]:
        async with coalition.database.reading() as tx:
            day = business_day(MORNING) + timedelta(days=1)
            return {one.id for one in await redemptions.overdue(tx, slot_on=day)}

    assert await overdue() == {done[0].id, done[1].id}
    used = {"merchant_id": "M05", "redemption_id": done[0].id, "final_fare_fen": None}
    await coalition.redemptions.record_fulfilment(**used, key="f")
    assert await overdue() == {done[1].id}


# -- webhooks that cannot be applied --------------------------------------------------------------


async def test_a_webhook_that_cannot_be_applied_now_is_kept(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, inbox = await coalition.redeemed(*TICKET), coalition.redemptions.inbox
    body = {"id": "e1", "kind": "booking.fulfilled", "version": 2}
    body |= {"op_key": done.op_key(Step.CONFIRM)}

    async def busy(**_: object) -> int:
        raise OperationalError("busy", {}, Exception())

    with monkeypatch.context() as patched:
        patched.setattr(inbox, "apply_stored", busy)
        assert await inbox.receive("M05", "e1", body)
        assert not await inbox.receive("M05", "e1", body)  # Known, and not stored twice.
    assert (await coalition.get(done)).state is State.COMMITTED
    assert await inbox.apply_stored(limit=5) == 1
    assert (await coalition.get(done)).state is State.FULFILLED


async def test_a_webhook_that_breaks_is_noted_and_stops_no_other(coalition: Coalition) -> None:
    done, inbox = await coalition.redeemed(*TICKET), coalition.redemptions.inbox
    partner = coalition.partners["M05"]
    read = partner.event

    def event(body: Any) -> Any:
        if body["id"] == "e1":
            raise KeyError("kind")
        return read(body)

    partner.event = event
    for name in ("e1", "e2"):
        body = {"id": name, "kind": "booking.fulfilled", "version": 2}
        await inbox.receive("M05", name, body | {"op_key": done.op_key(Step.CONFIRM)})
    assert (await coalition.get(done)).state is State.FULFILLED
    for _ in range(4):  # It may be applied yet.
        coalition.clock.forward(seconds=8)
        assert await inbox.apply_stored(limit=5) == 0
    e = store.events.c
    async with coalition.database.reading() as tx:
        rows = list(await tx.execute(sa.select(store.events).order_by(e.event_id)))
    assert [(row.outcome, row.redemption_id, row.applied_at, row.use_version) for row in rows] == [
        ("failed: KeyError('kind')", None, MORNING + 32 * SECOND, None),
        ("applied", done.id, MORNING, 2),
    ]  # fmt: skip


# -- what is left to be done ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("booked", "code"),
    [
        (Outcome.CONFIRMED, "LATE_CONFIRM_UNCOVERED"),
        (Outcome.CANCELLED, "LATE_CONFIRM_CANCELLED"),
    ],
)
async def test_a_late_booking_that_cannot_be_cancelled_is_told_to_finance(
    coalition: Coalition, booked: Outcome, code: str
) -> None:
    held, partner = await coalition.held(*TICKET), coalition.partners["M05"]
    partner.script["cancel_quote"] = ["reject"]
    op_key = held.op_key(Step.CONFIRM)
    partner.operations[op_key] = Fact(op_key, booked, 2, "b/9")
    aftermath = coalition.redemptions.aftermath
    watched = Watched(partner)
    aftermath.partners = {"M05": watched}
    await aftermath.cancel_late({"redemption": held.id, "booking_ref": "b/9"})
    assert watched.seen == [("status", True), ("cancel_quote", True), ("status", True)]
    async with coalition.database.reading() as tx:
        (found,) = await redemptions.findings(tx)
    assert (found.code, found.redemption_id, found.found_at) == (code, held.id, MORNING)
    assert found.detail == str(CancelTooLate(until=MORNING))


async def test_a_late_booking_is_cancelled_past_what_is_held_back(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    aftermath = coalition.redemptions.aftermath
    watched = Watched(coalition.partners["M05"])
    aftermath.partners = {"M05": watched}
    for _ in range(2):  # The second time it is only asked about.
        await aftermath.cancel_late({"redemption": held.id, "booking_ref": "b/9"})
    verbs = [("status", True), ("cancel_quote", True), ("cancel", True), ("status", True)]
    assert watched.seen == verbs
    async with coalition.database.reading() as tx:
        (found,) = await redemptions.findings(tx)
    assert (found.code, found.detail) == ("LATE_CONFIRM_CANCELLED", "b/9 cancelled")


# -- an old view ----------------------------------------------------------------------------------


async def test_who_comes_with_an_old_view_asks_and_changes_nothing(coalition: Coalition) -> None:
    """A worker whose lease has run out: what it does is decided by the row as it is now."""
    saga, partner = coalition.redemptions.saga, coalition.partners["M05"]
    held = await coalition.held(*TICKET)
    done = await coalition.confirm(held)
    ways = Ways(coalition)
    ways.script(cancel="lost_after", status="not_sent")
    cancelling = await coalition.redeemed(*TICKET)
    await ways.cancel(cancelling)
    in_doubt = await coalition.get(cancelling)
    await coalition.work(seconds=2)
    await coalition.work(seconds=5)
    cancelled = await coalition.get(cancelling)
    assert (in_doubt.state, cancelled.state) == (State.IN_DOUBT, State.CANCELLED)
    del partner.operations[in_doubt.op_key(Step.CANCEL)]
    before = len(partner.calls)

    doubting = replace(done, state=State.IN_DOUBT, doubt=Step.CONFIRM, doubt_since=MORNING)
    releasing = replace(done, state=State.RELEASING, hold_ref=None)
    await saga._resend(doubting, Step.CONFIRM)
    await saga._held(held)
    assert await saga.tell_released(releasing) == done
    assert await saga.fence(done) == done
    assert len(partner.calls) == before
    await saga._poll_cancel(in_doubt)
    assert [verb for verb, _ in partner.calls[before:]] == ["status"]
    assert await coalition.get(done) == done
    assert await coalition.get(cancelling) == cancelled


async def test_what_was_never_held_has_nothing_to_be_told(coalition: Coalition) -> None:
    coalition.partners["M05"].script["hold"] = ["not_sent"]
    quote = await coalition.quote(*TICKET)
    with pytest.raises(PartnerUnavailable):
        await coalition.redemptions.hold(member_id=MEMBER, quote_id=quote.id, key="h")
    r = store.redemptions
    async with coalition.database.transaction() as tx:
        found = await tx.scalar(sa.select(r.c.id))
        mine = sa.update(r).where(r.c.id == found)
        await tx.execute(mine.values(state="RELEASING", released_at=None, due_at=MORNING))
    before = len(coalition.partners["M05"].calls)
    coalition.clock.forward(seconds=9)
    await coalition.redemptions.drive(found)
    async with coalition.database.reading() as tx:
        ended: Redemption = await redemptions.redemption(tx, found)
    assert (ended.state, ended.released_at) == (State.RELEASED, coalition.clock.now())
    assert len(coalition.partners["M05"].calls) == before


@pytest.mark.parametrize(
    ("word", "refused"), [("reject", PartnerRejected), ("not_sent", PartnerUnavailable)]
)
async def test_a_no_that_the_worker_heard_is_told_to_who_waits_for_it(
    coalition: Coalition, word: str, refused: type[Exception]
) -> None:
    cinema, gate = coalition.partners["M05"], asyncio.Event()
    late = cinema.hold

    async def hold(*args: Any, **more: Any) -> Reservation:
        made = await late(*args, **more)
        await gate.wait()
        return made

    cinema.hold = hold
    cinema.script["confirm"] = [word]
    asked = asyncio.create_task(redeem(coalition))
    while not cinema.effects:
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        while (await _only(coalition)).state is not State.RELEASED:
            await coalition.work(seconds=1)  # It finds the hold, confirms, and hears the no.
    gate.set()
    with pytest.raises(refused) as first:
        await asked
    with pytest.raises(refused) as again:
        await redeem(coalition)
    assert again.value.context == first.value.context
    assert (first.value.replayed, again.value.replayed) == (False, True)
    assert await coalition.wallet(MEMBER, "P-LL") == (20_000, 0)


async def _only(coalition: Coalition) -> Redemption:
    """The one redemption there is."""
    async with coalition.database.reading() as tx:
        name = await tx.scalar(sa.text("SELECT id FROM redemptions"))
        return await redemptions.redemption(tx, str(name))
