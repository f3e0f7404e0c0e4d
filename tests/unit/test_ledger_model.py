"""Journals that may be, and the balances they change."""

from datetime import UTC, datetime

import pytest

from gateway.ledger.model import (
    HUB,
    Change,
    Journal,
    Kind,
    Line,
    changes,
    credit,
    debit,
    guarded,
    member_account,
)

NOW = datetime(2026, 11, 20, 2, tzinfo=UTC)


def journal(*lines: Line) -> Journal:
    return Journal(Kind.ADJUST, "adj_1", lines, NOW, "usr_1", "cas_1")


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "nothing"),
        ([Line("PTS:M01", "ISSUED", 0)], "line of nothing"),
        ([debit("PTS:M01", "ISSUED", 5), credit("PTS:M01", "EXPIRED", 4)], "balance"),
        ([debit("PTS:M01", "ISSUED", 5), credit(HUB, "POS:M01", 5)], "balance"),
        (
            [
                debit("PTS:M01", "ISSUED", 5),
                credit("PTS:M01", "EXPIRED", 5),
                debit("PTS:M02", "ISSUED", 5),
                credit("PTS:M02", "EXPIRED", 5),
            ],
            "two points books",
        ),
    ],
)
def test_a_journal_that_cannot_be_is_a_bug(lines: list[Line], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        journal(*lines)


@pytest.mark.parametrize(
    ("book", "account", "kept"),
    [
        ("PTS:M01", "M:m1:AVAIL", True),
        ("PTS:M01", "M:m1:OWED", True),
        ("PTS:M01", "ISSUED", False),
        ("PTS:M01", "REDEEMED_X:M05", False),
        ("BUDGET:M01", "BUDGET_AVAIL", True),
        ("BUDGET:M01", "BUDGET_AVAIL:COMP", True),
        ("BUDGET:M01", "BUDGET_USED", False),
        (HUB, "RSV:M04", True),
        (HUB, "RSV_CONTRA", False),
        (HUB, "POS:M04", False),
    ],
)
def test_accounts_of_members_budgets_and_cover_are_guarded(
    book: str, account: str, kept: bool
) -> None:
    assert guarded(book, account) is kept


def test_changes_are_in_normal_sense_and_in_the_order_of_locks() -> None:
    """A family's redemption of two owners' points (E9a), with cover."""
    held = journal(
        debit("PTS:M04", "M:m3:AVAIL", 1_000),
        credit("PTS:M04", "M:m3:HELD", 1_000),
        debit("PTS:M04", member_account("m2", "AVAIL"), 2_000),
        credit("PTS:M04", member_account("m2", "HELD"), 2_000),
        debit(HUB, "RSV:M04", 2_000),
        credit(HUB, "RSV_CONTRA", 2_000),
    )
    debt = journal(debit("PTS:M04", "M:m2:OWED", 5), credit("PTS:M04", "M:m2:AVAIL", 5))
    assert changes([held, debt]) == [
        Change(HUB, "RSV:M04", 2_000),
        Change("PTS:M04", "M:m2:AVAIL", -1_995),
        Change("PTS:M04", "M:m2:HELD", 2_000),
        Change("PTS:M04", "M:m2:OWED", 5),
        Change("PTS:M04", "M:m3:AVAIL", -1_000),
        Change("PTS:M04", "M:m3:HELD", 1_000),
    ]
