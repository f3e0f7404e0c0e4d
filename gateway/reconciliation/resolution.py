"""Decisions about breaks: proposed by one person, approved by another, posted, never edited."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.compliance.model import require_four_eyes
from gateway.errors import NotFound, Refused
from gateway.ledger import service as ledger
from gateway.ledger.model import Journal, Kind, Line
from gateway.reconciliation import store
from gateway.reconciliation.model import (
    CLOSED_STATES,
    Action,
    Break,
    BreakState,
    Resolution,
    ResolutionState,
    flows_of,
)
from gateway.settlement import service as settlement
from gateway.values import InvalidInput, new_id

TOLERANCE_FEN = 100  # a write-off is for small change; more needs an adjustment (default)


class ToleranceExceeded(Refused):
    code = "TOLERANCE_EXCEEDED"
    when = "write-off above tolerance or monthly cap"
    zh = "超出容差 {limit}"
    en = "above the tolerance of {limit}"
    next_zh = "请提出调整"
    next_en = "propose an adjustment"


async def assign_break(tx: AsyncConnection, *, break_id: str, owner: str) -> Break:
    """Give an open break an owner.

    Raises:
        NotFound: There is no such break.
        InvalidInput: It is closed.
    """
    found = await _open_break(tx, break_id)
    state = BreakState.ASSIGNED if found.state is BreakState.OPEN else found.state
    await store.update_break(tx, break_id, owner=owner, state=state)
    return replace(found, owner=owner, state=state)


async def propose_resolution(
    tx: AsyncConnection,
    *,
    break_id: str,
    action: str,
    note: str,
    actor: str,
    now: datetime,
    tolerance_fen: int = TOLERANCE_FEN,
) -> Resolution:
    """Propose what to do about a break; an earlier proposal is withdrawn.

    ACCEPT_THEIRS moves the difference between issuer and redeemer, WRITE_OFF takes it from the
    tolerance account, ACCEPT_OURS moves nothing. ASK_PARTNER is no decision: the break is
    INVESTIGATING, and needs no approval for that.

    Raises:
        NotFound: There is no such break.
        InvalidInput: It is closed, or there is no such action.
        ToleranceExceeded: A write-off of more than the tolerance.
    """
    if action not in list(Action):
        raise InvalidInput("action", "one of {values}", values=[*Action])
    found = await _open_break(tx, break_id)
    asked = Action(action) is Action.ASK_PARTNER
    flows = flows_of(Action(action), found)
    amount_fen = max(found.amount_fen, sum(flow.fen for flow in flows))
    if Action(action) is Action.WRITE_OFF and amount_fen > tolerance_fen:
        raise ToleranceExceeded(limit_fen=tolerance_fen, asked_fen=amount_fen)
    made = Resolution(
        id=new_id("adj"),
        break_id=break_id,
        action=Action(action),
        note=note,
        state=ResolutionState.ASKED if asked else ResolutionState.PROPOSED,
        flows=flows,
        amount_fen=amount_fen,
        proposed_by=actor,
        proposed_at=now,
    )
    await _withdraw(tx, break_id)
    await store.add_resolution(tx, made)
    state = BreakState.INVESTIGATING if asked else BreakState.PROPOSED
    owner = found.owner or actor
    await store.update_break(tx, break_id, state=state, owner=owner)
    return made


async def approve_resolution(
    tx: AsyncConnection, *, resolution_id: str, actor: str, limit_fen: int, now: datetime
) -> Resolution:
    """Approve a proposal: money moves by adjustments in the open window, and the break closes.

    Approving twice is approving once.

    Raises:
        NotFound: There is no such proposal, or it was withdrawn.
        FourEyesRequired: The approver proposed it, or has too low a limit.
    """
    found, proposal = await _proposal(tx, resolution_id)
    if proposal.state is ResolutionState.APPROVED:
        return proposal
    require_four_eyes(
        proposer=proposal.proposed_by,
        approver=actor,
        amount_fen=proposal.amount_fen,
        limit_fen=limit_fen,
    )
    journal_id = await _post(tx, proposal, found, approver=actor, now=now)
    approved = replace(
        proposal,
        state=ResolutionState.APPROVED,
        approved_by=actor,
        approved_at=now,
        journal_id=journal_id,
    )
    await store.update_resolutions(
        tx,
        store.resolutions.c.resolution_id == resolution_id,
        state=approved.state,
        approved_by=actor,
        approved_at=now,
        journal_id=journal_id,
    )
    body = {"action": proposal.action, "amount_fen": proposal.amount_fen, "break": found.id}
    body |= {"proposed_by": proposal.proposed_by, "note": proposal.note, "limit_fen": limit_fen}
    body |= {"journal": journal_id}
    await audit.record(
        tx,
        kind="resolution.approved",
        subject=resolution_id,
        actor=actor,
        body=body,
        now=now,
    )
    off = proposal.action is Action.WRITE_OFF
    await store.update_break(
        tx,
        found.id,
        state=BreakState.WRITTEN_OFF if off else BreakState.CLOSED,
        closed_at=now,
        resolution_id=resolution_id,
    )
    return approved


async def reject_resolution(tx: AsyncConnection, *, resolution_id: str) -> Resolution:
    """Turn a proposal down: the break goes back to its owner.

    Raises:
        NotFound: There is no such proposal, or it is decided already.
    """
    _, proposal = await _proposal(tx, resolution_id)
    if proposal.state is not ResolutionState.PROPOSED:
        raise NotFound(id=resolution_id)
    await _withdraw(tx, proposal.break_id)
    await store.update_break(tx, proposal.break_id, state=BreakState.ASSIGNED)
    return replace(proposal, state=ResolutionState.WITHDRAWN)


async def resolutions(
    tx: AsyncConnection, *, break_id: str | None = None, state: str | None = None
) -> list[Resolution]:
    """Decisions and proposals, oldest first."""
    r = store.resolutions.c
    given = ((r.break_id, break_id), (r.state, state))
    return await store.find_resolutions(
        tx, *(column == value for column, value in given if value is not None)
    )


async def _open_break(tx: AsyncConnection, break_id: str) -> Break:
    found = await store.find_breaks(tx, store.breaks.c.break_id == break_id, lock=True)
    if not found:
        raise NotFound(id=break_id)
    if found[0].state in CLOSED_STATES:
        raise InvalidInput("break_id", "an open break")
    return found[0]


async def _proposal(tx: AsyncConnection, resolution_id: str) -> tuple[Break, Resolution]:
    """A proposal that stands, or is approved, with its break; the break is locked first."""
    where = store.resolutions.c.resolution_id == resolution_id
    named = await store.find_resolutions(tx, where)
    if not named:
        raise NotFound(id=resolution_id)
    mine = store.breaks.c.break_id == named[0].break_id
    (found,) = await store.find_breaks(tx, mine, lock=True)
    (proposal,) = await store.find_resolutions(tx, where, lock=True)
    if proposal.state not in (ResolutionState.PROPOSED, ResolutionState.APPROVED):
        raise NotFound(id=resolution_id)
    return found, proposal


async def _withdraw(tx: AsyncConnection, break_id: str) -> None:
    r = store.resolutions.c
    pending = (r.break_id == break_id, r.state == ResolutionState.PROPOSED)
    await store.update_resolutions(tx, *pending, state=ResolutionState.WITHDRAWN)


async def _post(
    tx: AsyncConnection, proposal: Resolution, found: Break, *, approver: str, now: datetime
) -> str | None:
    lines: list[Line] = []
    for number, flow in enumerate(proposal.flows, 1):
        lines += await settlement.correct(
            tx,
            cause_id=found.id,
            payer=flow.payer,
            payee=flow.payee,
            fen=flow.fen,
            at=now,
            key=f"{found.key}:{number}",
            corrects_id=found.ours_ids[0] if found.ours_ids else None,
        )
    if not lines:
        return None
    journal = Journal(
        kind=Kind.RECON,
        op_key=f"{proposal.id}:recon",
        lines=tuple(lines),
        effective_at=now,
        actor=proposal.proposed_by,
        approver=approver,
        cause_id=found.id,
        note=proposal.note,
    )
    return (await ledger.post(tx, [journal], now=now))[0]
