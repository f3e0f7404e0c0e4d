"""Token buckets: how often, how many at once, and when again."""

from dataclasses import replace

import pytest

from gateway.api.rates import KEPT, Buckets, Rates
from gateway.oauth.guard import ANONYMOUS, Actor, RateLimited
from gateway.settings import Settings

MEMBER = Actor("usr_1", "member", "member-app", member_id="mbr_1")
TILL = Actor("merchant-M05", "partner", "merchant-M05", merchant_id="M05")


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _taken(buckets: Buckets, whose: str) -> int:
    """How many are let through until one is not."""
    count = 0
    while True:
        try:
            buckets.take(whose)
        except RateLimited:
            return count
        count += 1


def test_a_bucket_empties_and_fills_again() -> None:
    time = Time()
    buckets = Buckets(rate=2, burst=6, now=time)
    assert _taken(buckets, "a") == 6
    assert _taken(buckets, "b") == 6
    time.now += 2
    assert _taken(buckets, "a") == 4
    time.now += 1000
    assert _taken(buckets, "a") == 6


def test_a_refusal_says_in_how_many_seconds() -> None:
    buckets = Buckets(rate=0.1, burst=1, now=Time())
    buckets.take("a")
    with pytest.raises(RateLimited) as refused:
        buckets.take("a")
    assert refused.value.context == {"retry_after_seconds": 10}
    assert refused.value.status == 429


def test_no_rate_is_no_limit() -> None:
    buckets = Buckets(rate=0, burst=0, now=Time())
    for _ in range(100):
        buckets.take("a")
    assert not buckets.held


def test_looking_takes_nothing() -> None:
    buckets = Buckets(rate=1, burst=1, now=Time())
    for _ in range(5):
        buckets.require("a")
    assert _taken(buckets, "a") == 1


def test_only_so_many_buckets_are_kept() -> None:
    buckets = Buckets(rate=1, burst=1, now=Time())
    for number in range(KEPT + 10):
        buckets.take(str(number))
    assert len(buckets.held) == KEPT


def test_members_and_machines_have_limits_of_their_own() -> None:
    settings = replace(Settings(), member_requests_per_second=0.1, client_requests_per_second=0.2)
    rates = Rates(settings)
    rates.admit(MEMBER)
    rates.admit(TILL)
    rates.admit(TILL)
    for actor in (MEMBER, TILL):
        with pytest.raises(RateLimited):
            rates.admit(actor)
    for _ in range(9):
        rates.admit(ANONYMOUS)  # Its address has a limit.
    rates.admit(replace(MEMBER, member_id="mbr_2"))


def test_only_a_miss_of_a_vouchers_code_counts() -> None:
    rates = Rates(replace(Settings(), voucher_misses_per_minute=2))
    for _ in range(20):
        rates.take_effect(TILL, "verifyVoucher")
        rates.hit(TILL, "verifyVoucher")
    rates.take_effect(TILL, "verifyVoucher")
    rates.take_effect(TILL, "verifyVoucher")
    with pytest.raises(RateLimited):
        rates.require_effects(TILL, ["me", "verifyVoucher"])
    rates.require_effects(replace(TILL, merchant_id="M06"), ["verifyVoucher"])


def test_spending_has_a_limit_beside_asking() -> None:
    rates = Rates(replace(Settings(), redeems_per_minute=1))
    rates.take_effect(MEMBER, "redeemOffer")
    rates.take_effect(MEMBER, "requestQuote")
    with pytest.raises(RateLimited):
        rates.take_effect(MEMBER, "holdRedemption")
    rates.hit(MEMBER, "holdRedemption")
    with pytest.raises(RateLimited):
        rates.take_effect(MEMBER, "confirmRedemption")
