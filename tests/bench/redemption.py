"""Redemption from start to commit against an instant partner, at service level.

The partner is scripted, in this process: what is measured is the gateway and its database. Each
round's statements are kept and said again, in the same transactions, to a copy of the database
that has had the same history.
"""

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.catalog.pricing import LegInput
from gateway.redemption.model import State
from tests.bench import place, script
from tests.bench.race import Figure, Times
from tests.integration.conftest import Coalition

OFFER, PROGRAMME = "XH-01", "P-LL"  # 4,500 points of one merchant for another's cinema ticket
PER_ROUND = 12
BARE = "by sqlite3, no thread"


async def in_three(coalition: Coalition) -> None:
    """requestQuote, holdRedemption, confirmRedemption."""
    done = await coalition.redeemed(place.MEMBER, OFFER, (PROGRAMME, None))
    assert done.state is State.COMMITTED


async def in_one(coalition: Coalition) -> None:
    """redeemOffer."""
    done, _ = await coalition.redemptions.redeem(
        member_id=place.MEMBER,
        offer_id=OFFER,
        slot=None,
        quantity=1,
        bill_fen=None,
        legs=[LegInput(PROGRAMME, None)],
        cash_fen=None,
        key=coalition.key(),
    )
    assert done.state is State.COMMITTED


async def run(path: Path, *, rounds: int) -> list[Figure]:
    return [
        await _run(path, "redemption: quote, hold, confirm", in_three, rounds=rounds),
        await _run(path, "redemption: redeemOffer", in_one, rounds=rounds),
    ]


async def _run(
    path: Path, name: str, act: Callable[[Coalition], Awaitable[None]], *, rounds: int
) -> Figure:
    figure = Figure(name, "the same statements, values and transactions by aiosqlite")
    figure.others[BARE] = Times()
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            place.opened(place.url(place.copy(path, "ours")))
        )
        driver = await stack.enter_async_context(script.raw_driver(place.copy(path, "floor")))
        bare = stack.enter_context(script.bare_sqlite(place.copy(path, "bare")))
        coalition = place.coalition(database)

        async def ours() -> None:
            await act(coalition)

        async def floor() -> None:
            await script.replay(driver, said)

        async def without() -> None:
            script.replay_bare(bare, said)

        for number in range((rounds + 1) * PER_ROUND):
            kept = number >= PER_ROUND
            with script.recorded(database) as said:
                await (figure.ours if kept else Times()).add(ours, 1)
            await (figure.floor if kept else Times()).add(floor, 1)
            await (figure.others[BARE] if kept else Times()).add(without, 1)
        figure.note = f"{said.statements} statements, {said.commits} transactions."
        assert await coalition.broken() == []
    return figure
