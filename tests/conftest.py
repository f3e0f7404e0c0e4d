"""Fixtures shared by all tests: real databases, of both kinds."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.db import Database
from gateway.migrations import all_tables
from tests.support import postgres as pg

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[pg.Postgres]:
    """A real PostgreSQL, started once, on a free port."""
    with pg.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a new, empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}"
    server: pg.Postgres = request.getfixturevalue("postgres")
    return server.create(f"t{next(_numbers)}")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A new database of each kind with all tables."""
    made = Database(database_url)
    async with made.engine.begin() as connection:
        await connection.run_sync(all_tables().create_all)
    yield made
    await made.close()
