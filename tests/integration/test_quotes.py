"""Quotes on a real database: parts, refusals in their order, the partner's price as the truth."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.catalog import quotes, service
from gateway.catalog.model import (
    BookingRequired,
    EnterpriseRestricted,
    OfferSuspended,
    StoredQuote,
)
from gateway.catalog.pricing import LegInput, LegSum, OffsetCap, PartPaymentNotAllowed
from gateway.db import Database
from gateway.errors import NotFound, PartnerUnavailable, Refused
from gateway.members import service as members
from gateway.members.model import pseudonym
from gateway.merchants import service as merchants
from gateway.points import service as points
from gateway.points.service import InsufficientPoints
from gateway.ports import PriceChanged, QuoteExpired, Slot, SoldOut
from gateway.promotions.coupons import MinSpendNotMet
from gateway.settings import Settings
from gateway.settlement import service as settlement
from gateway.values import InvalidAmount, InvalidInput
from tests.support import coalition, seeded

SCENES = {scene["id"]: scene["steps"] for scene in coalition.read("demo_day")["scenes"]}
REFUSALS = SCENES["scene_refusals"]
PEOPLE = sorted({step["member"] for step in REFUSALS} | {"mbr_wanglei", "mbr_demo_07"})
NOON = "2026-11-21T12:00:00+08:00"


class Desk:
    """Asks quotes of a loaded database; every merchant has a partner."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.partners = {
            row["id"]: seeded.FakePartner(row["id"], database=database)
            for row in coalition.catalog()["merchants"]
        }
        self.settings = Settings()

    async def quote(
        self, member: str, offer: str, *legs: tuple[str, int | None], at: str = NOON, **more: Any
    ) -> StoredQuote:
        clock = seeded.FrozenClock(at)
        for partner in self.partners.values():
            partner.now = clock.now()
        return await quotes.request_quote(
            self.database,
            self.partners,
            member_id=member,
            offer_id=offer,
            legs=[LegInput(*leg) for leg in legs],
            secret=seeded.SECRET,
            settings=self.settings,
            clock=clock,
            **more,
        )

    async def step(self, step: dict[str, Any]) -> StoredQuote:
        legs = [(leg["programme"], leg.get("points")) for leg in step["legs"]]
        names = ("slot", "quantity", "bill_fen", "cash_fen")
        more = {name: step[name] for name in names if name in step}
        return await self.quote(step["member"], step["offer"], *legs, at=step["at"], **more)


async def open_desk(database: Database, *more: str) -> Desk:
    async with database.transaction() as tx:
        await seeded.load(tx, people=[*PEOPLE, *more])
        await _spend(tx, "mbr_demo_04", "P-LL", 500)
    return Desk(database)


async def _spend(tx: Any, member: str, programme: str, left: int) -> None:
    """Leave a member what the demo day leaves."""
    available = await points.available(tx, member_id=member, issuer="M04", now=seeded.OPENED)
    assert available >= left
    if available > left:
        ask = {"member_id": member, "programme_id": programme, "points": available - left}
        await points.spend_opening(
            tx, **ask, ref="day", effective_at=seeded.OPENED, now=seeded.OPENED
        )


async def test_the_scene_of_refusals_refuses_as_written_and_changes_nothing(
    database: Database,
) -> None:
    desk = await open_desk(database)
    for step in REFUSALS:
        expected = step["expect"]
        with pytest.raises(Refused) as refusal:
            await desk.step(step)
        assert refusal.value.code == expected["code"], step
        context = refusal.value.context
        assert {name: context.get(name) for name in expected["context"]} == expected["context"]
    assert all(not partner.asked for partner in desk.partners.values())
    async with database.reading() as tx:
        assert await settlement.used_fen(tx, agreement_id="agr_M03_M05", month="2026-11") == (
            4_987_000
        )


