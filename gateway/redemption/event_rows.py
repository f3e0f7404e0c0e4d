"""Rows of partners' webhooks: which one is next, which one waits, which one is set aside."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.redemption.store import events

FAILED, SET_ASIDE = "failed: ", "set aside: "
"""How the outcome begins of what a bug kept from being applied, and of what cannot be true."""
REMEMBERED = timedelta(days=7)
"""How long operators are told of what was set aside."""
_NAMED = 3
_e = events.c


@dataclass(frozen=True, slots=True)
class Aside:
    """How many webhooks were set aside, and the newest of them."""

    count: int
    named: Sequence[str]


async def next_event(tx: AsyncConnection, *, now: datetime) -> sa.Row[Any] | None:
    """The oldest webhook that is stored and to be applied now, if any; nobody else takes it."""
    due = _e.due_at.is_(None) | (_e.due_at <= now)
    query = sa.select(events).where(_e.applied_at.is_(None), due)
    query = query.order_by(_e.received_at, _e.event_id).limit(1)
    return (await tx.execute(query.with_for_update(skip_locked=True))).one_or_none()


async def put_off(tx: AsyncConnection, row: sa.Row[Any], *, until: datetime) -> None:
    """Let a webhook wait after a try that failed, unless it was taken since."""
    values = {"due_at": until, "tries": (row.tries or 0) + 1}
    await tx.execute(sa.update(events).where(_same(row)).values(values))


async def give_up(tx: AsyncConnection, row: sa.Row[Any], *, outcome: str, now: datetime) -> None:
    """Set a webhook aside after its last try, unless it was taken since."""
    values = {"applied_at": now, "outcome": outcome, "tries": (row.tries or 0) + 1}
    await tx.execute(sa.update(events).where(_same(row)).values(values))


async def set_aside(tx: AsyncConnection, *, since: datetime) -> Aside:
    """What was set aside since an instant."""
    mine = _e.outcome.startswith(FAILED) | _e.outcome.startswith(SET_ASIDE)
    mine &= _e.applied_at >= since
    count = await tx.scalar(sa.select(sa.func.count()).where(mine)) or 0
    query = sa.select(_e.merchant_id, _e.event_id).where(mine)
    rows = await tx.execute(query.order_by(_e.applied_at.desc(), _e.event_id).limit(_NAMED))
    return Aside(count, tuple(f"{row.merchant_id} {row.event_id[:80]}" for row in rows))


def _same(row: sa.Row[Any]) -> sa.ColumnElement[bool]:
    """The same webhook, as it was when it was read."""
    tried = _e.tries.is_(None) if row.tries is None else _e.tries == row.tries
    mine = (_e.merchant_id == row.merchant_id) & (_e.event_id == row.event_id)
    return sa.and_(mine, _e.applied_at.is_(None), tried)
