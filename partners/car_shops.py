"""4S car shops: the shop's own GraphQL API; appointments, workshop bays, work orders, parts.

It is not our published contract. The shop's own words and what they are here:

menu item                  offer; its line is WORK, PART or BILL_CREDIT
estimate                   quote
appointment (a kept bay)   hold
work order                 booking: SCHEDULED, CHECKED_IN, IN_PROGRESS, COMPLETED;
                           beside the way CALLED_OFF and NO_SHOW
instruction                op key; `instruction` asks for one, `voidInstruction` fences one
calling-off terms          what cancelling gives back; until the car is checked in
payables sheet, advice     statement, settlement notice

Every answer is a 200. A business no is a `problem` inside the payload; `errors` at the top are
the API's own. So the body decides, and the status only where the body says nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
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
from partners.http import Line, decided, fen, instant, maybe_instant, text, whole

T = TypeVar("T")

_PROBLEM = "problem { code text bay otherTime baysLeft newTotalFen at }"
_INSTRUCTION = """
  key state revision appointmentNo workOrderNo keptUntil remark
  handouts { name value }
"""
_MENU = """query Menu($after: String) {
  menu(after: $after) {
    items {
      sku edition discontinued line nameZh nameEn department priceFen clubPoints clubPointsBy
      creditMaxPct calendar needs perks creditUnit { points fen } promises { name value }
    }
    after more
  }
}"""
_BAYS = """query Bays($skus: [ID!]!, $day: Date) {
  workshop(skus: $skus, day: $day) { sku priceFen onShelf bays { time opensAt free } }
}"""
_ESTIMATE = f"""mutation Estimate($input: EstimateInput!) {{
  estimate(input: $input) {{
    estimate {{ no totalFen validUntil termsDigest freeUntil }} {_PROBLEM}
  }}
}}"""
_APPOINT = f"""mutation Appoint($input: AppointInput!) {{
  appoint(input: $input) {{ appointment {{ no keptUntil }} {_PROBLEM} }}
}}"""
_OPEN = f"""mutation OpenWorkOrder($input: OpenWorkOrderInput!) {{
  openWorkOrder(input: $input) {{ instruction {{ {_INSTRUCTION} }} {_PROBLEM} }}
}}"""
_ASK = f"""query Instruction($key: ID!) {{
  instruction(key: $key) {{ {_INSTRUCTION} }}
}}"""
_VOID = f"""mutation VoidInstruction($key: ID!) {{
  voidInstruction(key: $key) {{ instruction {{ {_INSTRUCTION} }} {_PROBLEM} }}
}}"""
_TERMS = f"""mutation CallingOffTerms($no: ID!) {{
  callingOffTerms(no: $no) {{
    terms {{ no free chargeFen validUntil freeUntil }} {_PROBLEM}
  }}
}}"""
_CALL_OFF = f"""mutation CallOff($input: CallOffInput!) {{
  callOff(input: $input) {{ instruction {{ {_INSTRUCTION} }} {_PROBLEM} }}
}}"""
_PAYABLES = f"""query Payables($day: Date!, $page: Int!) {{
  payables(day: $day, page: $page) {{
    sheet {{
      edition nextPage count sumFen
      rows {{ no reference workOrderNo entry payer amountFen bookedOn sku customer }}
    }}
    {_PROBLEM}
  }}
}}"""
_ADVISE = f"""mutation AdvisePayment($input: PaymentAdviceInput!) {{
  advisePayment(input: $input) {{ advice {{ no takenAt }} {_PROBLEM} }}
}}"""

_LINES = {"BILL_CREDIT": "offset", "WORK": "service", "PART": "shipment"}
_PERKS = {
    "GREEN": "green",
    "PREMIUM": "high_value",
    "ALWAYS_ON": "guaranteed",
    "MIXED_PAYMENT": "part_payment",
    "SAME_BAYS": "parity",
}
_STATES = {
    "UNHEARD_OF": Outcome.NOT_FOUND,
    "IN_HAND": Outcome.IN_FLIGHT,
    "APPOINTED": Outcome.HELD,
    "ORDERED": Outcome.CONFIRMED,
    "TURNED_DOWN": Outcome.REJECTED,
    "LAPSED": Outcome.RELEASED,
    "VOID": Outcome.FENCED,
    "CALLED_OFF": Outcome.CANCELLED,
}
_EVENTS = {
    "SCHEDULED": EventKind.CONFIRMED,
    "TURNED_DOWN": EventKind.REJECTED,
    "COMPLETED": EventKind.FULFILLED,
    "NO_SHOW": EventKind.NO_SHOW,
    "CALLED_OFF_BY_SHOP": EventKind.CANCELLED,
}
_PROBLEMS = {
    "NOT_ON_SHELF": "SOLD_OUT",
    "NO_BAY": "SLOT_FULL",
    "ESTIMATE_LAPSED": "QUOTE_EXPIRED",
    "APPOINTMENT_LAPSED": "HOLD_EXPIRED",
    "TOTAL_CHANGED": "PRICE_CHANGED",
    "CAR_CHECKED_IN": "CANCEL_TOO_LATE",
    "NO_SUCH_ITEM": "UNKNOWN_OFFER",
    "NO_SUCH_RECORD": "NOT_FOUND",
    "INSTRUCTION_VOID": "FENCED",
    "INSTRUCTION_REUSED": "KEY_CONFLICT",
    "INSTRUCTION_IN_HAND": "KEY_IN_FLIGHT",
    "TURNED_DOWN": "DECLINED",
    "BAD_INPUT": "BAD_REQUEST",
    "SHEET_NOT_READY": "STATEMENT_NOT_READY",
}
_CONTEXT = {
    "bay": "slot",
    "otherTime": "alternative",
    "baysLeft": "left",
    "newTotalFen": "new_list_fen",
    "text": "detail",
}
_HANDOUTS = {"serviceVoucher": "code", "bay": "bay", "appointment": "appointment"}
_MOMENTS = {
    "CANCEL_TOO_LATE": "until",
    "QUOTE_EXPIRED": "expired_at",
    "HOLD_EXPIRED": "expired_at",
    "STATEMENT_NOT_READY": "ready_at",
}


class CarShops:
    """One chain of 4S shops.

    Args:
        code: The merchant's id.
        http: Carries base URL, token, deadline, bulkhead and the sandbox's clock.
    """

    capabilities = Capability.ALL | Capability.SLOTS | Capability.OPERATIONS

    def __init__(self, code: str, http: httpx2.AsyncClient) -> None:
        self.code = code
        self._line = Line(code, http, self._refusal)

    async def list_offers(self, cursor: str | None) -> FeedPage:
        def read(menu: Any) -> FeedPage:
            return FeedPage(
                tuple(_offer(item) for item in menu["items"]), menu["after"], menu["more"]
            )

        return await self._ask(_MENU, {"after": cursor}, read)

    async def live(self, offer_ids: Sequence[str], *, on: date | None) -> list[LiveOffer]:
        asked = {"skus": list(offer_ids), "day": on.isoformat() if on else None}
        return await self._ask(_BAYS, asked, lambda rows: [_live(row) for row in rows])

    async def quote(self, request: QuoteRequest) -> Quote:
        wanted = {
            "sku": request.offer_id,
            "time": request.slot,
            "pieces": request.quantity,
            "billFen": request.bill_fen,
            "customer": request.member_ref,
        }
        return await self._ask(_ESTIMATE, {"input": wanted}, _quote)

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Sequence[Claim]
    ) -> Reservation:
        def read(answer: Any) -> Reservation:
            kept = answer["appointment"]
            return Reservation(op_key, text(kept["no"]), instant(kept["keptUntil"]))

        wanted = {
            "key": op_key,
            "estimateNo": quote_id,
            "keepSeconds": ttl_seconds,
            "payers": [{"payer": claim.issuer, "fen": claim.face_fen} for claim in claims],
        }
        return await self._ask(_APPOINT, {"input": wanted}, read, op_key=op_key)

    async def confirm(
        self, hold_ref: str, *, op_key: str, deadline: datetime, gateway_ref: str
    ) -> Fact:
        wanted = {
            "key": op_key,
            "appointmentNo": hold_ref,
            "notAfter": deadline.isoformat(),
            "reference": gateway_ref,
        }
        fact = await self._instruct(_OPEN, {"input": wanted}, op_key)
        return decided(fact, self.code, Outcome.CONFIRMED, Outcome.IN_FLIGHT)

    async def status(self, op_key: str) -> Fact:
        return await self._ask(_ASK, {"key": op_key}, lambda said: _fact(said, op_key))

    async def fence(self, op_key: str) -> Fact:
        fact = await self._instruct(_VOID, {"key": op_key}, op_key)
        return decided(fact, self.code, Outcome.FENCED, Outcome.CONFIRMED, Outcome.CANCELLED)

    async def cancel_quote(self, booking_ref: str) -> CancelQuote:
        return await self._ask(_TERMS, {"no": booking_ref}, _cancel_quote)

    async def cancel(self, cancel_quote_id: str, *, op_key: str) -> Fact:
        wanted = {"key": op_key, "termsNo": cancel_quote_id}
        fact = await self._instruct(_CALL_OFF, {"input": wanted}, op_key)
        return decided(fact, self.code, Outcome.CANCELLED)

    def event(self, body: Mapping[str, Any]) -> PartnerEvent:
        try:
            order = body["workOrder"]
            return PartnerEvent(
                event_id=text(body["notificationNo"]),
                kind=_EVENTS[order["state"]],
                op_key=text(order["key"]),
                version=fen(order["revision"]),
                occurred_at=instant(body["at"]),
                booking_ref=order["no"],
                reason=order["remark"],
                artefacts=_artefacts(order["handouts"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.code} sends no such notification") from error

    async def statement(self, day: date) -> Statement:
        lines: list[StatementLine] = []
        versions: set[int] = set()
        page: int | None = 1
        while page is not None:
            asked = {"day": day.isoformat(), "page": page}
            sheet = await self._ask(_PAYABLES, asked, _sheet)
            lines += sheet["lines"]
            versions.add(sheet["version"])
            if len(versions) > 1:
                raise self._line.unavailable("restated while it was read")
            page = sheet["page"]
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
        def read(answer: Any) -> NoticeReceipt:
            taken = answer["advice"]
            return NoticeReceipt(text(taken["no"]), instant(taken["takenAt"]))

        wanted = {
            "key": op_key,
            "settlement": notice.settlement_id,
            "leg": notice.leg_id,
            "payer": notice.payer,
            "payee": notice.payee,
            "amountFen": notice.amount_fen,
            "netHash": notice.net_hash,
        }
        if notice.audit_head:
            wanted["auditHead"] = notice.audit_head
        return await self._ask(_ADVISE, {"input": wanted}, read, op_key=op_key)

    async def _instruct(self, document: str, variables: Mapping[str, Any], op_key: str) -> Fact:
        """Send an instruction and read what became of it."""
        return await self._ask(
            document, variables, lambda said: _fact(said["instruction"], op_key), op_key=op_key
        )

    async def _ask(
        self,
        document: str,
        variables: Mapping[str, Any],
        read: Callable[[Any], T],
        *,
        op_key: str | None = None,
    ) -> T:
        """Send one operation, which has one field, and read that field."""

        def read_field(body: Any) -> T:
            if body.get("errors"):
                raise ValueError("errors that say nothing we know")
            (answer,) = body["data"].values()
            return read(answer)

        request = {"query": document, "variables": variables}
        return await self._line.ask("POST", "/graphql", read_field, op_key=op_key, document=request)

    def _refusal(self, body: Any) -> GatewayError | None:
        """The `problem` inside a payload, or the code of a top-level error."""
        for error in body.get("errors") or ():
            return self._line.refused("BAD_REQUEST", {}) if _is_bad_input(error) else None
        for answer in body["data"].values():
            problem = answer.get("problem") if isinstance(answer, dict) else None
            if problem is not None:
                return self._problem(problem)
        return None

    def _problem(self, problem: Mapping[str, Any]) -> GatewayError | None:
        code = _PROBLEMS.get(problem["code"])
        if code is None:
            raise ValueError("a problem nobody knows")
        said = {name: value for name, value in problem.items() if value is not None}
        context = {ours: said[theirs] for theirs, ours in _CONTEXT.items() if theirs in said}
        if "at" in said:
            context[_MOMENTS.get(code, "at")] = said["at"]
        return self._line.refused(code, context)


def _is_bad_input(error: Mapping[str, Any]) -> bool:
    """The API's own no: the operation was never begun."""
    return (error.get("extensions") or {}).get("code") == "BAD_INPUT"


