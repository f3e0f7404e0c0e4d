"""What each fact does to points, cover, obligations and the redemption: one transaction each.

Every function runs in the caller's transaction with the redemption's row locked, and may be run
again: a fact that is known, or comes too late to matter, changes nothing.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.errors import NotFound
from gateway.jobs import enqueue, queued
from gateway.ledger.model import Kind, Line
from gateway.points import service as points
from gateway.points.service import InsufficientPoints
from gateway.ports import Fact, Outcome, QuoteExpired
from gateway.redemption import compensation, races, review_rows, store, telling
from gateway.redemption.model import (
    BURNED,
    FOLLOWS,
    Fault,
    Leg,
    Redemption,
    State,
    Step,
    check_move,
    kept_after_fare,
    parse_op_key,
)
from gateway.redemption.taking import Held, ask_held, held, take_cover
from gateway.settings import Settings
from gateway.settlement import service as settlement
from gateway.telemetry import metrics
from gateway.values import amount, new_id

TOO_OLD = "DOUBT_TOO_OLD"
REVIEW_WITHIN = timedelta(hours=24)  # A person answers within a day (default).
_CANCEL_LATE = "cancel_late"
_UNCOVERED = (
    *(InsufficientPoints, settlement.AgreementCap, settlement.CoverExceeded),
    *(settlement.NoAgreement, QuoteExpired),  # The agreement has ended, or has other terms.
)
_GONE = {Outcome.REJECTED, Outcome.FENCED, Outcome.RELEASED, Outcome.CANCELLED}


async def move(
    tx: AsyncConnection,
    redemption: Redemption,
    *states: State,
    now: datetime,
    leased_until: datetime | None = None,
    unless_known: str | None = None,
    **values: Any,
) -> Redemption:
    """Change the state, and columns with it; the lease ends, or is taken until an instant.

    Args:
        states: The new one; several are gone through at once.
        unless_known: The row is not locked: it must be as it was, and nothing be known about
            this op key. Else Raced, with the transaction's batch.
    """
    for before, after in pairwise((redemption.state, *states)):
        check_move(before, after)
        metrics.MOVES.labels(str(after)).inc()
    changes = {"state": states[-1], "doubt": None, "doubt_since": None, "due_at": None} | values
    changes |= {"told": redemption.told + len(states)}
    lease = {"leased_until": leased_until}
    if unless_known is None:
        await store.update(tx, redemption.id, changes | lease, keep_lease=True)
    else:
        await store.update_seen(tx, redemption, changes | lease, op_key=unless_known)
    moved = replace(redemption, **changes)
    await telling.moved(tx, moved, *states, now=now)
    return moved


async def to_review(
    tx: AsyncConnection, redemption: Redemption, *, reason: str, now: datetime
) -> Redemption:
    """The rules are exhausted: a person decides. What it was before is kept for them."""
    if redemption.state is State.NEEDS_REVIEW:  # One has it already.
        return redemption
    await review_rows.open_one(
        tx,
        {
            "redemption_id": redemption.id,
            "reason": reason,
            "came_from": str(redemption.state),
            "step": str(redemption.doubt or redemption.last_step),
            "opened_at": now,
            "due_at": now + REVIEW_WITHIN,
            "owner": None,
        },
    )
    return await move(tx, redemption, State.NEEDS_REVIEW, now=now, reason=reason)


async def apply_fact(
    tx: AsyncConnection, fact: Fact, *, source: str, settings: Settings, now: datetime
) -> Redemption:
    """Apply what a partner says about an op key; answers, webhooks and polls all come here.

    Idempotent and monotonic: the same fact twice is one, an older version changes nothing, the
    same version with a contradicting outcome goes to NEEDS_REVIEW.

    Raises:
        NotFound: No redemption has this op key.
    """
    try:
        redemption_id, step, epoch = parse_op_key(fact.op_key)
    except ValueError as error:
        raise NotFound(id=fact.op_key) from error
    mine, its_legs, known, *holding = await db.read(
        tx,
        *store.ask(redemption_id, lock=True),
        store.ask_facts(fact.op_key),
        *ask_held(redemption_id, epoch),
    )
    redemption = store.found(mine, its_legs)
    if redemption is None or redemption.epoch < epoch:
        raise NotFound(id=fact.op_key)
    holds = held(*holding) if redemption.epoch == epoch else None
    await record(tx, redemption, fact, source=source, now=now)
    if any(_contradict(Outcome(row.outcome), row.version, fact) for row in known):
        detail = f"v{fact.version} {fact.outcome} against {known[-1].outcome}"
        await store.add_finding(
            tx, redemption_id=redemption.id, code="STATUS_DIFF", detail=detail, now=now
        )
        if State.NEEDS_REVIEW not in FOLLOWS[redemption.state]:
            return redemption  # Nothing was asked yet, or a person has it already.
        return await to_review(tx, redemption, reason="CONTRADICTION", now=now)
    match step:
        case Step.HOLD:
            return await _hold_fact(tx, redemption, fact, holds, settings=settings, now=now)
        case Step.CONFIRM:
            return await _confirm_fact(tx, redemption, fact, holds, settings=settings, now=now)
        case Step.CANCEL:
            return await _cancel_fact(tx, redemption, fact, now=now)


async def record(
    tx: AsyncConnection, redemption: Redemption, fact: Fact, *, source: str, now: datetime
) -> None:
    """Keep what a partner said, as it was said."""
    body: dict[str, Any] = {
        "hold_ref": fact.hold_ref,
        "reason": fact.reason,
        "artefacts": dict(fact.artefacts),
    }
    if fact.context:
        body["context"] = dict(fact.context)
    row = {
        "op_key": fact.op_key,
        "version": fact.version,
        "outcome": str(fact.outcome),
        "redemption_id": redemption.id,
        "source": source,
        "booking_ref": fact.booking_ref,
        "body": body,
        "recorded_at": now,
    }
    await store.add_fact(tx, row)


def _contradict(known: Outcome, version: int, fact: Fact) -> bool:
    """Whether two facts of one version cannot both be true."""
    if version != fact.version or version == 0:
        return False
    return {known, fact.outcome} & _GONE != set() and Outcome.CONFIRMED in {known, fact.outcome}


def doubts(redemption: Redemption, step: Step) -> bool:
    """Whether this step's outcome is unknown, also for so long that a person has it."""
    if redemption.state is State.NEEDS_REVIEW:
        return redemption.reason == TOO_OLD and step is redemption.last_step
    return redemption.state is State.IN_DOUBT and redemption.doubt is step


