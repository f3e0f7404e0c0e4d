"""Redemptions a second over HTTP, GraphQL and OAuth, beside the same rows as raw SQL."""

import asyncio
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.demo.clients import Wire
from tests.load import floor as floors
from tests.load import report, watch
from tests.load.buyers import Buyer, Tally, buyers
from tests.load.place import DURABLE, Stand, stand
from tests.support.postgres import Postgres, running

FLOOR_CONNECTIONS = 4
COUNTED = 10  # redemptions whose statements are counted one by one
WARM_UP = 0.1  # of the time, and at most a minute
RUSH_OF, RUSH = 4, 0.25  # so many times the clients, for this part of the warm-up
FLAT_MB_PER_HOUR = 30.0
LONG_ENOUGH = 240.0  # Seconds, before a slope of memory says anything.
LOGGED = {"log_line_prefix": "%u|%c|", "log_min_messages": "warning"}


@dataclass(frozen=True, slots=True)
class Asked:
    """How long, how many."""

    seconds: float
    clients: int
    gateways: int = 1
    workers: int = 1
    floor_seconds: float = 20.0
    at_once: bool = False
    more: tuple[tuple[str, str], ...] = ()


async def run(home: Path, asked: Asked, progress: Progress) -> dict[str, Any]:
    """Everything: start, learn, floor, load, count, floor; the figures."""
    with running(DURABLE | LOGGED) as server:
        more = dict(asked.more)
        made = stand(server, home, clients=asked.clients, gateways=asked.gateways, **more)
        async with made as here:
            return await _Run(server, here, asked, progress).all()


