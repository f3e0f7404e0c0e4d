"""What each fact does to points, cover, obligations and the redemption: one transaction each.

Every function runs in the caller's transaction with the redemption's row locked, and may be run
again: a fact that is known, or comes too late to matter, changes nothing.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.catalog.model import StoredQuote
from gateway.db import enqueue
from gateway.errors import NotFound
from gateway.ledger.model import Kind, Line
from gateway.points import service as points
from gateway.points.model import LegRequest
from gateway.points.service import InsufficientPoints
from gateway.ports import Fact, Outcome, QuoteExpired
from gateway.redemption import compensation, races, store
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
from gateway.settings import Settings
from gateway.settlement import service as settlement
from gateway.settlement.model import LegToReserve, rate_leg
from gateway.values import amount, new_id

TOO_OLD = "DOUBT_TOO_OLD"
_GONE = {Outcome.REJECTED, Outcome.FENCED, Outcome.RELEASED, Outcome.CANCELLED}


async def move(
    tx: AsyncConnection,
    redemption: Redemption,
    state: State,
    *,
    leased_until: datetime | None = None,
    **values: Any,
) -> Redemption:
    """Change the state, and columns with it; the lease ends, or is taken until an instant."""
    check_move(redemption.state, state)
    changes = {"state": state, "doubt": None, "doubt_since": None, "due_at": None} | values
    lease = {"leased_until": leased_until}
    await store.update(tx, redemption.id, changes | lease, keep_lease=True)
    return replace(redemption, **changes)


async def hold_points(
    tx: AsyncConnection,
    quote: StoredQuote,
    *,
    auto_confirm: bool,
    leased_until: datetime,
    settings: Settings,
    now: datetime,
) -> Redemption:
    """Hold points and cover for every leg, and write the redemption: all or nothing.

    Raises:
        InsufficientPoints, NoAgreement, AgreementCap, CoverExceeded: Nothing is held.
        QuoteExpired: The quote, or the agreement version it was made under, is over.
    """
    if now >= quote.expires_at:
        raise QuoteExpired(expired_at=quote.expires_at)
    redemption = _from_quote(quote, auto_confirm=auto_confirm, settings=settings, now=now)
    await store.insert(tx, redemption, leased_until=leased_until)
    await _hold_legs(tx, redemption, now=now)
    return redemption


async def _hold_legs(tx: AsyncConnection, redemption: Redemption, *, now: datetime) -> None:
    hub_lines = await _take_cover(tx, redemption, now=now)
    requests = [
        LegRequest(
            leg.leg_no,
            redemption.member_id,
            leg.programme_id,
            leg.points,
            hub_lines.get(leg.leg_no, ()),
        )
        for leg in redemption.legs
    ]
    await points.hold(
        tx,
        redemption_id=redemption.id,
        epoch=redemption.epoch,
        legs=requests,
        expires_at=redemption.points_hold_until,
        actor=redemption.member_id,
        now=now,
    )


async def _take_cover(
    tx: AsyncConnection, redemption: Redemption, *, now: datetime
) -> dict[int, tuple[Line, ...]]:
    """Take cap and cover for the foreign legs; HUB lines by leg."""
    foreign = [await _rated(tx, redemption, leg, now=now) for leg in redemption.legs if not leg.own]
    return await settlement.reserve_legs(
        tx, cause_id=redemption.id, epoch=redemption.epoch, legs=foreign, at=now
    )


async def _rated(
    tx: AsyncConnection, redemption: Redemption, leg: Leg, *, now: datetime
) -> LegToReserve:
    """The leg under the agreement in force now; the quote's terms must still be its terms."""
    agreement = await settlement.agreement_for(
        tx,
        issuer=leg.issuer,
        redeemer=redemption.merchant_id,
        offer_id=redemption.offer_id,
        category=redemption.category,
        at=now,
    )
    terms = rate_leg(agreement, leg.face_fen)
    if (terms.settlement_fen, terms.fee_fen) != (leg.settlement_fen, leg.fee_fen):
        raise QuoteExpired(expired_at=now)  # Another version of the agreement is in force.
    return LegToReserve(leg.leg_no, agreement, redemption.offer_id, leg.face_fen)


