"""The way to a merchant's system and back: requests and answers that come late, twice or never."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from gateway.errors import OutcomeUnknown, PartnerRejected, PartnerUnavailable
from gateway.ports import (
    CancelQuote,
    Capability,
    Claim,
    EventKind,
    Fact,
    FeedPage,
    LiveOffer,
    NoticeReceipt,
    PartnerEvent,
    Quote,
    QuoteRequest,
    Reservation,
    SettlementNotice,
    Statement,
)

if TYPE_CHECKING:
    from tests.simulation.partner import Merchant
    from tests.simulation.world import Process

_WRITTEN = frozenset({"hold", "confirm", "fence", "cancel", "notice"})  # Verbs with an effect.
_OUTBOX = """SELECT 1 FROM partner_calls WHERE op_key = :key AND verb = :verb AND state = 'PENDING'
             UNION ALL
             SELECT 1 FROM jobs WHERE key = CASE :verb
               WHEN 'fence' THEN 'let_go:' || :key
               WHEN 'cancel' THEN 'cancel_late:' || :of
               WHEN 'notice' THEN 'settlement_notice:' || :key END"""
"""The row of the outbox that a call stands on; what a redemption leaves to be done is a job."""


class Line:
    """One process's connection to one merchant: implements the port.

    Args:
        process: Who calls; it may be killed before and after.
        merchant: Who answers; requests under way reach it whoever has died.
    """

    capabilities = Capability.ALL

    def __init__(self, process: "Process", merchant: "Merchant") -> None:
        self.process = process
        self.merchant = merchant
        self.code = merchant.code

    async def quote(self, request: QuoteRequest) -> Quote:
        made: Quote = await self._ask("quote", "", lambda: self.merchant.quote(request))
        return made

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Sequence[Claim]
    ) -> Reservation:
        def arrive() -> Reservation:
            return self.merchant.hold(quote_id, op_key, ttl_seconds)

        made: Reservation = await self._ask("hold", op_key, arrive)
        return made

    async def confirm(
        self, hold_ref: str, *, op_key: str, deadline: datetime, gateway_ref: str
    ) -> Fact:
        def arrive() -> Fact:
            return self.merchant.confirm(hold_ref, op_key, deadline)

        made: Fact = await self._ask("confirm", op_key, arrive)
        return made

    async def status(self, op_key: str) -> Fact:
        made: Fact = await self._ask("status", op_key, lambda: self.merchant.status(op_key))
        return made

    async def fence(self, op_key: str) -> Fact:
        made: Fact = await self._ask("fence", op_key, lambda: self.merchant.fence(op_key))
        return made

    async def cancel_quote(self, booking_ref: str) -> CancelQuote:
        made: CancelQuote = await self._ask(
            "cancel_quote", booking_ref, lambda: self.merchant.cancel_quote(booking_ref)
        )
        return made

    async def cancel(self, cancel_quote_id: str, *, op_key: str) -> Fact:
        def arrive() -> Fact:
            return self.merchant.cancel(cancel_quote_id, op_key)

        made: Fact = await self._ask("cancel", op_key, arrive)
        return made

    async def settlement_notice(self, notice: SettlementNotice, *, op_key: str) -> NoticeReceipt:
        made: NoticeReceipt = await self._ask(
            "notice", op_key, lambda: self.merchant.settlement_notice(notice, op_key)
        )
        return made

    async def list_offers(self, cursor: str | None) -> FeedPage:
        return FeedPage((), cursor or "", more=False)

    async def live(self, offer_ids: Sequence[str], *, on: date | None) -> list[LiveOffer]:
        return []

    async def statement(self, day: date) -> Statement:
        raise PartnerRejected(merchant=self.code, reason="none")

    def event(self, body: Mapping[str, Any]) -> PartnerEvent:
        return PartnerEvent(
            event_id=body["id"],
            kind=EventKind(body["kind"]),
            op_key=body["op_key"],
            version=body["version"],
            occurred_at=self.merchant.now(),
            booking_ref=f"b/{body['op_key']}",
            final_fare_fen=body.get("final_fare_fen"),
        )

    # -- the way ------------------------------------------------------------------------------

    async def _ask(self, verb: str, key: str, arrive: Callable[[], Any]) -> Any:
        """One call: a request that arrives or not, and an answer that arrives or not."""
        world = self.process.world
        if verb in _WRITTEN:
            self._written(verb, key)
        harmless = verb in ("quote", "cancel_quote") and world.rng.random() < 0.7
        fault = None if harmless else world.faults.of_network()
        if fault:
            world.saw(f"fault {fault}", f"{verb} {key}")
        self.process.may_die(f"before {verb}")
        if fault == "not_sent":
            raise PartnerUnavailable(merchant=self.code)
        answer: asyncio.Future[Any] = world.loop.create_future()
        self._send(fault, arrive, answer)
        patience = world.settings.partner_timeout_seconds
        try:
            done = await asyncio.wait_for(answer, patience)
        except TimeoutError:
            self.process.may_die(f"without an answer to {verb}")
            raise self._no_answer(verb, key) from None
        except PartnerRejected:
            self.process.may_die(f"after the no to {verb}")
            raise
        self.process.may_die(f"after {verb}")
        if fault in ("error_before", "error_after"):
            raise self._no_answer(verb, key)
        return self._garbled(done, verb, key) if fault == "garbage" else done

    def _written(self, verb: str, key: str) -> None:
        """R5: what the call is for is committed before its bytes leave, for everybody to see."""
        world = self.process.world
        asked = {"key": key, "verb": verb, "of": key.partition(":")[0]}
        if not world.check.rows(_OUTBOX, asked):
            world.wrong(f"R5 {verb} {key} leaves {self.process.name}, and nothing says so")

    def _send(
        self, fault: str | None, arrive: Callable[[], Any], answer: asyncio.Future[Any]
    ) -> None:
        world, rng = self.process.world, self.process.world.faults.rng
        patience = world.settings.partner_timeout_seconds

        def arrived(back: float | None) -> None:
            made, error = _effect(fault, arrive)
            if back is not None:
                world.loop.call_later(back, _reply, answer, made, error)

        there, back = rng.uniform(0.005, 0.4), rng.uniform(0.005, 0.4)
        if fault == "request_lost":
            return
        if fault == "request_late":
            there = rng.choice((patience * 0.9, patience * 4, 100.0, 200.0))
        if fault == "answer_late":
            back = rng.choice((patience * 0.8, patience + 2.0))
        world.loop.call_later(there, arrived, None if fault == "answer_lost" else back)
        if fault == "request_doubled":
            world.loop.call_later(there + rng.choice((0.01, 3.0, 60.0, 400.0)), arrived, None)

    def _no_answer(self, verb: str, key: str) -> Exception:
        if verb in ("quote", "status", "cancel_quote"):  # Verbs without effect.
            return PartnerUnavailable(merchant=self.code)
        return OutcomeUnknown(op_key=key)

    def _garbled(self, made: Any, verb: str, key: str) -> Any:
        """What an adapter makes of an answer that cannot be read, or is about something else."""
        if isinstance(made, Fact) and self.process.world.faults.rng.random() < 0.5:
            return self.process.world.faults.rng.choice(
                (
                    replace(made, op_key="red_other:confirm:1"),
                    replace(made, version=-1),
                    replace(made, booking_ref="\x00"),
                )
            )
        if isinstance(made, CancelQuote | Quote):
            raise PartnerUnavailable(merchant=self.code)
        raise OutcomeUnknown(op_key=key, reason="200 with an error")


def _effect(fault: str | None, arrive: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What the request does at the merchant, and what it answers."""
    if fault == "error_before":
        return None, None
    try:
        return arrive(), None
    except PartnerRejected as refusal:
        return None, None if fault == "error_after" else refusal


def _reply(answer: asyncio.Future[Any], made: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(made)