def _offer(item: Mapping[str, Any]) -> FeedOffer:
    if item["discontinued"]:
        return FeedOffer(text(item["sku"]), fen(item["edition"]), deleted=True)
    attributes: dict[str, Any] = {ours: theirs in item["perks"] for theirs, ours in _PERKS.items()}
    attributes["own_points"] = item["clubPoints"]
    attributes["own_priced_by"] = item["clubPointsBy"]
    attributes["max_offset_pct"] = item["creditMaxPct"]
    attributes["slots"] = item["calendar"]
    attributes["guarantee"] = {row["name"]: row["value"] for row in item["promises"]}
    optional = {"needs": item["needs"], "offset_unit": item["creditUnit"]}
    attributes |= {name: value for name, value in optional.items() if value}
    return FeedOffer(
        id=text(item["sku"]),
        version=fen(item["edition"]),
        name_zh=item["nameZh"],
        name_en=item["nameEn"],
        kind=_LINES[item["line"]],
        category=item["department"],
        cash_fen=fen(item["priceFen"]),
        attributes=attributes,
    )


def _live(row: Mapping[str, Any]) -> LiveOffer:
    left = row["onShelf"]
    return LiveOffer(
        offer_id=text(row["sku"]),
        list_fen=fen(row["priceFen"]),
        left=None if left is None else fen(left),
        slots=tuple(
            Slot(text(bay["time"]), instant(bay["opensAt"]), fen(bay["free"]))
            for bay in row["bays"]
        ),
    )


