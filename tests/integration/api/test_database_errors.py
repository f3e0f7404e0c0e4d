"""Every way the database's driver says that it cannot: 503, and what was done is told later."""

import contextlib
import math
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from asyncpg import exceptions as pg
from asyncpg.prepared_stmt import PreparedStatement
from sqlalchemy.dialects import postgresql

from gateway.db import is_unavailable
from tests.integration.api.test_database_faults import (
    CONFIRM,
    HOLD,
    MEMBER,
    SEEN,
    Shopper,
    all_is_well,
    coalition_on,
    says_to_come_again,
)
from tests.integration.conftest import Coalition
from tests.support.gateway import Gateway
from tests.support.postgres import Postgres, database

WHOLE = "redemption { id state voucher { code } }"
CONNECTING: dict[str, Callable[[], Exception]] = {
    "refused": lambda: ConnectionRefusedError("Connect call failed"),
    "both addresses refused": lambda: OSError("Multiple exceptions: [Errno 111], [Errno 111]"),
    "no such host": lambda: socket.gaierror(-2, "Name or service not known"),
    "too slow": TimeoutError,
    "starting up": lambda: pg.CannotConnectNowError("the database system is starting up"),
    "in recovery": lambda: pg.CannotConnectNowError("the database system is in recovery mode"),
    "full": lambda: pg.TooManyConnectionsError("sorry, too many clients already"),
    "gone meanwhile": lambda: pg.ConnectionDoesNotExistError("connection was closed"),
    "cut at the password": lambda: pg.InternalClientError(
        "unexpected error while performing authentication: unexpected EOF"
    ),
    "reset": lambda: ConnectionResetError("Connection reset by peer"),
}
ASKING: dict[str, Callable[[], Exception]] = {
    "cut": lambda: pg.ConnectionDoesNotExistError(
        "connection was closed in the middle of operation"
    ),
    "closed": lambda: pg.InterfaceError("cannot perform operation: connection is closed"),
    "still asking": lambda: pg.InterfaceError(
        "cannot perform operation: another operation is in progress"
    ),
    "not connected": lambda: pg.InternalClientError("not connected"),
    "shut down": lambda: pg.AdminShutdownError("terminating connection"),
    "crashed": lambda: pg.CrashShutdownError("terminating connection"),
    "no memory": lambda: pg.OutOfMemoryError("out of memory"),
    "no space": lambda: pg.DiskFullError("could not extend file"),
    "reset": lambda: ConnectionResetError("Connection reset by peer"),
    "broken pipe": lambda: BrokenPipeError("Broken pipe"),
    "too slow": TimeoutError,
}
BUGS: dict[str, Callable[[], Exception]] = {
    "no such table": lambda: pg.UndefinedTableError("relation does not exist"),
    "a value of another type": lambda: pg.DataError("invalid input for query argument $1"),
    "a rule is broken": lambda: pg.CheckViolationError("violates check constraint"),
}


@pytest.fixture
async def place(
    postgres: Postgres, postgres_seeded: str, tmp_path: Path
) -> AsyncIterator[tuple[Coalition, Gateway]]:
    """A gateway on PostgreSQL."""
    with database(postgres, template=postgres_seeded) as url:
        async with coalition_on(url, tmp_path) as made:
            yield made


@pytest.fixture
async def shopper(place: tuple[Coalition, Gateway]) -> Shopper:
    return await Shopper.enter(place[1])


async def both_places(shopper: Shopper, quote: str) -> None:
    """Ask while the database fails: where the token is checked, and in the effect."""
    revocations = shopper.gateway.runtime.oauth.guard.revocations
    asked = {"quote": quote, "idempotencyKey": "once"}
    revocations.forget()
    says_to_come_again(await shopper.once(HOLD, SEEN, **asked))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revocations, "_patience", math.inf)
        says_to_come_again(await shopper.once(HOLD, SEEN, **asked))


async def test_no_way_to_the_database_is_503(
    shopper: Shopper, monkeypatch: pytest.MonkeyPatch
) -> None:
    quote, narrow = await shopper.quoted(), shopper.gateway.runtime.database
    for error in CONNECTING.values():

        async def refuse(*_: Any, error: Callable[[], Exception] = error, **__: Any) -> None:
            raise error()

        await narrow.engine.dispose()
        with monkeypatch.context() as patch:
            patch.setattr(asyncpg, "connect", refuse)
            await both_places(shopper, quote)
    await shopper.ask(HOLD, SEEN, quote=quote, idempotencyKey="once")


