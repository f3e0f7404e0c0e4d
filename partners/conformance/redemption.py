"""Group C: redemption, also when things go wrong."""

import asyncio
from datetime import datetime, timedelta
from typing import cast

from gateway.errors import OutcomeUnknown, PartnerRejected
from gateway.ports import (
    Capability,
    HoldExpired,
    Listing,
    LiveOffer,
    Operation,
    Outcome,
    PriceChanged,
    QuoteRequest,
    Slot,
    SlotFull,
    SoldOut,
)
from partners.conformance import Box, Skip, check

SLOTS = Capability.SLOTS
BUYERS = 20


@check(
    "CF-C01",
    "询价→占用→确认→查询",
    "quote → hold → confirm → status",
    hint="status answers by our op key, with the same booking and version as the confirm",
)
async def redeems(box: Box) -> None:
    quote, redemption, fact = await box.booked()
    assert quote.list_fen > 0, "the price is not positive"
    assert quote.expires_at > box.now, "the quote had expired when it came"
    assert fact.outcome is Outcome.CONFIRMED, f"confirm answered {fact.outcome}"
    assert fact.booking_ref, "no booking_ref"
    asked = await box.partner.status(f"{redemption}:confirm:1")
    assert asked.outcome is Outcome.CONFIRMED, f"status answered {asked.outcome}"
    assert (asked.booking_ref, asked.version) == (fact.booking_ref, fact.version)
    never = await box.partner.status(box.key("confirm"))
    assert never.outcome is Outcome.NOT_FOUND, f"a key never used is {never.outcome}"


@check(
    "CF-C02",
    "同一键两次只出一张券",
    "same key twice = one voucher",
    hint="keep the answer with the op key, in the transaction of its effect",
)
async def same_key_books_once(box: Box) -> None:
    quote = await box.quote()
    key = box.key("hold")
    first, again = [
        await box.partner.hold(quote.id, op_key=key, ttl_seconds=600, claims=box.claims(quote))
        for _ in range(2)
    ]
    assert again == first, "the second hold is another one"
    confirm = box.key("confirm")
    facts = await asyncio.gather(
        *(
            box.partner.confirm(
                first.hold_ref,
                op_key=confirm,
                deadline=box.now + timedelta(seconds=30),
                gateway_ref=confirm.split(":")[0],
            )
            for _ in range(2)
        )
    )
    assert facts[0].booking_ref == facts[1].booking_ref, "two bookings under one key"
    first_told, again_told = [await box.decided(fact) for fact in facts]
    assert first_told.artefacts == again_told.artefacts, "two vouchers under one key"


@check(
    "CF-C03",
    "同一键不同内容为冲突",
    "same key, other body = conflict",
    hint="keep a fingerprint of the body; refuse another one as CONFLICT_KEY, without effect",
)
async def same_key_other_body_conflicts(box: Box) -> None:
    key, quote, other = box.key("hold"), await box.quote(), await box.quote()
    held = await box.partner.hold(quote.id, op_key=key, ttl_seconds=600, claims=box.claims(quote))
    try:
        await box.partner.hold(other.id, op_key=key, ttl_seconds=600, claims=box.claims(other))
    except OutcomeUnknown:
        fact = await box.partner.status(key)
        assert fact.hold_ref == held.hold_ref, "the first hold was replaced"
        return
    raise AssertionError("the key was taken again for another quote")


@check(
    "CF-C04",
    "占用到期释放库存",
    "hold expires and frees stock",
    hint="give places back when hold_expires_at has passed, before selling or showing any",
    needs=SLOTS,
)
async def expiry_frees_stock(box: Box) -> None:
    live, slot = await box.offer(slotted=True)
    assert slot is not None
    quote = await box.partner.quote(QuoteRequest(live.offer_id, slot.id, 1, None, box.member()))
    redemption, held = await box.held(quote, ttl_seconds=60)
    assert await box.left(live.offer_id, slot) == slot.left - 1, "the hold took no place"
    box.travel_to(held.expires_at)
    assert await box.left(live.offer_id, slot) == slot.left, "the place did not come back"
    fact = await box.partner.status(f"{redemption}:hold:1")
    assert fact.outcome is Outcome.RELEASED, f"the hold is {fact.outcome}"


@check(
    "CF-C05",
    "使用前两步取消",
    "cancel before use, in two steps",
    hint="cancel_quote says what comes back; cancel does it and frees the place",
)
async def cancels_in_two_steps(box: Box) -> None:
    _, redemption, fact = await box.booked()
    assert fact.booking_ref
    offered = await box.partner.cancel_quote(fact.booking_ref)
    assert offered.refundable, "a booking within its limit is not refundable"
    still = await box.partner.status(f"{redemption}:confirm:1")
    assert still.outcome is Outcome.CONFIRMED, "asking alone cancelled it"
    gone = await box.partner.cancel(offered.id, op_key=f"{redemption}:cancel:1")
    assert gone.outcome is Outcome.CANCELLED, f"cancel answered {gone.outcome}"
    assert gone.version > fact.version, "the version did not rise"
    for step in ("confirm", "cancel"):
        told = await box.partner.status(f"{redemption}:{step}:1")
        assert told.outcome is Outcome.CANCELLED, f"status of {step} is {told.outcome}"


