"""Quotes: what one order costs, leg by leg, stored once and never changed.

A quote is asked in three steps: everything we know is checked in a reading transaction; the
partner is asked its binding price with no transaction open; the quote is stored. The partner's
list price is the truth: when it is another one, the parts are worked out again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Ask
from gateway.catalog import pricing, service, store
from gateway.catalog.model import (
    ELSEWHERE,
    GREEN,
    BookingRequired,
    EnterpriseRestricted,
    Offer,
    OfferSuspended,
    Price,
    QuoteLeg,
    StoredQuote,
    slot_date,
)
from gateway.catalog.pricing import LegInput, OffsetCap, Split, Tender
from gateway.db import Clock, Database
from gateway.errors import NotFound, PartnerUnavailable
from gateway.members import service as members
from gateway.members.model import pseudonym
from gateway.merchants import service as merchants
from gateway.points import service as points
from gateway.points.model import Programme
from gateway.points.service import InsufficientPoints
from gateway.ports import Partner, Quote, QuoteExpired, QuoteRequest
from gateway.promotions import coupons
from gateway.promotions import service as promotions
from gateway.settings import Settings
from gateway.settlement import service as settlement
from gateway.settlement.model import Agreement, AgreementKind, rate_leg
from gateway.values import MAX_AMOUNT, InvalidInput, fingerprint, new_id

__all__ = ["LegInput", "ask", "found", "quote", "request_quote"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a member asks for, its shape checked."""

    member_id: str
    offer_id: str
    slot: str | None
    quantity: int
    bill_fen: int | None
    legs: tuple[LegInput, ...]
    cash_fen: int | None

    @property
    def slot_on(self) -> date | None:
        return slot_date(self.slot)


@dataclass(frozen=True, slots=True)
class Basis:
    """What the parts of a quote are worked out from; index by leg."""

    offer: Offer
    programmes: tuple[Programme, ...]
    agreements: tuple[Agreement | None, ...]
    prices: tuple[Price, ...]


@dataclass(frozen=True, slots=True)
class Worked:
    """A list price split into legs with their terms."""

    list_fen: int
    cash_fen: int
    legs: tuple[QuoteLeg, ...]


async def request_quote(
    database: Database,
    partners: Mapping[str, Partner],
    *,
    member_id: str,
    offer_id: str,
    slot: str | None = None,
    quantity: int = 1,
    bill_fen: int | None = None,
    legs: Sequence[LegInput],
    cash_fen: int | None = None,
    secret: bytes,
    settings: Settings,
    clock: Clock,
) -> StoredQuote:
    """Quote an order: what each programme and cash pay, and until when that holds.

    Args:
        slot: The partner's own id of a time, seat, night or booking.
        quantity: Units; 1 for a bill.
        bill_fen: The bill to be offset, or the cart a coupon is meant for.
        legs: 1 to 3 programmes; the last may leave its points open.
        cash_fen: The cash part; None: nothing, or what is left of a bill.
        secret: Key of the pseudonyms under which partners know members.

    Returns:
        The stored quote. Nothing is held: points, cap and cover are taken with the hold.

    Raises:
        InvalidAmount, InvalidInput, LegLimit: The request breaks a rule.
        NotFound: No such member, offer or programme.
        EnterpriseRestricted: An enterprise buys green goods only.
        OfferSuspended, OfferNotOpen, NotOffsetDay, BookingRequired, MinSpendNotMet: Not now.
        NoAgreement, ConsentRequired: A programme may not be used there, or not yet.
        LegSum, PartPaymentNotAllowed, OffsetCap: The parts do not fit.
        InsufficientPoints, AgreementCap, CoverExceeded: Somebody's limit.
        PartnerRejected, PartnerUnavailable: The partner's answer.

    Source: requirements §4; contracts §5.1.
    """
    pricing.check_request(
        legs=legs,
        cash_fen=cash_fen,
        quantity=quantity,
        bill_fen=bill_fen,
        step=settings.leg_step_points,
    )
    asked = Request(member_id, offer_id, slot, quantity, bill_fen, tuple(legs), cash_fen)
    now = clock.now()
    async with database.reading() as tx:
        basis = await _basis(tx, asked, settings=settings, now=now)
        worked = await _work_out(tx, asked, basis, list_fen=None, now=now)
    answer = await _ask_partner(partners, asked, basis.offer, worked.list_fen, secret)
    now = clock.now()
    async with database.transaction() as tx:
        if answer and answer.list_fen != worked.list_fen:
            worked = await _work_out(tx, asked, basis, list_fen=answer.list_fen, now=now)
        made = _quote(asked, basis.offer, worked, answer, settings=settings, now=now)
        await store.put_quote(tx, made)
    return made


async def quote(tx: AsyncConnection, quote_id: str, *, member_id: str | None = None) -> StoredQuote:
    """A stored quote, also when it has expired.

    Args:
        member_id: The member that asks; None for the gateway itself.

    Raises:
        NotFound: There is none for this member.
    """
    (rows,) = await db.read(tx, ask(quote_id))
    return found(rows, quote_id, member_id=member_id)


