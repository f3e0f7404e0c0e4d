"""What a run said to the database, word for word, and ways to say it again without us."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiosqlite
import sqlalchemy as sa

from gateway.db import Database
from gateway.sqlite import Script as Batch


@dataclass
class Script:
    """Statements with their parameters and transaction ends, in order."""

    steps: list[tuple[bool, str, Any]] = field(default_factory=list)  # (many rows, text, values)
    alone: set[int] = field(default_factory=set)  # Steps that are a transaction by themselves.
    batches: int = 0
    batched: int = 0  # Statements that went in batches.

    @property
    def statements(self) -> int:
        """Statements sent; a batch is one."""
        ends = ("BEGIN", "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        said = sum(text not in ends for _, text, _ in self.steps)
        return said - self.batched + self.batches

    @property
    def commits(self) -> int:
        return sum(text == "COMMIT" for _, text, _ in self.steps)


@contextlib.contextmanager
def recorded(database: Database) -> Iterator[Script]:
    """The statements run inside the block."""
    script = Script()

    def note(
        connection: Any, _cursor: Any, text: str, values: Any, _context: Any, many: bool
    ) -> None:
        line = connection.connection.dbapi_connection
        if connection.dialect.name == "postgresql" and line.autocommit:
            script.alone.add(len(script.steps))
        if isinstance(values, Batch):  # What one visit says is said statement by statement.
            for each, rows in values:
                of_many = len(rows) > 1
                script.steps.append((of_many, each, rows if of_many else rows[0]))
            script.batches += 1
            script.batched += len(values)
            return
        # An INSERT of many rows in one statement is said to be of many, with flat values.
        script.steps.append((many and isinstance(values, list), text, values))

    def commit(_connection: Any) -> None:
        script.steps.append((False, "COMMIT", ()))

    def rollback(_connection: Any) -> None:
        script.steps.append((False, "ROLLBACK", ()))

    engine = database.engine.sync_engine
    events = (("before_cursor_execute", note), ("commit", commit), ("rollback", rollback))
    for name, listener in events:
        sa.event.listen(engine, name, listener)
    try:
        yield script
    finally:
        for name, listener in events:
            sa.event.remove(engine, name, listener)


_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


@contextlib.asynccontextmanager
async def raw_driver(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """A connection as the gateway's, without SQLAlchemy."""
    async with aiosqlite.connect(path, isolation_level=None, timeout=30) as connection:
        for pragma in _PRAGMAS:
            await connection.execute_fetchall(f"PRAGMA {pragma}")
        yield connection


async def replay(connection: aiosqlite.Connection, script: Script) -> list[Any]:
    """Run a script again, one statement after the other, reading every row; the last rows."""
    rows: Any = []
    for many, text, values in script.steps:
        if many:
            cursor = await connection.executemany(text, values)
            await cursor.close()
        else:
            rows = await connection.execute_fetchall(text, values)
    return list(rows)


@contextlib.contextmanager
def bare_sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of the standard library, used from this thread."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        yield connection


def replay_bare(connection: sqlite3.Connection, script: Script) -> None:
    """Run a script again without another thread or a loop."""
    for many, text, values in script.steps:
        if many:
            connection.executemany(text, values)
        else:
            connection.execute(text, values).fetchall()