def _quote(answer: Mapping[str, Any]) -> Quote:
    estimate = answer["estimate"]
    return Quote(
        id=text(estimate["no"]),
        list_fen=fen(estimate["totalFen"]),
        expires_at=instant(estimate["validUntil"]),
        terms_hash=text(estimate["termsDigest"]),
        cancel_until=maybe_instant(estimate["freeUntil"]),
    )


def _cancel_quote(answer: Mapping[str, Any]) -> CancelQuote:
    terms = answer["terms"]
    return CancelQuote(
        id=text(terms["no"]),
        refundable=terms["free"] is True,
        fee_fen=fen(terms["chargeFen"]),
        expires_at=instant(terms["validUntil"]),
        until=maybe_instant(terms["freeUntil"]),
    )


def _fact(said: Mapping[str, Any], op_key: str) -> Fact:
    if said["key"] != op_key:
        raise ValueError("an answer to another instruction")
    return Fact(
        op_key=op_key,
        outcome=_STATES[said["state"]],
        version=fen(said["revision"]),
        booking_ref=said["workOrderNo"],
        hold_ref=said["appointmentNo"],
        expires_at=maybe_instant(said["keptUntil"]),
        reason=said["remark"],
        artefacts=_artefacts(said["handouts"]),
    )


def _artefacts(handouts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What the customer gets: the appointment and the service voucher's code."""
    return {_HANDOUTS.get(row["name"], row["name"]): row["value"] for row in handouts}


def _sheet(answer: Mapping[str, Any]) -> dict[str, Any]:
    sheet = answer["sheet"]
    lines = [
        StatementLine(
            line=fen(row["no"]),
            gateway_ref=row["reference"],
            partner_ref=row["workOrderNo"],
            type=row["entry"],
            issuer=text(row["payer"]),
            amount_fen=whole(row["amountFen"]),
            business_date=date.fromisoformat(row["bookedOn"]),
            offer_id=row["sku"],
            member_ref=row["customer"],
        )
        for row in sheet["rows"]
    ]
    return {
        "lines": lines,
        "page": sheet["nextPage"],
        "version": fen(sheet["edition"]),
        "count": fen(sheet["count"]),
        "sum_fen": whole(sheet["sumFen"]),
    }
