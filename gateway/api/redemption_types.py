"""What a member holds and does: wallets, lots, quotes, redemptions, donations, consents."""

from datetime import date, datetime
from typing import Any, Self

import sqlalchemy as sa
import strawberry

from gateway.api.catalog_types import Merchant, Offer, Programme, merchant, programme
from gateway.api.context import Info
from gateway.api.scalars import JSON, Fen, Points, Rate
from gateway.catalog.model import QuoteLeg, StoredQuote
from gateway.members import model as members
from gateway.oauth.guard import Actor
from gateway.oauth.scopes import Role
from gateway.points import model as points_model
from gateway.redemption import model as redemptions
from gateway.redemption.model import BURNED, Fault, State


@strawberry.type
class Lot:
    """Points earned by one event, with the terms they were earned under."""

    id: strawberry.ID
    points: Points
    left: Points
    earned_on: date
    expires_at: datetime | None
    basis: str
    ref: str
    policy_version: int

    @classmethod
    def of(cls, lot: points_model.Lot) -> Self:
        return cls(
            id=strawberry.ID(lot.id),
            points=lot.points,
            left=lot.remaining,
            earned_on=lot.earned_on,
            expires_at=lot.expires_at,
            basis=lot.basis,
            ref=lot.ref,
            policy_version=lot.policy_version,
        )


@strawberry.type
class Expiring:
    """Points of one programme that end; `last_on` is the last day they can be used."""

    points: Points
    last_on: date


@strawberry.type
class Wallet:
    """A member's points in one programme. Programmes are never added up."""

    available: Points
    pending: Points
    held: Points
    owed: Points
    as_of: datetime
    programme_id: strawberry.Private[str]
    member_id: strawberry.Private[str]

    @strawberry.field
    def programme(self, info: Info) -> Programme:
        return programme(info, self.programme_id)

    @strawberry.field
    async def value_fen(self, info: Info) -> Fen:
        """What the available points of this programme are worth as declared, rounded down."""
        found = await info.context.loaders.programmes.load(self.programme_id)
        assert found is not None
        return found.rate.floor(self.available)

    @strawberry.field
    async def lots(self, info: Info) -> list[Lot]:
        """Lots with points left, in the order they are spent."""
        found = await info.context.loaders.lots(self.member_id).load(self.programme_id)
        return [Lot.of(lot) for lot in found or ()]

    @strawberry.field
    async def expiring(self, info: Info) -> list[Expiring]:
        """What ends, soonest first."""
        found = await info.context.loaders.lots(self.member_id).load(self.programme_id)
        ending: dict[date, int] = {}
        for lot in found or ():
            last_on = points_model.last_day(lot)
            if last_on is not None and lot.remaining:
                ending[last_on] = ending.get(last_on, 0) + lot.remaining
        return [Expiring(points=ending[day], last_on=day) for day in sorted(ending)]


@strawberry.type
class Consent:
    """What a member agreed to, from when until when."""

    id: strawberry.ID
    purpose: str
    issuer: strawberry.ID | None
    redeemer: strawberry.ID | None
    granted_at: datetime
    revoked_at: datetime | None

    @classmethod
    def of(cls, consent: members.Consent) -> Self:
        return cls(
            id=strawberry.ID(consent.id),
            purpose=consent.purpose,
            issuer=strawberry.ID(consent.issuer) if consent.issuer else None,
            redeemer=strawberry.ID(consent.redeemer) if consent.redeemer else None,
            granted_at=consent.granted_at,
            revoked_at=consent.revoked_at,
        )


