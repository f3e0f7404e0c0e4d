"""The figures on PostgreSQL with durable commits, beside the same statements by asyncpg alone.

What the database does is the same on both sides; what differs is everything above the driver.
"""

import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg

from gateway.db import Database
from gateway.ledger import service as ledger
from gateway.settlement import service as settlement
from gateway.settlement import store
from tests.bench import parts, place, redemption, script, statements
from tests.bench.race import Figure, Times, race
from tests.integration.conftest import Coalition
from tests.support.postgres import Postgres

DURABLE = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "256MB"}
BASE = "bench"
FLOOR = "the same statements, values and transactions by asyncpg"


async def make(server: Postgres) -> None:
    """Create and fill the database; it is copied for each figure."""
    await place.fill(server.create(BASE))


async def run(server: Postgres, names: list[str], *, rounds: int) -> list[Figure]:
    figures: list[Figure] = []
    if "redemption" in names:
        ways = (("quote, hold, confirm", redemption.in_three), ("redeemOffer", redemption.in_one))
        for name, act in ways:
            figures.append(await _redemption(server, f"redemption: {name}", act, rounds=rounds))
    if "parts" in names:
        figures.append(await _ledger(server, rounds=rounds))
        figures.append(await _netting(server, rounds=max(3, rounds // 3)))
    return figures


async def counts(server: Postgres) -> dict[str, int]:
    """Statements by operation over HTTP."""
    async with copy(server, "counts") as url, place.opened(url) as database:
        return await statements.counted(database, server.folder)


@contextlib.asynccontextmanager
async def copy(server: Postgres, name: str) -> AsyncIterator[str]:
    url = server.create(name, template=BASE)
    try:
        yield url
    finally:
        server.drop(name)


@contextlib.asynccontextmanager
async def driver(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection without SQLAlchemy; each statement is prepared once."""
    plain = url.replace("postgresql+asyncpg://", "postgresql://")
    connection = await asyncpg.connect(plain, statement_cache_size=1_000)
    try:
        yield connection
    finally:
        await connection.close()


def refused_alone() -> contextlib.AbstractContextManager[None]:
    """What was refused alone was said again, in a transaction: that comes next."""
    return contextlib.suppress(asyncpg.InvalidTextRepresentationError)


async def replay(connection: asyncpg.Connection, said: script.Script) -> Any:
    """Run a script again, in its transactions, reading every row; the last rows."""
    rows: Any = []
    inside = False
    for number, (many, text, values) in enumerate(said.steps):
        if text in ("COMMIT", "ROLLBACK"):
            if inside:
                await connection.execute(text)
            inside = False
            continue
        if not inside and number not in said.alone:
            await connection.execute("BEGIN")
            inside = True
        if many:
            await connection.executemany(text, values)
            continue
        with refused_alone() if number in said.alone else contextlib.nullcontext():
            rows = await connection.fetch(text, *values)
    if inside:
        await connection.execute("ROLLBACK")
    return rows


async def _turns(
    figure: Figure,
    database: Database,
    connection: asyncpg.Connection,
    act: Callable[[], Awaitable[None]],
    *,
    rounds: int,
    times: int,
) -> None:
    """Ours, then what it said again on the other database; the first round only warms up."""

    async def floor() -> None:
        await replay(connection, said)

    for number in range((rounds + 1) * times):
        kept = number >= times
        with script.recorded(database) as said:
            await (figure.ours if kept else Times()).add(act, 1)
        await (figure.floor if kept else Times()).add(floor, 1)
    figure.note = f"{said.statements} statements, {said.commits} transactions."


async def _redemption(
    server: Postgres, name: str, act: Callable[[Coalition], Awaitable[None]], *, rounds: int
) -> Figure:
    figure = Figure(f"PostgreSQL, {name}", FLOOR)
    async with (
        copy(server, "ours") as ours_url,
        copy(server, "floor") as floor_url,
        place.opened(ours_url) as database,
        driver(floor_url) as connection,
    ):
        coalition = place.coalition(database)

        async def ours() -> None:
            await act(coalition)

        await _turns(figure, database, connection, ours, rounds=rounds, times=redemption.PER_ROUND)
        assert await coalition.broken() == []
    return figure


async def _ledger(server: Postgres, *, rounds: int) -> Figure:
    figure = Figure(f"PostgreSQL, ledger: {parts.HOLDS} holds in one transaction", FLOOR)
    async with (
        copy(server, "ours") as ours_url,
        copy(server, "floor") as floor_url,
        place.opened(ours_url) as database,
        driver(floor_url) as connection,
    ):
        count = itertools.count()

        async def ours() -> None:
            async with database.transaction() as tx:
                await ledger.post(tx, list(parts.journals(next(count))), now=place.NOW)

        await _turns(figure, database, connection, ours, rounds=rounds, times=5)
    return figure


async def _netting(server: Postgres, *, rounds: int) -> Figure:
    """Net and hash a window of 20,000 obligations, rolled back each time."""
    figure = Figure(f"PostgreSQL, netting: {parts.ROWS:,} obligations", FLOOR)
    async with (
        copy(server, "ours") as url,
        place.opened(url) as database,
        driver(url) as connection,
    ):
        async with database.transaction() as tx:
            window = await settlement.close_window(tx, now=place.NOW)
            rows = [(parts.obligation(number, window.id), None) for number in range(parts.ROWS)]
            await store.insert_obligations(tx, rows)
        said = script.Script()

        async def ours() -> None:
            nonlocal said
            with script.recorded(database) as said:
                async with database.engine.connect() as tx:
                    await settlement.net_window(tx, window_id=window.id, now=place.NOW)
                    await tx.rollback()

        async def floor() -> None:
            await replay(connection, said)

        await ours()
        await race(figure, ours=ours, floor=floor, rounds=rounds, times=3)
        figure.note = f"{said.statements} statements."
    return figure
