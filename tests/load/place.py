"""The stand: PostgreSQL with durable commits, gateways, workers and a partner, each a process."""

import asyncio
import contextlib
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import httpx2
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import invariants
from gateway.db import Database, system_now
from gateway.demo import install, sandbox, seed
from gateway.demo.clients import MemberApp, Wire
from gateway.demo.data import catalog
from gateway.demo.install import STARTS_AT, Install
from gateway.members import service as members
from gateway.oauth import passwords
from gateway.oauth import service as oauth
from gateway.oauth.scopes import Role
from gateway.points import service as points
from gateway.settings import Settings
from gateway.settlement import service as settlement
from tests.bench.place import ISSUERS, PLENTY, agreement
from tests.load.partner import CLIENT
from tests.load.wire import Connection
from tests.support import processes
from tests.support.postgres import Postgres

ROOT = Path(__file__).parents[2]
STARTS_WITHIN = 60.0
STOPS_WITHIN = 30.0
DURABLE = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "256MB"}


class Pair(NamedTuple):
    """What a member buys, and with whose points."""

    programme: str
    offer: str


PAIRS = (  # Three issuers, three merchants; a voucher each, so that nothing runs out.
    Pair("P-LL", "XH-03"),
    Pair("P-CA", "CW-01"),
    Pair("P-YQ", "YT-05"),
    Pair("P-LL", "CW-01"),
    Pair("P-CA", "XH-03"),
    Pair("P-YQ", "XH-03"),
)


class Process:
    """A child process that logs to a file."""

    def __init__(self, name: str, words: list[str], home: Path, env: Mapping[str, str]) -> None:
        self.name, self.log = name, home / f"{name}.log"
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, *words],
                cwd=ROOT,
                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if name == "partner" else log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._popen.poll()

    def line(self) -> str:
        """One line of its output."""
        assert self._popen.stdout
        return self._popen.stdout.readline().decode()

    def ask_to_end(self) -> None:
        self._popen.send_signal(signal.SIGTERM)

    def ended(self, seconds: float = STOPS_WITHIN) -> int:
        """Wait for its exit code.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        return self._popen.wait(seconds)

    def close(self) -> None:
        """Have it end, by force if need be."""
        if self._popen.poll() is None:
            self._popen.terminate()
            try:
                self._popen.wait(STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream:
                stream.close()

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]


@dataclass
class Stand:
    """One coalition under load.

    Args:
        members: Who redeems; each has a login and as many points as it takes.
    """

    server: Postgres
    settings: Settings
    made: Install
    members: list[str]
    worker_url: str
    ports: list[int]
    more: Mapping[str, str] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    partner_port: int = 0

    @property
    def urls(self) -> list[str]:
        """Of the gateways."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    @property
    def gateways(self) -> list[str]:
        return [name for name in self.processes if name.startswith("gateway")]

    def start_partner(self) -> None:
        """Start the partner and connect every merchant to it."""
        secret = secrets.token_urlsafe(16)
        partner = Process("partner", ["-m", "tests.load.partner", secret], self.settings.home, {})
        self.processes["partner"] = partner
        port = self.partner_port = int(partner.line())
        auth = {"method": "client_secret_basic", "client_id": CLIENT, "secret": secret}
        rows = []
        for merchant in sorted({row["merchant"] for row in catalog()["offers"]}):
            url = f"http://127.0.0.1:{port}/{merchant}"
            row = {"merchant": merchant, "adapter": "graphql", "auth": auth, "base_url": url}
            rows.append(row | {"token_url": f"{url}/oauth/token", "audience": url})
        sandbox.write_secret(self.settings.partners_path, rows)

    async def start_worker(self, number: int = 1) -> None:
        """Start a worker and wait until it works: it has asked for the partner's offers."""
        before = (await self.partner_facts())["asked"]["offers"]
        env = self._environment(self.worker_url, port=0)
        process = self._start(f"worker-{number}", "worker", env)
        async with asyncio.timeout(STARTS_WITHIN):
            while (await self.partner_facts())["asked"]["offers"] == before:
                assert process.code is None, process.said()
                await asyncio.sleep(0.05)

    def _start(self, name: str, command: str, env: Mapping[str, str]) -> Process:
        """Start one of ours, in place of the one that has ended."""
        if name in self.processes:
            self.processes[name].close()
        process = Process(name, ["-m", "gateway", command], self.settings.home, env)
        self.processes[name] = process
        return process

    async def start_gateway(self, number: int = 1) -> None:
        """Start a gateway and wait until it answers."""
        env = self._environment(self.settings.url, port=self.ports[number - 1])
        process = self._start(f"gateway-{number}", "serve", env)
        async with asyncio.timeout(STARTS_WITHIN), httpx2.AsyncClient(trust_env=False) as http:
            while True:
                assert process.code is None, process.said()
                with contextlib.suppress(httpx2.TransportError):
                    answer = await http.get(f"{self.urls[number - 1]}/readyz", timeout=5)
                    if answer.status_code == 200:
                        return
                await asyncio.sleep(0.05)

    def _environment(self, url: str, *, port: int) -> dict[str, str]:
        return {
            "GATEWAY_HOME": str(self.settings.home),
            "GATEWAY_DATABASE_URL": url,
            "GATEWAY_PORT": str(port),
            "GATEWAY_ISSUER": self.urls[0],
            "GATEWAY_WORKER_INSIDE": "false",
            "GATEWAY_LOG_LEVEL": "WARNING",
            "GATEWAY_LOGIN_TRIES_PER_MINUTE": "100000",
            **self.more,
        }

    async def tokens(self, *, wire: Wire | None = None) -> dict[str, str]:
        """An access token of each member, by the real forms: code, PKCE, consent."""
        own = wire or Wire.open(self.urls[0])
        found = {}
        try:
            for member in self.members:
                person = MemberApp(own, login=member, password=self.made.password)
                await person.log_in()
                found[member] = person.headers()["authorization"].removeprefix("Bearer ")
        finally:
            if wire is None:
                await own.aclose()
        return found

    async def partner_facts(self) -> dict[str, dict[str, int]]:
        """The partner's counts: `outcomes` of op keys, and what was `asked`."""
        line = Connection(f"http://127.0.0.1:{self.partner_port}/facts")
        try:
            _, found = await line.post("", {})
        finally:
            line.close()
        return dict(found)

    async def broken(self) -> list[str]:
        """The invariants that do not hold."""
        database = Database(self.settings.url)
        try:
            async with database.reading() as tx:
                found = await invariants.check(tx)
        finally:
            await database.close()
        return [f"{one.id} {one.title}: {one.detail}" for one in found if not one.ok]

    def close(self) -> None:
        for process in self.processes.values():
            process.close()


