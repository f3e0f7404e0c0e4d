"""The migrations make exactly the tables the code declares, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from gateway import migrations
from gateway.db import Database
from gateway.migrations import generate, rules, triggers
from gateway.migrations.released import RELEASED
from tests.support.tampering import allow_changes


@pytest.fixture
async def migrated(empty_database_url: str) -> AsyncIterator[Database]:
    """A new database of each kind, made by the migrations."""
    made = Database(empty_database_url)
    await migrations.upgrade(made)
    yield made
    await made.close()


def _differences(connection: sa.Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, migrations.all_tables()))


def _checks(connection: sa.Connection) -> set[tuple[str, str]]:
    inspector = sa.inspect(connection)
    return {
        (table, str(check["name"]))
        for table in inspector.get_table_names()
        for check in inspector.get_check_constraints(table)
    }


def _declared_checks() -> set[tuple[str, str]]:
    return {
        (table.name, str(rule.name))
        for table in migrations.all_tables().tables.values()
        for rule in table.constraints
        if isinstance(rule, sa.CheckConstraint)
    }


async def test_migrated_tables_are_the_declared_ones(migrated: Database) -> None:
    async with migrated.reading() as tx:
        assert await tx.run_sync(_differences) == [], "run `make migration`"
        assert await tx.run_sync(_checks) == _declared_checks(), "run `make migration`"


async def test_a_second_upgrade_changes_nothing(migrated: Database) -> None:
    await migrations.upgrade(migrated)
    assert await migrations.current(migrated) == migrations.newest()


async def test_two_processes_that_upgrade_at_once_wait_for_each_other(
    empty_database_url: str,
) -> None:
    databases = [Database(empty_database_url) for _ in range(3)]
    await asyncio.gather(*(migrations.upgrade(each) for each in databases))
    assert await migrations.current(databases[0]) == migrations.newest()
    for each in databases:
        await each.close()


async def test_an_empty_database_has_no_revision(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    assert await migrations.current(database) is None
    await database.close()


@pytest.mark.parametrize("revision", RELEASED)
def test_a_released_revision_never_changes(revision: str) -> None:
    (path,) = [path for path in generate.files() if path.stem[:4] == revision]
    assert generate.digest(path) == RELEASED[revision], "released: write the next revision"


def test_revision_0001_is_released() -> None:
    assert "0001" in RELEASED


@pytest.mark.parametrize("path", generate.files(), ids=lambda path: path.stem)
def test_every_revision_expands_or_contracts(path: Path) -> None:
    module = rules.load(path)
    assert module.revision == path.stem[:4]
    assert rules.violations(module, sealed=migrations.sealed()) == []


def test_the_revision_that_is_not_released_says_what_the_tables_say() -> None:
    """Texts of CHECKs and defaults too, which databases rewrite."""
    pending = generate.pending()
    if not pending:
        assert not generate.difference(str(migrations.newest())), "run `make migration`"
        return
    assert len(pending) == 1, "one revision a release"
    assert generate.again(pending[0]) == pending[0].read_text("utf-8"), "run `make migration`"


def test_what_must_never_change_is_append_only() -> None:
    books = {"ledger_journals", "ledger_lines", "ledger_seals"}
    logs = {"points_lot_movements", "compliance_decisions", "partner_facts"}
    chain = {"audit_entries", "audit_seals", "audit_heads"}
    assert books | logs | chain <= set(migrations.append_only())
    assert migrations.sealed() <= set(migrations.append_only())


async def test_every_append_only_table_has_its_triggers(migrated: Database) -> None:
    async with migrated.transaction() as tx:
        for table in migrations.append_only():
            await allow_changes(tx, table)


@pytest.mark.parametrize("change", ["UPDATE notes SET text = 'b'", "DELETE FROM notes"])
async def test_triggers_refuse_change_and_let_rows_be_added(
    migrated: Database, change: str
) -> None:
    async with migrated.transaction() as tx:
        await tx.exec_driver_sql("CREATE TABLE notes (text VARCHAR)")
        for statement in triggers.forbid_changes("notes", tx.dialect.name):
            await tx.exec_driver_sql(statement)
        await tx.exec_driver_sql("INSERT INTO notes VALUES ('a')")
    with pytest.raises(sa.exc.DBAPIError, match="notes is append-only"):
        async with migrated.transaction() as tx:
            await tx.exec_driver_sql(change)
    async with migrated.transaction() as tx:
        assert (await tx.exec_driver_sql("SELECT text FROM notes")).all() == [("a",)]
        await allow_changes(tx, "notes")
        await tx.exec_driver_sql(change)