def ask(quote_id: str) -> Ask:
    """A stored quote, for `found`."""
    return store.ask_quote(quote_id)


def found(rows: Sequence[Any], quote_id: str, *, member_id: str | None) -> StoredQuote:
    """The quote out of the rows of `ask`; as `quote`."""
    if not rows or member_id not in (None, rows[0].member_id):
        raise NotFound(field=("quote",), id=quote_id)
    return store.quote_of(rows[0])


async def _basis(
    tx: AsyncConnection, asked: Request, *, settings: Settings, now: datetime
) -> Basis:
    """Check offer, calendar, agreements and consents, in this order; find the prices."""
    member = await members.get(tx, asked.member_id)
    offer = await service.offer(tx, asked.offer_id)
    if member.kind == "enterprise" and not offer.green:
        raise EnterpriseRestricted(field=("offer",), contract=member.contract, categories=[GREEN])
    await _require_offered(tx, offer, asked, settings=settings)
    await promotions.require_open(tx, offer_id=offer.id, at=now, offset=offer.offset)
    programmes = tuple([await points.programme(tx, leg.programme_id) for leg in asked.legs])
    agreements = await _agreements(tx, offer, programmes, now=now)
    for programme, agreement in zip(programmes, agreements, strict=True):
        if agreement is not None:
            await members.require_pair_consent(
                tx,
                member_id=asked.member_id,
                issuer=programme.issuer,
                redeemer=offer.merchant_id,
                programme=programme.id,
                now=now,
            )
    prices = await _prices(tx, offer, programmes, slot_on=asked.slot_on, now=now)
    return Basis(offer, programmes, agreements, prices)


async def _require_offered(
    tx: AsyncConnection, offer: Offer, asked: Request, *, settings: Settings
) -> None:
    """Check that an offer is on sale by quote, and that the request fits it."""
    merchant = await merchants.get(tx, offer.merchant_id)
    reason = offer.suspended or ("merchant paused" if merchant.paused else None)
    if offer.attributes.get("needs_legal_review") and not settings.sandbox:
        reason = reason or "legal review"
    if reason:
        raise OfferSuspended(field=("offer",), offer=offer.id, reason=reason)
    if offer.kind in ELSEWHERE:
        raise InvalidInput("offer", ELSEWHERE[offer.kind])
    if offer.max_offset_pct == 0:  # Bought with cash, to earn.
        raise OffsetCap(field=("legs",), max_pct=0, max_fen=0, max_points=0)
    _require_fitting(offer, asked)


def _require_fitting(offer: Offer, asked: Request) -> None:
    """Check what only some kinds of offer need: a bill, a minimum spend, a booking."""
    if offer.offset:
        if asked.bill_fen is None:
            raise InvalidInput("bill_fen", "the bill to be offset")
        if asked.quantity != 1:
            raise InvalidInput("quantity", "1 for a bill")
    elif offer.coupon is not None and asked.bill_fen is not None:
        coupons.require_min_spend(offer.coupon, asked.bill_fen)
    elif asked.bill_fen is not None:
        raise InvalidInput("bill_fen", "only a bill offset or a coupon has one")
    if offer.kind == "upgrade" and not asked.slot:
        raise BookingRequired(field=("slot",), offer=offer.id)


async def _agreements(
    tx: AsyncConnection, offer: Offer, programmes: Sequence[Programme], *, now: datetime
) -> tuple[Agreement | None, ...]:
    """The agreement of each leg; None for an own leg."""
    found: list[Agreement | None] = []
    for programme in programmes:
        if programme.issuer == offer.merchant_id:
            found.append(None)
            continue
        found.append(
            await settlement.agreement_for(
                tx,
                issuer=programme.issuer,
                redeemer=offer.merchant_id,
                offer_id=offer.id,
                category=offer.category,
                kind=AgreementKind.REDEMPTION,
                at=now,
            )
        )
    return tuple(found)


async def _prices(
    tx: AsyncConnection,
    offer: Offer,
    programmes: Sequence[Programme],
    *,
    slot_on: date | None,
    now: datetime,
) -> tuple[Price, ...]:
    book = await store.book_prices(tx, [offer.id], [p.id for p in programmes])
    running = await promotions.price_points(
        tx,
        offer_ids=[offer.id],
        programmes={p.id: p.issuer for p in programmes},
        at=now,
        slot_on=slot_on,
    )
    found: list[Price] = []
    for number, programme in enumerate(programmes):
        key = (offer.id, programme.id)
        price = service.price_of(offer, programme, book=book.get(key), promotion=running.get(key))
        if price is None:
            where = f"legs.{number}.programme"
            raise InvalidInput(where, "this offer has no price in its merchant's own points")
        found.append(price)
    return tuple(found)


