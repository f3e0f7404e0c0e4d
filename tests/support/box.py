"""A whole sandbox of separate processes, with clients outside: any process may die and come back.

The simulators, the gateway and the worker each keep their port for the sandbox's life, as they
would behind a name; while one is down, its port refuses.
"""

import asyncio
import contextlib
import json
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import sqlalchemy as sa

from gateway import invariants
from gateway.db import Clock, Database
from gateway.demo import install, sandbox
from gateway.demo.clients import STAFF_CONSOLE, MemberApp, Person, Wire
from gateway.points import service as points
from gateway.settings import Settings
from partners.simulators.remote import Control
from tests.support import processes
from tests.support.processes import Child
from tests.support.skewed import Skewed

T = TypeVar("T")
PATIENCE = 120.0  # Far more than anything needs on an idle machine.
POINTS = 1_000_000  # what each member gets more of each of its programmes
RICH = {
    "mbr_demo_02": ("P-LL",),
    "mbr_demo_07": ("P-LL",),
    "mbr_demo_10": ("P-YQ",),
    "mbr_demo_15": ("P-LL", "P-CW"),
}
SETTINGS = {
    "GATEWAY_WORKER_INSIDE": "false",
    "GATEWAY_LEASE_SECONDS": "1",
    "GATEWAY_WORKER_POLL_SECONDS": "0.05",
    "GATEWAY_WEBHOOK_TIMEOUT_SECONDS": "1",
}


