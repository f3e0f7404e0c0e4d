"""Calendars with lunar dates and holidays, coupons, savings; the days are those of the data."""

from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from gateway.promotions import calendar, coupons, savings
from gateway.promotions.coupons import CartLine, MinSpendNotMet
from gateway.promotions.model import best_price, check
from gateway.values import SHANGHAI, InvalidInput, Rate
from tests.support import coalition

DAYS = coalition.days()
LIULIN = "柳林镇"


def rule(promotion_id: str) -> Any:
    return coalition.promotions()[promotion_id].rule


@pytest.mark.parametrize(
    ("promotion", "instant", "slot_on", "runs"),
    [
        ("PR-01", "2026-10-31T23:59:59+08:00", None, True),
        ("PR-01", "2026-11-01T00:00:00+08:00", None, False),
        ("PR-01", "2026-09-30T16:00:00+00:00", None, True),  # 1 October in Shanghai
        ("PR-02", "2026-09-01T12:00:00+08:00", "2026-11-21", True),  # judged by the night
        ("PR-02", "2026-11-21T12:00:00+08:00", "2027-02-06", False),  # Spring Festival
        ("PR-02", "2026-11-21T12:00:00+08:00", "2027-02-11", True),  # the day after
        ("PR-02", "2026-11-21T12:00:00+08:00", "2027-01-02", False),
        ("PR-02", "2026-11-21T12:00:00+08:00", "2027-04-10", False),
        ("PR-04", "2026-11-25T08:00:00+08:00", None, True),
        ("PR-04", "2026-11-26T08:00:00+08:00", None, False),
        ("PR-05", "2026-09-25T08:00:00+08:00", None, True),
        ("PR-05", "2026-09-26T08:00:00+08:00", None, False),
        ("PR-06", "2027-01-14T23:59:59+08:00", None, False),
        ("PR-06", "2027-01-15T00:00:00+08:00", None, True),
        ("PR-06", "2027-02-20T23:59:59+08:00", None, True),
        ("PR-06", "2027-02-21T00:00:00+08:00", None, False),
        ("PR-12", "2026-11-21T00:00:00+08:00", None, True),
        ("PR-17", "2026-11-21T00:00:00+08:00", None, False),  # judged per member
    ],
)
def test_a_promotion_runs_on_its_days(
    promotion: str, instant: str, slot_on: str | None, runs: bool
) -> None:
    night = date.fromisoformat(slot_on) if slot_on else None
    found = coalition.promotions()[promotion]
    assert found.runs(DAYS, at=datetime.fromisoformat(instant), slot_on=night) is runs


def test_market_days_come_on_threes_and_eights_of_the_lunar_month_in_their_towns() -> None:
    november = ["2026-11-21", "2026-11-26"]
    december = [f"2026-12-{day}" for day in ("01", "06", "11", "16", "21", "26", "31")]
    wanted = [*november, *december, "2027-01-05", "2027-01-10"]
    first = date(2026, 11, 21)
    range_ = [first + timedelta(days=step) for step in range(51)]
    found = [
        on.isoformat() for on in range_ if calendar.runs_on(rule("PR-03"), DAYS, on, town=LIULIN)
    ]
    assert found == wanted
    assert not calendar.runs_on(rule("PR-03"), DAYS, first, town="上海")
    assert not calendar.runs_on(rule("PR-03"), DAYS, first)


@pytest.mark.parametrize(
    ("promotion", "after", "expected"),
    [
        ("PR-06", "2026-11-21", ("2027-01-15", "2027-02-21")),
        ("PR-05", "2026-11-21", ("2027-09-01", "2027-09-16")),
        ("PR-04", "2026-11-21", ("2026-11-25", "2026-11-26")),
        ("PR-05", "2027-09-20", None),  # not in the calendar yet
    ],
)
def test_the_next_run_of_a_promotion_is_named(
    promotion: str, after: str, expected: tuple[str, str] | None
) -> None:
    run = calendar.next_run(rule(promotion), DAYS, date.fromisoformat(after))
    assert (tuple(on.isoformat() for on in run) if run else None) == expected


@pytest.mark.parametrize(
    ("listed", "on", "holiday"),
    [
        ([["2026-05-01", "2026-03-15", "H"]], "2026-05-01", True),  # a Friday
        ([["2026-05-01", "2026-03-15", "H"]], "2026-05-02", True),
        ([["2026-05-01", "2026-03-15", "H"]], "2026-05-03", True),
        ([["2026-05-01", "2026-03-15", "H"]], "2026-05-04", False),
        ([["2026-05-01", "2026-03-15", "H"]], "2026-04-26", False),
        ([["2026-05-01", "H", ""], ["2026-05-03", "", "W"]], "2026-05-03", False),  # make-up day
        ([["2026-05-04", "2026-03-18", "HP"]], "2026-05-03", True),  # the weekend before a Monday
        ([["2026-05-05", "2026-03-19", "HP"]], "2026-05-03", False),
    ],
)
def test_a_weekend_that_touches_a_holiday_is_one(
    listed: list[list[str]], on: str, holiday: bool
) -> None:
    rows = [[day, "2026-03-15", flag or "H"] for day, _, flag in listed]
    days = {day.on: day for day in calendar.read_days(rows)}
    assert calendar.is_public_holiday(days, date.fromisoformat(on)) is holiday


