"""After a restore the partners know more than we do: find what was lost, and end it.

The rule (ADR 13): what is known here is driven to the partner's truth; what only the partner knows
is undone there. Points are never taken without evidence of ours that the member spent them, and
never stay taken for a booking that is gone: so none is lost, none doubled, nobody overdrawn.

    known, confirmed there          burn the points that are held: COMMITTED
    known, cancelled there          CANCELLED, by the member's key or at the partner's fault
    known, hold gone there          RELEASED
    unknown, held there             fenced: hold and confirm never take effect again
    unknown, confirmed there        cancelled there (fault GATEWAY), on the op key it would have had
    known, named by another         told, and nothing done: it is not that merchant's
    unknown, and not cancellable    REVIEW: a break MISSING_US of the day's reconciliation, which
                                    two people resolve; the member's points stay untouched

What two merchants name is ended at each by its own keys: nothing that one says ends what stands at
the other. Every step asks first and may be run again; what a partner does not answer waits for the
next run.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import telemetry
from gateway.audit import service as audit
from gateway.errors import NoAnswer, PartnerRejected
from gateway.ports import (
    Capability,
    Fact,
    Listing,
    Operation,
    OperationsPage,
    Outcome,
    Partner,
    past_held,
)
from gateway.redemption import effects, recovery_rows, store
from gateway.redemption.model import (
    Fault,
    Redemption,
    State,
    Step,
    credible,
    parse_op_key,
)
from gateway.redemption.service import Redemptions
from gateway.values import business_day, canonical, fingerprint

log = telemetry.log(__name__)

_GONE = frozenset({Outcome.REJECTED, Outcome.FENCED, Outcome.RELEASED, Outcome.NOT_FOUND})
_BEFORE_PIVOT = frozenset({State.HOLDING, State.HELD, State.CONFIRMING, State.IN_DOUBT})
_COMMITTED = frozenset({State.COMMITTED, State.LATE_CONFIRMED})


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of one redemption at a partner that knew it."""

    redemption_id: str
    merchant_id: str
    known: bool
    state: str  # FOUND (waits for an answer), ENDED, REVIEW
    result: str


