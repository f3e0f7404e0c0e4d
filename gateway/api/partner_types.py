"""What a merchant sees of its own: agreements, claims, bills, settlement legs, earnings."""

from dataclasses import asdict
from datetime import date, datetime
from typing import Self

import strawberry

from gateway.api.catalog_types import Merchant, merchant
from gateway.api.context import Conformance, Info
from gateway.api.scalars import Fen, Points
from gateway.audit import service as audit
from gateway.points import model as points_model
from gateway.ports import SettlementNotice
from gateway.settlement import model as claims
from gateway.values import canonical


@strawberry.type
class AgreementUse:
    """What an agreement's month has used of its cap."""

    month: str
    used_fen: Fen
    left_fen: Fen


@strawberry.type
class Agreement:
    """What an issuer pays a redeemer for its customers' redemptions, signed by both."""

    id: strawberry.ID
    version: int
    kind: str
    settlement_bps: int
    fee_bps: int
    monthly_cap_fen: Fen
    valid_from: date
    valid_until: date
    offers: list[strawberry.ID] | None
    categories: list[str] | None
    signed_by: list[strawberry.ID]
    signed_at: datetime | None
    issuer_id: strawberry.Private[str]
    redeemer_id: strawberry.Private[str]

    @classmethod
    def of(cls, row: claims.Agreement) -> Self:
        return cls(
            id=strawberry.ID(row.id),
            version=row.version,
            kind=str(row.kind),
            settlement_bps=row.settlement_bps,
            fee_bps=row.fee_bps,
            monthly_cap_fen=row.monthly_cap_fen,
            valid_from=row.valid_from,
            valid_until=row.valid_until,
            offers=None if row.offers is None else [strawberry.ID(id_) for id_ in row.offers],
            categories=None if row.categories is None else list(row.categories),
            signed_by=[strawberry.ID(id_) for id_ in row.signed_by],
            signed_at=row.signed_at,
            issuer_id=row.issuer,
            redeemer_id=row.redeemer,
        )

    @strawberry.field
    def issuer(self, info: Info) -> Merchant:
        return merchant(info, self.issuer_id)

    @strawberry.field
    def redeemer(self, info: Info) -> Merchant:
        return merchant(info, self.redeemer_id)

    @strawberry.field
    async def use(self, info: Info, month: str | None = None) -> AgreementUse:
        """What a month, as in 2026-11, has used of the cap; this month by default."""
        used = await info.context.loaders.used(month).load(self.id) or 0
        return AgreementUse(
            month=info.context.month(month),
            used_fen=used,
            left_fen=max(self.monthly_cap_fen - used, 0),
        )


@strawberry.type
class Obligation:
    """One claim in fen, payer to payee; a reversal swaps the two and names what it corrects."""

    id: strawberry.ID
    type: claims.Type
    cause: strawberry.ID
    payer: strawberry.ID
    payee: strawberry.ID
    amount_fen: Fen
    statement_fen: Fen
    face_fen: Fen | None
    state: claims.State
    issuer: strawberry.ID
    redeemer: strawberry.ID
    offer: strawberry.ID | None
    agreement: strawberry.ID | None
    corrects: strawberry.ID | None
    window: strawberry.ID | None
    settlement: strawberry.ID | None
    accrued_at: datetime
    cleared_at: datetime | None
    business_date: date | None

    @classmethod
    def of(cls, row: claims.Obligation) -> Self:
        def some(id_: str | None) -> strawberry.ID | None:
            return strawberry.ID(id_) if id_ else None

        return cls(
            id=strawberry.ID(row.id),
            type=row.type,
            cause=strawberry.ID(row.cause_id),
            payer=strawberry.ID(row.payer),
            payee=strawberry.ID(row.payee),
            amount_fen=row.amount_fen,
            statement_fen=row.statement_fen,
            face_fen=row.face_fen,
            state=row.state,
            issuer=strawberry.ID(row.issuer),
            redeemer=strawberry.ID(row.redeemer),
            offer=some(row.offer_id),
            agreement=some(row.agreement_id),
            corrects=some(row.corrects_id),
            window=some(row.window_id),
            settlement=some(row.settlement_id),
            accrued_at=row.accrued_at,
            cleared_at=row.cleared_at,
            business_date=row.business_date,
        )


@strawberry.type
class Bill:
    """What a merchant is owed for one business day: rows and a trailer, as files print them."""

    merchant: strawberry.ID
    day: date
    lines: list[Obligation]
    count: int
    sum_fen: Fen

    @strawberry.field
    async def audit_head(self, info: Info) -> str | None:
        """The signed head of the audit chain that goes out with the bill, a compact JWS: keep it.

        It is the first after the day's end, the same at every asking; null until it is signed. A
        day without lines has one, too. Its key is in `/oauth/jwks`.
        """
        async with info.context.reading() as tx:
            return await audit.head_of_day(tx, self.day)