async def test_a_statement_that_is_broken_off_is_503(
    shopper: Shopper, monkeypatch: pytest.MonkeyPatch
) -> None:
    quote = await shopper.quoted()
    for error in ASKING.values():

        async def fail(*_: Any, error: Callable[[], Exception] = error, **__: Any) -> None:
            raise error()

        with monkeypatch.context() as patch:
            patch.setattr(PreparedStatement, "fetch", fail)
            await both_places(shopper, quote)
    await shopper.ask(HOLD, SEEN, quote=quote, idempotencyKey="once")


async def test_an_effect_that_cannot_be_read_is_503_and_told_later(
    shopper: Shopper, place: tuple[Coalition, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await shopper.ask(HOLD, SEEN, quote=await shopper.quoted())
    fetch, struck, effects = PreparedStatement.fetch, 0, place[0].partners["M05"].effects

    async def after_the_effect(self: Any, *values: Any, **more: Any) -> Any:
        nonlocal struck
        done = any(verb == "confirm" for verb, _ in effects)
        if done and not struck and self.get_query().lstrip().startswith("SELECT"):
            struck += 1
            raise ASKING["cut"]()
        return await fetch(self, *values, **more)

    monkeypatch.setattr(PreparedStatement, "fetch", after_the_effect)
    asked = {"redemption": held["redemption"]["id"], "idempotencyKey": "once"}
    says_to_come_again(await shopper.once(CONFIRM, WHOLE, **asked))
    assert struck == 1
    told = await shopper.ask(CONFIRM, WHOLE, **asked)
    assert told["replayed"]
    assert told["redemption"]["state"] == "COMMITTED"


async def test_the_system_ends_a_line_whose_other_side_is_gone(
    place: tuple[Coalition, Gateway],
) -> None:
    async with place[1].runtime.database.reading() as tx:
        raw = await tx.get_raw_connection()
        assert raw.driver_connection
        line = raw.driver_connection._transport.get_extra_info("socket")
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


async def test_a_file_that_may_not_grow_is_503_until_it_may(
    seeded_sqlite_url: str, tmp_path: Path
) -> None:
    """SQLITE_FULL in the middle of holds and confirms: the same keys finish them, once."""
    pages = {"most": 2**30}

    def limit(connection: Any, _record: Any) -> None:
        connection.cursor().execute(f"PRAGMA max_page_count = {pages['most']}")

    async with coalition_on(seeded_sqlite_url, tmp_path) as (coalition, gateway):
        shopper, narrow = await Shopper.enter(gateway), gateway.runtime.database
        before, _ = await coalition.wallet(MEMBER, "P-LL")
        sa.event.listen(narrow.engine.sync_engine, "connect", limit)
        quotes = [await shopper.quoted() for _ in range(30)]
        file = Path(seeded_sqlite_url.removeprefix("sqlite+aiosqlite:///"))
        with contextlib.closing(sqlite3.connect(file)) as db:
            (pages["most"],) = db.execute("PRAGMA page_count").fetchone()
        await narrow.engine.dispose()
        asked = [{"quote": quote, "idempotencyKey": f"full-{quote}"} for quote in quotes]
        answers = [await shopper.once(HOLD, SEEN, **one) for one in asked]
        assert {answer.status_code for answer in answers} == {200, 503}
        pages["most"] = 2**30
        await narrow.engine.dispose()
        held = [await shopper.ask(HOLD, SEEN, **one) for one in asked]
        for answer, one in zip(answers, held, strict=True):
            if answer.status_code == 200:
                assert one["replayed"]
                assert answer.json()["data"][HOLD]["redemption"]["id"] == one["redemption"]["id"]
            await shopper.reaches("HELD", one["redemption"])
            await shopper.ask(CONFIRM, SEEN, redemption=one["redemption"]["id"])
        await all_is_well(coalition, [one["redemption"]["id"] for one in held], before)


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_no_excuse(name: str) -> None:
    assert not is_unavailable(wrapped(BUGS[name]()))


@pytest.mark.parametrize("name", ASKING)
def test_each_kind_is_known(name: str) -> None:
    assert is_unavailable(wrapped(ASKING[name]()))


def wrapped(error: Exception) -> BaseException:
    """As SQLAlchemy hands a driver's error on."""
    dialect = postgresql.asyncpg.dialect(dbapi=postgresql.asyncpg.dialect.import_dbapi())
    try:
        postgresql.asyncpg.AsyncAdapt_asyncpg_connection._handle_exception_no_connection(
            dialect.dbapi, error
        )
    except Exception as made:
        return sa.exc.DBAPIError.instance("SELECT 1", {}, made, dialect.dbapi.Error)
    raise AssertionError("unreachable")
