"""What a merchant lists of the gateway's op keys and of its own webhooks: the optional verb."""

import json
from datetime import datetime
from typing import Any

from starlette.requests import Request

from gateway.ports import Fact, Operation, OperationsPage, Told
from partners.simulators import books
from partners.simulators.core import Shop
from partners.simulators.words import Declined, instant, stamp

PAGE = 50


def operations(shop: Shop, since: datetime, cursor: str | None) -> OperationsPage:
    """A page of op keys and webhooks since an instant, oldest first.

    Raises:
        Declined: The cursor is none of ours (BAD_REQUEST).
    """
    try:
        first, told = (int(part) for part in (cursor or "0.0").split("."))
    except ValueError:
        raise Declined("BAD_REQUEST", rule="a cursor of ours") from None
    keys = shop.store.rows(
        "SELECT rowid AS n, * FROM op_times WHERE rowid > ? AND at >= ? ORDER BY rowid LIMIT ?",
        first,
        stamp(since),
        PAGE + 1,
    )
    events = shop.store.rows(
        "SELECT e.id AS n, e.event_id, e.body FROM events e JOIN event_times t"
        " ON t.event_id = e.event_id WHERE e.id > ? AND t.at >= ? ORDER BY e.id LIMIT ?",
        told,
        stamp(since),
        PAGE + 1,
    )
    more = len(keys) > PAGE or len(events) > PAGE
    keys, events = keys[:PAGE], events[:PAGE]
    last = (keys[-1]["n"] if keys else first, events[-1]["n"] if events else told)
    return OperationsPage(
        operations=tuple(_operation(shop, row["op_key"], instant(row["at"])) for row in keys),
        events=tuple(Told(row["event_id"], json.loads(row["body"])) for row in events),
        cursor=f"{last[0]}.{last[1]}",
        more=more,
    )


def _operation(shop: Shop, op_key: str, at: datetime) -> Operation:
    fact = shop.now_true(op_key)
    row = shop.store.row(
        "SELECT q.offer_id, q.member_ref, q.list_fen, h.claims, b.gateway_ref FROM holds h"
        " JOIN quotes q ON q.id = h.quote_id LEFT JOIN bookings b ON b.hold_ref = h.ref"
        " WHERE h.op_key = ? OR b.op_key = ? OR b.ref = ?",
        op_key,
        op_key,
        fact.booking_ref,
    )
    if row is None:
        return Operation(at, fact)
    return Operation(
        at=at,
        fact=fact,
        gateway_ref=row["gateway_ref"],
        offer_id=row["offer_id"],
        member_ref=row["member_ref"],
        list_fen=row["list_fen"],
        claims=tuple(books.claims_of(row)),
    )


async def endpoint(shop: Shop, request: Request) -> dict[str, Any]:
    """The listing of a merchant that speaks no contract.graphql."""
    try:
        since = instant(request.query_params["since"])
    except (KeyError, ValueError):
        raise Declined("BAD_REQUEST", field="since") from None
    page = await shop.operations(since, request.query_params.get("cursor"))
    return {"data": {"operations": document(page)}}


def document(page: OperationsPage) -> dict[str, Any]:
    """A page in the contract's words."""
    return {
        "operations": [
            {
                "at": each.at.isoformat(),
                "fact": fact_document(each.fact),
                "gatewayRef": each.gateway_ref,
                "offerId": each.offer_id,
                "memberRef": each.member_ref,
                "listFen": each.list_fen,
                "claims": [{"issuer": c.issuer, "faceFen": c.face_fen} for c in each.claims],
            }
            for each in page.operations
        ],
        "events": [{"eventId": each.event_id, "body": dict(each.body)} for each in page.events],
        "cursor": page.cursor,
        "more": page.more,
    }


def fact_document(fact: Fact) -> dict[str, Any]:
    """A fact in the contract's words."""
    return {
        "opKey": fact.op_key,
        "outcome": fact.outcome.name,
        "version": fact.version,
        "bookingRef": fact.booking_ref,
        "holdRef": fact.hold_ref,
        "expiresAt": fact.expires_at.isoformat() if fact.expires_at else None,
        "reason": fact.reason,
        "artefacts": dict(fact.artefacts),
    }
