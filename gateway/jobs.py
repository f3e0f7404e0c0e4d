"""The queue of jobs: work that is due after the transaction that caused it, leased and retried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Instant, Json, insert_missing, metadata, one_of, system_now
from gateway.values import fingerprint

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("job_id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("key", sa.String, nullable=False, unique=True),  # the same work is queued once
    sa.Column("payload", Json, nullable=False),
    sa.Column("state", sa.String, nullable=False),  # DUE, DONE, DEAD
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", Instant, nullable=False),  # system time: leases are no business rule
    sa.Column("leased_until", Instant),
    sa.Column("last_error", sa.String),
    sa.Column("lane", sa.String),  # whose system it asks: one slow one holds up no other
    sa.CheckConstraint("state IN ('DUE', 'DONE', 'DEAD')", name="state"),
    sa.Index("ix_jobs_due", "state", "due_at"),
)


async def enqueue(
    tx: AsyncConnection,
    *,
    name: str,
    key: str,
    payload: Mapping[str, object],
    due_at: datetime | None = None,
    lane: str | None = None,
) -> None:
    """Queue a job in the transaction of its cause; the same key is queued once, for ever.

    Args:
        due_at: System time; None: at once.
        lane: Whose system it asks, a merchant's id; jobs of one lane run a few at a time.
    """
    row = {
        "job_id": f"job_{fingerprint([name, key])[:26]}",
        "name": name,
        "key": f"{name}:{key}",
        "payload": dict(payload),
        "state": "DUE",
        "lane": lane,
        "due_at": due_at or system_now(),
    }
    await tx.execute(insert_missing(tx, jobs), row)


async def queued(tx: AsyncConnection, *, name: str, key: str) -> bool:
    """Whether this work was ever queued, done or not."""
    found = sa.select(jobs.c.job_id).where(jobs.c.key == f"{name}:{key}")
    return await tx.scalar(found) is not None


async def lease_jobs(
    tx: AsyncConnection,
    *,
    system_now: datetime,
    lease_seconds: int,
    limit: int,
    full: Sequence[str] = (),
) -> list[sa.Row[Any]]:
    """Take due jobs for `lease_seconds`, oldest first; no two workers get the same one.

    Args:
        full: Lanes that have no place left; their jobs stay where they are.

    Returns:
        The rows as they were, with `lease`: what `finish_job` and `retry_job` must show.
    """
    until = system_now + timedelta(seconds=lease_seconds)
    free = sa.or_(jobs.c.leased_until.is_(None), jobs.c.leased_until < system_now)
    where = [jobs.c.state == "DUE", jobs.c.due_at <= system_now, free]
    if full:
        where.append(sa.or_(jobs.c.lane.is_(None), jobs.c.lane.not_in(full)))
    due = (
        sa.select(jobs, sa.literal(until, Instant).label("lease"))
        .where(*where)
        .order_by(jobs.c.due_at, jobs.c.job_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = list(await tx.execute(due))
    if rows:
        taken = one_of(tx, jobs.c.job_id, [row.job_id for row in rows])
        bump = {"leased_until": until, "attempts": jobs.c.attempts + 1}
        await tx.execute(sa.update(jobs).where(taken).values(bump))
    return rows


async def finish_job(tx: AsyncConnection, job_id: str, *, lease: datetime) -> bool:
    """Mark a job done; False, and nothing changes, when its lease has gone to another."""
    done = {"state": "DONE", "leased_until": None, "last_error": None}
    return await _end_lease(tx, job_id, lease, done)


async def retry_job(
    tx: AsyncConnection, job_id: str, *, lease: datetime, due_at: datetime | None, error: str
) -> bool:
    """Try a job again at `due_at`; None gives it up (DEAD). False as for `finish_job`."""
    values: dict[str, Any] = {"leased_until": None, "last_error": error[:1000]}
    values |= {"state": "DEAD"} if due_at is None else {"due_at": due_at}
    return await _end_lease(tx, job_id, lease, values)


async def return_job(tx: AsyncConnection, job_id: str, *, lease: datetime) -> bool:
    """Hand a job back that was not tried: it is due at once, for any worker."""
    return await _end_lease(
        tx, job_id, lease, {"leased_until": None, "attempts": jobs.c.attempts - 1}
    )


async def _end_lease(
    tx: AsyncConnection, job_id: str, lease: datetime, values: Mapping[str, Any]
) -> bool:
    mine = (jobs.c.job_id == job_id) & (jobs.c.state == "DUE") & (jobs.c.leased_until == lease)
    return bool((await tx.execute(sa.update(jobs).where(mine).values(values))).rowcount)


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits in a queue, and since when its oldest item has been due."""

    waiting: int
    oldest: timedelta
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """What is due in a queue and nobody's, since when its oldest item is, and who was there last.

    `leased_until` is the end of the lease that runs longest or did: None if there is none.
    """

    waiting: int
    oldest: timedelta
    leased_until: datetime | None


async def left(tx: AsyncConnection, *, system_now: datetime) -> Left:
    """Jobs that are due and that no worker holds."""
    free = sa.or_(jobs.c.leased_until.is_(None), jobs.c.leased_until < system_now)
    mine = sa.and_(jobs.c.due_at <= system_now, free)
    query = sa.select(
        sa.func.count(sa.case((mine, 1))),
        sa.func.min(sa.case((mine, jobs.c.due_at))),
        sa.func.max(jobs.c.leased_until),
    ).where(jobs.c.state == "DUE")
    count, since, until = (await tx.execute(query)).one()
    return Left(count, system_now - since if since else timedelta(0), until)


async def job_depths(tx: AsyncConnection, *, system_now: datetime) -> dict[str, Depth]:
    """Jobs by name: due now, the age of the oldest, and those given up."""
    overdue = sa.and_(jobs.c.state == "DUE", jobs.c.due_at <= system_now)
    found = await tx.execute(
        sa.select(
            jobs.c.name,
            sa.func.sum(sa.case((overdue, 1), else_=0)).label("waiting"),
            sa.func.min(sa.case((overdue, jobs.c.due_at))).label("since"),
            sa.func.sum(sa.case((jobs.c.state == "DEAD", 1), else_=0)).label("dead"),
        )
        .where(jobs.c.state != "DONE")
        .group_by(jobs.c.name)
        .order_by(jobs.c.name)
    )
    return {
        row.name: Depth(
            int(row.waiting), system_now - row.since if row.since else timedelta(0), int(row.dead)
        )
        for row in found
    }
