"""A merchant that serves contract.graphql as it is published: the schema is that very file."""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLSchema,
    build_schema,
    execute,
    parse,
    validate,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.ports import (
    Claim,
    FeedOffer,
    PartnerEvent,
    QuoteRequest,
    SettlementNotice,
)
from partners.graphql import CONTRACT
from partners.simulators import listing, surface
from partners.simulators.core import Shop
from partners.simulators.listing import fact_document
from partners.simulators.surface import Vertical, body, need, pages, route
from partners.simulators.words import Booked, Declined, Misbehaviour, instant

Resolver = Callable[..., Awaitable[Any]]
SCOPE_OF: Mapping[str, str] = {
    "capabilities": "offers",
    "offers": "offers",
    "live": "offers",
    "statement": "statements",
    "settlementNotice": "notices",
}
CONTRACT_VERSION = "2026-11"


class Insufficient(Exception):
    """The token lacks the scope of a field."""


async def capabilities(shop: Shop) -> dict[str, Any]:
    return {
        "versions": [CONTRACT_VERSION],
        "longestHoldSeconds": shop.config.hold_seconds,
        "quoteSeconds": shop.config.quote_seconds,
        "asyncConfirm": True,
    }


async def offers(shop: Shop, cursor: str | None = None) -> dict[str, Any]:
    page = await shop.list_offers(cursor)
    return {
        "offers": [_offer(offer) for offer in page.offers],
        "cursor": page.cursor,
        "more": page.more,
    }


async def live(shop: Shop, offerIds: list[str], on: str | None = None) -> list[dict[str, Any]]:
    wanted = surface.day(on) if on else None
    return [
        {
            "offerId": offer.offer_id,
            "listFen": offer.list_fen,
            "left": offer.left,
            "slots": [
                {"id": slot.id, "startsAt": slot.starts_at.isoformat(), "left": slot.left}
                for slot in offer.slots
            ],
        }
        for offer in await shop.live(offerIds, on=wanted)
    ]


async def status(shop: Shop, opKey: str) -> dict[str, Any]:
    return fact_document(await shop.status(opKey))


async def cancel_quote(shop: Shop, bookingRef: str) -> dict[str, Any]:
    quote = await shop.cancel_quote(bookingRef)
    return {
        "cancelQuote": {
            "id": quote.id,
            "refundable": quote.refundable,
            "feeFen": quote.fee_fen,
            "expiresAt": quote.expires_at.isoformat(),
            "until": quote.until.isoformat() if quote.until else None,
        }
    }


async def statement(shop: Shop, day: str, cursor: str | None = None) -> dict[str, Any]:
    found = await shop.statement(surface.day(day))
    lines, following = pages(found, cursor)
    return {
        "statement": {
            "merchant": found.merchant,
            "businessDate": found.business_date.isoformat(),
            "version": found.version,
            "nextCursor": following,
            "trailer": {"count": found.trailer_count, "sumFen": found.trailer_sum_fen},
            "lines": [
                {
                    "line": line.line,
                    "gatewayRef": line.gateway_ref,
                    "partnerRef": line.partner_ref,
                    "type": line.type,
                    "issuer": line.issuer,
                    "amountFen": line.amount_fen,
                    "businessDate": line.business_date.isoformat(),
                    "offerId": line.offer_id,
                    "memberRef": line.member_ref,
                }
                for line in lines
            ],
        }
    }


async def quote(shop: Shop, input: Mapping[str, Any]) -> dict[str, Any]:
    made = await shop.quote(
        QuoteRequest(
            offer_id=input["offerId"],
            slot=input.get("slot"),
            quantity=input["quantity"],
            bill_fen=input.get("billFen"),
            member_ref=input["memberRef"],
        )
    )
    return {
        "quote": {
            "id": made.id,
            "listFen": made.list_fen,
            "expiresAt": made.expires_at.isoformat(),
            "termsHash": made.terms_hash,
            "cancelUntil": made.cancel_until.isoformat() if made.cancel_until else None,
        }
    }


async def hold(shop: Shop, input: Mapping[str, Any]) -> dict[str, Any]:
    made = await shop.hold(
        input["quoteId"],
        op_key=input["opKey"],
        ttl_seconds=input["ttlSeconds"],
        claims=[Claim(claim["issuer"], claim["faceFen"]) for claim in input["claims"]],
    )
    return {
        "reservation": {
            "opKey": made.op_key,
            "holdRef": made.hold_ref,
            "expiresAt": made.expires_at.isoformat(),
        }
    }


async def confirm(shop: Shop, input: Mapping[str, Any]) -> dict[str, Any]:
    fact = await shop.confirm(
        input["holdRef"],
        op_key=input["opKey"],
        deadline=instant(input["deadline"]),
        gateway_ref=input["gatewayRef"],
    )
    return {"fact": fact_document(fact)}


async def fence(shop: Shop, input: Mapping[str, Any]) -> dict[str, Any]:
    return {"fact": fact_document(await shop.fence(input["opKey"]))}


async def cancel(shop: Shop, input: Mapping[str, Any]) -> dict[str, Any]:
    return {"fact": fact_document(await shop.cancel(input["cancelQuoteId"], op_key=input["opKey"]))}


