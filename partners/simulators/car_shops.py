"""The surface of a 4S chain: the shop's own GraphQL API, `car_shop.graphql`.

On top of a shop: a booking is a work order that goes from step to step in the workshop. It can
be called off until the car is checked in, and it is consumed when the work is completed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphql import build_schema

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

SCHEMA = build_schema(Path(__file__).with_name("car_shop.graphql").read_text(encoding="utf-8"))
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


def sheet(statement: Statement, page: int, rows_per_page: int) -> dict[str, Any]:
    first = (page - 1) * rows_per_page
    shown = statement.lines[first : first + rows_per_page]
    return {
        "edition": statement.version,
        "count": statement.trailer_count,
        "sumFen": statement.trailer_sum_fen,
        "nextPage": page + 1 if first + rows_per_page < len(statement.lines) else None,
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
