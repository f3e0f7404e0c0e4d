"""The running worker loses its line to PostgreSQL at a COMMIT: before it, or after it happened.

What it commits is found out first, by the tables a transaction writes, in a run without a cut; then
each kind of commit is cut once either way. In the end the partner has done everything once.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
import sqlalchemy as sa

from gateway import jobs, worker
from gateway.db import Database
from gateway.redemption import event_rows
from gateway.redemption.hosted import Partners
from gateway.redemption.model import Redemption, State, Step
from gateway.redemption.service import Redemptions
from gateway.settings import Settings
from gateway.worker import Worker
from tests.integration.conftest import MORNING, Coalition, StillClock
from tests.support import postgres as pg
from tests.support.cutting import Cut, CuttingProxy
from tests.support.postgres import Postgres

MEMBER, POPCORN, LL = "mbr_demo_01", "XH-03", ("P-LL", None)
PRICE, PLENTY = 3_800, 1_000_000
Kind = frozenset[str]


async def lost_hold(coalition: Coalition) -> Redemption:
    coalition.partners["M05"].script["hold"] = ["lost_after"]
    return await coalition.held(MEMBER, POPCORN, LL)


async def lost_confirm(coalition: Coalition) -> Redemption:
    held = await coalition.held(MEMBER, POPCORN, LL)
    coalition.partners["M05"].script["confirm"] = ["lost_after"]
    return await coalition.confirm(held)


async def unheard_confirm(coalition: Coalition) -> Redemption:
    held = await coalition.held(MEMBER, POPCORN, LL)
    coalition.partners["M05"].script["confirm"] = ["lost_before"]
    return await coalition.confirm(held)


async def overdue_hold(coalition: Coalition) -> Redemption:
    held = await coalition.held(MEMBER, POPCORN, LL)
    coalition.clock.forward(minutes=30)
    return held


async def lost_release(coalition: Coalition) -> Redemption:
    held = await coalition.held(MEMBER, POPCORN, LL)
    coalition.partners["M05"].script["fence"] = ["lost_before"]
    given = {"member_id": MEMBER, "redemption_id": held.id, "key": coalition.key()}
    await coalition.redemptions.release(**given)
    return held


async def lost_cancel(coalition: Coalition) -> Redemption:
    done = await coalition.redeemed(MEMBER, POPCORN, LL)
    ask = {"member_id": MEMBER, "redemption_id": done.id}
    offered = await coalition.redemptions.cancel_quote(**ask)
    coalition.partners["M05"].script["cancel"] = ["lost_after"]
    await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key=coalition.key())
    return done


async def stored_webhook(coalition: Coalition) -> Redemption:
    done = await coalition.redeemed(MEMBER, POPCORN, LL)
    body = {"id": f"served-{done.id}", "kind": "booking.fulfilled", "version": 9}
    row = {"merchant_id": "M05", "event_id": body["id"], "received_at": coalition.clock.now()}
    async with coalition.database.transaction() as tx:
        await event_rows.add_event(tx, row | {"body": body | {"op_key": done.op_key(Step.CONFIRM)}})
    return done


async def late_hold(coalition: Coalition) -> Redemption:
    """A job: what the partner holds after the release is let go."""
    held = await coalition.held(MEMBER, POPCORN, LL)
    given = {"member_id": MEMBER, "redemption_id": held.id, "key": coalition.key()}
    await coalition.redemptions.release(**given)
    payload = {"redemption": held.id, "op_key": held.op_key(Step.HOLD)}
    async with coalition.database.transaction() as tx:
        await jobs.enqueue(tx, name="let_go", key=held.id, payload=payload, lane="M05")
    return held


@dataclass(frozen=True)
class Case:
    """What the worker finds, and how it must end."""

    begin: Callable[[Coalition], Awaitable[Redemption]]
    end: State
    effects: tuple[str, ...]  # at the partner, each once

    @property
    def paid(self) -> tuple[int, int]:
        """Points spent and points held, for each purchase."""
        if self.end is State.HELD:
            return 0, PRICE
        return (PRICE, 0) if self.end in (State.COMMITTED, State.FULFILLED) else (0, 0)


CASES = {
    "hold": Case(lost_hold, State.HELD, ("hold",)),
    "confirm": Case(lost_confirm, State.COMMITTED, ("hold", "confirm")),
    "confirm again": Case(unheard_confirm, State.COMMITTED, ("hold", "confirm")),
    "expiry": Case(overdue_hold, State.RELEASED, ("hold", "fence")),
    "release": Case(lost_release, State.RELEASED, ("hold", "fence")),
    "cancel": Case(lost_cancel, State.CANCELLED, ("hold", "confirm", "cancel")),
    "webhook": Case(stored_webhook, State.FULFILLED, ("hold", "confirm")),
    "job": Case(late_hold, State.RELEASED, ("hold", "fence")),
}
LONG = [pytest.param(name, marks=pytest.mark.campaign) for name in CASES if name != "webhook"]


class Line:
    """The worker's line: notes what is committed, and cuts the first commit of one kind."""

    def __init__(self, port: int) -> None:
        self.proxy = CuttingProxy(port, self._choose)
        self.seen: list[Kind] = []
        self.target: tuple[Kind, Cut] | None = None

    def _choose(self) -> Cut:
        kind = self.proxy.wrote
        self.seen.append(kind)
        if self.target is None or self.target[0] != kind:
            return ""
        _, way = self.target
        self.target = None
        return way