def _held_values(redemption: Redemption, fact: Fact, now: datetime) -> dict[str, Any]:
    assert fact.hold_ref, "a hold has a reference"
    until = fact.expires_at or redemption.points_hold_until
    due = now if redemption.auto_confirm else min(until, redemption.points_hold_until)
    values = {"hold_ref": fact.hold_ref, "partner_hold_until": until, "due_at": due}
    return values | {"polls": 0, "resends": 0}


async def apply_expected(
    tx: AsyncConnection,
    redemption: Redemption,
    fact: Fact,
    *,
    holds: Held | None,
    confirming: Mapping[str, Any] | None = None,
    now: datetime,
) -> Redemption:
    """Apply the answer that was hoped for, HELD or CONFIRMED, without reading anything.

    The redemption and what it holds are as the caller knows them from its own transaction
    before; if anybody has moved it since, nothing is applied.

    Args:
        holds: What the epoch holds; needed for CONFIRMED.
        confirming: Columns of the move to CONFIRMING, which follows HELD at once.

    Raises:
        Raced: With the batch: `apply_fact` must judge.
    """
    if fact.outcome is Outcome.HELD:
        values = _held_values(redemption, fact, now) | dict(confirming or {})
        states = (State.HELD, State.CONFIRMING) if confirming else (State.HELD,)
        moved = await move(tx, redemption, *states, now=now, unless_known=fact.op_key, **values)
    else:
        assert holds, "what is burned is known"
        moved = await commit(tx, redemption, fact, holds=holds, unless_known=fact.op_key, now=now)
    await record(tx, redemption, fact, source="answer", now=now)
    return moved