class Recovery:
    """One run of `gateway recover`, over all partners.

    Args:
        progress: Told what is being done: phase, how much is done, how much there is.
    """

    def __init__(
        self, redemptions: Redemptions, *, progress: Callable[[str, int, int], None] | None = None
    ) -> None:
        self.redemptions = redemptions
        self.database = redemptions.database
        self.saga = redemptions.saga
        self._progress = progress or (lambda _what, _done, _total: None)
        self.unreached: dict[str, str] = {}

    async def run(self, *, since: datetime, merchants: Sequence[str]) -> list[Recovered]:
        """Ask every partner what it knows since an instant, and end what was lost.

        Args:
            since: Business time before the newest thing the restored database knows.
            merchants: Those with a system of their own.

        Returns:
            Every redemption that was found, in this run or one before it, by who named it.
        """
        told: list[tuple[str, str, dict[str, Any]]] = []
        for number, merchant in enumerate(merchants):
            self._progress("asking partners", number, len(merchants))
            try:
                told += await self._ask(merchant, since)
            except (NoAnswer, PartnerRejected) as error:
                self.unreached[merchant] = error.code
                log.warning("partner not asked", merchant=merchant, code=error.code)
        async with self.database.reading() as tx:
            found = await recovery_rows.list_recoveries(tx, "FOUND")
        for number, row in enumerate(found):
            self._progress("ending what was lost", number, len(found))
            await self._end(row.redemption_id, row.merchant_id)
        for number, (merchant, event_id, body) in enumerate(told):
            self._progress("taking webhooks again", number, len(told))
            await self.redemptions.inbox.receive(merchant, event_id, body)
        async with self.database.reading() as tx:
            return [_recovered(row) for row in await recovery_rows.list_recoveries(tx)]

    # -- asking -------------------------------------------------------------------------------

    async def _ask(self, merchant: str, since: datetime) -> list[tuple[str, str, dict[str, Any]]]:
        """Note every redemption a partner knows, and return the webhooks it has sent."""
        partner = self.redemptions.partners[merchant]
        told: list[tuple[str, str, dict[str, Any]]] = []
        async with self.database.reading() as tx:
            undecided = await recovery_rows.undecided(tx, merchant, since=since)
        await self._note(merchant, {each: [] for each in undecided})
        if Capability.OPERATIONS not in partner.capabilities:
            if Capability.STATEMENT in partner.capabilities:
                await self._note(merchant, await self._on_statements(partner, since))
            return told
        async for page in _pages(partner, since):
            seen: dict[str, list[Operation]] = {}
            for operation in page.operations:
                if (mine := _redemption_of(operation)) is not None:
                    seen.setdefault(mine, []).append(operation)
            await self._note(merchant, seen)
            told += [(merchant, each.event_id, dict(each.body)) for each in page.events]
        return told

    async def _on_statements(self, partner: Partner, since: datetime) -> dict[str, list[Operation]]:
        """Redemptions on a partner's statements of the days since then, those not finished left
        out: their reconciliation comes."""
        seen: dict[str, list[Operation]] = {}
        day, today = business_day(since), business_day(self.redemptions.clock.now())
        while day < today:
            for line in (await partner.statement(day)).lines:
                if line.gateway_ref and line.gateway_ref.startswith("red_"):
                    seen.setdefault(line.gateway_ref, [])
            day += timedelta(days=1)
        return seen

    async def _note(self, merchant: str, seen: dict[str, list[Operation]]) -> None:
        now = self.redemptions.clock.now()
        async with self.database.transaction() as tx:
            here = await store.find_many(tx, list(seen))
            for redemption_id, operations in seen.items():
                row: dict[str, Any] = {"redemption_id": redemption_id, "merchant_id": merchant}
                row |= {"known": redemption_id in here, "found_at": now}
                evidence = [_evidence(each) for each in operations]
                await recovery_rows.add_recovery(tx, row | {"evidence": evidence})
                await recovery_rows.set_recovery(
                    tx, redemption_id, merchant, state="FOUND", ended_at=None
                )

    # -- ending -------------------------------------------------------------------------------

    async def _end(self, redemption_id: str, merchant: str) -> None:
        """Bring what one merchant has of a redemption to its end, as far as it answers.

        What our books know belongs to the merchant of the books: another that names it is told of,
        and nothing is done, at either.
        """
        token = past_held.set(True)
        try:
            async with self.database.reading() as tx:
                known = await store.find(tx, redemption_id)
            if known is not None and known.merchant_id != merchant:
                log.warning("another's redemption", redemption=redemption_id, merchant=merchant)
                state, result = "ENDED", f"claimed, but it is {known.merchant_id}'s: nothing done"
            elif known is not None:
                state, result = await self._align(known)
            else:
                state, result = await self._undo(redemption_id, self.redemptions.partners[merchant])
        except NoAnswer as error:
            state, result = "FOUND", f"waits: {error.code}"
        except PartnerRejected as refusal:
            state, result = "FOUND", f"waits: {refusal}"
        except Exception as error:
            log.exception("recovery failed", redemption=redemption_id)
            state, result = "FOUND", f"waits: {error!r}"
        finally:
            past_held.reset(token)
        await self._settled(redemption_id, merchant, state, result)

    async def _settled(self, redemption_id: str, merchant: str, state: str, result: str) -> None:
        now = self.redemptions.clock.now()
        values: dict[str, Any] = {"state": state, "result": result[:500]}
        async with self.database.transaction() as tx:
            before = await recovery_rows.recovery_result(tx, redemption_id, merchant)
            ended_at = None if state == "FOUND" else now
            await recovery_rows.set_recovery(
                tx, redemption_id, merchant, **values, ended_at=ended_at
            )
            if state != "FOUND" and before != values["result"]:
                body = values | {"merchant": merchant}
                await audit.record(
                    tx,
                    kind="redemption.recovered",
                    subject=redemption_id,
                    actor="gateway",
                    body=body,
                    now=now,
                )

    async def _align(self, redemption: Redemption) -> tuple[str, str]:
        """Drive a redemption that is known here to what is true at the partner."""
        before = redemption.state
        partner = self.redemptions.partners[redemption.merchant_id]
        late = redemption.state is State.LATE_CONFIRMED  # Its confirm was of the epoch before.
        asked = replace(redemption, epoch=redemption.epoch - 1) if late else redemption
        confirm = await _status(partner, asked.op_key(Step.CONFIRM))
        taken = confirm.outcome in (Outcome.CONFIRMED, Outcome.CANCELLED)
        if taken and redemption.state in _BEFORE_PIVOT and redemption.doubt is not Step.CANCEL:
            redemption = await self._commit(redemption, confirm)
        elif confirm.outcome is Outcome.CONFIRMED and redemption.state is State.RELEASED:
            redemption = await self._apply(confirm)
        elif redemption.state is State.HELD:
            redemption = await self._align_hold(redemption, partner, confirm)
        elif redemption.state not in _COMMITTED:
            await self.saga.advance(redemption.id)
        if confirm.outcome is Outcome.CANCELLED and redemption.state in _COMMITTED:
            redemption = await self._cancelled(redemption, partner, confirm)
        async with self.database.reading() as tx:
            current = await store.find(tx, redemption.id)
        assert current
        return "ENDED", f"{before} → {current.state}"

    async def _align_hold(
        self, redemption: Redemption, partner: Partner, confirm: Fact
    ) -> Redemption:
        """HELD here, and not confirmed there: is the hold still there?"""
        if confirm.outcome is Outcome.IN_FLIGHT:
            return await self._confirming(redemption, hold_ref=redemption.hold_ref)
        hold = await _status(partner, redemption.op_key(Step.HOLD))
        if hold.outcome not in _GONE and confirm.outcome is Outcome.NOT_FOUND:
            return redemption  # Nothing was lost: it lives on.
        async with self.database.transaction() as tx:
            current = await store.find(tx, redemption.id, lock=True)
            assert current
            if current.state is not State.HELD:
                return current
            return await effects.release(
                tx,
                current,
                reason="RECOVERED",
                tell_partner=hold.outcome is Outcome.HELD,
                now=self.redemptions.clock.now(),
            )

    async def _commit(self, redemption: Redemption, confirm: Fact) -> Redemption:
        """The partner has confirmed what is only held here: burn what is held."""
        hold_ref = confirm.hold_ref or redemption.hold_ref or "recovered"
        if redemption.state in (State.HOLDING, State.HELD) or redemption.doubt is Step.HOLD:
            redemption = await self._confirming(redemption, hold_ref=hold_ref)
        if confirm.outcome is Outcome.CANCELLED:  # It was confirmed before that.
            version = max(confirm.version - 1, 0)
            confirm = replace(confirm, outcome=Outcome.CONFIRMED, version=version)
        return await self._apply(confirm)

    async def _confirming(self, redemption: Redemption, *, hold_ref: str | None) -> Redemption:
        """Catch up with the confirm that was sent after the backup, and its outbox row."""
        now = self.redemptions.clock.now()
        async with self.database.transaction() as tx:
            current = await store.find(tx, redemption.id, lock=True)
            assert current
            if current.state in (State.HOLDING, State.IN_DOUBT):
                current = await effects.move(
                    tx,
                    current,
                    State.HELD,
                    now=now,
                    hold_ref=hold_ref,
                    partner_hold_until=current.points_hold_until,
                )
            if current.state is not State.HELD:
                return current
            current = await effects.move(
                tx, current, State.CONFIRMING, now=now, deadline=now, due_at=now, polls=0, resends=0
            )
            await store.queue_call(
                tx,
                redemption_id=current.id,
                op_key=current.op_key(Step.CONFIRM),
                verb="confirm",
                body_hash=fingerprint({"recovered": hold_ref}),
                now=now,
            )
            return current

    async def _cancelled(
        self, redemption: Redemption, partner: Partner, confirm: Fact
    ) -> Redemption:
        """The booking is cancelled there: by our key it was the member, else the partner."""
        cancel = await _status(partner, redemption.op_key(Step.CANCEL))
        fault = Fault.MEMBER if cancel.outcome is Outcome.CANCELLED else Fault.REDEEMER
        async with self.database.transaction() as tx:
            current = await store.find(tx, redemption.id, lock=True)
            assert current
            if current.state not in _COMMITTED:
                return current
            return await effects.reverse(
                tx,
                current,
                fault=fault,
                version=confirm.version,
                now=self.redemptions.clock.now(),
            )

    async def _apply(self, fact: Fact) -> Redemption:
        async with self.database.transaction() as tx:
            return await effects.apply_fact(
                tx,
                fact,
                source="recovery",
                settings=self.redemptions.settings,
                now=self.redemptions.clock.now(),
            )

    async def _undo(self, redemption_id: str, partner: Partner) -> tuple[str, str]:
        """Undo at the partner what nobody here knows: fence what may still happen, cancel the rest.

        The row of `redemption_recoveries` is the outbox row: it is there before any call.
        """
        confirm_key, hold_key = (f"{redemption_id}:{step}:1" for step in (Step.CONFIRM, Step.HOLD))
        confirm = await _status(partner, confirm_key)
        if confirm.outcome not in (Outcome.CONFIRMED, Outcome.CANCELLED):
            confirm = credible(await partner.fence(confirm_key), confirm_key)
        if confirm.outcome is Outcome.CANCELLED:
            return "ENDED", f"{confirm.booking_ref} was cancelled already"
        if confirm.outcome is not Outcome.CONFIRMED:
            hold = credible(await partner.fence(hold_key), hold_key)
            if hold.outcome is not Outcome.CONFIRMED:
                return "ENDED", "hold let go: nothing can take effect any more"
            confirm = hold
        assert confirm.booking_ref, "what is confirmed is booked"
        return await self._cancel_unknown(redemption_id, partner, confirm.booking_ref)

    async def _cancel_unknown(
        self, redemption_id: str, partner: Partner, booking_ref: str
    ) -> tuple[str, str]:
        try:
            offered = await partner.cancel_quote(booking_ref)
            if not offered.refundable:
                return "REVIEW", f"MISSING_US: {booking_ref} gives nothing back"
            gone = await partner.cancel(offered.id, op_key=f"{redemption_id}:{Step.CANCEL}:1")
        except PartnerRejected as refusal:
            return "REVIEW", f"MISSING_US: {booking_ref} stands: {refusal.code}"
        return "ENDED", f"{booking_ref} {gone.outcome}, at the gateway's fault"


