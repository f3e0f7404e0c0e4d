"""The closed sets of values that are texts in the schema: listed as the code has them."""

from collections.abc import Iterable, Mapping

from gateway.api.operator import ROLES
from gateway.catalog.model import KINDS
from gateway.members.model import PURPOSES
from gateway.ports import Outcome
from gateway.reconciliation import model as reconciliation
from gateway.redemption import model as redemption
from gateway.settlement import model as settlement

_STATES = {
    "RedemptionsFilter.states": redemption.State,
    "SagasFilter.states": redemption.State,
    "ObligationsFilter.states": settlement.State,
    "SettlementLegsFilter.states": settlement.LegState,
    "BreaksFilter.states": reconciliation.BreakState,
}

LISTED: Mapping[str, Iterable[str]] = {
    **_STATES,
    "Agreement.kind": settlement.AgreementKind,
    "PartnerFact.outcome": Outcome,
    "Review.step": redemption.Step,
    "RedemptionUpdate.state": redemption.State,
    "Me.kind": ("person", "enterprise"),
    "EarnRuleInput.kind": ("per_amount", "per_night", "per_distance"),
    "PublishOfferInput.ownPricedBy": ("book", "value"),
    "Price.basis": ("value", "own", "book", "promotion"),
    "Programme.validity": ("LIFETIME", "MONTHS"),
    "ConformanceCheck.outcome": ("PASS", "FAIL", "SKIP"),
    "BreaksFilter.code": reconciliation.Code,
    "Consent.purpose": sorted(PURPOSES),
    "GrantConsentInput.purpose": sorted(PURPOSES),
    "RegisterMemberInput.consents": sorted(PURPOSES),
    "Offer.kind": sorted(KINDS),
    "OffersFilter.kind": sorted(KINDS),
    "PublishOfferInput.kind": sorted(KINDS),
    "Merchant.roles": (*ROLES, "operator"),
    "MerchantFilter.role": ROLES,
    "RegisterMerchantInput.roles": ROLES,
    "ProposeAgreementInput.kind": settlement.AgreementKind,
    "ProposeBreakResolutionInput.action": reconciliation.Action,
    "ProposeReviewResolutionInput.outcome": redemption.Resolve,
    "ProposeReviewResolutionInput.fault": redemption.Fault,
    "Query.bills.type": settlement.Type,
    "Voucher.state": ("ISSUED", "USED", "VOID"),
    "Donation.state": ("DONE", "REVERSED"),
    "Offer.pricing": ("fixed", "estimate"),
    "Quote.pricing": ("fixed", "estimate"),
    "Redemption.pricing": ("fixed", "estimate"),
}