class _Run:
    def __init__(self, server: Postgres, here: Stand, asked: Asked, progress: Progress) -> None:
        self.server = server
        self.here = here
        self.asked = asked
        self.progress = progress
        self.tally = Tally()
        self.found: dict[str, Any] = {}

    async def all(self) -> dict[str, Any]:
        name = self.here.settings.url.rpartition("/")[2]
        self.server.create(f"{name}_floor", template=name)
        try:
            for number in range(self.asked.gateways):
                await self.here.start_gateway(number + 1)
            wire = Wire.open(self.here.urls[0])
            try:
                await self._with(buyers(self.here, wire, self.tally, at_once=self.asked.at_once))
            finally:
                await wire.aclose()
        finally:
            self.server.drop(f"{name}_floor")
        return self.found

    async def _with(self, clients: list[Buyer]) -> None:
        for buyer in self.progress.track(clients, description="log in"):
            await buyer.log_in()
        floor = await self._learn(clients)
        for number in range(self.asked.workers):
            await self.here.start_worker(number + 1)
        await self._floor(floor, "raw SQL, before")
        await self._load(clients)
        await self._count(clients[0])
        await self._floor(floor, "raw SQL, after")
        self._compare(floor)
        for buyer in clients:
            buyer.close()
        self.found["broken_invariants"] = await self.here.broken()
        self.found["machine"] = {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "clients": self.asked.clients,
            "way": "redeemOffer" if self.asked.at_once else "quote, hold, confirm",
            "gateways": self.asked.gateways,
            "workers": self.asked.workers,
            "database": "PostgreSQL 18, " + ", ".join(f"{k}={v}" for k, v in DURABLE.items()),
        }

    async def _learn(self, clients: list[Buyer]) -> floors.Floor:
        """What one redemption of each client writes, once its first has made what is shared."""
        told = self.progress.track(clients, description="learn the rows")
        sagas = await learn(self.here, told)
        self.found["shared_rows"] = shared_rows(sagas)
        floor = floors.Floor(f"{self.here.settings.url}_floor", sagas)
        await floors.prepare(floor.url, sagas)
        self.tally.clear()
        return floor

    async def _floor(self, floor: floors.Floor, name: str) -> None:
        """Half of the floor's time, with what the database spent on it."""
        seconds = self.asked.floor_seconds / 2
        if not seconds:
            return
        connections = min(FLOOR_CONNECTIONS, self.asked.clients)
        before = watch.family_cpu(self.server.pid)
        await self._shown(name, seconds, floor.run(seconds, connections=connections))
        spent = watch.family_cpu(self.server.pid) - before
        self.found.setdefault("_floor_cpu", 0.0)
        self.found["_floor_cpu"] += spent

    async def _shown(self, name: str, seconds: float, work: Awaitable[Any]) -> Any:
        """Run something that takes so long, with a bar."""
        bar = self.progress.add_task(name, total=seconds)
        task = asyncio.ensure_future(work)
        began = time.monotonic()
        while not task.done():
            await asyncio.wait([task], timeout=1.0)
            self.progress.update(bar, completed=min(time.monotonic() - began, seconds))
        self.progress.update(bar, completed=seconds)
        return await task

    async def _load(self, clients: list[Buyer]) -> None:
        """The run itself: warm-up, then what is counted."""
        seconds = self.asked.seconds
        warm = min(60.0, seconds * WARM_UP)
        pids = {name: process.pid for name, process in self.here.processes.items()}
        watched = watch.Watch(pids | {"client": os.getpid()}, self.server.pid)
        until = time.monotonic() + warm + seconds
        tasks = [
            asyncio.create_task(buyer.buy_until(lambda: time.monotonic() >= until))
            for buyer in clients
        ]
        bar = self.progress.add_task(f"{len(clients)} clients", total=warm + seconds)
        try:
            await self._rush(clients, watched, bar, warm * RUSH)
            await self._watch(watched, bar, warm * (1 - RUSH))
            self.tally.clear()
            began, before = time.monotonic(), watched.cpu()
            backends = watch.backends_cpu(self.server.pid)
            database = await self._database_counts()
            await self._watch(watched, bar, seconds)
            spent = {name: value - before[name] for name, value in watched.cpu().items()}
            worker = await self._worker_share(backends)
            transactions = await self._database_counts() - database
            took, committed = time.monotonic() - began, self.tally.committed
        finally:
            until = 0.0
            await asyncio.gather(*tasks)
        self._note(watched, spent, worker, took, committed, warm)
        self.found["transactions_per_redemption_all_told"] = round(transactions / committed, 2)

    async def _rush(
        self, clients: list[Buyer], watched: watch.Watch, bar: Any, seconds: float
    ) -> None:
        """Four times as many at once, and all log in: every connection opens and learns.

        Else the first moment of a busy machine opens them later, or the seventh minute, when all
        tokens are renewed; that step looks like a leak.
        """
        until = time.monotonic() + seconds
        more = [buyer.double(number) for buyer in clients for number in range(RUSH_OF - 1)]
        tasks = [
            asyncio.create_task(buyer.buy_until(lambda: time.monotonic() >= until))
            for buyer in more
        ]
        for buyer in clients:
            buyer.log_in_again()
        try:
            await self._watch(watched, bar, seconds)
        finally:
            until = 0.0
            await asyncio.gather(*tasks)
            for buyer in more:
                buyer.close()

    async def _watch(self, watched: watch.Watch, bar: Any, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            watched.sample()
            await asyncio.sleep(min(1.0, left))
            rate = f"{self.tally.committed:,} committed"
            failed = sum(self.tally.errors.values())
            words = f"{self.asked.clients} clients, {rate}, {failed} errors"
            self.progress.update(bar, advance=min(1.0, left), description=words)

    async def _database_counts(self) -> int:
        connection = await asyncpg.connect(floors.plain(self.here.settings.url))
        try:
            count: int = await connection.fetchval(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            )
            return count
        finally:
            await connection.close()

    async def _worker_share(self, before: dict[int, float]) -> float:
        """Processor seconds of the workers' sessions since."""
        connection = await asyncpg.connect(floors.plain(self.here.settings.url))
        try:
            rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE usename='worker'")
        finally:
            await connection.close()
        return sum(watch.cpu_of(row["pid"]) - before.get(row["pid"], 0.0) for row in rows)

    def _note(  # noqa: PLR0917 - what was seen, in its order
        self,
        watched: watch.Watch,
        spent: dict[str, float],
        worker: float,
        took: float,
        committed: int,
        warm: float,
    ) -> None:
        assert committed, dict(self.tally.errors)
        gateways = spent["postgresql"] - worker
        self.found |= {
            "seconds": round(took, 1),
            "committed": committed,
            "per_second": round(committed / took, 2),
            "steps_ms": {
                name: report.percentiles(values) for name, values in self.tally.seconds.items()
            },
            "errors": dict(self.tally.errors),
            "cpu_seconds": {name: round(value, 2) for name, value in spent.items()}
            | {"of it for the worker": round(worker, 2)},
            "cpu_ms_per_redemption": {
                name: round(value / committed * 1e3, 2) for name, value in spent.items()
            }
            | {"of it for the worker": round(worker / committed * 1e3, 2)},
            "per_db_cpu_second": round(committed / spent["postgresql"], 1),
            "per_db_cpu_second_of_gateways": round(committed / gateways, 1),
            "memory": {
                name: _memory(memory, warm) for name, memory in watched.memory.items() if memory.mb
            },
        }

    async def _count(self, buyer: Buyer) -> None:
        """How many statements and transactions a redemption takes, from the server's own log."""
        log = self.server.folder / "log"
        self.server.run("ALTER SYSTEM SET log_statement = 'all'")
        self.server.run("SELECT pg_reload_conf()")
        began = log.stat().st_size
        await buyer.log_in()
        for _ in range(COUNTED):
            await buyer.buy()
        with log.open("rb") as file:
            file.seek(began)
            text = file.read().decode(errors="replace")
        self.server.run("ALTER SYSTEM RESET log_statement")
        self.server.run("SELECT pg_reload_conf()")
        for name, count in said_by("gateway", text).items():
            self.found[name] = round(count / COUNTED, 1)

    def _compare(self, floor: floors.Floor) -> None:
        if not floor.done:
            return
        spent = self.found.pop("_floor_cpu")
        parts = [part for saga in floor.sagas[:1] for part in saga.transactions]
        self.found["floor"] = {
            "committed": floor.done,
            "per_second": round(floor.done / floor.seconds, 1),
            "per_db_cpu_second": round(floor.done / spent, 1),
            "db_cpu_ms": round(spent / floor.done * 1e3, 2),
            "statements": sum(len(part) for part in parts),
            "transactions": len(parts),
            "rows": floor.sagas[0].rows,
        }
        ratio = self.found["per_db_cpu_second"] / self.found["floor"]["per_db_cpu_second"]
        self.found["ratio_per_db_cpu_second"] = round(ratio, 3)


async def learn(here: Stand, clients: Iterable[Buyer]) -> list[floors.Saga]:
    """What a redemption of each client writes, once its first has made what is shared."""
    connection = await asyncpg.connect(floors.plain(here.settings.url))
    try:
        found = []
        for buyer in clients:
            await buyer.buy()
            found.append(await floors.learned(connection, buyer.hold, _confirming(buyer)))
        return found
    finally:
        await connection.close()


_MARKS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")
_WRITES = re.compile(r"\b(INSERT INTO|UPDATE \w+ SET|DELETE FROM)\b")


def said_by(user: str, log: str) -> dict[str, int]:
    """What a user has said to the server, from its log.

    A statement between BEGIN and COMMIT is of their transaction; another is one by itself.
    """
    said = re.findall(
        rf"^{user}\|(\S+)\|LOG:  (?:statement|execute [^:]*): (.*)$", log, re.MULTILINE
    )
    wrote: dict[str, bool] = {}  # by session in a transaction
    found = Counter({"statements": 0, "transactions": 0, "commits_of_writes": 0})
    for session, text in said:
        if text.startswith("BEGIN"):
            wrote[session] = False
        elif text.startswith(("COMMIT", "ROLLBACK;")):
            found["transactions"] += 1
            found["commits_of_writes"] += wrote.pop(session, False)
        elif not text.startswith(_MARKS):
            writes = _WRITES.search(text) is not None
            found["statements"] += 1
            if session in wrote:
                wrote[session] |= writes
            else:
                found["transactions"] += 1
                found["commits_of_writes"] += writes
    return dict(found)


def shared_rows(sagas: Iterable[floors.Saga]) -> list[str]:
    """The rows that redemptions of several members change: those that make them wait."""
    found: Counter[str] = Counter()
    for saga in sagas:
        found.update({f"{table} {key}" for table, rows in saga.keys.items() for key in rows})
    return sorted(name for name, members in found.items() if members > 1)


def _memory(memory: watch.Memory, warm: float) -> dict[str, Any]:
    """Its slope is that of the second half: in the first, each connection learns its statements."""
    slope = memory.slope(skip=max(warm, (memory.at[-1] - memory.at[0]) / 2))
    return {
        "start_mb": round(memory.mb[min(len(memory.mb) - 1, int(warm))], 1),
        "end_mb": round(memory.mb[-1], 1),
        "mb_per_hour": round(slope, 1),
        "by_minute": memory.by_minute(),
        "verdict": _verdict(slope, memory.at[-1] - memory.at[0]),
    }


def _verdict(slope: float, seconds: float) -> str:
    if seconds < LONG_ENOUGH:
        return "too short to say"
    return "flat" if slope < FLAT_MB_PER_HOUR else "grows"


def _confirming(buyer: Buyer) -> Callable[[str], Awaitable[None]]:
    async def confirm(redemption: str) -> None:
        await buyer.step("confirmRedemption", redemption=redemption)

    return confirm


def bars(*, quiet: bool = False) -> Progress:
    """Progress bars; none when quiet."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, disable=quiet)
