"""A stand-in merchant's business, said once for all verticals: `Shop`.

The async methods are the verbs of `gateway.ports.Partner` with the same arguments and results; a
vertical's surface calls them and words the answers its own way (see surface.py). They raise
`Declined` for a no, and `Misbehaviour` when a planted fault says so: a surface lets both pass.

Life of a booking:

    quote ──hold──▶ HELD ──confirm──▶ CONFIRMED ──fulfil──▶ FULFILLED, NO_SHOW
                     │ expires, fence      │ cancel (member, merchant)
                     ▼                     ▼
                  RELEASED, FENCED      CANCELLED

An op key acts once: its answer is kept with its effect, also when it was a no. A fence is kept
for ever and is looked at first.
"""

import asyncio
import importlib
import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from gateway.ports import (
    CancelQuote,
    Claim,
    Fact,
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
    Statement,
)
from gateway.values import business_day, fingerprint, new_id
from partners.simulators import books, terms
from partners.simulators.config import Merchant
from partners.simulators.faults import EFFECTS, Faults, Who
from partners.simulators.inventory import Inventory
from partners.simulators.store import Store
from partners.simulators.words import (
    NOW,
    Booked,
    Broken,
    Declined,
    Garbled,
    Hangup,
    instant,
    stamp,
)

T = TypeVar("T")
Artefacts = Callable[[Booked], dict[str, str]]
EventBody = Callable[[PartnerEvent], dict[str, Any]]


