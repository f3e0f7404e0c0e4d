"""One part of the campaign: a fleet, its clients, its killers, and the verdict."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.demo.clients import Merchant
from tests.chaos import checker, clients, fleet
from tests.chaos.checker import Verdict
from tests.chaos.clients import Client, Journal, Load
from tests.chaos.fleet import Deaths, Fleet
from tests.support.postgres import Postgres
from tests.support.receiver import Receiver, receiving

LAST_ANSWERS_SECONDS = 90.0
JUDGE_SECONDS = 600.0
Progress = Callable[["Part"], None]


@dataclass
class Part:
    """What one part has come to; its figures are good whenever it ends.

    Args:
        name: `postgresql` or `sqlite`.
        home: A folder of its own.
    """

    name: str
    home: Path
    seconds: float = 0.0  # of killing
    checking: bool = False
    deaths: Deaths = field(default_factory=Deaths)
    verdict: Verdict | None = None  # None: it ended before
    load: Load = field(init=False)

    def __post_init__(self) -> None:
        self.load = Load(Journal(self.home / "answers.jsonl"))


async def run(
    part: Part,
    *,
    server: Postgres | None,
    seed: int,
    kills: int,
    seconds: float,
    progress: Progress = lambda _: None,
) -> None:
    """Kill until there are `kills` of the gateway's side, or the time is over; then judge.

    Args:
        server: The PostgreSQL to use, and to kill; None: SQLite.
    """
    load, calm = part.load, asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(contextlib.closing(load.journal))
        made = await stack.enter_async_context(fleet.running(part.home, server))
        part.deaths = made.deaths
        shop = await stack.enter_async_context(subscribed(made))
        opening, began = await checker.wallets(made), time.monotonic()
        everybody = await stack.enter_async_context(clients.at_work(made, load, seed))
        tasks = await stack.enter_async_context(_ended())
        work = [asyncio.create_task(one.live(calm)) for one in everybody]
        names = [*made.ports, *made.workers, "partners", *(["postgresql"] if server else [])]
        death = [asyncio.create_task(made.dying(one, seed, calm)) for one in names]
        death.append(asyncio.create_task(made.misbehaving(seed, calm)))
        tasks += [*work, *death]
        while made.deaths.counted < kills and part.seconds < seconds:
            progress(part)
            await _raise_failed(tasks)
            await asyncio.sleep(0.1)
            part.seconds = time.monotonic() - began
        calm.set()
        part.checking = True
        progress(part)
        async with asyncio.timeout(JUDGE_SECONDS):
            await asyncio.gather(*death)
            await made.all_up()
            await _all_answered(work, everybody, load)
            part.verdict = await checker.judge(made, load, everybody, opening, shop)


@contextlib.asynccontextmanager
async def subscribed(made: Fleet) -> AsyncIterator[Receiver]:
    """A merchant's endpoint that wants every event of its redemptions; it stays up."""
    async with receiving() as receiver:
        key = made.made.merchant_key(checker.SUBSCRIBER)
        merchant = Merchant(made.wire, merchant_id=checker.SUBSCRIBER, key=key)
        asked = {"url": receiver.url, "types": ["redemption.*"]}
        told = await merchant.did("registerWebhook", "webhook { id } secret", **asked)
        receiver.secrets.append(told["secret"])
        yield receiver


@contextlib.asynccontextmanager
async def _ended() -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that are over when this is, however it ends: else they start what is taken down."""
    tasks: list[asyncio.Task[None]] = []
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
