"""Ride hailing: estimates that last minutes, confirmation that comes later, a final fare.

The service's own words and what they are here:

product             offer; PROMO is a coupon, METERED a ride with an estimated fare
estimate            quote, and the hold too: it is kept for one request as long as it lasts,
                    whatever time was asked for
ride request        confirm: answered 202 `matching`; `accepted` or `no_cars` comes later, by
                    webhook and by `/api/requests/{id}`, whichever is first
trip                booking; a promo code is one as well
final fare          told when the trip has ended; it may be below the estimate
withdrawal          cancelling
ledger day          statement

An error is `{"error": {"code": …}}` under whatever status.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from urllib.parse import quote as in_path

import httpx2

from gateway.errors import GatewayError
from gateway.ports import (
    CancelQuote,
    Capability,
    Claim,
    EventKind,
    Fact,
    FeedOffer,
    FeedPage,
    LiveOffer,
    NoticeReceipt,
    OperationsPage,
    Outcome,
    PartnerEvent,
    Quote,
    QuoteRequest,
    Reservation,
    SettlementNotice,
    Slot,
    Statement,
    StatementLine,
)
from partners import operations
from partners.http import Line, decided, fen, instant, maybe_instant, strings, text, whole

_KINDS = {"PROMO": "coupon", "METERED": "service"}
_TAGS = {
    "new_energy": "green",
    "premium": "high_value",
    "always_on": "guaranteed",
    "mixed_payment": "part_payment",
    "same_cars": "parity",
}
_STATES = {
    "unknown": Outcome.NOT_FOUND,
    "matching": Outcome.IN_FLIGHT,
    "estimate_kept": Outcome.HELD,
    "accepted": Outcome.CONFIRMED,
    "no_cars": Outcome.REJECTED,
    "estimate_over": Outcome.RELEASED,
    "blocked": Outcome.FENCED,
    "withdrawn": Outcome.CANCELLED,
}
_EVENTS = {
    "request.accepted": EventKind.CONFIRMED,
    "request.no_cars": EventKind.REJECTED,
    "trip.ended": EventKind.FULFILLED,
    "trip.rider_absent": EventKind.NO_SHOW,
    "trip.dropped_by_driver": EventKind.CANCELLED,
}
_ERRORS = {
    "promo_gone": "SOLD_OUT",
    "pickup_full": "SLOT_FULL",
    "estimate_over": "QUOTE_EXPIRED",
    "request_too_late": "HOLD_EXPIRED",
    "fare_moved": "PRICE_CHANGED",
    "withdrawal_too_late": "CANCEL_TOO_LATE",
    "no_such_product": "UNKNOWN_OFFER",
    "no_such_id": "NOT_FOUND",
    "request_blocked": "FENCED",
    "request_id_reused": "KEY_CONFLICT",
    "request_running": "KEY_IN_FLIGHT",
    "no_cars": "DECLINED",
    "bad_request": "BAD_REQUEST",
    "day_not_closed": "STATEMENT_NOT_READY",
}
_CONTEXT = {
    "pickup": "slot",
    "next_pickup": "alternative",
    "cars_left": "left",
    "over_since": "expired_at",
    "fare_fen": "new_list_fen",
    "possible_until": "until",
    "ready_at": "ready_at",
}


class Rides:
    """One ride-hailing service.

    Args:
        code: The merchant's id.
        http: Carries base URL, token, deadline, bulkhead and the sandbox's clock.
    """

    capabilities = (
        Capability.ALL | Capability.SLOTS | Capability.ASYNC_CONFIRM | Capability.OPERATIONS
    )

    def __init__(self, code: str, http: httpx2.AsyncClient) -> None:
        self.code = code
        self._line = Line(code, http, self._refusal)

    async def list_offers(self, cursor: str | None) -> FeedPage:
        def read(body: Any) -> FeedPage:
            return FeedPage(
                tuple(_offer(row) for row in body["products"]), text(body["after"]), body["more"]
            )

        after = {"after": cursor} if cursor else {}
        return await self._line.ask("GET", "/api/products", read, params=after)

    async def live(self, offer_ids: Sequence[str], *, on: date | None) -> list[LiveOffer]:
        wanted = {"skus": list(offer_ids), "day": on.isoformat() if on else None}
        return await self._line.ask(
            "POST",
            "/api/products/lookup",
            lambda body: [_live(row) for row in body["products"]],
            document=wanted,
        )

    async def quote(self, request: QuoteRequest) -> Quote:
        wanted = {
            "sku": request.offer_id,
            "pickup": request.slot,
            "count": request.quantity,
            "bill_fen": request.bill_fen,
            "rider": request.member_ref,
        }
        return await self._line.ask("POST", "/api/estimates", _quote, document=wanted)

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Sequence[Claim]
    ) -> Reservation:
        """Keep the estimate for this request. How long it lasts was decided when it was made."""

        def read(body: Any) -> Reservation:
            return Reservation(op_key, text(body["estimate_id"]), instant(body["lasts_until"]))

        wanted = {
            "request_id": op_key,
            "payers": [{"party": claim.issuer, "fen": claim.face_fen} for claim in claims],
        }
        path = f"/api/estimates/{in_path(quote_id, safe='')}/request"
        return await self._line.ask("PUT", path, read, op_key=op_key, document=wanted)

    async def confirm(
        self, hold_ref: str, *, op_key: str, deadline: datetime, gateway_ref: str
    ) -> Fact:
        """Send the ride request; while a driver is looked for the answer is IN_FLIGHT."""
        wanted = {
            "request_id": op_key,
            "estimate_id": hold_ref,
            "not_after": deadline.isoformat(),
            "reference": gateway_ref,
        }
        fact = await self._act("POST", "/api/requests", op_key, wanted)
        return decided(fact, self.code, Outcome.IN_FLIGHT, Outcome.CONFIRMED)

    async def status(self, op_key: str) -> Fact:
        path = f"/api/requests/{in_path(op_key, safe='')}"
        return await self._line.ask("GET", path, lambda body: _fact(body, op_key))

    async def fence(self, op_key: str) -> Fact:
        path = f"/api/requests/{in_path(op_key, safe='')}/block"
        fact = await self._act("PUT", path, op_key, {})
        return decided(fact, self.code, Outcome.FENCED, Outcome.CONFIRMED, Outcome.CANCELLED)

    async def cancel_quote(self, booking_ref: str) -> CancelQuote:
        path = f"/api/trips/{in_path(booking_ref, safe='')}/withdrawal-terms"
        return await self._line.ask("POST", path, _cancel_quote, document={})

    async def cancel(self, cancel_quote_id: str, *, op_key: str) -> Fact:
        wanted = {"request_id": op_key, "terms_id": cancel_quote_id}
        fact = await self._act("POST", "/api/withdrawals", op_key, wanted)
        return decided(fact, self.code, Outcome.CANCELLED)

    def event(self, body: Mapping[str, Any]) -> PartnerEvent:
        try:
            data = body["data"]
            kind = _EVENTS[body["type"]]
            fare = data.get("final_fare_fen")
            return PartnerEvent(
                event_id=text(body["id"]),
                kind=kind,
                op_key=text(data["request_id"]),
                version=fen(data["seq"]),
                occurred_at=instant(body["timestamp"]),
                booking_ref=data["trip_id"],
                final_fare_fen=None if fare is None else fen(fare),
                reason=data.get("reason"),
                artefacts=_artefacts(data),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{self.code} sends no such event") from error

    async def statement(self, day: date) -> Statement:
        lines: list[StatementLine] = []
        versions: set[int] = set()
        after: str | None = ""
        while after is not None:
            sheet = await self._line.ask(
                "GET", f"/api/ledger-days/{day.isoformat()}", _sheet, params={"after": after}
            )
            lines += sheet["lines"]
            versions.add(sheet["version"])
            if len(versions) > 1:
                raise self._line.unavailable("restated while it was read")
            after = sheet["after"]
        return Statement(
            merchant=self.code,
            business_date=day,
            version=sheet["version"],
            lines=tuple(lines),
            trailer_count=sheet["count"],
            trailer_sum_fen=sheet["sum_fen"],
        )

    async def operations(self, since: datetime, cursor: str | None) -> OperationsPage:
        return await operations.read(self._line, since, cursor)

    async def settlement_notice(self, notice: SettlementNotice, *, op_key: str) -> NoticeReceipt:
        def read(body: Any) -> NoticeReceipt:
            return NoticeReceipt(text(body["ticket"]), instant(body["noted_at"]))

        wanted = {
            "request_id": op_key,
            "settlement": notice.settlement_id,
            "leg": notice.leg_id,
            "from": notice.payer,
            "to": notice.payee,
            "fen": notice.amount_fen,
            "net_hash": notice.net_hash,
        }
        if notice.audit_head:
            wanted["audit_head"] = notice.audit_head
        return await self._line.ask(
            "POST", "/api/payment-notices", read, op_key=op_key, document=wanted
        )

    async def _act(self, method: str, path: str, op_key: str, wanted: Mapping[str, Any]) -> Fact:
        """Send a request that changes something and read what became of it."""
        return await self._line.ask(
            method, path, lambda body: _fact(body, op_key), op_key=op_key, document=wanted
        )

    def _refusal(self, body: Any) -> GatewayError | None:
        """What an `error` says, if it is one we know."""
        error = body.get("error") if isinstance(body, dict) else None
        if not isinstance(error, dict):
            return None
        code = _ERRORS.get(str(error.get("code")))
        if code is None:
            return None
        context = {ours: error[theirs] for theirs, ours in _CONTEXT.items() if theirs in error}
        return self._line.refused(code, context)


def _offer(row: Mapping[str, Any]) -> FeedOffer:
    if row["gone"]:
        return FeedOffer(text(row["sku"]), fen(row["rev"]), deleted=True)
    attributes: dict[str, Any] = {ours: theirs in row["tags"] for theirs, ours in _TAGS.items()}
    attributes["own_points"] = row["points"]["price"]
    attributes["own_priced_by"] = row["points"]["by"]
    attributes["max_offset_pct"] = row["points"]["share_max_pct"]
    attributes["slots"] = row["calendar"]
    if row["estimated"]:
        attributes["pricing"] = "estimate"
    optional = {"promise": "guarantee", "promo": "coupon", "requires": "needs"}
    attributes |= {ours: row[theirs] for theirs, ours in optional.items() if row.get(theirs)}
    return FeedOffer(
        id=text(row["sku"]),
        version=fen(row["rev"]),
        name_zh=row["names"]["zh"],
        name_en=row["names"]["en"],
        kind=_KINDS[row["type"]],
        category=row["section"],
        cash_fen=fen(row["fare_fen"]),
        attributes=attributes,
    )


def _live(row: Mapping[str, Any]) -> LiveOffer:
    left = row["left"]
    return LiveOffer(
        offer_id=text(row["sku"]),
        list_fen=fen(row["fare_fen"]),
        left=None if left is None else fen(left),
        slots=tuple(
            Slot(text(one["pickup"]), instant(one["pickup"]), fen(one["cars_left"]))
            for one in row["pickups"]
        ),
    )


def _quote(body: Mapping[str, Any]) -> Quote:
    until = body["free_withdrawal_until"]
    return Quote(
        id=text(body["estimate_id"]),
        list_fen=fen(body["fare_fen"]),
        expires_at=instant(body["lasts_until"]),
        terms_hash=text(body["terms"]),
        cancel_until=maybe_instant(until),
    )


def _cancel_quote(body: Mapping[str, Any]) -> CancelQuote:
    until = body["free_withdrawal_until"]
    return CancelQuote(
        id=text(body["terms_id"]),
        refundable=body["free"] is True,
        fee_fen=fen(body["fee_fen"]),
        expires_at=instant(body["lasts_until"]),
        until=maybe_instant(until),
    )


def _fact(body: Mapping[str, Any], op_key: str) -> Fact:
    if body["request_id"] != op_key:
        raise ValueError("an answer to another request")
    until = body["lasts_until"]
    return Fact(
        op_key=op_key,
        outcome=_STATES[body["status"]],
        version=fen(body["seq"]),
        booking_ref=body.get("trip_id"),
        hold_ref=body.get("estimate_id"),
        expires_at=maybe_instant(until),
        reason=body.get("reason"),
        artefacts=_artefacts(body),
    )


def _artefacts(body: Mapping[str, Any]) -> dict[str, str]:
    """What the rider gets: a trip with its car, or a promo code."""
    given = strings(body["rider_gets"])
    if "promo_code" in given:
        given["code"] = given.pop("promo_code")
    return given


def _sheet(body: Mapping[str, Any]) -> dict[str, Any]:
    lines = [
        StatementLine(
            line=fen(row["n"]),
            gateway_ref=row["reference"],
            partner_ref=row["trip_id"],
            type=row["entry"],
            issuer=text(row["party"]),
            amount_fen=whole(row["fen"]),
            business_date=date.fromisoformat(row["day"]),
            offer_id=row["sku"],
            member_ref=row["rider"],
        )
        for row in body["entries"]
    ]
    return {
        "lines": lines,
        "after": body["after"],
        "version": fen(body["edition"]),
        "count": fen(body["count"]),
        "sum_fen": whole(body["sum_fen"]),
    }
