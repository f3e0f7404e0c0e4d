"""Engine, transactions, column types, the business clock, idempotency keys and jobs.

The only module that knows which database it is. Both run the same statements: single-row
conditional updates, CHECKs and unique keys at READ COMMITTED. On SQLite every writing
transaction is BEGIN IMMEDIATE; two processes may share the file, so the lock within the process
is only for fairness.
"""

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway import sqlite as driver
from gateway.errors import Denied, Refused
from gateway.values import fingerprint

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


class Instant(sa.types.TypeDecorator[datetime]):
    """A UTC instant with microseconds; naive values are refused."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "an instant has a time zone"
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("scope", sa.String, primary_key=True),  # who asked, and with which mutation
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("fingerprint", sa.String, nullable=False),
    sa.Column("object_id", sa.String),  # null while running
    sa.Column("recorded_at", Instant, nullable=False),
)

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

clock_offset = sa.Table(
    "clock_offset",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True),
    sa.Column("offset_us", sa.BigInteger, nullable=False),
    sa.CheckConstraint("one = 1", name="one"),
)


class IdempotencyConflict(Refused):
    code = "IDEMPOTENCY_CONFLICT"
    when = "the same key with another input"
    zh = "同一幂等键的内容不同"
    en = "same key, different input"
    next_zh = "请使用新的幂等键"
    next_en = "use a new key"


class IdempotencyInFlight(Refused):
    code = "IDEMPOTENCY_IN_FLIGHT"
    when = "the same key is still running"
    zh = "请求正在处理"
    en = "still running"
    next_zh = "{retry_after_seconds} 秒后用同一幂等键重试"
    next_en = "retry with the same key in {retry_after_seconds} s"


class SandboxOnly(Denied):
    code = "SANDBOX_ONLY"
    when = "a sandbox tool in live mode"
    zh = "仅限沙箱"
    en = "sandbox only"
    next_zh = "请在沙箱环境使用"
    next_en = "use it in the sandbox"


class Database:
    """One database: an engine and its transactions.

    Args:
        url: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://…`.
        pool_size: Connections kept; SQLite needs one per concurrent reader.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = url
        self._sqlite = url.startswith("sqlite")
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 10}
        if self._sqlite:
            connect: dict[str, Any] = {"timeout": 30, "isolation_level": None}
            options["connect_args"] = connect | {"async_creator_fn": driver.connect}
        else:
            options["pool_pre_ping"] = True
        self.engine: AsyncEngine = create_async_engine(url, **options)
        self._turn = asyncio.Lock()
        if self._sqlite:
            sa.event.listen(self.engine.sync_engine, "connect", _tune)
            sa.event.listen(self.engine.sync_engine, "begin", _begin)

    @property
    def file(self) -> Path | None:
        """Where it lies, if it is a file."""
        name = self.engine.url.database
        return Path(name) if self._sqlite and name else None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One writing transaction: commits at the end, rolls back on any exception."""
        async with contextlib.AsyncExitStack() as stack:
            if self._sqlite:
                await stack.enter_async_context(self._turn)
            connection = await stack.enter_async_context(self.engine.connect())
            connection = await connection.execution_options(writes=True)
            async with connection.begin():
                yield connection

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """One reading transaction; it sees one state of the database on SQLite."""
        async with self.engine.connect() as connection, connection.begin():
            yield connection

    async def close(self) -> None:
        await self.engine.dispose()


def _tune(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def insert_missing(
    tx: AsyncConnection | sa.Connection, table: sa.Table, *returning: sa.Column[Any]
) -> Any:
    """An INSERT that leaves an existing row alone (ON CONFLICT DO NOTHING), on either database.

    Built once per table: it is on the hot path.
    """
    return _insert_missing(tx.dialect.name, table, returning)


@functools.cache
def _insert_missing(dialect: str, table: sa.Table, returning: tuple[sa.Column[Any], ...]) -> Any:
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    statement = insert(table).on_conflict_do_nothing()
    return statement.returning(*returning) if returning else statement


async def lock_shared(tx: AsyncConnection, number: int) -> None:
    """Take a shared advisory lock until the transaction ends; a no-op where one writer rules."""
    if tx.dialect.name == "postgresql":
        await tx.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(number)))


async def lock_exclusive(tx: AsyncConnection, number: int) -> None:
    """Take the exclusive advisory lock of `lock_shared`'s number."""
    if tx.dialect.name == "postgresql":
        await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))


