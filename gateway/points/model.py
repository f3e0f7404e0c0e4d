"""Programmes, lots, holds and earnings, and the arithmetic of points. Pure: no I/O, no clock.

A lot is what one event gave one member: points of one issuer with the policy, expiry and value
they were promised. 0 <= held <= remaining <= points; held ones are part of remaining.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.ledger.model import Line
from gateway.values import InvalidInput, Rate, amount, business_day, end_of_term

RETURN_WINDOW = timedelta(days=7)  # Of goods; consumed services have none. Requirements §5.
EXTENSION = timedelta(days=90)  # What returned points get at least. Contracts §5.6.
DISCLOSURES = ("accrual_zh", "validity_zh", "limits_zh")
_NEVER = datetime.max.replace(tzinfo=UTC)


class HoldState(StrEnum):
    HELD = "HELD"
    POSTED = "POSTED"  # burned
    VOIDED = "VOIDED"  # released


class EarningState(StrEnum):
    PENDING = "PENDING"  # its return window runs
    MATURED = "MATURED"  # its lot exists
    RETURNED = "RETURNED"  # wholly, before it matured


@dataclass(frozen=True, slots=True)
class Programme:
    """An issuer's programme under its present policy.

    Args:
        rate: Declared value, fen per point.
        months: Validity of points; None for life.
        earn: `{kind: per_amount | per_night | per_distance, ...}` as published.
        compensation_bps: Share of the yearly budget approved on top for compensation.
    """

    id: str
    issuer: str
    name_zh: str
    unit_zh: str
    rate: Rate
    months: int | None
    earn: Mapping[str, Any]
    disclosure: Mapping[str, str]
    compensation_bps: int
    policy_version: int

    def expiry(self, earned_on: date) -> datetime | None:
        """When points earned on a business day end; None for never."""
        return None if self.months is None else end_of_term(earned_on, months=self.months)


@dataclass(frozen=True, slots=True)
class Lot:
    """Points of one event, as promised by the policy of that day. `rate`: its floor value."""

    id: str
    member_id: str
    programme_id: str
    issuer: str
    points: int
    held: int
    remaining: int
    rate: Rate
    policy_version: int
    earned_on: date
    expires_at: datetime | None
    basis: str
    ref: str

    @property
    def free(self) -> int:
        """Points neither spent nor held."""
        return self.remaining - self.held

    def spendable(self, now: datetime) -> int:
        """Free points, none of an expired lot."""
        return 0 if self.expires_at is not None and self.expires_at <= now else self.free


@dataclass(frozen=True, slots=True)
class LegRequest:
    """Points wanted for one leg of a redemption, and what its journal posts to HUB."""

    leg_no: int
    member_id: str
    programme_id: str
    points: int
    hub_lines: tuple[Line, ...] = ()

    def __post_init__(self) -> None:
        assert self.points > 0, "a leg of no points is a bug in the caller"


@dataclass(frozen=True, slots=True)
class Hold:
    """Points of one leg set aside until its redemption is decided. `returned` after burning."""

    id: str
    redemption_id: str
    epoch: int
    leg_no: int
    member_id: str
    programme_id: str
    issuer: str
    points: int
    returned: int
    state: HoldState
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Returned:
    """Points of one leg given back to the lot they came from, and when that lot ends now."""

    leg_no: int
    lot_id: str
    points: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Earning:
    """What one purchase earned. Pending until `mature_at`, then a lot."""

    id: str
    issuer: str
    programme_id: str
    member_id: str
    ref: str
    points: int
    state: EarningState
    mature_at: datetime
    lot_id: str | None
    paid_debt: int = 0  # of the points of a consumed purchase


@dataclass(frozen=True, slots=True)
class Return:
    """Points taken back for a return: pending ones, those left in the lot, the rest as debt."""

    earning_id: str
    ref: str
    points: int
    from_pending: int
    from_available: int
    owed: int


@dataclass(frozen=True, slots=True)
class Movement:
    """What one journal did to one lot: to its held points and to all that remain of it."""

    journal_id: str
    kind: str
    programme_id: str
    lot_id: str
    held: int
    remaining: int
    cause_id: str
    moved_at: datetime


@dataclass(frozen=True, slots=True)
class Wallet:
    """A member's points of one programme. Balances of issuers are never added."""

    programme_id: str
    issuer: str
    available: int
    pending: int
    held: int
    owed: int


def allocate(
    lots: Iterable[Lot], points: int, *, now: datetime, first: Sequence[str] = ()
) -> list[tuple[Lot, int]]:
    """Choose the lots a debit takes: earliest expiry, then oldest, then id.

    Args:
        lots: Lots of one member and programme, any order.
        first: Lot ids to be taken before all others, in this order, expired or not.

    Returns:
        Lots with the points taken of each, in order of allocation; fewer than `points`
        together when there are not enough.

    Source: requirements §5.
    """
    place = {lot_id: number for number, lot_id in enumerate(first)}
    chosen, missing = [], points
    for lot in sorted(lots, key=lambda lot: (place.get(lot.id, len(place)), *_age(lot))):
        free = lot.free if lot.id in place else lot.spendable(now)
        taken = min(free, missing)
        if taken:
            chosen.append((lot, taken))
            missing -= taken
    return chosen


