"""The database is cut off, gone or busy: the answer is 503, and the same key finishes it.

The gateway is a real one over HTTP; its clients repeat a request that has no answer with the same
key, as they are told to.
"""

import asyncio
import contextlib
import itertools
import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from sqlalchemy.exc import SQLAlchemyError

from gateway.db import Database
from gateway.oauth import signatures
from gateway.redemption.hosted import Partners
from gateway.redemption.service import Redemptions
from gateway.settings import Settings
from tests.integration.api.conftest import WEBHOOK_SECRET
from tests.integration.conftest import MORNING, Coalition, StillClock
from tests.support import postgres as pg
from tests.support.cutting import Cut, CuttingProxy
from tests.support.gateway import Client, Gateway, running
from tests.support.postgres import Postgres

MEMBER, OFFER, LL = "mbr_demo_01", "XH-03", {"programme": "P-LL"}
PRICE = 3_800  # ¥38.00 of the cinema in points of P-LL
PLENTY = 1_000_000
SEEN = "redemption { id state }"
HOLD, CONFIRM = "holdRedemption", "confirmRedemption"
_keys = itertools.count(1)


@dataclass
class Shopper:
    """A client that keeps to the rules: one key a request, again after 503 or a lost line."""

    gateway: Gateway
    client: Client
    heard: Counter[int] = field(default_factory=Counter)  # status of what was no answer
    answered: int = 0  # requests under a key
    replayed: int = 0  # of them: what was sent again, and had been done

    @classmethod
    async def enter(cls, gateway: Gateway) -> "Shopper":
        return cls(gateway, await gateway.member(MEMBER))

    async def ask(self, mutation: str, wanted: str, **given: Any) -> dict[str, Any]:
        """The payload, however many tries it takes."""
        asked = {"idempotencyKey": f"fault-{next(_keys)}"} | given
        while True:
            answer = await self.once(mutation, wanted, **asked)
            if answer.status_code == 200:
                payload: dict[str, Any] = answer.json()["data"][mutation]
                if [error["code"] for error in payload["errors"]] != ["IDEMPOTENCY_IN_FLIGHT"]:
                    assert payload["errors"] == [], payload
                    self.answered += 1
                    self.replayed += payload["replayed"]
                    return payload
            self.heard[answer.status_code] += 1
            await asyncio.sleep(0.05)

    async def once(self, mutation: str, wanted: str, **asked: Any) -> httpx2.Response:
        """One try of a mutation."""
        kind = f"{mutation[0].upper()}{mutation[1:]}Input"
        text = (
            f"mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {wanted} replayed"
            " errors { code message } } }"
        )
        return await self.post(text, {"input": asked})

    async def post(self, text: str, variables: Mapping[str, Any]) -> httpx2.Response:
        """One try. Anything but an answer is a 503 that says what to do."""
        answer = await self.gateway.http.post(
            f"{self.gateway.base}/graphql",
            json={"query": text, "variables": dict(variables)},
            headers={"authorization": f"Bearer {self.client.token}", "accept-language": "en"},
        )
        if answer.status_code != 200 or "errors" in answer.json():
            says_to_come_again(answer)
        return answer

    async def quoted(self) -> str:
        order = {"offer": OFFER, "legs": [LL]}
        return str((await self.ask("requestQuote", "quote { id }", **order))["quote"]["id"])

    async def buys(self) -> str:
        """Quote, hold, confirm; the redemption's id."""
        held = await self.ask(HOLD, SEEN, quote=await self.quoted())
        await self.reaches("HELD", held["redemption"])
        done = await self.ask(CONFIRM, SEEN, redemption=held["redemption"]["id"])
        assert done["redemption"]["id"] == held["redemption"]["id"]
        await self.reaches("COMMITTED", done["redemption"])
        return str(done["redemption"]["id"])

    async def told(self, redemption: str) -> httpx2.Response:
        """The cinema says that it has served a booking: always the same webhook of it."""
        body: dict[str, Any] = {
            "id": f"served-{redemption}",
            "kind": "booking.fulfilled",
            "version": 9,
        }
        raw = json.dumps(body | {"op_key": f"{redemption}:confirm:1"}).encode()
        signed = signatures.sign_event(
            raw, message_id=body["id"], at=datetime.now(UTC), secret=WEBHOOK_SECRET
        )
        url = f"{self.gateway.base}/events/M05"
        return await self.gateway.http.post(url, content=raw, headers=signed)

    async def reaches(self, state: str, redemption: Mapping[str, Any]) -> None:
        """What was cut off half-way is driven on by the worker: look until it is there."""
        found, text = (
            dict(redemption),
            f"query($id: ID!) {{ {SEEN.replace(' {', '(id: $id) {', 1)} }}",
        )
        while found["state"] != state:
            await asyncio.sleep(0.05)
            answer = await self.post(text, {"id": redemption["id"]})
            if answer.status_code == 200:
                found = answer.json()["data"]["redemption"]
                assert found["state"] != "RELEASED", "it was in time"


