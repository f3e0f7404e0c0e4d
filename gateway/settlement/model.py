"""Agreements, obligations, windows and netting. Pure: no I/O, no clock.

An obligation is one claim in fen, payer → payee, and always positive: a REVERSAL swaps the two
and names the row it corrects. A fee is an obligation of its own to HUB_FEE.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from gateway.ledger.model import HUB, Line
from gateway.values import bps_half_up, business_day, start_of

HUB_FEE = "HUB_FEE"
RECON_TOLERANCE = "RECON_TOLERANCE"
HUB_PARTIES = frozenset({HUB_FEE, RECON_TOLERANCE})  # The operator pays and is paid for them.
RSV_CONTRA = "RSV_CONTRA"


class AgreementKind(StrEnum):
    REDEMPTION = "redemption"
    DONATION = "donation"  # at face value, without fee, owed to `payee` for the goods


class Type(StrEnum):
    """Why an obligation exists."""

    REDEMPTION = "REDEMPTION"
    FEE = "FEE"
    SUBSIDY = "SUBSIDY"
    REVERSAL = "REVERSAL"
    COMPENSATION = "COMPENSATION"
    DONATION_GOODS = "DONATION_GOODS"
    ADJUSTMENT = "ADJUSTMENT"


STATEMENT_TYPES = frozenset({Type.REDEMPTION, Type.REVERSAL})  # What a partner's statement lists.


class State(StrEnum):
    """An obligation's life. Becoming clearable and entering the open window are one step."""

    ACCRUED = "ACCRUED"
    IN_WINDOW = "IN_WINDOW"
    IN_SETTLEMENT = "IN_SETTLEMENT"
    SETTLED = "SETTLED"


class WindowState(StrEnum):
    OPEN = "OPEN"
    CLOSED = "CLOSED"
    NETTED = "NETTED"
    PUBLISHED = "PUBLISHED"
    APPROVED = "APPROVED"  # passed through: instructions are made in the same transaction
    INSTRUCTED = "INSTRUCTED"
    PARTIAL = "PARTIAL"
    SETTLED = "SETTLED"


class Netting(StrEnum):
    GROSS = "GROSS"
    BILATERAL_NET = "BILATERAL_NET"
    MULTILATERAL_NET = "MULTILATERAL_NET"  # only where contracts provide novation


class Fault(StrEnum):
    """Who caused a reversal; a REDEEMER at fault bears the issuer's fee."""

    MEMBER = "MEMBER"
    REDEEMER = "REDEEMER"
    ISSUER = "ISSUER"
    GATEWAY = "GATEWAY"


@dataclass(frozen=True, slots=True)
class Agreement:
    """One version of what an issuer pays a redeemer, signed by both.

    `offers` and `categories` limit its scope; None is no limit. `valid_until` is the first day
    without it.
    """

    id: str
    version: int
    issuer: str
    redeemer: str
    kind: AgreementKind
    settlement_bps: int
    fee_bps: int
    monthly_cap_fen: int
    valid_from: date
    valid_until: date
    offers: tuple[str, ...] | None = None
    categories: tuple[str, ...] | None = None
    payee: str | None = None
    signed_by: tuple[str, ...] = ()
    signed_at: datetime | None = None

    @property
    def parties(self) -> frozenset[str]:
        """Who must sign."""
        return frozenset({self.issuer, self.redeemer} | ({self.payee} if self.payee else set()))

    @property
    def creditor(self) -> str:
        """Whom the issuer owes."""
        return self.payee or self.redeemer

    def in_force(self, day: date) -> bool:
        return self.signed_at is not None and self.valid_from <= day < self.valid_until

    def covers(self, offer_id: str | None, category: str | None) -> bool:
        """Whether an offer is within the scope; None asks for any offer or category."""
        in_offers = self.offers is None or offer_id is None or offer_id in self.offers
        in_categories = self.categories is None or category is None or category in self.categories
        return in_offers and in_categories


