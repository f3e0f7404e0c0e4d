"""One merchant's system as it truly is: what it holds, confirmed, cancelled, fenced, by op key.

It keeps the port's promises, but for the lies a seed lets it tell; who lied about which redemption
is written down. The network before it is in `network`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from gateway.errors import PartnerRejected
from gateway.ports import (
    CancelQuote,
    CancelTooLate,
    EventKind,
    Fact,
    HoldExpired,
    NoticeReceipt,
    Outcome,
    PriceChanged,
    Quote,
    QuoteExpired,
    QuoteRequest,
    Reservation,
    SettlementNotice,
    SoldOut,
)

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass
class Hold:
    """A reservation."""

    ref: str
    quote_id: str
    expires_at: datetime
    state: str = "HELD"  # HELD, USED, FENCED; expired by time

    @property
    def redemption(self) -> str:
        return self.ref.removeprefix("h/").split(":", 1)[0]


@dataclass
class Booking:
    """A reservation that was taken."""

    ref: str
    key: str
    list_fen: int
    state: str = "CONFIRMED"  # CONFIRMED, FULFILLED, CANCELLED
    version: int = 1
    fare_fen: int | None = None

    @property
    def redemption(self) -> str:
        return self.key.split(":", 1)[0]


@dataclass
class Truth:
    """What the merchant knows."""

    quotes: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    bookings: dict[str, Booking] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)  # by op key, as first settled
    cancel_quotes: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    notices: dict[str, str] = field(default_factory=dict)
    lies: dict[str, set[str]] = field(default_factory=dict)  # by redemption

    def booking_of(self, confirm_key: str) -> Booking | None:
        """The booking made under a confirm's op key."""
        return self.bookings.get(f"b/{confirm_key}")


