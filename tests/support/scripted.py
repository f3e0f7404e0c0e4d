"""A partner in memory that keeps the port's promises and misbehaves by script.

For tests of the saga's steps; the simulators in `partners` are the ones that speak HTTP.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from gateway.errors import OutcomeUnknown, PartnerRejected, PartnerUnavailable
from gateway.ports import (
    KEY_CONFLICT,
    CancelQuote,
    CancelTooLate,
    Capability,
    Claim,
    EventKind,
    Fact,
    FeedPage,
    HoldExpired,
    LiveOffer,
    NoticeReceipt,
    Outcome,
    PartnerEvent,
    Quote,
    QuoteRequest,
    Reservation,
    SettlementNotice,
    SoldOut,
    Statement,
)


class ScriptedPartner:
    """One merchant: `script[verb]` lists how the next calls go; then all is well.

    Words of the script: `not_sent` no effect, not reached · `lost_before` no effect, no answer ·
    `lost_after` effect, no answer · `reject` a no · `pending` decided later · `conflict` the key
    is known with another body · `throttled` not now, in 90 s · `short` a hold of two minutes.
    """

    capabilities = Capability.ALL

    def __init__(self, code: str, prices: Mapping[str, int], now: Callable[[], datetime]) -> None:
        self.code = code
        self.prices = dict(prices)
        self.now = now
        self.script: dict[str, list[str]] = defaultdict(list)
        self.operations: dict[str, Fact] = {}
        self.effects: list[tuple[str, str]] = []
        self.calls: list[tuple[str, str]] = []
        self.notices: list[tuple[str, SettlementNotice]] = []
        self._versions: dict[str, int] = defaultdict(int)

    def _next(self, verb: str, key: str) -> str:
        self.calls.append((verb, key))
        word = self.script[verb].pop(0) if self.script[verb] else "ok"
        if word == "not_sent":
            raise PartnerUnavailable(merchant=self.code)
        if word == "throttled":
            raise PartnerUnavailable(merchant=self.code, retry_after_seconds=90)
        if word == "lost_before":
            raise OutcomeUnknown(op_key=key)
        if word == "conflict":
            raise OutcomeUnknown(op_key=key, reason=KEY_CONFLICT)
        return word

    def _done(self, word: str, fact: Fact, verb: str) -> Fact:
        """Keep what an op key did; the same key acts once."""
        if fact.op_key not in self.operations:
            self.operations[fact.op_key] = fact
            self.effects.append((verb, fact.op_key))
        if word == "lost_after":
            raise OutcomeUnknown(op_key=fact.op_key)
        return self.operations[fact.op_key]

    async def list_offers(self, cursor: str | None) -> FeedPage:
        return FeedPage((), cursor or "", more=False)

    async def live(self, offer_ids: Sequence[str], *, on: date | None) -> list[LiveOffer]:
        self._next("live", self.code)
        return [LiveOffer(one, self.prices[one], None) for one in offer_ids if one in self.prices]

    async def quote(self, request: QuoteRequest) -> Quote:
        if self._next("quote", request.offer_id) == "reject":
            raise SoldOut(offer=request.offer_id)
        list_fen = request.bill_fen or self.prices[request.offer_id] * request.quantity
        until = self.now() + timedelta(minutes=5)
        return Quote(f"pq_{request.offer_id}_{len(self.calls)}", list_fen, until, "terms")

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Sequence[Claim]
    ) -> Reservation:
        word = self._next("hold", op_key)
        until = self.now() + timedelta(seconds=120 if word == "short" else ttl_seconds)
        fact = Fact(op_key, Outcome.HELD, hold_ref=f"h/{op_key}", expires_at=until)
        if word == "reject":
            self._done(word, Fact(op_key, Outcome.REJECTED), "reject")
            raise SoldOut(offer=quote_id)
        stored = self._done(word, fact, "hold")
        if stored.outcome is not Outcome.HELD:
            raise PartnerRejected(merchant=self.code, reason=str(stored.outcome))
        assert stored.hold_ref
        assert stored.expires_at
        return Reservation(op_key, stored.hold_ref, stored.expires_at)

    async def confirm(
        self, hold_ref: str, *, op_key: str, deadline: datetime, gateway_ref: str
    ) -> Fact:
        word = self._next("confirm", op_key)
        known = self.operations.get(op_key)
        if known is None and self.now() >= deadline:
            raise HoldExpired(expired_at=deadline)
        if word == "reject" or (known and known.outcome is not Outcome.CONFIRMED):
            self._done(word, Fact(op_key, Outcome.REJECTED, 1), "reject")
            raise PartnerRejected(merchant=self.code, reason="full")
        if word == "pending":
            return Fact(op_key, Outcome.IN_FLIGHT)
        return self._done(word, self.booked(op_key), "confirm")

    def booked(self, op_key: str) -> Fact:
        """The fact of a confirmed booking."""
        version = self.next_version(op_key)
        artefacts = {"code": f"C{len(self.effects):07d}"}
        return Fact(op_key, Outcome.CONFIRMED, version, f"b/{op_key}", artefacts=artefacts)

    def next_version(self, op_key: str) -> int:
        self._versions[op_key] += 1
        return self._versions[op_key]

    async def status(self, op_key: str) -> Fact:
        if self._next("status", op_key) == "pending":
            return Fact(op_key, Outcome.IN_FLIGHT)
        return self.operations.get(op_key, Fact(op_key, Outcome.NOT_FOUND))

    async def fence(self, op_key: str) -> Fact:
        word = self._next("fence", op_key)
        known = self.operations.get(op_key)
        if known is None or known.outcome is Outcome.HELD:
            self.operations[op_key] = Fact(op_key, Outcome.FENCED)
            self.effects.append(("fence", op_key))
        if word == "lost_after":
            raise OutcomeUnknown(op_key=op_key)
        return self.operations[op_key]

    async def cancel_quote(self, booking_ref: str) -> CancelQuote:
        if self._next("cancel_quote", booking_ref) == "reject":
            raise CancelTooLate(until=self.now())
        return CancelQuote(f"cq/{booking_ref}", True, 0, self.now() + timedelta(minutes=5))

    async def cancel(self, cancel_quote_id: str, *, op_key: str) -> Fact:
        word = self._next("cancel", op_key)
        if word == "reject":
            raise CancelTooLate(until=self.now())
        if word == "pending":
            return Fact(op_key, Outcome.IN_FLIGHT)
        version = self.next_version(op_key) + 1
        return self._done(word, Fact(op_key, Outcome.CANCELLED, version), "cancel")

    def event(self, body: Mapping[str, Any]) -> PartnerEvent:
        return PartnerEvent(
            event_id=body["id"],
            kind=EventKind(body["kind"]),
            op_key=body["op_key"],
            version=body["version"],
            occurred_at=self.now(),
            booking_ref=f"b/{body['op_key']}",
            final_fare_fen=body.get("final_fare_fen"),
        )

    async def statement(self, day: date) -> Statement:
        raise PartnerRejected(merchant=self.code, reason="none")

    async def settlement_notice(self, notice: SettlementNotice, *, op_key: str) -> NoticeReceipt:
        self.notices.append((op_key, notice))
        self._next("settlement_notice", op_key)
        return NoticeReceipt(f"r/{op_key}", self.now())