@dataclass(frozen=True, slots=True)
class LegTerms:
    """What one foreign leg makes an issuer owe: the redeemer, and HUB_FEE."""

    settlement_fen: int
    fee_fen: int

    @property
    def total_fen(self) -> int:
        return self.settlement_fen + self.fee_fen


@dataclass(frozen=True, slots=True)
class Reserved:
    """Cap and cover that a leg has taken, until it is accrued or released."""

    cause_id: str
    epoch: int
    leg_no: int
    agreement_id: str
    agreement_version: int
    issuer: str
    redeemer: str
    offer_id: str | None
    face_fen: int
    settlement_fen: int
    fee_fen: int
    usage_month: str


@dataclass(frozen=True, slots=True)
class LegToReserve:
    """A foreign leg for which cap and cover are taken."""

    leg_no: int
    agreement: Agreement
    offer_id: str | None
    face_fen: int


@dataclass(frozen=True, slots=True)
class Cover:
    """An issuer's ability to pay: what is reserved, owed and to come, against two limits."""

    merchant_id: str
    collateral_fen: int
    net_debit_cap_fen: int
    reserved_fen: int = 0
    debit_fen: int = 0
    credit_fen: int = 0

    @property
    def left_fen(self) -> int:
        used = self.reserved_fen + self.debit_fen - self.credit_fen
        return min(self.collateral_fen, self.net_debit_cap_fen) - used


@dataclass(frozen=True, slots=True)
class Obligation:
    """One claim, payer → payee. `issuer` and `redeemer` are the sides of the leg behind it."""

    id: str
    type: Type
    cause_id: str
    epoch: int
    leg_no: int
    issuer: str
    redeemer: str
    payer: str
    payee: str
    amount_fen: int
    state: State
    accrued_at: datetime
    face_fen: int | None = None
    offer_id: str | None = None
    agreement_id: str | None = None
    agreement_version: int | None = None
    usage_month: str | None = None
    corrects_id: str | None = None
    cleared_at: datetime | None = None
    business_date: date | None = None  # of clearing
    window_id: str | None = None
    settlement_id: str | None = None

    @property
    def statement_fen(self) -> int:
        """The amount as files and statements print it: reversals negative."""
        return -self.amount_fen if self.type is Type.REVERSAL else self.amount_fen


@dataclass(frozen=True, slots=True)
class Flow:
    """Fen from one party to another: a sum of obligations, or a payment."""

    payer: str
    payee: str
    fen: int


@dataclass(frozen=True, slots=True)
class Window:
    """A week of clearing. `count` and `sum_fen` are those of its cut, kept when it is netted."""

    id: str
    state: WindowState
    opened_at: datetime
    cuts_at: datetime
    closed_at: datetime | None = None
    net_hash: str | None = None
    count: int | None = None
    sum_fen: int | None = None


class LegState(StrEnum):
    """A payment instruction's life."""

    DRAFT = "DRAFT"
    APPROVED = "APPROVED"
    SENT = "SENT"  # the debtor says so
    BOOKED = "BOOKED"


class Role(StrEnum):
    DEBTOR = "DEBTOR"
    CREDITOR = "CREDITOR"


@dataclass(frozen=True, slots=True)
class LegParty:
    """One side of a leg: the notice sent to it and its signed answer.

    `merchant_id` is who is told and answers: the operator where the party is HUB_FEE.
    """

    role: Role
    merchant_id: str
    receipt_ref: str | None = None
    noticed_at: datetime | None = None
    ack_client_id: str | None = None
    ack_signature: str | None = None
    acknowledged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SettlementLeg:
    """One payment of a settlement, from merchant to merchant."""

    id: str
    settlement_id: str
    seq: int
    end_to_end_id: str
    payer: str
    payee: str
    amount_fen: int
    state: LegState
    booked_at: datetime | None = None
    parties: tuple[LegParty, ...] = ()