def system_now() -> datetime:
    """System time, UTC: for leases, never for a business rule."""
    return datetime.now(UTC)


class Clock:
    """Business time: system time plus an offset that only the sandbox may set.

    The offset lives in the database, so all processes share it; each reads it again after
    `refresh` (the setter at once).
    """

    def __init__(self, offset: timedelta = timedelta()) -> None:
        self._offset = offset

    def now(self) -> datetime:
        """UTC."""
        return datetime.now(UTC) + self._offset

    async def refresh(self, tx: AsyncConnection) -> None:
        """Take the offset other processes have set."""
        stored = await tx.scalar(sa.select(clock_offset.c.offset_us))
        self._offset = timedelta(microseconds=stored or 0)

    async def set(self, tx: AsyncConnection, instant: datetime) -> None:
        """Make it `instant` now, for every process. The caller checks that this is a sandbox."""
        self._offset = instant - datetime.now(UTC)
        offset_us = self._offset // timedelta(microseconds=1)
        await tx.execute(insert_missing(tx, clock_offset).values(one=1, offset_us=offset_us))
        await tx.execute(sa.update(clock_offset).values(offset_us=offset_us))


@dataclass(frozen=True, slots=True)
class Replay:
    """A request seen before: the id of the object it made."""

    object_id: str


async def claim_key(
    tx: AsyncConnection,
    *,
    scope: str,
    key: str,
    input: Mapping[str, object],
    now: datetime,
    object_id: str | None = None,
) -> Replay | None:
    """Claim an idempotency key inside the effect's transaction.

    The record becomes visible with the effect, or not at all: a refusal leaves none.

    Args:
        object_id: What the effect is about, if that is known before; else `settle_key` names it.

    Returns:
        None when the key is new: do the work, then `settle_key`. Replay when it was done.

    Raises:
        IdempotencyConflict: The same key came with another input.
        IdempotencyInFlight: Its first request has not finished.

    Source: requirements §3.1; draft-ietf-httpapi-idempotency-key-header.
    """
    given = fingerprint(input)
    row = {"scope": scope, "key": key, "fingerprint": given, "recorded_at": now}
    made = await tx.execute(insert_missing(tx, idempotency_keys), row | {"object_id": object_id})
    if made.rowcount == 1:
        return None
    return await peek_key(tx, scope=scope, key=key, input=input)


async def peek_key(
    tx: AsyncConnection, *, scope: str, key: str, input: Mapping[str, object]
) -> Replay | None:
    """What a key did before, without claiming it; None when it is new.

    Raises:
        IdempotencyConflict, IdempotencyInFlight: As for `claim_key`.
    """
    given = fingerprint(input)
    where = (idempotency_keys.c.scope == scope) & (idempotency_keys.c.key == key)
    stored = (await tx.execute(sa.select(idempotency_keys).where(where))).one_or_none()
    if stored is None:
        return None
    if stored.fingerprint != given:
        raise IdempotencyConflict(stored_hash=stored.fingerprint, given_hash=given)
    if stored.object_id is None:
        raise IdempotencyInFlight(retry_after_seconds=1)
    return Replay(stored.object_id)


_SETTLE_KEY = sa.update(idempotency_keys).where(
    idempotency_keys.c.scope == sa.bindparam("of_scope"),
    idempotency_keys.c.key == sa.bindparam("of_key"),
)


