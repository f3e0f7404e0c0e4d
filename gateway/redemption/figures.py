"""What operators watch of redemptions: how many are open, what is unanswered, what is stuck."""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.redemption.model import WORKED, CallState, State
from gateway.redemption.store import calls, redemptions, reviews

_NAMED = 20  # Ids a list of stuck redemptions shows.
_r = redemptions.c


async def open_states(tx: AsyncConnection) -> dict[str, int]:
    """How many redemptions are in each state that is worked on or waits for a person."""
    states = [str(state) for state in (*WORKED, State.NEEDS_REVIEW)]
    query = sa.select(_r.state, sa.func.count().label("many"))
    rows = await tx.execute(query.where(_r.state.in_(states)).group_by(_r.state))
    return dict.fromkeys(states, 0) | {row.state: row.many for row in rows}


async def outbox(tx: AsyncConnection) -> tuple[int, datetime | None]:
    """Partner calls without an answer of redemptions that are open, and since when the oldest."""
    states = [str(state) for state in WORKED]
    query = (
        sa.select(sa.func.count(), sa.func.min(calls.c.queued_at))
        .join_from(redemptions, calls, calls.c.redemption_id == _r.id)
        .where(_r.state.in_(states), calls.c.state == str(CallState.PENDING))
    )
    count, oldest = (await tx.execute(query)).one()
    return count, oldest


async def trace_of(tx: AsyncConnection, redemption_id: str) -> str | None:
    """The `traceparent` under which a redemption's first call was queued: its member's request."""
    query = sa.select(calls.c.traceparent).where(calls.c.redemption_id == redemption_id)
    found: str | None = await tx.scalar(query.order_by(calls.c.queued_at).limit(1))
    return found


async def stuck(
    tx: AsyncConnection, *, now: datetime, system_now: datetime, patience: timedelta
) -> dict[str, list[str]]:
    """Redemptions that ought to have moved on, at most 20 of a kind, oldest first.

    Args:
        now: Business time. system_now: For leases.
        patience: How long after its time each of these is a finding.

    Returns:
        By why: `leased`, its lease has ended and nobody took it; `held`, past its hold's limit;
        `review`, waiting for a person; `overdue`, waiting for longer than it was given.
    """
    late = sa.select(reviews.c.redemption_id).where(reviews.c.due_at < now)
    worked = _r.state.in_([str(state) for state in WORKED])
    wheres = {
        "leased": sa.and_(worked, _r.leased_until < system_now - patience, _r.due_at < now),
        "held": sa.and_(_r.state == str(State.HELD), _r.points_hold_until < now - patience),
        "review": _r.state == str(State.NEEDS_REVIEW),
        "overdue": sa.and_(_r.state == str(State.NEEDS_REVIEW), _r.id.in_(late)),
    }
    found = {}
    for why, where in wheres.items():
        query = sa.select(_r.id).where(where).order_by(_r.created_at, _r.id).limit(_NAMED)
        found[why] = list(await tx.scalars(query))
    return found