class Box:
    """The running sandbox.

    Args:
        settings: Home and database.
    """

    def __init__(self, settings: Settings) -> None:
        self._ports = [processes.reserve()]
        self.settings = replace(settings, port=self._ports[0].getsockname()[1])
        self.home = settings.home
        self.database = Database(self.settings.url)
        self.wire = Wire.open(self.settings.base_url)
        self.children: dict[str, Child | Skewed] = {}
        self.environment: dict[str, str] = {}  # of what is started from now on
        self.made = install.prepare(self.settings, port=self.settings.port)
        self._keep_ports()
        self.control = Control(*self._control())
        self._people: dict[str, Person] = {}

    # -- processes ----------------------------------------------------------------------------

    async def open(self) -> None:
        """Seed, start everything and wait until all offers are there."""
        await self.start_simulators()
        await install.seeded(self.settings, self.made)
        await self._give_points()
        self.start_worker()
        await self.start_gateway()
        async with asyncio.timeout(PATIENCE):
            while not await install.price_book(self.database):
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Kill everything and close the clients."""
        for child in self.children.values():
            child.kill()
        await self.wire.aclose()
        await self.control.aclose()
        await self.database.close()
        for bound in self._ports:
            bound.close()

    async def start_gateway(self, *, failpoint: str = "") -> None:
        """Start the gateway, in place of the one there is, and wait until it answers."""
        self._start("gateway", "gateway", ["serve"], failpoint)
        await self._gateway_answers()

    async def _gateway_answers(self) -> None:
        async with asyncio.timeout(PATIENCE), httpx2.AsyncClient(trust_env=False) as http:
            while True:
                self._alive("gateway")
                with contextlib.suppress(httpx2.TransportError):
                    if (await http.get(f"{self.wire.base_url}/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.02)

    def start_worker(self, *, failpoint: str = "") -> None:
        """Start the worker, in place of the one there is."""
        self._start("worker", "gateway", ["worker"], failpoint)

    async def start_simulators(self) -> None:
        """Start the partners' stand-ins, on the state and the ports they had."""
        self.made.ports_file.unlink(missing_ok=True)
        given = ["--config", str(self.made.simulators_file)]
        given += ["--state", str(self.made.sandbox / "state")]
        given += ["--ports-file", str(self.made.ports_file)]
        self._start("simulators", "simulators", given, "")
        async with asyncio.timeout(PATIENCE):
            while not self.made.ports_file.exists():
                self._alive("simulators")
                await asyncio.sleep(0.01)

    async def start(self, name: str) -> None:
        """Start one of them again."""
        if name == "worker":
            self.start_worker()
        else:
            await (self.start_gateway() if name == "gateway" else self.start_simulators())

    def kill(self, name: str) -> None:
        """SIGKILL one of them."""
        self.children[name].kill()

    async def ended(self, name: str) -> None:
        """Wait until one of them that was told to end has ended well."""
        code = await asyncio.to_thread(self.children[name].died_of, PATIENCE)
        assert code == 0, f"{name}: {code}: {self.children[name].said()}"

    async def killed_itself(self, name: str) -> None:
        """Wait until one of them has died, and see that it was by SIGKILL."""
        code = await asyncio.to_thread(self.children[name].died_of, PATIENCE)
        assert code is signal.SIGKILL, f"{name}: {code}: {self.children[name].said()}"

    def _start(
        self, name: str, program: str, arguments: list[str], failpoint: str, **more: str
    ) -> None:
        if name in self.children:
            self.children[name].kill()
        env = self._env() | more
        if failpoint:
            env["GATEWAY_FAILPOINT"] = failpoint
        self.children[name] = Child(name, program, arguments, env, self.home)

    def _env(self) -> dict[str, str]:
        return SETTINGS | {
            "GATEWAY_HOME": str(self.home),
            "GATEWAY_PORT": str(self.settings.port),
            "GATEWAY_DATABASE_URL": self.settings.url,
            **self.environment,
        }

    async def start_skewed(self, name: str, seconds: int) -> Skewed:
        """Start gateway or worker on a machine whose clock is that much ahead of ours."""
        self.children[name].kill()
        made = Skewed(["serve" if name == "gateway" else name], self._env(), self.home, seconds)
        self.children[name] = made
        async with asyncio.timeout(3 * PATIENCE):  # It is not forked: it reads all its modules.
            while '"feed ' not in made.said() and "startup complete" not in made.said():
                self._alive(name)
                await asyncio.sleep(0.05)
        return made

    def _alive(self, name: str) -> None:
        child = self.children[name]
        assert child.alive, f"{name} ended with {child.died_of(0)}: {child.said()}"

    def _keep_ports(self) -> None:
        """Give every stand-in and their control a port for good, and connect the gateway to it."""
        document = json.loads(self.made.simulators_file.read_text(encoding="utf-8"))
        connections = json.loads((self.made.sandbox / "connections.json").read_text("utf-8"))
        for row in (document["control"], *document["merchants"]):
            row["port"] = self._reserve()
            row.pop("faults", None)  # The demo day's are not wanted here.
        ports = {row["id"]: row["port"] for row in document["merchants"]}
        sandbox.write_secret(self.made.simulators_file, document)
        sandbox.write_secret(self.settings.partners_path, sandbox.connect(connections, ports))

    def _reserve(self) -> int:
        self._ports.append(processes.reserve())
        port: int = self._ports[-1].getsockname()[1]
        return port

    def _control(self) -> tuple[str, str]:
        control = json.loads(self.made.simulators_file.read_text(encoding="utf-8"))["control"]
        return f"http://127.0.0.1:{control['port']}", control["token"]

    async def _give_points(self) -> None:
        async with self.database.transaction() as tx:
            for member_id, programmes in RICH.items():
                for programme_id in programmes:
                    await points.open_lot(
                        tx,
                        member_id=member_id,
                        programme_id=programme_id,
                        points=POINTS,
                        earned_on=date(2026, 6, 1),
                        basis="PURCHASE",
                        ref="rich",
                        expires_at=None,
                        now=install.STARTS_AT,
                    )

    # -- clients ------------------------------------------------------------------------------

    def member(self, member_id: str) -> MemberApp:
        """A member's app."""
        if member_id not in self._people:
            made = MemberApp(self.wire, login=member_id, password=self.made.password)
            self._people[member_id] = made
        found = self._people[member_id]
        assert isinstance(found, MemberApp)
        return found

    def staff(self, login: str) -> Person:
        """Somebody of the staff, at their console."""
        if login not in self._people:
            self._people[login] = Person(
                self.wire, login=login, password=self.made.password, client_id=STAFF_CONSOLE
            )
        return self._people[login]

    async def jump(self, step: timedelta) -> None:
        """Set the business clock forward, for every process."""
        at = await self.now() + step
        await self.staff("usr_operator").did("setSandboxClock", "now", at=at.isoformat())

    async def now(self) -> datetime:
        """Business time."""
        clock = Clock()
        async with self.database.reading() as tx:
            await clock.refresh(tx)
        return clock.now()

    async def until(
        self, look: Callable[[], Awaitable[T]], done: Callable[[T], bool], what: str
    ) -> T:
        """Look again until it is as wanted."""
        began = time.monotonic()
        while not done(found := await look()):
            assert time.monotonic() - began < PATIENCE, f"{what}: still {found}; {self.home}"
            await asyncio.sleep(0.03)
        return found

    # -- what is so ---------------------------------------------------------------------------

    async def fault_used(self, merchant: str, fault: str) -> None:
        """Wait until a planted fault is striking: its shop's own file says so."""
        path = self.made.sandbox / "state" / f"{merchant}.db"

        async def left() -> list[Any]:
            with contextlib.closing(sqlite3.connect(path)) as db:
                return db.execute("SELECT left_ FROM faults WHERE fault = ?", (fault,)).fetchall()

        await self.until(left, lambda rows: rows == [(0,)], f"{merchant} {fault}")

    async def heard(self, redemption_id: str) -> list[str]:
        """What became of the webhooks about a redemption, in order of arrival."""
        query = "SELECT outcome FROM partner_events WHERE redemption_id = :id ORDER BY received_at"
        async with self.database.reading() as tx:
            return list(await tx.scalars(sa.text(query), {"id": redemption_id}))

    async def broken_invariants(self) -> list[str]:
        """Every invariant that does not hold."""
        async with self.database.reading() as tx:
            results = await invariants.check(tx)
        assert {"L1", "K1", "R1", "R2", "W1"} <= {result.id for result in results}
        return [
            f"{result.id} {result.title}: {result.detail}" for result in results if not result.ok
        ]


@contextlib.asynccontextmanager
async def running(home: Path, *, database_url: str = "") -> AsyncIterator[Box]:
    """A sandbox of its own; everything is killed at the end."""
    url = database_url or f"sqlite+aiosqlite:///{home / 'gateway.db'}"
    box = Box(Settings(home=home, database_url=url))
    try:
        await box.open()
        yield box
    finally:
        await box.close()
