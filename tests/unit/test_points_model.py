"""The arithmetic of points, with the seed's own figures."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.points.model import (
    LegRequest,
    Lot,
    Programme,
    allocate,
    compensation,
    declared_value,
    derived_value,
    earned,
    earned_by_amount,
    earned_by_distance,
    earned_by_nights,
    give_back_order,
    last_day,
    missing_disclosures,
    redeliver_expiry,
    worse,
)
from gateway.values import InvalidAmount, InvalidInput, Rate

NOW = datetime(2026, 11, 20, 2, tzinfo=UTC)
LOT = Lot(
    "lot_1", "m1", "P-LL", "M04", 100, 0, 100, Rate(1, 1), 1, date(2026, 1, 1), None, "PURCHASE",
    "ord",
)  # fmt: skip
CARS = Programme(
    "P-CA", "M02", "驰安车主积分", "车主分", Rate(10, 1), None,
    {"kind": "per_amount", "points": 1, "per_fen": 100, "only_categories": ["维修", "保养"]},
    {}, 100, 1,
)  # fmt: skip
HOTEL = replace(
    CARS, earn={"kind": "per_night", "tiers": {"普通": 1000, "银卡": 1200, "金卡": 1500}}
)
AIRLINE = replace(
    CARS,
    months=36,
    earn={"kind": "per_distance", "factor_pct": {"公务": 150, "经济全价": 100, "经济折扣": 50}},
)
SHOP = replace(CARS, earn={"kind": "per_amount", "points": 2, "per_fen": 1_000, "only": "图书"})
TEA = replace(
    CARS,
    earn={
        "kind": "per_amount",
        "points": 1,
        "per_fen": 100,
        "flat_bonus": {"when": "own_cup", "points": 5},
        "multiplier": {"when": "energy_label_1", "num": 2, "den": 1},
    },
)


@pytest.mark.parametrize(
    ("cash_fen", "terms", "points"),
    [
        (100_000, {}, 1_000),  # A01
        (128_860, {}, 1_288),  # S-032
        (99, {}, 0),
        (9_600, {"multiplier": Rate(2, 1)}, 192),  # S-094
        (4_999, {"multiplier": Rate(1, 1)}, 49),
        (333, {"multiplier": Rate(3, 2), "bonus": 5}, 9),  # floor(4.5), then the bonus
        (12_345, {"per_fen": 1_000}, 12),
    ],
)
def test_a_purchase_earns_by_whole_steps_of_cash(
    cash_fen: int, terms: dict[str, Any], points: int
) -> None:
    assert earned_by_amount(cash_fen, **terms) == points


def test_five_months_of_a_thousand_points_buy_one_maintenance() -> None:
    balances = [earned_by_amount(100_000) * month for month in range(1, 6)]
    assert [balance >= 5_000 for balance in balances] == [False] * 4 + [True]  # A02
    assert declared_value(balances[-1], CARS.rate) == 50_000


def test_a_year_of_points_is_worth_more_than_the_services_it_buys() -> None:
    points = 12 * earned_by_amount(100_000)
    services, left = divmod(points, 5_000)
    assert (declared_value(points, CARS.rate), services, left) == (120_000, 2, 2_000)  # A05


def test_when_only_cash_earns_the_services_come_in_months_6_and_12() -> None:
    balance, earned_points, redeemed, month_ends = 0, 0, [], []
    for month in range(1, 13):
        cash_fen = 100_000
        if balance >= 5_000:
            balance -= 5_000
            cash_fen -= 50_000
            redeemed.append(month)
        earned_points += earned_by_amount(cash_fen)
        balance += earned_by_amount(cash_fen)
        month_ends.append(balance)
    assert (redeemed, earned_points, balance) == ([6, 12], 11_000, 1_000)  # A06
    assert month_ends == [1000, 2000, 3000, 4000, 5000, 500, 1500, 2500, 3500, 4500, 5500, 1000]


@pytest.mark.parametrize(
    ("points", "tier", "nights"),
    [
        (30_000, "金卡", 20),  # A13
        (30_000, "银卡", 25),  # A14
        (30_000, "普通", 30),
        (25_000, "金卡", 17),  # A15
        (25_000, "银卡", 21),
        (25_000, "普通", 25),
    ],
)
def test_a_free_night_takes_so_many_nights(points: int, tier: str, nights: int) -> None:
    each = HOTEL.earn["tiers"][tier]
    assert earned_by_nights(nights - 1, each) < points <= earned_by_nights(nights, each)


def test_a_hotel_point_is_worth_five_thirds_of_a_fen() -> None:
    assert declared_value(30_000, Rate(5, 3)) == 50_000  # A12
    assert declared_value(2_700, Rate(5, 3)) == 4_500  # S-046


@pytest.mark.parametrize(
    ("programme", "terms", "points"),
    [
        (CARS, {"cash_fen": 100_000, "category": "保养"}, 1_000),
        (CARS, {"cash_fen": 100_000, "category": "加油"}, 0),
        (CARS, {"cash_fen": 100_000, "category": "加油", "bonus": 20}, 0),
        (HOTEL, {"nights": 3, "tier": "金卡"}, 4_500),
        (HOTEL, {"nights": 2, "tier": "银卡"}, 2_400),
        (HOTEL, {"nights": 1}, 1_000),
        (HOTEL, {"nights": 1, "multiplier": Rate(3, 2), "bonus": 1}, 1_501),
        (AIRLINE, {"distance_km": 1_178, "fare_class": "经济折扣"}, 589),  # S-062
        (TEA, {"cash_fen": 1_600, "category": "own_cup"}, 21),
        (TEA, {"cash_fen": 1_600, "category": "energy_label_1"}, 32),
        (TEA, {"cash_fen": 1_600}, 16),
        (AIRLINE, {"distance_km": 1, "fare_class": "公务"}, 1),
        (CARS, {"cash_fen": 0, "category": "保养"}, 0),
        (SHOP, {"cash_fen": 100_000, "category": "图书"}, 200),
        (SHOP, {"cash_fen": 100_000, "category": "文具"}, 0),
    ],
)
def test_a_programme_counts_what_its_policy_says(
    programme: Programme, terms: dict[str, Any], points: int
) -> None:
    counted = earned(programme, **terms)
    assert (counted, type(counted)) == (points, int)


@pytest.mark.parametrize(
    ("programme", "terms", "field", "rule"),
    [
        (HOTEL, {"cash_fen": 30_000}, "nights", "a whole number, at least 1"),
        (HOTEL, {"nights": 0}, "nights", "a whole number, at least 1"),
        (HOTEL, {"nights": 1, "tier": "钻石"}, "tier", "one of 普通, 银卡, 金卡"),
        (AIRLINE, {"distance_km": 1_178}, "fare_class", "one of 公务, 经济全价, 经济折扣"),
        (AIRLINE, {"fare_class": "公务"}, "distance_km", "a whole number, at least 1"),
        (
            AIRLINE,
            {"distance_km": 0, "fare_class": "公务"},
            "distance_km",
            "a whole number, at least 1",
        ),
        (CARS, {"nights": 1}, "cash_fen", "fen paid in cash, a whole number"),
    ],
)
def test_what_a_policy_counts_must_be_given(
    programme: Programme, terms: dict[str, Any], field: str, rule: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        earned(programme, **terms)
    assert refused.value.field == (field,)
    assert (refused.value.context["field"], refused.value.context["rule"]) == (field, rule)


def test_negative_cash_earns_nothing_and_says_which_field() -> None:
    with pytest.raises(InvalidAmount) as refused:
        earned(CARS, cash_fen=-1, category="保养")
    assert refused.value.field == ("cash_fen",)


def test_miles_are_floored() -> None:
    assert [earned_by_distance(1_178, pct) for pct in (150, 100, 50)] == [1_767, 1_178, 589]


@pytest.mark.parametrize(
    ("points", "pct", "least", "given"),
    [(4_500, 10, 0, 450), (12_000, 20, 500, 2_400), (1_000, 20, 500, 500), (9, 10, 0, 0)],
)
def test_compensation_is_a_share_and_at_least(
    points: int, pct: int, least: int, given: int
) -> None:
    assert compensation(points, pct, least) == given


def test_miles_end_with_the_month_in_which_their_term_ends() -> None:
    end = AIRLINE.expiry(date(2023, 12, 8))
    assert end == datetime(2026, 12, 31, 16, tzinfo=UTC)
    assert last_day(replace(LOT, expires_at=end)) == date(2026, 12, 31)
    assert CARS.expiry(date(2021, 11, 21)) is None
    assert last_day(LOT) is None


def test_a_lot_that_ends_just_after_midnight_has_that_day() -> None:
    midnight = datetime(2026, 12, 31, 16, tzinfo=UTC)  # in Shanghai
    after = replace(LOT, expires_at=midnight + timedelta(microseconds=1))
    assert last_day(after) == date(2027, 1, 1)


@pytest.mark.parametrize(
    ("end", "again"),
    [
        (None, None),
        (NOW + timedelta(days=1), NOW + timedelta(days=90)),
        (NOW - timedelta(days=1), NOW + timedelta(days=90)),
        (NOW + timedelta(days=91), NOW + timedelta(days=91)),
    ],
)
def test_returned_points_get_ninety_days(end: datetime | None, again: datetime | None) -> None:
    assert redeliver_expiry(end, NOW) == again


def lots(*changes: dict[str, Any]) -> list[Lot]:
    return [replace(LOT, id=f"lot_{n}", **change) for n, change in enumerate(changes)]


SOON, LATE = NOW + timedelta(days=1), NOW + timedelta(days=9)


@pytest.mark.parametrize(
    ("found", "points", "taken"),
    [
        (lots({}), 40, {"lot_0": 40}),
        (lots({}, {"expires_at": LATE}, {"expires_at": SOON}), 210,
         {"lot_2": 100, "lot_1": 100, "lot_0": 10}),
        (lots({"earned_on": date(2026, 2, 2)}, {}), 110, {"lot_1": 100, "lot_0": 10}),
        (lots({}, {}), 110, {"lot_0": 100, "lot_1": 10}),
        (lots({"expires_at": NOW}, {}), 110, {"lot_1": 100}),
        (lots({"held": 70}, {"remaining": 10}), 100, {"lot_1": 10, "lot_0": 30}),
        ([], 10, {}),
    ],
)  # fmt: skip
def test_points_are_taken_from_the_lot_that_ends_first(
    found: list[Lot], points: int, taken: dict[str, int]
) -> None:
    if found and found[0].held:
        found[1] = replace(found[1], earned_on=date(2025, 1, 1))
    chosen = allocate(found, points, now=NOW)
    assert [(lot.id, n) for lot, n in chosen] == list(taken.items())


def test_named_lots_are_taken_first_even_when_they_have_ended() -> None:
    found = lots({}, {"expires_at": NOW}, {"expires_at": SOON})
    chosen = allocate(found, 250, now=NOW, first=["lot_1", "lot_0"])
    assert [(lot.id, n) for lot, n in chosen] == [("lot_1", 100), ("lot_0", 100), ("lot_2", 50)]


@given(st.lists(st.integers(1, 1_000), min_size=1), st.data())
def test_giving_back_undoes_the_allocation_from_its_end(spent: list[int], data: Any) -> None:
    points = data.draw(st.integers(0, sum(spent)))
    burned = [(f"lot_{n}", amount) for n, amount in enumerate(spent)]
    given_back = dict(give_back_order(burned, points))
    kept = [amount - given_back.get(lot, 0) for lot, amount in burned]
    assert sum(given_back.values()) == points
    assert all(after == 0 or amount == before for (before, after), amount in zip(
        pairwise(kept), spent, strict=False))  # fmt: skip


@given(
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.lists(st.integers(-(10**9), 10**9), max_size=50),
)
def test_derived_values_add_up_to_the_value_of_what_is_outstanding(
    num: int, den: int, moved: list[int]
) -> None:
    rate, outstanding, liability = Rate(num, den), 0, 0
    for points in moved:
        after = max(outstanding + points, 0)
        liability += derived_value(rate, before=outstanding, after=after)
        outstanding = after
    assert liability == rate.floor(outstanding)


@pytest.mark.parametrize(
    ("rate", "months", "refused"),
    [
        (Rate(15, 2), 36, False),
        (Rate(30, 4), 36, False),
        (Rate(8, 1), 48, False),
        (Rate(15, 2), None, False),
        (Rate(7, 1), 36, True),
        (Rate(15, 2), 35, True),
    ],
)
def test_a_policy_may_only_get_better(rate: Rate, months: int | None, refused: bool) -> None:
    assert worse(replace(AIRLINE, rate=Rate(15, 2)), rate=rate, months=months) is refused


def test_a_disclosure_states_accrual_validity_and_limits() -> None:
    stated = json.loads('{"accrual_zh": "每晚1000", "validity_zh": " ", "note": "x"}')
    assert missing_disclosures(stated) == ["validity_zh", "limits_zh"]


def test_a_leg_has_a_number_and_points() -> None:
    assert LegRequest(1, "m1", "P-LL", 1).points == 1
    for leg_no, points in ((1, 0), (1, -1)):
        with pytest.raises(AssertionError):
            LegRequest(leg_no, "m1", "P-LL", points)


def test_giving_back_more_than_was_burned_is_a_bug() -> None:
    assert give_back_order([("lot_1", 5)], 5) == [("lot_1", 5)]
    with pytest.raises(AssertionError):
        give_back_order([("lot_1", 5)], 6)