async def _hold_fact(
    tx: AsyncConnection,
    redemption: Redemption,
    fact: Fact,
    holds: Held | None,
    *,
    settings: Settings,
    now: datetime,
) -> Redemption:
    waiting = redemption.state is State.HOLDING or doubts(redemption, Step.HOLD)
    if fact.outcome is Outcome.HELD:
        if waiting and redemption.state is not State.NEEDS_REVIEW:
            values = _held_values(redemption, fact, now)
            return await move(tx, redemption, State.HELD, now=now, **values)
        if redemption.state is State.RELEASED:
            detail = f"hold {fact.hold_ref} after the release"
            await store.add_finding(
                tx, redemption_id=redemption.id, code="LATE_HOLD", detail=detail, now=now
            )
            payload = {"redemption": redemption.id, "op_key": fact.op_key}
            await enqueue(
                tx, name="let_go", key=fact.op_key, payload=payload, lane=redemption.merchant_id
            )
        return redemption
    if fact.outcome in _GONE and waiting:
        fenced = fact.outcome is Outcome.FENCED
        return await release(
            tx,
            redemption,
            reason=fact.reason or str(fact.outcome),
            fenced=fenced,
            holds=holds,
            now=now,
        )
    if fact.outcome in _GONE and redemption.state is State.RELEASING:
        return await move(tx, redemption, State.RELEASED, now=now, released_at=now)
    if fact.outcome is Outcome.CONFIRMED and redemption.state in (State.RELEASED, State.RELEASING):
        return await confirmed_late(tx, redemption, fact, settings=settings, now=now)
    return redemption


async def _confirm_fact(
    tx: AsyncConnection,
    redemption: Redemption,
    fact: Fact,
    holds: Held | None,
    *,
    settings: Settings,
    now: datetime,
) -> Redemption:
    waiting = redemption.state is State.CONFIRMING or doubts(redemption, Step.CONFIRM)
    if fact.outcome is Outcome.CONFIRMED:
        if waiting:
            return await commit(tx, redemption, fact, holds=holds, now=now)
        if redemption.state in (State.RELEASED, State.RELEASING):
            return await confirmed_late(tx, redemption, fact, settings=settings, now=now)
        if redemption.state not in BURNED:  # Nobody asked it to: finance must see that.
            detail = f"{fact.booking_ref} confirmed while {redemption.state}"
            await store.add_finding(
                tx, redemption_id=redemption.id, code="STATUS_DIFF", detail=detail, now=now
            )
        return redemption
    if fact.outcome in _GONE and waiting:
        return await release(
            tx,
            redemption,
            reason=fact.reason or str(fact.outcome),
            fenced=fact.outcome is Outcome.FENCED,
            holds=holds,
            tell_partner=True,  # Its hold may stand, though it will never be confirmed.
            now=now,
        )
    return redemption


async def _cancel_fact(
    tx: AsyncConnection, redemption: Redemption, fact: Fact, *, now: datetime
) -> Redemption:
    waiting = redemption.state is State.CANCELLING or doubts(redemption, Step.CANCEL)
    if fact.outcome is Outcome.CANCELLED and redemption.state is not State.CANCELLED:
        match await races.cancelled_or_used(tx, redemption, fact, waiting=waiting, now=now):
            case races.Verdict.CANCELLED:
                return await reverse(
                    tx, redemption, fault=Fault.MEMBER, version=fact.version, now=now
                )
            case races.Verdict.TIE:
                return await to_review(tx, redemption, reason=races.TIE, now=now)
            case races.Verdict.NEITHER:
                return redemption
    elif fact.outcome not in _GONE or not waiting:
        return redemption
    await store.reopen_events(tx, redemption.id)
    back: dict[str, Any] = {"reason": fact.reason, "cancel_quote_id": None}
    return await move(tx, redemption, State.COMMITTED, now=now, **back)


async def commit(
    tx: AsyncConnection,
    redemption: Redemption,
    fact: Fact,
    *,
    now: datetime,
    holds: Held | None = None,
    state: State = State.COMMITTED,
    unless_known: str | None = None,
) -> Redemption:
    """The partner has confirmed: burn the points, accrue the obligations, issue the voucher.

    Args:
        holds: What the epoch holds, if it is at hand.
        unless_known: See `move`.
    """
    moved = await move(
        tx,
        redemption,
        state,
        now=now,
        unless_known=unless_known,
        booking_ref=fact.booking_ref,
        fact_version=fact.version,
        committed_at=now,
        reason=None,
    )
    hub_lines = await settlement.accrue(
        tx,
        cause_id=redemption.id,
        epoch=redemption.epoch,
        at=now,
        known=holds.reserved if holds else None,
    )
    await points.burn(
        tx,
        redemption_id=redemption.id,
        epoch=redemption.epoch,
        sinks={leg.leg_no: _sink(leg, redemption.merchant_id) for leg in redemption.legs},
        hub_lines=hub_lines,
        actor=redemption.member_id,
        now=now,
        known=holds.points if holds else None,
    )
    await _issue_voucher(tx, redemption, fact.artefacts, now=now)
    return moved


