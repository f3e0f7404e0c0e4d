"""The surface of a ride-hailing service: estimates, requests decided later, final fares.

On top of a shop: an estimate is its own hold and ends with itself; a confirm is only taken down
and decided a moment later, which a webhook tells, and whoever asks.
"""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from datetime import timedelta
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
from partners.simulators.words import Booked, Declined, instant, stamp

PROMO_SECONDS = 0.05  # Nobody has to be found for a promo code.
MATCHING_SECONDS = 0.3
ENTRIES_A_PAGE = 100
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


def refusal(no: Declined) -> Response:
    """`error` with the service's code."""
    status, word = ERRORS.get(no.code, (409, "no_cars"))
    error: dict[str, Any] = {"code": word}
    for ours, theirs in CARRIED.items():
        if no.context.get(ours) is not None:
            error[theirs] = no.context[ours]
    return JSONResponse({"error": error}, status_code=200 if no.in_200 else status)


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


def ledger_day(statement: Statement, after: int) -> dict[str, Any]:
    shown = [line for line in statement.lines if line.line > after][:ENTRIES_A_PAGE]
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


class RideService(Shop):
    """A shop whose estimates are their own holds, and which decides a moment later.

    What is to be decided is kept with its time, so that a restart forgets none.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        with self.store.transaction() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS decisions"
                " (ref TEXT PRIMARY KEY, due REAL NOT NULL, decides_at TEXT NOT NULL)"
            )
        self._taken_down = asyncio.Event()

    async def work(self) -> None:
        """Decide each request when its time has come, and tell it by webhook."""
        while True:
            self._taken_down.clear()
            self.decide_due()
            first = self.store.row("SELECT MIN(due) AS due FROM decisions")
            due = first["due"] if first is not None else None
            pause = None if due is None else max(due - time.time(), 0.001)
            try:
                async with asyncio.timeout(pause):
                    await self._taken_down.wait()
            except TimeoutError:
                pass

    def decide_due(self) -> None:
        """Decide what is due. A planted `sold_out` at confirm finds no car."""
        for row in self.store.rows("SELECT * FROM decisions WHERE due <= ?", time.time()):
            with self.store.transaction() as db:
                booking = self.booking(row["ref"])
                if booking["state"] == "PENDING":
                    found = not self.faults.take("sold_out", self.who(booking), "confirm")
                    backoffice.decide(
                        self, row["ref"], confirmed=found, now=instant(row["decides_at"])
                    )
                db.execute("DELETE FROM decisions WHERE ref = ?", (row["ref"],))

    def _hold(
        self, quoted: sqlite3.Row | None, op_key: str, ttl: int, claims: Sequence[Claim], who: Who
    ) -> dict[str, Any]:
        """Keep the estimate: its id is the hold's, and its end the hold's end."""
        kept = super()._hold(quoted, op_key, ttl, claims, who)
        assert quoted is not None
        ref, number = quoted["id"], 1
        while self._row("holds", "ref", ref) is not None:  # Kept before, and let go.
            number += 1
            ref = f"{quoted['id']}.{number}"
        self.store.db.execute(
            "UPDATE holds SET ref = ?, expires_at = ? WHERE ref = ?",
            (ref, quoted["expires_at"], kept["hold_ref"]),
        )
        return {"hold_ref": ref, "expires_at": quoted["expires_at"]}

    def _confirm(self, **asked: Any) -> dict[str, Any]:
        """Take the request down. A planted `confirm_pending` leaves it to the control port."""
        fact = super()._confirm(**asked)
        booking = self.booking(fact["booking_ref"])
        if booking["state"] == "CONFIRMED":
            seconds = MATCHING_SECONDS if booking["slot"] else PROMO_SECONDS
            self.store.db.execute(
                "UPDATE bookings SET state = 'PENDING', version = 0 WHERE ref = ?",
                (booking["ref"],),
            )
            decides_at = instant(booking["confirmed_at"]) + timedelta(seconds=seconds)
            self.store.db.execute(
                "INSERT INTO decisions VALUES (?, ?, ?)",
                (booking["ref"], time.time() + seconds, stamp(decides_at)),
            )
            self._taken_down.set()
            fact |= {"outcome": Outcome.IN_FLIGHT.value, "version": 0, "artefacts": {}}
        return fact


async def products(shop: Shop, request: Request) -> dict[str, Any]:
    page = await shop.list_offers(request.query_params.get("after"))
    return {
        "products": [product(offer) for offer in page.offers],
        "after": page.cursor,
        "more": page.more,
    }


async def lookups(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    on = day(asked["day"]) if asked.get("day") else None
    offers = await shop.live(need(asked, "skus", list), on=on)
    return {"products": [lookup(offer) for offer in offers]}


async def estimates(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    quote = await shop.quote(
        QuoteRequest(
            offer_id=need(asked, "sku", str),
            slot=asked.get("pickup"),
            quantity=need(asked, "count", int),
            bill_fen=asked.get("bill_fen"),
            member_ref=need(asked, "rider", str),
        )
    )
    return estimate(quote)


async def keep(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    kept = await shop.hold(
        request.path_params["id"],
        op_key=need(asked, "request_id", str),
        ttl_seconds=shop.config.hold_seconds,
        claims=[
            Claim(need(payer, "party", str), need(payer, "fen", int))
            for payer in need(asked, "payers", list)
        ],
    )
    return {"estimate_id": kept.hold_ref, "lasts_until": kept.expires_at.isoformat()}


async def requests(shop: Shop, request: Request) -> Response:
    asked = await body(request)
    fact = await shop.confirm(
        need(asked, "estimate_id", str),
        op_key=need(asked, "request_id", str),
        deadline=instant(need(asked, "not_after", str)),
        gateway_ref=need(asked, "reference", str),
    )
    status = 202 if fact.outcome is Outcome.IN_FLIGHT else 200
    return JSONResponse(request_state(fact), status_code=status)


async def asked_for(shop: Shop, request: Request) -> dict[str, Any]:
    return request_state(await shop.status(request.path_params["id"]))


async def block(shop: Shop, request: Request) -> dict[str, Any]:
    return request_state(await shop.fence(request.path_params["id"]))


async def terms_of_withdrawal(shop: Shop, request: Request) -> dict[str, Any]:
    return withdrawal_terms(await shop.cancel_quote(request.path_params["id"]))


async def withdrawals(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    fact = await shop.cancel(need(asked, "terms_id", str), op_key=need(asked, "request_id", str))
    return request_state(fact)


async def ledger_days(shop: Shop, request: Request) -> dict[str, Any]:
    after = request.query_params.get("after") or "0"
    if not after.isdecimal():
        raise Declined("BAD_REQUEST", rule="after is a number")
    return ledger_day(await shop.statement(day_of(request)), int(after))


async def payment_notices(shop: Shop, request: Request) -> dict[str, Any]:
    asked = await body(request)
    receipt = await shop.settlement_notice(
        SettlementNotice(
            settlement_id=need(asked, "settlement", str),
            leg_id=need(asked, "leg", str),
            payer=need(asked, "from", str),
            payee=need(asked, "to", str),
            amount_fen=need(asked, "fen", int),
            net_hash=need(asked, "net_hash", str),
            audit_head=asked.get("audit_head"),
        ),
        op_key=need(asked, "request_id", str),
    )
    return {"ticket": receipt.receipt_ref, "noted_at": receipt.received_at.isoformat()}


VERTICAL = Vertical(
    routes=[
        route(operations.PATH, listing.endpoint, scope="redeem", method="GET"),
        route("/api/products", products, scope="offers", method="GET"),
        route("/api/products/lookup", lookups, scope="offers"),
        route("/api/estimates", estimates, scope="redeem"),
        route("/api/estimates/{id}/request", keep, scope="redeem", method="PUT"),
        route("/api/requests", requests, scope="redeem"),
        route("/api/requests/{id}", asked_for, scope="redeem", method="GET"),
        route("/api/requests/{id}/block", block, scope="redeem", method="PUT"),
        route("/api/trips/{id}/withdrawal-terms", terms_of_withdrawal, scope="redeem"),
        route("/api/withdrawals", withdrawals, scope="redeem"),
        route("/api/ledger-days/{day}", ledger_days, scope="statements", method="GET"),
        route("/api/payment-notices", payment_notices, scope="notices"),
    ],
    refusal=refusal,
    event=event_body,
    artefacts=rider_gets,
    shop=RideService,
)
