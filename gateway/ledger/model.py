"""Journals and their lines: double entry over one book for each issuer's points. Pure.

A book holds one asset: `PTS:<issuer>` its points, `BUDGET:<issuer>` its marketing budget in fen,
`HUB` fen between merchants. A journal is what one event posts, all at once; it balances in every
book it touches, and touches one points book at most: nothing turns points into other points.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

HUB = "HUB"
POINTS = "PTS:"
BUDGET = "BUDGET:"

ISSUED = "ISSUED"
REDEEMED_OWN = "REDEEMED_OWN"
EXPIRED = "EXPIRED"
GAME_SPENT = "GAME_SPENT"


class Kind(StrEnum):
    """What a journal records."""

    OPENING = "OPENING"
    EARN = "EARN"
    MATURE = "MATURE"
    HOLD = "HOLD"
    RELEASE = "RELEASE"
    COMMIT = "COMMIT"
    FARE_ADJUST = "FARE_ADJUST"
    REVERSE = "REVERSE"
    COMPENSATE = "COMPENSATE"
    EXPIRE = "EXPIRE"
    DONATE = "DONATE"
    MATCH = "MATCH"
    FEE = "FEE"
    ADJUST = "ADJUST"
    CLAW_BACK = "CLAW_BACK"
    DRAW_ENTRY = "DRAW_ENTRY"
    DRAW_PRIZE = "DRAW_PRIZE"
    RECON = "RECON"
    NET = "NET"
    BOOKED = "BOOKED"
    BUDGET = "BUDGET"  # an approved budget, its slices, its lapse


ISSUES = frozenset({Kind.EARN, Kind.COMPENSATE, Kind.ADJUST, Kind.DRAW_PRIZE})


class Part(StrEnum):
    """The four accounts of a member in a points book."""

    PENDING = "PENDING"  # earned, return window running
    AVAIL = "AVAIL"  # spendable
    HELD = "HELD"  # in open holds
    OWED = "OWED"  # debt after a return; the only one with a debit balance


@dataclass(frozen=True, slots=True)
class Line:
    """One entry: `amount` > 0 is a debit, < 0 a credit, in points or fen."""

    book: str
    account: str
    amount: int


@dataclass(frozen=True, slots=True)
class Journal:
    """What one event posts. `cause_id` names the event: a redemption, earning, donation ..."""

    kind: Kind
    op_key: str  # posting it again does nothing
    lines: tuple[Line, ...]
    effective_at: datetime
    actor: str
    cause_id: str
    approver: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        assert self.lines, f"{self.op_key} posts nothing"
        sums = Counter[str]()
        for line in self.lines:
            assert line.amount != 0, f"{self.op_key} has a line of nothing"
            sums[line.book] += line.amount
        assert not any(sums.values()), f"{self.op_key} does not balance: {dict(sums)}"
        books = [book for book in sums if book.startswith(POINTS)]
        assert len(books) <= 1, f"{self.op_key} touches two points books"


class Insufficient(Exception):
    """A guarded account has less than a journal takes. The transaction must be rolled back.

    Internal: the service that posts turns it into the refusal its caller can act on.
    """

    def __init__(self, *, book: str, account: str, needed: int, available: int) -> None:
        super().__init__(f"{book} {account}: {needed} needed, {available} available")
        self.book = book
        self.account = account
        self.needed = needed
        self.available = available


@dataclass(frozen=True, slots=True)
class Result:
    """What an invariant's check found; `detail` names the first violations."""

    id: str
    title: str
    ok: bool
    detail: str = ""


def debit(book: str, account: str, amount: int) -> Line:
    """A debit of `amount` > 0."""
    assert amount > 0
    return Line(book, account, amount)


def credit(book: str, account: str, amount: int) -> Line:
    """A credit of `amount` > 0."""
    assert amount > 0
    return Line(book, account, -amount)


def points_book(issuer: str) -> str:
    """The book of an issuer's points."""
    return f"{POINTS}{issuer}"


def budget_book(issuer: str) -> str:
    """The book of an issuer's marketing budget."""
    return f"{BUDGET}{issuer}"


def member_account(member_id: str, part: Part | str) -> str:
    """A member's account in a points book: `M:<member>:<part>`."""
    return f"M:{member_id}:{Part(part)}"


def guarded(book: str, account: str) -> bool:
    """Whether an account keeps a balance that may not fall below zero."""
    if book.startswith(POINTS):
        return account.startswith("M:")
    if book.startswith(BUDGET):
        return account.startswith("BUDGET_AVAIL")
    return account.startswith("RSV:")


def debit_normal(account: str) -> bool:
    """Whether a guarded account's balance counts debits: a debt, or cover reserved."""
    return account.startswith("RSV:") or account.endswith(f":{Part.OWED}")


@dataclass(slots=True)
class Change:
    """What journals do to one guarded balance, in its normal sense."""

    book: str
    account: str
    amount: int = field(default=0)


def changes(journals: Sequence[Journal]) -> list[Change]:
    """The guarded balances journals change, in the order their rows are locked."""
    found: dict[tuple[str, str], Change] = {}
    for line in _lines(journals):
        if guarded(line.book, line.account):
            key = (line.book, line.account)
            change = found.setdefault(key, Change(*key))
            change.amount += line.amount if debit_normal(line.account) else -line.amount
    return [found[key] for key in sorted(found) if found[key].amount != 0]


def _lines(journals: Sequence[Journal]) -> Iterator[Line]:
    for journal in journals:
        yield from journal.lines
