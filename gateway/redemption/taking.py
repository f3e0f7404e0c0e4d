"""What a hold takes: points and cover for every leg, or nothing."""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.catalog.model import StoredQuote
from gateway.ledger.model import Line
from gateway.points import service as points
from gateway.points.model import LegRequest
from gateway.ports import QuoteExpired
from gateway.redemption import store
from gateway.redemption.model import Leg, Redemption
from gateway.settings import Settings
from gateway.settlement import service as settlement
from gateway.settlement.model import LegToReserve, rate_leg
from gateway.values import new_id


async def hold_points(
    tx: AsyncConnection, redemption: Redemption, *, leased_until: datetime, now: datetime
) -> None:
    """Hold points and cover for every leg, and write the redemption: all or nothing.

    Raises:
        InsufficientPoints, NoAgreement, AgreementCap, CoverExceeded: Now or with the
            transaction's batch; nothing is held.
        QuoteExpired: The agreement version the quote was made under is over.
    """
    await store.insert(tx, redemption, leased_until=leased_until)
    await _hold_legs(tx, redemption, now=now)


async def _hold_legs(tx: AsyncConnection, redemption: Redemption, *, now: datetime) -> None:
    hub_lines = await take_cover(tx, redemption, now=now)
    requests = [
        LegRequest(
            leg.leg_no,
            redemption.member_id,
            leg.programme_id,
            leg.points,
            hub_lines.get(leg.leg_no, ()),
        )
        for leg in redemption.legs
    ]
    await points.hold(
        tx,
        redemption_id=redemption.id,
        epoch=redemption.epoch,
        legs=requests,
        expires_at=redemption.points_hold_until,
        actor=redemption.member_id,
        now=now,
    )


async def take_cover(
    tx: AsyncConnection, redemption: Redemption, *, now: datetime
) -> dict[int, tuple[Line, ...]]:
    """Take cap and cover for the foreign legs; HUB lines by leg."""
    foreign = [await _rated(tx, redemption, leg, now=now) for leg in redemption.legs if not leg.own]
    return await settlement.reserve_legs(
        tx, cause_id=redemption.id, epoch=redemption.epoch, legs=foreign, at=now
    )


async def _rated(
    tx: AsyncConnection, redemption: Redemption, leg: Leg, *, now: datetime
) -> LegToReserve:
    """The leg under the agreement in force now; the quote's terms must still be its terms."""
    agreement = await settlement.agreement_for(
        tx,
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
