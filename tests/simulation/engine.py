"""One seed: people act while faults strike; then calm; then everything must have ended."""

import asyncio
import contextvars
import gc
import hashlib
import logging
import os
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from tests.simulation import entropy, reckoning, storage, template
from tests.simulation.loop import Stuck, VirtualLoop
from tests.simulation.people import People
from tests.simulation.verdict import Verdict, all_invariants, settled
from tests.simulation.world import Down, World

ROUNDS = 400
_LEFT_OPEN = "The garbage collector is trying"  # What a killed process leaves.
TEMPLATE = "SIMULATION_TEMPLATE"  # A template made before, for children.


@dataclass
class Run:
    """How a seed ended."""

    seed: int
    problems: list[str]
    counts: Counter[str]
    io_points: int
    places: int
    commits: int
    digest: str = ""
    trace: list[str] = field(default_factory=list)


class Simulator:
    """Runs seeds, one after the other, in one folder."""

    def __init__(self) -> None:
        os.environ.setdefault("PYTHONHASHSEED", "0")
        self.folder = storage.place()
        given = os.environ.get(TEMPLATE)
        self.template = Path(given) if given else self.folder / "template.db"
        self._logs = structlog.get_config()
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
            processors=[_logged],
            cache_logger_on_first_use=False,
        )
        logging.disable(logging.CRITICAL)
        if not given:
            with entropy.replaced():
                entropy.use(lambda: 0, Random("template"))
                asyncio.run(template.make(self.template))
        gc.freeze()

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_LEFT_OPEN)
            gc.collect()
        structlog.configure(**self._logs)
        logging.disable(logging.NOTSET)
        gc.unfreeze()
        gc.enable()

    def run(
        self,
        seed: int,
        *,
        traced: bool = False,
        weather: Mapping[str, float] | None = None,
        crash_at: int | None = None,
    ) -> Run:
        """Play one seed to its end.

        Args:
            traced: Keep its trace.
            weather: Faults it has besides its own, with their rates.
            crash_at: No fault but one crash, at this place of the run; 0: none at all.
        """
        loop = VirtualLoop(Random(f"loop {seed}"))
        path = storage.copy(self.template, self.folder)
        entropy.use(lambda: loop.now_us, Random(f"ids {seed}"))
        gc.disable()
        with entropy.replaced(), storage.inline(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_LEFT_OPEN)
            world = World(seed, loop, path, traced, weather or {}, crash_at=crash_at)
            loop.set_task_factory(_task)
            loop.set_exception_handler(lambda _, context: _unexpected(world, context))
            try:
                loop.run_until_complete(_whole(world))
            except Stuck as stuck:
                world.wrong(f"stuck: {stuck}")
            except Exception as error:
                world.wrong(f"an error nobody expects: {error!r}")
            finally:
                _end(world)
            if not seed % 20:
                gc.collect()
        return _result(world)


def _task(loop: Any, work: Any, context: Any = None) -> asyncio.Task[Any]:
    """Every task belongs to the process in whose context it is made."""
    context = contextvars.copy_context() if context is None else context
    made: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
    process = context.get(storage.owner)
    if process is not None:
        process.tasks.add(made)
        made.add_done_callback(process.tasks.discard)
    return made


def _logged(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """What the services caught and logged: only the database may fail them."""
    given = event.get("exc_info")
    error = given if isinstance(given, BaseException) else sys.exc_info()[1]
    process = storage.owner.get(None)
    harmless = error is None or isinstance(error, SQLAlchemyError | ValueError)
    if process is not None and isinstance(error, Exception) and not harmless:
        process.world.wrong(f"logged: {event.get('event')}: {error!r}")
    raise structlog.DropEvent


def _unexpected(world: World, context: dict[str, Any]) -> None:
    error = context.get("exception")
    world.wrong(f"unexpected: {context.get('message')}: {error!r}")


async def _whole(world: World) -> None:
    for process in world.processes:
        process.start()
    people = People(world)
    await people.live()
    await asyncio.sleep(world.rng.choice((0.0, 5.0, 90.0)))
    if world.rng.random() < 0.1:
        await _all_invariants(world)
    await _calm_down(world)
    await _settle(world)
    verdict = Verdict(world, people)
    verdict.judge()
    reckoning.lots_in_order(world)
    reckoning.money_adds_up(world)
    reckoning.cover_adds_up(world)
    await verdict.replays()
    await _all_invariants(world)


async def _all_invariants(world: World) -> None:
    """Ask the first process that is up, and does not die of it."""
    while True:
        for process in world.processes:
            if not process.dead:
                asked = process.spawn(all_invariants(world, process))
                await asyncio.wait({asked})
                if not asked.cancelled():
                    asked.result()
                    return
        await asyncio.sleep(1.0)


async def _calm_down(world: World) -> None:
    """No fault strikes any more; who is dead starts; clocks are right; requests arrive."""
    world.faults.on = False
    world.idle = True
    world.saw("calm")
    for process in world.processes:
        process.skew_us = 0
        if process.dead:
            process.start()
    await asyncio.sleep(max(world.settings.partner_timeout_seconds * 4, 500.0))
    while world.hooks:
        await asyncio.sleep(30.0)


async def _settle(world: World) -> None:
    """Let the worker work, from one due instant to the next, until nothing is left."""
    last = world.workers[1]
    for number in range(ROUNDS):
        await last.spawn(last.worker.turn())
        await _review(world)
        due = world.check.rows(
            "SELECT min(due_at) FROM redemptions WHERE state IN"
            " ('HOLDING','HELD','CONFIRMING','IN_DOUBT','RELEASING','CANCELLING')"
        )[0][0]
        jobs = world.check.rows(
            "SELECT min(due_at) FROM jobs WHERE state = 'DUE' AND name <> 'compensate'"
        )[0][0]
        told = world.check.rows("SELECT count(*) FROM partner_events WHERE applied_at IS NULL")[0][
            0
        ]
        if due is None and jobs is None and not told and not world.hooks:
            world.counts["rounds to settle"] += number
            return
        await asyncio.sleep(7.0 if number % 8 else 120.0)
    left = world.check.rows("SELECT id, state, doubt, due_at, leased_until FROM redemptions")
    world.wrong(f"not settled: {[row for row in left if not settled(row[1])]}, jobs {jobs}")


async def _review(world: World) -> None:
    """The operator fences what has been in doubt for too long."""
    for (ref,) in world.check.rows(
        "SELECT id FROM redemptions WHERE state = 'NEEDS_REVIEW' AND reason = 'DOUBT_TOO_OLD'"
    ):
        world.saw("operator fences", ref)
        try:
            await world.gateway().call(
                lambda process, ref=ref: process.redemptions.fence(redemption_id=ref)
            )
        except Down:
            continue


def _end(world: World) -> None:
    world.over = True
    for process in world.processes:
        process.end()
    for task in asyncio.all_tasks(world.loop):
        task.cancel()
    world.loop.set_exception_handler(lambda _, context: None)
    world.loop.steps = 0
    for _ in range(10_000):
        if not (asyncio.all_tasks(world.loop)):
            break
        world.loop.call_soon(world.loop.stop)
        world.loop.run_forever()
    for process in world.processes:
        process.end()
    world.check.close()
    world.loop.close()


def _result(world: World) -> Run:
    trace = [f"{us / 1e6:12.6f}  {what:34} {detail}" for us, what, detail in world.trace or ()]
    digest = hashlib.sha256("\n".join(trace).encode()).hexdigest() if trace else ""
    return Run(
        world.seed,
        world.problems,
        world.counts,
        world.io_points,
        world.places,
        world.commits,
        digest,
        trace,
    )
