"""What is special to rides: estimates that are holds, confirmation later, a final fare."""

import json
from collections.abc import AsyncIterator
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.errors import PartnerRejected
from gateway.ports import Claim, EventKind, HoldExpired, Outcome, SlotFull
from tests.support.offers import offer
from tests.support.stands import (
    WEBHOOK_SECRET,
    Listener,
    Stand,
    at,
    settled,
    standing,
    told,
)

OFFERS = [
    offer("KX-01", 1_000, "coupon", coupon={"off_fen": 1_000, "valid_at": "M07", "once": True}),
    offer("KX-03", 12_000, "service", slots="pickup", pricing="estimate"),
]
MORNING = at("2026-11-21T09:05:00")
TEN = "2026-11-22T10:00:00+08:00"


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def rides(tmp_path: Path, listener: Listener) -> AsyncIterator[Stand]:
    async with standing(
        "rides", tmp_path, offers=OFFERS, now=MORNING, merchant="M07", listener=listener
    ) as stand:
        yield stand


async def test_the_feed_says_what_is_estimated(rides):
    coupon, ride = (await rides.partner.list_offers(None)).offers

    assert (coupon.kind, ride.kind) == ("coupon", "service")
    assert coupon.attributes["coupon"] == OFFERS[0]["coupon"]
    assert "pricing" not in coupon.attributes
    assert ride.attributes["pricing"] == "estimate"
    assert ride.attributes["slots"] == "pickup"


async def test_an_estimate_is_its_own_hold_and_ends_with_itself(rides):
    estimate = await rides.quote("KX-03", slot=TEN)
    held = await rides.hold(estimate)

    assert held.hold_ref == estimate.id
    assert held.expires_at == estimate.expires_at == MORNING + timedelta(minutes=5)
    rides.clock.now = estimate.expires_at
    with pytest.raises(HoldExpired):
        await rides.confirm(held)


async def test_pickups_come_every_quarter_with_six_cars(rides):
    (row,) = await rides.partner.live(["KX-03"], on=date(2026, 11, 22))
    starts = [slot.starts_at for slot in row.slots]
    assert len(starts) == 96
    assert {later - earlier for earlier, later in pairwise(starts)} == {timedelta(minutes=15)}
    assert {slot.left for slot in row.slots} == {6}

    for number in range(6):
        await rides.hold(await rides.quote("KX-03", slot=TEN), red=f"red_{number}")

    with pytest.raises(SlotFull) as full:
        await rides.quote("KX-03", slot=TEN)
    assert full.value.context["slot"] == TEN


async def test_a_confirm_is_decided_later_and_told_by_poll(rides):
    held = await rides.hold(await rides.quote("KX-03", slot=TEN))

    first = await rides.confirm(held)
    assert (first.outcome, first.version) == (Outcome.IN_FLIGHT, 0)
    assert first.artefacts == {}
    again = await rides.confirm(held)
    assert again.booking_ref == first.booking_ref

    fact = await settled(rides, "red_1:confirm:1")
    assert (fact.outcome, fact.version) == (Outcome.CONFIRMED, 1)
    assert fact.artefacts["trip_id"] == fact.booking_ref == first.booking_ref
    assert fact.artefacts["pickup"] == TEN
    assert (await rides.confirm(held)).outcome is Outcome.CONFIRMED


async def test_a_confirm_is_told_by_a_signed_webhook_once_decided(rides, listener):
    fact = await rides.redeem("KX-01")
    assert fact.outcome is Outcome.IN_FLIGHT

    event = await told(rides, listener, 1)

    assert (event.kind, event.op_key, event.version) == (
        EventKind.CONFIRMED,
        "red_1:confirm:1",
        1,
    )
    assert len(event.artefacts["code"]) == 6
    headers, raw = listener.taken[0]
    assert Webhook(WEBHOOK_SECRET).verify(raw, headers)["id"] == event.event_id
    assert headers["webhook-id"] == event.event_id
    with pytest.raises(WebhookVerificationError):
        Webhook(WEBHOOK_SECRET).verify(raw + b" ", headers)
    assert (await rides.partner.status("red_1:confirm:1")).version == event.version


