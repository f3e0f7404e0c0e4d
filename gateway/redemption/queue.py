"""The redemption row as a queue: leases of what is due, how deep it is, how old doubt is.

Any number of workers lease from it. A lease is a matter of pace, never of truth: whoever acts on
a redemption locks its row and looks at its state first, so a holder whose lease has run out
changes nothing that another has done since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import one_of
from gateway.jobs import Depth, Left
from gateway.redemption import store
from gateway.redemption.model import WORKED, State

_r = store.redemptions.c
_worked = _r.state.in_([str(state) for state in WORKED])


@dataclass(frozen=True, slots=True)
class DoubtAge:
    """How long redemptions at one merchant have been IN_DOUBT."""

    count: int
    oldest: timedelta
    p99: timedelta


async def lease_due(
    tx: AsyncConnection,
    *,
    now: datetime,
    system_now: datetime,
    until: datetime,
    limit: int,
    full: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """Take redemptions that are due until an instant; no two workers get the same one.

    Args:
        now: Business time, by which they are due.
        system_now, until: System time, by which leases run.
        full: Merchants that are to be asked nothing more now.

    Returns:
        Redemption and merchant, what has been due longest first.
    """
    free = sa.or_(_r.leased_until.is_(None), _r.leased_until < system_now)
    where = [_worked, _r.due_at <= now, free]
    if full:
        where.append(_r.merchant_id.not_in(full))
    query = (
        sa.select(_r.id, _r.merchant_id)
        .where(*where)
        .order_by(_r.due_at, _r.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = [(row.id, row.merchant_id) for row in await tx.execute(query)]
    if found:
        taken = one_of(tx, _r.id, [redemption_id for redemption_id, _ in found])
        await tx.execute(sa.update(store.redemptions).where(taken).values(leased_until=until))
    return found


async def hand_back(tx: AsyncConnection, redemption_ids: Sequence[str]) -> None:
    """End the leases of what is not done: it is due for any worker, at once."""
    mine = one_of(tx, _r.id, redemption_ids) & _worked
    await tx.execute(sa.update(store.redemptions).where(mine).values(leased_until=None))


async def depth(tx: AsyncConnection, *, now: datetime) -> Depth:
    """How many redemptions are due and not done, leased ones included."""
    query = sa.select(sa.func.count(), sa.func.min(_r.due_at)).where(_worked, _r.due_at <= now)
    count, since = (await tx.execute(query)).one()
    return Depth(count, now - since if since else timedelta(0))


async def left(tx: AsyncConnection, *, now: datetime, system_now: datetime) -> Left:
    """Redemptions that are due and that no worker holds."""
    free = sa.or_(_r.leased_until.is_(None), _r.leased_until < system_now)
    mine = sa.and_(_r.due_at <= now, free)
    query = sa.select(
        sa.func.count(sa.case((mine, 1))),
        sa.func.min(sa.case((mine, _r.due_at))),
        sa.func.max(_r.leased_until),
    ).where(_worked)
    count, since, until = (await tx.execute(query)).one()
    return Left(count, now - since if since else timedelta(0), until)


async def events_depth(tx: AsyncConnection, *, now: datetime) -> Depth:
    """How many partners' webhooks are stored and not applied."""
    e = store.events.c
    query = sa.select(sa.func.count(), sa.func.min(e.received_at)).where(e.applied_at.is_(None))
    count, since = (await tx.execute(query)).one()
    return Depth(count, now - since if since else timedelta(0))


async def doubt_ages(tx: AsyncConnection, *, now: datetime) -> dict[str, DoubtAge]:
    """Redemptions IN_DOUBT by merchant: how many, the oldest, and the age 99 % are below (R8)."""
    query = sa.select(_r.merchant_id, _r.doubt_since).where(_r.state == str(State.IN_DOUBT))
    ages: dict[str, list[timedelta]] = {}
    for row in await tx.execute(query):
        ages.setdefault(row.merchant_id, []).append(max(now - row.doubt_since, timedelta(0)))
    found = {}
    for merchant, each in sorted(ages.items()):
        each.sort()
        p99 = each[-(-len(each) * 99 // 100) - 1]
        found[merchant] = DoubtAge(len(each), each[-1], p99)
    return found
