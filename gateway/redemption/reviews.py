"""The inbox of redemptions that need a person, and what two people decide about them.

A decision is proposed by one and approved by another. It is then done by the same effects that a
partner's answer has; nobody posts by hand. A redemption that a fact settles meanwhile leaves the
inbox, and what was proposed about it can no longer be approved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.compliance.model import require_four_eyes
from gateway.errors import NotFound
from gateway.jobs import enqueue
from gateway.points.service import HoldAlreadyResolved
from gateway.ports import Fact, Outcome
from gateway.redemption import effects, review_rows, store
from gateway.redemption.model import Fault, Redemption, Resolve, State, Step, ways_out
from gateway.settings import Settings
from gateway.values import InvalidInput, new_id

_v = store.review_resolutions.c


@dataclass(frozen=True, slots=True)
class Review:
    """Why a redemption needs a person, since when and until when, and what may be decided."""

    redemption: Redemption
    reason: str
    came_from: State
    step: Step
    opened_at: datetime
    due_at: datetime
    owner: str | None

    @property
    def outcomes(self) -> tuple[Resolve, ...]:
        """What may be decided; nothing any more once it is closed."""
        if self.redemption.state is not State.NEEDS_REVIEW:
            return ()
        return ways_out(self.came_from, committed=self.redemption.committed_at is not None)


@dataclass(frozen=True, slots=True)
class Resolution:
    """A decision: proposed by one person, approved by another."""

    id: str
    redemption_id: str
    outcome: Resolve
    fault: Fault | None
    evidence: str | None
    note: str
    amount_fen: int
    state: str
    proposed_by: str
    proposed_at: datetime
    approved_by: str | None = None
    approved_at: datetime | None = None


async def reviews(
    tx: AsyncConnection,
    *,
    redemption_id: str | None = None,
    merchant_id: str | None = None,
    reason: str | None = None,
    owner: str | None = None,
    closed: bool = False,
) -> list[Review]:
    """The inbox, what is due first first.

    Args:
        closed: Those that were settled, by a fact or by people, instead.
    """
    given = (
        (store.reviews.c.redemption_id, redemption_id),
        (store.redemptions.c.merchant_id, merchant_id),
        (store.reviews.c.reason, reason),
        (store.reviews.c.owner, owner),
    )
    where = [column == value for column, value in given if value is not None]
    waiting = store.redemptions.c.state == str(State.NEEDS_REVIEW)
    where.append(sa.not_(waiting) if closed else waiting)
    return await _with_redemptions(tx, await review_rows.find(tx, *where))


async def _with_redemptions(tx: AsyncConnection, rows: Sequence[sa.Row[Any]]) -> list[Review]:
    found = await store.find_many(tx, [row.redemption_id for row in rows]) if rows else {}
    return [
        Review(
            redemption=found[row.redemption_id],
            reason=row.reason,
            came_from=State(row.came_from),
            step=Step(row.step),
            opened_at=row.opened_at,
            due_at=row.due_at,
            owner=row.owner,
        )
        for row in rows
    ]


async def resolutions(
    tx: AsyncConnection, *, redemption_id: str | None = None, resolution_id: str | None = None
) -> list[Resolution]:
    """Decisions and proposals, oldest first."""
    given = ((_v.redemption_id, redemption_id), (_v.id, resolution_id))
    where = [column == value for column, value in given if value is not None]
    return [_resolution(row) for row in await review_rows.find_resolutions(tx, *where)]


async def facts(tx: AsyncConnection, redemption_id: str) -> list[sa.Row[Any]]:
    """What the partner has said: op_key, version, outcome, source, booking_ref, recorded_at."""
    return await review_rows.all_facts(tx, [redemption_id])


async def propose(
    tx: AsyncConnection,
    *,
    redemption_id: str,
    outcome: str,
    note: str,
    evidence: str | None,
    fault: str | None,
    actor: str,
    now: datetime,
) -> Resolution:
    """Propose what to do; an earlier proposal is withdrawn, and the proposer owns the review.

    Args:
        evidence: The partner's booking, for COMMIT.
        fault: Who is the cause, for CANCEL: it decides fee, expiry and compensation.

    Raises:
        NotFound: There is no such redemption.
        HoldAlreadyResolved: It needs nobody any more.
        InvalidInput: This outcome does not fit its state, or lacks its evidence.
    """
    found = await _waiting(tx, redemption_id)
    if outcome not in found.outcomes:
        raise InvalidInput("outcome", "one of {values}", values=found.outcomes)
    chosen = Resolve(outcome)
    if (chosen is Resolve.COMMIT) != bool(evidence and evidence.strip()):
        raise InvalidInput(
            "evidence", "COMMIT needs the partner's booking; no other outcome takes one"
        )
    if fault not in (list(Fault) if chosen is Resolve.CANCEL else [None]):
        raise InvalidInput("fault", "one of {values}, for CANCEL only", values=[*Fault])
    if not note.strip():
        raise InvalidInput("note", "why")
    made = Resolution(
        id=new_id("rvw"),
        redemption_id=redemption_id,
        outcome=chosen,
        fault=Fault(fault) if fault else None,
        evidence=evidence,
        note=note,
        amount_fen=found.redemption.list_fen,
        state="PROPOSED",
        proposed_by=actor,
        proposed_at=now,
    )
    pending = (_v.redemption_id == redemption_id, _v.state == "PROPOSED")
    await review_rows.update_resolutions(tx, *pending, state="WITHDRAWN")
    await review_rows.add_resolution(tx, _row(made))
    await review_rows.update(tx, redemption_id, {"owner": found.owner or actor})
    return made


async def approve(
    tx: AsyncConnection,
    *,
    resolution_id: str,
    actor: str,
    limit_fen: int,
    settings: Settings,
    now: datetime,
) -> Resolution:
    """Approve a proposal: it is done at once. Approving twice is approving once.

    COMMIT of what was released goes the way of a late confirmation (contracts §5.5).

    Raises:
        NotFound: There is no such proposal, or it was withdrawn.
        FourEyesRequired: The approver proposed it, or has too low a limit.
        HoldAlreadyResolved: A fact has settled the redemption meanwhile.
    """
    found = await resolutions(tx, resolution_id=resolution_id)
    if not found or found[0].state == "WITHDRAWN":
        raise NotFound(id=resolution_id)
    if found[0].state == "APPROVED":
        return found[0]
    review = await _waiting(tx, found[0].redemption_id)
    (row,) = await review_rows.find_resolutions(tx, _v.id == resolution_id, lock=True)
    proposal = _resolution(row)
    if proposal.state != "PROPOSED":
        raise NotFound(id=resolution_id)
    require_four_eyes(
        proposer=proposal.proposed_by,
        approver=actor,
        amount_fen=proposal.amount_fen,
        limit_fen=limit_fen,
    )
    done = {"state": "APPROVED", "approved_by": actor, "approved_at": now}
    await review_rows.update_resolutions(tx, _v.id == resolution_id, **done)
    await _act(tx, review, proposal, settings=settings, now=now)
    body: dict[str, object] = {
        "redemption": proposal.redemption_id,
        "outcome": str(proposal.outcome),
        "proposed_by": proposal.proposed_by,
        "evidence": proposal.evidence,
        "note": proposal.note,
        "amount_fen": proposal.amount_fen,
        "limit_fen": limit_fen,
    }
    await audit.record(
        tx, kind="review.approved", subject=resolution_id, actor=actor, body=body, now=now
    )
    (row,) = await review_rows.find_resolutions(tx, _v.id == resolution_id)
    return _resolution(row)


async def _act(
    tx: AsyncConnection, review: Review, proposal: Resolution, *, settings: Settings, now: datetime
) -> Redemption:
    redemption = review.redemption
    released = review.came_from in (State.RELEASED, State.RELEASING)
    match proposal.outcome:
        case Resolve.COMMIT:
            await store.reopen_events(tx, redemption.id)
            fact = await _confirmed(tx, redemption, proposal, now=now)
            if not released:
                return await effects.commit(tx, redemption, fact, now=now)
            again = await effects.move(tx, redemption, State.RELEASED, now=now)
            return await effects.late_confirm(tx, again, fact, settings=settings, now=now)
        case Resolve.RELEASE:
            return await _release(tx, redemption, now=now)
        case Resolve.CANCEL:
            assert proposal.fault, "a cancellation has a cause"
            version = redemption.fact_version
            return await effects.reverse(
                tx, redemption, fault=proposal.fault, version=version, now=now
            )
        case Resolve.KEEP:
            await store.reopen_events(tx, redemption.id)
            was = (State.CANCELLED, State.FULFILLED)
            state = review.came_from if review.came_from in was else State.COMMITTED
            return await effects.move(
                tx, redemption, state, now=now, reason=None, cancel_quote_id=None
            )


async def _confirmed(
    tx: AsyncConnection, redemption: Redemption, proposal: Resolution, *, now: datetime
) -> Fact:
    """The booking that people have seen, kept as the fact it is (R1)."""
    fact = Fact(redemption.op_key(Step.CONFIRM), Outcome.CONFIRMED, booking_ref=proposal.evidence)
    body: Mapping[str, object] = {"resolution": proposal.id, "note": proposal.note}
    await store.add_fact(
        tx,
        {
            "op_key": fact.op_key,
            "version": fact.version,
            "outcome": str(fact.outcome),
            "redemption_id": redemption.id,
            "source": "review",
            "booking_ref": fact.booking_ref,
            "body": body,
            "recorded_at": now,
        },
    )
    return fact


async def _release(tx: AsyncConnection, redemption: Redemption, *, now: datetime) -> Redemption:
    """Points back; the partner is told to let go, even if we never learnt of its hold."""
    if redemption.hold_ref is None:
        op_key = redemption.op_key(Step.HOLD)
        payload = {"redemption": redemption.id, "op_key": op_key}
        lane = redemption.merchant_id
        await enqueue(tx, name="let_go", key=op_key, payload=payload, lane=lane)
    tell = redemption.hold_ref is not None
    return await effects.release(tx, redemption, reason="REVIEW", tell_partner=tell, now=now)


async def _waiting(tx: AsyncConnection, redemption_id: str) -> Review:
    """A review whose redemption is locked, and still needs a person."""
    redemption = await store.find(tx, redemption_id, lock=True)
    if redemption is None:
        raise NotFound(id=redemption_id)
    if redemption.state is not State.NEEDS_REVIEW:
        raise HoldAlreadyResolved(hold=redemption_id, state=redemption.state)
    rows = await review_rows.find(tx, store.reviews.c.redemption_id == redemption_id)
    return (await _with_redemptions(tx, rows))[0]


def _resolution(row: sa.Row[Any]) -> Resolution:
    values = dict(row._mapping)
    values["outcome"] = Resolve(values["outcome"])
    values["fault"] = Fault(values["fault"]) if values["fault"] else None
    return Resolution(**values)


def _row(made: Resolution) -> dict[str, Any]:
    row = {name: getattr(made, name) for name in Resolution.__dataclass_fields__}
    return row | {"outcome": str(made.outcome), "fault": str(made.fault) if made.fault else None}