def says_to_come_again(answer: httpx2.Response) -> None:
    """503, a published code, a request id, and when to come again."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    (error,) = answer.json()["errors"]
    assert error["extensions"]["code"] == "INTERNAL"
    assert error["extensions"]["nextStep"] == "retry with the same key in 1 s"
    assert error["extensions"]["requestId"] == answer.headers["x-request-id"]


@contextlib.asynccontextmanager
async def worker_of(coalition: Coalition, url: str) -> AsyncIterator[None]:
    """The worker, beside the requests, with a way of its own to the database."""
    direct = Database(url)
    partners = Partners(coalition.partners, direct, coalition.clock)
    settings = replace(Settings(), lease_seconds=0)
    redemptions = Redemptions(direct, partners, coalition.clock, settings, b"secret")

    async def rounds() -> None:
        while not over.is_set():
            coalition.clock.forward(seconds=0.2)
            with contextlib.suppress(SQLAlchemyError, OSError):
                await redemptions.work()
            await asyncio.sleep(0.02)

    over = asyncio.Event()
    working = asyncio.create_task(rounds())
    try:
        yield
    finally:
        over.set()
        await working
        await direct.close()


@contextlib.asynccontextmanager
async def coalition_on(
    url: str, home: Path, **database: Any
) -> AsyncIterator[tuple[Coalition, Gateway]]:
    """A gateway over HTTP on a seeded database, its partners in this process.

    Args:
        database: Limits of the gateway's own way to the database; the coalition has another.
    """
    made, narrow = Database(url), Database(url, **database)
    settings = replace(Settings(), lease_seconds=0)
    coalition = Coalition(made, StillClock(MORNING), settings)
    await coalition.given(MEMBER, PLENTY)
    given: dict[str, Any] = {"clock": coalition.clock, "partners": coalition.partners}
    given["connections"] = {"M05": SimpleNamespace(webhook_secret=WEBHOOK_SECRET)}
    given["lease_seconds"] = 1  # Real ones: so long waits the worker for what was cut off.
    try:
        async with running(narrow, home, **given) as gateway:
            yield coalition, gateway
    finally:
        await narrow.close()
        await made.close()


async def all_is_well(coalition: Coalition, bought: Sequence[str], before: int) -> None:
    """Each is bought once: one hold and one confirm at the partner, the points burnt once."""
    await coalition.work(seconds=30)
    assert len(set(bought)) == len(bought)
    effects = Counter(coalition.partners["M05"].effects)
    assert set(effects.values()) == {1}
    assert Counter(verb for verb, _ in effects) == {"hold": len(bought), "confirm": len(bought)}
    assert await coalition.wallet(MEMBER, "P-LL") == (before - PRICE * len(bought), 0)
    assert await coalition.broken() == []


# -- the line is cut ------------------------------------------------------------------------------


@pytest.mark.campaign
async def test_connections_cut_before_and_after_commit(
    postgres: Postgres, postgres_seeded: str, tmp_path: Path
) -> None:
    """204 requests; every seventh COMMIT of a write loses its connection, one way or the other."""
    chance, commits, armed = random.Random(1), itertools.count(1), False

    def choose() -> Cut:
        struck = armed and next(commits) % 7 == 0
        return chance.choice(("before", "after")) if struck else ""

    with pg.database(postgres, template=postgres_seeded) as url:
        proxy = CuttingProxy(postgres.port, choose)
        async with proxy.listening():
            through = url.replace(f":{postgres.port}/", f":{proxy.port}/")
            async with coalition_on(through, tmp_path) as (coalition, gateway):
                shoppers = [await Shopper.enter(gateway) for _ in range(4)]
                before, _ = await coalition.wallet(MEMBER, "P-LL")
                armed = True
                async with worker_of(coalition, url), asyncio.TaskGroup() as group:
                    buying = [group.create_task(many(one, 17)) for one in shoppers]
                armed, bought = False, [task.result() for task in buying]
                await all_is_well(coalition, [one for some in bought for one in some], before)
    assert sum(one.answered for one in shoppers) == 4 * 17 * 3
    assert min(proxy.cuts["before"], proxy.cuts["after"]) >= 10
    assert sum(one.replayed for one in shoppers) >= 10


async def many(shopper: Shopper, count: int) -> list[str]:
    return [await shopper.buys() for _ in range(count)]


# -- the server is gone ---------------------------------------------------------------------------


@pytest.mark.campaign
async def test_postgresql_killed_under_load(
    postgres: Postgres, postgres_seeded: str, tmp_path: Path
) -> None:
    """The gateway is not started again: its pool finds the new server."""
    with pg.database(postgres, template=postgres_seeded) as url:
        async with coalition_on(url, tmp_path) as (coalition, gateway):
            shoppers = [await Shopper.enter(gateway) for _ in range(4)]
            before, _ = await coalition.wallet(MEMBER, "P-LL")
            async with worker_of(coalition, url), asyncio.TaskGroup() as group:
                buying = [group.create_task(many(one, 2)) for one in shoppers]
                for _ in range(2):
                    seen = len(coalition.partners["M05"].effects)
                    while len(coalition.partners["M05"].effects) < seen + 2:
                        await asyncio.sleep(0.01)
                    postgres.kill()
                    await asyncio.to_thread(postgres.start)
            bought = [task.result() for task in buying]
            await all_is_well(coalition, [one for some in bought for one in some], before)
            assert sum((one.heard for one in shoppers), Counter())[503] >= 2


# -- no connection is free ------------------------------------------------------------------------


@dataclass
class Waited:
    """Who waited for a connection."""

    times: int = 0
    most: int = 0  # at once
    now: int = 0


@contextlib.contextmanager
def waiting(database: Database) -> Iterator[Waited]:
    """Count who asks the pool for a connection inside."""
    found, pool = Waited(), database.engine.sync_engine.pool
    connect = pool.connect

    def counted() -> Any:
        found.times += 1
        found.now += 1
        found.most = max(found.most, found.now)
        try:
            return connect()
        finally:
            found.now -= 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "connect", counted)
        yield found


@dataclass
class Waiting:
    """A purchase to be confirmed and one to be served, when no database can be had."""

    shopper: Shopper
    held: str
    served: str

    @classmethod
    async def prepared(cls, shopper: Shopper) -> "Waiting":
        made = await shopper.ask(HOLD, SEEN, quote=await shopper.quoted())
        return cls(shopper, made["redemption"]["id"], await shopper.buys())

    async def refused(self) -> None:
        """Each is told to come again, the member's app and the partner alike."""
        given = {"redemption": self.held, "idempotencyKey": "confirm-without"}
        asking = (self.shopper.once(CONFIRM, SEEN, **given) for _ in range(5))
        telling = (self.shopper.told(self.served) for _ in range(5))
        answers = await asyncio.gather(*asking, *telling)
        assert [answer.status_code for answer in answers] == [503] * 10
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}

    async def finished(self) -> list[str]:
        """The same key and the same webhook are taken now, once; both purchases."""
        given = {"redemption": self.held, "idempotencyKey": "confirm-without"}
        confirmed = await self.shopper.ask(CONFIRM, SEEN, **given)
        assert not confirmed["replayed"]
        await self.shopper.reaches("COMMITTED", confirmed["redemption"])
        for _ in range(2):
            assert (await self.shopper.told(self.served)).status_code == 204
        await self.shopper.reaches("FULFILLED", {"id": self.served, "state": ""})
        return [self.held, self.served]


