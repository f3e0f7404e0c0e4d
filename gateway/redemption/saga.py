"""Drives a redemption: each call to the partner stands between two transactions.

Before the bytes leave, an outbox row is committed with the state that the call may change; after
the answer, one transaction records it with its effect. A crash between the two leaves a PENDING
row, which means: unknown, ask. The redemption row is the queue; whoever holds its lease drives.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import failpoint, telemetry
from gateway.db import Clock, Database, system_now
from gateway.errors import NoAnswer, OutcomeUnknown, PartnerRejected, PartnerUnavailable
from gateway.ports import (
    KEY_CONFLICT,
    Claim,
    Fact,
    HoldExpired,
    Outcome,
    Partner,
    Reservation,
    past_held,
)
from gateway.redemption import answers, effects, expected, figures, races, store
from gateway.redemption.answers import Answer, answered, conflicting, pause, silent
from gateway.redemption.model import (
    CallState,
    Next,
    Redemption,
    State,
    Step,
    after_status,
)
from gateway.redemption.taking import Held
from gateway.settings import Settings
from gateway.telemetry import tracing
from gateway.values import fingerprint

log = telemetry.log(__name__)


class Saga:
    """Moves redemptions on, one partner call at a time.

    Args:
        partners: Merchant id to its adapter.
        clock: Business time; leases use system time.
    """

    def __init__(
        self,
        database: Database,
        partners: Mapping[str, Partner],
        clock: Clock,
        settings: Settings,
    ) -> None:
        self.database = database
        self.partners = partners
        self.clock = clock
        self.settings = settings
        self.under_way: set[str] = set()  # Called, and the answer not yet stored.

    def lease(self) -> datetime:
        """When a lease taken now ends (system time)."""
        return system_now() + timedelta(seconds=self.settings.lease_seconds)

    # -- hold ---------------------------------------------------------------------------------

    async def queue_hold(self, tx: AsyncConnection, redemption: Redemption) -> int:
        """Write the outbox row of the hold, in the transaction that holds the points."""
        body = {"quote": redemption.partner_quote_id}
        return await self.queue(tx, redemption, Step.HOLD, "hold", body, first=True)

    async def hold(self, redemption: Redemption, attempt: int) -> Redemption:
        """Ask the partner to reserve.

        Raises:
            PartnerRejected: It said no; the points are back.
            PartnerUnavailable: It was not reached; the points are back.
        """
        answer = await self.ask_hold(redemption)
        held = await expected.held(self, redemption, attempt, answer)
        return held or await self.settle(redemption, Step.HOLD, "hold", attempt, answer)

    async def ask_hold(self, redemption: Redemption) -> Answer:
        """Ask the partner to reserve; nothing is stored."""
        op_key = redemption.op_key(Step.HOLD)
        claims = [Claim(leg.issuer, leg.face_fen) for leg in redemption.legs]

        async def ask() -> Fact:
            made: Reservation = await self._partner(redemption).hold(
                redemption.partner_quote_id,
                op_key=op_key,
                ttl_seconds=self.settings.partner_hold_ttl_seconds,
                claims=claims,
            )
            return Fact(op_key, Outcome.HELD, hold_ref=made.hold_ref, expires_at=made.expires_at)

        return await self._ask(redemption, Step.HOLD, ask)

    # -- confirm: the pivot -------------------------------------------------------------------

    async def queue_confirm(
        self, tx: AsyncConnection, redemption: Redemption, *, locked: bool = True
    ) -> tuple[Redemption, int]:
        """HELD to CONFIRMING with a deadline, and the outbox row of the confirm.

        Raises:
            HoldExpired: Too late to confirm in time.
            Raced: With the batch, if the row is not locked: it has moved.
        """
        values = expected.confirming(self, redemption)
        unless_known = None if locked else redemption.op_key(Step.CONFIRM)
        moved = await effects.move(
            tx,
            redemption,
            State.CONFIRMING,
            now=self.clock.now(),
            unless_known=unless_known,
            **values,
        )
        return moved, await expected.queue_confirming(self, tx, moved)

    async def confirm(
        self, redemption: Redemption, attempt: int, *, holds: Held | None = None
    ) -> Redemption:
        """Ask the partner to take the reservation.

        Args:
            holds: What the epoch holds, if it is at hand.

        Returns:
            COMMITTED; or CONFIRMING (it decides later), or IN_DOUBT.

        Raises:
            PartnerRejected, PartnerUnavailable: No; the points are back.
        """
        op_key = redemption.op_key(Step.CONFIRM)
        hold_ref, deadline = redemption.hold_ref, redemption.deadline
        assert hold_ref, "only a held redemption is confirmed"
        assert deadline, "a confirm has a deadline"

        async def ask() -> Fact:
            return await self._partner(redemption).confirm(
                hold_ref, op_key=op_key, deadline=deadline, gateway_ref=redemption.id
            )

        answer = await self._ask(redemption, Step.CONFIRM, ask)
        confirmed = await expected.confirmed(self, redemption, attempt, answer, holds)
        if confirmed:
            return confirmed
        return await self.settle(redemption, Step.CONFIRM, "confirm", attempt, answer)

    # -- cancel -------------------------------------------------------------------------------

    async def queue_cancel(
        self, tx: AsyncConnection, redemption: Redemption, partner_quote: str, cancel_quote_id: str
    ) -> tuple[Redemption, int]:
        """COMMITTED to CANCELLING, and the outbox row of the cancellation."""
        now = self.clock.now()
        moved = await effects.move(
            tx,
            redemption,
            State.CANCELLING,
            now=now,
            leased_until=self.lease(),
            cancel_quote_id=cancel_quote_id,
            due_at=now,
            polls=0,
            resends=0,
        )
        body = {"cancel_quote": partner_quote}
        attempt = await self.queue(tx, redemption, Step.CANCEL, "cancel", body)
        return moved, attempt

    async def cancel(self, redemption: Redemption, partner_quote: str, attempt: int) -> Redemption:
        """Ask the partner to cancel as quoted; a no leaves the redemption COMMITTED and raises."""
        op_key = redemption.op_key(Step.CANCEL)

        async def ask() -> Fact:
            return await self._partner(redemption).cancel(partner_quote, op_key=op_key)

        answer = await self._ask(redemption, Step.CANCEL, ask)
        return await self.settle(redemption, Step.CANCEL, "cancel", attempt, answer)

    # -- the worker's side --------------------------------------------------------------------

    async def advance(self, redemption_id: str) -> None:
        """Do what is due for one leased redemption. A refusal is an outcome, not an error."""
        async with self.database.reading() as tx:
            redemption = await store.find(tx, redemption_id)
            trace = await figures.trace_of(tx, redemption_id)
        assert redemption, "a leased redemption exists"
        try:
            with tracing.entering(tracing.read(trace), f"saga {redemption.state}", "consumer"):
                await self._advance(redemption)
        except (PartnerRejected, PartnerUnavailable) as refusal:
            log.info("redemption undone", redemption=redemption_id, code=refusal.code)

    async def _advance(self, redemption: Redemption) -> None:
        match redemption.state:
            case State.HOLDING:
                await self._poll(redemption, Step.HOLD)
            case State.HELD:
                await self._held(redemption)
            case State.CONFIRMING:
                await self._poll(redemption, Step.CONFIRM)
            case State.CANCELLING:
                await self._poll_cancel(redemption)
            case State.RELEASING:
                await self.tell_released(redemption)
            case State.IN_DOUBT:
                assert redemption.doubt, "doubt names its step"
                if redemption.doubt is Step.CANCEL:
                    await self._poll_cancel(redemption)
                else:
                    await self._poll(redemption, redemption.doubt)

    async def _held(self, redemption: Redemption) -> None:
        """A hold whose time is over is let go; one that wants confirming is confirmed."""
        async with self.database.transaction() as tx:
            current = await store.find(tx, redemption.id, lock=True)
            assert current
            if current.state is not State.HELD:
                return
            try:
                if current.auto_confirm:
                    current, attempt = await self.queue_confirm(tx, current)
                else:
                    raise HoldExpired(expired_at=current.hold_until)
            except HoldExpired:
                await effects.release(
                    tx, current, reason="HOLD_EXPIRED", tell_partner=True, now=self.clock.now()
                )
                return
        await self.confirm(current, attempt)

    async def tell_released(self, redemption: Redemption) -> Redemption:
        """Fence the hold (and the confirm, if one was tried) so that nothing stays reserved."""
        if redemption.hold_ref is None:
            return await expected.tried(self, lambda tx: self._released(tx, redemption.id))
        return await self._fence(redemption, Step.HOLD)

    async def _released(self, tx: AsyncConnection, redemption_id: str) -> Redemption:
        current, now = await store.find(tx, redemption_id, lock=True), self.clock.now()
        assert current
        if current.state is not State.RELEASING:
            return current
        return await effects.move(tx, current, State.RELEASED, now=now, released_at=now)

    async def _status(self, redemption: Redemption, step: Step) -> Fact:
        op_key, status = redemption.op_key(step), self._partner(redemption).status
        return answered(await self._past_held(lambda: status(op_key)), op_key)

    async def _poll(self, redemption: Redemption, step: Step) -> None:
        """Ask the status of a step in doubt, and do what it means."""
        now = self.clock.now()
        try:
            fact = await self._status(redemption, step)
        except (PartnerUnavailable, OutcomeUnknown, PartnerRejected) as error:
            await self._wait(redemption, step, Answer(CallState.UNKNOWN, silence=silent(error)))
            return
        decision = after_status(
            fact.outcome,
            step=step,
            resends=redemption.resends,
            since=redemption.doubt_since or redemption.created_at,
            patience=answers.patience(redemption, self.settings),
            now=now,
        )
        log.info("asked", redemption=redemption.id, step=step, outcome=fact.outcome, then=decision)
        match decision:
            case Next.TAKE | Next.UNDO:
                if fact.outcome is Outcome.NOT_FOUND:  # Final after t_final.
                    fact = replace(fact, outcome=Outcome.RELEASED, reason="NOT_FOUND")
                ended = await self._apply(fact, source="poll")
                if ended.waits_for(step):  # It cannot be so: a person looks, in the end.
                    await self._wait(redemption, step, Answer(CallState.ANSWERED, fact=fact))
            case Next.RESEND:
                await self._resend(redemption, step)
            case Next.FENCE:
                await self._fence(redemption, step)
            case Next.WAIT:
                await self._wait(redemption, step, Answer(CallState.ANSWERED, fact=fact))

    async def _resend(self, redemption: Redemption, step: Step) -> None:
        """Send the same key again: the partner acts at most once."""
        async with self.database.transaction() as tx:
            current = await store.find(tx, redemption.id, lock=True)
            assert current
            if current.state is not redemption.state:
                return
            body: dict[str, object] = {"quote": current.partner_quote_id}
            if step is Step.CONFIRM:
                body = {"hold": current.hold_ref, "deadline": current.deadline}
            attempt = await self.queue(tx, current, step, str(step), body)
            changes = {"resends": current.resends + 1, "leased_until": self.lease()}
            await store.update(tx, current.id, changes, keep_lease=True)
        await (self.hold if step is Step.HOLD else self.confirm)(current, attempt)

    async def _fence(self, redemption: Redemption, step: Step) -> Redemption:
        """Make sure the step can never take effect; only the acknowledgement settles anything."""
        op_key = redemption.op_key(step)
        body = {"op_key": op_key}
        attempt = await expected.tried(
            self, lambda tx: self.queue(tx, redemption, step, "fence", body)
        )

        async def ask() -> Fact:
            return await self._partner(redemption).fence(op_key)

        answer = await self._ask(redemption, step, ask, verb="fence")
        if answer.fact is None:
            self.under_way.discard(redemption.id)
            await self._wait(redemption, step, answer, verb="fence", attempt=attempt)
            return redemption
        fact, now = answer.fact, self.clock.now()

        async def store_it(tx: AsyncConnection) -> Redemption:
            await self.close(tx, op_key, "fence", attempt, answer)
            ended = await effects.apply_fact(
                tx, fact, source="fence", settings=self.settings, now=now
            )
            if ended.waits_for(step):  # Nothing was fenced: again, later.
                ended = await self._doubt(tx, ended, step, None, now=now)
            return ended

        redemption = await expected.stored(self, redemption, store_it)
        failpoint.reached(self.settings, "fence", "stored")
        return redemption

    async def fence(self, redemption: Redemption) -> Redemption:
        """An operator's fence of a redemption in doubt, also of one that a person has."""
        waiting = redemption.state is State.NEEDS_REVIEW and redemption.reason == effects.TOO_OLD
        if redemption.state is not State.IN_DOUBT and not waiting:
            return redemption
        step = redemption.doubt or redemption.last_step
        if step is not Step.CANCEL:
            return await self._fence(redemption, step)
        with contextlib.suppress(NoAnswer, PartnerRejected):
            return await self._apply(await self._status(redemption, step), source="poll")
        return redemption

    async def _poll_cancel(self, redemption: Redemption) -> None:
        """Ask what became of a cancellation; it may be sent again, for the key cancels once."""
        try:
            fact = await self._status(redemption, Step.CANCEL)
        except (PartnerUnavailable, OutcomeUnknown, PartnerRejected) as error:
            unknown = Answer(CallState.UNKNOWN, silence=silent(error))
            await self._wait(redemption, Step.CANCEL, unknown)
            return
        if fact.outcome is not Outcome.NOT_FOUND:
            ended = await self._apply(fact, source="poll")
            if ended.waits_for(Step.CANCEL):
                await self._wait(redemption, Step.CANCEL, Answer(CallState.ANSWERED, fact=fact))
            return
        async with self.database.transaction() as tx:
            current = await store.find(tx, redemption.id, lock=True)
            assert current
            if (current.state, current.doubt) != (redemption.state, redemption.doubt):
                return  # Another was first: a cancellation is never sent for what it settled.
            assert redemption.cancel_quote_id
            stored = await store.find_cancel_quote(tx, redemption.cancel_quote_id)
            assert stored
            body = {"cancel_quote": stored.partner_id}
            attempt = await self.queue(tx, redemption, Step.CANCEL, "cancel", body)
            await store.update(tx, redemption.id, {"leased_until": self.lease()}, keep_lease=True)
        await self.cancel(redemption, stored.partner_id, attempt)

    def _partner(self, redemption: Redemption) -> Partner:
        return self.partners[redemption.merchant_id]

    async def queue(
        self,
        tx: AsyncConnection,
        redemption: Redemption,
        step: Step,
        verb: str,
        body: Mapping[str, object],
        *,
        first: bool = False,
    ) -> int:
        return await store.queue_call(
            tx,
            redemption_id=redemption.id,
            op_key=redemption.op_key(step),
            verb=verb,
            body_hash=fingerprint(body),
            now=self.clock.now(),
            first=first,
        )

    async def _past_held(self, call: Callable[[], Awaitable[Fact]]) -> Fact:
        token = past_held.set(True)
        try:
            return await call()
        finally:
            past_held.reset(token)

    async def _ask(
        self,
        redemption: Redemption,
        step: Step,
        call: Callable[[], Awaitable[Fact]],
        *,
        verb: str | None = None,
    ) -> Answer:
        """Make a call whose outbox row is committed, and classify how it ended.

        Args:
            verb: What is asked, where it is not what the step is named after.
        """
        verb = verb or str(step)
        self.under_way.add(redemption.id)
        failpoint.reached(self.settings, verb, "before_call")
        try:
            with tracing.span(f"saga {verb}", redemption=redemption.id, step=str(step)):
                fact = await (call() if verb == Step.HOLD else self._past_held(call))
            answer = Answer(CallState.ANSWERED, fact=answered(fact, redemption.op_key(step)))
        except PartnerRejected as refusal:
            answer = Answer(CallState.REJECTED, refusal=refusal, detail=str(refusal))
        except PartnerUnavailable as error:
            answer = Answer(CallState.NOT_SENT, silence=error, detail=str(error))
        except OutcomeUnknown as error:
            answer = Answer(CallState.UNKNOWN, silence=error, detail=str(error))
        except Exception as error:
            # An adapter's bug says nothing about what the partner did.
            log.exception("adapter failed", merchant=redemption.merchant_id, step=step)
            answer = Answer(CallState.UNKNOWN, detail=repr(error))
        failpoint.reached(self.settings, verb, "after_call")
        return answer

    async def close(
        self,
        tx: AsyncConnection,
        op_key: str,
        verb: str,
        attempt: int,
        answer: Answer,
    ) -> None:
        await store.answer_call(
            tx,
            op_key=op_key,
            verb=verb,
            attempt=attempt,
            state=answer.state,
            detail=answer.detail,
            now=self.clock.now(),
        )

    async def settle(
        self, redemption: Redemption, step: Step, verb: str, attempt: int, answer: Answer
    ) -> Redemption:
        """Record how a call ended together with its effect, then raise a no."""
        op_key, now = redemption.op_key(step), self.clock.now()
        if answer.refusal is not None:
            answer.refusal.context.setdefault("merchant", redemption.merchant_id)

        async def store_it(
            tx: AsyncConnection,
        ) -> tuple[Redemption, PartnerRejected | PartnerUnavailable | None]:
            await self.close(tx, op_key, verb, attempt, answer)
            if answer.state is CallState.NOT_SENT and not await store.may_have_acted(
                tx, op_key=op_key, verb=verb, but=attempt
            ):
                undone = await self._not_sent(tx, redemption, step, now=now)
                return undone, answers.unreached(redemption, answer.silence)
            fact = answers.told(answer, op_key)
            if fact is None:
                doubted = await self._doubt(tx, redemption, step, answer.silence, now=now)
                return doubted, answer.refusal
            if fact.outcome is Outcome.IN_FLIGHT:
                return await self._postpone(tx, redemption, now=now), answer.refusal
            ended = await effects.apply_fact(
                tx, fact, source="answer", settings=self.settings, now=now
            )
            return ended, answer.refusal

        ended, error = await expected.stored(self, redemption, store_it)
        failpoint.reached(self.settings, verb, "stored")
        if ended.state is State.RELEASING and answer.state is not CallState.NOT_SENT:
            ended = await self.tell_released(ended)
        if error is not None:
            raise error
        return ended

    async def _not_sent(
        self, tx: AsyncConnection, redemption: Redemption, step: Step, *, now: datetime
    ) -> Redemption:
        """Nothing was ever sent under this key: undo the step."""
        current = await store.find(tx, redemption.id, lock=True)
        assert current
        if current.state is State.IN_DOUBT or not current.waits_for(step):
            return current
        if step is Step.CANCEL:
            await store.reopen_events(tx, current.id)
            return await effects.move(tx, current, State.COMMITTED, now=now, cancel_quote_id=None)
        if current.state is State.RELEASING:
            return current
        told = current.hold_ref is not None
        return await effects.release(
            tx, current, reason="PARTNER_UNAVAILABLE", tell_partner=told, now=now
        )

    async def _doubt(
        self,
        tx: AsyncConnection,
        redemption: Redemption,
        step: Step,
        silence: NoAnswer | None,
        *,
        now: datetime,
    ) -> Redemption:
        """The outcome is unknown: never void, never burn; ask soon, or have a person look."""
        current = await store.find(tx, redemption.id, lock=True)
        assert current
        if not current.waits_for(step):
            return current  # Another answer was first: nothing is asked under this key now.
        if conflicting(silence) and not await races.refused(tx, redemption.op_key(step)):
            return await effects.to_review(tx, current, reason=KEY_CONFLICT, now=now)
        if current.state in (State.HOLDING, State.CONFIRMING, State.CANCELLING):
            return await effects.move(
                tx,
                current,
                State.IN_DOUBT,
                now=now,
                doubt=step,
                doubt_since=now,
                due_at=now + pause(current, 0, silence),
                polls=0,
            )
        return await self._postpone(tx, current, silence, now=now)

    async def _postpone(
        self,
        tx: AsyncConnection,
        redemption: Redemption,
        silence: NoAnswer | None = None,
        *,
        now: datetime,
    ) -> Redemption:
        """Ask again after the next delay; doubt that is too old needs a person."""
        current = await store.find(tx, redemption.id, lock=True)
        assert current
        if current.state not in (
            State.HOLDING,
            State.CONFIRMING,
            State.IN_DOUBT,
            State.RELEASING,
            State.CANCELLING,
        ):
            return current
        since = current.doubt_since
        if since and now - since > timedelta(seconds=self.settings.review_after_seconds):
            return await effects.to_review(tx, current, reason=effects.TOO_OLD, now=now)
        due_at = now + pause(current, current.polls, silence)
        polls = current.polls + 1
        await store.update(tx, current.id, {"due_at": due_at, "polls": polls})
        return replace(current, due_at=due_at, polls=polls)

    async def _wait(
        self,
        redemption: Redemption,
        step: Step,
        answer: Answer,
        *,
        verb: str | None = None,
        attempt: int = 0,
    ) -> None:
        """No news: look again later. What a crash left without an answer is in doubt now."""
        now = self.clock.now()
        in_flight = answer.fact is not None and answer.fact.outcome is Outcome.IN_FLIGHT
        log.info("still in doubt", redemption=redemption.id, step=step, detail=answer.said)
        async with self.database.transaction() as tx:
            if verb:
                await self.close(tx, redemption.op_key(step), verb, attempt, answer)
            pending = redemption.state is State.CONFIRMING and in_flight
            overdue = redemption.deadline is not None and now > redemption.deadline
            if answer.silence or (
                redemption.state in (State.HOLDING, State.CONFIRMING, State.CANCELLING)
                and (not pending or overdue)
            ):
                await self._doubt(tx, redemption, step, answer.silence, now=now)
            else:
                await self._postpone(tx, redemption, now=now)

    async def _apply(self, fact: Fact, *, source: str) -> Redemption:
        async with self.database.transaction() as tx:
            return await effects.apply_fact(
                tx, fact, source=source, settings=self.settings, now=self.clock.now()
            )
