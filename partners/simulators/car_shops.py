"""The surface of a 4S chain: the shop's own GraphQL API, `car_shop.graphql`.

On top of a shop: a booking is a work order that goes from step to step in the workshop. It can
be called off until the car is checked in, and it is consumed when the work is completed.
"""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from graphql import (
    ExecutionResult,
    FieldNode,
    GraphQLError,
    GraphQLResolveInfo,
    OperationDefinitionNode,
    build_schema,
    execute,
    parse,
    validate,
)
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
from partners.simulators import listing
from partners.simulators.core import Shop
from partners.simulators.surface import Vertical, route
from partners.simulators.surface import day as read_day
from partners.simulators.words import Booked, Declined, instant

Info = GraphQLResolveInfo[None]
Answer = dict[str, Any]
SCHEMA = build_schema(Path(__file__).with_name("car_shop.graphql").read_text(encoding="utf-8"))
ROWS_A_PAGE = 100
STEPS = ("SCHEDULED", "CHECKED_IN", "IN_PROGRESS")  # then COMPLETED, which is the booking's end
LINES = {"offset": "BILL_CREDIT", "service": "WORK"}
PERKS = {
    "green": "GREEN",
    "high_value": "PREMIUM",
    "guaranteed": "ALWAYS_ON",
    "part_payment": "MIXED_PAYMENT",
    "parity": "SAME_BAYS",
}
STATES = {
    Outcome.NOT_FOUND: "UNHEARD_OF",
    Outcome.IN_FLIGHT: "IN_HAND",
    Outcome.HELD: "APPOINTED",
    Outcome.CONFIRMED: "ORDERED",
    Outcome.REJECTED: "TURNED_DOWN",
    Outcome.RELEASED: "LAPSED",
    Outcome.FENCED: "VOID",
    Outcome.CANCELLED: "CALLED_OFF",
}
EVENTS = {
    EventKind.CONFIRMED: "SCHEDULED",
    EventKind.REJECTED: "TURNED_DOWN",
    EventKind.FULFILLED: "COMPLETED",
    EventKind.NO_SHOW: "NO_SHOW",
    EventKind.CANCELLED: "CALLED_OFF_BY_SHOP",
}
PROBLEMS = {  # the core's word: the shop's word, its text
    "SOLD_OUT": ("NOT_ON_SHELF", "缺货"),
    "SLOT_FULL": ("NO_BAY", "该时段工位已满"),
    "QUOTE_EXPIRED": ("ESTIMATE_LAPSED", "估价已过期"),
    "HOLD_EXPIRED": ("APPOINTMENT_LAPSED", "预约已失效"),
    "DEADLINE_PASSED": ("APPOINTMENT_LAPSED", "预约已失效"),
    "PRICE_CHANGED": ("TOTAL_CHANGED", "价格已变"),
    "CANCEL_TOO_LATE": ("CAR_CHECKED_IN", "车辆已进厂或已过取消时间"),
    "FENCED": ("INSTRUCTION_VOID", "指令已作废"),
    "KEY_CONFLICT": ("INSTRUCTION_REUSED", "指令编号重复"),
    "KEY_IN_FLIGHT": ("INSTRUCTION_IN_HAND", "指令处理中"),
    "BAD_REQUEST": ("BAD_INPUT", "请求有误"),
    "UNKNOWN_OFFER": ("NO_SUCH_ITEM", "没有该项目"),
    "OFFER_GONE": ("NO_SUCH_ITEM", "没有该项目"),
    "UNKNOWN_QUOTE": ("NO_SUCH_RECORD", "没有该记录"),
    "UNKNOWN_HOLD": ("NO_SUCH_RECORD", "没有该记录"),
    "UNKNOWN_BOOKING": ("NO_SUCH_RECORD", "没有该记录"),
    "STATEMENT_NOT_READY": ("SHEET_NOT_READY", "账单未出"),
}
CARRIED = {
    "slot": "bay",
    "alternative": "otherTime",
    "left": "baysLeft",
    "new_list_fen": "newTotalFen",
    "expired_at": "at",
    "deadline": "at",
    "until": "at",
    "ready_at": "at",
}


