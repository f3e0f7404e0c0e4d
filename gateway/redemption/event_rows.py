"""Rows of partners' webhooks: which one is next, which one waits, which one is set aside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import insert_missing
from gateway.redemption import store
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


async def add_event(tx: AsyncConnection, row: Mapping[str, Any]) -> bool:
    """Store a webhook; False when its id was seen before."""
    return bool((await tx.execute(insert_missing(tx, events), row)).rowcount)


async def next_event(tx: AsyncConnection, *, now: datetime) -> sa.Row[Any] | None:
    """The oldest webhook that is stored and to be applied now, if any; nobody else takes it."""
    due = _e.due_at.is_(None) | (_e.due_at <= now)
    query = sa.select(events).where(_e.applied_at.is_(None), due)
    query = query.order_by(_e.received_at, _e.event_id).limit(1)
    return (await tx.execute(query.with_for_update(skip_locked=True))).one_or_none()


async def close_event(
    tx: AsyncConnection,
    *,
    merchant_id: str,
    event_id: str,
    outcome: str,
    redemption_id: str | None,
    now: datetime,
    use_version: int | None = None,
) -> None:
    """Note what became of a webhook."""
    mine = (_e.merchant_id == merchant_id) & (_e.event_id == event_id)
    values = {"applied_at": now, "outcome": outcome, "redemption_id": redemption_id}
    await tx.execute(sa.update(events).where(mine).values(values | {"use_version": use_version}))


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
    mine = sa.and_(store.SET_ASIDE, _e.applied_at >= since)  # as its index says it
    count = await tx.scalar(sa.select(sa.func.count()).where(mine)) or 0
    query = sa.select(_e.merchant_id, _e.event_id).where(mine)
    rows = await tx.execute(query.order_by(_e.applied_at.desc(), _e.event_id).limit(_NAMED))
    return Aside(count, tuple(f"{row.merchant_id} {row.event_id[:80]}" for row in rows))


def _same(row: sa.Row[Any]) -> sa.ColumnElement[bool]:
    """The same webhook, as it was when it was read."""
    tried = _e.tries.is_(None) if row.tries is None else _e.tries == row.tries
    mine = (_e.merchant_id == row.merchant_id) & (_e.event_id == row.event_id)
    return sa.and_(mine, _e.applied_at.is_(None), tried)
