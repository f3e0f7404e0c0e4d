"""What each operation needs and typically refuses.

Scope and role come from the table that admits callers, so the words cannot differ from the deed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.api.policies import EITHER, POLICIES, Policy
from gateway.oauth.scopes import ACK

CODES: Mapping[str, str] = {
    "requestQuote": "NOT_FOUND INSUFFICIENT_POINTS NO_AGREEMENT CONSENT_REQUIRED"
    " OFFER_SUSPENDED OFFER_NOT_OPEN OFFSET_CAP LEG_LIMIT LEG_SUM AGREEMENT_CAP COVER_EXCEEDED"
    " SLOT_FULL SOLD_OUT PARTNER_UNAVAILABLE",
    "holdRedemption": "NOT_FOUND QUOTE_EXPIRED INSUFFICIENT_POINTS AGREEMENT_CAP COVER_EXCEEDED"
    " SLOT_FULL SOLD_OUT QUOTE_STALE PARTNER_REJECTED PARTNER_UNAVAILABLE",
    "confirmRedemption": "NOT_FOUND HOLD_EXPIRED HOLD_ALREADY_RESOLVED PARTNER_REJECTED",
    "redeemOffer": "NOT_FOUND INSUFFICIENT_POINTS NO_AGREEMENT CONSENT_REQUIRED"
    " OFFER_SUSPENDED OFFER_NOT_OPEN OFFSET_CAP AGREEMENT_CAP COVER_EXCEEDED SLOT_FULL SOLD_OUT"
    " PARTNER_REJECTED PARTNER_UNAVAILABLE",
    "releaseRedemption": "NOT_FOUND HOLD_ALREADY_RESOLVED",
    "requestCancellation": "NOT_FOUND CANCEL_TOO_LATE PARTNER_UNAVAILABLE",
    "cancelRedemption": "NOT_FOUND CANCEL_TOO_LATE QUOTE_EXPIRED PARTNER_REJECTED",
    "donatePoints": "NOT_FOUND INSUFFICIENT_POINTS NO_AGREEMENT INVALID_INPUT",
    "reverseDonation": "NOT_FOUND DONATION_REVERSAL_CLOSED",
    "grantConsent": "NOT_FOUND INVALID_INPUT",
    "revokeConsent": "NOT_FOUND",
    "registerClientKey": "ONBOARDING_CODE_INVALID ALREADY_REGISTERED INVALID_INPUT",
    "publishProgrammePolicy": "NOT_FOUND DISCLOSURE_MISSING VALUE_GUARANTEE_VIOLATION"
    " INVALID_INPUT",
    "publishOffer": "CASH_LIKE_FORBIDDEN GUARANTEE_MISSING VALUE_GUARANTEE_VIOLATION INVALID_INPUT",
    "suspendOffer": "NOT_FOUND",
    "registerMember": "ALREADY_REGISTERED AGE_RESTRICTED CONSENT_REQUIRED INVALID_INPUT",
    "recordEarnEvent": "NOT_FOUND ALREADY_REGISTERED BUDGET_EXCEEDED NO_CONSUMPTION_BASIS"
    " UNSPECIFIED_RECIPIENT ISSUER_EXITED INVALID_INPUT",
    "recordReturn": "NOT_FOUND ALREADY_REGISTERED INVALID_AMOUNT",
    "verifyVoucher": "NOT_FOUND ALREADY_USED OWNER_MISMATCH VOUCHER_EXPIRED",
    "recordFulfilment": "NOT_FOUND INVALID_AMOUNT",
    "proposeAgreement": "NOT_FOUND INVALID_INPUT LICENCE_INVALID",
    "signAgreement": "NOT_FOUND INVALID_INPUT",
    "startConformanceRun": "NOT_FOUND",
    "acknowledgeSettlementLeg": "NOT_FOUND INVALID_INPUT",
    "registerWebhook": "NOT_FOUND INVALID_INPUT",
    "resendEvents": "NOT_FOUND INVALID_INPUT",
    "publishSubgraph": "COMPOSITION_FAILED SCHEMA_BREAKING INVALID_INPUT",
    "unpublishSubgraph": "NOT_FOUND COMPOSITION_FAILED SCHEMA_BREAKING",
    "closeSettlementWindow": "NOT_FOUND WINDOW_NOT_OPEN INVALID_INPUT",
    "proposeSettlement": "NOT_FOUND WINDOW_NOT_OPEN",
    "approveSettlement": "NOT_FOUND FOUR_EYES_REQUIRED STALE_NET_HASH",
    "startReconciliationRun": "INVALID_INPUT BILL_DUPLICATE RUN_LOCKED",
    "assignBreak": "NOT_FOUND INVALID_INPUT",
    "proposeBreakResolution": "NOT_FOUND INVALID_INPUT TOLERANCE_EXCEEDED",
    "approveBreakResolution": "NOT_FOUND FOUR_EYES_REQUIRED",
    "signOffReconciliationRun": "NOT_FOUND CLOSE_BLOCKED",
    "registerMerchant": "ALREADY_REGISTERED INVALID_INPUT",
    "pausePartner": "NOT_FOUND",
    "proposeBudget": "NOT_FOUND INVALID_INPUT INVALID_AMOUNT",
    "approveBudget": "NOT_FOUND FOUR_EYES_REQUIRED",
    "recordLicence": "INVALID_INPUT",
    "setSandboxClock": "SANDBOX_ONLY INVALID_INPUT",
    "proposeReviewResolution": "NOT_FOUND INVALID_INPUT",
    "approveReviewResolution": "NOT_FOUND FOUR_EYES_REQUIRED",
    "fencePartnerOperation": "NOT_FOUND",
}
"""Not all that may come: any mutation may also answer IDEMPOTENCY_CONFLICT, or INVALID_INPUT."""


@dataclass(frozen=True, slots=True)
class Needed:
    """A way to an operation: one scope, and any of the roles; no roles: everybody's."""

    scope: str
    roles: tuple[str, ...]


def ways(kind: str, name: str) -> Iterator[Needed]:
    """How a caller is admitted to a root field, as `policies.admit` does it; none: no token."""
    policy = POLICIES[kind][name]
    if not policy.open:
        yield _needed(policy)
        if name in EITHER:
            yield _needed(EITHER[name])


def access(kind: str, name: str) -> str:
    """What a root field needs, in a sentence."""
    parts = [f"scope `{way.scope}`, {_roles(way)}" for way in ways(kind, name)]
    return f"Needs {'; or '.join(parts)}." if parts else "Needs no token."


def _roles(way: Needed) -> str:
    return f"role {' or '.join(way.roles)}" if way.roles else "any role"


def _needed(policy: Policy) -> Needed:
    scope = policy.scope or ""
    return Needed(f"{ACK}<merchant>" if scope == ACK else scope, tuple(sorted(policy.roles)))
