"""Partners' webhooks: stored before they are answered, then applied once, in order of arrival."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import failpoint, telemetry
from gateway.db import Clock, Database, is_race, is_unavailable
from gateway.errors import NotFound, Refused
from gateway.ports import EventKind, Fact, Outcome, Partner, PartnerEvent
from gateway.redemption import effects, event_rows, races, store
from gateway.redemption.model import (
    Fault,
    Incredible,
    Redemption,
    State,
    Step,
    credible,
    credible_event,
    parse_op_key,
    poll_delay,
)
from gateway.settings import Settings

log = telemetry.log(__name__)

_USES = (EventKind.FULFILLED, EventKind.NO_SHOW)
_TRIES = 5  # Of a webhook that breaks; the last comes 15 s after the first.
_OUTCOME = 500  # Characters that are kept of why.
_NOT_YET = ("55P03",)  # A lock that was not to be had in time.


class Inbox:
    """What partners tell on their own.

    Args:
        partners: Merchant id to its adapter, which reads the body.
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

    async def receive(self, merchant_id: str, event_id: str, body: Mapping[str, Any]) -> bool:
        """Store a webhook whose signature was checked, then apply it; the store comes first.

        Returns:
            False when this event id was seen before; nothing happens then.
        """
        now = self.clock.now()
        row = {"merchant_id": merchant_id, "event_id": event_id, "body": dict(body)}
        async with self.database.transaction() as tx:
            if not await event_rows.add_event(tx, row | {"received_at": now}):
                return False
        failpoint.reached(self.settings, "event", "stored")
        try:
            await self.apply_stored(limit=20)
        except Exception:  # It is stored: the worker applies it.
            log.exception("events wait", merchant=merchant_id, event_id=event_id)
        failpoint.reached(self.settings, "event", "applied")
        return True

    async def apply_stored(self, *, limit: int) -> int:
        """Apply webhooks that are stored and not yet applied, oldest first.

        One that fails waits for its next try, or is set aside; those after it are applied.

        Returns:
            How many are done with.
        """
        done = 0
        for _ in range(limit):
            row = None
            try:
                async with self.database.transaction() as tx:
                    if self.settings.sandbox:  # Another process may have moved the clock.
                        await self.clock.refresh(tx)
                    row = await event_rows.next_event(tx, now=self.clock.now())
                    if row is None:
                        return done
                    await self._apply_stored(tx, row)
                done += 1
            except Exception as error:
                if row is None:
                    raise
                await self._failed(row, error)
        return done

    async def _apply_stored(self, tx: AsyncConnection, row: sa.Row[Any]) -> None:
        now = self.clock.now()
        redemption_id = use_version = None
        try:
            event = self._read(row)
            redemption_id = event.op_key.split(":")[0]
            use_version = event.version if event.kind in _USES else None
            async with tx.begin_nested():
                outcome = await self.apply_event(tx, row.merchant_id, event, now=now)
        except Incredible as error:
            outcome = f"{event_rows.SET_ASIDE}{error}"
            log.warning("event set aside", merchant=row.merchant_id, event_id=row.event_id)
        except Refused as error:
            outcome = f"ignored: {error}"
        outcome = outcome[:_OUTCOME]
        log.info("event", merchant=row.merchant_id, event_id=row.event_id, outcome=outcome)
        await event_rows.close_event(
            tx,
            merchant_id=row.merchant_id,
            event_id=row.event_id,
            outcome=outcome,
            redemption_id=redemption_id,
            now=now,
            use_version=use_version,
        )

    def _read(self, row: sa.Row[Any]) -> PartnerEvent:
        """What a stored webhook says.

        Raises:
            Incredible: It says what cannot be.
        """
        try:
            return credible_event(self.partners[row.merchant_id].event(row.body))
        except Incredible:
            raise
        except (ValueError, ArithmeticError) as error:
            raise Incredible(str(error)) from error

    async def _failed(self, row: sa.Row[Any], error: Exception) -> None:
        """Let a webhook wait, longer each time; set it aside if the fault seems to be in it.

        What the database had no time or place for is not lost, however often: it was answered.
        """
        tries, now = (row.tries or 0) + 1, self.clock.now()
        told = {"merchant": row.merchant_id, "event_id": row.event_id, "tries": tries}
        again = _may_end_better(error) or tries < _TRIES
        log.error("event failed", **told, again=again, exc_info=error)
        async with self.database.transaction() as tx:
            if again:
                await event_rows.put_off(tx, row, until=now + poll_delay(tries - 1))
            else:
                outcome = f"{event_rows.FAILED}{error!r}"[:_OUTCOME]
                await event_rows.give_up(tx, row, outcome=outcome, now=now)

    async def apply_event(
        self, tx: AsyncConnection, merchant_id: str, event: PartnerEvent, *, now: datetime
    ) -> str:
        """Apply one partner event; a repeated or stale one changes nothing.

        Returns:
            `applied`, `ignored: why`, or `postponed` while a cancellation is under way or a person
            looks.

        Raises:
            NotFound: It names no redemption at this merchant.
        """
        try:
            redemption_id, _, _ = parse_op_key(event.op_key)
        except ValueError as error:
            raise NotFound(id=event.op_key) from error
        redemption = await store.find(tx, redemption_id, lock=True)
        if redemption is None or redemption.merchant_id != merchant_id:
            raise NotFound(id=event.op_key)
        if event.kind in (EventKind.CONFIRMED, EventKind.REJECTED):
            confirmed = event.kind is EventKind.CONFIRMED
            fact = Fact(
                event.op_key,
                Outcome.CONFIRMED if confirmed else Outcome.REJECTED,
                version=event.version,
                booking_ref=event.booking_ref,
                reason=event.reason,
                artefacts=event.artefacts,
            )
            fact = credible(fact, event.op_key)
            await effects.apply_fact(tx, fact, source="webhook", settings=self.settings, now=now)
            return "applied"
        return await self._consumed_or_cancelled(tx, redemption, event, now=now)

    async def _consumed_or_cancelled(
        self, tx: AsyncConnection, redemption: Redemption, event: PartnerEvent, *, now: datetime
    ) -> str:
        if redemption.state is State.CONFIRMING or effects.doubts(redemption, Step.CONFIRM):
            # What is consumed or cancelled was confirmed: do that first (contracts §5.4, row 9).
            op_key = redemption.op_key(Step.CONFIRM)
            fact = Fact(op_key, Outcome.CONFIRMED, 0, event.booking_ref, artefacts=event.artefacts)
            redemption = await effects.commit(tx, redemption, fact, now=now)
            await effects.record(tx, redemption, fact, source="webhook", now=now)
        elif redemption.state in (State.RELEASING, State.RELEASED):
            redemption = await self._after_release(tx, redemption, event, now=now)
        if _undecided(redemption):
            return "postponed"  # If the partner refuses to cancel, this is why.
        version = event.version
        if redemption.state in (State.CANCELLED, State.FULFILLED):
            same = (redemption.state is State.FULFILLED) == (event.kind in _USES)
            what = "used" if event.kind in _USES else "cancelled"
            if not same:
                said = await races.told_after(tx, redemption, what=what, version=version, now=now)
                if said is races.Verdict.TIE:
                    await effects.to_review(tx, redemption, reason=races.TIE, now=now)
                    return "needs review"
        if redemption.state not in (State.COMMITTED, State.LATE_CONFIRMED):
            return f"ignored: {redemption.state}"
        known = redemption.fact_version
        # A booking that is asked about after its use is told as CONFIRMED with the use's version.
        if version < known or (version == known and event.kind is EventKind.CANCELLED):
            return f"ignored: version {version} is not after {known}"
        if event.kind is EventKind.CANCELLED:
            await effects.reverse(tx, redemption, fault=Fault.REDEEMER, version=version, now=now)
        else:
            fare, actor = event.final_fare_fen, redemption.merchant_id
            await effects.fulfil(
                tx, redemption, final_fare_fen=fare, version=version, actor=actor, now=now
            )
        return "applied"

    async def _after_release(
        self, tx: AsyncConnection, redemption: Redemption, event: PartnerEvent, *, now: datetime
    ) -> Redemption:
        """What is used was confirmed after all, too late for us; a cancellation is remembered.

        Webhooks come out of order: the confirmation before it may still be under way.
        """
        op_key, settings = redemption.op_key(Step.CONFIRM), self.settings
        version, ref = event.version, event.booking_ref
        if event.kind is EventKind.CANCELLED:
            fact = Fact(op_key, Outcome.CANCELLED, version, ref, reason=event.reason)
            return await effects.apply_fact(
                tx, credible(fact, op_key), source="webhook", settings=settings, now=now
            )
        fact = Fact(op_key, Outcome.CONFIRMED, version, ref, artefacts=event.artefacts)
        moved = await effects.confirmed_late(tx, redemption, fact, settings=settings, now=now)
        if moved.state is State.LATE_CONFIRMED:
            await effects.record(tx, redemption, fact, source="webhook", now=now)
        return moved


def _undecided(redemption: Redemption) -> bool:
    """Whether a cancellation is under way, or people decide about another thing than its use."""
    if redemption.state is State.NEEDS_REVIEW:
        return redemption.reason != races.TIE
    doubted = redemption.state is State.IN_DOUBT and redemption.doubt is Step.CANCEL
    return redemption.state is State.CANCELLING or doubted


def _may_end_better(error: Exception) -> bool:
    """Whether a failure says nothing about the webhook: the database, or another, was in the way.

    57014, a cancelled statement, is among what `is_unavailable` knows.
    """
    locked = isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") in _NOT_YET
    return locked or is_race(error) or is_unavailable(error)
