"""Runs, rows, matches and breaks. Pure; `matching.py` has the passes, `hypothesis.py` the words.

A row's amount is signed as statements print it: reversals negative. Differences are always
ours − theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.settlement.model import RECON_TOLERANCE, Flow
from gateway.values import fingerprint

REDEMPTION = "REDEMPTION"
REVERSAL = "REVERSAL"
RULES_VERSION = 1


class RunState(StrEnum):
    CREATED = "CREATED"
    INGESTING = "INGESTING"
    REVIEW = "REVIEW"  # matched; READY and MATCHING are passed through in one transaction
    LOCKED = "LOCKED"  # signed off
    SUPERSEDED = "SUPERSEDED"


class Side(StrEnum):
    OURS = "OURS"
    THEIRS = "THEIRS"


class Status(StrEnum):
    """Where a row ended up: in exactly one of the three, once its run is matched."""

    STAGED = "STAGED"
    MATCHED = "MATCHED"
    BREAK = "BREAK"
    EXPECTED = "EXPECTED"


class Code(StrEnum):
    """Why rows do not agree. Source: contracts §7.4."""

    MISSING_PARTNER = "MISSING_PARTNER"
    MISSING_US = "MISSING_US"
    AMOUNT_DIFF = "AMOUNT_DIFF"
    FEE_DIFF = "FEE_DIFF"
    RATE_VERSION = "RATE_VERSION"
    ROUNDING = "ROUNDING"
    STATUS_DIFF = "STATUS_DIFF"
    DUPLICATE_PARTNER = "DUPLICATE_PARTNER"
    DUPLICATE_US = "DUPLICATE_US"
    CUTOFF = "CUTOFF"
    UNIT_DIFF = "UNIT_DIFF"
    PARTY_DIFF = "PARTY_DIFF"
    LATE_HOLD = "LATE_HOLD"  # from here on: from a saga, not from rows
    LATE_CONFIRM_CANCELLED = "LATE_CONFIRM_CANCELLED"
    LATE_CONFIRM_UNCOVERED = "LATE_CONFIRM_UNCOVERED"
    FENCE_VIOLATED = "FENCE_VIOLATED"
    FULFIL_MISSING = "FULFIL_MISSING"


WHOLE = frozenset(
    {
        Code.MISSING_PARTNER,
        Code.MISSING_US,
        Code.DUPLICATE_PARTNER,
        Code.DUPLICATE_US,
        Code.CUTOFF,
    }
)
CLOSED_BY_FACT = frozenset({Code.LATE_CONFIRM_CANCELLED})
"""Codes whose fact settles everything: nobody need decide (contracts §5.5)."""


class BreakState(StrEnum):
    OPEN = "OPEN"
    ASSIGNED = "ASSIGNED"
    INVESTIGATING = "INVESTIGATING"  # the partner was asked
    PROPOSED = "PROPOSED"
    CLOSED = "CLOSED"  # approved, and posted where money moves
    WRITTEN_OFF = "WRITTEN_OFF"
    AUTO_RESOLVED = "AUTO_RESOLVED"  # decided before, in a run this one supersedes


CLOSED_STATES = frozenset({BreakState.CLOSED, BreakState.WRITTEN_OFF, BreakState.AUTO_RESOLVED})


class Action(StrEnum):
    """What people may decide about a break."""

    ACCEPT_THEIRS = "ACCEPT_THEIRS"
    ACCEPT_OURS = "ACCEPT_OURS"
    WRITE_OFF = "WRITE_OFF"
    ASK_PARTNER = "ASK_PARTNER"


class ResolutionState(StrEnum):
    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    WITHDRAWN = "WITHDRAWN"  # rejected, or another was proposed
    ASKED = "ASKED"  # a question to the partner needs no approval


@dataclass(frozen=True, slots=True)
class Rating:
    """How our amount came about, and the bps of the agreement's other versions."""

    face_fen: int
    bps: int
    fee_fen: int
    other_bps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of either side. `merchant` is the redeemer, whose statement it is."""

    id: str
    merchant: str
    ref: str | None
    partner_ref: str | None
    type: str
    issuer: str
    amount_fen: int
    business_date: date
    offer_id: str | None = None
    rating: Rating | None = None  # ours only

    @property
    def order(self) -> tuple[date, int, str]:
        """How ties are broken: never by arrival."""
        return (self.business_date, self.amount_fen, self.id)

    @property
    def key(self) -> tuple[str | None, ...]:
        """What P1 compares, without the amount: redemption, counterparties, type."""
        return (self.merchant, self.ref or f"#{self.partner_ref}", self.issuer, self.type)


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row of a run, and where matching put it."""

    row: Row
    side: Side
    status: Status
    match_no: int | None  # both rows of a match have its number
    made_by: str | None  # the pass
    break_id: str | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run was matched by. `lag_days`: how late a merchant's rows may be, by contract."""

    lag_days: Mapping[str, int] = field(default_factory=dict)
    version: int = RULES_VERSION

    def due(self, row: Row) -> date:
        """The last day on which a row may appear on its merchant's statement."""
        return row.business_date + timedelta(days=self.lag_days.get(row.merchant, 0))


