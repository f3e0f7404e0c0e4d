"""What must hold after every commit; what must hold at the end is in `verdict`."""

import sqlite3
from typing import TYPE_CHECKING, Any

from gateway.redemption.model import FOLLOWS, State

if TYPE_CHECKING:
    from tests.simulation.world import World

_STATES = "SELECT id, state, doubt, epoch, reason, fact_version FROM redemptions"
_LEASES = "SELECT id, leased_until FROM redemptions WHERE leased_until IS NOT NULL"
_FAST: tuple[tuple[str, str], ...] = (
    (
        "L3 lots are not what the ledger says",
        """SELECT book, account, sum(n) FROM (
             SELECT 'PTS:' || issuer AS book, 'M:' || member_id || ':AVAIL' AS account,
               remaining - held AS n FROM points_lots
             UNION ALL
             SELECT 'PTS:' || issuer, 'M:' || member_id || ':HELD', held FROM points_lots
             UNION ALL
             SELECT book, account, -balance FROM ledger_balances
             WHERE book LIKE 'PTS:%' AND (account LIKE '%:AVAIL' OR account LIKE '%:HELD')
           ) GROUP BY book, account HAVING sum(n) <> 0""",
    ),
    (
        "R6 open holds are not what lots hold",
        """SELECT issuer, member_id, sum(n) FROM (
             SELECT issuer, member_id, points AS n FROM points_holds WHERE state = 'HELD'
             UNION ALL SELECT issuer, member_id, -held FROM points_lots WHERE held > 0
           ) GROUP BY issuer, member_id HAVING sum(n) <> 0""",
    ),
    (
        "R6 an open hold of a redemption that is decided, or none of one that is not",
        """SELECT r.id, r.state, r.doubt FROM redemptions r
           WHERE r.state <> 'NEEDS_REVIEW' AND
             (r.state IN ('HOLDING','HELD','CONFIRMING')
               OR (r.state = 'IN_DOUBT' AND r.doubt <> 'cancel'))
             <> EXISTS (SELECT 1 FROM points_holds h
                        WHERE h.redemption_id = r.id AND h.state = 'HELD')""",
    ),
    (
        "R1 burned and confirmed are not the same",
        """SELECT r.id, r.state FROM redemptions r WHERE r.state <> 'NEEDS_REVIEW' AND
             (r.state IN ('COMMITTED','FULFILLED','LATE_CONFIRMED','CANCELLING','CANCELLED')
               OR (r.state = 'IN_DOUBT' AND r.doubt = 'cancel'))
             <> EXISTS (SELECT 1 FROM points_holds h
                        WHERE h.redemption_id = r.id AND h.state = 'POSTED')""",
    ),
    (
        "R3 let go while the partner may have acted",
        """SELECT c.op_key, c.attempt, c.state, r.state FROM partner_calls c
           JOIN redemptions r ON r.id = c.redemption_id
           WHERE c.state NOT IN ('NOT_SENT', 'REJECTED') AND
             ((r.state IN ('RELEASING','RELEASED') AND c.verb = 'confirm')
               OR (r.state = 'RELEASED' AND r.hold_ref IS NULL AND c.verb = 'hold')
               OR (r.state = 'COMMITTED' AND c.verb = 'cancel'))
             AND NOT EXISTS (SELECT 1 FROM partner_facts f WHERE f.op_key = c.op_key
                             AND f.outcome IN ('rejected','fenced','released','cancelled'))""",
    ),
    (
        "§4.1 what a fence answered is not kept",
        """SELECT c.op_key, c.attempt FROM partner_calls c
           WHERE c.verb = 'fence' AND c.state = 'ANSWERED'
             AND NOT EXISTS (SELECT 1 FROM partner_facts f WHERE f.op_key = c.op_key)""",
    ),
    (
        "R4 two epochs hold or have burned",
        """SELECT redemption_id FROM points_holds WHERE state IN ('HELD', 'POSTED')
           GROUP BY redemption_id HAVING count(DISTINCT epoch) > 1""",
    ),
    (
        "R2 returned is not what was taken",
        """SELECT r.id, r.state, l.returned_points FROM redemption_legs l
           JOIN redemptions r ON r.id = l.redemption_id
           LEFT JOIN points_holds h ON h.redemption_id = r.id AND h.leg_no = l.leg_no
             AND h.epoch = r.epoch
           WHERE (r.state = 'CANCELLED' AND l.returned_points <> l.points)
             OR l.returned_points <> coalesce(h.returned, 0)""",
    ),
    (
        "W1 cover is not what is reserved",
        """SELECT merchant, sum(n) FROM (
             SELECT issuer AS merchant, settlement_fen + fee_fen AS n
             FROM settlement_reservations WHERE state = 'RESERVED'
             UNION ALL SELECT merchant_id, -reserved_fen FROM settlement_cover
           ) GROUP BY merchant HAVING sum(n) <> 0""",
    ),
    (
        "W1 a reservation's state is not its redemption's",
        """SELECT r.id, r.state, s.state FROM settlement_reservations s
           JOIN redemptions r ON r.id = s.cause_id AND r.epoch = s.epoch
           WHERE r.state <> 'NEEDS_REVIEW' AND s.state <> CASE
             WHEN r.state IN ('HOLDING','HELD','CONFIRMING') THEN 'RESERVED'
             WHEN r.state = 'IN_DOUBT' AND r.doubt <> 'cancel' THEN 'RESERVED'
             WHEN r.state IN ('RELEASING','RELEASED') THEN 'RELEASED' ELSE 'POSTED' END""",
    ),
    (
        "W3 cut windows have grown",
        """SELECT w.window_id FROM settlement_windows w WHERE w.count IS NOT NULL
           AND w.count <> (SELECT count(*) FROM settlement_obligations o
                           WHERE o.window_id = w.window_id)""",
    ),
)
_FENCED = "SELECT 1 FROM partner_facts WHERE op_key = ? AND outcome = 'fenced'"
_LINES = """SELECT journal_id, book, sum(amount) FROM ledger_lines WHERE rowid > ?
            GROUP BY journal_id, book HAVING sum(amount) <> 0"""