@check(
    "CF-C06",
    "重复取消结果相同",
    "cancel twice = same answer",
    hint="the same op key gives the first answer again",
)
async def cancels_once(box: Box) -> None:
    _, redemption, fact = await box.booked()
    assert fact.booking_ref
    offered = await box.partner.cancel_quote(fact.booking_ref)
    key = f"{redemption}:cancel:1"
    first = await box.partner.cancel(offered.id, op_key=key)
    again = await box.partner.cancel(offered.id, op_key=key)
    assert again == first, "the second answer is another one"


@check(
    "CF-C07",
    "占用过期后确认被拒",
    "confirm after expiry refused",
    hint="look at the hold's time in the transaction that books",
)
async def refuses_after_expiry(box: Box) -> None:
    redemption, held = await box.held(await box.quote(), ttl_seconds=60)
    box.travel_to(held.expires_at)
    try:
        await box.confirmed(redemption, held)
    except HoldExpired:
        return
    raise AssertionError("an expired hold was confirmed")


@check(
    "CF-C08",
    "超过截止时间的确认被拒",
    "confirm after deadline refused",
    hint="refuse when `deadline` has passed at your side, and let the hold go",
)
async def refuses_after_deadline(box: Box) -> None:
    redemption, held = await box.held(await box.quote())
    key = f"{redemption}:confirm:1"
    try:
        await box.partner.confirm(
            held.hold_ref,
            op_key=key,
            deadline=box.now - timedelta(seconds=120),
            gateway_ref=redemption,
        )
    except PartnerRejected:
        fact = await box.partner.status(key)
        assert fact.outcome in (Outcome.REJECTED, Outcome.NOT_FOUND), f"status is {fact.outcome}"
        return
    raise AssertionError("a confirm after its deadline was taken")


@check(
    "CF-C09",
    "作废后的确认被拒",
    "fence: a later confirm is refused",
    hint="keep fences for ever and look at them first; fencing a hold's key lets it go",
)
async def fences_for_ever(box: Box) -> None:
    redemption, held = await box.held(await box.quote())
    for _ in range(2):
        fact = await box.partner.fence(f"{redemption}:confirm:1")
        assert fact.outcome is Outcome.FENCED, f"fence answered {fact.outcome}"
    try:
        await box.confirmed(redemption, held)
    except PartnerRejected:
        pass
    else:
        raise AssertionError("a fenced confirm took effect")
    released = await box.partner.fence(f"{redemption}:hold:1")
    assert released.outcome is Outcome.FENCED, f"fencing a hold answered {released.outcome}"
    _, other, booked = await box.booked()
    kept = await box.partner.fence(f"{other}:confirm:1")
    assert kept.outcome is Outcome.CONFIRMED, "a confirmed booking was fenced"
    assert kept.booking_ref == booked.booking_ref


@check(
    "CF-C10",
    "超时后查询说真话",
    "timeout, then status tells the truth",
    hint="commit the answer with the effect; then a lost answer can be asked for",
)
async def tells_the_truth_after_a_timeout(box: Box) -> None:
    hand = box.hand()
    for when, truth in (("after", Outcome.CONFIRMED), ("before", Outcome.NOT_FOUND)):
        member = box.member()
        fault = f"confirm_times_out_{when}_effect"
        await hand.fault(box.merchant, fault, member_ref=member, count=1)
        redemption, held = await box.held(await box.quote(member_ref=member))
        try:
            await box.confirmed(redemption, held)
        except OutcomeUnknown:
            pass
        else:
            raise AssertionError("a lost answer was read")
        fact = await box.decided(await box.partner.status(f"{redemption}:confirm:1"))
        assert fact.outcome is truth, f"lost {when} the effect, status is {fact.outcome}"
        again = await box.confirmed(redemption, held)
        assert again.outcome is Outcome.CONFIRMED, "the same key could not be sent again"