def problem(no: Declined) -> dict[str, Any]:
    """A no, as the shop says it."""
    word, words = PROBLEMS.get(no.code, ("TURNED_DOWN", "门店未接受"))
    said = {
        theirs: no.context[ours]
        for ours, theirs in CARRIED.items()
        if no.context.get(ours) is not None
    }
    return {"problem": {"code": word, "text": words} | said}


def menu_item(offer: FeedOffer) -> dict[str, Any]:
    more = offer.attributes
    return {
        "sku": offer.id,
        "edition": offer.version,
        "discontinued": offer.deleted,
        "line": LINES.get(offer.kind, "PART"),
        "nameZh": offer.name_zh,
        "nameEn": offer.name_en,
        "department": offer.category,
        "priceFen": offer.cash_fen,
        "clubPoints": more.get("own_points"),
        "clubPointsBy": more.get("own_priced_by"),
        "creditMaxPct": more.get("max_offset_pct"),
        "calendar": more.get("slots"),
        "needs": more.get("needs"),
        "perks": [theirs for ours, theirs in PERKS.items() if more.get(ours)],
        "creditUnit": more.get("offset_unit"),
        "promises": texts(more.get("guarantee") or {}),
    }


def texts(named: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in named.items()]


def workshop_row(offer: LiveOffer) -> dict[str, Any]:
    return {
        "sku": offer.offer_id,
        "priceFen": offer.list_fen,
        "onShelf": offer.left,
        "bays": [
            {"time": slot.id, "opensAt": slot.starts_at.isoformat(), "free": slot.left}
            for slot in offer.slots
        ],
    }


def estimate(quote: Quote) -> dict[str, Any]:
    until = quote.cancel_until
    return {
        "no": quote.id,
        "totalFen": quote.list_fen,
        "validUntil": quote.expires_at.isoformat(),
        "termsDigest": quote.terms_hash,
        "freeUntil": until.isoformat() if until else None,
    }


def calling_off_terms(quote: CancelQuote) -> dict[str, Any]:
    return {
        "no": quote.id,
        "free": quote.refundable,
        "chargeFen": quote.fee_fen,
        "validUntil": quote.expires_at.isoformat(),
        "freeUntil": quote.until.isoformat() if quote.until else None,
    }


def instruction(fact: Fact) -> dict[str, Any]:
    """What became of an instruction."""
    return {
        "key": fact.op_key,
        "state": STATES[fact.outcome],
        "revision": fact.version,
        "appointmentNo": fact.hold_ref,
        "workOrderNo": fact.booking_ref,
        "keptUntil": fact.expires_at.isoformat() if fact.expires_at else None,
        "remark": fact.reason,
        "handouts": texts(fact.artefacts),
    }


def payables_sheet(statement: Statement, page: int) -> dict[str, Any]:
    first = (page - 1) * ROWS_A_PAGE
    shown = statement.lines[first : first + ROWS_A_PAGE]
    return {
        "edition": statement.version,
        "count": statement.trailer_count,
        "sumFen": statement.trailer_sum_fen,
        "nextPage": page + 1 if first + ROWS_A_PAGE < len(statement.lines) else None,
        "rows": [
            {
                "no": line.line,
                "reference": line.gateway_ref,
                "workOrderNo": line.partner_ref,
                "entry": line.type,
                "payer": line.issuer,
                "amountFen": line.amount_fen,
                "bookedOn": line.business_date.isoformat(),
                "sku": line.offer_id,
                "customer": line.member_ref,
            }
            for line in shown
        ],
    }


def handouts(booked: Booked) -> dict[str, str]:
    """The service voucher, and the appointment where there is one."""
    given = {"serviceVoucher": booked.code}
    if booked.slot:
        given |= {"appointment": booked.slot, "bay": ", ".join(map(str, booked.units))}
    return given


def event_body(event: PartnerEvent) -> dict[str, Any]:
    return {
        "notificationNo": event.event_id,
        "at": event.occurred_at.isoformat(),
        "workOrder": {
            "no": event.booking_ref,
            "key": event.op_key,
            "state": EVENTS[event.kind],
            "revision": event.version,
            "remark": event.reason,
            "handouts": texts(event.artefacts),
        },
    }


