"""The surface of a hotel group: its reservation system over REST. See partners/hotels.py.

On top of a shop: a stay of several nights is taken whole or not at all, and an upgrade asks for
a paid booking of the same guest for that night.
"""

from datetime import date, timedelta
from typing import Any

from gateway.ports import (
    EventKind,
    Fact,
    FeedOffer,
    LiveOffer,
    Outcome,
    PartnerEvent,
    Quote,
)
from partners.simulators.words import Booked, Declined

FAMILIES = {"night": "ROOM_NIGHT", "upgrade": "UPGRADE", "offset": "FOLIO_CREDIT"}
FLAGS = {
    "green": "GREEN_STAY",
    "high_value": "PREMIUM",
    "guaranteed": "ALWAYS_AVAILABLE",
    "part_payment": "SPLIT_TENDER",
    "parity": "SHARED_INVENTORY",
}
STATES = {
    Outcome.NOT_FOUND: "NOT_SEEN",
    Outcome.IN_FLIGHT: "WORKING",
    Outcome.HELD: "TENTATIVE",
    Outcome.CONFIRMED: "RESERVED",
    Outcome.REJECTED: "DECLINED",
    Outcome.RELEASED: "LET_GO",
    Outcome.FENCED: "VOIDED",
    Outcome.CANCELLED: "CANCELLED",
}
EVENTS = {
    EventKind.CONFIRMED: "reservation.confirmed",
    EventKind.REJECTED: "reservation.declined",
    EventKind.FULFILLED: "stay.checked_out",
    EventKind.NO_SHOW: "stay.no_show",
    EventKind.CANCELLED: "reservation.cancelled_by_hotel",
}
PROBLEMS = {  # the core's word: status, problem type, names of what it carries
    "SOLD_OUT": (409, "sold-out", {}),
    "SLOT_FULL": (
        409,
        "no-room",
        {"slot": "night", "alternative": "other_night", "left": "rooms_left"},
    ),
    "QUOTE_EXPIRED": (410, "rate-quote-expired", {"expired_at": "expired_at"}),
    "HOLD_EXPIRED": (410, "reservation-released", {"expired_at": "expired_at"}),
    "DEADLINE_PASSED": (410, "reservation-released", {"deadline": "expired_at"}),
    "PRICE_CHANGED": (409, "rate-changed", {"new_list_fen": "total_fen"}),
    "CANCEL_TOO_LATE": (409, "cancellation-closed", {"until": "free_until"}),
    "BOOKING_REQUIRED": (422, "booking-required", {}),
    "FENCED": (409, "request-voided", {}),
    "KEY_CONFLICT": (422, "request-key-reused", {}),
    "KEY_IN_FLIGHT": (409, "request-in-progress", {}),
    "BAD_REQUEST": (400, "invalid-request", {"rule": "detail"}),
    "UNKNOWN_OFFER": (404, "unknown-product", {}),
    "OFFER_GONE": (410, "unknown-product", {}),
    "UNKNOWN_QUOTE": (404, "not-found", {}),
    "UNKNOWN_HOLD": (404, "not-found", {}),
    "UNKNOWN_BOOKING": (404, "not-found", {}),
    "STATEMENT_NOT_READY": (404, "statement-not-ready", {"ready_at": "ready_at"}),
}


def product(offer: FeedOffer) -> dict[str, Any]:
    """One row of the change feed; a withdrawn product keeps its code and revision only."""
    row: dict[str, Any] = {"code": offer.id, "revision": offer.version, "withdrawn": offer.deleted}
    if offer.deleted:
        return row
    more = offer.attributes
    return row | {
        "title": {"zh": offer.name_zh, "en": offer.name_en},
        "family": FAMILIES.get(offer.kind, "VOUCHER"),
        "department": offer.category,
        "rate_fen": offer.cash_fen,
        "member_rate": {"points": more.get("own_points"), "basis": more.get("own_priced_by")},
        "points_share_max_pct": more.get("max_offset_pct"),
        "calendar": more.get("slots"),
        "flags": [theirs for ours, theirs in FLAGS.items() if more.get(ours)],
        "promise": more.get("guarantee"),
        "requires": more.get("needs"),
        "credit_unit": more.get("offset_unit"),
    }


def availability(offer: LiveOffer) -> dict[str, Any]:
    return {
        "code": offer.offer_id,
        "rate_fen": offer.list_fen,
        "left": offer.left,
        "nights": [
            {"key": slot.id, "from": slot.starts_at.isoformat(), "left": slot.left}
            for slot in offer.slots
        ],
    }


def rate_quote(quote: Quote) -> dict[str, Any]:
    until = quote.cancel_until
    return {
        "quote_no": quote.id,
        "total_fen": quote.list_fen,
        "valid_until": quote.expires_at.isoformat(),
        "cancellation_policy": {
            "digest": quote.terms_hash,
            "free_until": until.isoformat() if until else None,
        },
    }


def request_state(fact: Fact) -> dict[str, Any]:
    """What became of a request key."""
    return {
        "request_key": fact.op_key,
        "state": STATES[fact.outcome],
        "revision": fact.version,
        "reservation_no": fact.hold_ref,
        "confirmation_no": fact.booking_ref,
        "release_at": fact.expires_at.isoformat() if fact.expires_at else None,
        "reason": fact.reason,
        "papers": dict(fact.artefacts),
    }


def papers(booked: Booked) -> dict[str, str]:
    """A stay gives a confirmation number with its nights; anything else a voucher."""
    given = {"voucher_no": booked.code}
    if booked.slot and booked.offer.get("slots") == "rooms":
        check_in = date.fromisoformat(booked.slot)
        out = check_in + timedelta(days=len(nights_of(booked.offer, check_in, booked.quantity)))
        given |= {"confirmation_no": booked.ref, "check_in": booked.slot}
        given |= {"check_out": out.isoformat(), "room": ", ".join(map(str, booked.units))}
    elif booked.slot:
        given["time"] = booked.slot
    return given


def event_body(event: PartnerEvent) -> dict[str, Any]:
    return {
        "event_no": event.event_id,
        "event": EVENTS[event.kind],
        "happened_at": event.occurred_at.isoformat(),
        "reservation": {
            "request_key": event.op_key,
            "revision": event.version,
            "confirmation_no": event.booking_ref,
            "reason": event.reason,
            "papers": dict(event.artefacts),
        },
    }


def refusal(no: Declined) -> tuple[int, dict[str, Any]]:
    """The problem document (RFC 9457) of a no."""
    status, word, names = PROBLEMS.get(no.code, (409, "declined", {}))
    said = {
        theirs: no.context[ours]
        for ours, theirs in names.items()
        if no.context.get(ours) is not None
    }
    body = {"type": f"/problems/{word}", "status": status, "title": word.replace("-", " ")}
    if word == "declined":
        said["reason"] = no.code
    return 200 if no.in_200 else status, body | said
