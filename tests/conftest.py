"""Fixtures shared by all tests: real databases, of both kinds."""

import asyncio
import functools
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import migrations
from gateway.db import Database
from gateway.telemetry import tracing
from tests.support import memory
from tests.support import postgres as pg

if folder := memory.folder():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", folder)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Puts the root logger back after a test that configures logging."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers, root.level = before


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    """Spans that ended, while tracing is on."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.start(provider)
    yield exporter
    tracing.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[pg.Postgres]:
    """A real PostgreSQL, started once, on a free port."""
    with pg.running(memory=memory.folder()) as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables and triggers, to be copied."""
    path = tmp_path_factory.mktemp("template") / "gateway.db"
    path.write_bytes(_sqlite_with_tables())
    return path


@functools.cache  # A process forked after a test run has it already.
def _sqlite_with_tables() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gateway.db")
        asyncio.run(_make_tables(f"sqlite+aiosqlite:///{path}"))
        return path.read_bytes()


@pytest.fixture(scope="session")
def postgres_template(postgres: pg.Postgres) -> str:
    """Name of a PostgreSQL database with all tables and triggers, to be copied."""
    asyncio.run(_make_tables(postgres.create("template")))
    return "template"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a new database of each kind, without tables."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"
        return
    with pg.database(request.getfixturevalue("postgres"), template="template0") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a new database of each kind with all tables and triggers."""
    if request.param == "sqlite":
        path = tmp_path / "gateway.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    template = request.getfixturevalue("postgres_template")
    with pg.database(request.getfixturevalue("postgres"), template=template) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A new database of each kind with all tables and triggers."""
    made = Database(database_url)
    yield made
    await made.close()


async def _make_tables(url: str) -> None:
    made = Database(url)
    async with made.engine.begin() as connection:
        await connection.run_sync(migrations.create_all)
    await made.close()
