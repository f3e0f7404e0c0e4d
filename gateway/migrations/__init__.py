"""Alembic migrations, run on SQLite and PostgreSQL; and the one place that loads every table.

A table whose `info` says `append_only` refuses UPDATE and DELETE by trigger, on both databases.
"""

import importlib
import pkgutil
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import gateway
from gateway.db import Database, lock_exclusive, metadata
from gateway.migrations import triggers

_LOCK = 7_201  # Two processes that start at once migrate one after the other.


def all_tables() -> sa.MetaData:
    """The metadata with every room's tables loaded."""
    for room in pkgutil.iter_modules(gateway.__path__):
        if not room.ispkg or room.name == "migrations":
            continue
        package = importlib.import_module(f"gateway.{room.name}")
        if any(module.name == "store" for module in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"gateway.{room.name}.store")
    return metadata


def append_only() -> list[str]:
    """Names of the tables whose rows never change, sorted."""
    tables = all_tables().tables.values()
    return sorted(table.name for table in tables if table.info.get("append_only"))


async def upgrade(database: Database) -> None:
    """Bring a database to the newest schema; what is there already stays as it is."""
    if database.url.startswith("sqlite"):
        Path(database.engine.url.database or ".").parent.mkdir(parents=True, exist_ok=True)
    async with database.transaction() as tx:
        await lock_exclusive(tx, _LOCK)
        await tx.run_sync(_upgrade)


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


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _upgrade(connection: sa.Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _current(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
