"""Engine, transactions, column types, the business clock, idempotency keys and jobs.

The only module that knows which database it is. Both run the same statements: single-row
conditional updates, CHECKs and unique keys at READ COMMITTED. On SQLite every writing
transaction is BEGIN IMMEDIATE; two processes may share the file, so the lock within the process
is only for fairness.
"""

import asyncio
import contextlib
import functools
import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from gateway import batch
from gateway import sqlite as driver
from gateway.batch import Ask, Raced, Transaction, Write
from gateway.errors import Denied, Refused
from gateway.values import fingerprint

T = TypeVar("T")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A number the database gives: it rises, may have gaps, and becomes visible out of order."""

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


# Every statement finds its rows by key, so one plan serves all values; planning a wide batch anew
# for each of its first five runs costs the server more than running it (ADR 9).
_PLANNED_ONCE = {"plan_cache_mode": "force_generic_plan"}
AT_A_PEAK = 10  # connections beside those of `pool_size`
_PROBES = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}


class Unreachable(sa.exc.SQLAlchemyError):
    """There was no way to the database."""


class Database:
    """One database: an engine and its transactions.

    Args:
        url: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://…`.
        pool_size: Connections kept, and ten more at a peak, which a server's pool keeps, too;
            SQLite needs one per concurrent reader.
        wait_seconds: Longest wait for a connection, free or new, and for SQLite's writer lock.
    """

    def __init__(self, url: str, *, pool_size: int = 10, wait_seconds: float = 10.0) -> None:
        self.url = url
        self._sqlite = url.startswith("sqlite")
        self._wait_seconds = wait_seconds
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": AT_A_PEAK}
        options["pool_timeout"] = wait_seconds
        options["hide_parameters"] = True  # Else an error's text has a row's persons in it.
        if self._sqlite:
            connect: dict[str, Any] = {"timeout": wait_seconds, "isolation_level": None}
            options["connect_args"] = connect | {"async_creator_fn": driver.connect}
        else:
            options["connect_args"] = {"timeout": wait_seconds, "server_settings": _PLANNED_ONCE}
            # A new connection costs the server more than ten redemptions, so those of a peak are
            # kept; those used last are used first, and their caches are warm.
            options |= {"pool_size": pool_size + AT_A_PEAK, "max_overflow": 0}
            options["pool_use_lifo"] = True
        engine = create_async_engine(url, **options).sync_engine
        way = batch.OneVisit if self._sqlite else batch.OneStatement
        self.engine = batch.Engine(engine, way(engine.dialect))
        self._turn = asyncio.Lock()
        if self._sqlite:
            sa.event.listen(self.engine.sync_engine, "connect", _tune)
            sa.event.listen(self.engine.sync_engine, "begin", _begin)
        else:
            sa.event.listen(self.engine.sync_engine, "connect", _notice_silence)
            sa.event.listen(self.engine.sync_engine, "checkout", _require_open)

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
                await stack.enter_async_context(self._own_turn())
            connection = await stack.enter_async_context(self._connected())
            connection = await connection.execution_options(writes=True)
            async with connection.begin():
                yield connection
                assert isinstance(connection, Transaction)
                await connection.finish()

    @contextlib.asynccontextmanager
    async def _own_turn(self) -> AsyncIterator[None]:
        """Write alone in this process, so that no writer starves."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._turn.acquire()
        except TimeoutError as error:
            raise sa.exc.TimeoutError("no turn to write") from error
        try:
            yield
        finally:
            self._turn.release()

    @contextlib.asynccontextmanager
    async def reading(self, *, one_state: bool = False) -> AsyncIterator[AsyncConnection]:
        """One reading transaction; it sees one state of the database on SQLite, or if asked to."""
        async with self._connected() as connection, connection.begin():
            if one_state and not self._sqlite:
                await connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            yield connection

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection of the pool.

        Raises:
            Unreachable: None could be made: nobody listens, or the name is not known.
        """
        async with contextlib.AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self.engine.connect())
            except OSError as error:
                raise Unreachable(str(error)) from error
            yield connection

    async def close(self) -> None:
        await self.engine.dispose()


def _tune(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _notice_silence(connection: Any, _record: Any) -> None:
    """Have the system end a line whose other side is gone without a word, in half a minute.

    A statement may take longer: while the server's machine is there, its system answers probes.
    """
    line = connection.driver_connection._transport.get_extra_info("socket")
    if line.family not in (socket.AF_INET, socket.AF_INET6):
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):  # Not every system has all.
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _require_open(connection: Any, _record: Any, _proxy: Any) -> None:
    """Have the pool replace a connection that the server has closed.

    The driver knows without asking; to ask takes a transaction of three round trips each time.
    """
    if connection.driver_connection.is_closed():
        raise sa.exc.DisconnectionError


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


async def write(
    tx: AsyncConnection,
    statement: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    by: tuple[str, ...] = (),
    expect: int | None = None,
    missed: batch.Missed | None = None,
) -> None:
    """Let an INSERT or UPDATE wait for the next read or the end; see `batch.Write`.

    What waits goes together. It goes now if it may touch a row that this one touches again.
    """
    assert isinstance(tx, Transaction)
    if not rows:
        return
    wanted = Write(statement, rows, by, expect, missed)
    if tx.touches_again(wanted):
        await tx.flush()
    tx.write(wanted)


async def read(tx: AsyncConnection, *asks: Ask) -> list[list[sa.Row[Any]]]:
    """Several SELECTs in one go; the rows of each. What waits goes first."""
    assert isinstance(tx, Transaction)
    return await tx.read(asks)


async def flush(tx: AsyncConnection) -> None:
    """Send what waits now, so that a refusal is raised here."""
    assert isinstance(tx, Transaction)
    await tx.flush()


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


def one_of(
    tx: AsyncConnection, column: sa.ColumnElement[Any], values: Collection[Any]
) -> sa.ColumnElement[bool]:
    """That a column has one of these values: one statement, however many there are.

    With a place for each value every other number of them is another statement, which the driver
    and the server prepare anew and keep, for each connection. Values are texts or numbers.
    """
    if tx.dialect.name == "postgresql":
        array = postgresql.ARRAY(column.type)
        return column == sa.any_(sa.bindparam(None, list(values), type_=array))
    each = sa.func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(sa.select(each.c.value))


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
    `refresh` (the setter at once). What is read while it is being set may be what was there before:
    of two reads the one that began later counts, and of what was set here not what it replaced.
    """

    def __init__(self, offset: timedelta = timedelta()) -> None:
        self._offset = offset
        self._begun = self._taken = 0
        self._said: int | None = None  # By the database, as it was last seen or set.
        self._past, self._past_until = set[int | None](), 0.0  # What it said before it was set.

    def now(self) -> datetime:
        """UTC."""
        return datetime.now(UTC) + self._offset

    async def refresh(self, tx: AsyncConnection) -> None:
        """Take the offset other processes have set."""
        self._begun = mine = self._begun + 1
        stored = await tx.scalar(sa.select(clock_offset.c.offset_us))
        if mine < self._taken or (stored in self._past and monotonic() < self._past_until):
            return
        self._taken, self._said = mine, stored
        self._offset = timedelta(microseconds=stored or 0)

    async def set(self, tx: AsyncConnection, instant: datetime) -> None:
        """Make it `instant` now, for every process. The caller checks that this is a sandbox."""
        self._offset = instant - datetime.now(UTC)
        offset_us = self._offset // timedelta(microseconds=1)
        self._past = {self._said} | (self._past if monotonic() < self._past_until else set())
        self._past.discard(offset_us)
        self._said, self._past_until = offset_us, monotonic() + 5  # It is committed by then.
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
    claim = {"scope": scope, "key": key, "input": input}
    (found,) = await read(tx, ask_key(claim))
    return replay_of(found, claim)