@dataclass(frozen=True, slots=True)
class Match:
    """A pair of rows, and the pass that made it."""

    made_by: str
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What probably happened, with the arithmetic that says so."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows that do not agree, before anybody has looked at them."""

    code: Code
    ours: tuple[Row, ...]
    theirs: tuple[Row, ...]
    hypothesis: Hypothesis
    field: str | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.ours + self.theirs

    @property
    def merchant(self) -> str:
        return self.rows[0].merchant

    @property
    def ref(self) -> str | None:
        return next((row.ref for row in self.rows if row.ref), None)

    @property
    def ours_fen(self) -> int:
        return sum(row.amount_fen for row in self.ours)

    @property
    def theirs_fen(self) -> int:
        return sum(row.amount_fen for row in self.theirs)

    @property
    def amount_fen(self) -> int:
        """Whole for missing, double and CUTOFF rows, else the absolute difference."""
        if self.code in WHOLE:
            return abs(self.rows[0].amount_fen)
        return abs(self.ours_fen - self.theirs_fen)

    @property
    def order(self) -> tuple[str, ...]:
        rows = [row.id for row in self.rows]
        return (self.merchant, self.ref or "", self.code, *rows)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What matching came to: every row is in exactly one of the three, in a fixed order."""

    matches: tuple[Match, ...]
    breaks: tuple[Finding, ...]
    expected: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class MerchantResult:
    """One merchant's line of a run. Balanced: delivered, readable, and without a break."""

    merchant: str
    delivered: bool
    ours_count: int
    ours_fen: int
    theirs_count: int
    theirs_fen: int
    matched: int
    breaks: int
    exceptions: int

    @property
    def balanced(self) -> bool:
        return self.delivered and not self.breaks and not self.exceptions


@dataclass(frozen=True, slots=True)
class Run:
    """One reconciliation of one business day."""

    id: str
    business_date: date
    number: int
    state: RunState
    actor: str
    created_at: datetime
    rules: Rules
    supersedes: str | None = None
    inputs_hash: str | None = None
    result_hash: str | None = None
    matched_at: datetime | None = None
    signed_off_by: str | None = None
    signed_off_at: datetime | None = None
    merchants: tuple[MerchantResult, ...] = ()
    break_count: int = 0
    break_fen: int = 0
    expected_count: int = 0

    @property
    def ours_count(self) -> int:
        return sum(each.ours_count for each in self.merchants)

    @property
    def ours_fen(self) -> int:
        return sum(each.ours_fen for each in self.merchants)

    @property
    def theirs_count(self) -> int:
        return sum(each.theirs_count for each in self.merchants)

    @property
    def theirs_fen(self) -> int:
        return sum(each.theirs_fen for each in self.merchants)

    @property
    def matched_count(self) -> int:
        return sum(each.matched for each in self.merchants)

    @property
    def balanced_count(self) -> int:
        return sum(each.balanced for each in self.merchants)


