"""What points save, in two honest figures: their value, and what can be had for them. Pure.

Nothing here is stored: each figure is computed from a member's own assumptions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from gateway.values import Rate


@dataclass(frozen=True, slots=True)
class Target:
    """What is saved for: its points price, and what it costs in cash."""

    points: int
    fen: int

    @property
    def fen_per_point(self) -> Fraction:
        return Fraction(self.fen, self.points)


@dataclass(frozen=True, slots=True)
class Reach:
    """When a target is reached, saving the same every month."""

    months: int
    balance_after: int


@dataclass(frozen=True, slots=True)
class Savings:
    """A period of earning and redeeming as soon as possible.

    `value_fen` is what all earned points are worth, `saved_fen` what the services had for them
    cost, `points_left` what remains. `month_end_balances` has one entry a month.
    """

    earned_points: int
    value_fen: int
    services: int
    saved_fen: int
    points_left: int
    redeemed_in_months: tuple[int, ...]
    month_end_balances: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PriceChange:
    """A new points price against an old one: two exact fractions, never confused.

    5,000 instead of 6,000 points: the price falls by 1/6, a point is worth 1/5 more.
    """

    price: Fraction
    value: Fraction
    factor: Fraction


def price_change(old_points: int, new_points: int) -> PriceChange:
    """Compare two points prices. Source: requirements C-10, A07."""
    factor = Fraction(old_points, new_points)
    return PriceChange(Fraction(new_points - old_points, old_points), factor - 1, factor)


def fen_per_point(fen: int, points: int) -> Fraction:
    """What a point is worth in an offer, exact."""
    return Fraction(fen, points)


def value_of(points: int, rate: Rate) -> int:
    """The declared value of points, in fen, rounded down. Source: requirements §4.10."""
    return rate.floor(points)


def reach(target: Target, *, points_per_month: int) -> Reach:
    """Months until a target can be redeemed, and what is left then."""
    months = -(-target.points // points_per_month)
    return Reach(months, months * points_per_month - target.points)


def by_points(target: Target, *, months: int, points_per_month: int, rate: Rate) -> Savings:
    """A period in which every month earns the same, whatever is redeemed."""
    return _play(target, [points_per_month] * months, rate)


def by_cash(target: Target, *, months: int, bill_fen: int, per_fen: int, rate: Rate) -> Savings:
    """A period of equal monthly bills in which only cash earns.

    In the first month in which the balance suffices, the target is redeemed and its fen come
    off that month's bill; the rest is paid, and earns a point per `per_fen`.
    """
    full, reduced = bill_fen // per_fen, max(bill_fen - target.fen, 0) // per_fen
    balance, earned, redeemed, ends = 0, 0, list[int](), list[int]()
    for month in range(1, months + 1):
        gain = full
        if balance >= target.points:
            redeemed.append(month)
            balance -= target.points
            gain = reduced
        balance += gain
        earned += gain
        ends.append(balance)
    return _savings(target, rate, earned, redeemed, ends)


def _play(target: Target, gains: list[int], rate: Rate) -> Savings:
    balance, redeemed, ends = 0, list[int](), list[int]()
    for month, gain in enumerate(gains, start=1):
        balance += gain
        while balance >= target.points:
            redeemed.append(month)
            balance -= target.points
        ends.append(balance)
    return _savings(target, rate, sum(gains), redeemed, ends)


def _savings(
    target: Target, rate: Rate, earned: int, redeemed: list[int], ends: list[int]
) -> Savings:
    return Savings(
        earned_points=earned,
        value_fen=value_of(earned, rate),
        services=len(redeemed),
        saved_fen=len(redeemed) * target.fen,
        points_left=ends[-1] if ends else 0,
        redeemed_in_months=tuple(redeemed),
        month_end_balances=tuple(ends),
    )


def nights_needed(points: int, *, per_night: int) -> int:
    """Nights until `points` are earned."""
    return -(-points // per_night)


def rebate(points: int, rate: Rate, *, spent_fen: int) -> Fraction:
    """The part of what was spent that comes back as points, by their declared value."""
    return Fraction(points * rate.num, rate.den * spent_fen)


def at_par(points: int, rates: Mapping[str, Rate]) -> dict[str, int]:
    """What the same number of points is worth in each programme, in fen.

    It shows why points are never exchanged at par.
    """
    return {name: value_of(points, rate) for name, rate in rates.items()}