class Shop:
    """One merchant: its store, its faults, its verbs.

    Args:
        artefacts: What a booking gives the member, in the vertical's words.
        event_body: A webhook's body, in the vertical's words.
    """

    def __init__(
        self, config: Merchant, folder: Path, *, artefacts: Artefacts, event_body: EventBody
    ) -> None:
        self.config = config
        self.id = config.id
        self.store = Store(folder / f"{config.id}.db")
        self.inventory = Inventory(self.store, config)
        self.faults = Faults(self.store)
        self.latest: datetime | None = None  # the last business time a caller named
        self.wake = asyncio.Event()  # set when there is a webhook to send
        self._artefacts = artefacts
        self.event_body = event_body
        for number, fault in enumerate(config.faults):
            self.faults.add(fault, origin=f"{number}:{fault}")

    def act(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """An act that only this vertical knows, asked for at the control port.

        Raises:
            ValueError: It knows none of that name.
        """
        raise ValueError(f"no such act: {row.get('act')}")

    async def work(self) -> None:
        """What the merchant does in the background, until cancelled."""

    def now(self) -> datetime:
        """Business time: the caller's, else the system's."""
        named = NOW.get()
        if named is not None:
            self.latest = named
            return named
        return datetime.now(UTC)

    async def list_offers(self, cursor: str | None) -> FeedPage:
        await self._strike("list_offers", Who())
        return self.inventory.feed(cursor)

    async def live(self, offer_ids: Sequence[str], *, on: date | None) -> list[LiveOffer]:
        await self._strike("live", Who())
        now = self.now()
        with self.store.transaction():
            self._sweep(now)
            return self.inventory.live(offer_ids, on, now)

    async def quote(self, request: QuoteRequest) -> Quote:
        who = Who(request.member_ref, request.offer_id)
        return await self._perform("quote", who, lambda: self._quote(request, who))

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Sequence[Claim]
    ) -> Reservation:
        quoted = self._row("quotes", "id", quote_id)
        who = Who(quoted["member_ref"], quoted["offer_id"]) if quoted else Who()
        body = {"quote": quote_id, "claims": [[c.issuer, c.face_fen] for c in claims]}
        document = await self._perform(
            "hold",
            who,
            lambda: self._once(
                "hold", op_key, body, lambda: self._hold(quoted, op_key, ttl_seconds, claims, who)
            ),
        )
        return Reservation(op_key, document["hold_ref"], instant(document["expires_at"]))

    async def confirm(
        self, hold_ref: str, *, op_key: str, deadline: datetime, gateway_ref: str
    ) -> Fact:
        """`deadline` is no part of what is booked: the same key may come with a later one."""
        held = self._row("holds", "ref", hold_ref)
        quoted = self._row("quotes", "id", held["quote_id"]) if held else None
        who = Who(quoted["member_ref"], quoted["offer_id"]) if quoted else Who()
        body = {"hold": hold_ref, "gateway_ref": gateway_ref}
        document = await self._perform(
            "confirm",
            who,
            lambda: self._once(
                "confirm",
                op_key,
                body,
                lambda: self._confirm(
                    held=held,
                    quoted=quoted,
                    op_key=op_key,
                    deadline=deadline,
                    gateway_ref=gateway_ref,
                    who=who,
                ),
            ),
        )
        fact = terms.fact(document)
        return self._status(op_key) if fact.outcome is Outcome.IN_FLIGHT else fact

    async def status(self, op_key: str) -> Fact:
        await self._strike("status", self._who_of(op_key))
        return self._status(op_key)

    async def fence(self, op_key: str) -> Fact:
        await self._strike("fence", self._who_of(op_key))
        now = self.now()
        with self.store.transaction() as db:
            self._sweep(now)
            known = self._status(op_key)
            if known.outcome in (Outcome.CONFIRMED, Outcome.CANCELLED):
                return known
            if known.outcome is Outcome.HELD:
                self._let_go(op_key, "FENCED")
            if known.outcome is Outcome.IN_FLIGHT:
                db.execute(
                    "UPDATE bookings SET state = 'REJECTED', reason = 'FENCED',"
                    " version = version + 1 WHERE op_key = ?",
                    (op_key,),
                )
                self.inventory.give_back(self.held_for(op_key))
            db.execute("INSERT OR IGNORE INTO fences VALUES (?, ?)", (op_key, stamp(now)))
        return Fact(op_key, Outcome.FENCED)

    async def cancel_quote(self, booking_ref: str) -> CancelQuote:
        booking = self._row("bookings", "ref", booking_ref)
        return await self._perform(
            "cancel_quote", self.who(booking), lambda: self._cancel_quote(booking, booking_ref)
        )

    async def cancel(self, cancel_quote_id: str, *, op_key: str) -> Fact:
        quoted = self._row("cancel_quotes", "id", cancel_quote_id)
        booking = self._row("bookings", "ref", quoted["booking_ref"]) if quoted else None
        document = await self._perform(
            "cancel",
            self.who(booking),
            lambda: self._once(
                "cancel",
                op_key,
                {"cancel_quote": cancel_quote_id},
                lambda: self._cancel(quoted, booking, op_key),
            ),
        )
        return terms.fact(document)

    async def statement(self, day: date) -> Statement:
        await self._strike("statement", Who())
        return books.statement(self.store, self.faults, self.config, day, now=self.now())

    async def settlement_notice(self, notice: SettlementNotice, *, op_key: str) -> NoticeReceipt:
        body = {name: getattr(notice, name) for name in SettlementNotice.__slots__}
        document = await self._perform(
            "notice",
            Who(),
            lambda: self._once("notice", op_key, body, lambda: self._notice(body)),
        )
        return NoticeReceipt(document["receipt_ref"], instant(document["received_at"]))

    async def operations(self, since: datetime, cursor: str | None) -> OperationsPage:
        listing = importlib.import_module("partners.simulators.listing")
        await self._strike("operations", Who())
        page: OperationsPage = listing.operations(self, since, cursor)
        return page

    def now_true(self, op_key: str) -> Fact:
        """What is true of an op key, without the faults that `status` may have."""
        return self._status(op_key)

    def _quote(self, request: QuoteRequest, who: Who) -> Quote:
        now = self.now()
        with self.store.transaction() as db:
            self._sweep(now)
            offer = self.inventory.offer(request.offer_id)
            if request.quantity < 1:
                raise Declined("BAD_REQUEST", rule="quantity of 1 or more")
            if self.faults.take("sold_out", who, "quote"):
                raise Declined("SLOT_FULL" if offer.get("slots") else "SOLD_OUT", slot=request.slot)
            slot, starts_at = self.inventory.available(offer, request, now)
            list_fen = terms.list_price(offer, request.quantity, request.bill_fen)
            until = terms.cancel_until(offer, starts_at, now)
            quote = Quote(
                id=new_id("q"),
                list_fen=list_fen,
                expires_at=now + timedelta(seconds=self.config.quote_seconds),
                terms_hash=terms.terms_hash(offer, list_fen, until),
                cancel_until=until,
            )
            db.execute(
                "INSERT INTO quotes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    quote.id,
                    request.member_ref,
                    request.offer_id,
                    slot,
                    request.quantity,
                    request.bill_fen,
                    list_fen,
                    quote.terms_hash,
                    stamp(quote.expires_at),
                    stamp(until) if until else None,
                ),
            )
        return quote

    def _hold(
        self, quoted: sqlite3.Row | None, op_key: str, ttl: int, claims: Sequence[Claim], who: Who
    ) -> dict[str, Any]:
        now = self.now()
        if quoted is None:
            raise Declined("UNKNOWN_QUOTE")
        if stamp(now) >= quoted["expires_at"]:
            raise Declined("QUOTE_EXPIRED", expired_at=quoted["expires_at"])
        offer = self.inventory.offer(quoted["offer_id"])
        books.check_claims(self.config, claims, quoted["list_fen"])
        if (fault := self.faults.take("price_change", who, "hold")) is not None:
            new_list_fen = fault.value or quoted["list_fen"] + 100
            raise Declined("PRICE_CHANGED", new_list_fen=new_list_fen)
        if self.faults.take("sold_out", who, "hold"):
            raise Declined("SLOT_FULL" if quoted["slot"] else "SOLD_OUT", slot=quoted["slot"])
        pool, units, store = self.inventory.take(offer, quoted)
        seconds = min(ttl, self.config.hold_seconds)
        if (fault := self.faults.take("shorter_hold", who)) is not None:
            seconds = min(seconds, int(fault.value or 60))
        ref, expires_at = new_id("h"), now + timedelta(seconds=seconds)
        self.store.db.execute(
            "INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'HELD')",
            (
                ref,
                op_key,
                quoted["id"],
                json.dumps([[claim.issuer, claim.face_fen] for claim in claims]),
                pool,
                quoted["slot"],
                json.dumps(units),
                store,
                quoted["quantity"],
                stamp(expires_at),
            ),
        )
        return {"hold_ref": ref, "expires_at": stamp(expires_at)}

    def _confirm(
        self,
        *,
        held: sqlite3.Row | None,
        quoted: sqlite3.Row | None,
        op_key: str,
        deadline: datetime,
        gateway_ref: str,
        who: Who,
    ) -> dict[str, Any]:
        now = self.now()
        if held is None or quoted is None:
            raise Declined("UNKNOWN_HOLD")
        held = self._row("holds", "ref", held["ref"])  # As it is after the sweep.
        assert held is not None
        if held["state"] != "HELD":
            raise Declined("HOLD_EXPIRED", expired_at=held["expires_at"])
        if now > deadline:
            self._let_go(held["op_key"], "RELEASED")
            raise Declined("DEADLINE_PASSED", deadline=stamp(deadline))
        if (fault := self.faults.take("price_change", who, "confirm")) and fault.verb == "confirm":
            self._let_go(held["op_key"], "RELEASED")
            raise Declined("PRICE_CHANGED", new_list_fen=fault.value or quoted["list_fen"] + 100)
        pending = self.faults.take("confirm_pending", who) is not None
        ref = f"{self.id}-{business_day(now):%Y%m%d}-{self.store.next('booking'):03}"
        self.store.db.execute("UPDATE holds SET state = 'CONFIRMED' WHERE ref = ?", (held["ref"],))
        self.store.db.execute(
            "INSERT INTO bookings VALUES"
            " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?)",
            (
                ref,
                held["ref"],
                op_key,
                gateway_ref,
                self._new_code(),
                quoted["member_ref"],
                quoted["offer_id"],
                quoted["slot"],
                held["units"],
                held["store"],
                quoted["quantity"],
                quoted["list_fen"],
                held["claims"],
                quoted["cancel_until"],
                stamp(now),
                0 if pending else 1,
                "PENDING" if pending else "CONFIRMED",
            ),
        )
        return terms.fact_document(self.fact_of(self.booking(ref), op_key))

    def _cancel_quote(self, booking: sqlite3.Row | None, booking_ref: str) -> CancelQuote:
        now = self.now()
        if booking is None:
            raise Declined("UNKNOWN_BOOKING", id=booking_ref)
        until = booking["cancel_until"]
        late = booking["state"] != "CONFIRMED" or (until is not None and stamp(now) > until)
        if late and booking["state"] != "CANCELLED":
            raise Declined("CANCEL_TOO_LATE", until=until)
        quote = CancelQuote(
            id=new_id("c"),
            refundable=True,
            fee_fen=0,
            expires_at=now + timedelta(seconds=self.config.quote_seconds),
            until=instant(until) if until else None,
        )
        with self.store.transaction() as db:
            db.execute(
                "INSERT INTO cancel_quotes VALUES (?, ?, ?)",
                (quote.id, booking_ref, stamp(quote.expires_at)),
            )
        return quote

    def _cancel(
        self, quoted: sqlite3.Row | None, booking: sqlite3.Row | None, op_key: str
    ) -> dict[str, Any]:
        now = self.now()
        if quoted is None or booking is None:
            raise Declined("UNKNOWN_QUOTE")
        if stamp(now) >= quoted["expires_at"]:
            raise Declined("QUOTE_EXPIRED", expired_at=quoted["expires_at"])
        booking = self.booking(booking["ref"])
        if booking["state"] in ("FULFILLED", "NO_SHOW"):
            raise Declined("CANCEL_TOO_LATE", until=booking["cancel_until"])
        if booking["state"] == "CONFIRMED":
            self.store.db.execute(
                "UPDATE bookings SET state = 'CANCELLED', reason = 'MEMBER',"
                " version = version + 1 WHERE ref = ?",
                (booking["ref"],),
            )
            self.inventory.give_back(self.held_for(booking["op_key"]))
            books.cancelled(self.store, self.config, booking, now)
        return terms.fact_document(self.fact_of(self.booking(booking["ref"]), op_key))

    def _notice(self, body: Mapping[str, Any]) -> dict[str, Any]:
        received_at = stamp(self.now())
        receipt_ref = f"{self.id}-N{self.store.next('notice'):06}"
        self.store.db.execute(
            "INSERT INTO notices VALUES (?, ?, ?, ?)",
            (receipt_ref, body["leg_id"], json.dumps(body), received_at),
        )
        return {"receipt_ref": receipt_ref, "received_at": received_at}

    def _once(
        self, verb: str, op_key: str, body: Mapping[str, Any], effect: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Run an effect once per op key: record and effect are one transaction.

        Effects check first and write last, so that a no may be kept with what it did.
        """
        mark = fingerprint(body)
        with self.store.transaction() as db:
            self._sweep(self.now())
            if self._row("fences", "op_key", op_key) is not None:
                raise Declined("FENCED")
            kept = self._row("ops", "op_key", op_key)
            if kept is not None:
                if (kept["verb"], kept["fingerprint"]) != (verb, mark):
                    raise Declined("KEY_CONFLICT")
                answer = json.loads(kept["answer"])
            else:
                try:
                    answer = {"yes": effect()}
                except Declined as no:
                    answer = {"no": no.code, "context": no.context}
                db.execute(
                    "INSERT INTO ops VALUES (?, ?, ?, ?)", (op_key, verb, mark, json.dumps(answer))
                )
                if verb in ("hold", "confirm", "cancel"):
                    at = stamp(self.now())
                    db.execute("INSERT OR IGNORE INTO op_times VALUES (?, ?)", (op_key, at))
        if "no" in answer:
            raise Declined(answer["no"], **answer["context"])
        yes: dict[str, Any] = answer["yes"]
        return yes

    def _status(self, op_key: str) -> Fact:
        with self.store.transaction():
            self._sweep(self.now())
            kept = self._row("ops", "op_key", op_key)
            if self._row("fences", "op_key", op_key) is not None:
                return Fact(op_key, Outcome.FENCED)
            if kept is None:
                return Fact(op_key, Outcome.NOT_FOUND)
            answer = json.loads(kept["answer"])
            if "no" in answer:
                return Fact(op_key, Outcome.REJECTED, reason=answer["no"])
            if kept["verb"] == "cancel":
                return replace(terms.fact(answer["yes"]), op_key=op_key)
            return self._fact_of_key(op_key)

    def _fact_of_key(self, op_key: str) -> Fact:
        booking = self._row("bookings", "op_key", op_key)
        if booking is None:
            held = self._row("holds", "op_key", op_key)
            if held is None:  # A notice.
                return Fact(op_key, Outcome.CONFIRMED)
            if held["state"] != "CONFIRMED":
                outcome = Outcome.HELD if held["state"] == "HELD" else Outcome.RELEASED
                return Fact(
                    op_key,
                    outcome,
                    hold_ref=held["ref"],
                    expires_at=instant(held["expires_at"]),
                )
            booking = self._row("bookings", "hold_ref", held["ref"])
        assert booking is not None
        return self.fact_of(booking, op_key)

    def fact_of(self, booking: sqlite3.Row, op_key: str) -> Fact:
        outcome = {
            "PENDING": Outcome.IN_FLIGHT,
            "REJECTED": Outcome.REJECTED,
            "CANCELLED": Outcome.CANCELLED,
        }.get(booking["state"], Outcome.CONFIRMED)
        given = {}
        if outcome in (Outcome.CONFIRMED, Outcome.CANCELLED):
            given = self._artefacts(
                Booked(
                    booking["ref"],
                    booking["code"],
                    self.inventory.doc(booking["offer_id"]),
                    booking["slot"],
                    tuple(json.loads(booking["units"])),
                    booking["store"],
                    booking["quantity"],
                )
            )
        return Fact(
            op_key,
            outcome,
            version=booking["version"],
            booking_ref=booking["ref"],
            hold_ref=booking["hold_ref"],
            reason=booking["reason"],
            artefacts=given,
        )

    def _let_go(self, hold_key: str, state: str) -> None:
        held = self._row("holds", "op_key", hold_key)
        if held is not None and held["state"] == "HELD":
            self.store.db.execute("UPDATE holds SET state = ? WHERE ref = ?", (state, held["ref"]))
            self.inventory.give_back(held)

    def _sweep(self, now: datetime) -> None:
        """Let go what was held too long."""
        due = self.store.rows(
            "SELECT op_key FROM holds WHERE state = 'HELD' AND expires_at <= ?", stamp(now)
        )
        for row in due:
            self._let_go(row["op_key"], "RELEASED")

    async def _strike(self, verb: str, who: Who) -> None:
        """What a planted fault does before a verb begins."""
        if (fault := self.faults.take("latency", who, verb)) is not None:
            await asyncio.sleep(float(fault.value or 1))
        if self.faults.take("connection_refused", who, verb):
            raise Hangup
        fault = self.faults.find("error_5xx", who, verb)
        if (
            fault is not None
            and fault.value == "before"
            and self.faults.take("error_5xx", who, verb)
        ):
            raise Broken

    async def _perform(self, verb: str, who: Who, effect: Callable[[], T]) -> T:
        """Run a verb with the faults planted for it; its effect is committed when they strike."""
        await self._strike(verb, who)
        if verb in EFFECTS and self.faults.take(f"{verb}_times_out_before_effect", who):
            raise Hangup
        if self.faults.take("error_in_200", who, verb):
            no = Declined("DECLINED")
            no.in_200 = True
            raise no
        done = effect()
        if verb in EFFECTS and self.faults.take(f"{verb}_times_out_after_effect", who):
            raise Hangup
        if self.faults.take("error_5xx", who, verb):
            raise Broken
        if self.faults.take("malformed_body", who, verb):
            raise Garbled
        return done

    def _row(self, table: str, column: str, value: str) -> sqlite3.Row | None:
        return self.store.row(f"SELECT * FROM {table} WHERE {column} = ?", value)  # noqa: S608 - our own names

    def booking(self, ref: str) -> sqlite3.Row:
        for column in ("ref", "gateway_ref", "code"):
            rows = self.store.rows(
                f"SELECT * FROM bookings WHERE {column} = ? ORDER BY confirmed_at DESC",  # noqa: S608 - one of these three
                ref,
            )
            if rows:
                return rows[0]
        raise Declined("UNKNOWN_BOOKING", id=ref)

    def held_for(self, confirm_key: str) -> sqlite3.Row:
        held = self.store.row(
            "SELECT h.* FROM holds h JOIN bookings b ON b.hold_ref = h.ref WHERE b.op_key = ?",
            confirm_key,
        )
        assert held is not None
        return held

    def who(self, booking: sqlite3.Row | None) -> Who:
        return Who(booking["member_ref"], booking["offer_id"]) if booking else Who()

    def _who_of(self, op_key: str) -> Who:
        row = self.store.row(
            "SELECT q.member_ref, q.offer_id FROM quotes q JOIN holds h ON h.quote_id = q.id"
            " LEFT JOIN bookings b ON b.hold_ref = h.ref WHERE h.op_key = ? OR b.op_key = ?",
            op_key,
            op_key,
        )
        return Who(row["member_ref"], row["offer_id"]) if row else Who()

    def _new_code(self) -> str:
        """A code of 6 digits that no booking has."""
        while True:
            code = f"{secrets.randbelow(1_000_000):06}"
            if self._row("bookings", "code", code) is None:
                return code