@check(
    "CF-C11",
    "20个并发占用 / 10个座位",
    "20 parallel holds on 10 seats = 10",
    hint="take places by a conditional update at hold: UPDATE … WHERE left > 0",
    needs=SLOTS,
)
async def never_oversells(box: Box) -> None:
    live, slot = await box.offer(slotted=True)
    assert slot is not None
    seats = max(1, slot.left // 10)
    places = slot.left // seats
    if places >= BUYERS:
        raise Skip(f"a slot with fewer than {BUYERS} places is needed")

    async def buy() -> str | None:
        request = QuoteRequest(live.offer_id, slot.id, seats, None, box.member())
        quote = quotes.pop() if quotes else await box.partner.quote(request)
        try:
            return (await box.held(quote))[0]
        except (SlotFull, SoldOut):
            return None

    quotes = [
        await box.partner.quote(QuoteRequest(live.offer_id, slot.id, seats, None, box.member()))
        for _ in range(BUYERS)
    ]
    bought = [one for one in await asyncio.gather(*(buy() for _ in range(BUYERS))) if one]
    left = await box.left(live.offer_id, slot)
    for redemption in bought:
        await box.partner.fence(f"{redemption}:hold:1")
    if left == slot.left - len(bought) and len(bought) == BUYERS and seats > 1:
        raise Skip("quantity is no number of places here")
    assert len(bought) == places, f"{len(bought)} of {BUYERS} got one of {places} places"
    assert await box.left(live.offer_id, slot) == slot.left, "released places did not come back"


@check(
    "CF-C12",
    "价格变化被告知",
    "price change noticed",
    hint="answer PRICE_CHANGED with the new list price; never book at another price than quoted",
)
async def tells_a_price_change(box: Box) -> None:
    hand, member = box.hand(), box.member()
    quote = await box.quote(member_ref=member)
    new = quote.list_fen + 300
    await hand.fault(box.merchant, "price_change", member_ref=member, value=new, count=1)
    try:
        await box.held(quote)
    except PriceChanged as changed:
        assert changed.context["new_list_fen"] == new, "the new price is not told"
        return
    raise AssertionError("the old price was held")


@check(
    "CF-C13",
    "全有或全无,不部分满足",
    "partial fill refused when all-or-nothing",
    hint="take all places or none",
    needs=SLOTS,
)
async def never_fills_in_part(box: Box) -> None:
    live, slot = await box.offer(slotted=True)
    assert slot is not None
    too_many = slot.left + 1
    if await _sells(box, live.offer_id, slot, too_many):
        await _fills_no_stay_in_part(box, live, slot)
    else:
        assert await box.left(live.offer_id, slot) == slot.left, "a part was taken"


async def _fills_no_stay_in_part(box: Box, live: LiveOffer, first: Slot) -> None:
    """Where a quantity is nights in a row: the second one is full, so none is taken."""
    following = [slot for slot in live.slots if slot.starts_at > first.starts_at]
    if not following:
        raise Skip("no second night is on sale")
    second, taken = following[0], []
    for _ in range(second.left):
        request = QuoteRequest(live.offer_id, second.id, 1, None, box.member())
        taken.append((await box.held(await box.partner.quote(request)))[0])
    sold = await _sells(box, live.offer_id, first, 2)
    left = await box.left(live.offer_id, first)
    for redemption in taken:
        await box.partner.fence(f"{redemption}:hold:1")
    assert not sold, "a stay was sold of which one night is full"
    assert left == first.left, "a part of the stay was taken"


async def _sells(box: Box, offer_id: str, slot: Slot, quantity: int) -> bool:
    """Whether so many are sold; what was, is given back."""
    try:
        request = QuoteRequest(offer_id, slot.id, quantity, None, box.member())
        redemption, _ = await box.held(await box.partner.quote(request))
    except (SlotFull, SoldOut):
        return False
    await box.partner.fence(f"{redemption}:hold:1")
    return True


@check(
    "CF-C14",
    "凭证可查",
    "voucher lookup",
    hint="status gives the artefacts of a confirm again: code, seat, confirmation number …",
)
async def finds_the_voucher_again(box: Box) -> None:
    _, redemption, fact = await box.booked()
    assert fact.artefacts, "the confirm gave nothing to show"
    found = await box.partner.status(f"{redemption}:confirm:1")
    assert found.artefacts == fact.artefacts, "the voucher is another one"


@check(
    "CF-C15",
    "可列出某时刻以来的操作(可选)",
    "operations since an instant are listed (optional)",
    hint="list every op key of hold, confirm and cancel with what is true of it now, by pages",
    needs=Capability.OPERATIONS,
)
async def lists_what_it_holds(box: Box) -> None:
    since = box.now - timedelta(seconds=1)
    _, booked, fact = await box.booked()
    held, _ = await box.held(await box.quote())
    await box.partner.fence(f"{held}:hold:1")
    listed = {each.fact.op_key: each for each in await _listed(box, since)}
    confirm = listed.get(f"{booked}:confirm:1")
    assert confirm is not None, "a confirm is not listed"
    assert confirm.fact.outcome is Outcome.CONFIRMED, f"a booking is {confirm.fact.outcome}"
    assert confirm.fact.booking_ref == fact.booking_ref, "another booking is named"
    assert confirm.gateway_ref == booked, "the gateway's reference is not named"
    hold = listed.get(f"{held}:hold:1")
    assert hold is not None, "a hold is not listed"
    assert hold.fact.outcome is Outcome.FENCED, f"a fenced hold is {hold.fact.outcome}"
    later = await _listed(box, box.now + timedelta(days=1))
    assert not {each.fact.op_key for each in later} & listed.keys(), "since is not looked at"


async def _listed(box: Box, since: datetime) -> list[Operation]:
    """Every page."""
    found: list[Operation] = []
    cursor: str | None = None
    while True:
        page = await cast("Listing", box.partner).operations(since, cursor)
        found += page.operations
        if not page.more:
            return found
        assert page.cursor != cursor, "the cursor does not move on"
        cursor = page.cursor
