"""Any partner that serves contract.graphql. Its words are the contract's, so little is mapped.

A no is in the payload's `errors`. GraphQL's own top-level errors say nothing about an effect: they
are no answer.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

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

T = TypeVar("T")
CONTRACT = Path(__file__).with_name("contract.graphql")

CODES: Mapping[str, str | None] = {  # None: the partner's own code says more.
    "DECLINED_FINAL": None,
    "INVALID_REQUEST": None,
    "PRICE_CHANGED": "PRICE_CHANGED",
    "CONFLICT_KEY": "KEY_CONFLICT",
    "IN_FLIGHT_KEY": "KEY_IN_FLIGHT",
}
_ERRORS = "errors { class code context }"
_FACT = "opKey outcome version bookingRef holdRef expiresAt reason artefacts"
DOCUMENTS: Mapping[str, str] = {
    "offers": """query Offers($cursor: String) { offers(cursor: $cursor) {
        offers { id version deleted nameZh nameEn kind category cashFen attributes }
        cursor more } }""",
    "live": """query Live($offerIds: [ID!]!, $on: Day) { live(offerIds: $offerIds, on: $on) {
        offerId listFen left slots { id startsAt left } } }""",
    "status": f"query Status($opKey: String!) {{ status(opKey: $opKey) {{ {_FACT} }} }}",
    "cancelQuote": f"""query CancelQuote($bookingRef: ID!) {{
        cancelQuote(bookingRef: $bookingRef) {{
        cancelQuote {{ id refundable feeFen expiresAt until }} {_ERRORS} }} }}""",
    "statement": f"""query Statement($day: Day!, $cursor: String) {{
        statement(day: $day, cursor: $cursor) {{ statement {{ version nextCursor
        lines {{ line gatewayRef partnerRef type issuer amountFen businessDate offerId memberRef }}
        trailer {{ count sumFen }} }} {_ERRORS} }} }}""",
    "operations": f"""query Operations($since: Instant!, $cursor: String) {{
        operations(since: $since, cursor: $cursor) {{
        operations {{ at fact {{ {_FACT} }} gatewayRef offerId memberRef listFen
        claims {{ issuer faceFen }} }} events {{ eventId body }} cursor more }} }}""",
    "quote": f"""mutation Quote($input: QuoteInput!) {{ quote(input: $input) {{
        quote {{ id listFen expiresAt termsHash cancelUntil }} {_ERRORS} }} }}""",
    "hold": f"""mutation Hold($input: HoldInput!) {{ hold(input: $input) {{
        reservation {{ opKey holdRef expiresAt }} {_ERRORS} }} }}""",
    "confirm": f"""mutation Confirm($input: ConfirmInput!) {{ confirm(input: $input) {{
        fact {{ {_FACT} }} {_ERRORS} }} }}""",
    "fence": f"""mutation Fence($input: FenceInput!) {{ fence(input: $input) {{
        fact {{ {_FACT} }} {_ERRORS} }} }}""",
    "cancel": f"""mutation Cancel($input: CancelInput!) {{ cancel(input: $input) {{
        fact {{ {_FACT} }} {_ERRORS} }} }}""",
    "settlementNotice": f"""mutation Notice($input: SettlementNoticeInput!) {{
        settlementNotice(input: $input) {{
        receipt {{ receiptRef receivedAt }} {_ERRORS} }} }}""",
}


class GraphQLPartner:
    """One merchant that serves the published contract."""

    capabilities = (
        Capability.ALL | Capability.SLOTS | Capability.ASYNC_CONFIRM | Capability.OPERATIONS
    )

    def __init__(self, code: str, http: httpx2.AsyncClient) -> None:
        self.code = code
        self._line = Line(code, http, self._refusal)

    async def list_offers(self, cursor: str | None) -> FeedPage:
        return await self._ask("offers", _feed_page, {"cursor": cursor})

    async def live(self, offer_ids: Sequence[str], *, on: date | None) -> list[LiveOffer]:
        variables = {"offerIds": list(offer_ids), "on": on.isoformat() if on else None}
        return await self._ask("live", lambda rows: [_live(row) for row in rows], variables)

    async def quote(self, request: QuoteRequest) -> Quote:
        asked = {
            "offerId": request.offer_id,
            "slot": request.slot,
            "quantity": request.quantity,
            "billFen": request.bill_fen,
            "memberRef": request.member_ref,
        }
        return await self._ask("quote", lambda payload: _quote(payload["quote"]), {"input": asked})

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Sequence[Claim]
    ) -> Reservation:
        asked = {
            "quoteId": quote_id,
            "opKey": op_key,
            "ttlSeconds": ttl_seconds,
            "claims": [{"issuer": c.issuer, "faceFen": c.face_fen} for c in claims],
        }
        return await self._ask(
            "hold",
            lambda payload: _reservation(op_key, payload["reservation"]),
            {"input": asked},
            op_key=op_key,
        )

    async def confirm(
        self, hold_ref: str, *, op_key: str, deadline: datetime, gateway_ref: str
    ) -> Fact:
        asked = {
            "holdRef": hold_ref,
            "opKey": op_key,
            "deadline": deadline.isoformat(),
            "gatewayRef": gateway_ref,
        }
        fact = await self._act("confirm", asked, op_key)
        return decided(fact, self.code, Outcome.CONFIRMED, Outcome.IN_FLIGHT)

    async def status(self, op_key: str) -> Fact:
        return await self._ask("status", lambda row: _fact(op_key, row), {"opKey": op_key})

    async def fence(self, op_key: str) -> Fact:
        fact = await self._act("fence", {"opKey": op_key}, op_key)
        return decided(fact, self.code, Outcome.FENCED, Outcome.CONFIRMED, Outcome.CANCELLED)

    async def cancel_quote(self, booking_ref: str) -> CancelQuote:
        return await self._ask(
            "cancelQuote",
            lambda payload: _cancel_quote(payload["cancelQuote"]),
            {"bookingRef": booking_ref},
        )

    async def cancel(self, cancel_quote_id: str, *, op_key: str) -> Fact:
        asked = {"cancelQuoteId": cancel_quote_id, "opKey": op_key}
        fact = await self._act("cancel", asked, op_key)
        return decided(fact, self.code, Outcome.CANCELLED)

    def event(self, body: Mapping[str, Any]) -> PartnerEvent:
        try:
            fare = body.get("final_fare_fen")
            return PartnerEvent(
                event_id=text(body["event_id"]),
                kind=EventKind(body["type"]),
                op_key=text(body["op_key"]),
                version=whole(body["version"]),
                occurred_at=instant(body["occurred_at"]),
                booking_ref=body.get("booking_ref"),
                final_fare_fen=None if fare is None else fen(fare),
                reason=body.get("reason"),
                artefacts=strings(body.get("artefacts")),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no event of {self.code}: {error!r}") from error

    async def statement(self, day: date) -> Statement:
        lines: list[StatementLine] = []
        versions: set[int] = set()
        cursor: str | None = None
        while True:
            page = await self._ask(
                "statement",
                lambda payload: _page(payload["statement"]),
                {"day": day.isoformat(), "cursor": cursor},
            )
            lines += page["lines"]
            versions.add(page["version"])
            if len(versions) > 1:
                raise self._line.unavailable("restated while it was read")
            cursor = page["next"]
            if cursor is None:
                break
        return Statement(
            merchant=self.code,
            business_date=day,
            version=page["version"],
            lines=tuple(lines),
            trailer_count=page["count"],
            trailer_sum_fen=page["sum_fen"],
        )

    async def operations(self, since: datetime, cursor: str | None) -> OperationsPage:
        asked = {"since": since.isoformat(), "cursor": cursor}
        return await self._ask("operations", operations.page, asked)

    async def settlement_notice(self, notice: SettlementNotice, *, op_key: str) -> NoticeReceipt:
        asked = {
            "opKey": op_key,
            "settlementId": notice.settlement_id,
            "legId": notice.leg_id,
            "payer": notice.payer,
            "payee": notice.payee,
            "amountFen": notice.amount_fen,
            "netHash": notice.net_hash,
        }
        if notice.audit_head:
            asked["auditHead"] = notice.audit_head
        return await self._ask(
            "settlementNotice",
            lambda payload: _receipt(payload["receipt"]),
            {"input": asked},
            op_key=op_key,
        )

    async def _act(self, field: str, asked: Mapping[str, Any], op_key: str) -> Fact:
        return await self._ask(
            field, lambda payload: _fact(op_key, payload["fact"]), {"input": asked}, op_key=op_key
        )

    async def _ask(
        self,
        field: str,
        read: Callable[[Any], T],
        variables: Mapping[str, Any],
        *,
        op_key: str | None = None,
    ) -> T:
        return await self._line.ask(
            "POST",
            "/graphql",
            lambda body: read(_data(body)[field]),
            op_key=op_key,
            document={"query": DOCUMENTS[field], "variables": variables},
        )

    def _refusal(self, body: Any) -> GatewayError | None:
        """The first payload error of the one field that was asked for."""
        (payload,) = _data(body).values()
        errors = payload.get("errors") if isinstance(payload, dict) else None
        if not errors:
            return None
        error = errors[0]
        code = CODES[error["class"]] or text(error["code"])
        return self._line.refused(code, error.get("context") or {})


def _data(body: Any) -> dict[str, Any]:
    if body.get("errors"):
        raise ValueError("the partner failed to answer")
    data = body["data"]
    if not isinstance(data, dict):
        raise ValueError("data is no object")
    return data


def _feed_page(row: Any) -> FeedPage:
    return FeedPage(
        tuple(_offer(offer) for offer in row["offers"]), text(row["cursor"]), row["more"] is True
    )


def _offer(row: Any) -> FeedOffer:
    if row["deleted"]:
        return FeedOffer(text(row["id"]), whole(row["version"]), deleted=True)
    return FeedOffer(
        id=text(row["id"]),
        version=fen(row["version"]),
        name_zh=text(row["nameZh"]),
        name_en=text(row["nameEn"]),
        kind=text(row["kind"]),
        category=text(row["category"]),
        cash_fen=fen(row["cashFen"]),
        attributes=dict(row["attributes"] or {}),
    )


def _live(row: Any) -> LiveOffer:
    return LiveOffer(
        offer_id=text(row["offerId"]),
        list_fen=fen(row["listFen"]),
        left=None if row["left"] is None else fen(row["left"]),
        slots=tuple(
            Slot(text(slot["id"]), instant(slot["startsAt"]), fen(slot["left"]))
            for slot in row["slots"]
        ),
    )


def _quote(row: Any) -> Quote:
    return Quote(
        id=text(row["id"]),
        list_fen=fen(row["listFen"]),
        expires_at=instant(row["expiresAt"]),
        terms_hash=text(row["termsHash"]),
        cancel_until=maybe_instant(row["cancelUntil"]),
    )


def _reservation(op_key: str, row: Any) -> Reservation:
    if row["opKey"] != op_key:
        raise ValueError("the answer is about another op key")
    return Reservation(op_key, text(row["holdRef"]), instant(row["expiresAt"]))


def _fact(op_key: str, row: Any) -> Fact:
    if row["opKey"] != op_key:
        raise ValueError("the answer is about another op key")
    return Fact(
        op_key=op_key,
        outcome=Outcome(text(row["outcome"]).lower()),
        version=fen(row["version"]),
        booking_ref=row["bookingRef"],
        hold_ref=row["holdRef"],
        expires_at=maybe_instant(row["expiresAt"]),
        reason=row["reason"],
        artefacts=strings(row["artefacts"]),
    )


def _cancel_quote(row: Any) -> CancelQuote:
    return CancelQuote(
        id=text(row["id"]),
        refundable=row["refundable"] is True,
        fee_fen=fen(row["feeFen"]),
        expires_at=instant(row["expiresAt"]),
        until=maybe_instant(row["until"]),
    )


def _page(row: Any) -> dict[str, Any]:
    return {
        "lines": [_line(line) for line in row["lines"]],
        "version": whole(row["version"]),
        "next": row["nextCursor"],
        "count": whole(row["trailer"]["count"]),
        "sum_fen": whole(row["trailer"]["sumFen"]),
    }


def _line(row: Any) -> StatementLine:
    return StatementLine(
        line=whole(row["line"]),
        gateway_ref=row["gatewayRef"],
        partner_ref=row["partnerRef"],
        type=text(row["type"]),
        issuer=text(row["issuer"]),
        amount_fen=whole(row["amountFen"]),
        business_date=date.fromisoformat(text(row["businessDate"])),
        offer_id=row["offerId"],
        member_ref=row["memberRef"],
    )


def _receipt(row: Any) -> NoticeReceipt:
    return NoticeReceipt(text(row["receiptRef"]), instant(row["receivedAt"]))