def _sink(leg: Leg, redeemer: str) -> str:
    return "REDEEMED_OWN" if leg.own else f"REDEEMED_X:{redeemer}"


async def _issue_voucher(
    tx: AsyncConnection, redemption: Redemption, artefacts: Mapping[str, str], *, now: datetime
) -> None:
    code = artefacts.get("code")
    row = {
        "voucher_id": new_id("vch"),
        "redemption_id": redemption.id,
        "merchant_id": redemption.merchant_id,
        "code": code or _own_code(),
        "holder": redemption.member_id,
        "artefacts": dict(artefacts),
        "state": "ISSUED",
    }

    async def missed(tx: AsyncConnection) -> None:
        if redemption.id in await store.voucher_of(tx, [redemption.id]):
            return
        if code is not None:  # The sale stands; the voucher gets a code of ours.
            await store.add_finding(
                tx,
                redemption_id=redemption.id,
                code="STATUS_DIFF",
                detail=f"code {code} was given twice",
                now=now,
            )
        while not await store.add_voucher(tx, row | {"code": _own_code()}):
            pass

    await store.write_voucher(tx, row, missed=missed)


def _own_code() -> str:
    return f"{secrets.randbelow(10**8):08d}"


async def release(
    tx: AsyncConnection,
    redemption: Redemption,
    *,
    reason: str,
    now: datetime,
    fenced: bool = False,
    tell_partner: bool = False,
    leased_until: datetime | None = None,
    holds: Held | None = None,
) -> Redemption:
    """Void the holds: points back to their lots, cover and cap given back.

    Args:
        tell_partner: The partner still holds something: RELEASING until it knows.
        leased_until: With it, who tells the partner has taken the lease.
        holds: What the epoch holds, if it is at hand.
    """
    if holds is None:
        holds = held(*await db.read(tx, *ask_held(redemption.id, redemption.epoch)))
    hub_lines = await settlement.release(
        tx, cause_id=redemption.id, epoch=redemption.epoch, known=holds.reserved
    )
    await points.release(
        tx,
        redemption_id=redemption.id,
        epoch=redemption.epoch,
        hub_lines=hub_lines,
        actor=redemption.member_id,
        now=now,
        known=holds.points,
    )
    why: dict[str, Any] = {"reason": reason, "fenced": fenced}
    if tell_partner:
        told = why | {"due_at": now, "polls": 0, "leased_until": leased_until}
        return await move(tx, redemption, State.RELEASING, now=now, **told)
    return await move(tx, redemption, State.RELEASED, now=now, released_at=now, **why)


async def confirmed_late(
    tx: AsyncConnection, redemption: Redemption, fact: Fact, *, settings: Settings, now: datetime
) -> Redemption:
    """A partner confirms after the release: unless that is older than its cancellation, take it."""
    if not await races.overtaken(tx, redemption, fact.version):
        return await late_confirm(tx, redemption, fact, settings=settings, now=now)
    if redemption.state is State.RELEASING:  # What it held is sold and cancelled.
        return await move(tx, redemption, State.RELEASED, now=now, released_at=now)
    return redemption


async def late_confirm(
    tx: AsyncConnection, redemption: Redemption, fact: Fact, *, settings: Settings, now: datetime
) -> Redemption:
    """A confirmation after the release (contracts §5.5): hold the same points again and burn.

    Once its cancellation is decided it stays decided, however often the booking is told.
    """
    released_at = redemption.released_at or now
    if redemption.state is State.RELEASING:
        redemption = await move(tx, redemption, State.RELEASED, now=now, released_at=now)
    if await queued(tx, name=_CANCEL_LATE, key=redemption.id):
        return redemption
    if await races.fenced(tx, redemption):
        detail = f"confirmed as {fact.booking_ref} after its fence"
        await store.add_finding(
            tx, redemption_id=redemption.id, code="FENCE_VIOLATED", detail=detail, now=now
        )
        return redemption
    again = replace(redemption, epoch=redemption.epoch + 1, state=State.RELEASED)
    in_time = now <= released_at + timedelta(seconds=settings.late_confirm_seconds)
    if in_time:
        try:
            async with tx.begin_nested():
                await points.rehold(
                    tx,
                    redemption_id=redemption.id,
                    epoch=again.epoch,
                    from_epoch=redemption.epoch,
                    hub_lines=settlement.reserved_lines(await take_cover(tx, again, now=now)),
                    expires_at=now + timedelta(seconds=settings.points_hold_ttl_seconds),
                    actor=redemption.member_id,
                    now=now,
                )
                changes = {"epoch": again.epoch}
                await store.update(tx, redemption.id, changes)
                return await commit(tx, again, fact, now=now, state=State.LATE_CONFIRMED)
        except _UNCOVERED:
            pass  # The savepoint is gone; the booking must go too.
    payload = {"redemption": redemption.id, "booking_ref": fact.booking_ref}
    lane = redemption.merchant_id
    await enqueue(tx, name=_CANCEL_LATE, key=redemption.id, payload=payload, lane=lane)
    return redemption