async def _seed(settings: Settings, made: Install, names: list[str]) -> None:
    await install.seeded(settings, made)
    hashed = await passwords.hashed(made.password, log_n=12, p=1)
    database = Database(settings.url)
    try:
        async with database.transaction() as tx:
            await seed.seed_offers(tx, now=STARTS_AT)
            for issuer in ISSUERS:
                await settlement.set_cover(
                    tx, merchant_id=issuer, collateral_fen=PLENTY, net_debit_cap_fen=PLENTY
                )
                for row in catalog()["merchants"]:
                    if row["id"] != issuer:
                        await agreement(tx, issuer, row["id"])
        for name in names:
            async with database.transaction() as tx:
                await _member(tx, name, hashed)
    finally:
        await database.close()


async def _member(tx: AsyncConnection, name: str, password_hash: str) -> None:
    """A member who may spend every issuer's points everywhere, and has plenty."""
    pairs = [
        {"purpose": "partner_pair", "issuer": issuer, "redeemer": row["id"]}
        for issuer in ISSUERS
        for row in catalog()["merchants"]
        if row["id"] != issuer
    ]
    consents = [{"purpose": "service"}, *pairs]
    await members.register(
        tx, member_id=name, name_zh="测", city="上海", consents=consents, now=STARTS_AT
    )
    for programme in ISSUERS.values():
        await points.open_lot(
            tx,
            member_id=name,
            programme_id=programme,
            points=10**10,
            earned_on=date(2026, 1, 1),
            basis="PURCHASE",
            ref=f"load-{name}-{programme}",
            expires_at=None,
            now=STARTS_AT,
        )
    await oauth.seed_user(
        tx,
        user_id=f"usr_{name}",
        login=name,
        password_hash=password_hash,
        role=Role.MEMBER,
        name_zh=name,
        member_id=name,
        merchant_id=None,
        limit_fen=0,
        now=system_now(),
    )


@contextlib.asynccontextmanager
async def stand(
    server: Postgres, home: Path, *, clients: int, gateways: int = 1, **more: str
) -> AsyncIterator[Stand]:
    """A seeded stand whose partner runs; gateways and workers are the caller's to start.

    Gateways and workers have each a role of their own in the database, so that the server's
    processes can be told apart.
    """
    name = f"load_{secrets.token_hex(4)}"
    server.run("CREATE ROLE gateway SUPERUSER LOGIN", missing_ok=True)
    server.run("CREATE ROLE worker SUPERUSER LOGIN", missing_ok=True)
    url = server.create(name)
    reserved = [processes.reserve() for _ in range(gateways)]
    ports = [bound.getsockname()[1] for bound in reserved]
    as_gateway = url.replace("postgres@", "gateway@")
    settings = Settings(home=home, database_url=as_gateway, port=ports[0])
    names = [f"mbr_load_{number:03}" for number in range(clients)]
    made = install.prepare(settings, port=ports[0])
    await _seed(settings, made, names)
    here = Stand(
        server=server,
        settings=replace(settings, issuer=f"http://127.0.0.1:{ports[0]}"),
        made=made,
        members=names,
        worker_url=url.replace("postgres@", "worker@"),
        ports=ports,
        more=more,
    )
    try:
        here.start_partner()
        yield here
    finally:
        here.close()
        for bound in reserved:
            bound.close()
        server.drop(name)