class Workshop(Shop):
    """A shop whose bookings are work orders: the step each has reached is kept beside it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        with self.store.transaction() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS work_steps (ref TEXT PRIMARY KEY, step TEXT NOT NULL)"
            )

    def act(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`check_in` the car, `begin` the work: each step once, in this order."""
        wanted = {"check_in": "CHECKED_IN", "begin": "IN_PROGRESS"}.get(row["act"])
        if wanted is None:
            raise ValueError(f"no such act: {row['act']}")
        with self.store.transaction() as db:
            booking = self.booking(row.get("gateway_ref") or row["booking_ref"])
            reached = self.step_of(booking)
            allowed = STEPS[STEPS.index(wanted) - 1]
            if reached not in (allowed, wanted):
                raise Declined("BAD_REQUEST", rule=f"the work order is {reached}")
            db.execute("INSERT OR REPLACE INTO work_steps VALUES (?, ?)", (booking["ref"], wanted))
        return {"no": booking["ref"], "state": wanted}

    def step_of(self, booking: sqlite3.Row) -> str:
        """How far a work order is."""
        ended = {"FULFILLED": "COMPLETED", "CANCELLED": "CALLED_OFF", "NO_SHOW": "NO_SHOW"}
        if booking["state"] in ended:
            return ended[booking["state"]]
        row = self._row("work_steps", "ref", booking["ref"])
        return str(row["step"]) if row is not None else STEPS[0]

    def _cancel_quote(self, booking: sqlite3.Row | None, booking_ref: str) -> CancelQuote:
        self._require_outside(booking)
        return super()._cancel_quote(booking, booking_ref)

    def _cancel(
        self, quoted: sqlite3.Row | None, booking: sqlite3.Row | None, op_key: str
    ) -> dict[str, Any]:
        self._require_outside(booking)
        return super()._cancel(quoted, booking, op_key)

    def _require_outside(self, booking: sqlite3.Row | None) -> None:
        """A work order can be called off until the car is checked in."""
        if booking is not None and self.step_of(booking) in STEPS[1:]:
            raise Declined("CANCEL_TOO_LATE", until=booking["cancel_until"])


def worded(resolve: Callable[..., Awaitable[Answer]]) -> Callable[..., Awaitable[Answer]]:
    """Say a no as the `problem` of the payload."""

    @wraps(resolve)
    async def resolver(*arguments: Any, **named: Any) -> Answer:
        try:
            return await resolve(*arguments, **named)
        except Declined as no:
            return problem(no)

    return resolver


