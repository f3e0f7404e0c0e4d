"""What is special to car shops: errors inside a 200, workshop bays, the life of a work order."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import httpx2
import pytest

from gateway.errors import OutcomeUnknown, PartnerRejected
from gateway.ports import CancelTooLate, Claim, EventKind, Outcome, SlotFull
from tests.support.offers import offer
from tests.support.stands import Listener, Stand, at, standing, told

OFFERS = [
    offer("CA-01", 50_000, "service", slots="workshop"),
    offer("CA-04", 4_000, "service", slots="workshop"),
    offer("CA-06", 12_000, "shipment"),
    offer("CA-07", 100, "offset", max_offset_pct=50, offset_unit={"points": 10, "fen": 100}),
]
MORNING = at("2026-11-20T08:00:00")
HALF_PAST_TEN = "2026-11-23T10:30:00+08:00"
BAYS = {"workshop": {"times": ["09:00", "10:30"], "capacity": 2}}


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def shop(tmp_path: Path, listener: Listener) -> AsyncIterator[Stand]:
    """A shop with two bays, whose token is fetched by secret."""
    async with standing(
        "car_shops",
        tmp_path,
        offers=OFFERS,
        now=MORNING,
        slots=BAYS,
        stock={"CA-06": 1},
        by_secret=True,
        listener=listener,
    ) as stand:
        yield stand


async def ask(shop: Stand, query: str, **variables: object) -> httpx2.Response:
    return await shop.http.post("/graphql", json={"query": query, "variables": variables})


async def state_of(shop: Stand, no: str | None) -> str:
    answer = await ask(shop, "query Q($no: ID!) { workOrder(no: $no) { state } }", no=no)
    return str(answer.json()["data"]["workOrder"]["state"])


async def test_the_menu_says_everything_in_our_words(shop):
    page = await shop.partner.list_offers(None)

    assert [(row.id, row.kind, row.cash_fen) for row in page.offers] == [
        ("CA-01", "service", 50_000),
        ("CA-04", "service", 4_000),
        ("CA-06", "shipment", 12_000),
        ("CA-07", "offset", 100),
    ]
    for row, sold in zip(page.offers, OFFERS, strict=True):
        names = ("own_points", "guaranteed", "max_offset_pct", "slots", "parity", "guarantee")
        assert {name: row.attributes[name] for name in names} == {
            name: sold[name] for name in names
        }
    assert page.offers[3].attributes["offset_unit"] == {"points": 10, "fen": 100}


async def test_a_discontinued_item_is_a_tombstone(shop):
    before = await shop.partner.list_offers(None)
    change = {"id": "CA-04", "change": None}
    await shop.control.post(f"/merchants/{shop.merchant}/offers", json=change)

    (row,) = (await shop.partner.list_offers(before.cursor)).offers

    assert (row.id, row.deleted) == ("CA-04", True)
    with pytest.raises(PartnerRejected):
        await shop.quote("CA-04", slot=HALF_PAST_TEN)


async def test_a_business_no_comes_inside_a_200(shop):
    for number in (1, 2):
        await shop.redeem("CA-01", slot=HALF_PAST_TEN, red=f"red_{number}")
    document = "mutation M($input: EstimateInput!) { estimate(input: $input) { problem { code } } }"
    wanted = {"sku": "CA-04", "time": HALF_PAST_TEN, "pieces": 1, "customer": "pm_1"}

    answer = await ask(shop, document, input=wanted)

    assert answer.status_code == 200
    assert answer.json() == {"data": {"estimate": {"problem": {"code": "NO_BAY"}}}}
    with pytest.raises(SlotFull) as full:
        await shop.quote("CA-04", slot=HALF_PAST_TEN)
    assert full.value.context["slot"] == HALF_PAST_TEN
    assert full.value.context["left"] == 0


async def test_all_work_shares_the_bays(shop):
    await shop.redeem("CA-01", slot=HALF_PAST_TEN)

    rows = await shop.partner.live(["CA-01", "CA-04"], on=date(2026, 11, 23))

    assert [[slot.left for slot in row.slots] for row in rows] == [[2, 1], [2, 1]]


async def test_a_work_order_goes_from_step_to_step(shop, listener):
    fact = await shop.redeem("CA-01", slot=HALF_PAST_TEN)
    ref = fact.booking_ref
    assert fact.outcome is Outcome.CONFIRMED
    assert fact.artefacts["appointment"] == HALF_PAST_TEN
    assert len(fact.artefacts["code"]) == 6

    states = [await state_of(shop, ref)]
    shop.clock.now = at("2026-11-23T10:30:00")
    for step in ("check_in", "begin"):
        await shop.act(step, booking_ref=ref)
        states.append(await state_of(shop, ref))
    await shop.event("fulfil", ref)
    states.append(await state_of(shop, ref))

    assert states == ["SCHEDULED", "CHECKED_IN", "IN_PROGRESS", "COMPLETED"]
    event = await told(shop, listener, 1)
    assert (event.kind, event.booking_ref) == (EventKind.FULFILLED, ref)
    assert event.version > fact.version


async def test_no_step_is_left_out(shop):
    fact = await shop.redeem("CA-01", slot=HALF_PAST_TEN)
    with pytest.raises(httpx2.HTTPStatusError):
        await shop.act("begin", booking_ref=fact.booking_ref)
    assert await state_of(shop, fact.booking_ref) == "SCHEDULED"


async def test_a_work_order_can_be_called_off_until_check_in(shop):
    first = await shop.redeem("CA-01", slot=HALF_PAST_TEN, red="red_1")
    second = await shop.redeem("CA-01", slot=HALF_PAST_TEN, red="red_2")
    terms = await shop.partner.cancel_quote(second.booking_ref)
    for fact in (first, second):
        await shop.act("check_in", booking_ref=fact.booking_ref)

    with pytest.raises(CancelTooLate):
        await shop.partner.cancel_quote(first.booking_ref)
    with pytest.raises(CancelTooLate):
        await shop.partner.cancel(terms.id, op_key="red_2:cancel:1")
    assert (await shop.partner.status("red_2:confirm:1")).outcome is Outcome.CONFIRMED


async def test_calling_off_frees_the_bay(shop):
    fact = await shop.redeem("CA-01", slot=HALF_PAST_TEN)
    assert (await shop.cancel(fact)).outcome is Outcome.CANCELLED

    assert await state_of(shop, fact.booking_ref) == "CALLED_OFF"
    (row,) = await shop.partner.live(["CA-01"], on=date(2026, 11, 23))
    assert row.slots[1].left == 2


async def test_a_repair_bill_is_offset_by_half(shop):
    quote = await shop.quote("CA-07", bill_fen=40_000)
    claims = [Claim("M00", 20_000)]
    fact = await shop.confirm(await shop.hold(quote, claims=claims))
    await shop.event("fulfil", fact.booking_ref)

    shop.clock.now = at("2026-11-21T01:00:00")
    statement = await shop.partner.statement(date(2026, 11, 20))

    assert quote.list_fen == 40_000
    assert statement.lines == ()  # An own claim is nobody's debt.
    assert (statement.trailer_count, statement.trailer_sum_fen) == (0, 0)


async def test_a_time_out_after_the_effect_is_doubt_and_status_tells_the_truth(shop):
    await shop.fault("confirm_times_out_after_effect", offer_id="CA-01", count=1)
    held = await shop.hold(await shop.quote("CA-01", slot=HALF_PAST_TEN))

    with pytest.raises(OutcomeUnknown):
        await shop.confirm(held)

    known = await shop.partner.status("red_1:confirm:1")
    assert known.outcome is Outcome.CONFIRMED
    again = await shop.confirm(held)
    assert again.booking_ref == known.booking_ref


async def test_the_api_does_one_thing_an_operation(shop):
    two = await ask(shop, "{ menu { more } instruction(key: 1) { state } }")
    assert two.json()["errors"][0]["extensions"] == {"code": "BAD_INPUT"}
    unknown = await ask(shop, "{ mood }")
    assert unknown.json()["errors"][0]["extensions"] == {"code": "BAD_INPUT"}
