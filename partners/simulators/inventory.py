"""What a stand-in sells and has left: the change feed, stock by store, places by slot.

What is taken is looked at and taken in one writing transaction: the last one is sold once.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from gateway.ports import FeedOffer, FeedPage, LiveOffer, QuoteRequest, Slot
from partners.simulators import slots, terms
from partners.simulators.config import Merchant
from partners.simulators.store import Store
from partners.simulators.words import Declined

PAGE = 50


class Inventory:
    """The offers and stock of one merchant."""

    def __init__(self, store: Store, config: Merchant) -> None:
        self.store = store
        self.config = config
        self._seed()

    def feed(self, cursor: str | None) -> FeedPage:
        """A page of the change feed."""
        after = int(cursor) if cursor and cursor.isdecimal() else 0
        rows = self.store.rows(
            "SELECT * FROM offers WHERE seq > ? ORDER BY seq LIMIT ?", after, PAGE + 1
        )
        page = rows[:PAGE]
        return FeedPage(
            tuple(terms.feed_offer(row) for row in page),
            cursor=str(page[-1]["seq"] if page else after),
            more=len(rows) > PAGE,
        )

    def live(self, offer_ids: Sequence[str], on: date | None, now: datetime) -> list[LiveOffer]:
        """Prices, stock and slots of those that are sold."""
        found = (self._find_offer(offer_id) for offer_id in offer_ids[:100])
        return [self._live(offer, on, now) for offer in found if offer is not None]

    def change_offer(self, offer_id: str, change: Mapping[str, Any] | None) -> FeedOffer:
        """Change, add or (None) delete an offer; the feed tells it."""
        with self.store.transaction() as db:
            row = self.store.row("SELECT * FROM offers WHERE id = ?", offer_id)
            doc = {**(json.loads(row["doc"]) if row else {}), "id": offer_id, **(change or {})}
            db.execute(
                "INSERT OR REPLACE INTO offers VALUES (?, ?, ?, ?, ?)",
                (
                    offer_id,
                    (row["version"] if row else 0) + 1,
                    self.store.next("feed"),
                    change is None,
                    json.dumps(doc, ensure_ascii=False),
                ),
            )
            changed = self.store.row("SELECT * FROM offers WHERE id = ?", offer_id)
        assert changed is not None
        return terms.feed_offer(changed)

    def offer(self, offer_id: str) -> dict[str, Any]:
        offer = self._find_offer(offer_id)
        if offer is None:
            gone = self._row(offer_id) is not None
            raise Declined("OFFER_GONE" if gone else "UNKNOWN_OFFER", id=offer_id)
        return offer

    def doc(self, offer_id: str) -> dict[str, Any]:
        row = self._row(offer_id)
        assert row is not None
        found: dict[str, Any] = json.loads(row["doc"])
        return found

    def available(
        self, offer: Mapping[str, Any], request: QuoteRequest, now: datetime
    ) -> tuple[str | None, datetime | None]:
        """Check that there is something to sell; a slotted offer without slot takes the next."""
        if not offer.get("slots"):
            left, stores = self._stock(offer["id"], request.slot)
            if left is not None and left < request.quantity:
                raise Declined("SOLD_OUT", stores=stores)
            return request.slot, None
        if request.slot is None:
            room = self._room(offer, request.quantity, now)
            if room is None:
                raise Declined("SLOT_FULL", slot=None, left=0)
            return room.id, room.starts_at
        asked = slots.find(offer, self.config.slots, request.slot)
        if asked is None or asked.starts_at <= now:
            room = self._room(offer, request.quantity, now)
            raise Declined("SLOT_FULL", slot=request.slot, left=0, **_alternative(room))
        if (full := self._full(offer, asked.id, request.quantity)) is not None:
            left, room = self._left(offer, full), self._room(offer, request.quantity, now)
            raise Declined("SLOT_FULL", slot=full.id, left=left, **_alternative(room))
        return asked.id, asked.starts_at

    def take(
        self, offer: Mapping[str, Any], quoted: sqlite3.Row
    ) -> tuple[str | None, list[int], str | None]:
        """Take places or stock by a conditional update: the last one is sold once."""
        quantity, db = quoted["quantity"], self.store.db
        if offer.get("slots"):
            return slots.pool_of(offer), self._take_places(offer, quoted["slot"], quantity), None
        left, stores = self._stock(offer["id"], quoted["slot"])
        if left is None:
            return None, [], quoted["slot"]
        store = quoted["slot"] or (stores[0] if stores else "")
        taken = db.execute(
            "UPDATE stock SET left_ = left_ - ? WHERE offer_id = ? AND store = ? AND left_ >= ?",
            (quantity, offer["id"], store, quantity),
        )
        if taken.rowcount == 0:
            raise Declined("SOLD_OUT", stores=stores)
        return None, [], store

    def give_back(self, held: sqlite3.Row) -> None:
        """Give back what a hold had taken."""
        if held["pool"] is not None:
            offer = self.doc(self._quote_of(held)["offer_id"])
            openings, places = slots.span(offer, self.config.slots, held["slot"], held["quantity"])
            self.store.db.executemany(
                "UPDATE slots SET left_ = left_ + ? WHERE pool = ? AND slot = ?",
                [(places, held["pool"], opening.id) for opening in openings],
            )
        elif held["store"] is not None:
            self.store.db.execute(
                "UPDATE stock SET left_ = left_ + ? WHERE offer_id = ? AND store = ?",
                (held["quantity"], self._quote_of(held)["offer_id"], held["store"]),
            )

    def _take_places(self, offer: Mapping[str, Any], slot: str, quantity: int) -> list[int]:
        """Take all the places of a booking or none; their numbers, where there is one slot."""
        openings, places = slots.span(offer, self.config.slots, slot, quantity)
        if not openings:
            raise Declined("SLOT_FULL", slot=slot, left=0)
        if (full := self._full(offer, slot, quantity)) is not None:
            raise Declined("SLOT_FULL", slot=full.id, left=self._left(offer, full))
        pool, db = slots.pool_of(offer), self.store.db
        units = self._free_units(pool, openings[0], places) if len(openings) == 1 else []
        for opening in openings:
            db.execute(
                "INSERT OR IGNORE INTO slots VALUES (?, ?, ?)", (pool, opening.id, opening.capacity)
            )
            db.execute(
                "UPDATE slots SET left_ = left_ - ? WHERE pool = ? AND slot = ?",
                (places, pool, opening.id),
            )
        return units

    def _full(self, offer: Mapping[str, Any], slot: str, quantity: int) -> slots.Opening | None:
        """The first slot of a booking that has not enough places; None: there is room."""
        openings, places = slots.span(offer, self.config.slots, slot, quantity)
        return next((one for one in openings if self._left(offer, one) < places), None)

    def _room(self, offer: Mapping[str, Any], quantity: int, now: datetime) -> slots.Opening | None:
        """The next slot with room for so many."""
        coming = slots.coming(offer, self.config.slots, now)
        return next((o for o in coming if self._full(offer, o.id, quantity) is None), None)

    def _least(
        self, offer: Mapping[str, Any], opening: slots.Opening, known: Mapping[str, int]
    ) -> int:
        """The places left for one piece that begins with this slot."""
        if "nights" not in offer:
            return known.get(opening.id, opening.capacity)
        nights, _ = slots.span(offer, self.config.slots, opening.id, 1)
        return min(known.get(night.id, night.capacity) for night in nights)

    def _quote_of(self, held: sqlite3.Row) -> sqlite3.Row:
        quoted = self.store.row("SELECT * FROM quotes WHERE id = ?", held["quote_id"])
        assert quoted is not None
        return quoted

    def _free_units(self, pool: str, opening: slots.Opening, quantity: int) -> list[int]:
        rows = self.store.rows(
            "SELECT h.units FROM holds h LEFT JOIN bookings b ON b.hold_ref = h.ref"
            " WHERE h.pool = ? AND h.slot = ? AND h.state IN ('HELD', 'CONFIRMED')"
            " AND (b.state IS NULL OR b.state NOT IN ('CANCELLED', 'REJECTED'))",
            pool,
            opening.id,
        )
        used = {unit for row in rows for unit in json.loads(row["units"])}
        free = (unit for unit in range(1, opening.capacity + 1) if unit not in used)
        return [unit for unit, _ in zip(free, range(quantity), strict=False)]

    def _stock(self, offer_id: str, store: str | None) -> tuple[int | None, list[str]]:
        """What is left (None: no limit) and the stores that have some, most first."""
        rows = self.store.rows(
            "SELECT store, left_ FROM stock WHERE offer_id = ? ORDER BY left_ DESC, store", offer_id
        )
        if not rows:
            return None, []
        stores = [row["store"] for row in rows if row["left_"] > 0 and row["store"]]
        if store:
            return sum(row["left_"] for row in rows if row["store"] == store), stores
        return max(row["left_"] for row in rows), stores

    def _left(self, offer: Mapping[str, Any], opening: slots.Opening) -> int:
        row = self.store.row(
            "SELECT left_ FROM slots WHERE pool = ? AND slot = ?", slots.pool_of(offer), opening.id
        )
        return int(row["left_"]) if row else opening.capacity

    def _live(self, offer: dict[str, Any], on: date | None, now: datetime) -> LiveOffer:
        if not offer.get("slots"):
            return LiveOffer(offer["id"], offer["cash_fen"], self._stock(offer["id"], None)[0])
        rules = self.config.slots
        if on is None:
            found = slots.coming(offer, rules, now)
        else:
            found = [o for o in slots.on_day(offer, rules, on) if o.starts_at > now]
        hidden = self.config.hidden_slots.get(offer["id"], ())
        touched = self.store.rows("SELECT * FROM slots WHERE pool = ?", slots.pool_of(offer))
        known = {row["slot"]: row["left_"] for row in touched}
        shown = tuple(
            Slot(opening.id, opening.starts_at.astimezone(UTC), self._least(offer, opening, known))
            for opening in found
            if f"{opening.starts_at:%H:%M}" not in hidden
        )
        return LiveOffer(offer["id"], offer["cash_fen"], sum(s.left for s in shown), shown)

    def _find_offer(self, offer_id: str) -> dict[str, Any] | None:
        row = self._row(offer_id)
        return json.loads(row["doc"]) if row is not None and not row["deleted"] else None

    def _seed(self) -> None:
        """Load what the configuration sells, once in the file's life."""
        with self.store.transaction() as db:
            for offer in self.config.offers:
                if self._row(str(offer["id"])) is None:
                    self.change_offer(str(offer["id"]), offer)
            stock = [(offer_id, "", left) for offer_id, left in self.config.stock.items()]
            for shop in self.config.stores:
                stock += [(offer_id, shop["id"], left) for offer_id, left in shop["stock"].items()]
            db.executemany("INSERT OR IGNORE INTO stock VALUES (?, ?, ?)", stock)

    def _row(self, offer_id: str) -> sqlite3.Row | None:
        return self.store.row("SELECT * FROM offers WHERE id = ?", offer_id)


def _alternative(room: slots.Opening | None) -> dict[str, str]:
    return {"alternative": room.id} if room else {}
