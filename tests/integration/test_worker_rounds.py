"""What a worker keeps does not grow with what it has done, nor with how much of it came at once."""

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gateway import jobs
from gateway.db import Database, system_now
from gateway.events import service as events
from gateway.events.service import Change
from gateway.events.webhooks import Webhooks
from gateway.oauth.keys import Vault
from gateway.redemption import queue
from gateway.runtime import webhook_client
from gateway.settings import Settings
from gateway.worker import Worker
from tests.integration.conftest import Coalition
from tests.support import evidence

ROUNDS = (1, 2, 3, 5, 8, 13, 21, 30)
ALL_KINDS = 2  # rounds after which every kind of statement was seen: one of a thing, and several
WARM_UP, MANY = 200, 500  # jobs
TURNS = 5  # of everything
FEW_OBJECTS = 200
FEW_CONNECTIONS = 4  # Each prepares a statement when it first sends it.


def texts_of(database: Database) -> set[str]:
    """The statements that are sent from now on."""
    found: set[str] = set()

    def sent(_connection: Any, _cursor: Any, text: str, *_more: Any) -> None:
        found.add(text)

    sa.event.listen(database.engine.sync_engine, "before_cursor_execute", sent)
    return found


async def _nothing(_payload: dict[str, Any]) -> None:
    """A job."""


def _worker(coalition: Coalition, home: Path, at_once: int) -> Worker:
    settings = Settings(home=home, worker_concurrency=at_once)
    vault, sender = Vault.open(settings.vault_key_path), webhook_client(settings)
    hooks = Webhooks(coalition.database, sender, settings, vault=vault, secret=b"secret")
    given = (coalition.database, {}, coalition.clock, settings, coalition.redemptions)
    made = Worker(*given, webhooks=hooks)
    made._jobs["let_go"] = _nothing
    return made


async def _write(coalition: Coalition, name: str, count: int) -> None:
    """Rows to be sealed, jobs to be run, events to be routed: so many of each."""
    for number in range(count):
        key = f"{name}.{number}"
        async with coalition.database.transaction() as tx:
            await evidence.write(tx, key)
            await jobs.enqueue(tx, name="let_go", key=key, payload={})
            change = Change("redemption.held", key, {"M05"}, {}, None, 1)
            await events.record(tx, change, now=coalition.clock.now())


async def _turn(worker: Worker) -> None:
    assert worker.webhooks
    await worker.turn()
    await worker.webhooks.turn()


async def test_rounds_of_all_sizes_are_the_same_statements(
    coalition: Coalition, tmp_path: Path
) -> None:
    worker = _worker(coalition, tmp_path, at_once=ROUNDS[-1])
    texts = texts_of(coalition.database)
    known: set[str] = set()
    for number, count in enumerate(ROUNDS):
        if number == ALL_KINDS:
            known = set(texts)
        await _write(coalition, f"r{number}", count)
        await _turn(worker)
    assert texts - known == set()
    async with coalition.database.reading() as tx:
        assert await jobs.job_depths(tx, system_now=system_now()) == {}


async def test_leases_of_all_sizes_are_the_same_statements(coalition: Coalition) -> None:
    ids = [f"rdm_{number}" for number in range(ROUNDS[-1])]
    texts = texts_of(coalition.database)
    for count in ROUNDS:
        async with coalition.database.transaction() as tx:
            await queue.hand_back(tx, ids[:count])
    assert len(texts) <= 3  # SQLite's begin and commit are statements, too.


async def test_what_a_worker_keeps_does_not_grow_with_what_it_has_done(
    coalition: Coalition, tmp_path: Path
) -> None:
    worker = _worker(coalition, tmp_path, at_once=FEW_CONNECTIONS)

    async def objects_after(name: str, count: int) -> int:
        async with coalition.database.transaction() as tx:
            for number in range(count):
                await jobs.enqueue(tx, name="let_go", key=f"{name}.{number}", payload={})
        for _ in range(TURNS):
            await worker.turn()
        while await worker._begin_jobs():
            await worker._working.wait(every=True)
        gc.collect()
        return len(gc.get_objects())

    kept, growth = await objects_after("first", WARM_UP), []
    for turn in range(4):  # A connection may be new to a statement in one turn, not in each.
        last, kept = kept, await objects_after(f"then {turn}", MANY)
        growth.append(kept - last)
    assert min(growth) < FEW_OBJECTS


DROPPED = """
import collections, gc
from gateway import runtime

loaded = [[] for _ in range(400_000)]
{settle}

class Ended:
    def __init__(self):
        self.own = self

held = collections.deque(maxlen=10_000)  # Old when it is dropped.
for _ in range(100_000):
    held.append(Ended())
print(sum(isinstance(each, Ended) for each in gc.get_objects()))
"""


def _left(settle: str) -> int:
    text = DROPPED.format(settle=settle)
    told = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True)
    return int(told.stdout)


def test_a_settled_process_soon_forgets_what_has_ended() -> None:
    assert _left("runtime.settle()") < 40_000
    assert _left("gc.collect()") == 100_000  # Else this test says nothing.
