"""The rooms' enums as the schema's: the same words, under the names that clients see, explained.

Imported before any type is made, for Strawberry names an enum when a type first speaks of it.
On the wire a value is its member's name, so enums whose values differ from it stay texts.
"""

from collections.abc import Mapping
from enum import StrEnum

import strawberry

from gateway.events import model as events
from gateway.ledger import model as ledger
from gateway.points import model as points
from gateway.reconciliation import model as reconciliation
from gateway.redemption import model as redemption
from gateway.settlement import model as settlement

ENUMS: Mapping[str, tuple[type[StrEnum], str, Mapping[str, str]]] = {
    "RedemptionState": (
        redemption.State,
        "How far a redemption is.",
        {
            "HOLDING": "Points and the partner's side are being held.",
            "HELD": "Both are held until `holdUntil`; nothing is spent.",
            "CONFIRMING": "The partner is being asked to confirm.",
            "IN_DOUBT": "The partner left us without an answer and is asked; points are held.",
            "COMMITTED": "Done: points are spent, the partner has booked it.",
            "FULFILLED": "Consumed.",
            "RELEASING": "What is held is being given up.",
            "RELEASED": "Nothing happened: points are back.",
            "CANCELLING": "The partner is being asked to cancel.",
            "CANCELLED": "Cancelled after it was done; points are back as quoted.",
            "LATE_CONFIRMED": "The partner confirmed after we had given up; it is being decided.",
            "NEEDS_REVIEW": "The rules are exhausted: two people decide.",
        },
    ),
    "Fault": (
        redemption.Fault,
        "Whose fault a cancellation is: it decides fee, expiry and compensation.",
        {
            "MEMBER": "The member's.",
            "REDEEMER": "The merchant's that gives the service.",
            "GATEWAY": "Ours.",
        },
    ),
    "ReviewOutcome": (
        redemption.Resolve,
        "What two people may decide about a redemption.",
        {
            "COMMIT": "The partner has it booked: points are spent.",
            "RELEASE": "The partner has nothing: points go back.",
            "CANCEL": "It was cancelled after all: points go back, claims are reversed.",
            "KEEP": "It stays what it was.",
        },
    ),
    "CallState": (
        redemption.CallState,
        "What became of a call to a partner.",
        {
            "PENDING": "Under way; after a crash nobody knows.",
            "ANSWERED": "Answered.",
            "REJECTED": "The partner said no.",
            "NOT_SENT": "It was not sent, certainly.",
            "UNKNOWN": "Sent, and no answer came.",
        },
    ),
    "ObligationType": (
        settlement.Type,
        "What a claim is for.",
        {
            "REDEMPTION": "A redemption: issuer to redeemer.",
            "FEE": "The operator's fee.",
            "SUBSIDY": "A campaign's part.",
            "REVERSAL": "The way back of another claim.",
            "COMPENSATION": "What a broken promise costs.",
            "DONATION_GOODS": "Goods for a charity.",
            "ADJUSTMENT": "What two people decided about a difference.",
        },
    ),
    "ObligationState": (
        settlement.State,
        "How far a claim is.",
        {
            "ACCRUED": "It exists and waits for its service to be consumed.",
            "IN_WINDOW": "It is cleared with its window.",
            "IN_SETTLEMENT": "It is part of a settlement that was approved.",
            "SETTLED": "Paid.",
        },
    ),
    "WindowState": (
        settlement.WindowState,
        "How far a clearing window is.",
        {
            "OPEN": "It takes claims.",
            "CLOSED": "It takes no more.",
            "NETTED": "Its claims are netted.",
            "PUBLISHED": "Merchants can see what they owe and get.",
            "APPROVED": "Two people have agreed; passed through.",
            "INSTRUCTED": "Payments and notices are out.",
            "PARTIAL": "Some payments are acknowledged by both sides.",
            "SETTLED": "All are.",
        },
    ),
    "Netting": (
        settlement.Netting,
        "How claims become payments.",
        {
            "GROSS": "Each claim by itself.",
            "BILATERAL_NET": "One payment for each pair.",
            "MULTILATERAL_NET": "One for each party; only where contracts provide novation.",
        },
    ),
    "SettlementState": (
        settlement.SettlementState,
        "How far a settlement is.",
        {
            "DRAFT": "Proposed.",
            "SUPERSEDED": "The window was netted again before it was approved.",
            "INSTRUCTED": "Approved: payments and notices are out.",
            "PARTIAL": "Some payments are acknowledged by both sides.",
            "SETTLED": "All are.",
        },
    ),
    "SettlementLegState": (
        settlement.LegState,
        "How far a payment is.",
        {
            "DRAFT": "Proposed.",
            "APPROVED": "Approved: the debtor may pay.",
            "SENT": "The debtor says it has paid.",
            "BOOKED": "The creditor says it has the money.",
        },
    ),
    "LegRole": (
        settlement.Role,
        "A side of a payment.",
        {"DEBTOR": "It pays.", "CREDITOR": "It is paid."},
    ),
    "RunState": (
        reconciliation.RunState,
        "How far a reconciliation run is.",
        {
            "CREATED": "Our lines are taken down.",
            "INGESTING": "Statements are lacking.",
            "REVIEW": "Matched: its breaks are looked at.",
            "LOCKED": "Signed off.",
            "SUPERSEDED": "A later run of the day takes its place.",
        },
    ),
    "BreakCode": (
        reconciliation.Code,
        "What differs between our books and a statement.",
        {
            "MISSING_PARTNER": "The partner does not have it.",
            "MISSING_US": "We do not have it.",
            "AMOUNT_DIFF": "Another amount.",
            "FEE_DIFF": "Another fee.",
            "RATE_VERSION": "Rated by another version of the agreement.",
            "ROUNDING": "A rounding.",
            "STATUS_DIFF": "Another state.",
            "DUPLICATE_PARTNER": "The partner has it twice.",
            "DUPLICATE_US": "We have it twice.",
            "CUTOFF": "The partner has it on another day.",
            "UNIT_DIFF": "Yuan where fen is meant, or the like.",
            "PARTY_DIFF": "Another party.",
            "LATE_HOLD": "A hold that came after it was given up.",
            "LATE_CONFIRM_CANCELLED": "A late confirmation that was cancelled.",
            "LATE_CONFIRM_UNCOVERED": "A late confirmation that nothing covers.",
            "FENCE_VIOLATED": "The partner acted after it had been fenced.",
            "FULFIL_MISSING": "Nobody has said that it was consumed.",
        },
    ),
    "BreakState": (
        reconciliation.BreakState,
        "How far a break is.",
        {
            "OPEN": "Nobody looks after it yet.",
            "ASSIGNED": "It has an owner.",
            "INVESTIGATING": "The partner was asked.",
            "PROPOSED": "A resolution waits for a second person.",
            "CLOSED": "Resolved; posted where money moves.",
            "WRITTEN_OFF": "Written off.",
            "AUTO_RESOLVED": "Decided before, in a run that this one supersedes.",
        },
    ),
    "BreakAction": (
        reconciliation.Action,
        "What to do about a break.",
        {
            "ACCEPT_THEIRS": "The partner is right: our books are adjusted.",
            "ACCEPT_OURS": "We are right: nothing moves.",
            "WRITE_OFF": "Too small to be worth more work.",
            "ASK_PARTNER": "Ask the partner first.",
        },
    ),
    "ResolutionState": (
        reconciliation.ResolutionState,
        "How far a decision is.",
        {
            "PROPOSED": "It waits for a second person.",
            "APPROVED": "Done.",
            "WITHDRAWN": "Rejected, or another was proposed.",
            "ASKED": "A question to the partner: it needs no approval.",
        },
    ),
    "EarningState": (
        points.EarningState,
        "How far what a purchase earned is.",
        {
            "PENDING": "Its return window runs.",
            "MATURED": "Its points are in a lot.",
            "RETURNED": "Wholly returned before it matured.",
        },
    ),
    "DeliveryState": (
        events.DeliveryState,
        "What became of an event for an endpoint.",
        {
            "DUE": "It will be sent, or sent again.",
            "DELIVERED": "The endpoint has taken it.",
            "DEAD": "The last try failed: `resendEvents` sends it again.",
        },
    ),
    "WebhookState": (
        events.EndpointState,
        "Whether an endpoint is sent to.",
        {
            "ACTIVE": "It is.",
            "PAUSED": "Its merchant has paused it.",
            "GONE": "It answered 410: register it again.",
        },
    ),
    "JournalKind": (
        ledger.Kind,
        "What a journal records.",
        {
            "OPENING": "What was there at the beginning.",
            "EARN": "Points earned.",
            "MATURE": "Points became available.",
            "HOLD": "Points held.",
            "RELEASE": "A hold given up.",
            "COMMIT": "Points spent.",
            "FARE_ADJUST": "A lower final fare gave some back.",
            "REVERSE": "Points back after a cancellation.",
            "COMPENSATE": "Points as compensation.",
            "EXPIRE": "Points ended.",
            "DONATE": "Points donated.",
            "MATCH": "A campaign's part of a donation.",
            "FEE": "The operator's fee.",
            "ADJUST": "An adjustment by two people.",
            "CLAW_BACK": "Points taken back after a return.",
            "DRAW_ENTRY": "Points for a draw.",
            "DRAW_PRIZE": "Points won in a draw.",
            "RECON": "A break resolved.",
            "NET": "A window netted.",
            "BOOKED": "A payment acknowledged by both sides.",
            "BUDGET": "A budget approved, sliced or lapsed.",
        },
    ),
}

for _name, (_enum, *_) in ENUMS.items():
    strawberry.enum(_enum, name=_name)
