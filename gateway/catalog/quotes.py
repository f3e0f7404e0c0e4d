"""Quotes: what one order costs, leg by leg, stored once and never changed.

A quote is asked in three steps: everything we know is read in one go and checked; the partner is
asked its binding price with no transaction open; the quote is stored. The partner's
list price is the truth: when it is another one, the parts are worked out again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
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
from gateway.db import Clock, Database, Replay
from gateway.errors import NotFound, PartnerUnavailable
from gateway.members import service as members
from gateway.members.model import pseudonym
from gateway.merchants import service as merchants
from gateway.merchants.model import Merchant
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

__all__ = [
    "Draft",
    "LegInput",
    "Request",
    "ask",
    "draft_quote",
    "found",
    "put",
    "quote",
    "quote_once",
    "request_quote",
]

Rows = Sequence[Any]
_SLOTS_NAMED = 5  # to one who named none


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
    available: Mapping[str, int]  # points by issuer
    room: settlement.Room


@dataclass(frozen=True, slots=True)
class Worked:
    """A list price split into legs with their terms."""

    list_fen: int
    cash_fen: int
    legs: tuple[QuoteLeg, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A quote that is not stored; or none, and what a key did before."""

    quote: StoredQuote | None
    replay: Replay | None = None


async def draft_quote(
    database: Database,
    partners: Mapping[str, Partner],
    *,
    asked: Request,
    claim: Mapping[str, Any] | None,
    secret: bytes,
    settings: Settings,
    clock: Clock,
) -> Draft:
    """As `request_quote`, but nothing is stored.

    Args:
        claim: `{scope, key, input}` of what is asked; what it did before ends it.
    """
    pricing.check_request(
        legs=asked.legs,
        cash_fen=asked.cash_fen,
        quantity=asked.quantity,
        bill_fen=asked.bill_fen,
        step=settings.leg_step_points,
    )
    now = clock.now()
    keys = [db.ask_key(claim)] if claim else []
    async with database.reading() as tx:
        *seen, known = await _read(tx, keys, asked, now=now)
        if claim and (replay := db.replay_of(seen[0], claim)):
            return Draft(None, replay)
        basis = await _basis(tx, asked, known, settings=settings, now=now)
    worked = _work_out(asked, basis, list_fen=None, now=now)
    if slot := await _only_slot(partners, asked, basis.offer, now=now):
        return await draft_quote(
            database,
            partners,
            asked=replace(asked, slot=slot),
            claim=claim,
            secret=secret,
            settings=settings,
            clock=clock,
        )
    answer = await _ask_partner(partners, asked, basis.offer, worked.list_fen, secret)
    now = clock.now()
    if answer and answer.list_fen != worked.list_fen:
        worked = _work_out(asked, basis, list_fen=answer.list_fen, now=now)
    return Draft(_quote(asked, basis.offer, worked, answer, settings=settings, now=now))


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
    asked = Request(member_id, offer_id, slot, quantity, bill_fen, tuple(legs), cash_fen)
    made, _ = await quote_once(
        database,
        partners,
        asked=asked,
        claim=None,
        secret=secret,
        settings=settings,
        clock=clock,
    )
    return made


async def quote_once(
    database: Database,
    partners: Mapping[str, Partner],
    *,
    asked: Request,
    claim: Mapping[str, Any] | None,
    secret: bytes,
    settings: Settings,
    clock: Clock,
) -> tuple[StoredQuote, bool]:
    """As `request_quote`, once for a key; and whether the key was seen before."""
    more: dict[str, Any] = {"secret": secret, "settings": settings, "clock": clock}

    async def make(_sure: bool) -> tuple[StoredQuote, bool]:
        drafted = await draft_quote(database, partners, asked=asked, claim=claim, **more)
        if drafted.quote is None:
            assert drafted.replay
            async with database.reading() as tx:
                found = await quote(tx, drafted.replay.object_id, member_id=asked.member_id)
                return found, True
        async with database.transaction() as tx:
            if claim:
                await db.take_key(tx, claim, object_id=drafted.quote.id, now=clock.now())
            await put(tx, drafted.quote)
        return drafted.quote, False

    return await db.tried(make)


async def put(tx: AsyncConnection, quote: StoredQuote) -> None:
    """Store a quote, with the transaction's next batch."""
    await store.put_quote(tx, quote)


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


@dataclass(frozen=True, slots=True)
class Known:
    """All that is read for a quote, in one go: rows."""

    member: Rows
    offer: Rows
    merchant: Rows
    promotions: Rows
    programmes: Rows
    consents: Rows
    book: Rows
    available: Rows
    agreements: Rows
    used: Rows
    covers: Rows


async def _read(
    tx: AsyncConnection, first: Sequence[Ask], asked: Request, *, now: datetime
) -> tuple[Any, ...]:
    """The rows of `first`, and what is known about a request."""
    names = [leg.programme_id for leg in asked.legs]
    issuers, its_values = points.issuers_of(names)
    offer = {"of_offer": asked.offer_id}
    redeemer = store.MERCHANT_OF
    rows = await db.read(
        tx,
        *first,
        members.ask(asked.member_id),
        store.ask_offer(asked.offer_id),
        merchants.ask(redeemer, offer),
        promotions.ask_of_offer(asked.offer_id),
        points.ask_programmes(names),
        members.ask_pair_consents(asked.member_id, redeemer, offer),
        store.ask_book(asked.offer_id),
        points.ask_available(asked.member_id, now=now),
        *settlement.ask_room(issuers, redeemer, its_values | offer, at=now),
    )
    return (*rows[: len(first)], Known(*rows[len(first) :]))


