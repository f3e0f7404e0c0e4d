"""Backup and restore on both databases: what comes back is what was there, verified."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway import migrations
from gateway.audit import service as audit
from gateway.audit import store
from gateway.db import Database
from gateway.operations import backup as backups
from gateway.operations.backup import BackupError
from gateway.operations.occupancy import Occupied, alone, holding
from tests.support import evidence
from tests.support import postgres as pg
from tests.support.issuers import open_books


def backups_in(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("1.backup*")]


@pytest.fixture
def elsewhere(database: Database, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database of the same kind."""
    if database.url.startswith("sqlite"):
        yield f"sqlite+aiosqlite:///{tmp_path / 'restored' / 'gateway.db'}"
        return
    with pg.database(request.getfixturevalue("postgres"), template="template0") as url:
        yield url


@pytest.fixture
async def migrated(database: Database) -> Database:
    """Evidence in a database that says its revision."""
    await evidence.sealed(database)
    return database


async def test_a_backup_is_taken_under_use_and_restored(
    migrated: Database, elsewhere: str, tmp_path: Path
) -> None:
    copy = tmp_path / "backups" / "1.backup"
    async with migrated.reading() as tx:  # A reader holds the log beside an SQLite file.
        assert await tx.scalar(sa.select(sa.func.count()).select_from(store.entries)) == 3
        made = await backups.backup(migrated.url, copy)
    assert (made.revision, made.links, made.broken) == ("0002", 9, ())
    async with migrated.transaction() as tx:
        await evidence.write(tx, "after the backup")
    back = await backups.restore(elsewhere, copy)
    assert (back.links, back.newest, back.broken) == (9, evidence.NOW, ())
    restored = Database(elsewhere)
    async with restored.transaction() as tx:
        assert (await audit.verify(tx)).links == 9
        await evidence.write(tx, "after the restore")
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        async with restored.transaction() as tx:
            await tx.execute(sa.delete(store.entries))
    await restored.close()
    assert backups_in(copy.parent) == ["1.backup"]


async def test_a_backup_replaces_nothing_and_a_restore_only_by_force(
    migrated: Database, tmp_path: Path
) -> None:
    copy = tmp_path / "1.backup"
    await backups.backup(migrated.url, copy)
    with pytest.raises(BackupError, match="exists"):
        await backups.backup(migrated.url, copy)
    with pytest.raises(BackupError, match="--force"):
        await backups.restore(migrated.url, copy)
    async with migrated.transaction() as tx:
        await evidence.write(tx, "after the backup")
    await migrated.close()
    assert (await backups.restore(migrated.url, copy, force=True)).links == 9
    async with migrated.reading() as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(store.entries)) == 3


async def test_a_broken_database_makes_no_backup(migrated: Database, tmp_path: Path) -> None:
    async with migrated.transaction() as tx:
        await open_books(tx, "audit_entries")
        await tx.execute(sa.update(store.entries).values(actor="somebody else"))
    with pytest.raises(BackupError, match="L6"):
        await backups.backup(migrated.url, tmp_path / "1.backup")
    assert backups_in(tmp_path) == []


async def test_a_torn_backup_is_not_restored(
    migrated: Database, elsewhere: str, tmp_path: Path
) -> None:
    copy = tmp_path / "1.backup"
    await backups.backup(migrated.url, copy)
    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackupError):
        await backups.restore(elsewhere, copy)
    with pytest.raises(BackupError, match="no such backup"):
        await backups.restore(elsewhere, tmp_path / "none")


async def alive(database: Database) -> int:
    """How many entries a database has, read anew."""
    fresh = Database(database.url)
    async with fresh.reading() as tx:
        found = await tx.scalar(sa.select(sa.func.count()).select_from(store.entries))
    await fresh.close()
    return int(found or 0)


async def foreign(database: Database, path: Path) -> None:
    """A backup, in the form of this kind of database, of something that is no gateway."""
    if database.url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE cats (name TEXT)")
        return
    url = sa.make_url(database.url).render_as_string(hide_password=False)
    other = Database(url)
    async with other.transaction() as tx:
        await tx.exec_driver_sql("CREATE TABLE cats (name TEXT)")
    await other.close()
    await backups._run(
        "pg_dump", "--format=custom", "--table=cats", f"--file={path}",
        f"--dbname={backups.plain(url)}",
    )  # fmt: skip


async def test_what_is_no_backup_takes_nothing_away(migrated: Database, tmp_path: Path) -> None:
    await foreign(migrated, tmp_path / "cats")
    (tmp_path / "empty").touch()
    await migrated.close()
    for name in ("cats", "empty", "."):
        with pytest.raises(BackupError):
            await backups.restore(migrated.url, tmp_path / name, force=True)
        assert await alive(migrated) == 3


async def test_a_broken_backup_replaces_nothing_but_fills_an_empty_place(
    migrated: Database, elsewhere: str, tmp_path: Path
) -> None:
    copy = tmp_path / "1.backup"
    await backups.backup(migrated.url, copy)
    target = Database(elsewhere)
    await backups.restore(elsewhere, copy)
    async with target.transaction() as tx:
        await open_books(tx, "audit_entries")
        await tx.execute(sa.update(store.entries).values(actor="somebody else"))
    await target.close()
    broken = tmp_path / "2.backup"
    if elsewhere.startswith("sqlite"):
        backups._copy(backups._file_of(elsewhere), broken, None)
    else:
        await backups._run(
            "pg_dump", "--format=custom", f"--file={broken}", f"--dbname={backups.plain(elsewhere)}"
        )
    await migrated.close()
    with pytest.raises(BackupError, match=r"nothing was replaced.*L6"):
        await backups.restore(migrated.url, broken, force=True)
    async with migrated.reading() as tx:
        assert await tx.scalar(sa.select(store.entries.c.actor).limit(1)) == "usr_2"