async def test_a_ride_is_quoted_at_its_ceiling_and_stored_once(database: Database) -> None:
    desk = await open_desk(database)
    step = SCENES["scene_ride"][0]
    made = await desk.step(step)
    expected = step["expect"]
    assert (made.list_fen, made.cash_fen, made.pricing) == (12_000, 0, "estimate")
    for leg, wanted in zip(made.legs, expected["legs"], strict=True):
        names = {"programme": "programme_id"}
        got = {name: getattr(leg, names.get(name, name)) for name in wanted}
        assert got == wanted
    foreign, own = made.legs
    assert (foreign.agreement_id, foreign.agreement_version) == ("agr_M04_M07", 1)
    assert (own.agreement_id, own.settlement_fen, own.fee_fen) == (None, 0, 0)

    (request,) = desk.partners["M07"].asked
    assert request.member_ref == pseudonym(seeded.SECRET, "M07", "mbr_demo_07")
    assert (request.slot, request.quantity, request.bill_fen) == (step["slot"], 1, None)
    async with database.reading() as tx:
        assert await quotes.quote(tx, made.id, member_id="mbr_demo_07") == made
        assert await quotes.quote(tx, made.id) == made
        with pytest.raises(NotFound):
            await quotes.quote(tx, made.id, member_id="mbr_demo_04")
        with pytest.raises(NotFound):
            await quotes.quote(tx, "quo_none")
        assert (
            await points.available(tx, member_id="mbr_demo_07", issuer="M04", now=seeded.OPENED) > 0
        )  # Nothing was held.


async def test_a_quote_ends_with_the_partners_or_with_ours(database: Database) -> None:
    desk = await open_desk(database)
    short = await desk.quote("mbr_wanglei", "CA-01", ("P-CA", None))
    assert short.expires_at - short.quoted_at == timedelta(minutes=3)
    assert (short.partner_quote_id, short.terms_hash) == ("pq_1", "terms")
    desk.partners["M02"].live_minutes = 60
    long = await desk.quote("mbr_wanglei", "CA-01", ("P-CA", 5_000))
    assert long.expires_at - long.quoted_at == timedelta(minutes=5)
    desk.partners["M02"].live_minutes = 0
    with pytest.raises(QuoteExpired):
        await desk.quote("mbr_wanglei", "CA-01", ("P-CA", None))


async def test_the_partners_list_price_is_quoted(database: Database) -> None:
    desk = await open_desk(database, "mbr_demo_01", "mbr_demo_16")
    cinema, car = desk.partners["M05"], desk.partners["M02"]
    cinema.list_fen = {"XH-01": 4_600}
    made = await desk.quote("mbr_demo_01", "XH-01", ("P-LL", None))
    (leg,) = made.legs
    assert (made.list_fen, leg.points, leg.settlement_fen, leg.fee_fen) == (4_600, 4_600, 4_140, 21)
    with pytest.raises(LegSum) as refusal:  # Named parts do not stretch by themselves.
        await desk.quote("mbr_demo_01", "XH-01", ("P-LL", 4_500))
    assert refusal.value.context == {"sum_fen": 4_500, "list_fen": 4_600}
    cinema.list_fen = {"XH-01": 4_000_000}
    with pytest.raises(InsufficientPoints):
        await desk.quote("mbr_demo_01", "XH-01", ("P-LL", None))

    car.list_fen = {"CA-01": 55_000}  # A price in the book stays.
    made = await desk.quote("mbr_wanglei", "CA-01", ("P-CA", None))
    assert (made.list_fen, made.legs[0].points, made.legs[0].face_fen) == (55_000, 5_000, 55_000)
    assert (made.legs[0].rate_num, made.legs[0].rate_den) == (11, 1)

    for failure in (SoldOut(offer="XH-01"), PriceChanged(new_list_fen=1), PartnerUnavailable()):
        cinema.failure = failure
        with pytest.raises(type(failure)):
            await desk.quote("mbr_demo_01", "XH-01", ("P-LL", None))
    assert cinema.failure.context == {"merchant": "M05"}
    del desk.partners["M05"]
    with pytest.raises(PartnerUnavailable) as down:
        await desk.quote("mbr_demo_01", "XH-01", ("P-LL", None))
    assert down.value.context == {"merchant": "M05"}


async def test_points_and_cash_and_bills(database: Database) -> None:
    desk = await open_desk(database, "mbr_demo_16")
    made = await desk.quote("mbr_demo_16", "KX-02", ("P-HM", 2_000), cash_fen=1_000)
    assert (made.cash_fen, made.legs[0].settlement_fen, made.legs[0].fee_fen) == (1_000, 1_800, 9)

    repair = {"bill_fen": 40_000}
    made = await desk.quote("mbr_wanglei", "CA-07", ("P-CA", 2_000), **repair)
    assert (made.list_fen, made.cash_fen, made.bill_fen) == (40_000, 20_000, 40_000)
    assert desk.partners["M02"].asked[-1].bill_fen == 40_000
    with pytest.raises(OffsetCap) as cap:
        await desk.quote("mbr_wanglei", "CA-07", ("P-CA", 2_010), **repair)
    assert cap.value.context == {"max_pct": 50, "max_fen": 20_000, "max_points": 2_000}

    wednesday = "2026-11-25T12:00:00+08:00"
    made = await desk.quote(
        "mbr_zhaodama", "HR-06", ("P-HR", 5_000), bill_fen=10_000, cash_fen=5_000, at=wednesday
    )
    assert made.cash_fen == 5_000
    with pytest.raises(OffsetCap):
        await desk.quote("mbr_zhaodama", "HR-06", ("P-HR", 5_010), bill_fen=10_000, at=wednesday)


