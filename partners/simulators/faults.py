"""Misbehaviour on demand, keyed by member and offer; `*` is any. Kept, so a restart forgets none.

latency (value: seconds) · {hold,confirm,cancel}_times_out_before_effect: nothing happened, and the
connection drops · {hold,confirm,cancel}_times_out_after_effect: it happened, and the connection
drops · error_5xx (value: "before" or "after" the effect) · malformed_body · error_in_200 ·
connection_refused: the connection drops before anything is read · price_change (value: new list
price in fen) · sold_out · shorter_hold (value: seconds) · confirm_pending: decided later ·
duplicate_webhook: each event twice under one id · booking_cancelled_twice: the merchant's own
cancellation twice under two ids · statement_row_missing · statement_row_doubled ·
statement_list_fen (value: list price it bills) · statement_amount_off (value: fen added)

`verb` limits a fault to one verb; without it, latency and connection_refused strike any verb and
the others the one they are named after, or confirm.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from partners.simulators.store import Store

EFFECTS = ("hold", "confirm", "cancel")
DEFAULT_VERB = {
    "error_5xx": "confirm",
    "malformed_body": "confirm",
    "error_in_200": "confirm",
    "price_change": "hold",
    "sold_out": "hold",
}
NAMES = frozenset(
    {
        "latency",
        *(f"{verb}_times_out_{when}_effect" for verb in EFFECTS for when in ("before", "after")),
        "error_5xx",
        "malformed_body",
        "error_in_200",
        "connection_refused",
        "price_change",
        "sold_out",
        "shorter_hold",
        "confirm_pending",
        "duplicate_webhook",
        "booking_cancelled_twice",
        "statement_row_missing",
        "statement_row_doubled",
        "statement_list_fen",
        "statement_amount_off",
    }
)


@dataclass(frozen=True, slots=True)
class Who:
    """Whom and what a call is about, as far as it is known."""

    member_ref: str = "*"
    offer_id: str = "*"


@dataclass(slots=True)
class Fault:
    id: int
    member_ref: str
    offer_id: str
    fault: str
    verb: str | None
    value: Any
    left: int | None  # None: for ever


class Faults:
    """The faults of one merchant."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read()

    def add(self, row: Mapping[str, Any], *, origin: str | None = None) -> None:
        """Add a fault; one of the configuration (`origin`) is added once in the file's life.

        Raises:
            ValueError: There is no such fault.
        """
        if row["fault"] not in NAMES:
            raise ValueError(f"no such fault: {row['fault']}")
        with self._store.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO faults"
                " (origin, member_ref, offer_id, fault, verb, value, left_)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    origin,
                    row.get("member_ref", "*"),
                    row.get("offer_id", "*"),
                    row["fault"],
                    row.get("verb") or DEFAULT_VERB.get(row["fault"]),
                    json.dumps(row.get("value")),
                    row.get("count"),
                ),
            )
        self._read()

    def clear(self) -> None:
        """Behave from now on."""
        with self._store.transaction() as db:
            db.execute("DELETE FROM faults")
        self._read()

    def find(self, name: str, who: Who, verb: str | None = None) -> Fault | None:
        """The first fault of that name for this call, without using it up."""
        for fault in self._known:
            if (
                fault.fault == name
                and fault.left != 0
                and fault.member_ref in ("*", who.member_ref)
                and fault.offer_id in ("*", who.offer_id)
                and (fault.verb is None or verb is None or fault.verb == verb)
            ):
                return fault
        return None

    def take(self, name: str, who: Who, verb: str | None = None) -> Fault | None:
        """As `find`, and one of its times is used up."""
        if not self._known:
            return None
        fault = self.find(name, who, verb)
        if fault is not None and fault.left is not None:
            fault.left -= 1
            with self._store.transaction() as db:
                db.execute("UPDATE faults SET left_ = ? WHERE id = ?", (fault.left, fault.id))
        return fault

    def _read(self) -> None:
        self._known = [
            Fault(
                row["id"],
                row["member_ref"],
                row["offer_id"],
                row["fault"],
                row["verb"],
                json.loads(row["value"]),
                row["left_"],
            )
            for row in self._store.rows("SELECT * FROM faults ORDER BY id")
        ]
