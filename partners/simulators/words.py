"""The words a stand-in's core and its surfaces share: refusals, misbehaviour, business time."""

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

NOW: ContextVar[datetime | None] = ContextVar("business time of the request", default=None)

CLASS_OF = {
    "PRICE_CHANGED": "PRICE_CHANGED",
    "KEY_CONFLICT": "CONFLICT_KEY",
    "KEY_IN_FLIGHT": "IN_FLIGHT_KEY",
    "BAD_REQUEST": "INVALID_REQUEST",
    "UNKNOWN_OFFER": "INVALID_REQUEST",
    "UNKNOWN_QUOTE": "INVALID_REQUEST",
    "UNKNOWN_HOLD": "INVALID_REQUEST",
    "UNKNOWN_BOOKING": "INVALID_REQUEST",
}


class Declined(Exception):
    """The merchant says no. Codes the core uses, and what they carry:

    SOLD_OUT (stores) · SLOT_FULL (slot, alternative, left) · QUOTE_EXPIRED (expired_at) ·
    HOLD_EXPIRED · PRICE_CHANGED (new_list_fen) · CANCEL_TOO_LATE (until) · DEADLINE_PASSED ·
    FENCED · OFFER_GONE · ISSUER_NOT_AGREED (issuer) · STATEMENT_NOT_READY (ready_at) · DECLINED ·
    KEY_CONFLICT · KEY_IN_FLIGHT · BAD_REQUEST · UNKNOWN_OFFER, _QUOTE, _HOLD, _BOOKING (id)
    """

    def __init__(self, code: str, **context: Any) -> None:
        super().__init__(code, context)
        self.code = code
        self.context = context
        self.in_200 = False  # Set by a fault: said with a status that looks like success.

    @property
    def error_class(self) -> str:
        """Its class in the partner contract."""
        return CLASS_OF.get(self.code, "DECLINED_FINAL")


class Misbehaviour(Exception):
    """A planted fault that surfaces as something other than an answer."""


class Hangup(Misbehaviour):
    """Drop the connection without an answer."""


class Broken(Misbehaviour):
    """Answer 500 with a page that no client can read."""


class Garbled(Misbehaviour):
    """Answer 200 with half a document."""


@dataclass(frozen=True, slots=True)
class Booked:
    """A booking as a vertical needs it to say what the member gets."""

    ref: str
    code: str
    offer: dict[str, Any]
    slot: str | None
    units: tuple[int, ...]  # numbers of the seats, rooms or places taken
    store: str | None
    quantity: int


def stamp(instant: datetime) -> str:
    """An instant as the store keeps it: UTC, sortable as text."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def instant(text: str) -> datetime:
    """Read an instant.

    Raises:
        Declined: It is none, or has no time zone (BAD_REQUEST).
    """
    try:
        read = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise Declined("BAD_REQUEST", rule="an instant with time zone") from None
    if read.tzinfo is None:
        raise Declined("BAD_REQUEST", rule="an instant with time zone")
    return read.astimezone(UTC)
