"""Promotions: publish them, and ask what they do to a price, an earn, a cancellation, a gift."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.batch import Ask
from gateway.errors import AlreadyRegistered, NotFound
from gateway.promotions import calendar, store
from gateway.promotions.calendar import Day, Days
from gateway.promotions.model import (
    CompensationRule,
    EarnRule,
    MatchRule,
    NotOffsetDay,
    OfferNotOpen,
    Promotion,
    best_price,
    check,
)
from gateway.values import Rate, business_day, month_of

HORIZON = 400  # Days looked ahead for the next opening.


@dataclass(frozen=True, slots=True)
class Match:
    """A taken match: fen in goods, charged to the promotion's slice in `period`."""

    promotion_id: str
    merchant_id: str
    slice: str
    period: str
    fen: int


async def load_calendar(
    tx: AsyncConnection,
    rows: Iterable[Sequence[str]],
    *,
    solar_terms: Iterable[Sequence[str]] = (),
) -> int:
    """Load business days; days known before are replaced.

    Args:
        rows: As in the catalog data, see `calendar.read_days`.

    Returns:
        How many days were written.
    """
    days = calendar.read_days(rows, solar_terms=solar_terms)
    await store.put_days(tx, days)
    return len(days)


async def days(tx: AsyncConnection, *, from_on: date, until_on: date) -> list[Day]:
    """The known days of `[from_on, until_on)`, in order."""
    return list((await store.days_between(tx, from_on, until_on - timedelta(days=1))).values())


async def add_promotion(
    tx: AsyncConnection,
    *,
    id: str,
    merchant_id: str,
    name_zh: str,
    target: Mapping[str, Any],
    effect: Mapping[str, Any],
    calendar: Mapping[str, Any],
    scope: str = "own",
    judged_by: str = "quote instant",
    rule: str = "",
    sub_budget_fen: int | None = None,
    details: Mapping[str, Any] | None = None,
    now: datetime,
) -> Promotion:
    """Publish a promotion. It is immutable: what has started is ended and published anew.

    Raises:
        InvalidInput: Its calendar, scope or effect cannot be read.
        AlreadyRegistered: The id is taken.
    """
    promotion = check(
        Promotion(
            id=id,
            merchant_id=merchant_id,
            name_zh=name_zh,
            rule_text=rule,
            target=target,
            scope=scope,
            effect=effect,
            rule=calendar,
            judged_by=judged_by,
            sub_budget_fen=sub_budget_fen,
            details=details or {},
        )
    )
    if not await store.put(tx, promotion, now=now):
        raise AlreadyRegistered(id=id)
    return promotion


async def promotion(tx: AsyncConnection, promotion_id: str) -> Promotion:
    """One promotion.

    Raises:
        NotFound: There is none.
    """
    found = await store.get(tx, promotion_id)
    if found is None:
        raise NotFound(id=promotion_id)
    return found


async def promotions(
    tx: AsyncConnection, *, on: date | None = None, town: str | None = None
) -> list[Promotion]:
    """All promotions, or those that run on a business day in a town; by id."""
    found = await store.find(tx)
    if on is None:
        return found
    known = await _around(tx, on)
    return [item for item in found if calendar.runs_on(item.rule, known, on, town=town)]


async def price_points(
    tx: AsyncConnection,
    *,
    offer_ids: Iterable[str],
    programmes: Mapping[str, str],
    at: datetime,
    slot_on: date | None = None,
) -> dict[tuple[str, str], tuple[int, str]]:
    """Running promotion prices, in two statements whatever the number of offers.

    A price promotion is in the points of its merchant's own programme, whatever its scope:
    other programmes pay by value, and the settlement price stays (requirements C-26).

    Args:
        programmes: Programme id to its issuer.
        slot_on: Business day of the night asked for; None: tonight.

    Returns:
        (offer, programme) to points and promotion id.
    """
    found = await store.find(tx, effect="price", target="offer", ids=offer_ids)
    return await _price_points(tx, found, programmes=programmes, at=at, slot_on=slot_on)


def ask_prices(offer_ids: Sequence[str]) -> Ask:
    """The promotions that set offers' prices; for `prices_of`."""
    return store.ask_prices(offer_ids)


async def prices_of(
    tx: AsyncConnection,
    rows: Sequence[Any],
    *,
    programmes: Mapping[str, str],
    at: datetime,
    slot_on: date | None = None,
) -> dict[tuple[str, str], tuple[int, str]]:
    """As `price_points`, out of the rows of `ask_prices`; days are read if one has a price."""
    found = store.promotions_of(rows)
    return await _price_points(tx, found, programmes=programmes, at=at, slot_on=slot_on)


def ask_of_offer(offer_id: str) -> Ask:
    """The promotions that set an offer's price, or open it; for `of_offer`."""
    return store.ask_of_offer(offer_id)


async def of_offer(
    tx: AsyncConnection,
    rows: Sequence[Any],
    *,
    programmes: Mapping[str, str],
    at: datetime,
    slot_on: date | None = None,
) -> dict[tuple[str, str], tuple[int, str]]:
    """As `price_points`, out of the rows of `ask_of_offer`; days are read if one has a price."""
    found = [item for item in store.promotions_of(rows) if item.kind == "price"]
    return await _price_points(tx, found, programmes=programmes, at=at, slot_on=slot_on)