@dataclass(frozen=True, slots=True)
class Break:
    """A difference and its life. `flows` tells what accepting the partner's figure would move."""

    id: str
    run_id: str
    key: str
    code: Code
    merchant: str
    issuer: str
    ref: str | None
    ours_ids: tuple[str, ...]
    theirs_ids: tuple[str, ...]
    ours_fen: int
    theirs_fen: int
    amount_fen: int
    field: str | None
    hypothesis_zh: str
    hypothesis_en: str
    flows: tuple[Flow, ...]
    state: BreakState
    opened_at: datetime
    due_at: datetime
    owner: str | None = None
    closed_at: datetime | None = None
    resolution_id: str | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """A decision about a break: proposed by one person, approved by another."""

    id: str
    break_id: str
    action: Action
    note: str
    state: ResolutionState
    flows: tuple[Flow, ...]
    amount_fen: int
    proposed_by: str
    proposed_at: datetime
    approved_by: str | None = None
    approved_at: datetime | None = None
    journal_id: str | None = None


def flow(payer: str, payee: str, fen: int) -> tuple[Flow, ...]:
    """One flow; a negative amount goes the other way, nothing is no flow."""
    if not fen:
        return ()
    return (Flow(payer, payee, fen) if fen > 0 else Flow(payee, payer, -fen),)


def flows_to_theirs(finding: Finding) -> tuple[Flow, ...]:
    """What brings our books to the partner's figure; nothing when only the date differs."""
    if finding.code is Code.CUTOFF:
        return ()
    row = finding.rows[0]
    if finding.code is Code.PARTY_DIFF:
        ours, theirs = finding.ours[0], finding.theirs[0]
        back = flow(ours.merchant, ours.issuer, ours.amount_fen)
        return back + flow(theirs.issuer, theirs.merchant, theirs.amount_fen)
    return flow(row.issuer, row.merchant, finding.theirs_fen - finding.ours_fen)


def flows_of(action: Action, found: Break) -> tuple[Flow, ...]:
    """The money a decision moves. A write-off takes the difference from the tolerance account."""
    if action is Action.ACCEPT_THEIRS:
        return found.flows
    if action is Action.WRITE_OFF and found.flows:
        return flow(RECON_TOLERANCE, found.merchant, found.theirs_fen - found.ours_fen)
    return ()


def deadline(opened_at: datetime, amount_fen: int) -> datetime:
    """When a break must be closed or explained: 24 h, 72 h or 7 days by amount (defaults)."""
    hours = 24 if amount_fen >= 100_000 else 72 if amount_fen >= 10_000 else 168
    return opened_at + timedelta(hours=hours)


def age_bucket(due_on: date, today: date) -> str:
    """How old a break is, in days from its due date."""
    days = (today - due_on).days
    for last, name in ((1, "0-1"), (3, "2-3"), (7, "4-7"), (30, "8-30"), (90, "31-90")):
        if days <= last:
            return name
    return ">90"


def inputs_hash(ours: Sequence[Row], theirs: Sequence[Row], rules: Rules) -> str:
    """SHA-256 of what is matched and by which rules, in no order."""
    sides = [
        sorted((asdict(row) for row in side), key=lambda row: row["id"]) for side in (ours, theirs)
    ]
    return fingerprint({"ours": sides[0], "theirs": sides[1], "rules": asdict(rules)})


def result_hash(inputs: str, outcome: Outcome) -> str:
    """SHA-256 of a result: same inputs and rules, same hash."""
    breaks: list[dict[str, Any]] = [
        {
            "code": each.code,
            "ours": [row.id for row in each.ours],
            "theirs": [row.id for row in each.theirs],
            "amount_fen": each.amount_fen,
            "field": each.field,
            "hypothesis": asdict(each.hypothesis),
        }
        for each in outcome.breaks
    ]
    return fingerprint(
        {
            "inputs": inputs,
            "matches": [asdict(each) for each in outcome.matches],
            "breaks": breaks,
            "expected": [row.id for row in outcome.expected],
        }
    )