def _from_quote(
    quote: StoredQuote, *, auto_confirm: bool, settings: Settings, now: datetime
) -> Redemption:
    legs = tuple(
        Leg(
            leg_no=leg.leg_no,
            programme_id=leg.programme_id,
            issuer=leg.issuer,
            points=leg.points,
            face_fen=leg.face_fen,
            rate_num=leg.rate_num,
            rate_den=leg.rate_den,
            own=leg.own,
            agreement_id=leg.agreement_id,
            settlement_fen=leg.settlement_fen,
            fee_fen=leg.fee_fen,
        )
        for leg in quote.legs
    )
    return Redemption(
        id=new_id("red"),
        member_id=quote.member_id,
        quote_id=quote.id,
        merchant_id=quote.merchant_id,
        offer_id=quote.offer_id,
        slot=quote.slot,
        quantity=quote.quantity,
        list_fen=quote.list_fen,
        cash_fen=quote.cash_fen,
        kind=quote.kind,
        category=quote.category,
        pricing=quote.pricing,
        partner_quote_id=quote.partner_quote_id or "",
        points_hold_until=now + timedelta(seconds=settings.points_hold_ttl_seconds),
        created_at=now,
        cancel_until=quote.cancel_until,
        due_at=now,
        auto_confirm=auto_confirm,
        legs=legs,
    )


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
    redemption = await store.find(tx, redemption_id, lock=True)
    if redemption is None or redemption.epoch < epoch:
        raise NotFound(id=fact.op_key)
    known = await store.facts_of(tx, fact.op_key)
    await _record(tx, redemption, fact, source=source, now=now)
    if any(_contradict(Outcome(row.outcome), row.version, fact) for row in known):
        detail = f"v{fact.version} {fact.outcome} against {known[-1].outcome}"
        await store.add_finding(
            tx, redemption_id=redemption.id, code="STATUS_DIFF", detail=detail, now=now
        )
        if State.NEEDS_REVIEW not in FOLLOWS[redemption.state]:
            return redemption  # Nothing was asked yet, or a person has it already.
        return await move(tx, redemption, State.NEEDS_REVIEW, reason="CONTRADICTION")
    match step:
        case Step.HOLD:
            return await _hold_fact(tx, redemption, fact, settings=settings, now=now)
        case Step.CONFIRM:
            return await _confirm_fact(tx, redemption, fact, settings=settings, now=now)
        case Step.CANCEL:
            return await _cancel_fact(tx, redemption, fact, now=now)


async def _record(
    tx: AsyncConnection, redemption: Redemption, fact: Fact, *, source: str, now: datetime
) -> None:
    body = {"hold_ref": fact.hold_ref, "reason": fact.reason, "artefacts": dict(fact.artefacts)}
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


def _doubts(redemption: Redemption, step: Step) -> bool:
    """Whether this step's outcome is unknown, also for so long that a person has it."""
    if redemption.state is State.NEEDS_REVIEW:
        return redemption.reason == TOO_OLD and step is redemption.last_step
    return redemption.state is State.IN_DOUBT and redemption.doubt is step


async def _hold_fact(
    tx: AsyncConnection, redemption: Redemption, fact: Fact, *, settings: Settings, now: datetime
) -> Redemption:
    waiting = redemption.state is State.HOLDING or _doubts(redemption, Step.HOLD)
    if fact.outcome is Outcome.HELD:
        if waiting:
            assert fact.hold_ref, "a hold has a reference"
            until = fact.expires_at or redemption.points_hold_until
            due = now if redemption.auto_confirm else min(until, redemption.points_hold_until)
            return await move(
                tx,
                redemption,
                State.HELD,
                hold_ref=fact.hold_ref,
                partner_hold_until=until,
                due_at=due,
                polls=0,
                resends=0,
            )
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
            tx, redemption, reason=fact.reason or str(fact.outcome), fenced=fenced, now=now
        )
    if fact.outcome in _GONE and redemption.state is State.RELEASING:
        return await move(tx, redemption, State.RELEASED, released_at=now)
    if fact.outcome is Outcome.CONFIRMED and redemption.state is State.RELEASING:
        return await late_confirm(tx, redemption, fact, settings=settings, now=now)
    return redemption


async def _confirm_fact(
    tx: AsyncConnection, redemption: Redemption, fact: Fact, *, settings: Settings, now: datetime
) -> Redemption:
    waiting = redemption.state is State.CONFIRMING or _doubts(redemption, Step.CONFIRM)
    if fact.outcome is Outcome.CONFIRMED:
        if waiting:
            return await commit(tx, redemption, fact, now=now)
        if redemption.state in (State.RELEASED, State.RELEASING):
            return await late_confirm(tx, redemption, fact, settings=settings, now=now)
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
            tell_partner=True,  # Its hold may stand, though it will never be confirmed.
            now=now,
        )
    return redemption


async def _cancel_fact(
    tx: AsyncConnection, redemption: Redemption, fact: Fact, *, now: datetime
) -> Redemption:
    waiting = redemption.state is State.CANCELLING or _doubts(redemption, Step.CANCEL)
    if fact.outcome is Outcome.CANCELLED and redemption.state is not State.CANCELLED:
        match await races.cancelled_or_used(tx, redemption, fact, waiting=waiting, now=now):
            case races.Verdict.CANCELLED:
                return await reverse(
                    tx, redemption, fault=Fault.MEMBER, version=fact.version, now=now
                )
            case races.Verdict.TIE:
                return await move(tx, redemption, State.NEEDS_REVIEW, reason=races.TIE)
            case races.Verdict.NEITHER:
                return redemption
    elif fact.outcome not in _GONE or not waiting:
        return redemption
    await store.reopen_events(tx, redemption.id)
    return await move(tx, redemption, State.COMMITTED, reason=fact.reason, cancel_quote_id=None)


