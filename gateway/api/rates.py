"""How often somebody may ask: token buckets in this process, looked at before anything is read.

An address, a merchant's machine and a member have a bucket each; what spends points has another,
and so has guessing vouchers' codes at a till, where only a miss counts. With several gateways
each counts by itself.

Source: security.md §1.11.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from gateway.oauth.guard import Actor, RateLimited
from gateway.settings import Settings

KEPT = 20_000  # Buckets; the one not used for longest is forgotten, which fills it.
REDEEMING = frozenset({"redeemOffer", "holdRedemption", "confirmRedemption", "donatePoints"})
GUESSING = "verifyVoucher"


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


@dataclass(slots=True)
class Buckets:
    """Buckets of one size, by whose they are.

    Args:
        rate: Tokens that come back in a second; 0: no limit.
        burst: Tokens of a full bucket.
        now: Monotonic seconds.
    """

    rate: float
    burst: float
    now: Callable[[], float] = time.monotonic
    held: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)

    def take(self, whose: str, count: int = 1) -> None:
        """Take tokens.

        Raises:
            RateLimited: There are not as many; says in how many seconds there will be.
        """
        if not self.rate:
            return
        bucket = self._filled(whose)
        if bucket.left < count:
            wait = (min(count, self.burst) - bucket.left) / self.rate
            raise RateLimited(retry_after_seconds=max(1, math.ceil(wait)))
        bucket.left -= count

    def require(self, whose: str) -> None:
        """Look whether there is a token, and leave it.

        Raises:
            RateLimited: There is none.
        """
        self.take(whose)
        self.give_back(whose)

    def give_back(self, whose: str, count: int = 1) -> None:
        """Put back what was taken in advance."""
        if self.rate:
            bucket = self._filled(whose)
            bucket.left = min(self.burst, bucket.left + count)

    def _filled(self, whose: str) -> _Bucket:
        now = self.now()
        bucket = self.held.get(whose)
        if bucket is None:
            bucket = self.held[whose] = _Bucket(self.burst, now)
            if len(self.held) > KEPT:
                self.held.popitem(last=False)
        self.held.move_to_end(whose)
        bucket.left = min(self.burst, bucket.left + (now - bucket.at) * self.rate)
        bucket.at = now
        return bucket


class Rates:
    """The limits of one gateway."""

    def __init__(self, settings: Settings) -> None:
        def per_second(rate: float) -> Buckets:
            return Buckets(rate, rate * 10)

        def per_minute(count: float) -> Buckets:
            return Buckets(count / 60, count)

        self.address = per_second(settings.address_requests_per_second)
        self.machine = per_second(settings.client_requests_per_second)
        self.member = per_second(settings.member_requests_per_second)
        self.redeeming = per_minute(settings.redeems_per_minute)
        self.guesses = per_minute(settings.voucher_misses_per_minute)

    def admit_address(self, address: str) -> None:
        """Before a token is looked at.

        Raises:
            RateLimited: Too many from there.
        """
        self.address.take(address)

    def admit(self, actor: Actor) -> None:
        """Before the request is read.

        Raises:
            RateLimited: Too many from this member, person or machine.
        """
        if actor.anonymous:
            return
        if actor.member_id:
            self.member.take(actor.member_id)
        else:
            self.machine.take(actor.subject)

    def require_effects(self, actor: Actor, names: Collection[str]) -> None:
        """Before mutations run, so that the whole request is answered with 429.

        Raises:
            RateLimited: One of them has no token left.
        """
        for name in names:
            if held := self._of(actor, name):
                held[0].require(held[1])

    def take_effect(self, actor: Actor, name: str) -> None:
        """Before each mutation field: a request may name one many times.

        Raises:
            RateLimited: Too many.
        """
        if held := self._of(actor, name):
            held[0].take(held[1])

    def hit(self, actor: Actor, name: str) -> None:
        """The mutation did not guess: a code that was one costs nothing."""
        if name == GUESSING and (held := self._of(actor, name)):
            held[0].give_back(held[1])

    def _of(self, actor: Actor, name: str) -> tuple[Buckets, str] | None:
        if name in REDEEMING and actor.member_id:
            return self.redeeming, actor.member_id
        if name == GUESSING and actor.merchant_id:
            return self.guesses, actor.merchant_id
        return None
