"""Do hot accounts serialise writers? All members on one issuer and shop, against different ones.

The two take turns on the same processes, so that the machine is the same for both. What issuers,
shops and the whole coalition share are the sinks, positions, cover and the agreement's usage;
members' own rows are theirs alone in either case. Beside the rate: of the sessions that are in a
transaction, the share that waits for another's lock. And the same rows as raw SQL, which asks far
more of the locks than a gateway process can.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from rich.progress import Progress

from gateway.demo.clients import Wire
from tests.load import floor as floors
from tests.load.buyers import Buyer, Tally, buyers
from tests.load.place import DURABLE, PAIRS, Stand, stand
from tests.load.redemptions import learn
from tests.support.postgres import running

DIFFERENT = PAIRS[:3]  # Three issuers, three shops.


@dataclass(frozen=True, slots=True)
class Asked:
    seconds: float  # of each turn
    clients: int
    turns: int = 2  # of each way
    commit_delay_ms: int = 0  # a slower disk: locks are held so much longer


@dataclass
class Way:
    """One way to share, or not."""

    redemptions: int = 0
    seconds: float = 0.0
    waiting: int = 0
    busy: int = 0

    def figures(self) -> dict[str, float]:
        return {
            "per_second": round(self.redemptions / self.seconds, 2) if self.seconds else 0.0,
            "waits_for_a_lock": round(self.waiting / self.busy, 4) if self.busy else 0.0,
        }


async def run(home: Path, asked: Asked, progress: Progress) -> dict[str, Any]:
    """Rates of both ways, over HTTP and as raw SQL, and their ratios."""
    slow = {"commit_delay": asked.commit_delay_ms * 1000, "commit_siblings": 1}
    with running(DURABLE | slow) as server:
        async with stand(server, home, clients=asked.clients) as here:
            name = here.settings.url.rpartition("/")[2]
            server.create(f"{name}_floor", template=name)
            try:
                return await _measure(here, asked, progress)
            finally:
                server.drop(f"{name}_floor")


async def _measure(here: Stand, asked: Asked, progress: Progress) -> dict[str, Any]:
    await here.start_gateway()
    wire = Wire.open(here.urls[0])
    tally = Tally()
    clients = buyers(here, wire, tally)
    ways = {name: Way() for name in ("one", "different", "raw, one", "raw, different")}
    try:
        for buyer in clients:
            await buyer.log_in()
        raw = {name: await _learned(here, clients, name) for name in ("one", "different")}
        for turn in range(asked.turns):
            for name in ("one", "different")[:: -1 if turn % 2 else 1]:
                progress.add_task(f"{name}, turn {turn + 1}", total=1, completed=1)
                _assign(clients, name)
                await _load(here, clients, tally, ways[name], asked.seconds)
                await _raw(here, raw[name], ways[f"raw, {name}"], asked)
    finally:
        for buyer in clients:
            buyer.close()
        await wire.aclose()
    found: dict[str, Any] = {name: way.figures() for name, way in ways.items()}
    found["ratio"] = round(found["one"]["per_second"] / found["different"]["per_second"], 3)
    raw_ratio = found["raw, one"]["per_second"] / found["raw, different"]["per_second"]
    found["ratio_raw"] = round(raw_ratio, 3)
    found["errors"] = dict(tally.errors)
    found["broken_invariants"] = await here.broken()
    return found


def _assign(clients: list[Buyer], way: str) -> None:
    for number, buyer in enumerate(clients):
        buyer.pair = PAIRS[0] if way == "one" else DIFFERENT[number % len(DIFFERENT)]


async def _learned(here: Stand, clients: list[Buyer], way: str) -> floors.Floor:
    _assign(clients, way)
    sagas = await learn(here, clients)
    floor = floors.Floor(f"{here.settings.url}_floor", sagas)
    await floors.prepare(floor.url, sagas)
    return floor


async def _load(here: Stand, clients: list[Buyer], tally: Tally, way: Way, seconds: float) -> None:
    before, began = tally.committed, time.monotonic()
    until = began + seconds
    watching = asyncio.create_task(_watch(here.settings.url, way, until))
    await asyncio.gather(*(one.buy_until(lambda: time.monotonic() >= until) for one in clients))
    way.redemptions += tally.committed - before
    way.seconds += time.monotonic() - began
    await watching


async def _raw(here: Stand, floor: floors.Floor, way: Way, asked: Asked) -> None:
    began = time.monotonic()
    watching = asyncio.create_task(_watch(floor.url, way, began + asked.seconds / 2))
    way.redemptions += await floor.run(asked.seconds / 2, connections=min(6, asked.clients))
    way.seconds += time.monotonic() - began
    await watching


async def _watch(url: str, way: Way, until: float) -> None:
    """Count the sessions in a transaction, and those of them that wait for a lock."""
    connection = await asyncpg.connect(floors.plain(url))
    try:
        while time.monotonic() < until:
            row = await connection.fetchrow(
                "SELECT count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting,"
                " count(*) AS busy FROM pg_stat_activity"
                " WHERE datname = current_database() AND state <> 'idle'"
                " AND pid <> pg_backend_pid()"
            )
            assert row
            way.waiting += row["waiting"]
            way.busy += row["busy"]
            await asyncio.sleep(0.05)
    finally:
        await connection.close()