async def _price_points(
    tx: AsyncConnection,
    found: Sequence[Promotion],
    *,
    programmes: Mapping[str, str],
    at: datetime,
    slot_on: date | None,
) -> dict[tuple[str, str], tuple[int, str]]:
    if not found:
        return {}
    known = await _around(tx, business_day(at), slot_on)
    own = {issuer: programme_id for programme_id, issuer in programmes.items()}
    running: dict[tuple[str, str], list[Promotion]] = {}
    for item in found:
        if item.merchant_id in own and item.runs(known, at=at, slot_on=slot_on):
            key = (str(item.target["offer"]), own[item.merchant_id])
            running.setdefault(key, []).append(item)
    prices = {}
    for key, group in running.items():
        best = best_price(group, own_points=None)
        assert best
        prices[key] = (best[0], best[1].id)
    return prices


async def require_open(
    tx: AsyncConnection,
    *,
    offer_id: str,
    at: datetime,
    offset: bool = False,
    rows: Sequence[Any] | None = None,
) -> None:
    """Check that an offer which only promotions open is open.

    Args:
        offset: Whether it is a bill offset, which has its own words.
        rows: Those of `ask_of_offer`, if they are at hand.

    Raises:
        OfferNotOpen: No `enable` promotion runs; when the next one does, and until when.
        NotOffsetDay: The same of a bill offset.
    """
    if rows is None:
        enabling = await store.find(tx, effect="enable", target="offer", ids=[offer_id])
    else:
        enabling = [item for item in store.promotions_of(rows) if item.kind == "enable"]
    if not enabling:
        return
    today = business_day(at)
    known = await store.days_between(
        tx, today - timedelta(days=3), today + timedelta(days=HORIZON + 3)
    )
    if any(item.runs(known, at=at) for item in enabling):
        return
    coming = [calendar.next_run(item.rule, known, today, horizon=HORIZON) for item in enabling]
    next_on, until_on = min((run for run in coming if run), default=(None, None))
    if offset:
        raise NotOffsetDay(field=("offer",), next_on=next_on)
    raise OfferNotOpen(field=("offer",), next_on=next_on, until_on=until_on)


async def earn_rule(
    tx: AsyncConnection, *, programme_id: str, town: str | None, cash_fen: int, at: datetime
) -> EarnRule:
    """What running promotions add to a purchase.

    Args:
        town: Where it was made; market days differ by town.
        cash_fen: Its cash part, on which a threshold is judged.
        at: When it was made.

    Returns:
        The largest multiplier that applies; ties by id.
    """
    found = await store.find(tx, effect="earn_multiplier", target="programme", ids=[programme_id])
    if not found:
        return EarnRule()
    known = await _around(tx, business_day(at))
    best = EarnRule()
    for item in found:
        if cash_fen < item.effect.get("min_spend_fen", 0):
            continue
        if not item.runs(known, at=at, town=town):
            continue
        rate = Rate(item.effect["num"], item.effect["den"])
        if best.multiplier is None or not best.multiplier >= rate:
            best = EarnRule(rate, 0)
    return best


async def compensation_rule(
    tx: AsyncConnection, *, merchant_id: str, at: datetime
) -> CompensationRule:
    """What a member gets when a merchant cancels: its own rule, else that of the catalog, or 0."""
    found = await store.find(tx, effect="compensation")
    known = await _around(tx, business_day(at))
    running = [item for item in found if item.runs(known, at=at)]
    own = [item for item in running if item.target.get("merchant") == merchant_id]
    for item in own or [item for item in running if item.target.get("catalog")]:
        return CompensationRule(item.effect["pct"], item.effect["min_points"], item.id)
    return CompensationRule()


async def match_rule(tx: AsyncConnection, *, beneficiary: str, at: datetime) -> MatchRule | None:
    """The running match of donations to a charity, with what is left of the month's cap."""
    found = await store.find(tx, effect="match", target="redeemer", ids=[beneficiary])
    known = await _around(tx, business_day(at)) if found else {}
    for item in found:
        if item.runs(known, at=at):
            cap = int(item.effect["monthly_cap_fen"])
            left = cap - await store.used(tx, item.id, month_of(at))
            rate = Rate(item.effect["num"], item.effect["den"])
            return MatchRule(item.id, item.merchant_id, rate, cap, left, item.id)
    return None


async def take_match(
    tx: AsyncConnection, *, beneficiary: str, face_fen: int, at: datetime
) -> Match | None:
    """Match a donation out of the month's cap; the last one gets what is left.

    Locks the usage row until the transaction ends, so that no two donations take the same fen.

    Returns:
        The match, or None when no promotion matches or nothing is left.
    """
    rule = await match_rule(tx, beneficiary=beneficiary, at=at)
    if rule is None:
        return None
    period, cap = month_of(at), rule.monthly_cap_fen
    left = cap - await store.lock_usage(tx, rule.promotion_id, period, cap)
    fen = min(rule.rate.floor(face_fen), left)
    if fen <= 0:
        return None
    await store.add_usage(tx, rule.promotion_id, period, fen)
    return Match(rule.promotion_id, rule.merchant_id, rule.slice, period, fen)


async def give_match_back(tx: AsyncConnection, *, promotion_id: str, period: str, fen: int) -> None:
    """Give back what a reversed donation had taken of a month's cap."""
    item = await promotion(tx, promotion_id)
    await store.lock_usage(tx, promotion_id, period, item.effect["monthly_cap_fen"])
    await store.add_usage(tx, promotion_id, period, -fen)


async def _around(tx: AsyncConnection, *wanted: date | None) -> Days:
    """The days asked about, with the neighbours a weekend may touch."""
    known = [on for on in wanted if on]
    reach = timedelta(days=3)
    return await store.days_between(tx, min(known) - reach, max(known) + reach)
