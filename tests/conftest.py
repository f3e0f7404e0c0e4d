"""Fixtures shared by all tests: real databases, of both kinds."""

import asyncio
import functools
import gc
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import LRUCache

from gateway import batch, db, migrations
from gateway.db import Database
from gateway.telemetry import tracing
from tests.support import memory
from tests.support import postgres as pg

if folder := memory.folder():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", folder)


def pytest_configure() -> None:
    gc.disable()  # Seven thousand tests are collected into one heap, and none of it is garbage.


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait for processes of their own."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Keeps what a statement was compiled to for the next test's database of the same kind."""
    make, compiled = db.create_async_engine, {"sqlite": _Compiled(), "postgresql": _Compiled()}

    def made(url: str, **options: Any) -> AsyncEngine:
        engine = make(url, **options)
        engine.sync_engine._compiled_cache = compiled[engine.dialect.name]
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(db, "create_async_engine", made)
        for way in (batch.OneVisit, batch.OneStatement):
            patch.setattr(batch, way.__name__, _one_of_a_kind(way))
        yield


class _Compiled(LRUCache[Any, Any]):
    """SQLAlchemy's cache; engines of one kind have dialects that are as good as the same."""

    def __init__(self) -> None:
        super().__init__(2_000)

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        return super().get((type(key[0]), *key[1:]), default)

    def __setitem__(self, key: tuple[Any, ...], value: Any) -> None:
        super().__setitem__((type(key[0]), *key[1:]), value)


def _one_of_a_kind(way: Any) -> Any:
    made: dict[type, Any] = {}

    def get(dialect: sa.Dialect) -> Any:
        if type(dialect) not in made:
            made[type(dialect)] = way(dialect)
        return made[type(dialect)]

    return get


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
