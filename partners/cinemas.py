"""Cinemas: REST, seats locked for minutes, then tickets. Its words: sku, show, lock, ticket, rev.

Every call with effect carries its `Idempotency-Key`; `/v1/requests/<key>` tells what became of it
and bars it. Errors are `{"error": {"code", …}}` under any status, 200 included.
Source: docs/partners.md, "Cinemas".
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from urllib.parse import quote as quoted

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

CODES: Mapping[str, str] = {
    "SOLD_OUT": "SOLD_OUT",
    "HOUSE_FULL": "SLOT_FULL",
    "PRICE_LAPSED": "QUOTE_EXPIRED",
    "LOCK_LAPSED": "HOLD_EXPIRED",
    "REPRICED": "PRICE_CHANGED",
    "REFUND_CLOSED": "CANCEL_TOO_LATE",
    "KEY_REUSED": "KEY_CONFLICT",
    "KEY_BUSY": "KEY_IN_FLIGHT",
    "BARRED": "FENCED",
    "DECLINED": "DECLINED",
    "NOT_IN_PROGRAMME": "OFFER_GONE",
    "NO_SUCH_REFERENCE": "NOT_FOUND",
    "PAYER_NOT_AGREED": "ISSUER_NOT_AGREED",
    "TAKINGS_NOT_READY": "STATEMENT_NOT_READY",
    "BAD_REQUEST": "BAD_REQUEST",
}
OUTCOMES: Mapping[str, Outcome] = {
    "NONE": Outcome.NOT_FOUND,
    "QUEUED": Outcome.IN_FLIGHT,
    "LOCKED": Outcome.HELD,
    "ISSUED": Outcome.CONFIRMED,
    "REFUSED": Outcome.REJECTED,
    "LAPSED": Outcome.RELEASED,
    "BARRED": Outcome.FENCED,
    "REFUNDED": Outcome.CANCELLED,
}
EVENTS: Mapping[str, EventKind] = {
    "ticket.issued": EventKind.CONFIRMED,
    "ticket.refused": EventKind.REJECTED,
    "ticket.admitted": EventKind.FULFILLED,
    "ticket.unused": EventKind.NO_SHOW,
    "show.cancelled": EventKind.CANCELLED,
}


class Cinemas:
    """One cinema chain."""

    capabilities = (
        Capability.ALL | Capability.SLOTS | Capability.ASYNC_CONFIRM | Capability.OPERATIONS
    )

    def __init__(self, code: str, http: httpx2.AsyncClient) -> None:
        self.code = code
        self._line = Line(code, http, self._refusal)

    async def list_offers(self, cursor: str | None) -> FeedPage:
        params = {} if cursor is None else {"after": cursor}
        return await self._line.ask("GET", "/v1/programme", _feed_page, params=params)

    async def live(self, offer_ids: Sequence[str], *, on: date | None) -> list[LiveOffer]:
        asked = {"skus": list(offer_ids), "date": on.isoformat() if on else None}
        return await self._line.ask(
            "POST",
            "/v1/availability",
            lambda body: [_live(row) for row in body["items"]],
            document=asked,
        )

    async def quote(self, request: QuoteRequest) -> Quote:
        asked = {
            "sku": request.offer_id,
            "show": request.slot,
            "seats": request.quantity,
            "bill_fen": request.bill_fen,
            "guest": request.member_ref,
        }
        return await self._line.ask("POST", "/v1/prices", _quote, document=asked)

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Sequence[Claim]
    ) -> Reservation:
        shares = [{"payer": claim.issuer, "fen": claim.face_fen} for claim in claims]
        return await self._line.ask(
            "POST",
            "/v1/locks",
            lambda body: Reservation(op_key, text(body["lock"]), instant(body["until"])),
            op_key=op_key,
            document={"price_ref": quote_id, "seconds": ttl_seconds, "shares": shares},
            headers={"idempotency-key": op_key},
        )

    async def confirm(
        self, hold_ref: str, *, op_key: str, deadline: datetime, gateway_ref: str
    ) -> Fact:
        fact = await self._line.ask(
            "POST",
            "/v1/tickets",
            lambda body: _fact(op_key, body),
            op_key=op_key,
            document={"lock": hold_ref, "order": gateway_ref, "before": deadline.isoformat()},
            headers={"idempotency-key": op_key},
        )
        return decided(fact, self.code, Outcome.CONFIRMED, Outcome.IN_FLIGHT)

    async def status(self, op_key: str) -> Fact:
        return await self._line.ask(
            "GET", f"/v1/requests/{quoted(op_key, safe='')}", lambda body: _fact(op_key, body)
        )

    async def fence(self, op_key: str) -> Fact:
        fact = await self._line.ask(
            "DELETE",
            f"/v1/requests/{quoted(op_key, safe='')}",
            lambda body: _fact(op_key, body),
            op_key=op_key,
        )
        return decided(fact, self.code, Outcome.FENCED, Outcome.CONFIRMED, Outcome.CANCELLED)

    async def cancel_quote(self, booking_ref: str) -> CancelQuote:
        return await self._line.ask(
            "POST", f"/v1/tickets/{quoted(booking_ref, safe='')}/refund-offer", _cancel_quote
        )

    async def cancel(self, cancel_quote_id: str, *, op_key: str) -> Fact:
        fact = await self._line.ask(
            "POST",
            "/v1/refunds",
            lambda body: _fact(op_key, body),
            op_key=op_key,
            document={"offer": cancel_quote_id},
            headers={"idempotency-key": op_key},
        )
        return decided(fact, self.code, Outcome.CANCELLED)

    def event(self, body: Mapping[str, Any]) -> PartnerEvent:
        try:
            ticket = body["ticket"]
            return PartnerEvent(
                event_id=text(body["id"]),
                kind=EVENTS[body["event"]],
                op_key=text(ticket["request"]),
                version=whole(ticket["rev"]),
                occurred_at=instant(body["at"]),
                booking_ref=ticket.get("ref"),
                final_fare_fen=ticket.get("charged_fen"),
                reason=body.get("reason"),
                artefacts=strings(ticket.get("issued")),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no event of {self.code}: {error!r}") from error

    async def statement(self, day: date) -> Statement:
        lines: list[StatementLine] = []
        versions: set[int] = set()
        params: dict[str, str] = {}
        while True:
            page = await self._line.ask(
                "GET", f"/v1/takings/{day}", lambda body: _page(body, day), params=params
            )
            lines += page["rows"]
            versions.add(page["version"])
            if len(versions) > 1:
                raise self._line.unavailable("restated while it was read")
            if page["trailer"] is not None:
                break
            params = {"after": page["next"]}
        return Statement(
            merchant=self.code,
            business_date=day,
            version=page["version"],
            lines=tuple(lines),
            trailer_count=page["trailer"]["rows"],
            trailer_sum_fen=page["trailer"]["fen"],
        )

    async def operations(self, since: datetime, cursor: str | None) -> OperationsPage:
        return await operations.read(self._line, since, cursor)

    async def settlement_notice(self, notice: SettlementNotice, *, op_key: str) -> NoticeReceipt:
        head = {"audit_head": notice.audit_head} if notice.audit_head else {}
        return await self._line.ask(
            "POST",
            "/v1/payout-notices",
            lambda body: NoticeReceipt(text(body["receipt"]), instant(body["at"])),
            op_key=op_key,
            document={
                "settlement": notice.settlement_id,
                "leg": notice.leg_id,
                "payer": notice.payer,
                "payee": notice.payee,
                "fen": notice.amount_fen,
                "net_hash": notice.net_hash,
                **head,
            },
            headers={"idempotency-key": op_key},
        )

    def _refusal(self, body: Any) -> GatewayError | None:
        error = body.get("error")
        if error is None:
            return None
        code = CODES.get(text(error["code"]))
        if code is None:
            return None  # A word nobody knows is no answer.
        context = {name: value for name, value in error.items() if name != "code"}
        if "fen" in context:
            context["new_list_fen"] = whole(context.pop("fen"))
        if "show" in context:
            context["slot"] = context.pop("show")
        return self._line.refused(code, context)


def _feed_page(body: Any) -> FeedPage:
    return FeedPage(
        tuple(_offer(row) for row in body["items"]), text(body["next"]), body["more"] is True
    )


def _offer(row: Any) -> FeedOffer:
    if row["withdrawn"]:
        return FeedOffer(text(row["sku"]), whole(row["rev"]), deleted=True)
    return FeedOffer(
        id=text(row["sku"]),
        version=fen(row["rev"]),
        name_zh=text(row["title"]["zh"]),
        name_en=text(row["title"]["en"]),
        kind=text(row["type"]),
        category=text(row["genre"]),
        cash_fen=fen(row["price_fen"]),
        attributes=dict(row["attributes"]),
    )


def _live(row: Any) -> LiveOffer:
    free = row["free"]
    return LiveOffer(
        offer_id=text(row["sku"]),
        list_fen=fen(row["price_fen"]),
        left=None if free is None else fen(free),
        slots=tuple(
            Slot(text(show["show"]), instant(show["starts"]), fen(show["free"]))
            for show in row["shows"]
        ),
    )


def _quote(body: Any) -> Quote:
    return Quote(
        id=text(body["price_ref"]),
        list_fen=fen(body["fen"]),
        expires_at=instant(body["until"]),
        terms_hash=text(body["terms"]),
        cancel_until=maybe_instant(body["refund_until"]),
    )


def _fact(op_key: str, body: Any) -> Fact:
    if body["request"] != op_key:
        raise ValueError("the answer is about another request")
    return Fact(
        op_key=op_key,
        outcome=OUTCOMES[body["state"]],
        version=fen(body["rev"]),
        booking_ref=body.get("ticket"),
        hold_ref=body.get("lock"),
        expires_at=maybe_instant(body.get("until")),
        reason=body.get("reason"),
        artefacts=strings(body.get("issued")),
    )


def _cancel_quote(body: Any) -> CancelQuote:
    return CancelQuote(
        id=text(body["offer"]),
        refundable=body["refundable"] is True,
        fee_fen=fen(body["fee_fen"]),
        expires_at=instant(body["valid_until"]),
        until=maybe_instant(body["refund_until"]),
    )


def _page(body: Any, day: date) -> dict[str, Any]:
    trailer = body.get("trailer")
    if trailer is not None:
        trailer = {"rows": whole(trailer["rows"]), "fen": whole(trailer["fen"])}
    return {
        "rows": [_line(row, day) for row in body["rows"]],
        "version": whole(body["version"]),
        "trailer": trailer,
        "next": None if trailer is not None else text(body["next"]),
    }


def _line(row: Any, day: date) -> StatementLine:
    return StatementLine(
        line=whole(row["n"]),
        gateway_ref=row["order"],
        partner_ref=row["ticket"],
        type=text(row["kind"]),
        issuer=text(row["payer"]),
        amount_fen=whole(row["fen"]),
        business_date=day,
        offer_id=row.get("sku"),
        member_ref=row.get("guest"),
    )