@strawberry.type
class Leg:
    """The part of an order paid with one programme's points."""

    leg_no: int
    points: Points
    face_fen: Fen
    rate: Rate
    own: bool
    agreement: strawberry.ID | None
    settlement_fen: Fen
    fee_fen: Fen
    returned_points: Points
    programme_id: strawberry.Private[str]

    @classmethod
    def of(cls, leg: QuoteLeg | redemptions.Leg) -> Self:
        return cls(
            leg_no=leg.leg_no,
            points=leg.points,
            face_fen=leg.face_fen,
            rate=Rate(num=leg.rate_num, den=leg.rate_den),
            own=leg.own,
            agreement=strawberry.ID(leg.agreement_id) if leg.agreement_id else None,
            settlement_fen=leg.settlement_fen,
            fee_fen=leg.fee_fen,
            returned_points=leg.returned_points if isinstance(leg, redemptions.Leg) else 0,
            programme_id=leg.programme_id,
        )

    @strawberry.field
    def programme(self, info: Info) -> Programme:
        return programme(info, self.programme_id)


@strawberry.type
class Quote:
    """An immutable price: what the member is asked to accept."""

    id: strawberry.ID
    slot: str | None
    quantity: int
    bill_fen: Fen | None
    list_fen: Fen
    cash_fen: Fen
    legs: list[Leg]
    expires_at: datetime
    cancel_until: datetime | None
    pricing: str
    terms_hash: str
    offer_id: strawberry.Private[str]

    @classmethod
    def of(cls, quote: StoredQuote) -> Self:
        return cls(
            id=strawberry.ID(quote.id),
            slot=quote.slot,
            quantity=quote.quantity,
            bill_fen=quote.bill_fen,
            list_fen=quote.list_fen,
            cash_fen=quote.cash_fen,
            legs=[Leg.of(leg) for leg in quote.legs],
            expires_at=quote.expires_at,
            cancel_until=quote.cancel_until,
            pricing=quote.pricing,
            terms_hash=quote.terms_hash,
            offer_id=quote.offer_id,
        )

    @strawberry.field
    async def offer(self, info: Info) -> Offer | None:
        found = await info.context.loaders.offers.load(self.offer_id)
        return Offer.of(found) if found else None


@strawberry.type
class Voucher:
    """What the holder shows; it names its holder and cannot be resold."""

    id: strawberry.ID
    code: str
    qr: str | None
    holder: str
    state: str
    last_on: date | None
    used_at: datetime | None
    artefacts: JSON

    @classmethod
    def of(cls, row: sa.Row[Any]) -> Self:
        artefacts = dict(row.artefacts or {})
        return cls(
            id=strawberry.ID(row.voucher_id),
            code=row.code,
            qr=artefacts.get("qr"),
            holder=row.holder,
            state=row.state,
            last_on=row.last_on,
            used_at=row.used_at,
            artefacts=artefacts,
        )


