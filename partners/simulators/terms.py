"""Prices, limits and the shapes of stored documents. Pure."""

import json
import re
import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from gateway.ports import Fact, FeedOffer, Outcome
from gateway.values import fingerprint
from partners.simulators.words import Declined, instant

PLAIN = ("id", "merchant", "name_zh", "name_en", "kind", "category", "cash_fen", "seed")


def feed_offer(row: sqlite3.Row) -> FeedOffer:
    """One row of the change feed, from the store."""
    if row["deleted"]:
        return FeedOffer(row["id"], row["version"], deleted=True)
    doc = json.loads(row["doc"])
    return FeedOffer(
        id=doc["id"],
        version=row["version"],
        name_zh=doc.get("name_zh", ""),
        name_en=doc.get("name_en", ""),
        kind=doc.get("kind", ""),
        category=doc.get("category", ""),
        cash_fen=doc["cash_fen"],
        attributes={name: value for name, value in doc.items() if name not in PLAIN},
    )


def list_price(offer: Mapping[str, Any], quantity: int, bill_fen: int | None) -> int:
    """The list price of a request: the bill to be offset, or quantity × price."""
    if bill_fen is None:
        return int(offer["cash_fen"]) * quantity
    least = offer.get("variable_amount", {}).get("min_fen", 1)
    if bill_fen < least:
        raise Declined("BAD_REQUEST", rule=f"bill of {least} fen or more")
    return bill_fen


def cancel_until(
    offer: Mapping[str, Any], starts_at: datetime | None, now: datetime
) -> datetime | None:
    """Until when the offer's published guarantee lets a member cancel; None: until use."""
    rule = str(offer.get("guarantee", {}).get("cancel", ""))
    if starts_at is not None and (found := re.search(r"until (\d+) h before", rule)):
        return starts_at - timedelta(hours=int(found[1]))
    if starts_at is not None:
        return starts_at
    if found := re.search(r"(\d+) days", rule):
        return now + timedelta(days=int(found[1]))
    return None


def terms_hash(offer: Mapping[str, Any], list_fen: int, until: datetime | None) -> str:
    """What was agreed on, as a hash: price, guarantee and the free limit."""
    return fingerprint(
        {
            "offer": offer["id"],
            "list_fen": list_fen,
            "guarantee": offer.get("guarantee"),
            "cancel_until": until,
        }
    )


def fact_document(fact: Fact) -> dict[str, Any]:
    """A fact as the store keeps it."""
    return {
        "op_key": fact.op_key,
        "outcome": fact.outcome.value,
        "version": fact.version,
        "booking_ref": fact.booking_ref,
        "hold_ref": fact.hold_ref,
        "expires_at": fact.expires_at.isoformat() if fact.expires_at else None,
        "reason": fact.reason,
        "artefacts": dict(fact.artefacts),
    }


def fact(document: Mapping[str, Any]) -> Fact:
    """A fact, read back."""
    expires_at = document["expires_at"]
    return Fact(
        op_key=document["op_key"],
        outcome=Outcome(document["outcome"]),
        version=document["version"],
        booking_ref=document["booking_ref"],
        hold_ref=document["hold_ref"],
        expires_at=instant(expires_at) if expires_at else None,
        reason=document["reason"],
        artefacts=document["artefacts"],
    )
