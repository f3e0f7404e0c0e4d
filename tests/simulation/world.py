"""The simulated world: processes that die and start again, merchants, the wire between them."""

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gateway.db import Clock, Database
from gateway.errors import GatewayError
from gateway.redemption.service import Redemptions
from gateway.settings import Settings
from gateway.worker import Worker
from tests.simulation import entropy, storage, template
from tests.simulation.checks import StepCheck
from tests.simulation.faults import CONTEST, CRAWL, LATE, Faults
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Line
from tests.simulation.partner import Merchant

LEASES = (2, 10, 10, 60)
PAUSES = (0.3, 4.0, 15.0, 40.0, 80.0)  # between a worker's rounds
PARTS = ("statement", "commit", "partner")
CLOCK_SECONDS = 1.0  # How long the API may go without reading the sandbox clock.


class Down(Exception):
    """The process did not answer: it is dead, died, or its answer was lost."""


class Process:
    """One operating system process: its own connections, its own clock, one thread."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.path = world.path
        self.dead = True
        self.connections: list[storage.Connection] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.skew_us = 0
        self.crawls = False
        self._old: list[storage.Connection] = []

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start anew: nothing is remembered but the database."""
        world = self.world
        self.dead, self.tasks = False, set()
        self.driving: set[str] = set()
        self.leasing = False
        self._old += self.connections
        self.connections = []
        self.context = contextvars.copy_context()
        self.context.run(storage.owner.set, self)
        self.context.run(entropy.skew_us.set, lambda: self.skew_us)
        self.database: Database = storage.database()
        self.clock = Clock()
        self.clock_read_at = -inf
        self.partners = {code: Line(self, made) for code, made in world.merchants.items()}
        self.redemptions = Redemptions(
            self.database, self.partners, self.clock, world.settings, b"simulated"
        )
        if self.name.startswith("worker"):
            self.worker = Worker(
                self.database, self.partners, self.clock, world.settings, self.redemptions
            )
            self._drive, self._lease = self.redemptions.drive, self.redemptions.lease
            # Watched: who drives what at once, and who holds which lease.
            self.redemptions.drive = self._driven  # type: ignore[method-assign]
            self.redemptions.lease = self._leased  # type: ignore[method-assign]
            self._chores = self.worker._chores
            self.worker._chores = self._some_chores
            self.spawn(self._work())

    def kill(self, where: str) -> None:
        """SIGKILL: connections break, tasks end where they are, requests under way go on."""
        self.dead = True
        self.world.saw(f"crash {self.name[:6]} {where}", self.name)
        for connection in self.connections:
            connection.drop()
        for task in list(self.tasks):
            if task is not asyncio.current_task():
                task.cancel()
        delay = self.world.rng.choice((0.05, 1.0, 5.0, 30.0))
        self.world.loop.call_later(delay, self._restart)

    def _restart(self) -> None:
        if self.dead and not self.world.over:
            self.start()

    def end(self) -> None:
        """Stop for good, quietly."""
        self.dead = True
        for task in list(self.tasks):
            task.cancel()
        for connection in self.connections + self._old:
            connection.drop()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.world.loop.create_task(work, context=self.context.copy())

    # -- what goes wrong inside ---------------------------------------------------------------

    def may_die(self, where: str) -> None:
        """A place where a crash can strike."""
        world = self.world
        world.io_points += 1
        part = where if where == "statement" else "commit" if "commit" in where else "partner"
        if not world.faults.on:
            return
        world.places += 1
        if world.places == world.crash_at:
            self.kill(where)
            raise storage.Killed
        left = world.crashes[part]
        if left:
            left[-1] -= 1
            if left[-1] <= 0:
                left.pop()
                self.kill(where)
                raise storage.Killed

    def lapse(self, *, inside: bool) -> float | None:
        """Let others run before a statement; sometimes for long."""
        draw = self.world.rng.random()
        if draw > (0.08 if inside else 0.4):
            return None
        if draw < 0.004 and self.world.strikes("stall"):
            self.world.saw("fault stall", self.name)
            return self.world.rng.choice((0.5, 3.0, 15.0, 70.0))
        if draw < 0.01 and self.world.strikes("slow_disk"):
            return self.world.rng.uniform(0.01, 0.4)
        if self.crawls and self.world.faults.on:
            self.world.counts[f"fault {CRAWL}"] += 1
            return self.world.rng.uniform(0.0, 0.3 if inside else 4.0)
        return 0.0

    def committing(self) -> None:
        if self.leasing:
            self.were = self.world.check.leases()
            self.leased_at = max(self.leased_at, self.clock_now())  # Not when it began to wait.

    def committed(self) -> None:
        self.world.committed(self)

    # -- being asked --------------------------------------------------------------------------

    async def call(self, make: Callable[["Process"], Coroutine[Any, Any, Any]]) -> Any:
        """Ask this process something, as a client does.

        Raises:
            Down: There was no answer.
        """
        if self.dead:
            raise Down(self.name)

        async def serve() -> Any:
            if self.world.loop.time() > self.clock_read_at + CLOCK_SECONDS:  # As the API does.
                async with self.database.reading() as tx:
                    await self.clock.refresh(tx)
                self.clock_read_at = self.world.loop.time()
            return await make(self)

        task = self.spawn(serve())
        await asyncio.wait({task})
        if task.cancelled():
            raise Down(self.name)
        if self.world.strikes("lost_reply"):
            task.exception()
            raise Down("the answer was lost")
        try:
            return task.result()
        except SQLAlchemyError as error:
            self.world.saw("database error", repr(error)[:200])
            raise Down("500") from error
        except GatewayError:
            raise
        except Exception as error:
            self.world.wrong(f"an error nobody expects: {error!r}")
            raise Down("500") from error

    async def _leased(self, **given: Any) -> list[tuple[str, str]]:
        """Take leases: whose they were until the commit is looked at."""
        self.leasing, self.were, self.leased_at = True, {}, self.clock_now()
        try:
            taken: list[tuple[str, str]] = await self._lease(**given)
        finally:
            self.leasing = False
        for ref, _ in taken:
            until = self.were.get(ref)  # Stored without a zone: UTC.
            if until and datetime.fromisoformat(until).replace(tzinfo=UTC) > self.leased_at:
                self.world.wrong(f"{self.name} takes {ref}, whose lease runs until {until}")
        return taken

    async def _driven(self, ref: str) -> None:
        """Drive one redemption; whoever else does so now is counted."""
        for other in self.world.processes:
            if other is self or other.dead:
                continue
            if ref in other.driving:
                self.world.saw("lease taken over", f"{ref} by {self.name} from {other.name}")
            if ref in other.driving or ref in other.redemptions.saga.under_way:
                self.world.saw("driven by two", f"{ref} by {self.name} and {other.name}")
        self.driving.add(ref)
        self.world.counts["driven"] += 1
        try:
            await self._drive(ref)
        finally:
            self.driving.discard(ref)

    def clock_now(self) -> datetime:
        """System time as this process has it."""
        return entropy.START + timedelta(microseconds=self.world.loop.now_us + self.skew_us)

    async def _some_chores(self) -> int:
        """What time makes due, less often than every round: nothing hangs on it."""
        if self.world.rng.random() > 0.15:
            return 0
        return await self._chores()

    async def _work(self) -> None:
        """The worker's own rounds, further apart than in earnest."""
        rng = self.world.rng
        while True:
            await asyncio.sleep(rng.choice(self.world.pauses))
            if self.world.idle:
                continue
            try:
                await self.worker.turn()
            except SQLAlchemyError as error:
                self.world.saw("worker round failed", repr(error)[:200])
            except Exception as error:
                self.world.wrong(f"a round ends with {error!r}")