def _words(row: tuple[Any, ...]) -> str:
    """A row for people."""
    return ", ".join("–" if value is None else str(value) for value in row)


class StepCheck:
    """A reader beside the processes: what everybody can see after a commit."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.eye = sqlite3.connect(world.path, isolation_level=None, timeout=0)
        self.states: dict[str, tuple[str, Any]] = {}
        self.acknowledged_events: set[tuple[str, str]] = set()
        self._lines = self._last_line()
        used = self.rows("SELECT agreement_id, month, used_fen FROM settlement_agreement_usage")
        self.opening = {(agreement, month): fen for agreement, month, fen in used}
        ends = self.rows("SELECT lot_id, coalesce(expires_at, '9999') FROM points_lots")
        self.ends: dict[str, str] = dict(ends)

    def close(self) -> None:
        self.eye.close()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What is committed; values by place, or one mapping of names."""
        by_name = values[0] if values and isinstance(values[0], dict) else values
        return self.eye.execute(query, by_name).fetchall()

    def leases(self) -> dict[str, str]:
        """Who is leased, until when: system time, as it is stored."""
        return dict(self.rows(_LEASES))

    def _last_line(self) -> int:
        return int(self.eye.execute("SELECT max(rowid) FROM ledger_lines").fetchone()[0] or 0)

    def run(self, who: str) -> None:
        """All fast checks over what is committed now."""
        world = self.world
        self._moves(who)
        found = self.eye.execute("SELECT offset_us FROM clock_offset").fetchone()
        world.offset_us = found[0] if found else 0
        last = self._last_line()
        if last != self._lines:
            for row in self.rows(_LINES, self._lines):
                world.wrong(f"L1 a journal does not balance: {_words(row)}")
            self._lines = last
        for title, query in _FAST:
            if found := self.eye.execute(query).fetchone():
                world.wrong(f"{title}: {_words(found)} after a commit of {who}")

    def _moves(self, who: str) -> None:
        """Each redemption goes only where the table of states lets it."""
        world = self.world
        for ref, state, doubt, epoch, reason, version in self.eye.execute(_STATES):
            before = self.states.get(ref)
            now = (state, (doubt, epoch, version))
            if before == now:
                continue
            self.states[ref] = now
            if before is None:
                world.saw(f"state {state}", f"{ref} by {who}")
                continue
            if before[0] != state:
                world.counts[f"move {before[0]} > {state}"] += 1
                detail = f"{ref} {before[0]} > {state} {doubt or ''} {reason or ''} by {who}"
                world.saw(f"state {state}", detail)
                self._legal(ref, State(before[0]), State(state))
            if version < before[1][2]:
                world.wrong(f"{ref} went back to version {version}")
            if epoch not in (before[1][1], before[1][1] + 1):
                world.wrong(f"{ref} jumped to epoch {epoch}")
            if epoch != before[1][1] and self.rows(_FENCED, f"{ref}:confirm:{before[1][1]}"):
                world.wrong(f"§5.5 (4) {ref} takes points again after its fence was acknowledged")

    def _legal(self, ref: str, old: State, new: State) -> None:
        """`new` follows `old`, or follows in one transaction through a state between."""
        between = {step for step in FOLLOWS[old] if new in FOLLOWS[step]}
        if new not in FOLLOWS[old] and not between:
            self.world.wrong(f"{ref} went from {old} to {new}")
