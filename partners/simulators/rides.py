"""The surface of a ride-hailing service: estimates, requests decided later, final fares.

On top of a shop: an estimate is its own hold and ends with itself; a confirm is only taken down,
and decided a moment later, whoever asks first: the clock, or the gateway's poll.
"""

from typing import Any

from gateway.ports import (
    CancelQuote,
    EventKind,
    Fact,
    FeedOffer,
    LiveOffer,
    Outcome,
    PartnerEvent,
    Quote,
    Statement,
)
from partners.simulators.words import Booked, Declined

TAGS = {
    "green": "new_energy",
    "high_value": "premium",
    "guaranteed": "always_on",
    "part_payment": "mixed_payment",
    "parity": "same_cars",
}
STATES = {
    Outcome.NOT_FOUND: "unknown",
    Outcome.IN_FLIGHT: "matching",
    Outcome.HELD: "estimate_kept",
    Outcome.CONFIRMED: "accepted",
    Outcome.REJECTED: "no_cars",
    Outcome.RELEASED: "estimate_over",
    Outcome.FENCED: "blocked",
    Outcome.CANCELLED: "withdrawn",
}
EVENTS = {
    EventKind.CONFIRMED: "request.accepted",
    EventKind.REJECTED: "request.no_cars",
    EventKind.FULFILLED: "trip.ended",
    EventKind.NO_SHOW: "trip.rider_absent",
    EventKind.CANCELLED: "trip.dropped_by_driver",
}
ERRORS = {  # the core's word: status, the service's word
    "SOLD_OUT": (409, "promo_gone"),
    "SLOT_FULL": (409, "pickup_full"),
    "QUOTE_EXPIRED": (410, "estimate_over"),
    "HOLD_EXPIRED": (410, "request_too_late"),
    "DEADLINE_PASSED": (410, "request_too_late"),
    "PRICE_CHANGED": (409, "fare_moved"),
    "CANCEL_TOO_LATE": (409, "withdrawal_too_late"),
    "FENCED": (409, "request_blocked"),
    "KEY_CONFLICT": (422, "request_id_reused"),
    "KEY_IN_FLIGHT": (409, "request_running"),
    "BAD_REQUEST": (400, "bad_request"),
    "UNKNOWN_OFFER": (404, "no_such_product"),
    "OFFER_GONE": (410, "no_such_product"),
    "UNKNOWN_QUOTE": (404, "no_such_id"),
    "UNKNOWN_HOLD": (404, "no_such_id"),
    "UNKNOWN_BOOKING": (404, "no_such_id"),
    "STATEMENT_NOT_READY": (404, "day_not_closed"),
}
CARRIED = {
    "slot": "pickup",
    "alternative": "next_pickup",
    "left": "cars_left",
    "new_list_fen": "fare_fen",
    "expired_at": "over_since",
    "deadline": "over_since",
    "until": "possible_until",
}


def refusal(no: Declined) -> tuple[int, dict[str, Any]]:
    status, word = ERRORS.get(no.code, (409, "no_cars"))
    said = {
        theirs: no.context[ours]
        for ours, theirs in CARRIED.items()
        if no.context.get(ours) is not None
    }
    return 200 if no.in_200 else status, {"error": {"code": word} | said}


def product(offer: FeedOffer) -> dict[str, Any]:
    """One row of the feed; a product that is gone keeps its sku and revision only."""
    row: dict[str, Any] = {"sku": offer.id, "rev": offer.version, "gone": offer.deleted}
    if offer.deleted:
        return row
    more = offer.attributes
    return row | {
        "names": {"zh": offer.name_zh, "en": offer.name_en},
        "type": "PROMO" if offer.kind == "coupon" else "METERED",
        "section": offer.category,
        "fare_fen": offer.cash_fen,
        "estimated": more.get("pricing") == "estimate",
        "points": {
            "price": more.get("own_points"),
            "by": more.get("own_priced_by"),
            "share_max_pct": more.get("max_offset_pct"),
        },
        "calendar": more.get("slots"),
        "tags": [theirs for ours, theirs in TAGS.items() if more.get(ours)],
        "promise": more.get("guarantee"),
        "promo": more.get("coupon"),
        "requires": more.get("needs"),
    }


def lookup(offer: LiveOffer) -> dict[str, Any]:
    return {
        "sku": offer.offer_id,
        "fare_fen": offer.list_fen,
        "left": offer.left,
        "pickups": [{"pickup": slot.id, "cars_left": slot.left} for slot in offer.slots],
    }


def estimate(quote: Quote) -> dict[str, Any]:
    until = quote.cancel_until
    return {
        "estimate_id": quote.id,
        "fare_fen": quote.list_fen,
        "lasts_until": quote.expires_at.isoformat(),
        "terms": quote.terms_hash,
        "free_withdrawal_until": until.isoformat() if until else None,
    }


def withdrawal_terms(quote: CancelQuote) -> dict[str, Any]:
    return {
        "terms_id": quote.id,
        "free": quote.refundable,
        "fee_fen": quote.fee_fen,
        "lasts_until": quote.expires_at.isoformat(),
        "free_withdrawal_until": quote.until.isoformat() if quote.until else None,
    }


def request_state(fact: Fact) -> dict[str, Any]:
    """What became of a request."""
    return {
        "request_id": fact.op_key,
        "status": STATES[fact.outcome],
        "seq": fact.version,
        "estimate_id": fact.hold_ref,
        "trip_id": fact.booking_ref,
        "lasts_until": fact.expires_at.isoformat() if fact.expires_at else None,
        "reason": fact.reason,
        "rider_gets": dict(fact.artefacts),
    }


def ledger_day(statement: Statement, after: int, page: int) -> dict[str, Any]:
    shown = [line for line in statement.lines if line.line > after][:page]
    rest = shown and shown[-1].line < statement.lines[-1].line
    return {
        "edition": statement.version,
        "count": statement.trailer_count,
        "sum_fen": statement.trailer_sum_fen,
        "after": str(shown[-1].line) if rest else None,
        "entries": [
            {
                "n": line.line,
                "reference": line.gateway_ref,
                "trip_id": line.partner_ref,
                "entry": line.type,
                "party": line.issuer,
                "fen": line.amount_fen,
                "day": line.business_date.isoformat(),
                "sku": line.offer_id,
                "rider": line.member_ref,
            }
            for line in shown
        ],
    }


def rider_gets(booked: Booked) -> dict[str, str]:
    """A trip with its car, or a promo code."""
    if not booked.slot:
        return {"promo_code": booked.code}
    return {
        "trip_id": booked.ref,
        "pickup": booked.slot,
        "code": booked.code,
        "car": f"沪AD{booked.code[:5]}",
    }


def event_body(event: PartnerEvent) -> dict[str, Any]:
    data = {
        "request_id": event.op_key,
        "seq": event.version,
        "trip_id": event.booking_ref,
        "reason": event.reason,
        "rider_gets": dict(event.artefacts),
    }
    if event.final_fare_fen is not None:
        data["final_fare_fen"] = event.final_fare_fen
    return {
        "id": event.event_id,
        "type": EVENTS[event.kind],
        "timestamp": event.occurred_at.isoformat(),
        "data": data,
    }