@strawberry.type
class LegSide:
    """One side of a settlement leg: the notice sent to it, and its signed answer."""

    role: claims.Role
    merchant: strawberry.ID
    noticed_at: datetime | None
    receipt_ref: str | None
    acknowledged_at: datetime | None
    ack_client: str | None

    @classmethod
    def of(cls, side: claims.LegParty) -> Self:
        return cls(
            role=side.role,
            merchant=strawberry.ID(side.merchant_id),
            noticed_at=side.noticed_at,
            receipt_ref=side.receipt_ref,
            acknowledged_at=side.acknowledged_at,
            ack_client=side.ack_client_id,
        )


@strawberry.type
class SettlementLeg:
    """One payment of a settlement, from merchant to merchant; the operator holds no money."""

    id: strawberry.ID
    settlement: strawberry.ID
    seq: int
    end_to_end_id: str
    payer: strawberry.ID
    payee: strawberry.ID
    amount_fen: Fen
    state: claims.LegState
    sides: list[LegSide]

    @strawberry.field
    async def to_sign(self, info: Info) -> str:
        """The text whose detached JWS acknowledges this leg: the notice in canonical JSON."""
        found = await info.context.loaders.settlements.load(self.settlement)
        assert found is not None
        return to_sign(
            SettlementNotice(
                settlement_id=self.settlement,
                leg_id=self.id,
                payer=self.payer,
                payee=self.payee,
                amount_fen=self.amount_fen,
                net_hash=found.net_hash,
            )
        )

    @strawberry.field
    async def audit_head(self, info: Info) -> str | None:
        """The signed head of the audit chain that its notices bring, a compact JWS: keep it.

        It is the first after the settlement's approval; null until it is signed. Its key is in
        `/oauth/jwks`.
        """
        return await info.context.loaders.heads.load(self.settlement)

    @classmethod
    def of(cls, leg: claims.SettlementLeg) -> Self:
        return cls(
            id=strawberry.ID(leg.id),
            settlement=strawberry.ID(leg.settlement_id),
            seq=leg.seq,
            end_to_end_id=leg.end_to_end_id,
            payer=strawberry.ID(leg.payer),
            payee=strawberry.ID(leg.payee),
            amount_fen=leg.amount_fen,
            state=leg.state,
            sides=[LegSide.of(side) for side in leg.parties],
        )


def to_sign(notice: SettlementNotice) -> str:
    """What a merchant signs to acknowledge a leg: the notice, without the head that came along."""
    document = asdict(notice)
    del document["audit_head"]
    return canonical(document).decode()


@strawberry.type
class Earning:
    """What one purchase earned: pending in its return window, else in a lot at once."""

    id: strawberry.ID
    order: str
    points: Points
    state: points_model.EarningState
    mature_at: datetime
    lot: strawberry.ID | None

    @classmethod
    def of(cls, earning: points_model.Earning) -> Self:
        return cls(
            id=strawberry.ID(earning.id),
            order=earning.ref,
            points=earning.points,
            state=earning.state,
            mature_at=earning.mature_at,
            lot=strawberry.ID(earning.lot_id) if earning.lot_id else None,
        )


@strawberry.type
class EarnReturn:
    """Points taken back for a return; what is not left is owed and paid by later earning."""

    order: str
    points: Points
    from_pending: Points
    from_available: Points
    owed: Points

    @classmethod
    def of(cls, row: points_model.Return) -> Self:
        return cls(
            order=row.ref,
            points=row.points,
            from_pending=row.from_pending,
            from_available=row.from_available,
            owed=row.owed,
        )


@strawberry.type
class RegisteredMember:
    """A member as the merchant that registered it knows it."""

    id: strawberry.ID
    partner_member_ref: str | None


@strawberry.type
class Cover:
    """An issuer's ability to pay: reserved, owed and to come, against its limits."""

    collateral_fen: Fen
    net_debit_cap_fen: Fen
    reserved_fen: Fen
    debit_fen: Fen
    credit_fen: Fen
    left_fen: Fen

    @classmethod
    def of(cls, cover: claims.Cover) -> Self:
        return cls(
            collateral_fen=cover.collateral_fen,
            net_debit_cap_fen=cover.net_debit_cap_fen,
            reserved_fen=cover.reserved_fen,
            debit_fen=cover.debit_fen,
            credit_fen=cover.credit_fen,
            left_fen=cover.left_fen,
        )


@strawberry.type
class ConformanceCheck:
    id: str
    outcome: str
    detail: str | None


@strawberry.type
class ConformanceRun:
    """The partner contract, checked against a merchant."""

    merchant: strawberry.ID
    passed: int
    failed: int
    skipped: int
    checks: list[ConformanceCheck]

    @classmethod
    def of(cls, run: Conformance) -> Self:
        outcomes = [outcome for _, outcome, _ in run.checks]
        return cls(
            merchant=strawberry.ID(run.merchant),
            passed=outcomes.count("PASS"),
            failed=outcomes.count("FAIL"),
            skipped=outcomes.count("SKIP"),
            checks=[
                ConformanceCheck(id=id_, outcome=outcome, detail=detail)
                for id_, outcome, detail in run.checks
            ],
        )