async def test_a_webhook_is_sent_until_it_is_taken(rides, listener):
    listener.answers += [500, 503]
    await rides.redeem("KX-01")

    await told(rides, listener, 3)

    assert len({headers["webhook-id"] for headers, _ in listener.taken}) == 1
    assert len({raw for _, raw in listener.taken}) == 1


async def test_no_car_is_a_no_told_later(rides, listener):
    await rides.fault("sold_out", offer_id="KX-03", verb="confirm", count=1)
    await rides.redeem("KX-03", slot=TEN)

    event = await told(rides, listener, 1)

    assert event.kind is EventKind.REJECTED
    assert (await rides.partner.status("red_1:confirm:1")).outcome is Outcome.REJECTED
    (row,) = await rides.partner.live(["KX-03"], on=date(2026, 11, 22))
    assert {slot.left for slot in row.slots} == {6}


async def test_a_fence_decides_a_request_that_is_in_flight(rides, listener):
    await rides.fault("confirm_pending", offer_id="KX-03", count=1)
    held = await rides.hold(await rides.quote("KX-03", slot=TEN))
    assert (await rides.confirm(held)).outcome is Outcome.IN_FLIGHT

    assert (await rides.partner.fence("red_1:confirm:1")).outcome is Outcome.FENCED

    with pytest.raises(PartnerRejected):
        await rides.confirm(held)
    assert (await rides.partner.status("red_1:confirm:1")).outcome is Outcome.FENCED
    assert listener.taken == []


async def test_a_fence_after_the_decision_changes_nothing(rides):
    fact = await rides.redeem("KX-01")
    await settled(rides, "red_1:confirm:1")

    fenced = await rides.partner.fence("red_1:confirm:1")

    assert (fenced.outcome, fenced.booking_ref) == (Outcome.CONFIRMED, fact.booking_ref)


async def test_a_lower_final_fare_is_taken_off_the_last_leg_first(rides, listener):
    claims = [Claim("M04", 8_000), Claim("M07", 4_000)]
    fact = await rides.redeem("KX-03", slot=TEN, claims=claims)
    await told(rides, listener, 1)
    rides.clock.now = at("2026-11-22T10:52:00")
    for _ in range(2):  # The second time only tells again.
        await rides.event("fulfil", fact.booking_ref, final_fare_fen=7_500)

    event = await told(rides, listener, 2)
    assert (event.kind, event.final_fare_fen, event.version) == (EventKind.FULFILLED, 7_500, 2)
    await told(rides, listener, 3)
    bodies = [json.loads(raw)["data"] for _, raw in listener.taken[1:]]
    assert bodies[0] == bodies[1]
    rides.clock.now = at("2026-11-23T01:00:00")
    statement = await rides.partner.statement(date(2026, 11, 22))
    assert [(line.type, line.issuer, line.amount_fen) for line in statement.lines] == [
        ("REDEMPTION", "M04", 7_200),
        ("REVERSAL", "M04", -450),
    ]
    assert (statement.trailer_count, statement.trailer_sum_fen) == (2, 6_750)


async def test_a_ride_can_be_withdrawn_until_a_day_before(rides):
    fact = await rides.redeem("KX-03", slot=TEN)
    await settled(rides, "red_1:confirm:1")

    cancelled = await rides.cancel(fact)

    assert cancelled.outcome is Outcome.CANCELLED
    assert (await rides.partner.status("red_1:confirm:1")).outcome is Outcome.CANCELLED


async def test_what_is_to_be_decided_survives_a_restart(tmp_path, listener):
    more = {"offers": OFFERS, "now": MORNING, "merchant": "M07", "listener": listener}
    async with standing("rides", tmp_path, **more) as rides:
        await rides.redeem("KX-03", slot=TEN)
    async with standing("rides", tmp_path, **more) as rides:
        event = await told(rides, listener, 1)
        assert event.kind is EventKind.CONFIRMED
        fact = await rides.partner.status("red_1:confirm:1")
        assert fact.outcome is Outcome.CONFIRMED