async def patiently(take: Callable[[], Awaitable[Any]]) -> None:
    """Take a connection, however long the server needs to make one."""
    while True:
        with contextlib.suppress(TimeoutError, SQLAlchemyError):
            await take()
            return


async def test_no_free_connection(seeded_url: str, tmp_path: Path) -> None:
    """Who finds none waits once, and is told to come again; no partner is asked."""
    limits = {"pool_size": 1, "wait_seconds": 1.0}
    async with coalition_on(seeded_url, tmp_path, **limits) as (coalition, gateway):
        shopper, narrow = await Shopper.enter(gateway), gateway.runtime.database
        before, _ = await coalition.wallet(MEMBER, "P-LL")
        quote, others = await shopper.quoted(), await Waiting.prepared(shopper)
        asked = len(coalition.partners["M05"].calls)
        async with contextlib.AsyncExitStack() as taken:
            for _ in range(11):  # 1 that is kept and 10 at a peak.
                await patiently(lambda: taken.enter_async_context(narrow.reading()))
            given = {"quote": quote, "idempotencyKey": "pool"}
            revocations = gateway.runtime.oauth.guard.revocations
            with waiting(narrow) as waited:
                revocations.forget()
                asking = (shopper.once(HOLD, SEEN, **given) for _ in range(20))
                answers = await asyncio.gather(*asking)
            assert {answer.status_code for answer in answers} == {503}
            assert waited.times < 10, "one waits to learn which tokens are revoked, for all"
            revocations._patience = math.inf
            with waiting(narrow) as waited:
                asking = (shopper.once(HOLD, SEEN, **given) for _ in range(20))
                answers = await asyncio.gather(*asking)
            assert {answer.status_code for answer in answers} == {503}
            assert waited.times == 20, "each waits once"
            assert waited.most >= 5, "and beside the others"
            await others.refused()
            assert len(coalition.partners["M05"].calls) == asked
        held = (await shopper.ask(HOLD, SEEN, **given))["redemption"]["id"]
        await shopper.ask(CONFIRM, SEEN, redemption=held)
        await all_is_well(coalition, [held, *await others.finished()], before)


