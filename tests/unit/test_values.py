"""Exact arithmetic, business days and ids."""

from datetime import UTC, date, datetime
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import values
from gateway.values import Rate

AMOUNTS = st.integers(0, values.MAX_AMOUNT)
RATES = st.builds(Rate, st.integers(1, 10**6), st.integers(1, 10**6))
BPS = st.integers(0, 10_000)


@given(AMOUNTS, RATES)
def test_a_rate_is_exact(amount: int, rate: Rate) -> None:
    exact = Fraction(rate.num, rate.den)
    assert rate.floor(amount) == floor(amount * exact)
    assert rate.ceil_divide(amount) == ceil(amount / exact)
    assert rate.floor(rate.ceil_divide(amount)) >= amount, "the points cover the price"
    assert rate.reduced().floor(amount) == rate.floor(amount)


@given(RATES, RATES)
def test_rates_compare_as_fractions(one: Rate, other: Rate) -> None:
    assert (one >= other) is (Fraction(one.num, one.den) >= Fraction(other.num, other.den))


@given(AMOUNTS, BPS)
def test_a_share_is_rounded_half_up(amount: int, bps: int) -> None:
    exact = Fraction(amount * bps, 10_000)
    assert values.bps_half_up(amount, bps) == floor(exact + Fraction(1, 2))
    assert values.half_up(amount * bps, 10_000) == values.bps_half_up(amount, bps)


@pytest.mark.parametrize("wrong", [-1, 0, values.MAX_AMOUNT + 1])
def test_an_amount_out_of_range_is_refused(wrong: int) -> None:
    with pytest.raises(values.InvalidAmount) as caught:
        values.amount(wrong, field="legs.0.points")
    assert caught.value.field == ("legs", "0", "points")
    assert caught.value.context == {"value": wrong}


@pytest.mark.parametrize(
    ("earned", "months", "ends"),
    [
        (date(2026, 11, 21), 12, date(2027, 12, 1)),
        (date(2026, 1, 31), 1, date(2026, 3, 1)),
        (date(2026, 12, 1), 1, date(2027, 2, 1)),
    ],
)
def test_a_term_ends_with_its_last_month(earned: date, months: int, ends: date) -> None:
    assert values.end_of_term(earned, months=months) == values.start_of(ends)


def test_the_business_day_turns_at_midnight_in_shanghai() -> None:
    before, after = (datetime(2026, 11, 20, 15, 59, 59 * n, tzinfo=UTC) for n in (1, 0))
    assert values.business_day(before) == values.business_day(after) == date(2026, 11, 20)
    midnight = datetime(2026, 11, 20, 16, tzinfo=UTC)
    assert values.business_day(midnight) == date(2026, 11, 21)
    assert values.start_of(date(2026, 11, 21)) == midnight


def test_ids_are_prefixed_and_differ() -> None:
    ids = {values.new_id("red") for _ in range(100)}
    assert len(ids) == 100
    assert all(id_.startswith("red_") and len(id_) == 30 for id_ in ids)


def test_a_fingerprint_does_not_know_the_order_of_names() -> None:
    assert values.fingerprint({"a": 1, "b": "星"}) == values.fingerprint({"b": "星", "a": 1})
    assert values.fingerprint({"a": 1}) != values.fingerprint({"a": "1"})


@pytest.mark.parametrize(
    ("fen", "text"), [(123_450, "¥1,234.50"), (-5, "-¥0.05"), (0, "¥0.00"), (2_790, "¥27.90")]
)
def test_money_is_written_for_people(fen: int, text: str) -> None:
    assert values.yuan(fen) == text