class Merchant:
    """The merchant's system; every method is one request as it arrives."""

    def __init__(self, world: "World", code: str, prices: Mapping[str, int]) -> None:
        self.world = world
        self.code = code
        self.prices = dict(prices)
        self.truth = Truth()
        self._number = 0

    def now(self) -> datetime:
        return self.world.business_now()

    def _next(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}{self.code}{self._number}"

    def _lie(self, key: str, kind: str) -> None:
        self.truth.lies.setdefault(key.split(":", 1)[0], set()).add(kind)
        self.world.saw(f"lie {kind}", key)

    # -- before the pivot ---------------------------------------------------------------------

    def quote(self, request: QuoteRequest) -> Quote:
        if self.world.strikes("refuse_quote"):
            raise SoldOut(offer=request.offer_id)
        list_fen = self.prices[request.offer_id] * request.quantity
        made = self._next("pq")
        until = self.now() + timedelta(minutes=5)
        self.truth.quotes[made] = (list_fen, until)
        return Quote(made, list_fen, until, "terms")

    def hold(self, quote_id: str, op_key: str, ttl_seconds: int) -> Reservation:
        known = self.truth.facts.get(op_key)
        if known is None:
            known = self._decide_hold(quote_id, op_key, ttl_seconds)
        if known.outcome is not Outcome.HELD:
            raise {"SOLD_OUT": SoldOut, "PRICE": PriceChanged, "LATE": QuoteExpired}.get(
                known.reason or "", PartnerRejected
            )(merchant=self.code, offer=quote_id, reason=known.reason)
        assert known.hold_ref, "a hold has a reference"
        return Reservation(op_key, known.hold_ref, self.truth.holds[known.hold_ref].expires_at)

    def _decide_hold(self, quote_id: str, op_key: str, ttl_seconds: int) -> Fact:
        world, reason = self.world, None
        quoted = self.truth.quotes.get(quote_id)
        if quoted is None or self.now() >= quoted[1]:
            reason = "LATE"
        elif world.strikes("refuse_hold"):
            reason = "SOLD_OUT"
        elif world.strikes("price_changed"):
            reason = "PRICE"
        if reason:
            made = Fact(op_key, Outcome.REJECTED, reason=reason)
        else:
            if world.strikes("short_hold"):
                ttl_seconds = world.faults.rng.choice((1, 10, 70, 130, 400))
            until = self.now() + timedelta(seconds=ttl_seconds)
            ref = f"h/{op_key}"
            self.truth.holds[ref] = Hold(ref, quote_id, until)
            made = Fact(op_key, Outcome.HELD, hold_ref=ref, expires_at=until)
        self.truth.facts[op_key] = made
        world.saw(f"partner hold {made.outcome}", op_key)
        return made

    # -- the pivot ----------------------------------------------------------------------------

    def confirm(self, hold_ref: str, op_key: str, deadline: datetime) -> Fact:
        known = self.truth.facts.get(op_key)
        if known is None:
            known = self._decide_confirm(hold_ref, op_key, deadline)
        fact = self._current(known)
        if fact.outcome in (Outcome.CONFIRMED, Outcome.IN_FLIGHT):
            return fact
        if fact.outcome is Outcome.CANCELLED:
            return fact
        raise PartnerRejected(merchant=self.code, reason=fact.reason or str(fact.outcome))

    def _decide_confirm(self, hold_ref: str, op_key: str, deadline: datetime) -> Fact:
        world, hold = self.world, self.truth.holds.get(hold_ref)
        late = self.now() >= deadline
        if late and hold is not None and hold.state == "HELD" and world.strikes("confirm_late"):
            self._lie(op_key, "confirm_late")
            return self.book(op_key, hold)
        gone = hold is None or hold.state != "HELD" or self.now() >= hold.expires_at
        if gone or late:
            self._refuse(op_key, "HOLD_EXPIRED")
            raise HoldExpired(expired_at=deadline)
        assert hold is not None
        if world.strikes("refuse_confirm"):
            return self._refuse(op_key, "FULL")
        if world.strikes("pending"):
            fact = self.truth.facts[op_key] = Fact(op_key, Outcome.IN_FLIGHT)
            delay = world.faults.rng.choice((0.5, 5.0, 20.0, 50.0, 100.0))
            world.loop.call_later(delay, self._decide_later, hold, op_key, deadline)
            return fact
        return self.book(op_key, hold)

    def _refuse(self, op_key: str, reason: str) -> Fact:
        fact = self.truth.facts[op_key] = Fact(op_key, Outcome.REJECTED, 1, reason=reason)
        self.world.saw("partner confirm refused", op_key)
        if self.world.strikes("change_mind"):
            hold = self.truth.holds.get(op_key.replace(":confirm:", ":hold:").join(("h/", "")))
            if hold is not None:
                delay = self.world.faults.rng.uniform(1, 400)
                self.world.loop.call_later(delay, self._change_mind, op_key, hold)
        return fact

    def _change_mind(self, op_key: str, hold: Hold) -> None:
        if self.truth.booking_of(op_key) is None:
            self._lie(op_key, "change_mind")
            self.book(op_key, hold, version=2)
            self.tell(EventKind.CONFIRMED, op_key, 2)

    def _decide_later(self, hold: Hold, op_key: str, deadline: datetime) -> None:
        if self.truth.facts[op_key].outcome is not Outcome.IN_FLIGHT:
            return
        late = self.now() >= deadline
        if late and self.world.strikes("confirm_late"):
            self._lie(op_key, "confirm_late")
        elif late or hold.state != "HELD" or self.world.strikes("refuse_confirm"):
            self._refuse(op_key, "DECIDED")
            self.tell(EventKind.REJECTED, op_key, 1)
            return
        self.book(op_key, hold)
        self.tell(EventKind.CONFIRMED, op_key, 1)

    def book(self, op_key: str, hold: Hold, version: int = 1) -> Fact:
        """Take the reservation; what happens to the booking later is arranged now."""
        world, rng = self.world, self.world.faults.rng
        hold.state = "USED"
        quoted = self.truth.quotes.get(hold.quote_id)
        booking = Booking(f"b/{op_key}", op_key, quoted[0] if quoted else 0, version=version)
        self.truth.bookings[booking.ref] = booking
        code = {"code": self._next("C")}
        fact = Fact(op_key, Outcome.CONFIRMED, version, booking.ref, artefacts=code)
        self.truth.facts[op_key] = fact
        world.saw("partner confirmed", op_key)
        if rng.random() < 0.3:
            self.tell(EventKind.CONFIRMED, op_key, version)
        if world.strikes("contradict"):
            self._lie(op_key, "contradict")
            self.tell(EventKind.REJECTED, op_key, version)
        if world.strikes("old_news"):
            self._lie(op_key, "old_news")
            self.tell(EventKind.CANCELLED, op_key, version - 1)
        for kind in ("consume", "no_show", "partner_cancels"):
            if world.strikes(kind):
                world.loop.call_later(rng.choice((0.01, 1.0, 30.0, 300.0)), self.act, booking, kind)
        return fact

    def act(self, booking: Booking, kind: str) -> None:
        """The customer comes or does not, or the merchant cancels."""
        if booking.state != "CONFIRMED":
            return
        booking.version += 1
        booking.state = "CANCELLED" if kind == "partner_cancels" else "FULFILLED"
        rng = self.world.faults.rng
        if kind == "consume" and rng.random() < 0.6:
            booking.fare_fen = rng.randrange(booking.list_fen * 2 // 3 + 1) * 2
        self.world.saw(f"partner {kind}", booking.key)
        event = {"consume": EventKind.FULFILLED, "no_show": EventKind.NO_SHOW}
        self.tell(
            event.get(kind, EventKind.CANCELLED), booking.key, booking.version, booking.fare_fen
        )

    # -- asking and undoing -------------------------------------------------------------------

    def _current(self, fact: Fact) -> Fact:
        """A settled op key as it is told now: with the version of its booking."""
        booking = self.truth.booking_of(fact.op_key)
        if booking is None:
            return fact
        gone = booking.state == "CANCELLED"
        outcome = Outcome.CANCELLED if gone else Outcome.CONFIRMED
        first = self.truth.facts[fact.op_key]
        return Fact(fact.op_key, outcome, booking.version, booking.ref, artefacts=first.artefacts)

    def status(self, op_key: str) -> Fact:
        known = self.truth.facts.get(op_key)
        if known is None:
            return Fact(op_key, Outcome.NOT_FOUND)
        if self.world.strikes("stale_status"):
            return Fact(op_key, Outcome.NOT_FOUND)
        if self.world.strikes("busy_status"):
            return Fact(op_key, Outcome.IN_FLIGHT)
        if known.outcome is Outcome.HELD and known.hold_ref:
            hold = self.truth.holds[known.hold_ref]
            if hold.state == "USED":
                return self._as_booked(op_key)
            if hold.state == "HELD" and self.now() >= hold.expires_at:
                return Fact(op_key, Outcome.RELEASED, hold_ref=hold.ref)
        return self._current(known)

    def _as_booked(self, hold_key: str) -> Fact:
        """A hold that was taken: what is told of it is its booking."""
        confirm_key = hold_key.replace(":hold:", ":confirm:")
        fact = self._current(self.truth.facts[confirm_key])
        return Fact(
            hold_key, fact.outcome, fact.version, fact.booking_ref, artefacts=fact.artefacts
        )

    def fence(self, op_key: str) -> Fact:
        known = self.truth.facts.get(op_key)
        world, made = self.world, Fact(op_key, Outcome.FENCED)
        if known is not None and known.outcome is Outcome.HELD and known.hold_ref:
            hold = self.truth.holds[known.hold_ref]
            if hold.state == "USED":
                return self._as_booked(op_key)
            hold.state = "FENCED"
            pending = op_key.replace(":hold:", ":confirm:")
            if (asked := self.truth.facts.get(pending)) and asked.outcome is Outcome.IN_FLIGHT:
                self.truth.facts[pending] = Fact(pending, Outcome.REJECTED, 1, reason="FENCED")
        elif known is not None and known.outcome not in (Outcome.IN_FLIGHT, Outcome.FENCED):
            return self._current(known)
        elif ":confirm:" in op_key and world.strikes("ignore_fence"):
            self._lie(op_key, "ignore_fence")
            if (known is None or known.outcome is Outcome.IN_FLIGHT) and self._says_no_first():
                self._refuse(op_key, "FENCED")
                self.tell(EventKind.REJECTED, op_key, 1)
            hold = self.truth.holds.get("h/" + op_key.replace(":confirm:", ":hold:"))
            if hold is not None:
                world.loop.call_later(world.faults.rng.uniform(1, 200), self._break, op_key, hold)
            return made
        self.truth.facts[op_key] = made
        world.saw("partner fenced", op_key)
        return made

    def _says_no_first(self) -> bool:
        """Whether a no is under way before the acknowledgement of a fence that will be broken."""
        return self.world.faults.rng.random() < 0.5

    def _break(self, op_key: str, hold: Hold) -> None:
        if self.truth.booking_of(op_key) is None:
            known = self.truth.facts.get(op_key)
            version = known.version + 1 if known else 1  # It may have refused before that.
            self.book(op_key, hold, version)
            self.tell(EventKind.CONFIRMED, op_key, version)

    def cancel_quote(self, booking_ref: str) -> CancelQuote:
        booking = self.truth.bookings.get(booking_ref)
        if booking is None or booking.state != "CONFIRMED":
            raise CancelTooLate(until=self.now())
        made, until = self._next("cq"), self.now() + timedelta(minutes=5)
        self.truth.cancel_quotes[made] = (booking_ref, until)
        return CancelQuote(made, self.world.faults.rng.random() < 0.95, 0, until)

    def cancel(self, cancel_quote_id: str, op_key: str) -> Fact:
        known = self.truth.facts.get(op_key)
        if known is None:
            ref, until = self.truth.cancel_quotes[cancel_quote_id]
            booking = self.truth.bookings[ref]
            if self.now() >= until:
                known = Fact(op_key, Outcome.REJECTED, reason="QUOTE_EXPIRED")
            elif booking.state == "FULFILLED" or self.world.strikes("refuse_cancel"):
                known = Fact(op_key, Outcome.REJECTED, reason="CANCEL_TOO_LATE")
            else:
                if booking.state == "CONFIRMED":
                    booking.state, booking.version = "CANCELLED", booking.version + 1
                known = Fact(op_key, Outcome.CANCELLED, booking.version, booking.ref)
            self.truth.facts[op_key] = known
            self.world.saw(f"partner cancel {known.outcome}", op_key)
        if known.outcome is Outcome.REJECTED:
            raise CancelTooLate(until=self.now())
        return known

    def settlement_notice(self, notice: SettlementNotice, op_key: str) -> NoticeReceipt:
        ref = self.truth.notices.setdefault(op_key, self._next("r"))
        return NoticeReceipt(ref, self.now())

    # -- webhooks -----------------------------------------------------------------------------

    def tell(self, kind: EventKind, op_key: str, version: int, fare_fen: int | None = None) -> None:
        """Send a webhook, and again until it is taken; perhaps twice."""
        body = {"id": self._next("evt"), "kind": str(kind), "op_key": op_key, "version": version}
        if fare_fen is not None:
            body["final_fare_fen"] = fare_fen
        self.world.send_webhook(self.code, body)
        if self.world.strikes("hook_doubled"):
            self.world.send_webhook(self.code, body)
        if self.world.strikes("hook_renamed"):
            self.world.send_webhook(self.code, body | {"id": self._next("evt")})
