"""Two gateways and two workers over one PostgreSQL, or one of each over one SQLite file."""

import asyncio
import contextlib
import functools
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import sqlalchemy as sa

from gateway.settings import Settings
from gateway.settlement import service as settlement
from tests.chaos.plan import Life, lives
from tests.support.box import PATIENCE, Box
from tests.support.postgres import Postgres

MEAN_SECONDS = {"gateway": 1.2, "worker": 0.8, "postgresql": 6.0, "partners": 20.0}
FAULTS = (
    *(
        (f"{verb}_times_out_{when}_effect", verb, None)
        for verb in ("hold", "confirm", "cancel")
        for when in ("before", "after")
    ),
    *(("latency", verb, 0.7) for verb in ("hold", "confirm", "cancel", "status", "fence")),
    ("error_5xx", "confirm", "before"),
    ("error_5xx", "confirm", "after"),
    ("malformed_body", "confirm", None),
    ("error_in_200", "hold", None),
    ("connection_refused", None, None),
    ("duplicate_webhook", None, None),
    ("shorter_hold", None, 120),
)
MERCHANTS = ("M03", "M05", "M06", "M07")
PLENTY_FEN = 10**12


@dataclass
class Deaths:
    """What was killed, where, and how long until it was back."""

    killed: Counter[str] = field(default_factory=Counter)
    at: Counter[str] = field(default_factory=Counter)  # of those that are counted
    back: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed_starts: int = 0  # The database was down.
    surprises: list[str] = field(default_factory=list)

    @property
    def counted(self) -> int:
        """Kills of the gateway's side: gateways, workers and PostgreSQL."""
        return sum(self.killed.values()) - self.killed["partners"]


