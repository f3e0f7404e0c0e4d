"""Points prices and the splitting of a list price into legs, exact to the fen. Pure.

Source: requirements §4.1, §4.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.catalog.model import OWN_ONLY, Offer, Price
from gateway.errors import Invalid, Refused
from gateway.values import InvalidInput, Rate, amount, yuan

MAX_LEGS = 3


class LegLimit(Refused):
    code = "LEG_LIMIT"
    when = "more than 3 legs"
    zh = "一单最多用 3 种积分"
    en = "at most 3 programmes in one order"
    next_zh = "请减少一种积分"
    next_en = "remove a leg"


class LegSum(Invalid):
    code = "LEG_SUM"
    when = "faces and cash do not give the list price"
    zh = "各部分合计 {sum},应为 {list}"
    en = "the parts give {sum}, the price is {list}"
    next_zh = "最后一种积分可不填数量,由系统补足"
    next_en = "leave the last leg open"


class PartPaymentNotAllowed(Refused):
    code = "PART_PAYMENT_NOT_ALLOWED"
    when = "the offer is sold whole"
    zh = "该项目不能部分兑换"
    en = "this offer cannot be paid in parts"
    next_zh = "请用一种积分全额兑换"
    next_en = "pay the full points price"


class OffsetCap(Refused):
    code = "OFFSET_CAP"
    when = "offset above `max_offset_pct`"
    zh = "最多可抵扣账单的 {max_pct}%({max})"
    en = "at most {max_pct} % of the bill ({max})"
    next_zh = "最多可用 {max_points} 分"
    next_en = "use at most {max_points} points"


@dataclass(frozen=True, slots=True)
class LegInput:
    """A leg as asked for; `points` None leaves the last leg open."""

    programme_id: str
    points: int | None = None


@dataclass(frozen=True, slots=True)
class Tender:
    """A leg to be split: its rate in fen per point, and the points named, if any."""

    rate: Rate
    points: int | None


@dataclass(frozen=True, slots=True)
class Covered:
    """What a leg covers."""

    points: int
    face_fen: int


@dataclass(frozen=True, slots=True)
class Split:
    """A list price in parts: legs in order, and cash."""

    legs: tuple[Covered, ...]
    cash_fen: int


def check_request(
    *,
    legs: Sequence[LegInput],
    cash_fen: int | None,
    quantity: int,
    bill_fen: int | None,
    step: int,
) -> None:
    """Check the shape of a request before anything is looked up.

    Args:
        step: Named points are multiples of it; the open last leg is exempt.

    Raises:
        InvalidAmount: An amount is out of range.
        LegLimit: Too many legs.
        InvalidInput: No leg, a programme twice, an open leg before the last, points off the step.
    """
    amount(quantity, field="quantity")
    if bill_fen is not None:
        amount(bill_fen, field="bill_fen")
    if cash_fen is not None:
        amount(cash_fen, field="cash_fen", least=0)
    if not legs:
        raise InvalidInput("legs", "1 to {most} legs", most=MAX_LEGS)
    names = [leg.programme_id for leg in legs]
    if len(legs) > MAX_LEGS:
        raise LegLimit(field=("legs",), max=MAX_LEGS, given=len(legs))
    if len(set(names)) < len(names):
        raise InvalidInput("legs", "each programme once")
    for number, leg in enumerate(legs):
        where = f"legs.{number}.points"
        if leg.points is None:
            if number < len(legs) - 1:
                raise InvalidInput(where, "only the last leg may be left open")
            continue
        amount(leg.points, field=where)
        if leg.points % step:
            raise InvalidInput(where, "step of {step}", step=step)


def price(
    offer: Offer,
    *,
    programme_id: str,
    issuer: str,
    unit_zh: str,
    value: Rate,
    book: int | None = None,
    promotion: tuple[int, str] | None = None,
    worded: bool = True,
) -> Price | None:
    """The price of one unit of an offer in a programme's points.

    The price book's row if there is one; else the offer's own price when the programme is its
    merchant's, or a running promotion's if that is lower; else the cash price by declared value.

    Args:
        value: Declared value of the programme, fen per point.
        promotion: Points and id of a running price promotion.
        worded: Whether to say how the price comes about.

    Returns:
        None when the offer cannot be had for these points: it is sold for cash only, is a game
        of its merchant's own, or has no price in its merchant's own points.
    """
    own = issuer == offer.merchant_id
    if offer.max_offset_pct == 0 or (offer.kind in OWN_ONLY and not own):
        return None
    regular = book if book is not None else offer.own_points if own else None
    if regular is None and own:
        return None
    points, basis, promotion_id = regular, "book" if book is not None else "own", None
    if own and promotion and regular is not None and promotion[0] < regular:
        points, promotion_id = promotion
        basis = "promotion"
    if points is None:
        points, basis, rate = value.ceil_divide(offer.cash_fen), "value", value
    elif points == 0 or offer.cash_fen == 0:
        rate = value  # Nothing is covered by nothing: such kinds are not bought by a quote.
    else:
        rate = Rate(offer.cash_fen, points).reduced()
    return Price(
        programme_id=programme_id,
        issuer=issuer,
        points=points,
        rate=rate,
        basis=basis,
        formula=formula(offer.cash_fen, points, unit_zh, basis=basis, value=value, regular=regular)
        if worded
        else "",
        own=own,
        promotion_id=promotion_id,
        regular_points=regular if promotion_id else None,
        below_declared_value=points > value.ceil_divide(offer.cash_fen),
    )


def formula(
    cash_fen: int, points: int, unit_zh: str, *, basis: str, value: Rate, regular: int | None
) -> str:
    """How a price comes about: `¥45.00 ÷ 5/3 分钱 = 2,700 房晚分`. Source: C-09."""
    if basis == "value":
        exact = value.reduced()
        fen = f"{exact.num}" if exact.den == 1 else f"{exact.num}/{exact.den}"
        rounded = "" if cash_fen * value.den % value.num == 0 else "(进位)"
        return f"{yuan(cash_fen)} ÷ {fen} 分钱 = {points:,} {unit_zh}{rounded}"
    was = f"(原 {regular:,})" if basis == "promotion" else ""
    return f"{yuan(cash_fen)} = {points:,} {unit_zh}{was}"


def leg_rate(offer: Offer, found: Price, *, list_fen: int, quantity: int) -> Rate:
    """The exact fen per point of a leg.

    A points price stays as it is when the partner's list price is another one: then a point
    covers more or less. A price by value follows the list price. A bill goes by the unit.
    """
    if offer.offset or found.basis == "value" or list_fen == offer.cash_fen * quantity:
        return found.rate
    points = found.points * quantity
    if found.basis == "own" and offer.own_priced_by == "value":
        points = found.rate.ceil_divide(list_fen)
    return Rate(list_fen, points).reduced()


def split(
    tenders: Sequence[Tender],
    *,
    offer_id: str,
    list_fen: int,
    cash_fen: int | None,
    part_payment: bool,
    max_offset_pct: int,
    rest_in_cash: bool,
) -> Split:
    """Split a list price into what each leg covers, and cash.

    A named leg covers floor(points × rate); an open last leg covers the rest with
    ceil(rest ÷ rate) points.

    Args:
        cash_fen: The cash part; None: nothing, or the rest when `rest_in_cash`.
        max_offset_pct: The part of the list price points may cover at most.
        rest_in_cash: Whether unstated cash fills up, as for a bill.

    Raises:
        OffsetCap: Points cover more than they may.
        PartPaymentNotAllowed: Parts of an offer that is sold whole.
        LegSum: The parts do not give the list price.
        InvalidInput: A leg covers nothing.
    """
    most = list_fen * max_offset_pct // 100
    legs: list[Covered] = []
    covered = 0
    for number, tender in enumerate(tenders):
        rest = list_fen - covered - (cash_fen or 0)
        leg = _cover(tender, rest, number)
        if leg is None:
            raise LegSum(field=("legs",), sum_fen=list_fen - rest, list_fen=list_fen)
        if covered + leg.face_fen > most and most < list_fen:
            points = max(tender.rate.ceil_divide(most - covered + 1) - 1, 0)
            raise OffsetCap(
                field=("legs",), max_pct=max_offset_pct, max_fen=most, max_points=points
            )
        legs.append(leg)
        covered += leg.face_fen
    cash = (list_fen - covered if rest_in_cash else 0) if cash_fen is None else cash_fen
    if not part_payment and (len(legs) > 1 or cash > 0 or covered < list_fen):
        raise PartPaymentNotAllowed(field=("legs",), offer=offer_id)
    if cash < 0 or covered + cash != list_fen:
        raise LegSum(field=("legs",), sum_fen=covered + max(cash, 0), list_fen=list_fen)
    return Split(tuple(legs), cash)


def _cover(tender: Tender, rest: int, number: int) -> Covered | None:
    """What a leg covers; None when nothing is left for an open leg and too much is given."""
    if tender.points is None:
        if rest < 0:
            return None
        if rest == 0:
            raise InvalidInput(f"legs.{number}.points", "nothing is left for this leg")
        return Covered(tender.rate.ceil_divide(rest), rest)
    face = tender.rate.floor(tender.points)
    if face == 0:
        raise InvalidInput(f"legs.{number}.points", "these points cover less than one fen")
    return Covered(tender.points, face)
