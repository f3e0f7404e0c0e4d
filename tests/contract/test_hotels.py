"""What is special to hotels: nights all or none, upgrades of paid stays, folios, problems."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest

from gateway.errors import PartnerRejected
from gateway.ports import CancelTooLate, Claim, EventKind, Outcome, SlotFull
from tests.support.offers import offer
from tests.support.stands import Listener, Stand, at, standing, told

OFFERS = [
    offer("YQ-01", 50_000, "night", slots="rooms", part_payment=False),
    offer("YQ-02", 20_000, "upgrade", slots="rooms", needs="paid standard-room booking"),
    offer("YQ-03", 100, "offset", offset_unit={"points": 60, "fen": 100}),
    offer("YQ-04", 6_800, "voucher"),
    offer("YQ-07", 150_000, "night", slots="rooms", high_value=True),
]
MORNING = at("2026-11-20T09:00:00")
ROOMS = {"rooms": {"per": "night", "standard": 2, "deluxe": 1}}


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def hotel(tmp_path: Path, listener: Listener) -> AsyncIterator[Stand]:
    """A hotel of two standard rooms and one deluxe room."""
    async with standing(
        "hotels", tmp_path, offers=OFFERS, now=MORNING, slots=ROOMS, listener=listener
    ) as stand:
        yield stand


async def rooms_left(hotel: Stand, day: str, offer_id: str = "YQ-01") -> int:
    (live,) = await hotel.partner.live([offer_id], on=date.fromisoformat(day))
    (night,) = live.slots
    return night.left


async def test_the_feed_says_everything_in_our_words(hotel):
    page = await hotel.partner.list_offers(None)

    assert [(row.id, row.kind, row.cash_fen) for row in page.offers] == [
        ("YQ-01", "night", 50_000),
        ("YQ-02", "upgrade", 20_000),
        ("YQ-03", "offset", 100),
        ("YQ-04", "voucher", 6_800),
        ("YQ-07", "night", 150_000),
    ]
    first, upgrade, offset = page.offers[:3]
    for name in ("own_points", "own_priced_by", "guaranteed", "max_offset_pct", "slots", "parity"):
        assert first.attributes[name] == OFFERS[0][name]
    assert first.attributes["part_payment"] is False
    assert first.attributes["guarantee"] == OFFERS[0]["guarantee"]
    assert upgrade.attributes["needs"] == "paid standard-room booking"
    assert offset.attributes["offset_unit"] == {"points": 60, "fen": 100}


async def test_quantity_is_nights_and_each_night_is_taken(hotel):
    fact = await hotel.redeem("YQ-01", slot="2026-12-01", quantity=2)

    assert fact.outcome is Outcome.CONFIRMED
    assert fact.artefacts["confirmation_no"] == fact.booking_ref
    assert fact.artefacts["check_in"] == "2026-12-01"
    assert fact.artefacts["check_out"] == "2026-12-03"
    left = [await rooms_left(hotel, f"2026-12-0{day}") for day in (1, 2, 3)]
    assert left == [1, 1, 2]


async def test_three_nights_are_all_or_nothing(hotel):
    await hotel.redeem("YQ-01", slot="2026-12-03", quantity=1, red="red_a")
    quote = await hotel.quote("YQ-07", slot="2026-12-01")
    assert quote.list_fen == 150_000
    await hotel.redeem("YQ-01", slot="2026-12-03", quantity=1, red="red_b")

    with pytest.raises(SlotFull) as full:
        await hotel.hold(quote, red="red_c")

    assert full.value.context["slot"] == "2026-12-03"
    left = [await rooms_left(hotel, f"2026-12-0{day}") for day in (1, 2, 3)]
    assert left == [2, 2, 0]
    assert await rooms_left(hotel, "2026-12-01", "YQ-07") == 0
    with pytest.raises(SlotFull):
        await hotel.quote("YQ-07", slot="2026-12-02")


async def test_a_cancelled_stay_gives_every_night_back(hotel):
    fact = await hotel.redeem("YQ-07", slot="2026-12-01")
    assert [await rooms_left(hotel, f"2026-12-0{day}") for day in (1, 2, 3)] == [1, 1, 1]

    cancelled = await hotel.cancel(fact)

    assert cancelled.outcome is Outcome.CANCELLED
    assert cancelled.version > fact.version
    assert [await rooms_left(hotel, f"2026-12-0{day}") for day in (1, 2, 3)] == [2, 2, 2]


async def test_a_fenced_hold_gives_every_night_back(hotel):
    quote = await hotel.quote("YQ-07", slot="2026-12-01")
    held = await hotel.hold(quote)

    assert (await hotel.partner.fence(held.op_key)).outcome is Outcome.FENCED

    assert await rooms_left(hotel, "2026-12-02") == 2
    with pytest.raises(PartnerRejected):
        await hotel.hold(quote)


async def test_a_stay_can_be_cancelled_until_24_hours_before_check_in(hotel):
    quote = await hotel.quote("YQ-01", slot="2026-12-01")
    assert quote.cancel_until == at("2026-11-30T14:00:00")
    fact = await hotel.confirm(await hotel.hold(quote))

    hotel.clock.now = at("2026-11-30T14:00:01")

    with pytest.raises(CancelTooLate) as late:
        await hotel.partner.cancel_quote(fact.booking_ref)
    assert at("2026-11-30T14:00:00").isoformat()[:16] in str(late.value.context["until"])


async def test_an_upgrade_needs_a_paid_stay_of_the_same_guest(hotel):
    with pytest.raises(PartnerRejected) as no:
        await hotel.quote("YQ-02", slot="2026-12-01")
    assert no.value.context["reason"] == "BOOKING_REQUIRED"

    await hotel.act("paid_stay", member_ref="pm_1", nights=["2026-12-01"])
    with pytest.raises(PartnerRejected):
        await hotel.quote("YQ-02", slot="2026-12-01", member_ref="pm_2")
    fact = await hotel.redeem("YQ-02", slot="2026-12-01")

    assert fact.outcome is Outcome.CONFIRMED
    assert await rooms_left(hotel, "2026-12-01", "YQ-02") == 0
    assert await rooms_left(hotel, "2026-12-01", "YQ-01") == 2


async def test_an_upgrade_is_cancelled_with_its_stay(hotel, listener):
    await hotel.act("paid_stay", member_ref="pm_1", nights=["2026-12-01"])
    fact = await hotel.redeem("YQ-02", slot="2026-12-01")

    answer = await hotel.act("stay_cancelled", member_ref="pm_1", nights=["2026-12-01"])

    assert answer == {"cancelled": [fact.booking_ref]}
    event = await told(hotel, listener, 1)
    assert (event.kind, event.op_key) == (EventKind.CANCELLED, "red_1:confirm:1")
    assert event.version > fact.version
    assert event.reason == "STAY_CANCELLED"


async def test_the_check_out_is_told_and_booked(hotel, listener):
    fact = await hotel.redeem("YQ-01", slot="2026-12-01", claims=[Claim("M10", 50_000)])
    hotel.clock.now = at("2026-12-02T12:00:00")
    await hotel.event("fulfil", fact.booking_ref)

    event = await told(hotel, listener, 1)
    assert (event.kind, event.op_key) == (EventKind.FULFILLED, "red_1:confirm:1")
    assert event.occurred_at == hotel.clock.now
    hotel.clock.now = at("2026-12-03T01:00:00")
    statement = await hotel.partner.statement(date(2026, 12, 2))
    (line,) = statement.lines
    assert (line.type, line.issuer, line.amount_fen) == ("REDEMPTION", "M10", 45_000)
    assert (line.gateway_ref, line.partner_ref) == ("red_1", fact.booking_ref)
    assert (statement.trailer_count, statement.trailer_sum_fen) == (1, 45_000)


async def test_a_voucher_and_a_folio_credit_give_a_code(hotel):
    voucher = await hotel.redeem("YQ-04", red="red_v")
    quote = await hotel.quote("YQ-03", bill_fen=30_000)
    assert quote.list_fen == 30_000
    credit = await hotel.confirm(
        await hotel.hold(quote, red="red_f", claims=[Claim("M03", 10_000)]), red="red_f"
    )

    assert set(voucher.artefacts) == set(credit.artefacts) == {"code"}
    folio = (await hotel.http.get(f"/v1/folios/{credit.booking_ref}")).json()
    assert folio["payments"] == [{"party": "M03", "amount_fen": 10_000}]
    assert folio["balance_fen"] == 20_000


async def test_a_statement_of_a_day_that_is_not_over_does_not_exist(hotel):
    with pytest.raises(PartnerRejected) as no:
        await hotel.partner.statement(date(2026, 11, 20))
    assert no.value.context["reason"] == "STATEMENT_NOT_READY"