async def _basis(
    tx: AsyncConnection, asked: Request, known: Known, *, settings: Settings, now: datetime
) -> Basis:
    """Check offer, calendar, agreements and consents, in this order; find the prices."""
    member = members.found(known.member, asked.member_id)
    if not known.offer:
        raise NotFound(field=("offer",), id=asked.offer_id)
    offer = store.offer_of(known.offer[0])
    if member.kind == "enterprise" and not offer.green:
        raise EnterpriseRestricted(field=("offer",), contract=member.contract, categories=[GREEN])
    merchant = merchants.found(known.merchant, offer.merchant_id)
    _require_offered(merchant, offer, asked, settings=settings)
    await promotions.require_open(
        tx, offer_id=offer.id, at=now, offset=offer.offset, rows=known.promotions
    )
    names = [leg.programme_id for leg in asked.legs]
    programmes = points.found_programmes(known.programmes, names)
    agreements = _agreements(known, offer, programmes, now=now)
    for programme, agreement in zip(programmes, agreements, strict=True):
        if agreement is not None:
            members.check_pair_consent(
                known.consents,
                issuer=programme.issuer,
                redeemer=offer.merchant_id,
                programme=programme.id,
                now=now,
            )
    prices = await _prices(tx, known, offer, programmes, slot_on=asked.slot_on, now=now)
    available = {row.issuer: int(row.available) for row in known.available}
    room = settlement.Room(known.agreements, known.used, known.covers)
    return Basis(offer, programmes, agreements, prices, available, room)


def _require_offered(
    merchant: Merchant, offer: Offer, asked: Request, *, settings: Settings
) -> None:
    """Check that an offer is on sale by quote, and that the request fits it."""
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


def _agreements(
    known: Known, offer: Offer, programmes: Sequence[Programme], *, now: datetime
) -> tuple[Agreement | None, ...]:
    """The agreement of each leg; None for an own leg."""
    return tuple(
        None
        if programme.issuer == offer.merchant_id
        else settlement.agreement_in_force(
            known.agreements,
            issuer=programme.issuer,
            redeemer=offer.merchant_id,
            offer_id=offer.id,
            category=offer.category,
            kind=AgreementKind.REDEMPTION,
            at=now,
        )
        for programme in programmes
    )


async def _prices(
    tx: AsyncConnection,
    known: Known,
    offer: Offer,
    programmes: Sequence[Programme],
    *,
    slot_on: date | None,
    now: datetime,
) -> tuple[Price, ...]:
    book = {row.programme_id: row.points for row in known.book}
    running = await promotions.of_offer(
        tx,
        known.promotions,
        programmes={p.id: p.issuer for p in programmes},
        at=now,
        slot_on=slot_on,
    )
    found: list[Price] = []
    for number, programme in enumerate(programmes):
        key = (offer.id, programme.id)
        price = service.price_of(
            offer, programme, book=book.get(programme.id), promotion=running.get(key)
        )
        if price is None:
            where = f"legs.{number}.programme"
            raise InvalidInput(where, "this offer has no price in its merchant's own points")
        found.append(price)
    return tuple(found)


def _work_out(asked: Request, basis: Basis, *, list_fen: int | None, now: datetime) -> Worked:
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
    _require_balances(basis, parts)
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
        legs.append(_with_terms(leg, agreement, basis.room, now=now))
    return Worked(list_fen, parts.cash_fen, tuple(legs))


def _require_balances(basis: Basis, parts: Split) -> None:
    for number, (programme, part) in enumerate(zip(basis.programmes, parts.legs, strict=True)):
        available = basis.available.get(programme.issuer, 0)
        if available < part.points:
            raise InsufficientPoints(
                field=("legs", str(number), "points"),
                programme=programme.id,
                needed=part.points,
                available=available,
                missing=part.points - available,
            )


def _with_terms(
    leg: QuoteLeg, agreement: Agreement | None, room: settlement.Room, *, now: datetime
) -> QuoteLeg:
    """A foreign leg with what it will settle for, when cap and cover have room for it."""
    if agreement is None:
        return leg
    terms = rate_leg(agreement, leg.face_fen)
    room.check(agreement, settlement_fen=terms.settlement_fen, fee_fen=terms.fee_fen, at=now)
    values = {name: getattr(leg, name) for name in QuoteLeg.__dataclass_fields__}
    values |= {"agreement_id": agreement.id, "agreement_version": agreement.version}
    values |= {"settlement_fen": terms.settlement_fen, "fee_fen": terms.fee_fen}
    return QuoteLeg(**values)


async def _only_slot(
    partners: Mapping[str, Partner], asked: Request, offer: Offer, *, now: datetime
) -> str | None:
    """The slot of an offer that is booked by slot, if none was named and there is one only.

    A partner that lists no slot with room says itself why.

    Raises:
        InvalidInput: There are several: nobody chooses for the member.
    """
    partner = partners.get(offer.merchant_id)
    if asked.slot or partner is None or not offer.attributes.get("slots"):
        return None
    try:
        found = await partner.live([offer.id], on=None)
    except PartnerUnavailable as failure:
        failure.context.setdefault("merchant", offer.merchant_id)
        raise
    listed = (slot for row in found if row.offer_id == offer.id for slot in row.slots)
    open_ = [slot for slot in listed if slot.left >= asked.quantity and slot.starts_at > now]
    if len(open_) > 1:
        nearest = sorted(open_, key=lambda slot: slot.starts_at)[:_SLOTS_NAMED]
        values = [slot.id for slot in nearest]
        raise InvalidInput("slot", "named; the next with room are {values}", values=values)
    return open_[0].id if open_ else None


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
        expires_at=expires_at.astimezone(UTC),
        cancel_until=answer.cancel_until if answer else None,
        category=offer.category,
        kind=offer.kind,
        pricing=offer.pricing,
        quoted_at=now,
    )
