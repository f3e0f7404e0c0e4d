"""Cancelled and used at the same time: the partner's versions say which came last.

A use that is told while a cancellation is under way is postponed (`inbox`); what the partner says
of the cancellation then decides about both. Source: contracts §5.4, row 10.
"""

from datetime import datetime
from enum import Enum, auto

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.ports import Fact, Outcome
from gateway.redemption import review_rows, store
from gateway.redemption.model import Redemption, State, Step

TIE = "CANCEL_AND_USE"


class Verdict(Enum):
    """What a cancellation that the partner reports comes to."""

    CANCELLED = auto()
    USED = auto()  # it was used after that: the use stands
    TIE = auto()  # a person must look
    NEITHER = auto()  # noted for finance, and nothing changes


async def cancelled_or_used(
    tx: AsyncConnection, redemption: Redemption, fact: Fact, *, waiting: bool, now: datetime
) -> Verdict:
    """Judge a CANCELLED fact of a redemption that is not cancelled.

    Args:
        waiting: We are waiting for this very answer.
    """
    if not waiting:
        # An answer that comes after another settled the cancellation. The booking is gone:
        # what is only committed goes with it, what was used is for people.
        detail = f"cancelled, v{fact.version}, while {redemption.state}"
        await store.add_finding(
            tx, redemption_id=redemption.id, code="STATUS_DIFF", detail=detail, now=now
        )
        untouched = redemption.state in (State.COMMITTED, State.LATE_CONFIRMED)
        return Verdict.CANCELLED if untouched else Verdict.NEITHER
    used = await store.postponed_use(tx, redemption.id)
    if used is None or 0 < used < fact.version:
        return Verdict.CANCELLED
    if fact.version in (0, used):
        detail = f"cancelled, v{fact.version}, and used, v{used}"
        await store.add_finding(
            tx, redemption_id=redemption.id, code="STATUS_DIFF", detail=detail, now=now
        )
        return Verdict.TIE
    return Verdict.USED


async def refused(tx: AsyncConnection, op_key: str) -> bool:
    """Whether the partner has said no under this key: asked again in other words, the no stands."""
    (known,) = await db.read(tx, store.ask_facts(op_key))
    return any(row.outcome == Outcome.REJECTED for row in known)


async def fenced(tx: AsyncConnection, redemption: Redemption) -> bool:
    """Whether a booking that comes after the release breaks a fence, which may be known since.

    The fence is that of the confirm; of the hold, if no confirm was ever sent: a hold that is let
    go after a refused confirm is fenced, too, and promises nothing about the confirm.
    Source: contracts §5.5 (4).
    """
    (known,) = await db.read(tx, store.ask_facts(redemption.op_key(redemption.last_step)))
    return any(row.outcome == Outcome.FENCED for row in known)


async def overtaken(tx: AsyncConnection, redemption: Redemption, version: int) -> bool:
    """Whether the partner has told a cancellation of the booking that is newer than a version.

    Source: contracts §4.3 (4).
    """
    mine = (redemption.op_key(Step.HOLD), redemption.op_key(Step.CONFIRM))
    return any(
        row.op_key in mine and row.outcome == Outcome.CANCELLED and row.version > version
        for row in await review_rows.all_facts(tx, [redemption.id])
    )


async def told_after(
    tx: AsyncConnection, redemption: Redemption, *, what: str, version: int, now: datetime
) -> Verdict:
    """Judge a webhook that says the other thing of what is cancelled or used already."""
    if version < redemption.fact_version:
        return Verdict.NEITHER
    detail = f"{what}, v{version}, after {redemption.state}, v{redemption.fact_version}"
    await store.add_finding(
        tx, redemption_id=redemption.id, code="STATUS_DIFF", detail=detail, now=now
    )
    return Verdict.TIE if version == redemption.fact_version else Verdict.NEITHER
