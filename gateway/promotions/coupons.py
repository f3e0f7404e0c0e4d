"""What a coupon takes off a cart. Pure; a promise of `coupon` in an offer's attributes.

A coupon is a document: off_fen, or off_pct with an optional max_off_fen; optional
min_spend_fen; only_categories of the lines it is judged on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gateway.errors import Refused


class MinSpendNotMet(Refused):
    code = "MIN_SPEND_NOT_MET"
    when = "a coupon's minimum is not reached"
    zh = "满 {min} 可用,还差 {missing}"
    en = "valid from {min}; {missing} missing"
    next_zh = "再选一些商品即可使用"
    next_en = "add to the cart"


@dataclass(frozen=True, slots=True)
class CartLine:
    """A line of a cart: its category and what it costs."""

    category: str
    fen: int


@dataclass(frozen=True, slots=True)
class Discount:
    """What a coupon did: fen of the whole cart, taken off, and left to pay."""

    cart_fen: int
    off_fen: int
    pay_fen: int

    @property
    def share(self) -> Fraction:
        """The part of the cart that was taken off, exact."""
        return Fraction(self.off_fen, self.cart_fen) if self.cart_fen else Fraction(0)


def apply(coupon: Mapping[str, Any], lines: Sequence[CartLine]) -> Discount:
    """Take a coupon off a cart.

    The minimum is judged on the eligible lines; a percentage is floored, then limited; never
    more than the eligible lines cost.

    Raises:
        MinSpendNotMet: The eligible lines do not reach the minimum.

    Source: requirements §4.7.
    """
    eligible = eligible_fen(coupon, lines)
    require_min_spend(coupon, eligible)
    if "off_fen" in coupon:
        off = int(coupon["off_fen"])
    else:
        off = eligible * coupon["off_pct"] // 100
        off = min(off, coupon.get("max_off_fen", off))
    off = min(off, eligible)
    cart = sum(line.fen for line in lines)
    return Discount(cart_fen=cart, off_fen=off, pay_fen=cart - off)


def eligible_fen(coupon: Mapping[str, Any], lines: Sequence[CartLine]) -> int:
    """What the lines cost that a coupon, or a bill offset, may be used for."""
    only = coupon.get("only_categories")
    return sum(line.fen for line in lines if not only or line.category in only)


def require_min_spend(coupon: Mapping[str, Any], cart_fen: int) -> None:
    """Check a coupon's minimum.

    Raises:
        MinSpendNotMet: `cart_fen` is below it.
    """
    least = coupon.get("min_spend_fen", 0)
    if cart_fen < least:
        raise MinSpendNotMet(min_fen=least, cart_fen=cart_fen, missing_fen=least - cart_fen)