async def reverse(
    tx: AsyncConnection, redemption: Redemption, *, fault: Fault, version: int, now: datetime
) -> Redemption:
    """Cancel after commit: points to the same lots, obligations reversed, compensation by fault."""
    hub_lines = await settlement.reverse(
        tx, cause_id=redemption.id, epoch=redemption.epoch, fault=fault, at=now
    )
    back = {leg.leg_no: leg.points - leg.returned_points for leg in redemption.legs}
    await points.give_back(
        tx,
        redemption_id=redemption.id,
        epoch=redemption.epoch,
        kind=Kind.REVERSE,
        points=back,
        hub_lines=hub_lines,
        extend=fault is not Fault.MEMBER,
        actor=redemption.member_id if fault is Fault.MEMBER else redemption.merchant_id,
        now=now,
    )
    await store.add_returned(tx, redemption.id, back)
    redemption = _returned(redemption, back)
    await store.set_voucher(tx, redemption.id, state="VOID", used_at=None)
    if fault is Fault.REDEEMER:
        for leg in redemption.legs:
            await compensation.compensate(tx, redemption, leg, now=now)
    values: dict[str, Any] = {"fault": fault, "fact_version": version, "cancelled_at": now}
    return await move(tx, redemption, State.CANCELLED, now=now, **values)


async def fulfil(
    tx: AsyncConnection,
    redemption: Redemption,
    *,
    final_fare_fen: int | None,
    version: int,
    actor: str,
    now: datetime,
) -> Redemption:
    """Consumed: a lower final fare is given back first, then the obligations become clearable."""
    if redemption.state is State.FULFILLED:
        return redemption
    if final_fare_fen is not None:
        amount(final_fare_fen, field="final_fare_fen", least=0)
    fare = final_fare_fen if redemption.pricing == "estimate" else None
    if fare is not None and fare < redemption.list_fen:
        redemption = await _adjust_fare(tx, redemption, fare_fen=fare, actor=actor, now=now)
    await settlement.clear(tx, cause_id=redemption.id, at=now)
    await store.set_voucher(tx, redemption.id, state="USED", used_at=now)
    return await move(
        tx,
        redemption,
        State.FULFILLED,
        now=now,
        final_fare_fen=fare,
        fact_version=max(version, redemption.fact_version),
        fulfilled_at=now,
    )


async def _adjust_fare(
    tx: AsyncConnection, redemption: Redemption, *, fare_fen: int, actor: str, now: datetime
) -> Redemption:
    kept = kept_after_fare(redemption.legs, redemption.cash_fen, fare_fen)
    by_no = {leg.leg_no: leg for leg in redemption.legs}
    foreign = {leg_no: face for leg_no, (_, face) in kept.items() if not by_no[leg_no].own}
    hub_lines: Mapping[int, tuple[Line, ...]] = {}
    if foreign:
        hub_lines = await settlement.adjust(
            tx, cause_id=redemption.id, epoch=redemption.epoch, kept_face=foreign, at=now
        )
    back = {no: by_no[no].points - points_kept for no, (points_kept, _) in kept.items()}
    back = {no: count for no, count in back.items() if count}
    if not back and not any(hub_lines.values()):
        return redemption  # Less than a point, and less than is rounded.
    await points.give_back(
        tx,
        redemption_id=redemption.id,
        epoch=redemption.epoch,
        kind=Kind.FARE_ADJUST,
        points=back,
        hub_lines=hub_lines,
        extend=False,
        actor=actor,
        now=now,
    )
    await store.add_returned(tx, redemption.id, back)
    return _returned(redemption, back)


def _returned(redemption: Redemption, back: Mapping[int, int]) -> Redemption:
    """As the store has it now: who asked is told what came back, as one who asks again is."""
    legs = (
        replace(leg, returned_points=leg.returned_points + back.get(leg.leg_no, 0))
        for leg in redemption.legs
    )
    return replace(redemption, legs=tuple(legs))