async def settle_key(tx: AsyncConnection, *, scope: str, key: str, object_id: str) -> None:
    """Name the object a claimed key has made."""
    await tx.execute(_SETTLE_KEY, {"of_scope": scope, "of_key": key, "object_id": object_id})


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
    row = {"job_id": f"job_{fingerprint([name, key])[:26]}", "name": name, "key": f"{name}:{key}"}
    row |= {"payload": dict(payload), "state": "DUE", "lane": lane}  # type: ignore[dict-item]
    row |= {"due_at": due_at or system_now()}  # type: ignore[dict-item]
    await tx.execute(insert_missing(tx, jobs), row)


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
        taken = jobs.c.job_id.in_([row.job_id for row in rows])
        bump = {"leased_until": until, "attempts": jobs.c.attempts + 1}
        await tx.execute(sa.update(jobs).where(taken).values(bump))
    return rows


async def waiting_jobs(tx: AsyncConnection) -> list[sa.Row[Any]]:
    """Jobs that are not done: name, state, how `many`, and `since`, the earliest `due_at`."""
    what = (jobs.c.name, jobs.c.state)
    query = sa.select(
        *what, sa.func.count().label("many"), sa.func.min(jobs.c.due_at).label("since")
    )
    return list(await tx.execute(query.where(jobs.c.state != "DONE").group_by(*what)))


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


def is_conflict(error: BaseException) -> bool:
    """Whether a database error says that another transaction was first (busy, deadlock)."""
    cause = getattr(error, "orig", error)
    if isinstance(cause, sqlite3.OperationalError):
        return "locked" in str(cause)
    return getattr(cause, "sqlstate", None) in ("40001", "40P01")


def is_race(error: BaseException) -> bool:
    """Whether running again may end better: a conflict, or another made the same row first."""
    unique = getattr(getattr(error, "orig", error), "sqlstate", None) == "23505"
    return unique or is_conflict(error)


@dataclass(frozen=True, slots=True)
class Durability:
    """How a database keeps what it has committed, and what of that is not safe."""

    kind: str
    version: str
    settings: Mapping[str, str]
    unsafe: tuple[str, ...]


async def durability(tx: AsyncConnection) -> Durability:
    """Look at the settings on which "committed" rests, as this connection has them."""
    on_file = tx.dialect.name == "sqlite"
    kind, ask, safe = ("SQLite", _PRAGMAS, _SAFE_FILE) if on_file else _SERVER
    settings = {name: str(await tx.scalar(sa.text(query))) for name, query in ask.items()}
    version = settings.pop("version")
    unsafe = tuple(name for name, values in safe.items() if settings[name] not in values)
    return Durability(kind, version, settings, unsafe)


_PRAGMAS = {name: f"PRAGMA {name}" for name in ("journal_mode", "synchronous", "foreign_keys")}
_PRAGMAS["version"] = "SELECT sqlite_version()"
_SAFE_FILE = {"journal_mode": ("wal",), "synchronous": ("2", "3"), "foreign_keys": ("1",)}
_SAFE_SERVER = {
    "synchronous_commit": ("on", "remote_apply"),
    "fsync": ("on",),
    "full_page_writes": ("on",),
    "transaction_isolation": ("read committed",),
}
_SERVER = (
    "PostgreSQL",
    {name: f"SHOW {name}" for name in _SAFE_SERVER} | {"version": "SHOW server_version"},
    _SAFE_SERVER,
)


async def clock_difference(tx: AsyncConnection) -> timedelta:
    """How far the database's clock is ahead of this machine's; to the second on SQLite."""
    if tx.dialect.name == "sqlite":
        told = await tx.scalar(sa.text("SELECT strftime('%s', 'now')"))
        return datetime.fromtimestamp(int(told), UTC) - system_now().replace(microsecond=0)
    theirs = await tx.scalar(sa.select(sa.func.clock_timestamp()))
    assert isinstance(theirs, datetime)
    return theirs - system_now()
