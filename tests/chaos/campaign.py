"""One part of the campaign: a fleet, its clients, its killers, and the verdict."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import checker, clients, fleet
from tests.chaos.checker import Verdict
from tests.chaos.clients import Client, Journal, Load
from tests.chaos.fleet import Deaths
from tests.support.postgres import Postgres

LAST_ANSWERS_SECONDS = 90.0
Progress = Callable[[str, Deaths, Load], None]


@dataclass
class Part:
    """What one part came to."""

    name: str
    seconds: float
    deaths: Deaths
    load: Load
    verdict: Verdict


async def run(
    name: str,
    home: Path,
    *,
    server: Postgres | None,
    seed: int,
    kills: int,
    seconds: float,
    progress: Progress = lambda *_: None,
) -> Part:
    """Kill until there are `kills` of the gateway's side, or the time is over; then judge.

    Args:
        server: The PostgreSQL to use, and to kill; None: SQLite.
    """
    async with fleet.running(home, server) as made:
        load, calm, began = Load(Journal(home / "answers.jsonl")), asyncio.Event(), time.monotonic()
        opening = await checker.wallets(made)
        async with clients.at_work(made, load, seed) as everybody:
            work = [asyncio.create_task(one.live(calm)) for one in everybody]
            names = [*made.ports, *made.workers, "partners", *(["postgresql"] if server else [])]
            death = [asyncio.create_task(made.dying(one, seed, calm)) for one in names]
            death.append(asyncio.create_task(made.misbehaving(seed, calm)))
            while made.deaths.counted < kills and time.monotonic() - began < seconds:
                progress(name, made.deaths, load)
                await _raise_failed([*work, *death])
                await asyncio.sleep(0.1)
            calm.set()
            took = time.monotonic() - began
            await asyncio.gather(*death)
            await made.all_up()
            await _all_answered(work, everybody, load)
            progress(f"{name}: checking", made.deaths, load)
            verdict = await checker.judge(made, load, everybody, opening)
    return Part(name, took, made.deaths, load, verdict)


async def _all_answered(
    work: list[asyncio.Task[None]], everybody: Sequence[Client], load: Load
) -> None:
    """Wait until the clients have the answers they wait for: everything runs again."""
    _, still = await asyncio.wait(work, timeout=LAST_ANSWERS_SECONDS)
    for task in still:
        task.cancel()
    await asyncio.gather(*still, return_exceptions=True)
    await _raise_failed([task for task in work if task not in still])
    for client in everybody:
        load.wrong += [
            f"{client.who} {key} has no answer: {what}" for key, what in client.waiting.items()
        ]


async def _raise_failed(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            await task
