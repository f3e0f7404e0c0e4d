"""A database of revision 0001 with the coalition in it becomes the newest, and loses nothing.

The old version's processes go on meanwhile: its statements are played by the tables as 0001 made
them, read from the database itself.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import invariants, migrations
from gateway.audit import service as audit
from gateway.db import Database
from gateway.migrations.changes import make_append_only, replace_check
from tests.support import postgres as pg

ADDED_TO_ONLY = {"partner_facts"}  # The old version never changes it either.
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def old_url(seeded: Database, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database of the same kind as the seeded one."""
    if seeded.url.startswith("sqlite"):
        yield f"sqlite+aiosqlite:///{tmp_path / 'old.db'}"
        return
    with pg.database(request.getfixturevalue("postgres"), template="template0") as url:
        yield url


@pytest.fixture
async def old(old_url: str) -> AsyncIterator[Database]:
    """A database at revision 0001, without rows."""
    made = Database(old_url)
    await migrations.upgrade(made, to="0001")
    yield made
    await made.close()


async def tables_of(database: Database) -> sa.MetaData:
    """The tables as the database has them: what an old process knows."""
    found = sa.MetaData()
    async with database.reading() as tx:
        await tx.run_sync(found.reflect)
    found.remove(found.tables["alembic_version"])
    return found


async def append_only(database: Database) -> set[str]:
    """Tables that refuse changes by trigger."""
    query = "SELECT event_object_table FROM information_schema.triggers"
    if database.url.startswith("sqlite"):
        query = "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger'"
    async with database.reading() as tx:
        return set(await tx.scalars(sa.text(query)))


async def read(tx: AsyncConnection, tables: sa.MetaData) -> Rows:
    """Every row of every table, by the old columns, in order."""
    found: Rows = {}
    for table in tables.sorted_tables:
        rows = (await tx.execute(sa.select(table))).mappings()
        found[table.name] = sorted((dict(row) for row in rows), key=repr)
    return found


async def write(tx: AsyncConnection, tables: sa.MetaData, rows: Rows) -> None:
    for table in tables.sorted_tables:
        if rows[table.name]:
            await tx.execute(sa.insert(table), rows[table.name])


async def broken(database: Database) -> list[str]:
    async with database.reading() as tx:
        return [f"{r.id} {r.detail}" for r in await invariants.check(tx) if not r.ok]


async def test_the_coalition_survives_the_upgrade(seeded: Database, old: Database) -> None:
    tables = await tables_of(old)
    async with seeded.reading() as tx:
        rows = await read(tx, tables)
    async with old.transaction() as tx:
        await write(tx, tables, rows)

    await migrations.upgrade(old)

    assert await migrations.current(old) == migrations.newest()
    async with old.reading() as tx:
        assert await read(tx, tables) == rows
    assert await broken(old) == []
    async with old.transaction() as tx:
        sealed = await audit.seal(tx, limit=100_000)
        assert sealed == (await audit.verify(tx)).links > 0
    assert await broken(old) == []


async def test_the_old_versions_statements_still_work(seeded: Database, old: Database) -> None:
    tables = await tables_of(old)
    forbidden = await append_only(old) | ADDED_TO_ONLY
    await migrations.upgrade(old)
    async with seeded.reading() as tx:
        rows = await read(tx, tables)
    async with old.transaction() as tx:
        await write(tx, tables, rows)
    async with old.transaction() as tx:
        for table in tables.sorted_tables:
            if table.name not in forbidden:
                same = {column.name: column for column in table.columns}
                await tx.execute(sa.update(table).values(same))
        assert await read(tx, tables) == rows
    assert sum(map(len, rows.values())) > 1_000
    assert await broken(old) == []


async def test_a_changed_check_lets_old_and_new_values_in(old: Database) -> None:
    """`replace_check` keeps rows, foreign keys and triggers, on both databases."""
    before, after = "state IN ('A')", "state IN ('A', 'B')"

    def first(connection: sa.Connection) -> None:
        op = Operations(MigrationContext.configure(connection))
        op.create_table(
            "things",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("state", sa.String, nullable=False),
            sa.CheckConstraint(before, name="ck_things_state"),
        )
        op.create_table("parts", sa.Column("thing", sa.Integer, sa.ForeignKey("things.id")))
        make_append_only(op, "things")
        op.execute("INSERT INTO things VALUES (1, 'A')")
        op.execute("INSERT INTO parts VALUES (1)")

    def then(connection: sa.Connection) -> None:
        op = Operations(MigrationContext.configure(connection))
        replace_check(op, "things", "ck_things_state", old=before, new=after)

    async with old.transaction() as tx:
        await tx.run_sync(first)
    with pytest.raises(sa.exc.IntegrityError):
        async with old.transaction() as tx:
            await tx.exec_driver_sql("INSERT INTO things VALUES (2, 'B')")
    async with migrations.changing(old) as connection:
        await connection.run_sync(then)
    async with old.transaction() as tx:
        await tx.exec_driver_sql("INSERT INTO things VALUES (2, 'B')")
        found = (await tx.exec_driver_sql("SELECT id, state FROM things ORDER BY id")).all()
        assert found == [(1, "A"), (2, "B")]
    for refused in ("INSERT INTO things VALUES (3, 'C')", "DELETE FROM things"):
        with pytest.raises(sa.exc.DBAPIError):
            async with old.transaction() as tx:
                await tx.exec_driver_sql(refused)
    with pytest.raises(sa.exc.IntegrityError):
        async with old.transaction() as tx:
            await tx.exec_driver_sql("INSERT INTO parts VALUES (9)")