@strawberry.federation.type(keys=["id"])
class Redemption:
    """One redemption. In `IN_DOUBT` the partner is being asked; points are held, not spent."""

    id: strawberry.ID
    state: State
    slot: str | None
    quantity: int
    list_fen: Fen
    cash_fen: Fen
    legs: list[Leg]
    pricing: str
    reason: str | None
    fault: Fault | None
    since: datetime | None
    next_check_at: datetime | None
    hold_until: datetime | None
    cancel_until: datetime | None
    final_fare_fen: Fen | None
    saved_fen: Fen
    booking_ref: str | None
    created_at: datetime
    committed_at: datetime | None
    fulfilled_at: datetime | None
    released_at: datetime | None
    cancelled_at: datetime | None
    retry_of: strawberry.ID | None
    member_id: strawberry.Private[str]
    merchant_id: strawberry.Private[str]
    offer_id: strawberry.Private[str]

    @classmethod
    def of(cls, redemption: redemptions.Redemption) -> Self:
        doubtful = redemption.state is State.IN_DOUBT
        waiting = doubtful or redemption.state is State.CONFIRMING
        return cls(
            id=strawberry.ID(redemption.id),
            state=redemption.state,
            slot=redemption.slot,
            quantity=redemption.quantity,
            list_fen=redemption.list_fen,
            cash_fen=redemption.cash_fen,
            legs=[Leg.of(leg) for leg in redemption.legs],
            pricing=redemption.pricing,
            reason=redemption.reason,
            fault=redemption.fault,
            since=redemption.doubt_since,
            next_check_at=redemption.due_at if waiting else None,
            hold_until=redemption.hold_until if redemption.state is State.HELD else None,
            cancel_until=redemption.cancel_until,
            final_fare_fen=redemption.final_fare_fen,
            saved_fen=saved_fen(redemption),
            booking_ref=redemption.booking_ref,
            created_at=redemption.created_at,
            committed_at=redemption.committed_at,
            fulfilled_at=redemption.fulfilled_at,
            released_at=redemption.released_at,
            cancelled_at=redemption.cancelled_at,
            retry_of=strawberry.ID(redemption.retry_of) if redemption.retry_of else None,
            member_id=redemption.member_id,
            merchant_id=redemption.merchant_id,
            offer_id=redemption.offer_id,
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> Self | None:
        found = await info.context.loaders.redemptions.load(id)
        return cls.of(found) if found is not None and may_see(info, found) else None

    @strawberry.field
    def merchant(self, info: Info) -> Merchant:
        return merchant(info, self.merchant_id)

    @strawberry.field
    async def offer(self, info: Info) -> Offer | None:
        found = await info.context.loaders.offers.load(self.offer_id)
        return Offer.of(found) if found else None

    @strawberry.field
    async def voucher(self, info: Info) -> Voucher | None:
        """Only its holder sees the code."""
        if info.context.actor.member_id != self.member_id:
            return None
        row = await info.context.loaders.vouchers.load(self.id)
        return Voucher.of(row) if row is not None else None


def may_see(info: Info, redemption: redemptions.Redemption) -> bool:
    """Whether the caller may see a redemption."""
    return visible_to(info.context.actor, redemption)


def visible_to(actor: Actor, redemption: redemptions.Redemption) -> bool:
    """Its member, its merchant, finance and the operator; to others it does not exist."""
    if actor.role == Role.MEMBER:
        return actor.member_id == redemption.member_id and "points:read" in actor.scopes
    if actor.role == Role.PARTNER:
        return actor.merchant_id == redemption.merchant_id and "statement:read" in actor.scopes
    return bool({"finance:read", "operator:read", "audit:read"} & actor.scopes)


def saved_fen(redemption: redemptions.Redemption) -> int:
    """What points have paid of a redemption that stands: its faces, less what came back."""
    if redemption.state not in BURNED or redemption.state is State.CANCELLED:
        return 0
    faces = {leg.leg_no: leg.face_fen for leg in redemption.legs}
    if redemption.final_fare_fen is not None:
        kept = redemptions.kept_after_fare(
            redemption.legs, redemption.cash_fen, redemption.final_fare_fen
        )
        faces |= {leg_no: face for leg_no, (_, face) in kept.items()}
    return sum(faces.values())


@strawberry.type
class Donation:
    """Points burned for a charity, which gets goods; matched by a campaign."""

    id: strawberry.ID
    points: Points
    face_fen: Fen
    matched_fen: Fen
    state: str
    donated_at: datetime
    reversed_at: datetime | None
    beneficiary_id: strawberry.Private[str]
    programme_id: strawberry.Private[str]

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(
            id=strawberry.ID(row.id),
            points=row.points,
            face_fen=row.face_fen,
            matched_fen=row.match_fen,
            state=row.state,
            donated_at=row.donated_at,
            reversed_at=row.reversed_at,
            beneficiary_id=row.beneficiary,
            programme_id=row.programme_id,
        )

    @strawberry.field
    def beneficiary(self, info: Info) -> Merchant:
        return merchant(info, self.beneficiary_id)

    @strawberry.field
    def programme(self, info: Info) -> Programme:
        return programme(info, self.programme_id)


@strawberry.type
class CancelQuote:
    """What cancelling now would give back; nothing has changed yet."""

    id: strawberry.ID
    refundable: bool
    fee_fen: Fen
    expires_at: datetime
    until: datetime | None

    @classmethod
    def of(cls, row: sa.Row[Any]) -> Self:
        return cls(
            id=strawberry.ID(row.id),
            refundable=row.refundable,
            fee_fen=row.fee_fen,
            expires_at=row.expires_at,
            until=row.until,
        )