async def test_a_backup_of_an_older_schema_is_for_the_version_that_made_it(
    elsewhere: str, tmp_path: Path
) -> None:
    old = Database(elsewhere)
    await migrations.upgrade(old, to="0001")
    await old.close()
    with pytest.raises(BackupError, match="revision 0001"):
        await backups.backup(elsewhere, tmp_path / "1.backup")


async def test_a_database_in_use_is_not_replaced(migrated: Database, tmp_path: Path) -> None:
    copy = tmp_path / "1.backup"
    await backups.backup(migrated.url, copy)
    async with migrated.reading() as tx:
        assert await tx.scalar(sa.select(1)) == 1
        with pytest.raises(Occupied, match="in use"):
            await backups.restore(migrated.url, copy, force=True)
    await migrated.close()
    assert (await backups.restore(migrated.url, copy, force=True)).links == 9


async def test_a_restore_names_who_has_the_file_and_keeps_others_out(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}"
    database = Database(url)
    await migrations.upgrade(database)
    await evidence.sealed(database)
    await database.close()
    await backups.backup(url, tmp_path / "1.backup")
    named = pytest.raises(Occupied, match=f"serve {os.getpid()}, worker {os.getpid()}: stop")
    with holding(url, "serve"), holding(url, "worker"), named:
        await backups.restore(url, tmp_path / "1.backup", force=True)
    assert (await backups.restore(url, tmp_path / "1.backup", force=True)).links == 9
    kept_out = pytest.raises(Occupied, match="being restored")
    with alone(tmp_path / "gateway.db"), kept_out, holding(url, "serve"):
        pass


@pytest.mark.parametrize("way", ["itself", "symlink", "hardlink", "part"])
async def test_a_database_is_not_restored_from_itself(tmp_path: Path, way: str) -> None:
    file = tmp_path / "gateway.db"
    database = Database(f"sqlite+aiosqlite:///{file}")
    await migrations.upgrade(database)
    await evidence.sealed(database)
    await database.close()
    path = {"itself": file, "part": tmp_path / "gateway.db.part"}.get(way, tmp_path / "x")
    if way == "symlink":
        path.symlink_to(file)
    elif way != "itself":
        path.hardlink_to(file)
    with pytest.raises(BackupError, match="itself"):
        await backups.restore(database.url, path, force=True)
    assert await alive(database) == 3
    assert path.exists()


async def test_a_copy_never_takes_the_databases_place(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'copy.part'}")
    await migrations.upgrade(database)
    await evidence.sealed(database)
    await database.close()
    with pytest.raises(BackupError, match="the database itself"):
        await backups.backup(database.url, tmp_path / "copy")
    assert await alive(database) == 3


async def test_a_log_left_by_the_old_database_is_not_read_with_the_new(tmp_path: Path) -> None:
    """The old one was killed: its newest commits are in the log beside it."""
    file, killed = tmp_path / "gateway.db", tmp_path / "killed" / "gateway.db"
    database = Database(f"sqlite+aiosqlite:///{file}")
    await migrations.upgrade(database)
    await evidence.sealed(database)
    await backups.backup(database.url, tmp_path / "1.backup")
    async with database.transaction() as tx:
        await evidence.write(tx, "after the backup")
    killed.parent.mkdir()
    for beside in ("", "-wal"):
        shutil.copy(file.with_name(file.name + beside), killed.with_name(killed.name + beside))
    await database.close()
    assert killed.with_name("gateway.db-wal").stat().st_size > 0
    left = Database(f"sqlite+aiosqlite:///{killed}")
    assert (await backups.restore(left.url, tmp_path / "1.backup", force=True)).links == 9
    assert await alive(left) == 3
    await left.close()


async def test_a_database_that_cannot_be_read_is_replaced(
    migrated: Database, tmp_path: Path
) -> None:
    if not migrated.url.startswith("sqlite"):
        pytest.skip("a server's files are its own")
    await backups.backup(migrated.url, tmp_path / "1.backup")
    file = tmp_path / "gateway.db"
    file.write_bytes(b"no database at all" * 500)
    url = f"sqlite+aiosqlite:///{file}"
    with pytest.raises(BackupError, match="--force"):
        await backups.restore(url, tmp_path / "1.backup")
    assert (await backups.restore(url, tmp_path / "1.backup", force=True)).links == 9


async def test_who_may_make_no_database_restores_all_the_same(
    migrated: Database, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if migrated.url.startswith("sqlite"):
        pytest.skip("a file asks for no role")
    copy = tmp_path / "1.backup"
    await backups.backup(migrated.url, copy)
    await foreign(migrated, tmp_path / "cats")
    await migrated.close()
    server = request.getfixturevalue("postgres")
    server.run("CREATE ROLE modest LOGIN", missing_ok=True)
    with pg.database(server, template="template0") as url:
        owned = sa.make_url(url)
        server.run(f'ALTER DATABASE "{owned.database}" OWNER TO modest')
        theirs = owned.set(username="modest").render_as_string(hide_password=False)
        with pytest.raises(BackupError, match="no database of a gateway"):
            await backups.restore(theirs, tmp_path / "cats")
        assert (await backups.restore(theirs, copy)).links == 9
        with pytest.raises(BackupError, match="no database of a gateway"):
            await backups.restore(theirs, tmp_path / "cats", force=True)
        assert await alive(Database(theirs)) == 3
