"""Inputs and payloads of what merchants do."""

from datetime import date, datetime

import strawberry

from gateway.api.catalog_types import Offer, Programme
from gateway.api.errors import Payload
from gateway.api.partner_types import (
    Agreement,
    ConformanceRun,
    Earning,
    EarnReturn,
    RegisteredMember,
    SettlementLeg,
)
from gateway.api.redemption_types import Redemption
from gateway.api.scalars import JSON, Fen, Points, RateInput


@strawberry.input
class RegisterClientKeyInput:
    """A public key (JWK, EC P-256 or Ed25519) with which the merchant signs.

    The first one comes with the onboarding code and needs no token; the next ones need scope
    `keys:manage`, or an operator, who names the merchant.
    """

    jwk: JSON
    idempotency_key: str
    onboarding_code: str | None = None
    merchant: strawberry.ID | None = None


@strawberry.type
class ClientKey:
    """A registered key: the client it belongs to and its thumbprint."""

    client: strawberry.ID
    kid: str


@strawberry.type
class RegisterClientKeyPayload(Payload):
    key: ClientKey | None = None


@strawberry.input
class EarnRuleInput:
    """How purchases earn: `points` per `per_fen`, or per night by tier, or per kilometre."""

    kind: str = "per_amount"
    points: Points | None = strawberry.UNSET
    per_fen: Fen | None = strawberry.UNSET
    tiers: JSON | None = strawberry.UNSET
    factor_pct: JSON | None = strawberry.UNSET
    only_categories: list[str] | None = strawberry.UNSET


@strawberry.input
class DisclosureInput:
    """What members are told before they earn."""

    accrual_zh: str
    validity_zh: str
    limits_zh: str


@strawberry.input
class PublishProgrammePolicyInput:
    """A programme, or its next policy. Without `validity_months` points are for life."""

    programme: strawberry.ID
    name_zh: str
    unit_zh: str
    value: RateInput
    earn: EarnRuleInput
    idempotency_key: str
    disclosure: DisclosureInput | None = None
    validity_months: int | None = None
    compensation_bps: int = 100
    issuer: strawberry.ID | None = None


@strawberry.type
class PublishProgrammePolicyPayload(Payload):
    programme: Programme | None = None


@strawberry.input
class GuaranteeInput:
    parity: str
    cancel: str
    compensation: str
    contact: str


@strawberry.input
class PublishOfferInput:
    """An offer of a merchant without a server; without a guarantee it takes the default one."""

    offer: strawberry.ID
    name_zh: str
    kind: str
    category: str
    cash_fen: Fen
    idempotency_key: str
    name_en: str = ""
    own_points: Points | None = None
    own_priced_by: str | None = None
    guarantee: GuaranteeInput | None = None
    attributes: JSON | None = None


@strawberry.type
class PublishOfferPayload(Payload):
    offer: Offer | None = None


@strawberry.input
class SuspendOfferInput:
    """Without a reason the offer is resumed."""

    offer: strawberry.ID
    idempotency_key: str
    reason: str | None = None


@strawberry.type
class SuspendOfferPayload(Payload):
    offer: Offer | None = None


@strawberry.input
class RegisterMemberInput:
    """A person known to the merchant, with the purposes it agreed to."""

    partner_member_ref: str
    consents: list[str]
    idempotency_key: str
    name_zh: str = ""
    city: str = ""
    birth_on: date | None = None


@strawberry.type
class RegisterMemberPayload(Payload):
    member: RegisteredMember | None = None


@strawberry.input
class RecordEarnEventInput:
    """A purchase, by the member's id or the merchant's own reference of it.

    The programme computes the points. `consumed`: available at once, else after the return
    window.
    """

    order: str
    consumed: bool
    idempotency_key: str
    member: strawberry.ID | None = None
    partner_member_ref: str | None = None
    cash_fen: Fen | None = None
    nights: int | None = None
    distance_km: int | None = None
    fare_class: str | None = None
    category: str | None = None
    town: str | None = None
    at: datetime | None = None


@strawberry.type
class RecordEarnEventPayload(Payload):
    earning: Earning | None = None
    available: Points | None = None
    budget_left_fen: Fen | None = None


@strawberry.input
class RecordReturnInput:
    """A purchase that was returned; without `cash_fen`, wholly."""

    order: str
    idempotency_key: str
    cash_fen: Fen | None = None


@strawberry.type
class RecordReturnPayload(Payload):
    """`taken` is what this return took; a replay shows the purchase only."""

    earning: Earning | None = None
    taken: EarnReturn | None = None


@strawberry.input
class VerifyVoucherInput:
    """The code the holder shows, and the holder's id where the till knows it."""

    code: str
    idempotency_key: str
    holder: str | None = None


@strawberry.type
class VerifyVoucherPayload(Payload):
    redemption: Redemption | None = None


@strawberry.input
class RecordFulfilmentInput:
    redemption: strawberry.ID
    idempotency_key: str
    final_fare_fen: Fen | None = None


@strawberry.type
class RecordFulfilmentPayload(Payload):
    redemption: Redemption | None = None


@strawberry.input
class ProposeAgreementInput:
    """Terms between an issuer and a redeemer, one of which is the caller."""

    issuer: strawberry.ID
    redeemer: strawberry.ID
    settlement_bps: int
    fee_bps: int
    monthly_cap_fen: Fen
    valid_from: date
    valid_until: date
    idempotency_key: str
    kind: str = "redemption"
    offers: list[strawberry.ID] | None = None
    categories: list[str] | None = None


@strawberry.type
class ProposeAgreementPayload(Payload):
    agreement: Agreement | None = None


@strawberry.input
class SignAgreementInput:
    """`version`: the one that was read. It must be named where several wait for signatures."""

    agreement: strawberry.ID
    idempotency_key: str
    version: int | None = None


@strawberry.type
class SignAgreementPayload(Payload):
    agreement: Agreement | None = None


@strawberry.input
class StartConformanceRunInput:
    idempotency_key: str


@strawberry.type
class StartConformanceRunPayload(Payload):
    run: ConformanceRun | None = None


@strawberry.input
class AcknowledgeSettlementLegInput:
    """The debtor has sent, or the creditor received, the payment.

    `signature` is a detached JWS over the leg's `toSign`, by a key of the merchant.
    """

    leg: strawberry.ID
    signature: str
    idempotency_key: str


@strawberry.type
class AcknowledgeSettlementLegPayload(Payload):
    leg: SettlementLeg | None = None