_KEY = sa.select(idempotency_keys).where(
    idempotency_keys.c.scope == sa.bindparam("of_scope"),
    idempotency_keys.c.key == sa.bindparam("of_key"),
)


def ask_key(claim: Mapping[str, Any]) -> Ask:
    """What a key did before, for `replay_of`; `claim` is `{scope, key, input}`."""
    return Ask(_KEY, {"of_scope": claim["scope"], "of_key": claim["key"]})


def replay_of(rows: Sequence[sa.Row[Any]], claim: Mapping[str, Any]) -> Replay | None:
    """What a key did before, out of the rows of `ask_key`; None when it is new.

    Raises:
        IdempotencyConflict, IdempotencyInFlight: As for `claim_key`.
    """
    if not rows:
        return None
    given, stored = fingerprint(claim["input"]), rows[0].fingerprint
    if stored != given:
        raise IdempotencyConflict(stored_hash=stored, given_hash=given)
    if rows[0].object_id is None:
        raise IdempotencyInFlight(retry_after_seconds=1)
    return Replay(rows[0].object_id)


async def take_key(
    tx: AsyncConnection, claim: Mapping[str, Any], *, object_id: str, now: datetime
) -> None:
    """Claim a key that `replay_of` found new, with the transaction's next batch.

    Raises:
        Raced: With the batch: another request claimed it meanwhile.
    """
    row = {"scope": claim["scope"], "key": claim["key"], "object_id": object_id}
    row |= {"fingerprint": fingerprint(claim["input"]), "recorded_at": now}
    await write(tx, insert_missing(tx, idempotency_keys), [row], expect=1)


