"""The passes P0 to P3 and the naming of what is left. Pure, and blind to the order of arrival.

P0  the same row twice inside one source is flagged
P1  redemption, counterparties, type, amount
P2  the partner's reference, counterparties, type, amount
P3  amount exact, date within the contract's lag, offer: only if unique on both sides, and only
    for rows without our reference. A row that names another redemption is no match.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import date
from functools import cache

from gateway.reconciliation import hypothesis
from gateway.reconciliation.model import (
    REDEMPTION,
    REVERSAL,
    Code,
    Finding,
    Hypothesis,
    Match,
    Outcome,
    Row,
    Rules,
)
from gateway.settlement.model import window_id_of
from gateway.values import start_of

Key = Callable[[Row], Hashable]


def match(
    ours: Sequence[Row],
    theirs: Sequence[Row],
    *,
    day: date,
    rules: Rules,
    ours_elsewhere: Sequence[Row] = (),
    theirs_elsewhere: Sequence[Row] = (),
    matched_elsewhere: frozenset[str] = frozenset(),
) -> Outcome:
    """Match two sides of one business day.

    Args:
        day: The day of the run; what is due later is EXPECTED, not a break.
        ours_elsewhere: Our rows of other days that theirs may mean.
        theirs_elsewhere: Rows of the partners' other statements that ours may be found on.
        matched_elsewhere: Which of `ours_elsewhere` have been matched already.

    Returns:
        Every row exactly once: in a match, a break or EXPECTED. The same for any order of rows.
    """
    book = _Book(ours, theirs)
    book.flag_duplicates()
    book.pair("P1", lambda row: (row.key, row.amount_fen))
    book.pair("P2", _booking)
    book.pair_by_circumstances(rules)
    book.name_differences()
    book.name_theirs(ours_elsewhere, matched_elsewhere)
    book.name_ours(theirs_elsewhere, day=day, rules=rules)
    return book.outcome()


class _Book:
    """Both sides while they are matched, each in its order; a consumed row leaves its side."""

    def __init__(self, ours: Sequence[Row], theirs: Sequence[Row]) -> None:
        self.ours = {row.id: row for row in _ordered(ours)}
        self.theirs = {row.id: row for row in _ordered(theirs)}
        assert len(self.ours) == len(ours), "ids of our rows are unique"
        assert len(self.theirs) == len(theirs), "ids of their rows are unique"
        self.our_claims = {row.key for row in ours}
        self.their_claims = {row.key for row in theirs}
        self.matches: list[Match] = []
        self.breaks: list[Finding] = []
        self.expected: list[Row] = []

    def outcome(self) -> Outcome:
        assert not self.ours, "every row of ours is in a match, a break or expected"
        assert not self.theirs, "every row of theirs is in a match or a break"
        return Outcome(
            tuple(sorted(self.matches, key=lambda each: (each.ours, each.theirs))),
            tuple(sorted(self.breaks, key=lambda each: each.order)),
            tuple(sorted(self.expected, key=lambda row: row.order)),
        )

    def flag_duplicates(self) -> None:
        """Of equal rows, as many stay as the other side has, and one at least."""

        def same(row: Row) -> Hashable:
            return (row.key, row.amount_fen)

        ours, theirs = _grouped(self.ours.values(), same), _grouped(self.theirs.values(), same)
        for key, rows in theirs.items():
            for row in rows[max(1, len(ours.get(key, ()))) :]:
                words = hypothesis.duplicate(row, whose_zh="对方账单", whose_en="the partner")
                self._break(Code.DUPLICATE_PARTNER, words, theirs=row)
        for key, rows in ours.items():
            for row in rows[max(1, len(theirs.get(key, ()))) :]:
                words = hypothesis.duplicate(row, whose_zh="我方", whose_en="us")
                self._break(Code.DUPLICATE_US, words, ours=row)

    def pair(self, made_by: str, key: Key) -> None:
        """Match rows with an equal key, in their order; a false key matches nothing."""
        theirs = _grouped(self.theirs.values(), key)
        for value, rows in _grouped(self.ours.values(), key).items():
            for mine, other in zip(rows, theirs.get(value, ()), strict=False):
                self._match(made_by, mine, other)

    def pair_by_circumstances(self, rules: Rules) -> None:
        def circumstances(row: Row) -> Hashable:
            return (row.merchant, row.issuer, row.type, row.amount_fen)

        nameless = [row for row in self.theirs.values() if row.ref is None]
        ours = _grouped(self.ours.values(), circumstances)
        found: dict[str, list[Row]] = {}
        claimed: dict[str, int] = defaultdict(int)
        for row in nameless:
            found[row.id] = [
                mine for mine in ours.get(circumstances(row), ()) if _alike(mine, row, rules)
            ]
            for mine in found[row.id]:
                claimed[mine.id] += 1
        for row in nameless:
            if len(found[row.id]) == 1 and claimed[found[row.id][0].id] == 1:
                self._match("P3", found[row.id][0], row)

    def name_differences(self) -> None:
        """Rows of one claim that differ in amount, or in a party."""
        for mine, other in self._pairs(lambda row: row.ref and row.key):
            code, words = hypothesis.difference(mine, other)
            self._break(code, words, ours=mine, theirs=other, field="amount_fen")

        def without_issuer(row: Row) -> Hashable:
            return row.ref and (row.merchant, row.ref, row.type, row.amount_fen)

        def without_merchant(row: Row) -> Hashable:
            return row.ref and (row.ref, row.issuer, row.type, row.amount_fen)

        for key in (without_issuer, without_merchant):
            for mine, other in self._pairs(key):
                name, words = hypothesis.party(mine, other)
                self._break(Code.PARTY_DIFF, words, ours=mine, theirs=other, field=name)

    def name_theirs(self, elsewhere: Sequence[Row], matched: frozenset[str]) -> None:
        known = _grouped(_ordered(elsewhere), lambda row: (row.key, row.amount_fen))
        claims = self.our_claims | {row.key for row in elsewhere}
        for row in list(self.theirs.values()):
            others = known.get((row.key, row.amount_fen), [])
            original = (*row.key[:3], REDEMPTION)
            if others and others[0].id in matched:
                words = hypothesis.duplicate(row, whose_zh="对方账单", whose_en="the partner")
                self._break(Code.DUPLICATE_PARTNER, words, theirs=row)
            elif others:
                self._break(Code.CUTOFF, hypothesis.cutoff(others[0], row), theirs=row)
            elif row.type == REVERSAL and original in claims:
                words = hypothesis.status(row, cancelled_by_us=False)
                self._break(Code.STATUS_DIFF, words, theirs=row, field="status")
            else:
                self._break(Code.MISSING_US, hypothesis.missing_us(row), theirs=row)

    def name_ours(self, elsewhere: Sequence[Row], *, day: date, rules: Rules) -> None:
        known = _grouped(_ordered(elsewhere), lambda row: (row.key, row.amount_fen))
        for row in list(self.ours.values()):
            others = known.get((row.key, row.amount_fen), [])
            if others:
                self._break(Code.CUTOFF, hypothesis.cutoff(row, others[0]), ours=row)
            elif day < rules.due(row):
                del self.ours[row.id]
                self.expected.append(row)
            elif row.type == REVERSAL and (*row.key[:3], REDEMPTION) in self.their_claims:
                words = hypothesis.status(row, cancelled_by_us=True)
                self._break(Code.STATUS_DIFF, words, ours=row, field="status")
            else:
                self._break(Code.MISSING_PARTNER, hypothesis.missing_partner(row), ours=row)

    def _pairs(self, key: Key) -> list[tuple[Row, Row]]:
        theirs = _grouped(self.theirs.values(), key)
        return [
            pair
            for value, rows in _grouped(self.ours.values(), key).items()
            for pair in zip(rows, theirs.get(value, ()), strict=False)
        ]

    def _match(self, made_by: str, mine: Row, other: Row) -> None:
        """A match, or CUTOFF where the two sides put it into different windows."""
        if _window(mine.business_date) != _window(other.business_date):
            self._break(Code.CUTOFF, hypothesis.cutoff(mine, other), ours=mine, theirs=other)
            return
        del self.ours[mine.id], self.theirs[other.id]
        self.matches.append(Match(made_by, mine.id, other.id))

    def _break(
        self,
        code: Code,
        words: Hypothesis,
        *,
        ours: Row | None = None,
        theirs: Row | None = None,
        field: str | None = None,
    ) -> None:
        if ours:
            del self.ours[ours.id]
        if theirs:
            del self.theirs[theirs.id]
        mine, other = (ours,) if ours else (), (theirs,) if theirs else ()
        self.breaks.append(Finding(code, mine, other, words, field))


def _ordered(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.order)


def _grouped(rows: Iterable[Row], key: Key) -> dict[Hashable, list[Row]]:
    """Rows by key, in the order given; without those of a false key."""
    groups: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        value = key(row)
        if value:
            groups[value].append(row)
    return groups


def _booking(row: Row) -> Hashable:
    claim = (row.merchant, row.partner_ref, row.issuer, row.type, row.amount_fen)
    return row.partner_ref and claim


def _alike(mine: Row, other: Row, rules: Rules) -> bool:
    late = (other.business_date - mine.business_date).days
    lag = rules.lag_days.get(mine.merchant, 0)
    same_offer = mine.offer_id is None or other.offer_id in (None, mine.offer_id)
    return abs(late) <= lag and same_offer


@cache
def _window(day: date) -> str:
    """The window of a business day; a run has few days and many rows."""
    return window_id_of(start_of(day))