async def _pages(partner: Partner, since: datetime) -> AsyncIterator[OperationsPage]:
    cursor: str | None = None
    while True:
        page = await cast("Listing", partner).operations(since, cursor)
        yield page
        if not page.more or page.cursor == cursor:
            return
        cursor = page.cursor


async def _status(partner: Partner, op_key: str) -> Fact:
    return credible(await partner.status(op_key), op_key)


def _redemption_of(operation: Operation) -> str | None:
    """The redemption an op key is of; None for what is none of ours, such as a notice's."""
    try:
        redemption_id, _, _ = parse_op_key(operation.fact.op_key)
    except ValueError:
        return None
    return redemption_id if redemption_id.startswith("red_") else None


def _evidence(operation: Operation) -> dict[str, Any]:
    """Everything the partner said, as JSON."""
    document = asdict(operation) | {"at": operation.at.isoformat()}
    document["fact"] |= {
        "outcome": str(operation.fact.outcome),
        "expires_at": operation.fact.expires_at and operation.fact.expires_at.isoformat(),
        "artefacts": sorted(operation.fact.artefacts),  # What they are, not the codes.
    }
    assert canonical(document)
    return document


def _recovered(row: Any) -> Recovered:
    return Recovered(row.redemption_id, row.merchant_id, row.known, row.state, row.result)


async def recoveries(tx: AsyncConnection) -> list[Recovered]:
    """What was found after restores, by redemption."""
    return [_recovered(row) for row in await recovery_rows.list_recoveries(tx)]
