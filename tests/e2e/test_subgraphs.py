"""A merchant's subgraph, two gateways and the terminal, each its own process; one is killed."""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from gateway.db import Database
from gateway.oauth import jose, scopes
from gateway.oauth.core import audience
from gateway.oauth.scopes import Role
from gateway.oauth.server import OAuth
from gateway.operations import graphs
from gateway.settings import Settings
from gateway.subgraphs import service as subgraphs
from tests.integration import conftest
from tests.support.merchant_graph import CLIENT, SDL, SECRET
from tests.support.processes import ROOT, Child, reserve

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ISSUER = "https://gateway.example"
WITHIN = 10.0  # Seconds until another process has seen a change: a second, on a busy machine more.
OFFER = '{ offer(id: "XH-01") { nameZh xinghui_blurb } }'
PUBLISH = """mutation($input: PublishSubgraphInput!) { publishSubgraph(input: $input) {
  replayed subgraph { id version live } errors { code message context } } }"""
TEA = SDL.replace("xinghui_", "chawei_").replace("Xinghui_", "Chawei_")


@dataclass
class Fleet:
    """Gateways over one database, a merchant's subgraph, and tokens."""

    home: Path
    database: Database
    settings: Settings
    graph: str
    http: httpx2.AsyncClient
    sockets: list[socket.socket] = field(default_factory=list)
    gateways: list[Child] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return {
            "GATEWAY_HOME": str(self.home),
            "GATEWAY_DATABASE_URL": self.settings.database_url,
            "GATEWAY_ISSUER": ISSUER,
            "GATEWAY_PARTNERS_FILE": str(self.home / "partners.json"),
            "GATEWAY_WORKER_INSIDE": "0",
            "GATEWAY_SUBGRAPHS_POLL_SECONDS": "0.5",
        }

    def port(self, number: int) -> int:
        return int(self.sockets[number].getsockname()[1])

    async def start(self, number: int) -> None:
        env = self.env | {"GATEWAY_PORT": str(self.port(number))}
        child = Child(f"gateway{number}", "gateway", ["serve"], env, self.home)
        self.gateways[number : number + 1] = [child]
        async with asyncio.timeout(60):
            while not await self._ready(number):
                assert child.alive, child.said()
                await asyncio.sleep(0.05)

    async def _ready(self, number: int) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            found = await self.http.get(f"http://127.0.0.1:{self.port(number)}/readyz")
            return found.status_code == 200
        return False

    async def token(self, role: Role, *, member: str | None = None, merchant: str | None = None):
        oauth = OAuth(self.database, self.settings)
        now = int(time.time())
        machine = f"merchant-{merchant}" if merchant else None
        claims: dict[str, Any] = {"iss": ISSUER, "aud": audience(self.settings), "iat": now - 5}
        claims |= {"exp": now + 600, "jti": f"jti-{time.monotonic_ns()}", "role": str(role)}
        claims |= {"sub": machine or member, "client_id": machine or "member-app"}
        claims |= {"scope": scopes.join(scopes.of(role, merchant))}
        claims |= {"member": member} if member else {"merchant": merchant}
        async with self.database.transaction() as tx:
            key = await tx.run_sync(oauth.ring.active)
        return jose.encode(claims, key, typ="at+jwt")

    async def ask(self, number: int, token: str, query: str, **variables: Any) -> dict[str, Any]:
        answer = await self.http.post(
            f"http://127.0.0.1:{self.port(number)}/graphql",
            json={"query": query, "variables": variables},
            headers={"authorization": f"Bearer {token}"},
        )
        return answer.json()

    async def publish(self, number: int, sdl: str = SDL, merchant: str = "M05", key: str = "k"):
        token = await self.token(Role.PARTNER, merchant=merchant)
        asked = {"sdl": sdl, "url": self.graph, "idempotencyKey": key}
        return (await self.ask(number, token, PUBLISH, input=asked))["data"]["publishSubgraph"]

    async def sees(self, number: int, blurb: str | None) -> float:
        """Wait until a gateway answers the merchant's field so; None: it knows no such field."""
        token = await self.token(Role.MEMBER, member="mbr_demo_01")
        began = time.monotonic()
        while time.monotonic() < began + WITHIN:
            answer = await self.ask(number, token, OFFER)
            found = (answer.get("data") or {}).get("offer", {}).get("xinghui_blurb")
            if found == blurb and bool(answer.get("errors")) == (blurb is None):
                return time.monotonic() - began
            await asyncio.sleep(0.05)
        raise AssertionError(answer)

    def terminal(self, *arguments: str) -> str:
        """What a command of `gateway` prints."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "COLUMNS": "200"} | self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def subgraph_process() -> Iterator[str]:
    """A merchant's subgraph; its address."""
    with reserve() as free:
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "tests.support.merchant_graph", str(port)]
    process = subprocess.Popen(program, cwd=ROOT)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def listens(http: httpx2.AsyncClient, address: str) -> None:
    """Wait until somebody answers."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                await http.get(address)
                return
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path
) -> AsyncIterator[Fleet]:
    home = tmp_path_factory.mktemp("fleet")
    shutil.copyfile(sqlite_template, home / "fleet.db")
    url = f"sqlite+aiosqlite:///{home / 'fleet.db'}"
    await conftest._seed(url)
    settings = Settings(home=home, database_url=url, issuer=ISSUER)
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        base = stack.enter_context(subgraph_process())
        await listens(http, f"{base}/seen")
        auth = {"method": "client_secret_basic", "client_id": CLIENT, "secret": SECRET}
        rows = [
            {"merchant": merchant, "adapter": "graphql", "base_url": base, "audience": base}
            | {"token_url": f"{base}/oauth/token", "auth": auth}
            for merchant in ("M05", "M06")
        ]
        (home / "partners.json").write_text(json.dumps(rows))
        database = Database(url)
        stack.push_async_callback(database.close)
        made = Fleet(home, database, settings, f"{base}/graphql", http)
        made.sockets = [stack.enter_context(reserve()) for _ in range(2)]
        try:
            await made.start(0)
            await made.start(1)
            yield made
        finally:
            for child in made.gateways:
                child.kill()


async def test_every_gateway_answers_what_one_has_published(fleet: Fleet) -> None:
    made = await fleet.publish(0)
    assert made["errors"] == []
    await fleet.sees(0, "2D电影票!")
    assert await fleet.sees(1, "2D电影票!") < WITHIN


async def test_the_terminal_rolls_back_in_all_of_them(fleet: Fleet) -> None:
    assert "version 0 is live, 1 was" in fleet.terminal("federation", "rollback")
    await fleet.sees(0, None)
    await fleet.sees(1, None)
    assert await graphs.roll_back(fleet.settings, 1) == (None, 1)
    await fleet.sees(0, "2D电影票!")
    await fleet.sees(1, "2D电影票!")
    (row,) = await graphs.versions(fleet.settings, limit=5)
    assert row[:3] == ("1", "live", "M05 1")
    assert "xinghui_trailer" in await graphs.supergraph(fleet.settings)


async def test_a_gateway_that_starts_again_answers_the_same(fleet: Fleet) -> None:
    fleet.gateways[0].kill()
    await fleet.start(0)
    token = await fleet.token(Role.MEMBER, member="mbr_demo_01")
    answer = await fleet.ask(0, token, OFFER)
    assert answer["data"]["offer"]["xinghui_blurb"] == "2D电影票!"


@pytest.mark.parametrize("after", [0.05, 0.4, 1.0])
async def test_a_publication_that_is_killed_is_there_or_is_not(fleet: Fleet, after: float) -> None:
    key, sdl = f"killed-{after}", TEA.replace("_blurb", f"_blurb{int(after * 100)}")
    publishing = asyncio.create_task(fleet.publish(0, sdl, "M06", key))
    await asyncio.sleep(after)
    fleet.gateways[0].kill()
    with contextlib.suppress(httpx2.TransportError, ValueError):
        await publishing
    async with fleet.database.reading() as tx:
        live = await subgraphs.live(tx)
        members = await subgraphs.members_of(tx, live.number)
        known = await subgraphs.published(tx, "M06")
        assert live.number == (await subgraphs.versions(tx, newest=1))[0].number
    there = [each for each in members if each.sdl == sdl]
    assert there == [each for each in known if each.sdl == sdl]
    await fleet.start(0)
    again = await fleet.publish(0, sdl, "M06", key)
    assert again["errors"] == [] or again["errors"][0]["code"] == "SCHEMA_BREAKING"
    assert again["replayed"] is bool(there)
    await fleet.sees(0, "2D电影票!")


async def test_publications_at_two_gateways_at_once_both_come_in(fleet: Fleet) -> None:
    one, other = await asyncio.gather(
        fleet.publish(0, SDL + "extend type Xinghui_Trailer { more: String }", key="at-once"),
        fleet.publish(1, TEA + "extend type Chawei_Trailer { more: String }", "M06", "at-once"),
    )
    assert one["errors"] == []
    async with fleet.database.reading() as tx:
        members = await subgraphs.members_of(tx, (await subgraphs.live(tx)).number)
    more = {each.merchant_id for each in members if "more: String" in each.sdl}
    assert more == {"M05"} | ({"M06"} if not other["errors"] else set())


async def test_the_terminal_takes_one_merchant_out_of_all_of_them(fleet: Fleet) -> None:
    await fleet.publish(0, TEA, "M06", "to-be-unpublished")
    said = fleet.terminal("federation", "unpublish", "M05", "--allow-breaking")
    assert "lost: Field Offer.xinghui_blurb was removed." in said
    assert "is live, without M05" in said
    await fleet.sees(0, None)
    await fleet.sees(1, None)
    async with fleet.database.reading() as tx:
        members = await subgraphs.members_of(tx, (await subgraphs.live(tx)).number)
    assert {each.merchant_id for each in members} == {"M06"}
