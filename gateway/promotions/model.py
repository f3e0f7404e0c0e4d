"""A promotion: who it is for, what it does, when it runs. Pure.

The effects this room works out: price, enable, earn_multiplier, compensation, match. Others
(bonus, draw, badge_set, carbon, …) are kept as data for the rooms that play them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple

from gateway.errors import Refused
from gateway.promotions import calendar
from gateway.values import InvalidInput, Rate, business_day

JUDGED_BY = ("quote instant", "date of the night", "purchase instant")


class OfferNotOpen(Refused):
    code = "OFFER_NOT_OPEN"
    when = "outside the offer's window; until_on is the first day after it"
    zh = "现在不在兑换期,下次从 {next_on} 开始"
    en = "not open now; opens on {next_on}"
    next_zh = "可设置开始提醒"
    next_en = "ask to be reminded"


class NotOffsetDay(Refused):
    code = "NOT_OFFSET_DAY"
    when = "an offset-day offer on another day"
    zh = "今天不是积分抵扣日,下一次是 {next_on}"
    en = "not an offset day; the next is {next_on}"
    next_zh = "请在 {next_on} 使用"
    next_en = "come on {next_on}"


@dataclass(frozen=True, slots=True)
class Promotion:
    """One campaign, as published.

    Args:
        target: One of offer, programme, merchant, redeemer, catalog.
        scope: `own`: the merchant's own programme only; `coalition`: every programme.
        effect: A document with its kind; see the module's text.
        rule: The calendar rule, see `calendar`.
    """

    id: str
    merchant_id: str
    name_zh: str
    rule_text: str
    target: Mapping[str, Any]
    scope: str
    effect: Mapping[str, Any]
    rule: Mapping[str, Any]
    judged_by: str = "quote instant"
    sub_budget_fen: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return str(self.effect["kind"])

    def day_judged(self, *, at: datetime, slot_on: date | None) -> date:
        """The business day on which the calendar is asked: the slot's night, or the instant."""
        if self.judged_by == "date of the night" and slot_on:
            return slot_on
        return business_day(at)

    def runs(
        self,
        days: calendar.Days,
        *,
        at: datetime,
        slot_on: date | None = None,
        town: str | None = None,
    ) -> bool:
        """Whether it holds for a request at `at`, for a slot on `slot_on`, in `town`."""
        on = self.day_judged(at=at, slot_on=slot_on)
        return calendar.runs_on(self.rule, days, on, town=town)


def check(promotion: Promotion) -> Promotion:
    """Check what is published.

    Raises:
        InvalidInput: An unknown calendar, scope or judge, or an effect without its figures.
    """
    if promotion.rule.get("kind") not in calendar.KINDS:
        raise InvalidInput("calendar.kind", "one of {values}", values=sorted(calendar.KINDS))
    if promotion.scope not in ("own", "coalition"):
        raise InvalidInput("scope", "one of {values}", values=("own", "coalition"))
    if promotion.judged_by not in JUDGED_BY:
        raise InvalidInput("judged_by", "one of {values}", values=JUDGED_BY)
    needed = {
        "price": ("points",),
        "earn_multiplier": ("num", "den"),
        "compensation": ("pct", "min_points"),
        "match": ("num", "den", "monthly_cap_fen"),
    }
    for name in needed.get(promotion.kind, ()):
        value = promotion.effect.get(name)
        if not isinstance(value, int) or value < (1 if name in ("num", "den", "points") else 0):
            raise InvalidInput(f"effect.{name}", "a whole number in range")
    return promotion


def best_price(
    running: Iterable[Promotion], *, own_points: int | None
) -> tuple[int, Promotion] | None:
    """The lowest running promotion price, if it is below the regular one; ties by id."""
    prices = [(int(promotion.effect["points"]), promotion.id, promotion) for promotion in running]
    if not prices:
        return None
    points, _, promotion = min(prices, key=lambda price: price[:2])
    if own_points is not None and points >= own_points:
        return None
    return points, promotion


class EarnRule(NamedTuple):
    """What a running promotion adds to an earn: a factor of the base points, a flat bonus."""

    multiplier: Rate | None = None
    bonus: int = 0


class CompensationRule(NamedTuple):
    """What a member gets when the redeemer cancels. PR-15 for a carrier, PR-18 for the rest."""

    pct: int = 0
    min_points: int = 0
    promotion_id: str | None = None


@dataclass(frozen=True, slots=True)
class MatchRule:
    """A donation's match, in goods, with what is left of the month's cap."""

    promotion_id: str
    merchant_id: str
    rate: Rate
    monthly_cap_fen: int
    left_fen: int
    slice: str

    def matched(self, face_fen: int) -> int:
        """Fen matched for a donation: the last one of a month up to what is left."""
        return min(self.rate.floor(face_fen), self.left_fen)
