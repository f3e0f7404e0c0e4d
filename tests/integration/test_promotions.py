"""Promotions on a real database: prices, open days, multipliers, compensation, matches."""

import asyncio
from datetime import date, datetime

import pytest

from gateway.db import Database
from gateway.errors import AlreadyRegistered
from gateway.points import service as points
from gateway.points.model import earned_by_amount
from gateway.promotions import service
from gateway.promotions.model import NotOffsetDay, OfferNotOpen
from gateway.values import Rate
from tests.support import coalition, seeded

LIULIN = "柳林镇"


def shanghai(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+08:00")


async def test_promotions_price_open_multiply_and_compensate(database: Database) -> None:
    async with database.transaction() as tx:
        await seeded.load(tx)
    async with database.reading() as tx:
        await _price(tx)
        await _open(tx)
        await _earn(tx)
        await _compensate(tx)
        days = await service.days(tx, from_on=date(2027, 2, 5), until_on=date(2027, 2, 7))
        assert [day.festival for day in days] == ["", "春节"]
        running = await service.promotions(tx, on=date(2026, 11, 21), town=LIULIN)
        assert {"PR-02", "PR-03"} <= {found.id for found in running}
        assert {"PR-01", "PR-04"}.isdisjoint(found.id for found in running)
        issuers = {p.id: p.issuer for p in await points.programmes(tx)}
        assert len(issuers) == len(coalition.programmes())
    async with database.transaction() as tx:
        found = await service.promotion(tx, "PR-01")
        with pytest.raises(AlreadyRegistered):
            await service.add_promotion(
                tx,
                id=found.id,
                merchant_id=found.merchant_id,
                name_zh="again",
                target=found.target,
                effect=found.effect,
                calendar=found.rule,
                now=seeded.OPENED,
            )


async def _price(tx: object) -> None:
    async def prices(instant: str, night: str | None = None) -> dict[tuple[str, str], object]:
        return await service.price_points(
            tx,
            offer_ids=["CA-03", "YQ-01", "XH-01"],
            programmes={"P-CA": "M02", "P-YQ": "M03", "P-LL": "M04"},
            at=shanghai(instant),
            slot_on=date.fromisoformat(night) if night else None,
        )

    car, night = ("CA-03", "P-CA"), ("YQ-01", "P-YQ")
    assert await prices("2026-10-31T23:59:59") == {car: (5_000, "PR-01")}
    assert await prices("2026-11-01T00:00:00") == {night: (25_000, "PR-02")}
    assert await prices("2026-10-31T12:00:00", "2026-11-21") == {
        car: (5_000, "PR-01"),
        night: (25_000, "PR-02"),
    }
    assert await prices("2026-11-21T12:00:00", "2027-02-06") == {}


async def _open(tx: object) -> None:
    async def ask(offer_id: str, instant: str, *, offset: bool = False) -> None:
        await service.require_open(tx, offer_id=offer_id, at=shanghai(instant), offset=offset)

    await ask("XH-01", "2026-11-21T12:00:00")
    await ask("HR-06", "2026-11-25T12:00:00", offset=True)
    await ask("HR-08", "2027-02-20T23:59:59")
    with pytest.raises(NotOffsetDay) as closed:
        await ask("HR-06", "2026-11-26T12:00:00", offset=True)
    assert closed.value.context == {"next_on": "2026-12-02"}
    with pytest.raises(OfferNotOpen) as shut:
        await ask("HR-08", "2026-11-21T12:00:00")
    assert shut.value.context == {"next_on": "2027-01-15", "until_on": "2027-02-21"}


async def _earn(tx: object) -> None:
    async def earned(instant: str, cash_fen: int, town: str | None) -> int:
        multiplier, bonus = await service.earn_rule(
            tx, programme_id="P-HR", town=town, cash_fen=cash_fen, at=shanghai(instant)
        )
        return earned_by_amount(cash_fen, multiplier=multiplier, bonus=bonus)

    assert await earned("2026-11-21T10:00:00", 9_600, LIULIN) == 192
    assert await earned("2026-11-21T10:00:00", 4_999, LIULIN) == 49
    assert await earned("2026-11-22T10:00:00", 9_600, LIULIN) == 96
    assert await earned("2026-11-21T10:00:00", 9_600, "上海") == 96
    assert await earned("2026-11-21T10:00:00", 9_600, None) == 96
    rule = await service.earn_rule(
        tx, programme_id="P-HR", town=LIULIN, cash_fen=5_000, at=shanghai("2026-11-26T10:00:00")
    )
    assert rule == (Rate(2, 1), 0)


async def _compensate(tx: object) -> None:
    at_ = shanghai("2026-11-22T08:00:00")
    assert await service.compensation_rule(tx, merchant_id="M11", at=at_) == (20, 500, "PR-15")
    assert await service.compensation_rule(tx, merchant_id="M05", at=at_) == (10, 0, "PR-18")


async def test_the_last_donation_of_a_month_is_matched_up_to_what_is_left(
    database: Database,
) -> None:
    async with database.transaction() as tx:
        await seeded.load(tx)
    november, december = shanghai("2026-11-30T23:00:00"), shanghai("2026-12-01T00:00:00")

    async def give(fen: int, instant: datetime = november) -> int:
        async with database.transaction() as tx:
            taken = await service.take_match(tx, beneficiary="M16", face_fen=fen, at=instant)
            return taken.fen if taken else 0

    assert await give(1_000) == 1_000
    taken = await asyncio.gather(*(give(700_000) for _ in range(8)))
    assert sum(taken) == 5_000_000 - 1_000
    assert sorted(taken)[:2] == [99_000, 700_000]
    assert await give(100) == 0
    assert await give(100, december) == 100
    async with database.transaction() as tx:
        await service.give_match_back(tx, promotion_id="PR-12", period="2026-11", fen=1_000)
        rule = await service.match_rule(tx, beneficiary="M16", at=november)
        assert rule
        assert (rule.left_fen, rule.matched(5_000)) == (1_000, 1_000)
        assert await service.take_match(tx, beneficiary="M05", face_fen=1, at=november) is None
