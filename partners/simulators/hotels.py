"""The surface of a hotel group: its reservation system over REST. See partners/hotels.py.

On top of a shop: a stay of several nights is taken whole or not at all, and an upgrade asks for
a paid booking of the same guest for that night.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.ports import (
    CancelQuote,
    Claim,
    EventKind,
    Fact,
    FeedOffer,
    LiveOffer,
    Outcome,
    PartnerEvent,
    Quote,
    QuoteRequest,
    SettlementNotice,
    Statement,
)
from partners import operations
from partners.simulators import backoffice, listing
from partners.simulators.core import Shop
from partners.simulators.faults import Who
from partners.simulators.surface import Vertical, body, day, day_of, need, route
from partners.simulators.words import Booked, Declined, instant

ENTRIES_A_PAGE = 100
NIGHTS = {"YQ-07": 3}  # Packages of several nights; an offer may also say `nights` itself.
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
        nights = booked.quantity * int(booked.offer.get("nights", 1))
        out = date.fromisoformat(booked.slot) + timedelta(days=nights)
        given |= {"confirmation_no": booked.ref, "check_in": booked.slot}
        given |= {"check_out": out.isoformat(), "nights": str(nights)}
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


def refusal(no: Declined) -> Response:
    """The problem document (RFC 9457) of a no."""
    status, word, names = PROBLEMS.get(no.code, (409, "declined", {}))
    document: dict[str, Any] = {"type": f"/problems/{word}", "status": status}
    for ours, theirs in names.items():
        if no.context.get(ours) is not None:
            document[theirs] = no.context[ours]
    if word == "declined":
        document["reason"] = no.code
    return JSONResponse(
        document,
        status_code=200 if no.in_200 else status,
        media_type="application/problem+json",
    )


class HotelGroup(Shop):
    """A shop that knows packages of several nights and its guests' paid stays."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        with self.store.transaction() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS paid_stays (member_ref TEXT NOT NULL,"
                " night TEXT NOT NULL, PRIMARY KEY (member_ref, night))"
            )
            for offer_id, nights in NIGHTS.items():
                db.execute(
                    "UPDATE offers SET doc = json_set(doc, '$.nights', ?) WHERE id = ?"
                    " AND json_extract(doc, '$.nights') IS NULL",
                    (nights, offer_id),
                )

    def act(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`paid_stay`: the guest booked and paid those nights; `stay_cancelled`: no more.

        An upgrade is cancelled together with the stay that it upgrades.
        """
        member_ref, nights = str(row["member_ref"]), [str(night) for night in row["nights"]]
        if row["act"] == "paid_stay":
            with self.store.transaction() as db:
                db.executemany(
                    "INSERT OR IGNORE INTO paid_stays VALUES (?, ?)",
                    [(member_ref, night) for night in nights],
                )
            return {"nights": nights}
        if row["act"] != "stay_cancelled":
            raise ValueError(f"no such act: {row['act']}")
        now = instant(row["now"]) if "now" in row else self.now()
        with self.store.transaction() as db:
            for night in nights:
                db.execute(
                    "DELETE FROM paid_stays WHERE member_ref = ? AND night = ?", (member_ref, night)
                )
            upgrades = self._upgrades(member_ref, nights)
            for ref in upgrades:
                backoffice.cancel(self, ref, now=now, reason="STAY_CANCELLED")
        return {"cancelled": upgrades}

    def _upgrades(self, member_ref: str, nights: Sequence[str]) -> list[str]:
        """The guest's confirmed upgrades of stays that include one of the nights."""
        rows = self.store.rows(
            "SELECT ref, offer_id, slot, quantity FROM bookings"
            " WHERE member_ref = ? AND state = 'CONFIRMED'",
            member_ref,
        )
        return [
            row["ref"]
            for row in rows
            if self.inventory.doc(row["offer_id"]).get("kind") == "upgrade"
            and not set(nights).isdisjoint(nights_of(row["slot"], row["quantity"]))
        ]

    def _quote(self, request: QuoteRequest, who: Who) -> Quote:
        offer = self.inventory.offer(request.offer_id)
        if offer.get("kind") == "upgrade":
            for night in nights_of(request.slot, request.quantity):
                paid = self.store.row(
                    "SELECT 1 FROM paid_stays WHERE member_ref = ? AND night = ?",
                    request.member_ref,
                    night,
                )
                if paid is None:
                    raise Declined("BOOKING_REQUIRED", offer=request.offer_id)
        return super()._quote(request, who)


def nights_of(check_in: str | None, nights: int) -> list[str]:
    """The nights of a stay, as dates.

    Raises:
        Declined: The check-in is no date (BAD_REQUEST).
    """
    try:
        first = date.fromisoformat(check_in or "")
    except ValueError:
        raise Declined("BAD_REQUEST", rule="check_in is a date") from None
    return [(first + timedelta(days=number)).isoformat() for number in range(nights)]


async def changes(shop: Shop, request: Request) -> dict[str, Any]:
    page = await shop.list_offers(request.query_params.get("since"))
    return {
        "products": [product(offer) for offer in page.offers],
        "next": page.cursor,
        "more": page.more,
    }


async def availabilities(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    on = day(asked["from"]) if asked.get("from") else None
    offers = await shop.live(need(asked, "products", list), on=on)
    return {"products": [availability(offer) for offer in offers]}


async def rate_quotes(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    quote = await shop.quote(
        QuoteRequest(
            offer_id=need(asked, "product", str),
            slot=asked.get("check_in"),
            quantity=need(asked, "nights", int),
            bill_fen=asked.get("folio_amount_fen"),
            member_ref=need(asked, "guest", str),
        )
    )
    return rate_quote(quote)


async def reservations(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    kept = await shop.hold(
        need(asked, "quote_no", str),
        op_key=key(request),
        ttl_seconds=need(asked, "keep_seconds", int),
        claims=[
            Claim(need(payer, "party", str), need(payer, "amount_fen", int))
            for payer in need(asked, "payers", list)
        ],
    )
    return {"reservation_no": kept.hold_ref, "release_at": kept.expires_at.isoformat()}


async def confirmation(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    fact = await shop.confirm(
        request.path_params["no"],
        op_key=key(request),
        deadline=instant(need(asked, "not_after", str)),
        gateway_ref=need(asked, "agency_ref", str),
    )
    return request_state(fact)


async def asked_for(shop: Shop, request: Request) -> dict[str, Any]:
    return request_state(await shop.status(request.path_params["key"]))


async def void(shop: Shop, request: Request) -> dict[str, Any]:
    return request_state(await shop.fence(request.path_params["key"]))


async def cancellations(shop: Shop, request: Request) -> dict[str, Any]:
    return cancellation(await shop.cancel_quote(request.path_params["no"]))


async def acceptance(shop: Shop, request: Request) -> dict[str, Any]:
    return request_state(await shop.cancel(request.path_params["no"], op_key=key(request)))


async def folio(shop: Shop, request: Request) -> dict[str, Any]:
    """What a stay was charged and by whom it is paid: shown to the guest at check-out."""
    row = shop.store.row("SELECT * FROM bookings WHERE ref = ?", request.path_params["no"])
    if row is None:
        raise Declined("UNKNOWN_BOOKING")
    paid = [{"party": party, "amount_fen": fen} for party, fen in json.loads(row["claims"])]
    at_desk = row["list_fen"] - sum(payment["amount_fen"] for payment in paid)
    return {
        "confirmation_no": row["ref"],
        "charges": [{"product": row["offer_id"], "amount_fen": row["list_fen"]}],
        "payments": paid,
        "balance_fen": at_desk,
    }


async def statements(shop: Shop, request: Request) -> dict[str, Any]:
    page = request.query_params.get("page", "1")
    if not page.isdecimal():
        raise Declined("BAD_REQUEST", rule="page is a number")
    return sheet(await shop.statement(day_of(request)), int(page))


async def remittances(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    receipt = await shop.settlement_notice(
        SettlementNotice(
            settlement_id=need(asked, "settlement", str),
            leg_id=need(asked, "leg", str),
            payer=need(asked, "debtor", str),
            payee=need(asked, "creditor", str),
            amount_fen=need(asked, "amount_fen", int),
            net_hash=need(asked, "net_hash", str),
            audit_head=asked.get("audit_head"),
        ),
        op_key=key(request),
    )
    return {"receipt_no": receipt.receipt_ref, "received_at": receipt.received_at.isoformat()}


def sheet(statement: Statement, page: int) -> dict[str, Any]:
    """One page of a statement."""
    first = (page - 1) * ENTRIES_A_PAGE
    rest = first + ENTRIES_A_PAGE < len(statement.lines)
    return {
        "edition": statement.version,
        "next_page": page + 1 if rest else None,
        "totals": {"entries": statement.trailer_count, "amount_fen": statement.trailer_sum_fen},
        "entries": [
            {
                "no": line.line,
                "agency_ref": line.gateway_ref,
                "confirmation_no": line.partner_ref,
                "entry": line.type,
                "payer": line.issuer,
                "amount_fen": line.amount_fen,
                "booked_on": line.business_date.isoformat(),
                "product": line.offer_id,
                "guest": line.member_ref,
            }
            for line in statement.lines[first : first + ENTRIES_A_PAGE]
        ],
    }


def cancellation(quote: CancelQuote) -> dict[str, Any]:
    return {
        "cancellation_no": quote.id,
        "free": quote.refundable,
        "penalty_fen": quote.fee_fen,
        "valid_until": quote.expires_at.isoformat(),
        "free_until": quote.until.isoformat() if quote.until else None,
    }


def key(request: Request) -> str:
    given = request.headers.get("idempotency-key")
    if not given:
        raise Declined("BAD_REQUEST", rule="Idempotency-Key is needed")
    return given


VERTICAL = Vertical(
    routes=[
        route(operations.PATH, listing.endpoint, scope="redeem", method="GET"),
        route("/v1/products/changes", changes, scope="offers", method="GET"),
        route("/v1/availability", availabilities, scope="offers"),
        route("/v1/rate-quotes", rate_quotes, scope="redeem"),
        route("/v1/reservations", reservations, scope="redeem"),
        route("/v1/reservations/{no}/confirmation", confirmation, scope="redeem"),
        route("/v1/reservations/{no}/cancellations", cancellations, scope="redeem"),
        route("/v1/cancellations/{no}/acceptance", acceptance, scope="redeem"),
        route("/v1/requests/{key}", asked_for, scope="redeem", method="GET"),
        route("/v1/requests/{key}/void", void, scope="redeem", method="PUT"),
        route("/v1/folios/{no}", folio, scope="redeem", method="GET"),
        route("/v1/statements/{day}", statements, scope="statements", method="GET"),
        route("/v1/remittances", remittances, scope="notices"),
    ],
    refusal=refusal,
    event=event_body,
    artefacts=papers,
    shop=HotelGroup,
)
