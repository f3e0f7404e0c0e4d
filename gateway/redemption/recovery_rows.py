"""What partners knew after a restore, and what became of it: a row a redemption and merchant.

Whoever names a redemption speaks of its own keys only: what one merchant says has no say in what
stands at another.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Instant, Json, insert_missing, metadata
from gateway.redemption.model import WORKED, State
from gateway.redemption.store import redemptions

recoveries = sa.Table(  # what partners knew after a restore
    "redemption_recoveries",
    metadata,
    sa.Column("redemption_id", sa.String, primary_key=True),  # also of none that is known here
    sa.Column("merchant_id", sa.String, primary_key=True),  # who named it, or whose it is
    sa.Column("known", sa.Boolean, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("result", sa.String, nullable=False),  # what became of it, or why it waits
    sa.Column("evidence", Json, nullable=False),  # everything the partner said
    sa.Column("found_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.CheckConstraint("state IN ('FOUND', 'ENDED', 'REVIEW')", name="state"),
)


async def add_recovery(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Note a redemption that a partner knows; what was noted before stays."""
    first = {"state": "FOUND", "result": "found"}
    await tx.execute(insert_missing(tx, recoveries), first | dict(row))


async def set_recovery(
    tx: AsyncConnection, redemption_id: str, merchant_id: str, **values: Any
) -> None:
    mine = _named_by(redemption_id, merchant_id)
    await tx.execute(sa.update(recoveries).where(mine).values(values))


async def recovery_result(tx: AsyncConnection, redemption_id: str, merchant_id: str) -> str | None:
    """What became of a redemption at a merchant in a recovery before this one."""
    query = sa.select(recoveries.c.result).where(_named_by(redemption_id, merchant_id))
    found: str | None = await tx.scalar(query)
    return found


def _named_by(redemption_id: str, merchant_id: str) -> sa.ColumnElement[bool]:
    c = recoveries.c
    return sa.and_(c.redemption_id == redemption_id, c.merchant_id == merchant_id)


async def list_recoveries(tx: AsyncConnection, *states: str) -> list[sa.Row[Any]]:
    """What partners knew, by redemption, which is by its making."""
    query = sa.select(recoveries).order_by(recoveries.c.redemption_id, recoveries.c.merchant_id)
    if states:
        query = query.where(recoveries.c.state.in_(states))
    return list(await tx.execute(query))


async def undecided(tx: AsyncConnection, merchant_id: str, *, since: datetime) -> list[str]:
    """Redemptions at a merchant whose end the partner may know better after a restore: all that
    are on their way, and those committed whose booking may have been cancelled since."""
    r = redemptions.c
    open_ = r.state.in_([str(state) for state in WORKED])
    committed = r.state.in_([str(State.COMMITTED), str(State.LATE_CONFIRMED)])
    cancellable = sa.or_(r.cancel_until.is_(None), r.cancel_until >= since)
    query = sa.select(r.id).where(r.merchant_id == merchant_id)
    query = query.where(sa.or_(open_, sa.and_(committed, cancellable)))
    return list(await tx.scalars(query.order_by(r.id)))