def test_a_leap_month_has_market_days_but_no_festival() -> None:
    rows = [["2028-06-25", "2028-05L-03", ""], ["2028-06-26", "2028-05L-05"]]
    days = {day.on: day for day in calendar.read_days(rows)}
    dragon_boat = {"kind": "lunar_range", "from_md": [5, 5], "until_md": [5, 6]}
    assert days[date(2028, 6, 25)].leap
    assert calendar.runs_on({"kind": "lunar_days", "days": [3]}, days, date(2028, 6, 25))
    assert not calendar.runs_on(dragon_boat, days, date(2028, 6, 26))


def test_a_day_shows_its_festival_and_solar_term() -> None:
    spring = DAYS[date(2027, 2, 6)]
    assert (spring.flag, spring.festival, spring.lunar_month) == ("HP", "春节", 1)
    assert DAYS[date(2026, 11, 22)].solar_term == "小雪"


@pytest.mark.parametrize(
    ("around", "near"),
    [
        ("2026-11-11", False),
        ("2026-11-12", True),
        ("2027-01-11", True),
        ("2027-01-12", False),
    ],
)
def test_an_anniversary_is_near_thirty_days_before_and_after(around: str, near: bool) -> None:
    dates = {"wedding_anniversary": "2018-12-12"}
    assert calendar.member_window(rule("PR-17"), dates, date.fromisoformat(around)) is near
    assert not calendar.member_window(rule("PR-17"), {}, date.fromisoformat(around))


def test_a_promotion_above_the_regular_price_changes_nothing() -> None:
    anniversary = coalition.promotions()["PR-01"]
    assert best_price([anniversary], own_points=6_000) == (5_000, anniversary)
    assert best_price([anniversary], own_points=5_000) is None
    assert best_price([], own_points=6_000) is None


def test_every_promotion_of_the_data_can_be_published() -> None:
    for promotion in coalition.promotions().values():
        assert check(promotion) is promotion


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"rule": {"kind": "moon"}}, "calendar.kind"),
        ({"scope": "all"}, "scope"),
        ({"judged_by": "mood"}, "judged_by"),
        ({"effect": {"kind": "price", "points": 0}}, "effect.points"),
        ({"effect": {"kind": "match", "num": 1, "den": 1}}, "effect.monthly_cap_fen"),
    ],
)
def test_a_promotion_nobody_can_read_is_refused(given: dict[str, Any], field: str) -> None:
    from dataclasses import replace

    with pytest.raises(InvalidInput) as refusal:
        check(replace(coalition.promotions()["PR-01"], **given))
    assert refusal.value.context["field"] == field


def coupon(offer_id: str) -> Any:
    return coalition.offers()[offer_id].coupon


@pytest.mark.parametrize(
    ("offer", "lines", "pay"),
    [
        ("AX-01", [("保险", 500_000)], 400_000),
        ("HR-05", [("日用", 20_000)], 10_000),
        ("HR-05", [("日用", 20_000), ("酒", 9_900)], 19_900),
        ("HR-11", [("民生", 9_999)], 9_000),  # 999.9 is floored
        ("HR-11", [("民生", 20_000)], 18_500),  # limited to ¥15
        ("MX-02", [("图书", 30_000)], 26_000),  # limited to ¥40
        ("MX-01", [("图书", 10_000)], 8_000),
        ("KX-01", [("出行", 700)], 0),  # never more than the ride
    ],
)
def test_a_coupon_is_taken_off_what_it_is_for(
    offer: str, lines: list[tuple[str, int]], pay: int
) -> None:
    assert coupons.apply(coupon(offer), [CartLine(*line) for line in lines]).pay_fen == pay


@pytest.mark.parametrize(
    ("offer", "lines", "context"),
    [
        (
            "AX-01",
            [("保险", 499_900)],
            {"min_fen": 500_000, "cart_fen": 499_900, "missing_fen": 100},
        ),
        ("HR-05", [("日用", 19_999)], {"min_fen": 20_000, "cart_fen": 19_999, "missing_fen": 1}),
        (
            "HR-05",
            [("日用", 15_000), ("酒", 90_000)],
            {"min_fen": 20_000, "cart_fen": 15_000, "missing_fen": 5_000},
        ),
    ],
)
def test_a_coupon_has_a_minimum_on_the_eligible_lines(
    offer: str, lines: list[tuple[str, int]], context: dict[str, int]
) -> None:
    with pytest.raises(MinSpendNotMet) as refusal:
        coupons.apply(coupon(offer), [CartLine(*line) for line in lines])
    assert refusal.value.context == context


def test_two_prices_give_two_percentages() -> None:
    change = savings.price_change(6_000, 5_000)
    assert (change.price, change.value) == (Fraction(-1, 6), Fraction(1, 5))
    assert change.factor == Fraction(6, 5)


def test_savings_never_redeem_what_is_not_there() -> None:
    target = savings.Target(5_000, 50_000)
    year = savings.by_cash(target, months=4, bill_fen=100_000, per_fen=100, rate=Rate(10, 1))
    assert (year.services, year.saved_fen, year.points_left) == (0, 0, 4_000)
    assert year.value_fen == 40_000


def test_midnight_in_shanghai_is_the_boundary() -> None:
    anniversary = coalition.promotions()["PR-01"]
    last = datetime(2026, 10, 31, 23, 59, 59, 999999, SHANGHAI)
    assert anniversary.runs(DAYS, at=last)
    assert not anniversary.runs(DAYS, at=last + timedelta(microseconds=1))
