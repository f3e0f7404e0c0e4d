"""What a stand-in does by itself: it serves a booking, cancels one, decides one left pending.

Each tells the gateway by a webhook; said again, it only tells again.
"""

import json
from dataclasses import replace
from datetime import datetime

from gateway.ports import EventKind, Fact, PartnerEvent
from gateway.values import new_id
from partners.simulators import books
from partners.simulators.core import Shop
from partners.simulators.words import Declined, stamp


def fulfil(
    shop: Shop,
    ref: str,
    *,
    now: datetime,
    state: str = "FULFILLED",
    final_fare_fen: int | None = None,
    notify: bool = True,
) -> Fact:
    """Serve a booking, or (`NO_SHOW`) keep it as used because nobody came.

    Args:
        ref: The booking's ref, its code or the gateway's ref.
        final_fare_fen: What an estimate came to; above the quote it counts as the quote.

    Raises:
        Declined: There is no such booking, or it has ended otherwise.
    """
    with shop.store.transaction() as db:
        booking = shop.booking(ref)
        if booking["state"] == "CONFIRMED":
            fare = booking["list_fen"] if final_fare_fen is None else final_fare_fen
            books.fulfilled(shop.store, shop.config, booking, fare, now)
            db.execute(
                "UPDATE bookings SET state = ?, final_fare_fen = ?, version = version + 1"
                " WHERE ref = ?",
                (state, final_fare_fen, booking["ref"]),
            )
        elif booking["state"] != state:
            raise Declined("BAD_REQUEST", rule=f"the booking is {booking['state']}")
        kind = EventKind.FULFILLED if state == "FULFILLED" else EventKind.NO_SHOW
        return _tell(shop, kind, booking["ref"], now, notify)


def cancel(
    shop: Shop, ref: str, *, now: datetime, reason: str = "MERCHANT", notify: bool = True
) -> Fact:
    """Cancel a booking by the merchant: its own fault, also after it was served."""
    with shop.store.transaction() as db:
        booking = shop.booking(ref)
        if booking["state"] in ("CONFIRMED", "FULFILLED", "NO_SHOW"):
            books.cancelled(shop.store, shop.config, booking, now)
            if booking["state"] == "CONFIRMED":
                shop.inventory.give_back(shop.held_for(booking["op_key"]))
            db.execute(
                "UPDATE bookings SET state = 'CANCELLED', reason = ?, version = version + 1"
                " WHERE ref = ?",
                (reason, booking["ref"]),
            )
        return _tell(shop, EventKind.CANCELLED, booking["ref"], now, notify)


def decide(shop: Shop, ref: str, *, confirmed: bool, now: datetime, notify: bool = True) -> Fact:
    """Decide a confirm that was left pending."""
    with shop.store.transaction() as db:
        booking = shop.booking(ref)
        if booking["state"] == "PENDING":
            db.execute(
                "UPDATE bookings SET state = ?, version = version + 1 WHERE ref = ?",
                ("CONFIRMED" if confirmed else "REJECTED", booking["ref"]),
            )
            if not confirmed:
                shop.inventory.give_back(shop.held_for(booking["op_key"]))
        kind = EventKind.CONFIRMED if confirmed else EventKind.REJECTED
        return _tell(shop, kind, booking["ref"], now, notify)


def _tell(shop: Shop, kind: EventKind, ref: str, now: datetime, notify: bool) -> Fact:
    """Put a webhook about a booking's present state into the outbox."""
    booking = shop.booking(ref)
    fact = shop.fact_of(booking, booking["op_key"])
    if not notify or shop.config.webhook is None:
        return fact
    event = PartnerEvent(
        event_id=new_id("ev"),
        kind=kind,
        op_key=booking["op_key"],
        version=booking["version"],
        occurred_at=now,
        booking_ref=ref,
        final_fare_fen=booking["final_fare_fen"],
        reason=booking["reason"],
        artefacts=fact.artefacts,
    )
    sent, who = [event], shop.who(booking)
    if shop.faults.take("duplicate_webhook", who):
        sent.append(event)
    if kind is EventKind.CANCELLED and shop.faults.take("booking_cancelled_twice", who):
        sent.append(replace(event, event_id=new_id("ev")))
    for one in sent:
        body = json.dumps(shop.event_body(one), ensure_ascii=False)
        shop.store.db.execute(
            "INSERT INTO events (event_id, body, due) VALUES (?, ?, 0)", (one.event_id, body)
        )
        shop.store.db.execute(
            "INSERT OR IGNORE INTO event_times VALUES (?, ?)", (one.event_id, stamp(now))
        )
    shop.wake.set()
    return fact
