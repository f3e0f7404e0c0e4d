"""Backup and restore on both databases: what comes back is what was there, verified."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.audit import service as audit
from gateway.audit import store
from gateway.db import Database
from gateway.operations import backup as backups
from gateway.operations.backup import BackupError
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
