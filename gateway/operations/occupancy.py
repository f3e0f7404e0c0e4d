"""Who has the database: nothing is restored under a gateway that goes on with the old one.

Where the database is a file, each of them holds a shared lock on the file `….lock` beside it. The
lock ends with its process, however that ends. A restore holds it alone. Where it is a server, that
knows its sessions.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from gateway import migrations
from gateway.db import Database

_LOOKS = 20  # A session that was closed is gone a moment later.
_LOOK_AGAIN_SECONDS = 0.1
_SESSIONS = sa.text(
    "SELECT pid, application_name, client_addr FROM pg_stat_activity"
    " WHERE datname = current_database() AND backend_type = 'client backend'"
    " AND pid <> pg_backend_pid() ORDER BY pid"
)


class Occupied(Exception):
    """The database is somebody else's for now; the text says whose."""


class Absent(Exception):
    """There is no database where the settings say; the text says where."""


async def present(url: str) -> None:
    """Make sure that there is a gateway's database, and make nothing.

    Raises:
        Absent: There is none, or it has no schema.
    """
    database = Database(url)
    try:
        if database.file and not database.file.is_file():
            raise Absent(
                f"{database.file} 不存在：请检查 GATEWAY_HOME · "
                f"{database.file}: no such database: check GATEWAY_HOME"
            )
        if await migrations.current(database) is None:
            name = database.engine.url.database
            raise Absent(
                f"{name} 没有表结构：请检查设置，或运行 gateway db upgrade · "
                f"{name} has no schema: check the settings, or run `gateway db upgrade`"
            )
    finally:
        await database.close()


@contextlib.contextmanager
def holding(url: str, what: str) -> Iterator[None]:
    """Have a database as one of many, as long as the block lasts.

    Args:
        what: The command, to be told to who has to stop it.

    Raises:
        Occupied: It is being restored.
    """
    file = Database(url).file
    if file is None:
        yield
        return
    with _opened(file) as lock:
        if not _taken(lock, fcntl.LOCK_SH):
            raise Occupied(
                f"{file} 正在恢复备份，请等待完成并先运行 gateway recover · "
                f"{file} is being restored: wait for it, then run `gateway recover` first"
            )
        os.write(lock, f"{what} {os.getpid()}\n".encode())
        yield


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Have a file to oneself, as long as the block lasts.

    Raises:
        Occupied: A gateway or worker has it; names it.
    """
    with _opened(file) as lock:
        if not _taken(lock, fcntl.LOCK_EX):
            raise Occupied(_stop(file, _names(lock)))
        os.truncate(lock, 0)
        yield


async def unused(database: Database) -> None:
    """Make sure that nobody else is connected to a server's database.

    Raises:
        Occupied: Somebody is; names the sessions.
    """
    for _ in range(_LOOKS):
        async with database.reading() as tx:
            rows = (await tx.execute(_SESSIONS)).all()
        if not rows:
            return
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    names = [
        f"{row.application_name or 'session'} {row.pid} ({row.client_addr or 'local'})"
        for row in rows
    ]
    raise Occupied(_stop(database.engine.url.database, names))


def _stop(what: object, names: list[str]) -> str:
    who = ", ".join(names) or "gateway / worker"
    return (
        f"{what} 正在使用：{who}；请先停止 gateway serve 与 gateway worker · "
        f"{what} is in use by {who}: stop `gateway serve` and `gateway worker` first"
    )


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[int]:
    real = file.resolve()
    real.parent.mkdir(parents=True, exist_ok=True)
    path = real.with_name(f"{real.name}.lock")
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)


def _taken(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _names(lock: int) -> list[str]:
    """Who has said that it holds the lock, and lives."""
    said = os.pread(lock, 100_000, 0).decode(errors="replace").splitlines()
    return sorted({line for line in said if _lives(line.rpartition(" ")[2])})


def _lives(number: str) -> bool:
    try:
        os.kill(int(number), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