class Counter:
    """The shop's counter: each root field is a method that asks the shop and words its answer."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def fields(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        """The root fields of the schema."""
        return {
            "menu": self.menu,
            "workshop": self.workshop,
            "instruction": self.instruction,
            "workOrder": self.work_order,
            "payables": self.payables,
            "estimate": self.estimate,
            "appoint": self.appoint,
            "openWorkOrder": self.open_work_order,
            "voidInstruction": self.void_instruction,
            "callingOffTerms": self.calling_off_terms,
            "callOff": self.call_off,
            "advisePayment": self.advise_payment,
        }

    async def menu(self, _: Info, after: str | None = None) -> dict[str, Any]:
        page = await self._shop.list_offers(after)
        items = [menu_item(offer) for offer in page.offers]
        return {"items": items, "after": page.cursor, "more": page.more}

    async def workshop(
        self, _: Info, skus: list[str], day: str | None = None
    ) -> list[dict[str, Any]]:
        offers = await self._shop.live(skus, on=read_day(day) if day else None)
        return [workshop_row(offer) for offer in offers]

    @worded
    async def estimate(self, _: Info, input: dict[str, Any]) -> dict[str, Any]:
        quote = await self._shop.quote(
            QuoteRequest(
                offer_id=input["sku"],
                slot=input.get("time"),
                quantity=input["pieces"],
                bill_fen=input.get("billFen"),
                member_ref=input["customer"],
            )
        )
        return {"estimate": estimate(quote)}

    @worded
    async def appoint(self, _: Info, input: dict[str, Any]) -> dict[str, Any]:
        kept = await self._shop.hold(
            input["estimateNo"],
            op_key=input["key"],
            ttl_seconds=input["keepSeconds"],
            claims=[Claim(payer["payer"], payer["fen"]) for payer in input["payers"]],
        )
        return {"appointment": {"no": kept.hold_ref, "keptUntil": kept.expires_at.isoformat()}}

    @worded
    async def open_work_order(self, _: Info, input: dict[str, Any]) -> dict[str, Any]:
        fact = await self._shop.confirm(
            input["appointmentNo"],
            op_key=input["key"],
            deadline=instant(input["notAfter"]),
            gateway_ref=input["reference"],
        )
        return {"instruction": instruction(fact)}

    async def instruction(self, _: Info, key: str) -> dict[str, Any]:
        return instruction(await self._shop.status(key))

    @worded
    async def void_instruction(self, _: Info, key: str) -> dict[str, Any]:
        return {"instruction": instruction(await self._shop.fence(key))}

    async def work_order(self, _: Info, no: str) -> dict[str, Any] | None:
        booking = self._shop.store.row("SELECT * FROM bookings WHERE ref = ?", no)
        if booking is None or not isinstance(self._shop, Workshop):
            return None
        return {
            "no": no,
            "state": self._shop.step_of(booking),
            "revision": booking["version"],
            "time": booking["slot"],
            "sku": booking["offer_id"],
        }

    @worded
    async def calling_off_terms(self, _: Info, no: str) -> dict[str, Any]:
        return {"terms": calling_off_terms(await self._shop.cancel_quote(no))}

    @worded
    async def call_off(self, _: Info, input: dict[str, Any]) -> dict[str, Any]:
        fact = await self._shop.cancel(input["termsNo"], op_key=input["key"])
        return {"instruction": instruction(fact)}

    @worded
    async def payables(self, _: Info, day: str, page: int) -> dict[str, Any]:
        return {"sheet": payables_sheet(await self._shop.statement(read_day(day)), page)}

    @worded
    async def advise_payment(self, _: Info, input: dict[str, Any]) -> dict[str, Any]:
        receipt = await self._shop.settlement_notice(
            SettlementNotice(
                settlement_id=input["settlement"],
                leg_id=input["leg"],
                payer=input["payer"],
                payee=input["payee"],
                amount_fen=input["amountFen"],
                net_hash=input["netHash"],
                audit_head=input.get("auditHead"),
            ),
            op_key=input["key"],
        )
        advice = {"no": receipt.receipt_ref, "takenAt": receipt.received_at.isoformat()}
        return {"advice": advice}


SCOPE_OF = {
    "menu": "offers",
    "workshop": "offers",
    "payables": "statements",
    "advisePayment": "notices",
}


async def run(shop: Shop, request: Request) -> Response:
    """`POST /graphql`: one field an operation, so that its scope is known before it runs."""
    raw = await request.body()
    try:
        document = parse(json.loads(raw)["query"])
        field = _only_field(raw)
        variables = json.loads(raw).get("variables") or {}
    except (GraphQLError, KeyError, TypeError, ValueError) as error:
        return _bad_input(str(error))
    if SCOPE_OF.get(field, "redeem") not in request.state.scopes:
        return JSONResponse({"errors": [{"message": "insufficient_scope"}]}, status_code=403)
    if errors := validate(SCHEMA, document):
        return _bad_input(errors[0].message)
    executed = execute(
        SCHEMA, document, root_value=Counter(shop).fields(), variable_values=variables
    )
    result = executed if isinstance(executed, ExecutionResult) else await executed
    for failed in result.errors or ():
        if failed.original_error is not None:
            raise failed.original_error  # Planted misbehaviour, a no without payload, or a bug.
        return _bad_input(failed.message)
    return JSONResponse({"data": result.data})


def _only_field(raw: bytes) -> str:
    """The answer's name of the one field of the operation.

    Raises:
        ValueError: There are more of them.
    """
    (operation,) = parse(json.loads(raw)["query"]).definitions
    if not isinstance(operation, OperationDefinitionNode):
        raise ValueError("an operation is needed")
    (field,) = operation.selection_set.selections
    if not isinstance(field, FieldNode) or field.alias is not None:
        raise ValueError("one plain field an operation")
    return field.name.value


def _bad_input(message: str) -> Response:
    error = {"message": message, "extensions": {"code": "BAD_INPUT"}}
    return JSONResponse({"data": None, "errors": [error]})


def refusal(no: Declined) -> Response:
    """A no where the schema has no `problem`: a question that cannot be read."""
    return _bad_input(no.code)


VERTICAL = Vertical(
    routes=[
        route("/graphql", run, scope=""),
        route(operations.PATH, listing.endpoint, scope="redeem", method="GET"),
    ],
    refusal=refusal,
    event=event_body,
    artefacts=handouts,
    shop=Workshop,
)
