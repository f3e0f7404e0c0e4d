"""When the books were checked last, and what was found: one row, for all workers."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Instant, Json, insert_missing, metadata

invariant_checks = sa.Table(
    "invariant_checks",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True),
    sa.Column("taken_at", Instant, nullable=False),  # business time
    sa.Column("found", Json),  # null until the first have ended
    sa.CheckConstraint("one = 1", name="one"),
)
_c = invariant_checks.c


async def take_checks(tx: AsyncConnection, *, now: datetime, every: timedelta) -> bool:
    """Whether checks are due; then they are this caller's.

    Args:
        now: Business time; in the sandbox it may have been set back.
    """
    row = {"one": 1, "taken_at": now}
    if (await tx.execute(insert_missing(tx, invariant_checks), row)).rowcount == 1:
        return True
    due = sa.or_(_c.taken_at <= now - every, _c.taken_at > now)
    taken = await tx.execute(sa.update(invariant_checks).where(due).values(taken_at=now))
    return taken.rowcount == 1


async def checked(tx: AsyncConnection) -> Mapping[str, Any] | None:
    """What `keep_checked` kept last."""
    found: Mapping[str, Any] | None = await tx.scalar(sa.select(_c.found))
    return found


async def keep_checked(tx: AsyncConnection, found: Mapping[str, Any]) -> None:
    """Keep what was found."""
    await tx.execute(sa.update(invariant_checks).values(found=dict(found)))