async def settlement_notice(shop: Shop, input: Mapping[str, Any]) -> dict[str, Any]:
    notice = SettlementNotice(
        settlement_id=input["settlementId"],
        leg_id=input["legId"],
        payer=input["payer"],
        payee=input["payee"],
        amount_fen=input["amountFen"],
        net_hash=input["netHash"],
        audit_head=input.get("auditHead"),
    )
    receipt = await shop.settlement_notice(notice, op_key=input["opKey"])
    return {
        "receipt": {
            "receiptRef": receipt.receipt_ref,
            "receivedAt": receipt.received_at.isoformat(),
        }
    }


async def operations(shop: Shop, since: str, cursor: str | None = None) -> dict[str, Any]:
    return listing.document(await shop.operations(instant(since), cursor))


PLAIN: Mapping[str, Resolver] = {
    "operations": operations,
    "capabilities": capabilities,
    "offers": offers,
    "live": live,
    "status": status,
}
PAYLOADS: Mapping[str, Resolver] = {
    "cancelQuote": cancel_quote,
    "statement": statement,
    "quote": quote,
    "hold": hold,
    "confirm": confirm,
    "fence": fence,
    "cancel": cancel,
    "settlementNotice": settlement_notice,
}


@functools.cache
def schema() -> GraphQLSchema:
    """The published contract with resolvers for its root fields."""
    built = build_schema(CONTRACT.read_text(encoding="utf-8"))
    built.type_map["Fen"].parse_value = _whole  # type: ignore[attr-defined]  # A scalar.
    for root in (built.query_type, built.mutation_type):
        assert root is not None
        for name, field in root.fields.items():
            resolver = PLAIN.get(name) or _with_errors(PAYLOADS[name])
            field.resolve = _scoped(name, resolver)
    return built


async def endpoint(shop: Shop, request: Request) -> Response:
    """GraphQL over HTTP: POST, one operation, one JSON document."""
    asked = await body(request)
    try:
        document = _document(need(asked, "query", str))
    except GraphQLError as error:
        return JSONResponse({"errors": [error.formatted]}, status_code=400)
    result = execute(
        schema(),
        document,
        root_value=shop,
        context_value=request,
        variable_values=asked.get("variables"),
        operation_name=asked.get("operationName"),
    )
    if isinstance(result, Awaitable):
        result = await result
    for failure in result.errors or ():
        original = failure.original_error
        if isinstance(original, Insufficient):
            return JSONResponse({"error": "insufficient_scope"}, status_code=403)
        if isinstance(original, Misbehaviour | Declined):
            raise original
    return JSONResponse(result.formatted)


def refusal(no: Declined) -> Response:
    """A no outside of any payload: the request itself, or a field without payload."""
    return JSONResponse({"errors": [{"message": no.code, "extensions": no.context}]})


def event(happened: PartnerEvent) -> dict[str, Any]:
    """The body of a webhook, in the contract's words."""
    return {
        "event_id": happened.event_id,
        "type": happened.kind.value,
        "op_key": happened.op_key,
        "version": happened.version,
        "occurred_at": happened.occurred_at.isoformat(),
        "booking_ref": happened.booking_ref,
        "final_fare_fen": happened.final_fare_fen,
        "reason": happened.reason,
        "artefacts": dict(happened.artefacts),
    }


def artefacts(booked: Booked) -> dict[str, str]:
    """A code and a QR text, and what the kind of offer adds."""
    given = {"code": booked.code, "qr": f"voucher:{booked.ref}:{booked.code}"}
    kind = str(booked.offer.get("kind", ""))
    if kind in ("flight", "upgrade") and booked.slot:
        given["ticket_no"] = f"{booked.ref.replace('-', '')}{booked.code}"
    if kind == "shipment":
        given["order_no"] = booked.ref
    if booked.slot:
        given["slot"] = booked.slot
    if booked.store:
        given["store"] = booked.store
    return given


@functools.lru_cache(maxsize=256)
def _document(query: str) -> DocumentNode:
    document = parse(query, max_tokens=1000)
    errors = validate(schema(), document, max_errors=1)
    if errors:
        raise errors[0]
    return document


def _scoped(name: str, resolver: Resolver) -> Resolver:
    async def resolve(shop: Shop, info: GraphQLResolveInfo[Request], **arguments: Any) -> Any:
        granted: frozenset[str] = info.context.state.scopes
        if SCOPE_OF.get(name, "redeem") not in granted:
            raise Insufficient
        return await resolver(shop, **arguments)

    return resolve


def _with_errors(resolver: Resolver) -> Resolver:
    async def resolve(shop: Shop, **arguments: Any) -> dict[str, Any]:
        try:
            return {**await resolver(shop, **arguments), "errors": []}
        except Declined as no:
            error = {"class": no.error_class, "code": no.code, "context": no.context}
            return {"errors": [error]}

    return resolve


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise GraphQLError("fen are whole numbers")
    return value


def _offer(offer: FeedOffer) -> dict[str, Any]:
    return {
        "id": offer.id,
        "version": offer.version,
        "deleted": offer.deleted,
        "nameZh": offer.name_zh,
        "nameEn": offer.name_en,
        "kind": offer.kind,
        "category": offer.category,
        "cashFen": offer.cash_fen,
        "attributes": dict(offer.attributes),
    }


VERTICAL = Vertical(
    routes=[route("/graphql", endpoint, scope="")],
    refusal=refusal,
    event=event,
    artefacts=artefacts,
)