@contextlib.asynccontextmanager
async def running(coalition: Coalition, url: str) -> AsyncIterator[None]:
    """The worker as its process runs it, while business time goes by; its line is `url`."""
    database, stop = Database(url), asyncio.Event()
    settings = replace(coalition.redemptions.settings, worker_poll_seconds=0.02)
    partners = Partners(coalition.partners, database, coalition.clock)
    redemptions = Redemptions(database, partners, coalition.clock, settings, b"secret")
    made = Worker(database, partners, coalition.clock, settings, redemptions)
    working = asyncio.create_task(made.run(stop))
    try:
        yield
    finally:
        stop.set()
        await working
        await database.close()


async def ended(coalition: Coalition, redemption: Redemption, end: State) -> None:
    """Wait until the redemption has ended and no job or webhook is left."""
    due = sa.select(sa.func.count()).select_from(jobs.jobs).where(jobs.jobs.c.state == "DUE")
    async with asyncio.timeout(30):
        while True:
            coalition.clock.forward(seconds=1)
            async with coalition.database.reading() as tx:
                left = await tx.scalar(due)
            if not left and (await coalition.get(redemption)).state is end:
                return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def coalition_on(url: str) -> AsyncIterator[Coalition]:
    """The seeded coalition with a line of its own, and one rich member."""
    made = Coalition(Database(url), StillClock(MORNING), replace(Settings(), lease_seconds=0))
    await made.given(MEMBER, PLENTY)
    try:
        yield made
    finally:
        await made.database.close()


@pytest.mark.parametrize("name", ["webhook", *LONG])
async def test_each_commit_of_the_worker_is_cut_before_and_after(
    name: str, postgres: Postgres, postgres_seeded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.05)
    case, line = CASES[name], Line(postgres.port)

    with pg.database(postgres, template=postgres_seeded) as url:
        async with line.proxy.listening(), coalition_on(url) as coalition:
            through = url.replace(f":{postgres.port}/", f":{line.proxy.port}/")
            before, _ = await coalition.wallet(MEMBER, "P-LL")

            async def once(kind: Kind | None, way: Cut) -> Redemption:
                made = await case.begin(coalition)
                line.target = (kind, way) if kind else None
                async with running(coalition, through):
                    await ended(coalition, made, case.end)
                assert line.target is None, f"{sorted(kind or ())} was not committed again"
                return made

            bought = [await once(None, "")]  # The first opens windows and accounts, too.
            line.seen.clear()
            bought += [await once(None, "")]
            kinds = {kind for kind in line.seen if not any("audit" in table for table in kind)}
            for kind in sorted(kinds, key=sorted):
                bought += [await once(kind, way) for way in ("before", "after")]
            await agree(coalition, case, bought)
            spent, held = (each * len(bought) for each in case.paid)
            assert await coalition.wallet(MEMBER, "P-LL") == (before - spent - held, held)
            assert await coalition.broken() == []
    assert line.proxy.cuts["before"] == line.proxy.cuts["after"] == len(kinds)
    assert len(kinds) >= 2, kinds


async def agree(coalition: Coalition, case: Case, bought: list[Redemption]) -> None:
    """The partner has done for each what the case says, and no more, and each of it once."""
    done = Counter(coalition.partners["M05"].effects)
    assert set(done.values()) == {1}
    for one in bought:
        assert (await coalition.get(one)).state is case.end
        mine = [verb for verb, key in done if key.startswith(f"{one.id}:")]
        assert sorted(mine) == sorted(case.effects)