def _age(lot: Lot) -> tuple[datetime, date, str]:
    return (lot.expires_at or _NEVER, lot.earned_on, lot.id)


def give_back_order(burned: Sequence[tuple[str, int]], points: int) -> list[tuple[str, int]]:
    """Choose the lots that get points back: the one allocated last first.

    Args:
        burned: Lot ids with what is still burned of each, in order of allocation.
    """
    chosen, left = [], points
    for lot_id, spent in reversed(burned):
        given = min(spent, left)
        if given:
            chosen.append((lot_id, given))
            left -= given
    assert left == 0, "more comes back than was burned"
    return chosen


def redeliver_expiry(original: datetime | None, now: datetime) -> datetime | None:
    """When returned points end: the later of their original end and 90 days from now."""
    return None if original is None else max(original, now + EXTENSION)


def compensation(points: int, pct: int, min_points: int) -> int:
    """Points given on top of a leg's, for a fault: max(min_points, floor(points × pct / 100))."""
    return max(min_points, points * pct // 100)


def declared_value(points: int, rate: Rate) -> int:
    """Fen that an issue of points is worth, and charged to its budget: floor(points × rate)."""
    return rate.floor(points)


def derived_value(rate: Rate, *, before: int, after: int) -> int:
    """What a movement adds to an issuer's liability, in fen, given its outstanding points.

    The sum over all movements is floor(outstanding × rate) exactly. Source: contracts §8.1.6.
    """
    return rate.floor(after) - rate.floor(before)


def earned_by_amount(
    cash_fen: int,
    *,
    points: int = 1,
    per_fen: int = 100,
    multiplier: Rate | None = None,
    bonus: int = 0,
) -> int:
    """floor(cash ÷ per_fen) × points, then the multiplier (floor), then the flat bonus."""
    base = cash_fen // per_fen * points
    if multiplier is not None:
        base = multiplier.floor(base)
    return base + bonus


def earned_by_nights(nights: int, tier_points: int) -> int:
    """Points per night by the tier held on it, not per stay. Source: C-14."""
    return nights * tier_points


def earned_by_distance(distance_km: int, factor_pct: int) -> int:
    """floor(km × factor / 100) miles."""
    return distance_km * factor_pct // 100


def earned(
    programme: Programme,
    *,
    tier: str | None = None,
    cash_fen: int | None = None,
    nights: int | None = None,
    distance_km: int | None = None,
    fare_class: str | None = None,
    category: str | None = None,
    multiplier: Rate | None = None,
    bonus: int = 0,
) -> int:
    """Points a purchase earns in a programme, by what its policy counts.

    Raises:
        InvalidInput: The policy counts nights, distance or cash, and they are not given.
        InvalidAmount: Negative cash.
    """
    if cash_fen is not None:
        amount(cash_fen, field="cash_fen", least=0)
    earn = programme.earn
    match earn["kind"]:
        case "per_night":
            if nights is None or nights < 1:
                raise InvalidInput("nights", "a whole number, at least 1")
            tiers = earn["tiers"]
            if tier is not None and tier not in tiers:
                raise InvalidInput("tier", "one of {values}", values=[*tiers])
            base = earned_by_nights(nights, tiers[tier] if tier else min(tiers.values()))
        case "per_distance":
            if distance_km is None or distance_km < 1:
                raise InvalidInput("distance_km", "a whole number, at least 1")
            if fare_class not in earn["factor_pct"]:
                raise InvalidInput("fare_class", "one of {values}", values=[*earn["factor_pct"]])
            base = earned_by_distance(distance_km, earn["factor_pct"][fare_class])
        case _:
            if cash_fen is None:
                raise InvalidInput("cash_fen", "fen paid in cash, a whole number")
            if not _counts(earn, category):
                return 0
            base = earned_by_amount(cash_fen, points=earn["points"], per_fen=earn["per_fen"])
            base = _extras(earn, category, base)
    return (multiplier.floor(base) if multiplier else base) + bonus


def _counts(earn: Mapping[str, Any], category: str | None) -> bool:
    only = earn.get("only_categories") or ([earn["only"]] if earn.get("only") else None)
    return only is None or category in only


def _extras(earn: Mapping[str, Any], category: str | None, base: int) -> int:
    """The policy's own extras, which a purchase has by its category: own_cup, energy_label_1."""
    multiplier, bonus = earn.get("multiplier"), earn.get("flat_bonus")
    if multiplier and multiplier["when"] == category:
        base = Rate(multiplier["num"], multiplier["den"]).floor(base)
    if bonus and bonus["when"] == category:
        base += bonus["points"]
    return base


def worse(old: Programme, *, rate: Rate, months: int | None) -> bool:
    """Whether new terms break the promise of old ones: a lower rate or a shorter validity."""
    shorter = months is not None and (old.months is None or months < old.months)
    return shorter or not rate >= old.rate


def missing_disclosures(disclosure: Mapping[str, str]) -> list[str]:
    """The public statements a policy lacks: accrual, validity, limits."""
    return [name for name in DISCLOSURES if not disclosure.get(name, "").strip()]


def last_day(lot: Lot) -> date | None:
    """The last business day on which a lot can be spent; None for life."""
    end = lot.expires_at
    return None if end is None else business_day(end - timedelta(microseconds=1))