async def _work_out(
    tx: AsyncConnection, asked: Request, basis: Basis, *, list_fen: int | None, now: datetime
) -> Worked:
    """Split a list price, and check balances, caps and cover without taking any.

    Args:
        list_fen: The partner's list price; None: the catalog's.
    """
    offer = basis.offer
    if list_fen is None:
        bill = asked.bill_fen if offer.offset else None
        list_fen = offer.cash_fen * asked.quantity if bill is None else bill
    rates = [
        pricing.leg_rate(offer, price, list_fen=list_fen, quantity=asked.quantity)
        for price in basis.prices
    ]
    parts = pricing.split(
        [Tender(rate, leg.points) for rate, leg in zip(rates, asked.legs, strict=True)],
        offer_id=offer.id,
        list_fen=list_fen,
        cash_fen=asked.cash_fen,
        part_payment=offer.part_payment,
        max_offset_pct=offer.max_offset_pct,
        rest_in_cash=offer.offset,
    )
    await _require_balances(tx, asked.member_id, basis.programmes, parts, now=now)
    legs = []
    for number, part in enumerate(parts.legs):
        programme, agreement = basis.programmes[number], basis.agreements[number]
        leg = QuoteLeg(
            leg_no=number + 1,
            programme_id=programme.id,
            issuer=programme.issuer,
            points=part.points,
            face_fen=part.face_fen,
            rate_num=rates[number].num,
            rate_den=rates[number].den,
            own=agreement is None,
            promotion_id=basis.prices[number].promotion_id,
        )
        legs.append(await _with_terms(tx, leg, agreement, now=now))
    return Worked(list_fen, parts.cash_fen, tuple(legs))


async def _require_balances(
    tx: AsyncConnection,
    member_id: str,
    programmes: Sequence[Programme],
    parts: Split,
    *,
    now: datetime,
) -> None:
    for number, (programme, part) in enumerate(zip(programmes, parts.legs, strict=True)):
        available = await points.available(
            tx, member_id=member_id, issuer=programme.issuer, now=now
        )
        if available < part.points:
            raise InsufficientPoints(
                field=("legs", str(number), "points"),
                programme=programme.id,
                needed=part.points,
                available=available,
                missing=part.points - available,
            )


async def _with_terms(
    tx: AsyncConnection, leg: QuoteLeg, agreement: Agreement | None, *, now: datetime
) -> QuoteLeg:
    """A foreign leg with what it will settle for, when cap and cover have room for it."""
    if agreement is None:
        return leg
    terms = rate_leg(agreement, leg.face_fen)
    await settlement.check_room(
        tx,
        agreement=agreement,
        settlement_fen=terms.settlement_fen,
        fee_fen=terms.fee_fen,
        at=now,
    )
    values = {name: getattr(leg, name) for name in QuoteLeg.__dataclass_fields__}
    values |= {"agreement_id": agreement.id, "agreement_version": agreement.version}
    values |= {"settlement_fen": terms.settlement_fen, "fee_fen": terms.fee_fen}
    return QuoteLeg(**values)


async def _ask_partner(
    partners: Mapping[str, Partner], asked: Request, offer: Offer, list_fen: int, secret: bytes
) -> Quote | None:
    """The partner's binding price; None where offers are kept here and nobody else answers."""
    partner = partners.get(offer.merchant_id)
    if partner is None:
        if offer.hosted:
            return None
        raise PartnerUnavailable(merchant=offer.merchant_id)
    request = QuoteRequest(
        offer_id=offer.id,
        slot=asked.slot,
        quantity=asked.quantity,
        bill_fen=list_fen if offer.offset else None,
        member_ref=pseudonym(secret, offer.merchant_id, asked.member_id),
    )
    try:
        answer = await partner.quote(request)
    except PartnerUnavailable as failure:
        failure.context.setdefault("merchant", offer.merchant_id)
        raise
    if not 1 <= answer.list_fen <= MAX_AMOUNT:  # No price is no answer.
        raise PartnerUnavailable(merchant=offer.merchant_id)
    return answer


def _quote(
    asked: Request,
    offer: Offer,
    worked: Worked,
    answer: Quote | None,
    *,
    settings: Settings,
    now: datetime,
) -> StoredQuote:
    expires_at = now + timedelta(seconds=settings.quote_ttl_seconds)
    if answer:
        if answer.expires_at <= now:
            raise QuoteExpired(expired_at=answer.expires_at)
        expires_at = min(expires_at, answer.expires_at)
    terms = {"offer": offer.id, "version": offer.version, "guarantee": dict(offer.guarantee)}
    return StoredQuote(
        id=new_id("quo"),
        member_id=asked.member_id,
        offer_id=offer.id,
        merchant_id=offer.merchant_id,
        slot=asked.slot,
        quantity=asked.quantity,
        bill_fen=asked.bill_fen,
        list_fen=worked.list_fen,
        shown_fen=worked.list_fen if offer.offset else offer.cash_fen * asked.quantity,
        cash_fen=worked.cash_fen,
        legs=worked.legs,
        partner_quote_id=answer.id if answer else None,
        terms_hash=answer.terms_hash if answer else fingerprint(terms),
        expires_at=expires_at,
        cancel_until=answer.cancel_until if answer else None,
        category=offer.category,
        kind=offer.kind,
        pricing=offer.pricing,
        quoted_at=now,
    )