class Fleet(Box):
    """A sandbox whose processes keep dying.

    Args:
        server: The PostgreSQL that is killed too; None on SQLite.
    """

    def __init__(self, settings: Settings, server: Postgres | None) -> None:
        super().__init__(settings)
        self.server = server
        self.deaths = Deaths()
        self.ports = {"gateway": self.settings.port}
        if server:
            self.ports["gateway-2"] = self._reserve()
        self.workers = ("worker", "worker-2") if server else ("worker",)
        self.addresses = [f"http://127.0.0.1:{port}" for port in self.ports.values()]
        self._armed: dict[str, str] = {}  # failpoint each process was started with
        self._said: dict[str, int] = {}  # bytes of each log that tell nothing of its process
        self._died_at: dict[str, float] = {}
        self._ready = httpx2.AsyncClient(trust_env=False, timeout=5)

    # -- life ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start everything, with caps and cover that do not end before the campaign does."""
        await super().open()
        async with self.database.transaction() as tx:
            table = sa.table("settlement_agreements", sa.column("monthly_cap_fen"))
            await tx.execute(sa.update(table).values(monthly_cap_fen=PLENTY_FEN))
            for merchant in ("M03", "M04", "M06"):
                await settlement.set_cover(
                    tx,
                    merchant_id=merchant,
                    collateral_fen=PLENTY_FEN,
                    net_debit_cap_fen=PLENTY_FEN,
                )
        await self.all_up()

    async def close(self) -> None:
        await self._ready.aclose()
        await super().close()

    async def all_up(self) -> None:
        """Start whatever does not run, without failpoints, and wait until it answers."""
        if self.server and not self.server.alive:
            await _whole(self.server.start)
        if not self._is_up("simulators"):
            await self.start_simulators()
        for name in (*self.ports, *self.workers):
            if self._armed.get(name) and self._is_up(name):
                await _whole(self.children[name].kill)  # It would die when nobody looks after it.
            await self._revive(name, "")

    async def dying(self, name: str, seed: int, calm: asyncio.Event) -> None:
        """Let one process live, kill it, start it again, until it is calm."""
        kind = name.partition("-")[0]
        for life in lives(seed, name, mean_seconds=MEAN_SECONDS[kind]):
            if calm.is_set():
                return
            if name == "postgresql":
                await self._postgresql_dies(life, calm)
            elif name == "partners":
                await self._partners_die(life, calm)
            else:
                await self._process_dies(name, life, calm)

    async def misbehaving(self, seed: int, calm: asyncio.Event) -> None:
        """Plant a fault at some partner now and then."""
        chance = random.Random(f"{seed}:faults")
        while not calm.is_set():
            fault, verb, value = chance.choice(FAULTS)
            merchant, count = chance.choice(MERCHANTS), chance.randint(1, 3)
            with contextlib.suppress(httpx2.TransportError, ValueError):
                await self.control.fault(merchant, fault, verb=verb, value=value, count=count)
            await _pause(calm, chance.uniform(0.3, 1.5))

    async def _process_dies(self, name: str, life: Life, calm: asyncio.Event) -> None:
        """One life of a gateway or worker, from its start to its death."""
        kind = name.partition("-")[0]
        if not self._is_up(name):
            await self._revive(name, life.failpoint)
            self.deaths.back[kind].append(time.monotonic() - self._died_at[name])
        child, ends = self.children[name], time.monotonic() + life.seconds
        while child.alive and time.monotonic() < ends and not calm.is_set():
            await asyncio.sleep(0.01)
        if child.alive:
            if calm.is_set():
                return
            await _whole(child.kill)
            self._count(kind, "random instant")
        elif (code := child.died_of(0)) is signal.SIGKILL:
            self._count(kind, life.failpoint)
        else:
            self.deaths.surprises.append(f"{name} ended with {code}: {child.said()[-500:]}")
        self._died_at[name] = time.monotonic()

    def _count(self, kind: str, where: str) -> None:
        self.deaths.killed[kind] += 1
        if kind != "partners":  # They are not counted, so their places are none of these.
            self.deaths.at[where] += 1

    async def _postgresql_dies(self, life: Life, calm: asyncio.Event) -> None:
        assert self.server
        await _pause(calm, life.seconds)
        if calm.is_set():
            return
        if life.whole:
            await _whole(self.server.kill)
            began = time.monotonic()
            await _whole(self.server.start)
        else:
            backends = self.server.backends()
            if not backends:
                return
            os.kill(backends[int(life.seconds * 1000) % len(backends)], signal.SIGKILL)
            began = time.monotonic()
        self._count("postgresql", "whole server" if life.whole else "one backend")
        await self._database_answers()
        self.deaths.back["postgresql"].append(time.monotonic() - began)

    async def _partners_die(self, life: Life, calm: asyncio.Event) -> None:
        await _pause(calm, life.seconds)
        if calm.is_set():
            return
        await _whole(self.children["simulators"].kill)
        self._count("partners", "random instant")
        began = time.monotonic()
        await self.start_simulators()
        self.deaths.back["partners"].append(time.monotonic() - began)

    # -- starting -----------------------------------------------------------------------------

    def _is_up(self, name: str) -> bool:
        return name in self.children and self.children[name].alive

    async def _revive(self, name: str, failpoint: str) -> None:
        """Start it until it stays up: it ends by itself while the database is down."""
        async with asyncio.timeout(PATIENCE):
            while not self._is_up(name):
                await self._begin(name, failpoint)
                if not await self._answers(name):
                    if self.children[name].died_of(0) is signal.SIGKILL:
                        return  # Its failpoint was reached at once.
                    self.deaths.failed_starts += 1
                    await asyncio.sleep(0.3)  # As a supervisor does between two starts.

    async def _begin(self, name: str, failpoint: str) -> None:
        program = ["serve"] if name in self.ports else ["worker"]
        port = self.ports.get(name, self.settings.port)
        more = {"GATEWAY_PORT": str(port), "GATEWAY_ISSUER": self.settings.base_url}
        more |= {"GATEWAY_PARTNER_TIMEOUT_SECONDS": "3", "GATEWAY_LOGIN_TRIES_PER_MINUTE": "10000"}
        more["GATEWAY_WEBHOOK_TIMEOUT_SECONDS"] = "15"  # The endpoint is as busy as the machine.
        log = self.home / f"{name}.log"
        self._said[name] = log.stat().st_size if log.exists() else 0
        self._armed[name] = failpoint
        start = functools.partial(self._start, name, "gateway", program, failpoint, **more)
        await _whole(start)

    async def _answers(self, name: str) -> bool:
        """Wait until it answers (a worker: until it has begun to work); False if it has ended."""
        child = self.children[name]
        while child.alive:
            if name in self.workers:
                if await asyncio.to_thread(self._has_said, name, b'"feed '):
                    return True
            else:
                with contextlib.suppress(httpx2.TransportError):
                    url = f"http://127.0.0.1:{self.ports[name]}/readyz"
                    if (await self._ready.get(url)).status_code == 200:
                        return True
            await asyncio.sleep(0.02)
        return False

    def _has_said(self, name: str, words: bytes) -> bool:
        """Whether it has logged this since it was started; what was looked at is not read again."""
        path = self.children[name].log
        if not path.exists():
            return False
        with path.open("rb") as log:
            log.seek(self._said[name])
            while line := log.readline():
                if words in line:
                    return True
                if line.endswith(b"\n"):
                    self._said[name] += len(line)
        return False

    async def _database_answers(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(sa.exc.SQLAlchemyError, OSError, Exception):
                    async with self.database.reading() as tx:
                        await tx.execute(sa.select(sa.literal(1)))
                    return
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(home: Path, server: Postgres | None) -> AsyncIterator[Fleet]:
    """A fleet of its own; everything is killed at the end."""
    url = server.create("chaos") if server else f"sqlite+aiosqlite:///{home / 'gateway.db'}"
    fleet = Fleet(Settings(home=home, database_url=url), server)
    try:
        await fleet.open()
        yield fleet
    finally:
        await fleet.close()


async def _whole(act: Callable[[], None]) -> None:
    """Do it in a thread, to its end: what is cancelled half-way would start what nobody stops."""
    acting = asyncio.ensure_future(asyncio.to_thread(act))
    try:
        await asyncio.shield(acting)
    except asyncio.CancelledError:
        await asyncio.wait([acting])
        raise


async def _pause(calm: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(calm.wait(), seconds)