async def tried(work: Callable[[bool], Awaitable[T]], *, times: int = 3) -> T:
    """Do work that owns its transactions; again when another was first.

    Args:
        work: Is told whether to make sure, by locking what it reads: not at the first time.
    """
    for left in reversed(range(times)):
        try:
            return await work(left < times - 1)
        except (DBAPIError, Raced) as error:
            if not (left and is_race(error)):
                raise
    raise AssertionError("unreachable")


_SETTLE_KEY = sa.update(idempotency_keys).where(
    idempotency_keys.c.scope == sa.bindparam("of_scope"),
    idempotency_keys.c.key == sa.bindparam("of_key"),
)


async def settle_key(tx: AsyncConnection, *, scope: str, key: str, object_id: str) -> None:
    """Name the object a claimed key has made."""
    await tx.execute(_SETTLE_KEY, {"of_scope": scope, "of_key": key, "object_id": object_id})


def is_conflict(error: BaseException) -> bool:
    """Whether a database error says that another transaction was first (busy, deadlock)."""
    cause = getattr(error, "orig", error)
    if isinstance(cause, sqlite3.OperationalError):
        return "locked" in str(cause)
    return getattr(cause, "sqlstate", None) in ("40001", "40P01")


def is_race(error: BaseException) -> bool:
    """Whether running again may end better: a conflict, or another made the same row first."""
    if isinstance(error, Raced):
        return True
    if is_unavailable(error):
        return False
    cause = getattr(error, "orig", error)
    unique = getattr(cause, "sqlstate", None) == "23505"
    if isinstance(cause, sqlite3.IntegrityError):
        unique = getattr(cause, "sqlite_errorcode", 0) in _SQLITE_UNIQUE
    return unique or is_conflict(error)


_SQLITE_UNIQUE = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
_NOT_NOW = ("08", "53", "57", "58")  # connection, resources (also the disk), shutdown, system
# What the driver says without a code; others of its class are bugs in a statement's values.
_BROKEN_OFF = (
    "connection is closed",
    "not connected",
    "another operation is",
    "unexpected error while",
)
_SQLITE_NOT_NOW = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }
)


def is_unavailable(error: BaseException) -> bool:
    """Whether the database cannot be used now: gone, full, or busy for longer than we wait.

    What was cut off in its COMMIT may have happened: only the idempotency key tells.
    """
    cause = getattr(error, "orig", error)
    if isinstance(error, Unreachable | sa.exc.TimeoutError):
        return True
    if isinstance(cause, ConnectionError | TimeoutError):
        return True
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_NOT_NOW
    if getattr(error, "connection_invalidated", False) or any(
        words in str(cause) for words in _BROKEN_OFF
    ):
        return True
    return str(getattr(cause, "sqlstate", None) or "").startswith(_NOT_NOW)


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
