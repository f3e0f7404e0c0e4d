"""The catalog on a real database: feeds, search, prices, live answers, publication."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.catalog import service
from gateway.catalog.model import (
    CashLikeForbidden,
    GuaranteeMissing,
    Offer,
    OfferFilter,
    Page,
    Price,
)
from gateway.db import Database
from gateway.errors import NotFound, PartnerUnavailable
from gateway.points.service import ValueGuaranteeViolation
from gateway.ports import FeedOffer, FeedPage, LiveOffer
from gateway.values import InvalidInput, Rate
from tests.support import coalition, seeded

NOON = datetime.fromisoformat("2026-11-21T12:00:00+08:00")
ALL = tuple(coalition.programmes())


@contextmanager
def counting(database: Database) -> Iterator[list[str]]:
    """The statements sent to the database."""
    sent: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    sa.event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(database.engine.sync_engine, "before_cursor_execute", note)


async def find(tx: AsyncConnection, **wanted: object) -> Page:
    return await service.search(tx, filter=OfferFilter(**wanted), first=100, at=NOON)


async def found(tx: AsyncConnection, **wanted: object) -> set[str]:
    return {offer.id for offer in (await find(tx, **wanted)).offers}


def of(merchant: str) -> set[str]:
    return {name for name, offer in coalition.offers().items() if offer.merchant_id == merchant}


async def test_the_catalog_is_searched_filtered_and_priced(database: Database) -> None:
    async with database.transaction() as tx:
        await seeded.load(tx)
    async with database.reading() as tx:
        await _text(tx)
        await _filters(tx)
        await _pages(tx)
        await _affordable(tx)
        await _prices(tx)
    await _statements(database)


async def _text(tx: AsyncConnection) -> None:
    assert await found(tx, text="壹购") == of("M01")
    assert await found(tx, text="星汇") == of("M05")
    assert "XH-01" in await found(tx, text="电影票")
    assert await found(tx, text="IMAX") == {"XH-02"}
    assert await found(tx, text="ｉｍａｘ 电影") == {"XH-02"}
    assert await found(tx, text="没有这个") == set()
    assert await found(tx, text="!!!") == set()
    first = (await find(tx, text="奶茶")).offers[0]
    assert first.id == "CW-01"  # In its name, not only in that of its merchant.


async def _filters(tx: AsyncConnection) -> None:
    offers = coalition.offers()
    green = {name for name, offer in offers.items() if offer.green}
    assert await found(tx) == set(offers)
    assert await found(tx, green=True) == green
    assert await found(tx, tag="绿色消费") == green
    assert await found(tx, merchant="M09") == of("M09")
    assert await found(tx, kind="night") == {"YQ-01", "YQ-07"}
    assert await found(tx, category="民生", text="大米") == {"HR-02"}
    town = (await find(tx, city="柳林镇")).offers
    local = [offer.merchant_id for offer in town]
    assert set(local) == {"M09", "M01", "M11", "M14"}  # There, and nationwide.
    assert set(local[: len(of("M09"))]) == {"M09"}  # What is there comes first.
    places = {offer.id: place for place, offer in enumerate((await find(tx, city="成都")).offers)}
    assert places["XH-01"] < places["JY-04"]  # Everyday things before jewels.


async def _pages(tx: AsyncConnection) -> None:
    whole = [offer.id for offer in (await find(tx)).offers]
    assert whole == sorted(whole)
    for wanted in (OfferFilter(), OfferFilter(text="购", city="杭州"), OfferFilter(city="上海")):
        expected = (await service.search(tx, filter=wanted, first=100, at=NOON)).offers
        seen: list[Offer] = []
        after = None
        while True:
            page = await service.search(tx, filter=wanted, first=7, after=after, at=NOON)
            assert len(page.offers) == len(page.cursors) <= 7
            seen += page.offers
            if not page.more:
                break
            after = page.cursors[-1]
        assert seen == list(expected)
    for first in (0, 101):
        with pytest.raises(InvalidInput):
            await service.search(tx, first=first, at=NOON)
    for after in ("x", "!", "W10", "WzEsMl0", page.cursors[-1]):
        with pytest.raises(InvalidInput):
            await service.search(tx, after=after, first=5, at=NOON)


async def _affordable(tx: AsyncConnection) -> None:
    async def ask(balances: dict[str, int], first: int = 100, after: str | None = None) -> Page:
        return await service.search(
            tx,
            filter=OfferFilter(affordable=True),
            programme_ids=tuple(balances),
            balances=balances,
            first=first,
            after=after,
            at=NOON,
        )

    page = await ask({"P-LL": 1_000})
    assert [offer.cash_fen for offer in page.offers] == sorted(o.cash_fen for o in page.offers)
    ids = [offer.id for offer in page.offers]
    assert "KX-01" in ids
    assert "LL-01" not in ids  # 1,800
    assert "MX-01" not in ids  # The agreement has ended.
    assert "HM-04" not in ids  # There is none.
    parts = await ask({"P-LL": 1_000}, first=2)
    rest = await ask({"P-LL": 1_000}, after=parts.cursors[-1])
    assert [*parts.offers, *rest.offers] == list(page.offers)
    assert parts.more
    assert (await ask({})).offers == ()
    two = {offer.id for offer in (await ask({"P-LL": 1_000, "P-CW": 1_000})).offers}
    assert "CW-01" not in two  # 1,600: balances are never added.


async def _prices(tx: AsyncConnection) -> None:
    offers = await service.offers(
        tx, ["XH-01", "AX-01", "CA-03", "YQ-01", "HR-09", "HM-02", "XX-01"]
    )
    known = await service.prices(tx, offers=list(offers.values()), programme_ids=(), at=NOON)

    def points(offer_id: str) -> dict[str, int]:
        return {price.programme_id: price.points for price in known[offer_id]}

    assert points("XH-01") == {
        "P-XH": 2_250, "P-CA": 450, "P-HM": 4_500, "P-JY": 113, "P-LL": 4_500, "P-YQ": 2_700,
    }  # fmt: skip
    assert next(iter(points("XH-01"))) == "P-XH"  # The own programme first.
    assert points("AX-01") == {"P-CA": 20_000}
    assert points("CA-03") == {"P-CA": 6_000}
    assert points("YQ-01")["P-YQ"] == 25_000  # Tonight.
    assert points("HR-09") == {"P-HR": 2_000, "P-HM": 2_000}  # By category.
    assert points("HM-02") == {}
    assert len(points("XX-01")) == 14  # Donation agreements, all by value.
    spring = await service.prices(
        tx,
        offers=[offers["YQ-01"]],
        programme_ids=["P-YQ"],
        at=NOON,
        slot_on=datetime(2027, 2, 6, tzinfo=NOON.tzinfo).date(),
    )
    assert [price.points for price in spring["YQ-01"]] == [30_000]
    (insurance,) = known["AX-01"]
    assert (insurance.below_declared_value, insurance.rate) == (True, Rate(5, 1))
    hotel = next(price for price in known["XH-01"] if price.programme_id == "P-YQ")
    assert hotel == Price(
        programme_id="P-YQ",
        issuer="M03",
        points=2_700,
        rate=Rate(5, 3),
        basis="value",
        formula="¥45.00 ÷ 5/3 分钱 = 2,700 房晚分",
        own=False,
    )


async def _statements(database: Database) -> None:
    """A page costs the same number of statements, whatever it holds."""
    counts = set()
    for first, programmes in ((10, ["P-LL"]), (50, ["P-LL", "P-HM", "P-YQ"]), (100, list(ALL))):
        async with database.reading() as tx:
            with counting(database) as sent:
                page = await service.search(tx, first=first, at=NOON)
                await service.prices(tx, offers=page.offers, programme_ids=programmes, at=NOON)
        counts.add(len(sent))
    assert counts == {6}


async def test_a_feed_only_ever_moves_forward(database: Database) -> None:
    async with database.transaction() as tx:
        await seeded.load(tx)
        assert await service.feed_cursor(tx, "M05") == "end"
        assert await service.feed_cursor(tx, "M99") is None

    async def take(*offers: FeedOffer, merchant: str = "M05", cursor: str = "c2") -> object:
        page = FeedPage(offers, cursor, False)
        async with database.transaction() as tx:
            return await service.apply_feed(tx, merchant_id=merchant, page=page, now=seeded.OPENED)

    row = next(row for row in coalition.catalog()["offers"] if row["id"] == "XH-01")
    renamed = seeded.feed_offer(row, 3, name_zh="二维影片券", cash_fen=4_600)
    older = seeded.feed_offer(row, 2, name_zh="旧名")
    result = await take(renamed, older, seeded.feed_offer(row, 3, name_zh="同版"))
    assert (result.applied, result.stale) == (("XH-01",), ("XH-01", "XH-01"))
    async with database.reading() as tx:
        assert (await service.offer(tx, "XH-01")).cash_fen == 4_600
        assert "XH-01" in await found(tx, text="影片券")
        assert "XH-01" not in await found(tx, text="电影票")
        assert await service.feed_cursor(tx, "M05") == "c2"

    gone = FeedOffer(id="XH-01", version=4, deleted=True)
    assert (await take(gone)).removed == ("XH-01",)
    assert (await take(gone, seeded.feed_offer(row, 4))).stale == ("XH-01", "XH-01")
    async with database.reading() as tx:
        assert "XH-01" not in await found(tx)
        with pytest.raises(NotFound):
            await service.offer(tx, "XH-01")
    assert (await take(seeded.feed_offer(row, 5))).applied == ("XH-01",)
    async with database.reading() as tx:
        assert "XH-01" in await found(tx, text="电影票")


async def test_a_feed_row_that_breaks_a_rule_is_left_out_and_named(database: Database) -> None:
    async with database.transaction() as tx:
        await seeded.load(tx)
    row = next(row for row in coalition.catalog()["offers"] if row["id"] == "XH-01")
    odd = {"guarantee": row["guarantee"]}
    bad = [
        seeded.feed_offer(row, 9, id="CA-01"),  # Another merchant's.
        seeded.feed_offer(row, 9, id="XH-90", category="礼品卡"),
        seeded.feed_offer(row, 9, id="XH-91", attributes={"guarantee": {"parity": "same"}}),
        seeded.feed_offer(row, 9, id="XH-92", cash_fen=-1),
        seeded.feed_offer(row, 9, id="XH-93", kind="spell"),
        seeded.feed_offer(row, 9, id="XH-94"),
        seeded.feed_offer(row, 9, id="XH-95", cash_fen="45.00"),
        seeded.feed_offer(row, 9, id="XH-96", cash_fen=4_498),  # 2,250 points are worth more.
        seeded.feed_offer(row, 9, id="XH-97", attributes=odd | {"own_points": True}),
        seeded.feed_offer(row, 9, id="XH-98", attributes=odd | {"coupon": {"off_pct": 101}}),
        seeded.feed_offer(row, 9, id="XH-99", attributes=odd | {"tags": "green"}),
    ]
    async with database.transaction() as tx:
        page = FeedPage(tuple(bad), "c2", False)
        result = await service.apply_feed(tx, merchant_id="M05", page=page, now=seeded.OPENED)
    assert result.applied == ("XH-94",)
    assert result.refused == {
        "CA-01": "NOT_FOUND",
        "XH-90": "CASH_LIKE_FORBIDDEN",
        "XH-91": "GUARANTEE_MISSING",
        "XH-92": "INVALID_AMOUNT",
        "XH-93": "INVALID_INPUT",
        "XH-95": "INVALID_AMOUNT",
        "XH-96": "VALUE_GUARANTEE_VIOLATION",
        "XH-97": "INVALID_AMOUNT",
        "XH-98": "INVALID_INPUT",
        "XH-99": "INVALID_INPUT",
    }
    async with database.reading() as tx:
        assert (await service.offer(tx, "CA-01")).merchant_id == "M02"


async def test_a_guaranteed_price_never_rises_through_a_feed(database: Database) -> None:
    async with database.transaction() as tx:
        await seeded.load(tx)
        row = next(row for row in coalition.catalog()["offers"] if row["id"] == "CA-01")
        extra = {name: row[name] for name in ("guarantee", "guaranteed", "own_priced_by")}
        dearer = seeded.feed_offer(
            row, 2, cash_fen=55_000, attributes=extra | {"own_points": 5_500}
        )
        page = FeedPage((dearer,), "c", False)
        result = await service.apply_feed(tx, merchant_id="M02", page=page, now=seeded.OPENED)
        assert result.refused == {"CA-01": "VALUE_GUARANTEE_VIOLATION"}
        assert (await service.offer(tx, "CA-01")).own_points == 5_000


async def test_a_feed_is_read_on_from_where_it_was_left(database: Database) -> None:
    rows = [row for row in coalition.catalog()["offers"] if row["merchant"] == "M05"]
    one, two, three = (seeded.feed_offer(row, 2) for row in rows[:3])
    partner = seeded.FakePartner(
        "M05",
        pages=[
            FeedPage((one,), "a", True),
            FeedPage((two,), "b", True),
            FeedPage((three,), "c", False),
        ],
    )
    async with database.transaction() as tx:
        await seeded.load(tx)
    read = await service.pull_feed(database, partner, now=seeded.OPENED, pages=2)
    assert [result.applied for result in read] == [(one.id,), (two.id,)]
    read = await service.pull_feed(database, partner, now=seeded.OPENED)
    assert [result.applied for result in read] == [(three.id,)]
    assert partner.cursors == ["end", "a", "b"]


async def test_a_merchant_without_a_server_publishes_here(database: Database) -> None:
    noodles = {"id": "ZW-01", "name_zh": "牛肉面", "kind": "voucher", "category": "餐饮"}
    price = {"cash_fen": 2_800, "own_points": 2_800}

    async def publish(merchant_id: str = "M17", **changes: object) -> Offer:
        async with database.transaction() as tx:
            return await service.publish_offer(
                tx, merchant_id=merchant_id, now=seeded.OPENED, **(noodles | price | changes)
            )

    async with database.transaction() as tx:
        await seeded.load(tx)
        await seeded.load_noodles(tx)
    offer = await publish()
    assert (offer.version, offer.hosted, offer.suspended) == (1, True, None)
    assert offer.guarantee["contact"] == "service@operator.example"
    assert (await publish(name_zh="大碗牛肉面")).version == 2
    async with database.reading() as tx:
        assert await found(tx, text="大碗") == {"ZW-01"}
        assert (await service.offer(tx, "ZW-01")).name_zh == "大碗牛肉面"

    with pytest.raises(GuaranteeMissing) as missing:
        await publish(guarantee={"parity": "same"})
    assert missing.value.context["fields"] == ["cancel", "compensation", "contact"]
    with pytest.raises(CashLikeForbidden):
        await publish(category="礼品卡")
    with pytest.raises(CashLikeForbidden):
        await publish(kind="gift_card")
    with pytest.raises(NotFound):
        await publish(merchant_id="M05")
    with pytest.raises(ValueGuaranteeViolation) as worse:
        await publish(own_points=2_801)
    assert worse.value.context["promised"] == 2_800
    with pytest.raises(InvalidInput):
        await publish(merchant_id="M13", id="AX-09")

    async with database.transaction() as tx:
        held = await service.suspend_offer(tx, offer_id="ZW-01", reason="parity", now=seeded.OPENED)
        assert held.suspended == "parity"
        assert await found(tx, text="牛肉面") == set()
        with pytest.raises(NotFound):
            await service.suspend_offer(
                tx, offer_id="ZW-01", reason="x", now=seeded.OPENED, merchant_id="M05"
            )
        with pytest.raises(NotFound):
            await service.suspend_offer(tx, offer_id="ZW-99", reason="x", now=seeded.OPENED)
    assert (await publish()).version == 3
    async with database.transaction() as tx:
        assert (
            await service.offer(tx, "ZW-01")
        ).suspended == "parity"  # Publishing does not lift it.
        await service.suspend_offer(
            tx, offer_id="ZW-01", reason=None, now=seeded.OPENED, merchant_id="M17"
        )
        assert await found(tx, text="牛肉面") == {"ZW-01"}


async def test_a_price_below_the_declared_value_is_flagged_or_refused(database: Database) -> None:
    async with database.transaction() as tx:
        await seeded.load(tx)
        asked = {"programme_id": "P-CA", "offer_id": "AX-01", "points_price": 10_001}
        with pytest.raises(ValueGuaranteeViolation):
            await service.set_book_price(tx, **asked)
        await service.set_book_price(tx, **asked, below_declared_value=True)
        with pytest.raises(NotFound):
            await service.set_book_price(tx, programme_id="P-CA", offer_id="AX-99", points_price=1)


class Slow(seeded.FakePartner):
    async def live(self, offer_ids: object, *, on: object) -> list[LiveOffer]:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_partner_that_does_not_answer_is_a_warning() -> None:
    offers = [coalition.offers()[name] for name in ("XH-01", "XH-02", "CW-01", "LL-01", "SH-01")]
    partners = {
        "M04": seeded.FakePartner("M04"),
        "M05": seeded.FakePartner("M05", failure=PartnerUnavailable(merchant="M05")),
        "M06": Slow("M06"),
    }
    answers, warnings = await service.live(partners, offers, on=None, timeout=0.05)
    assert set(answers) == {"LL-01"}
    assert [(w.merchant, w.code) for w in warnings] == [
        ("M05", "PARTNER_UNAVAILABLE"),
        ("M06", "PARTNER_UNAVAILABLE"),
        ("M12", "PARTNER_UNAVAILABLE"),
    ]
    assert all("暂时无响应" in warning.message for warning in warnings)
    assert partners["M05"].calls == 1  # Two offers, one call.
    assert await service.live({}, [], on=None, timeout=1) == ({}, [])