class SettlementState(StrEnum):
    DRAFT = "DRAFT"
    SUPERSEDED = "SUPERSEDED"  # the window was netted again before approval
    INSTRUCTED = "INSTRUCTED"
    PARTIAL = "PARTIAL"
    SETTLED = "SETTLED"


@dataclass(frozen=True, slots=True)
class Settlement:
    """The payments of one window, proposed by one person and approved by another."""

    id: str
    window_id: str
    model: Netting
    state: SettlementState
    net_hash: str
    total_fen: int
    proposed_by: str
    proposed_at: datetime
    approved_by: str | None = None
    approved_at: datetime | None = None
    bank_csv_sha256: str | None = None


def rate_leg(agreement: Agreement, face_fen: int) -> LegTerms:
    """Settlement and fee of a leg. Source: requirements §4.4."""
    settlement = bps_half_up(face_fen, agreement.settlement_bps)
    return LegTerms(settlement, bps_half_up(settlement, agreement.fee_bps))


def window_id_of(instant: datetime) -> str:
    """The window of an instant, Saturday to Saturday: `win_2026W47` by its Friday's ISO week."""
    year, week, _ = _friday(business_day(instant)).isocalendar()
    return f"win_{year}W{week:02d}"


def cut_of(window_id: str) -> datetime:
    """The instant at which a window is due to be cut: Saturday 00:00 in Shanghai, in UTC."""
    year, week = window_id.removeprefix("win_").split("W")
    return start_of(date.fromisocalendar(int(year), int(week), 6))


def window_after(window_id: str, *, now: datetime) -> str:
    """The window to open when `window_id` is closed: the next week, or today's if that is later."""
    return max(window_id_of(cut_of(window_id)), window_id_of(now))


def _friday(day: date) -> date:
    return day + timedelta(days=(4 - day.weekday()) % 7)


def position_lines(flows: Iterable[Flow | Obligation]) -> tuple[Line, ...]:
    """HUB lines of claims: the payer is debited, the payee credited; one line an account."""
    sums = Counter[str]()
    for flow in flows:
        fen = flow.fen if isinstance(flow, Flow) else flow.amount_fen
        sums[flow.payer] += fen
        sums[flow.payee] -= fen
    return tuple(Line(HUB, f"POS:{party}", fen) for party, fen in sums.items() if fen)


def reserve_lines(issuer: str, fen: int) -> tuple[Line, ...]:
    """HUB lines that reserve cover; a negative amount gives it back."""
    return (Line(HUB, f"RSV:{issuer}", fen), Line(HUB, RSV_CONTRA, -fen)) if fen else ()


def net_positions(flows: Iterable[Flow]) -> dict[str, int]:
    """What each party is owed, in fen, by party id; negative: it owes. Sums to zero."""
    sums = Counter[str]()
    for flow in flows:
        sums[flow.payee] += flow.fen
        sums[flow.payer] -= flow.fen
    assert sum(sums.values()) == 0
    return {party: sums[party] for party in sorted(sums)}


def net_lines(settlement_id: str, positions: Mapping[str, int]) -> tuple[Line, ...]:
    """The NET journal: each position is brought to zero against the settlement's account."""
    lines = []
    for party, fen in sorted(positions.items()):
        if fen:
            lines.append(Line(HUB, f"POS:{party}", fen))
            lines.append(Line(HUB, f"SETL:{settlement_id}:{party}", -fen))
    return tuple(lines)


def booked_lines(settlement_id: str, payment: Flow) -> tuple[Line, ...]:
    """The BOOKED journal of one payment."""
    return (
        Line(HUB, f"SETL:{settlement_id}:{payment.payee}", payment.fen),
        Line(HUB, f"SETL:{settlement_id}:{payment.payer}", -payment.fen),
    )


def net_gross(flows: Iterable[Flow]) -> list[Flow]:
    """One payment per payer and payee, in both directions where both are owed."""
    sums = Counter[tuple[str, str]]()
    for flow in flows:
        sums[flow.payer, flow.payee] += flow.fen
    return [Flow(*pair, fen) for pair, fen in sorted(sums.items()) if fen]


