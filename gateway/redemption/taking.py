"""What a hold takes: points and cover for every leg, or nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Ask
from gateway.catalog.model import OfferSuspended, StoredQuote
from gateway.ledger.model import Line
from gateway.merchants import service as merchants
from gateway.points import service as points
from gateway.points.model import LegRequest
from gateway.ports import QuoteExpired
from gateway.redemption import store
from gateway.redemption.model import Leg, Redemption
from gateway.settings import Settings
from gateway.settlement import service as settlement
from gateway.settlement.model import LegToReserve, Reserved, rate_leg
from gateway.values import new_id

PAUSED = "merchant paused"


@dataclass(frozen=True, slots=True)
class Held:
    """What a redemption's epoch holds: points with their lots, and cover."""

    points: Sequence[points.Taken]
    reserved: Sequence[Any]


def ask_held(redemption_id: str, epoch: int) -> tuple[Ask, Ask]:
    """What an epoch holds, for `held`."""
    return points.ask_taken(redemption_id, epoch), settlement.ask_reserved(redemption_id, epoch)


def held(of_points: Sequence[Any], reserved: Sequence[Any]) -> Held:
    """What an epoch holds, out of the rows of `ask_held`."""
    return Held(points.taken(of_points), reserved)


def asks(quote: StoredQuote) -> list[Ask]:
    """What `hold_points` needs to know: merchant, the member's free lots, pairs' agreements."""
    wallets = {(quote.member_id, leg.programme_id) for leg in quote.legs}
    foreign = [leg.issuer for leg in quote.legs if not leg.own]
    pairs = [settlement.ask_agreements(issuer, quote.merchant_id) for issuer in foreign]
    return [merchants.ask_one(quote.merchant_id), points.ask_free(wallets), *pairs]


async def hold_points(
    tx: AsyncConnection,
    redemption: Redemption,
    *,
    found: Sequence[Sequence[Any]] | None,
    leased_until: datetime,
    now: datetime,
) -> Held | None:
    """Hold points and cover for every leg, and write the redemption: all or nothing.

    Args:
        found: The rows of `asks`: then nothing is locked before the transaction's batch, and a
            member's other hold at once makes it Raced. None: rows are locked and read here.

    Returns:
        What is held, if it is known without reading.

    Raises:
        OfferSuspended: The merchant is paused.
        InsufficientPoints, NoAgreement, AgreementCap, CoverExceeded: Now or with the
            transaction's batch; nothing is held.
        QuoteExpired: The agreement version the quote was made under is over.
        Raced: With the batch.
    """
    named, *rest = found or await db.read(tx, merchants.ask_one(redemption.merchant_id))
    if merchants.found(named, redemption.merchant_id).paused:  # What is held goes its way.
        raise OfferSuspended(field=("quote",), offer=redemption.offer_id, reason=PAUSED)
    await store.insert(tx, redemption, leased_until=leased_until)
    more: dict[str, Any] = {"actor": redemption.member_id, "now": now}
    more |= {"redemption_id": redemption.id, "epoch": redemption.epoch}
    more["expires_at"] = redemption.points_hold_until
    if found is None:
        lines = settlement.reserved_lines(await take_cover(tx, redemption, now=now))
        await points.hold(tx, legs=_requests(redemption, lines), **more)
        return None
    free, *agreements = rest
    reserved = await take_cover(
        tx, redemption, agreements=[row for rows in agreements for row in rows], now=now
    )
    lines = settlement.reserved_lines(reserved)
    taken = await points.take(tx, legs=_requests(redemption, lines), free=free, **more)
    return Held(taken, reserved)


def _requests(
    redemption: Redemption, hub_lines: Mapping[int, tuple[Line, ...]]
) -> list[LegRequest]:
    return [
        LegRequest(
            leg.leg_no,
            redemption.member_id,
            leg.programme_id,
            leg.points,
            hub_lines.get(leg.leg_no, ()),
        )
        for leg in redemption.legs
    ]


async def take_cover(
    tx: AsyncConnection,
    redemption: Redemption,
    *,
    agreements: Sequence[Any] | None = None,
    now: datetime,
) -> list[Reserved]:
    """Take cap and cover for the foreign legs.

    Args:
        agreements: Rows of the pairs' agreements, if they are at hand: then nothing is made sure
            before the transaction's batch.
    """
    sure = agreements is None
    foreign = [leg for leg in redemption.legs if not leg.own]
    if agreements is None:
        asks = [settlement.ask_agreements(leg.issuer, redemption.merchant_id) for leg in foreign]
        agreements = [row for rows in await db.read(tx, *asks) for row in rows] if asks else []
    rated = [_rated(redemption, leg, agreements, now=now) for leg in foreign]
    return await settlement.reserve_legs(
        tx, cause_id=redemption.id, epoch=redemption.epoch, legs=rated, at=now, sure=sure
    )


def _rated(
    redemption: Redemption, leg: Leg, agreements: Sequence[Any], *, now: datetime
) -> LegToReserve:
    """The leg under the agreement in force now; the quote's terms must still be its terms."""
    agreement = settlement.agreement_in_force(
        agreements,
        issuer=leg.issuer,
        redeemer=redemption.merchant_id,
        offer_id=redemption.offer_id,
        category=redemption.category,
        at=now,
    )
    terms = rate_leg(agreement, leg.face_fen)
    if (terms.settlement_fen, terms.fee_fen) != (leg.settlement_fen, leg.fee_fen):
        raise QuoteExpired(expired_at=now)  # Another version of the agreement is in force.
    return LegToReserve(leg.leg_no, agreement, redemption.offer_id, leg.face_fen)


def from_quote(
    quote: StoredQuote, *, auto_confirm: bool, settings: Settings, now: datetime
) -> Redemption:
    """A new redemption, not stored yet.

    Raises:
        QuoteExpired: The quote is over.
    """
    if now >= quote.expires_at:
        raise QuoteExpired(expired_at=quote.expires_at)
    legs = tuple(
        Leg(
            leg_no=leg.leg_no,
            programme_id=leg.programme_id,
            issuer=leg.issuer,
            points=leg.points,
            face_fen=leg.face_fen,
            rate_num=leg.rate_num,
            rate_den=leg.rate_den,
            own=leg.own,
            agreement_id=leg.agreement_id,
            settlement_fen=leg.settlement_fen,
            fee_fen=leg.fee_fen,
        )
        for leg in quote.legs
    )
    return Redemption(
        id=new_id("red"),
        member_id=quote.member_id,
        quote_id=quote.id,
        merchant_id=quote.merchant_id,
        offer_id=quote.offer_id,
        slot=quote.slot,
        quantity=quote.quantity,
        list_fen=quote.list_fen,
        cash_fen=quote.cash_fen,
        kind=quote.kind,
        category=quote.category,
        pricing=quote.pricing,
        partner_quote_id=quote.partner_quote_id or "",
        points_hold_until=now + timedelta(seconds=settings.points_hold_ttl_seconds),
        created_at=now,
        cancel_until=quote.cancel_until,
        due_at=now,
        auto_confirm=auto_confirm,
        legs=legs,
    )
