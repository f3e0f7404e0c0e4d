"""Hotels: REST over a reservation system; room-nights, upgrades, folio credits, vouchers.

The system's own words and what they are here:

product        offer; its family is ROOM_NIGHT, UPGRADE, FOLIO_CREDIT or VOUCHER
rate quote     quote; a stay of n nights is quoted whole, all nights or none
tentative reservation, released at a time     hold
reservation with a confirmation number        booking
request key    op key, sent as `Idempotency-Key`; asked for and voided under `/v1/requests`
cancellation   what cancelling costs, then the cancelling itself
settlement statement, remittance              statement, settlement notice

The slot is the check-in date (`2026-11-20`), the quantity the number of nights. A problem comes
as RFC 9457 `application/problem+json` whose `type` ends in one of `_PROBLEMS`.
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

_KINDS = {
    "ROOM_NIGHT": "night",
    "UPGRADE": "upgrade",
    "FOLIO_CREDIT": "offset",
    "VOUCHER": "voucher",
}
_FLAGS = {
    "GREEN_STAY": "green",
    "PREMIUM": "high_value",
    "ALWAYS_AVAILABLE": "guaranteed",
    "SPLIT_TENDER": "part_payment",
    "SHARED_INVENTORY": "parity",
}
_STATES = {
    "NOT_SEEN": Outcome.NOT_FOUND,
    "WORKING": Outcome.IN_FLIGHT,
    "TENTATIVE": Outcome.HELD,
    "RESERVED": Outcome.CONFIRMED,
    "DECLINED": Outcome.REJECTED,
    "LET_GO": Outcome.RELEASED,
    "VOIDED": Outcome.FENCED,
    "CANCELLED": Outcome.CANCELLED,
}
_EVENTS = {
    "reservation.confirmed": EventKind.CONFIRMED,
    "reservation.declined": EventKind.REJECTED,
    "stay.checked_out": EventKind.FULFILLED,
    "stay.no_show": EventKind.NO_SHOW,
    "reservation.cancelled_by_hotel": EventKind.CANCELLED,
}

_PROBLEMS = {
    "sold-out": "SOLD_OUT",
    "no-room": "SLOT_FULL",
    "rate-quote-expired": "QUOTE_EXPIRED",
    "reservation-released": "HOLD_EXPIRED",
    "rate-changed": "PRICE_CHANGED",
    "cancellation-closed": "CANCEL_TOO_LATE",
    "booking-required": "BOOKING_REQUIRED",
    "unknown-product": "UNKNOWN_OFFER",
    "not-found": "NOT_FOUND",
    "request-voided": "FENCED",
    "request-key-reused": "KEY_CONFLICT",
    "request-in-progress": "KEY_IN_FLIGHT",
    "invalid-request": "BAD_REQUEST",
    "statement-not-ready": "STATEMENT_NOT_READY",
    "declined": "DECLINED",
}
_CONTEXT = {
    "night": "slot",
    "other_night": "alternative",
    "rooms_left": "left",
    "expired_at": "expired_at",
    "total_fen": "new_list_fen",
    "free_until": "until",
    "ready_at": "ready_at",
}


class Hotels:
    """One hotel group's reservation system.

    Args:
        code: The merchant's id.
        http: Carries base URL, token, deadline, bulkhead and the sandbox's clock.
    """

    capabilities = Capability.ALL | Capability.SLOTS | Capability.OPERATIONS

    def __init__(self, code: str, http: httpx2.AsyncClient) -> None:
        self.code = code
        self._line = Line(code, http, self._refusal)

    async def list_offers(self, cursor: str | None) -> FeedPage:
        def read(body: Any) -> FeedPage:
            return FeedPage(
                tuple(_offer(row) for row in body["products"]), body["next"], body["more"]
            )

        since = {"since": cursor} if cursor else {}
        return await self._line.ask("GET", "/v1/products/changes", read, params=since)

    async def live(self, offer_ids: Sequence[str], *, on: date | None) -> list[LiveOffer]:
        wanted = {"products": list(offer_ids), "from": on.isoformat() if on else None}
        return await self._line.ask(
            "POST",
            "/v1/availability",
            lambda body: [_live(row) for row in body["products"]],
            document=wanted,
        )

    async def quote(self, request: QuoteRequest) -> Quote:
        wanted = {
            "product": request.offer_id,
            "check_in": request.slot,
            "nights": request.quantity,
            "folio_amount_fen": request.bill_fen,
            "guest": request.member_ref,
        }
        return await self._line.ask("POST", "/v1/rate-quotes", _quote, document=wanted)

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Sequence[Claim]
    ) -> Reservation:
        def read(body: Any) -> Reservation:
            return Reservation(op_key, text(body["reservation_no"]), instant(body["release_at"]))

        wanted = {
            "quote_no": quote_id,
            "keep_seconds": ttl_seconds,
            "payers": [{"party": claim.issuer, "amount_fen": claim.face_fen} for claim in claims],
        }
        return await self._line.ask(
            "POST", "/v1/reservations", read, op_key=op_key, headers=_key(op_key), document=wanted
        )

    async def confirm(
        self, hold_ref: str, *, op_key: str, deadline: datetime, gateway_ref: str
    ) -> Fact:
        path = f"/v1/reservations/{in_path(hold_ref, safe='')}/confirmation"
        wanted = {"not_after": deadline.isoformat(), "agency_ref": gateway_ref}
        fact = await self._line.ask(
            "POST",
            path,
            lambda body: _fact(body, op_key),
            op_key=op_key,
            headers=_key(op_key),
            document=wanted,
        )
        return decided(fact, self.code, Outcome.CONFIRMED, Outcome.IN_FLIGHT)

    async def status(self, op_key: str) -> Fact:
        path = f"/v1/requests/{in_path(op_key, safe='')}"
        return await self._line.ask("GET", path, lambda body: _fact(body, op_key))

    async def fence(self, op_key: str) -> Fact:
        path = f"/v1/requests/{in_path(op_key, safe='')}/void"
        fact = await self._line.ask(
            "PUT", path, lambda body: _fact(body, op_key), op_key=op_key, headers=_key(op_key)
        )
        return decided(fact, self.code, Outcome.FENCED, Outcome.CONFIRMED, Outcome.CANCELLED)

    async def cancel_quote(self, booking_ref: str) -> CancelQuote:
        path = f"/v1/reservations/{in_path(booking_ref, safe='')}/cancellations"
        return await self._line.ask("POST", path, _cancel_quote)

    async def cancel(self, cancel_quote_id: str, *, op_key: str) -> Fact:
        path = f"/v1/cancellations/{in_path(cancel_quote_id, safe='')}/acceptance"
        fact = await self._line.ask(
            "POST", path, lambda body: _fact(body, op_key), op_key=op_key, headers=_key(op_key)
        )
        return decided(fact, self.code, Outcome.CANCELLED)

    def event(self, body: Mapping[str, Any]) -> PartnerEvent:
        try:
            stay = body["reservation"]
            return PartnerEvent(
                event_id=text(body["event_no"]),
                kind=_EVENTS[body["event"]],
                op_key=stay["request_key"],
                version=fen(stay["revision"]),
                occurred_at=instant(body["happened_at"]),
                booking_ref=stay["confirmation_no"],
                reason=stay.get("reason"),
                artefacts=_artefacts(stay),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.code} sends no such event") from error

    async def statement(self, day: date) -> Statement:
        lines: list[StatementLine] = []
        versions: set[int] = set()
        page: int | None = 1
        while page is not None:
            sheet = await self._line.ask(
                "GET", f"/v1/statements/{day.isoformat()}", _sheet, params={"page": str(page)}
            )
            lines += sheet["lines"]
            versions.add(sheet["version"])
            if len(versions) > 1:
                raise self._line.unavailable("restated while it was read")
            page = sheet["next_page"]
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
            return NoticeReceipt(body["receipt_no"], instant(body["received_at"]))

        wanted = {
            "settlement": notice.settlement_id,
            "leg": notice.leg_id,
            "debtor": notice.payer,
            "creditor": notice.payee,
            "amount_fen": notice.amount_fen,
            "net_hash": notice.net_hash,
        }
        if notice.audit_head:
            wanted["audit_head"] = notice.audit_head
        return await self._line.ask(
            "POST", "/v1/remittances", read, op_key=op_key, headers=_key(op_key), document=wanted
        )

    def _refusal(self, body: Any) -> GatewayError | None:
        """The problem a body tells, if it is one we know."""
        if not isinstance(body, dict) or not isinstance(body.get("type"), str):
            return None
        word = body["type"].rsplit("/", 1)[-1]
        code = _PROBLEMS.get(word)
        if code is None:
            return None
        if word == "declined":
            code = str(body.get("reason", code))
        context = {ours: body[theirs] for theirs, ours in _CONTEXT.items() if theirs in body}
        return self._line.refused(code, context)


def _key(op_key: str) -> dict[str, str]:
    return {"Idempotency-Key": op_key}


def _offer(row: Mapping[str, Any]) -> FeedOffer:
    if row["withdrawn"]:
        return FeedOffer(row["code"], fen(row["revision"]), deleted=True)
    attributes: dict[str, Any] = {ours: theirs in row["flags"] for theirs, ours in _FLAGS.items()}
    attributes["own_points"] = row["member_rate"]["points"]
    attributes["own_priced_by"] = row["member_rate"]["basis"]
    attributes["max_offset_pct"] = row["points_share_max_pct"]
    attributes["slots"] = row["calendar"]
    optional = {"promise": "guarantee", "requires": "needs", "credit_unit": "offset_unit"}
    attributes |= {ours: row[theirs] for theirs, ours in optional.items() if row.get(theirs)}
    return FeedOffer(
        id=row["code"],
        version=fen(row["revision"]),
        name_zh=row["title"]["zh"],
        name_en=row["title"]["en"],
        kind=_KINDS[row["family"]],
        category=row["department"],
        cash_fen=fen(row["rate_fen"]),
        attributes=attributes,
    )


def _live(row: Mapping[str, Any]) -> LiveOffer:
    left = row["left"]
    return LiveOffer(
        offer_id=row["code"],
        list_fen=fen(row["rate_fen"]),
        left=None if left is None else fen(left),
        slots=tuple(
            Slot(night["key"], instant(night["from"]), fen(night["left"]))
            for night in row["nights"]
        ),
    )


def _quote(body: Mapping[str, Any]) -> Quote:
    policy = body["cancellation_policy"]
    return Quote(
        id=text(body["quote_no"]),
        list_fen=fen(body["total_fen"]),
        expires_at=instant(body["valid_until"]),
        terms_hash=policy["digest"],
        cancel_until=maybe_instant(policy["free_until"]),
    )


def _cancel_quote(body: Mapping[str, Any]) -> CancelQuote:
    return CancelQuote(
        id=text(body["cancellation_no"]),
        refundable=body["free"] is True,
        fee_fen=fen(body["penalty_fen"]),
        expires_at=instant(body["valid_until"]),
        until=maybe_instant(body["free_until"]),
    )


def _fact(body: Mapping[str, Any], op_key: str) -> Fact:
    if body["request_key"] != op_key:
        raise ValueError("an answer to another request")
    return Fact(
        op_key=op_key,
        outcome=_STATES[body["state"]],
        version=fen(body["revision"]),
        booking_ref=body.get("confirmation_no"),
        hold_ref=body.get("reservation_no"),
        expires_at=maybe_instant(body["release_at"]),
        reason=body.get("reason"),
        artefacts=_artefacts(body),
    )


def _artefacts(body: Mapping[str, Any]) -> dict[str, str]:
    """What the guest gets: a confirmation number with the nights, or a voucher's code."""
    papers = strings(body["papers"])
    if "voucher_no" in papers:
        papers["code"] = papers.pop("voucher_no")
    return papers


def _sheet(body: Mapping[str, Any]) -> dict[str, Any]:
    lines = [
        StatementLine(
            line=fen(row["no"]),
            gateway_ref=row["agency_ref"],
            partner_ref=row["confirmation_no"],
            type=row["entry"],
            issuer=row["payer"],
            amount_fen=whole(row["amount_fen"]),
            business_date=date.fromisoformat(row["booked_on"]),
            offer_id=row["product"],
            member_ref=row["guest"],
        )
        for row in body["entries"]
    ]
    totals = body["totals"]
    return {
        "lines": lines,
        "next_page": body["next_page"],
        "version": fen(body["edition"]),
        "count": fen(totals["entries"]),
        "sum_fen": whole(totals["amount_fen"]),
    }
