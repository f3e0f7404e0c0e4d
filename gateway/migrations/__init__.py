"""Alembic migrations, run on SQLite and PostgreSQL; and the one place that loads every table.

A table whose `info` says `append_only` refuses UPDATE and DELETE by trigger, on both databases.
"""

import asyncio
import contextlib
import importlib
import pkgutil
from collections.abc import AsyncIterator
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncConnection

import gateway
from gateway import jobs  # noqa: F401 - its table
from gateway.db import Database, metadata
from gateway.migrations import triggers

_LOOK_AGAIN_SECONDS = 0.1
_LOCK = 7_201  # Two processes that start at once migrate one after the other.


def all_tables() -> sa.MetaData:
    """The metadata with every room's tables loaded."""
    for room in pkgutil.iter_modules(gateway.__path__):
        if not room.ispkg or room.name == "migrations":
            continue
        package = importlib.import_module(f"gateway.{room.name}")
        for module in pkgutil.iter_modules(package.__path__):
            if module.name == "store" or module.name.endswith("_rows"):
                importlib.import_module(f"gateway.{room.name}.{module.name}")
    return metadata


def append_only() -> list[str]:
    """Names of the tables whose rows never change, sorted."""
    tables = all_tables().tables.values()
    return sorted(table.name for table in tables if table.info.get("append_only"))


def sealed() -> frozenset[str]:
    """Names of the tables whose rows the audit chain seals."""
    tables = all_tables().tables.values()
    return frozenset(t.name for t in tables if {"sealed", "sealed_with"} & t.info.keys())


async def upgrade(database: Database, *, to: str = "head") -> None:
    """Bring a database to the newest schema, or to a revision; what is there stays as it is.

    On PostgreSQL each revision commits by itself, under a lock of the session, because an index is
    made CONCURRENTLY outside of a transaction. On SQLite it is one transaction: foreign keys wait
    while a table is copied, and are checked before the commit.
    """
    if database.url.startswith("sqlite"):
        Path(database.engine.url.database or ".").parent.mkdir(parents=True, exist_ok=True)
    async with changing(database) as connection:
        await connection.run_sync(_upgrade, to)


@contextlib.asynccontextmanager
async def changing(database: Database) -> AsyncIterator[AsyncConnection]:
    """A connection for changes of the schema; who comes second waits."""
    async with database.engine.connect() as connection:
        if database.url.startswith("sqlite"):
            async with _copying(connection) as writing:
                yield writing
        else:
            async with _locked(connection):
                yield connection
                await connection.commit()


@contextlib.asynccontextmanager
async def _locked(connection: AsyncConnection) -> AsyncIterator[None]:
    """Hold the session's lock. Whoever waits for it inside of a statement holds a snapshot, and
    CREATE INDEX CONCURRENTLY waits for every snapshot: the two would wait for each other."""
    while not await connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_LOCK))):
        await connection.commit()
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    await connection.commit()
    try:
        yield
    finally:
        await connection.rollback()
        await connection.execute(sa.select(sa.func.pg_advisory_unlock(_LOCK)))
        await connection.commit()


@contextlib.asynccontextmanager
async def _copying(connection: AsyncConnection) -> AsyncIterator[AsyncConnection]:
    """One transaction in which tables may be copied: foreign keys are checked at its end."""
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None
    await raw.execute("PRAGMA foreign_keys=OFF")
    try:
        writing = await connection.execution_options(writes=True)
        async with writing.begin():
            yield writing
            orphans = (await writing.exec_driver_sql("PRAGMA foreign_key_check")).all()
            assert not orphans, f"rows without what they refer to: {orphans[:5]}"
    finally:
        await raw.execute("PRAGMA foreign_keys=ON")


async def current(database: Database) -> str | None:
    """The revision a database is at; None before the first."""
    async with database.reading() as tx:
        return await tx.run_sync(_current)


def newest() -> str | None:
    """The newest revision there is."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def superseded() -> frozenset[str]:
    """The revisions that are older than the newest one here; a revision not known is newer."""
    script = ScriptDirectory.from_config(_config())
    head = script.get_current_head()
    return frozenset(each.revision for each in script.walk_revisions()) - {head}


def create_all(connection: sa.Connection) -> None:
    """Make all tables and their triggers without migrations: for tests."""
    all_tables().create_all(connection)
    for table in append_only():
        for statement in triggers.forbid_changes(table, connection.dialect.name):
            connection.exec_driver_sql(statement)
    context = MigrationContext.configure(connection)
    context.stamp(ScriptDirectory.from_config(_config()), "head")


def configuration(connection: sa.Connection) -> Config:
    """Alembic's configuration, to run on a connection."""
    config = _config()
    config.attributes["connection"] = connection
    return config


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _upgrade(connection: sa.Connection, to: str) -> None:
    command.upgrade(configuration(connection), to)


def _current(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