async def test_a_night_is_priced_by_its_date_and_sold_whole(database: Database) -> None:
    desk = await open_desk(database)
    off_season = await desk.quote("mbr_chenjing", "YQ-01", ("P-YQ", None), slot="2026-11-21")
    (leg,) = off_season.legs
    assert (leg.points, leg.promotion_id, leg.rate_num, leg.rate_den) == (25_000, "PR-02", 2, 1)
    holiday = await desk.quote("mbr_chenjing", "YQ-01", ("P-YQ", None), slot="2027-02-06")
    assert (holiday.legs[0].points, holiday.legs[0].promotion_id) == (30_000, None)
    with pytest.raises(PartPaymentNotAllowed):
        await desk.quote("mbr_chenjing", "YQ-01", ("P-YQ", 15_000), cash_fen=20_000)
    with pytest.raises(BookingRequired):
        await desk.quote("mbr_chenjing", "YQ-02", ("P-YQ", None))
    upgrade = await desk.quote("mbr_chenjing", "YQ-02", ("P-YQ", None), slot="bkg_1 2026-11-21")
    assert upgrade.legs[0].points == 5_000


async def test_nobody_chooses_a_show_for_the_member(database: Database) -> None:
    desk = await open_desk(database, "mbr_demo_01")
    ticket, cinema = ("mbr_demo_01", "XH-01", ("P-LL", None)), desk.partners["M05"]
    opens = datetime.fromisoformat(NOON)
    over, full = Slot("over", opens, 9), Slot("full", opens + timedelta(hours=1), 0)
    shows = [Slot(f"s{hour}", opens + timedelta(hours=hour), 9) for hour in range(7, 1, -1)]
    cinema.slots = [over, full, *shows]
    with pytest.raises(InvalidInput) as refused:
        await desk.quote(*ticket)
    assert refused.value.field == ("slot",)
    assert refused.value.context["values"] == ["s2", "s3", "s4", "s5", "s6"]
    assert refused.value.told("zh")["rule"] == "须指明时段;近期可选:s2, s3, s4, s5, s6"
    assert not cinema.asked
    assert (await desk.quote(*ticket, slot="s7")).slot == "s7"

    cinema.slots = [over, full, shows[0]]
    only = await desk.quote(*ticket)
    assert (only.slot, cinema.asked[-1].slot) == ("s7", "s7"), "the one there is, and told"
    assert (await desk.quote("mbr_demo_01", "XH-03", ("P-LL", None))).slot is None, "no shows"
    cinema.failure = PartnerUnavailable()
    with pytest.raises(PartnerUnavailable) as away:
        await desk.quote(*ticket)
    assert away.value.context == {"merchant": "M05"}


REFUSED: list[tuple[Any, ...]] = [
    ("mbr_wanglei", "CA-01", [("P-CA", 5_005)], {}, InvalidInput, {"rule": "step of 10"}),
    ("mbr_wanglei", "CA-99", [("P-CA", None)], {}, NotFound, {"id": "CA-99"}),
    ("mbr_nobody", "CA-01", [("P-CA", None)], {}, NotFound, {"id": "mbr_nobody"}),
    ("mbr_wanglei", "CA-01", [("P-XX", None)], {}, NotFound, {"id": "P-XX"}),
    (
        "mbr_wanglei", "CA-01", [("P-CA", 10), ("P-CA", None)], {}, InvalidInput,
        {"rule": "each programme once"},
    ),
    ("mbr_wanglei", "CA-01", [("P-CA", None)], {"quantity": 0}, InvalidAmount, {"value": 0}),
    (
        "mbr_wanglei", "CA-01", [("P-CA", None)], {"bill_fen": 100}, InvalidInput,
        {"field": "bill_fen"},
    ),
    ("mbr_wanglei", "CA-07", [("P-CA", None)], {}, InvalidInput, {"field": "bill_fen"}),
    (
        "mbr_wanglei", "CA-07", [("P-CA", None)], {"bill_fen": 1, "quantity": 2},
        InvalidInput, {"field": "quantity"},
    ),
    (
        "mbr_wanglei", "CA-02", [("P-CA", None)], {}, InsufficientPoints,
        {"programme": "P-CA", "needed": 10_000, "available": 5_000, "missing": 5_000},
    ),
    ("mbr_wanglei", "HM-02", [("P-HM", None)], {}, OffsetCap, {"max_pct": 0}),
    ("mbr_wanglei", "HM-06", [("P-HM", None)], {}, InvalidInput, {"field": "offer"}),
    ("mbr_wanglei", "HM-08", [("P-HM", None)], {}, InvalidInput, {"field": "offer"}),
    ("mbr_wanglei", "HM-09", [("P-HM", None)], {}, InvalidInput, {"field": "offer"}),
    (
        "mbr_wanglei", "XX-01", [("P-CA", None)], {}, InvalidInput,
        {"rule": "donations go through donatePoints"},
    ),
    (
        "mbr_wanglei", "AX-01", [("P-CA", None)], {"bill_fen": 499_900}, MinSpendNotMet,
        {"min_fen": 500_000, "cart_fen": 499_900, "missing_fen": 100},
    ),
]  # fmt: skip


