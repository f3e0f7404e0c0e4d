"""A cinema chain's API, the other side of partners.cinemas: prices, seat locks, tickets."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.ports import (
    Claim,
    EventKind,
    Fact,
    FeedOffer,
    Outcome,
    PartnerEvent,
    QuoteRequest,
    SettlementNotice,
)
from partners import operations
from partners.simulators import cinema_graph, listing
from partners.simulators.core import Shop
from partners.simulators.surface import Vertical, body, day, day_of, need, pages, route
from partners.simulators.words import Booked, Declined, instant

STATES = {
    Outcome.NOT_FOUND: "NONE",
    Outcome.IN_FLIGHT: "QUEUED",
    Outcome.HELD: "LOCKED",
    Outcome.CONFIRMED: "ISSUED",
    Outcome.REJECTED: "REFUSED",
    Outcome.RELEASED: "LAPSED",
    Outcome.FENCED: "BARRED",
    Outcome.CANCELLED: "REFUNDED",
}
CODES = {
    "SLOT_FULL": "HOUSE_FULL",
    "QUOTE_EXPIRED": "PRICE_LAPSED",
    "HOLD_EXPIRED": "LOCK_LAPSED",
    "DEADLINE_PASSED": "LOCK_LAPSED",
    "PRICE_CHANGED": "REPRICED",
    "CANCEL_TOO_LATE": "REFUND_CLOSED",
    "KEY_CONFLICT": "KEY_REUSED",
    "KEY_IN_FLIGHT": "KEY_BUSY",
    "FENCED": "BARRED",
    "OFFER_GONE": "NOT_IN_PROGRAMME",
    "UNKNOWN_OFFER": "NOT_IN_PROGRAMME",
    "UNKNOWN_QUOTE": "NO_SUCH_REFERENCE",
    "UNKNOWN_HOLD": "NO_SUCH_REFERENCE",
    "UNKNOWN_BOOKING": "NO_SUCH_REFERENCE",
    "ISSUER_NOT_AGREED": "PAYER_NOT_AGREED",
    "STATEMENT_NOT_READY": "TAKINGS_NOT_READY",
}
EVENTS = {
    EventKind.CONFIRMED: "ticket.issued",
    EventKind.REJECTED: "ticket.refused",
    EventKind.FULFILLED: "ticket.admitted",
    EventKind.NO_SHOW: "ticket.unused",
    EventKind.CANCELLED: "show.cancelled",
}
SEATS_A_ROW = 12


async def programme(shop: Shop, request: Request) -> dict[str, Any]:
    page = await shop.list_offers(request.query_params.get("after"))
    return {
        "items": [_item(offer) for offer in page.offers],
        "next": page.cursor,
        "more": page.more,
    }


async def availability(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    on = day(asked["date"]) if asked.get("date") else None
    return {
        "items": [
            {
                "sku": offer.offer_id,
                "price_fen": offer.list_fen,
                "free": offer.left,
                "shows": [
                    {"show": slot.id, "starts": slot.starts_at.isoformat(), "free": slot.left}
                    for slot in offer.slots
                ],
            }
            for offer in await shop.live(need(asked, "skus", list), on=on)
        ]
    }


async def prices(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    quote = await shop.quote(
        QuoteRequest(
            offer_id=need(asked, "sku", str),
            slot=asked.get("show"),
            quantity=need(asked, "seats", int),
            bill_fen=asked.get("bill_fen"),
            member_ref=need(asked, "guest", str),
        )
    )
    return {
        "price_ref": quote.id,
        "fen": quote.list_fen,
        "until": quote.expires_at.isoformat(),
        "terms": quote.terms_hash,
        "refund_until": quote.cancel_until.isoformat() if quote.cancel_until else None,
    }


async def locks(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    reservation = await shop.hold(
        need(asked, "price_ref", str),
        op_key=_key(request),
        ttl_seconds=need(asked, "seconds", int),
        claims=[
            Claim(need(share, "payer", str), need(share, "fen", int))
            for share in need(asked, "shares", list)
        ],
    )
    return {"lock": reservation.hold_ref, "until": reservation.expires_at.isoformat()}


async def tickets(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    fact = await shop.confirm(
        need(asked, "lock", str),
        op_key=_key(request),
        deadline=instant(need(asked, "before", str)),
        gateway_ref=need(asked, "order", str),
    )
    return _state(fact)


async def ask(shop: Shop, request: Request) -> dict[str, Any]:
    return _state(await shop.status(request.path_params["key"]))


async def bar(shop: Shop, request: Request) -> dict[str, Any]:
    return _state(await shop.fence(request.path_params["key"]))


async def refund_offer(shop: Shop, request: Request) -> dict[str, Any]:
    offer = await shop.cancel_quote(request.path_params["ticket"])
    return {
        "offer": offer.id,
        "refundable": offer.refundable,
        "fee_fen": offer.fee_fen,
        "valid_until": offer.expires_at.isoformat(),
        "refund_until": offer.until.isoformat() if offer.until else None,
    }


async def refunds(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    return _state(await shop.cancel(need(asked, "offer", str), op_key=_key(request)))


async def takings(shop: Shop, request: Request) -> dict[str, Any]:
    statement = await shop.statement(day_of(request))
    rows, following = pages(statement, request.query_params.get("after"))
    answer: dict[str, Any] = {
        "cinema": statement.merchant,
        "date": statement.business_date.isoformat(),
        "version": statement.version,
        "rows": [
            {
                "n": line.line,
                "order": line.gateway_ref,
                "ticket": line.partner_ref,
                "kind": line.type,
                "payer": line.issuer,
                "fen": line.amount_fen,
                "sku": line.offer_id,
                "guest": line.member_ref,
            }
            for line in rows
        ],
    }
    if following is not None:
        return {**answer, "next": following}
    trailer = {"rows": statement.trailer_count, "fen": statement.trailer_sum_fen}
    return {**answer, "trailer": trailer}


async def payout_notices(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    notice = SettlementNotice(
        settlement_id=need(asked, "settlement", str),
        leg_id=need(asked, "leg", str),
        payer=need(asked, "payer", str),
        payee=need(asked, "payee", str),
        amount_fen=need(asked, "fen", int),
        net_hash=need(asked, "net_hash", str),
        audit_head=asked.get("audit_head"),
    )
    receipt = await shop.settlement_notice(notice, op_key=_key(request))
    return {"receipt": receipt.receipt_ref, "at": receipt.received_at.isoformat()}


def refusal(no: Declined) -> Response:
    """409 with the code, or 422 for a request that cannot be read."""
    error: dict[str, Any] = {"code": CODES.get(no.code, no.code), **no.context}
    if "new_list_fen" in error:
        error["fen"] = error.pop("new_list_fen")
    if "slot" in error:
        error["show"] = error.pop("slot")
    status = 422 if no.error_class == "INVALID_REQUEST" else 409
    return JSONResponse({"error": error}, status_code=200 if no.in_200 else status)


def event(happened: PartnerEvent) -> dict[str, Any]:
    """The body of a webhook."""
    return {
        "id": happened.event_id,
        "event": EVENTS[happened.kind],
        "at": happened.occurred_at.isoformat(),
        "reason": happened.reason,
        "ticket": {
            "ref": happened.booking_ref,
            "request": happened.op_key,
            "rev": happened.version,
            "charged_fen": happened.final_fare_fen,
            "issued": dict(happened.artefacts),
        },
    }


def artefacts(booked: Booked) -> dict[str, str]:
    """Seats in rows of twelve, a code and a QR text."""
    given = {"code": booked.code, "qr": f"cinema:{booked.ref}:{booked.code}"}
    if booked.units:
        seats = (divmod(unit - 1, SEATS_A_ROW) for unit in booked.units)
        given["seat"] = " ".join(f"{chr(ord('A') + row)}{number + 1}" for row, number in seats)
    if booked.slot:
        given["starts_at"] = booked.slot
    return given


def _item(offer: FeedOffer) -> dict[str, Any]:
    if offer.deleted:
        return {"sku": offer.id, "rev": offer.version, "withdrawn": True}
    return {
        "sku": offer.id,
        "rev": offer.version,
        "withdrawn": False,
        "title": {"zh": offer.name_zh, "en": offer.name_en},
        "type": offer.kind,
        "genre": offer.category,
        "price_fen": offer.cash_fen,
        "attributes": dict(offer.attributes),
    }


def _state(fact: Fact) -> dict[str, Any]:
    return {
        "request": fact.op_key,
        "state": STATES[fact.outcome],
        "rev": fact.version,
        "ticket": fact.booking_ref,
        "lock": fact.hold_ref,
        "until": fact.expires_at.isoformat() if fact.expires_at else None,
        "reason": fact.reason,
        "issued": dict(fact.artefacts),
    }


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key")
    if not key:
        raise Declined("BAD_REQUEST", field="Idempotency-Key")
    return key


VERTICAL = Vertical(
    routes=[
        route(operations.PATH, listing.endpoint, scope="redeem", method="GET"),
        route("/v1/programme", programme, scope="offers", method="GET"),
        route("/v1/availability", availability, scope="offers"),
        route("/v1/prices", prices, scope="redeem"),
        route("/v1/locks", locks, scope="redeem"),
        route("/v1/tickets", tickets, scope="redeem"),
        route("/v1/requests/{key}", ask, scope="redeem", method="GET"),
        route("/v1/requests/{key}", bar, scope="redeem", method="DELETE"),
        route("/v1/tickets/{ticket}/refund-offer", refund_offer, scope="redeem"),
        route("/v1/refunds", refunds, scope="redeem"),
        route("/v1/takings/{day}", takings, scope="statements", method="GET"),
        route("/v1/payout-notices", payout_notices, scope="notices"),
        route("/subgraph", cinema_graph.answer, scope="offers"),
    ],
    refusal=refusal,
    event=event,
    artefacts=artefacts,
)