# -- another process writes -----------------------------------------------------------------------

_LOCK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def locked(path: Path) -> Any:
    """Another process has SQLite's writer lock."""
    with subprocess.Popen(
        [sys.executable, "-c", _LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            other.stdin.close()


async def test_sqlite_locked_by_another_process(seeded_sqlite_url: str, tmp_path: Path) -> None:
    """Readers read on; writers wait for so long and are told to come again."""
    wait = 1.0
    async with coalition_on(seeded_sqlite_url, tmp_path, wait_seconds=wait) as (coalition, gateway):
        shopper = await Shopper.enter(gateway)
        before, _ = await coalition.wallet(MEMBER, "P-LL")
        quote, others = await shopper.quoted(), await Waiting.prepared(shopper)
        asked = len(coalition.partners["M05"].calls)
        given = {"quote": quote, "idempotencyKey": "locked"}
        with locked(Path(seeded_sqlite_url.removeprefix("sqlite+aiosqlite:///"))):
            began = time.monotonic()
            answers = await asyncio.gather(*(shopper.once(HOLD, SEEN, **given) for _ in range(20)))
            assert time.monotonic() - began < wait * 15, "nobody waits for everybody before"
            assert {answer.status_code for answer in answers} == {503}
            await others.refused()
            assert await coalition.wallet(MEMBER, "P-LL") == (before - 2 * PRICE, PRICE)
            assert len(coalition.partners["M05"].calls) == asked
        held = (await shopper.ask(HOLD, SEEN, **given))["redemption"]["id"]
        await shopper.ask(CONFIRM, SEEN, redemption=held)
        await all_is_well(coalition, [held, *await others.finished()], before)