async def test_a_request_is_refused_by_its_first_broken_rule(database: Database) -> None:
    desk = await open_desk(database)
    for member, offer, legs, more, error, context in REFUSED:
        with pytest.raises(error) as refusal:
            await desk.quote(member, offer, *legs, **more)
        assert {name: refusal.value.context.get(name) for name in context} == context
    assert all(not partner.asked for partner in desk.partners.values())


async def test_what_is_suspended_is_not_quoted(database: Database) -> None:
    desk = await open_desk(database)
    async with database.transaction() as tx:
        await service.suspend_offer(tx, offer_id="CA-01", reason="parity", now=seeded.OPENED)
        await merchants.pause(tx, id="M03", paused=True)
    with pytest.raises(OfferSuspended) as held:
        await desk.quote("mbr_wanglei", "CA-01", ("P-CA", None))
    assert held.value.context == {"offer": "CA-01", "reason": "parity"}
    with pytest.raises(OfferSuspended):
        await desk.quote("mbr_chenjing", "YQ-01", ("P-YQ", None))
    desk.settings = replace(desk.settings, mode="live")
    with pytest.raises(OfferSuspended) as legal:
        await desk.quote("mbr_wanglei", "AX-01", ("P-CA", None))
    assert legal.value.context["reason"] == "legal review"


async def test_a_merchant_without_a_server_is_quoted_from_the_catalog(database: Database) -> None:
    desk = await open_desk(database, "mbr_demo_01")
    async with database.transaction() as tx:
        await seeded.load_noodles(tx)
        await service.publish_offer(
            tx,
            merchant_id="M17",
            id="ZW-01",
            name_zh="牛肉面",
            kind="voucher",
            category="餐饮",
            cash_fen=2_800,
            own_points=2_800,
            now=seeded.OPENED,
        )
        pair = {"issuer": "M04", "redeemer": "M17"}
        consent = {"member_id": "mbr_demo_01", "purpose": "partner_pair"} | pair
        await members.grant_consent(tx, **consent, now=seeded.OPENED)
    made = await desk.quote("mbr_demo_01", "ZW-01", ("P-LL", None))
    (leg,) = made.legs
    assert (leg.points, leg.settlement_fen, leg.fee_fen) == (2_800, 2_520, 13)
    assert (made.partner_quote_id, made.expires_at - made.quoted_at) == (None, timedelta(minutes=5))


async def test_an_enterprise_buys_green_goods_only(database: Database) -> None:
    desk = await open_desk(database, "ent_lvyuan")
    made = await desk.quote("ent_lvyuan", "HM-04", ("P-HM", None))
    assert made.legs[0].points == 1_900
    with pytest.raises(EnterpriseRestricted) as refusal:
        await desk.quote("ent_lvyuan", "HM-01", ("P-HM", None))
    assert refusal.value.context == {
        "contract": "ctr_lvyuan_2026",
        "categories": ["绿色消费"],
    }


async def test_a_price_that_is_none_is_no_answer(database: Database) -> None:
    desk = await open_desk(database)
    for list_fen in (0, -1, 2**53):
        desk.partners["M02"].list_fen = {"CA-01": list_fen}
        with pytest.raises(PartnerUnavailable):
            await desk.quote("mbr_wanglei", "CA-01", ("P-CA", None))