async def commit(
    tx: AsyncConnection,
    redemption: Redemption,
    fact: Fact,
    *,
    now: datetime,
    state: State = State.COMMITTED,
) -> Redemption:
    """The partner has confirmed: burn the points, accrue the obligations, issue the voucher."""
    hub_lines = await settlement.accrue(tx, cause_id=redemption.id, epoch=redemption.epoch, at=now)
    await points.burn(
        tx,
        redemption_id=redemption.id,
        epoch=redemption.epoch,
        sinks={leg.leg_no: _sink(leg, redemption.merchant_id) for leg in redemption.legs},
        hub_lines=hub_lines,
        actor=redemption.member_id,
        now=now,
    )
    await _issue_voucher(tx, redemption, fact.artefacts, now=now)
    return await move(
        tx,
        redemption,
        state,
        booking_ref=fact.booking_ref,
        fact_version=fact.version,
        committed_at=now,
        reason=None,
    )


def _sink(leg: Leg, redeemer: str) -> str:
    return "REDEEMED_OWN" if leg.own else f"REDEEMED_X:{redeemer}"


async def _issue_voucher(
    tx: AsyncConnection, redemption: Redemption, artefacts: Mapping[str, str], *, now: datetime
) -> None:
    code = artefacts.get("code")
    while not await store.add_voucher(
        tx,
        {
            "voucher_id": new_id("vch"),
            "redemption_id": redemption.id,
            "merchant_id": redemption.merchant_id,
            "code": code or f"{secrets.randbelow(10**8):08d}",
            "holder": redemption.member_id,
            "artefacts": dict(artefacts),
            "state": "ISSUED",
        },
    ):
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
            code = None


async def release(
    tx: AsyncConnection,
    redemption: Redemption,
    *,
    reason: str,
    now: datetime,
    fenced: bool = False,
    tell_partner: bool = False,
) -> Redemption:
    """Void the holds: points back to their lots, cover and cap given back.

    Args:
        tell_partner: The partner still holds something: RELEASING until it knows.
    """
    hub_lines = await settlement.release(tx, cause_id=redemption.id, epoch=redemption.epoch)
    await points.release(
        tx,
        redemption_id=redemption.id,
        epoch=redemption.epoch,
        hub_lines=hub_lines,
        actor=redemption.member_id,
        now=now,
    )
    if tell_partner:
        return await move(
            tx, redemption, State.RELEASING, reason=reason, due_at=now, polls=0, fenced=fenced
        )
    return await move(tx, redemption, State.RELEASED, reason=reason, released_at=now, fenced=fenced)


async def late_confirm(
    tx: AsyncConnection, redemption: Redemption, fact: Fact, *, settings: Settings, now: datetime
) -> Redemption:
    """A confirmation after the release (contracts §5.5): hold the same points again and burn."""
    released_at = redemption.released_at or now
    if redemption.state is State.RELEASING:
        redemption = await move(tx, redemption, State.RELEASED, released_at=now)
    if redemption.fenced:
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
                    hub_lines=await _take_cover(tx, again, now=now),
                    expires_at=now + timedelta(seconds=settings.points_hold_ttl_seconds),
                    actor=redemption.member_id,
                    now=now,
                )
                changes = {"epoch": again.epoch}
                await store.update(tx, redemption.id, changes)
                return await commit(tx, again, fact, now=now, state=State.LATE_CONFIRMED)
        except (InsufficientPoints, settlement.AgreementCap, settlement.CoverExceeded):
            pass  # The savepoint is gone; the booking must go too.
    payload = {"redemption": redemption.id, "booking_ref": fact.booking_ref}
    lane = redemption.merchant_id
    await enqueue(tx, name="cancel_late", key=redemption.id, payload=payload, lane=lane)
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
    await store.set_voucher(tx, redemption.id, state="VOID", used_at=None)
    if fault is Fault.REDEEMER:
        for leg in redemption.legs:
            await compensation.compensate(tx, redemption, leg, now=now)
    return await move(
        tx, redemption, State.CANCELLED, fault=fault, fact_version=version, cancelled_at=now
    )


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
        await _adjust_fare(tx, redemption, fare_fen=fare, actor=actor, now=now)
    await settlement.clear(tx, cause_id=redemption.id, at=now)
    await store.set_voucher(tx, redemption.id, state="USED", used_at=now)
    return await move(
        tx,
        redemption,
        State.FULFILLED,
        final_fare_fen=fare,
        fact_version=max(version, redemption.fact_version),
        fulfilled_at=now,
    )


async def _adjust_fare(
    tx: AsyncConnection, redemption: Redemption, *, fare_fen: int, actor: str, now: datetime
) -> None:
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
    if not back:
        return
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
