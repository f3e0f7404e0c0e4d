"""SQLite as the simulation runs it: the product's driver without its thread.

A statement runs at once, in the loop. Before it, the process may be killed or held up; before and
after a commit it may be killed. Who finds the database locked waits in virtual time, as SQLite's
own busy handler would.
"""

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Generator, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

from gateway import sqlite
from gateway.db import Database

BUSY_SECONDS = 30.0
_DONOR: list[Database] = []


class Killed(asyncio.CancelledError):
    """The process that runs this is dead: nothing of it goes on."""


class Owner(Protocol):
    """A process, as its connections see it."""

    path: Path
    world: Any
    dead: bool
    connections: "list[Connection]"

    def may_die(self, where: str) -> None:
        """Raise Killed here, if the seed says so."""

    def lapse(self, *, inside: bool) -> float | None:
        """Seconds for which the statement is held up; None: not at all."""

    def committing(self) -> None:
        """Something is about to be committed."""

    def committed(self) -> None:
        """Something was committed."""


owner: ContextVar[Owner] = ContextVar("owner")


class Raw(sqlite3.Connection):
    """The connection itself: sees every statement and every commit."""

    owner: Owner
    seen = 0

    def execute(self, text: str, values: Any = (), /) -> sqlite3.Cursor:
        if text[:6] == "COMMIT":
            self.commit()
            return super().execute("SELECT 1")
        return super().execute(text, values)

    def commit(self) -> None:
        changed = self.total_changes != self.seen
        if not (self.in_transaction and changed):
            super().commit()
            return
        self.owner.may_die("before commit")
        self.owner.committing()
        super().commit()
        self.seen = self.total_changes
        self.owner.committed()
        self.owner.may_die("after commit")

    def rollback(self) -> None:
        super().rollback()
        self.seen = self.total_changes


class Connection(sqlite.Connection):
    """The product's connection, run in the loop."""

    def __init__(self, of: Owner) -> None:
        super().__init__(lambda: None, iter_chunk_size=64)
        self.of = of
        of.connections.append(self)

    def __del__(self) -> None:
        self.drop()

    def __await__(self) -> Generator[Any, None, "Connection"]:
        return self._open().__await__()

    async def _open(self) -> "Connection":
        made = sqlite3.connect(
            self.of.path, isolation_level=None, timeout=0, factory=Raw, check_same_thread=False
        )
        made.owner = self.of
        self._connection = made
        return self

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        of = self.of
        if of.dead:
            if getattr(fn, "__name__", "") in ("rollback", "close"):
                return None
            raise Killed
        connection = self._connection
        assert connection is not None, "a closed connection is not used"
        waited, inside = 0.0, connection.in_transaction
        while True:
            pause = of.lapse(inside=inside)
            if pause is not None:
                await asyncio.sleep(pause)
                if of.dead:
                    raise Killed
            of.may_die("statement")
            try:
                return fn(*args, **kwargs)
            except sqlite3.OperationalError as error:
                if inside or "locked" not in str(error) or waited > BUSY_SECONDS:
                    raise
            waited += 0.05
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        self.drop()

    def stop(self) -> None:
        self.drop()

    def drop(self) -> None:
        """Close without a word, as a dead process does: what is open is rolled back."""
        connection, self._connection = self._connection, None
        self._running = False
        if connection is not None:
            connection.close()


def connect(path: str, **options: Any) -> Connection:
    """In place of the driver's `connect`."""
    return Connection(owner.get())


@contextlib.contextmanager
def inline() -> Iterator[None]:
    """Let every new `Database` use this driver."""
    with mock.patch.object(sqlite, "connect", connect):
        yield


def database() -> Database:
    """A database object of a new process; what statements compile to is shared between runs."""
    made = Database("sqlite+aiosqlite:///simulated.db")
    if not _DONOR:
        _DONOR.append(made)
    donor = _DONOR[0].engine.sync_engine
    made.engine.sync_engine.dialect = donor.dialect
    made.engine.sync_engine._compiled_cache = donor._compiled_cache
    return made


def place() -> Path:
    """A new folder, in memory where the machine has such a place."""
    memory = Path("/dev/shm")  # noqa: S108 - only a faster place
    return Path(tempfile.mkdtemp(prefix="simulation-", dir=memory if memory.is_dir() else None))


def copy(template: Path, folder: Path) -> Path:
    """A new database file."""
    path = folder / "gateway.db"
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    shutil.copyfile(template, path)
    return path