def net_bilateral(flows: Iterable[Flow]) -> list[Flow]:
    """One payment per pair, ordered by payer and payee; a pair that nets to zero has none."""
    sums = Counter[tuple[str, str]]()
    for flow in flows:
        if flow.payer < flow.payee:
            sums[flow.payer, flow.payee] += flow.fen
        else:
            sums[flow.payee, flow.payer] -= flow.fen
    payments = [
        Flow(one, other, fen) if fen > 0 else Flow(other, one, -fen)
        for (one, other), fen in sums.items()
        if fen
    ]
    return sorted(payments, key=lambda payment: (payment.payer, payment.payee))


def net_multilateral(flows: Iterable[Flow]) -> list[Flow]:
    """At most n − 1 payments: the largest debtor pays the largest creditor, ties by id.

    Source: contracts §6.3; the order is fixed once, by (amount descending, id).
    """
    positions = net_positions(flows)
    order = sorted(positions.items(), key=lambda item: (-abs(item[1]), item[0]))
    debtors = iter([(party, -fen) for party, fen in order if fen < 0])
    payments: list[Flow] = []
    debtor, owed = "", 0
    for creditor, fen in order:
        left = max(fen, 0)
        while left:
            if not owed:
                debtor, owed = next(debtors)
            paid = min(left, owed)
            payments.append(Flow(debtor, creditor, paid))
            left, owed = left - paid, owed - paid
    return payments


NETTINGS = {
    Netting.GROSS: net_gross,
    Netting.BILATERAL_NET: net_bilateral,
    Netting.MULTILATERAL_NET: net_multilateral,
}


def net_hash(rows: Iterable[tuple[str, int]]) -> str:
    """SHA-256 of obligation ids with amounts, sorted by id: what was netted, exactly."""
    digest = hashlib.sha256()
    for obligation_id, fen in sorted(rows):
        digest.update(f"{obligation_id} {fen}\n".encode())
    return digest.hexdigest()


def end_to_end_id(settlement_id: str, seq: int) -> str:
    """`<settlement>-<seq>-<check>`: unique for ever, with check digits as ISO 7064 has them."""
    body = f"{settlement_id}-{seq:04d}"
    digits = "".join(str(int(char, 36)) for char in body if char.isalnum())
    made = f"{body}-{98 - int(digits) * 100 % 97:02d}"
    assert len(made) <= 35, "an end-to-end id has 35 characters at most"
    return made


def guard_formula(text: str) -> str:
    """Text for a spreadsheet cell: what would be read as a formula is quoted."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def fen_as_yuan(fen: int) -> str:
    """Fen in files: 1234.50, without separators."""
    assert fen >= 0
    return f"{fen // 100}.{fen % 100:02d}"


@dataclass(frozen=True, slots=True)
class Account:
    """Where a party is paid, for the bank's file."""

    name: str
    bank_code: str
    number: str


BANK_COLUMNS = (
    "end_to_end_id",
    "payer",
    "payer_name",
    "payer_bank_code",
    "payer_account",
    "payee",
    "payee_name",
    "payee_bank_code",
    "payee_account",
    "amount_yuan",
    "currency",
    "remark",
)


def bank_rows(legs: Sequence[SettlementLeg], accounts: Mapping[str, Account]) -> list[list[str]]:
    """The bank's file: a header, one row a payment in sequence, text guarded."""
    rows = [list(BANK_COLUMNS)]
    for leg in sorted(legs, key=lambda leg: leg.seq):
        row = [leg.end_to_end_id]
        for party in (leg.payer, leg.payee):
            account = accounts[party]
            row += [party, account.name, account.bank_code, account.number]
        row += [fen_as_yuan(leg.amount_fen), "CNY", leg.settlement_id]
        rows.append([guard_formula(cell) for cell in row])
    return rows