class World:
    """Everything of one run.

    Args:
        seed: Decides all.
        path: A fresh copy of the template.
        crash_at: The one place where a crash strikes, and no other fault does; 0 is none.
    """

    def __init__(
        self,
        seed: int,
        loop: VirtualLoop,
        path: Path,
        traced: bool,
        weather: Mapping[str, float],
        *,
        crash_at: int | None = None,
    ) -> None:
        self.seed = seed
        self.loop = loop
        self.path = path
        self.rng = Random(f"world {seed}")
        self.faults = Faults(Random(f"faults {seed}"))
        crawl = Random(f"crawl {seed}")  # Its own stream, as each of these.
        if crawl.random() < 0.05:
            self.faults.rates[CRAWL] = 0.5
        self.settings = replace(
            Settings(),
            lease_seconds=self.rng.choice(LEASES),
            partner_timeout_seconds=self.rng.choice((2.0, 15.0)),
        )
        self.pauses = PAUSES
        share = weather.get(CONTEST, 0.0 if weather else 0.15)  # A mutant's weather is its own.
        if Random(f"contest {seed}").random() < share:
            self._contest()
        self.faults.rates.update(weather)
        self.crash_at = crash_at
        if crash_at is not None:
            self.faults.rates.clear()
        self.counts: Counter[str] = Counter()
        self.trace: list[tuple[int, str, str]] | None = [] if traced else None
        self.io_points = 0
        self.places = 0  # of those, before it is calm
        self.commits = 0
        self.offset_us = 0
        self.over = False
        self.idle = False
        self.problems: list[str] = []
        self.crashes = self._plan_crashes()
        self.merchants = {
            code: Merchant(self, code, offers) for code, offers in template.prices().items()
        }
        for code in ("M01", "M16"):
            self.merchants[code] = Merchant(self, code, {})
        self.check = StepCheck(self)
        self.gateways = [Process(self, "gateway1"), Process(self, "gateway2")]
        self.workers = [Process(self, "worker1"), Process(self, "worker2")]
        self.hooks: set[asyncio.Task[Any]] = set()
        for process in self.processes:
            process.crawls = crawl.random() < self.faults.rates.get(CRAWL, 0)

    def _contest(self) -> None:
        """Leases that end while their holder still waits for a partner, and workers that look."""
        self.settings = replace(self.settings, lease_seconds=2, partner_timeout_seconds=15.0)
        self.pauses = (0.3, 2.0, 6.0, 20.0)
        for kind in LATE:
            self.faults.rates[kind] = max(self.faults.rates.get(kind, 0.0), 0.25)

    @property
    def processes(self) -> list[Process]:
        return [*self.gateways, *self.workers]

    def _plan_crashes(self) -> dict[str, list[int]]:
        """How many places of each kind are passed before each crash."""
        rate = self.faults.rates.get("crash")
        plan: dict[str, list[int]] = {part: [] for part in PARTS}
        for part, spread in zip(PARTS, (900, 150, 40), strict=True):
            if rate is not None:
                count = self.rng.choice((0, 0, 1, 2, 3) if rate < 0.3 else (1, 2, 4, 6))
                plan[part] = [self.rng.randrange(1, spread) for _ in range(count)]
        return plan

    # -- time ---------------------------------------------------------------------------------

    def business_now(self) -> datetime:
        """The business clock as the merchants have it: right."""
        return entropy.START + timedelta(microseconds=self.loop.now_us + self.offset_us)

    # -- notes --------------------------------------------------------------------------------

    def saw(self, what: str, detail: str = "") -> None:
        """Count something, and write it into the trace."""
        self.counts[what] += 1
        if self.trace is not None:
            self.trace.append((self.loop.now_us, what, detail))

    def wrong(self, problem: str) -> None:
        """Something that must not be."""
        self.problems.append(problem)
        if self.trace is not None:
            self.trace.append((self.loop.now_us, "WRONG", problem))

    def strikes(self, kind: str) -> bool:
        if self.faults.strikes(kind):
            self.counts[f"fault {kind}"] += 1
            return True
        return False

    def committed(self, process: Process) -> None:
        """Look at what was committed: the fast checks."""
        self.commits += 1
        self.check.run(process.name)

    # -- the wire -----------------------------------------------------------------------------

    def gateway(self) -> Process:
        return self.rng.choice(self.gateways)

    def send_webhook(self, merchant: str, body: dict[str, Any]) -> None:
        """Deliver a webhook until it is taken, as partners do."""
        delay = self.rng.uniform(0.001, 0.5)
        if self.strikes("hook_late"):
            delay = self.rng.choice((3.0, 40.0, 400.0))
        outside = contextvars.Context()  # Of no process: no crash ends it.
        task = self.loop.create_task(self._deliver(merchant, body, delay), context=outside)
        self.hooks.add(task)
        task.add_done_callback(self.hooks.discard)

    async def _deliver(self, merchant: str, body: dict[str, Any], delay: float) -> None:
        await asyncio.sleep(delay)
        while not self.over:
            try:
                taken = await self.gateway().call(
                    lambda process: process.redemptions.inbox.receive(merchant, body["id"], body)
                )
            except Down:
                await asyncio.sleep(self.rng.choice((1.0, 10.0, 60.0)))
                continue
            self.check.acknowledged_events.add((merchant, body["id"]))
            self.saw(f"webhook {body['kind']}" if taken else "webhook known", body["op_key"])
            return
