"""Kill -9 at every point of a partner call, in every process: both sides agree in the end.

Gateway, worker and simulators are processes of their own and the clients are outside. A process
that was killed is started again, the client repeats its request with the same key, the worker
does what is due. What has to hold then is in `Story.settled`.
"""

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import sqlalchemy as sa

from gateway.jobs import enqueue, jobs
from gateway.redemption.model import Step
from tests.support import box as boxes
from tests.support.box import Box
from tests.support.postgres import Postgres
from tests.support.story import Buy, Story

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

POINTS = ("before_call", "after_call", "stored")
STEPS = ("hold", "confirm", "cancel")
LL = {"programme": "P-LL"}
TWO_LEGS = ({"programme": "P-LL", "points": 600}, {"programme": "P-CW"})
POPCORN = Buy("M05", "XH-03", "mbr_demo_02", (LL,))
TEA = Buy("M06", "CW-01", "mbr_demo_15", TWO_LEGS)
BREAKFAST = Buy("M03", "YQ-04", "mbr_demo_10", ({"programme": "P-YQ"},))
COUPON = Buy("M07", "KX-01", "mbr_demo_07", (LL,))
RIDE = Buy("M07", "KX-03", "mbr_demo_07", (LL,), slotted=True)
AT = dict(zip(POINTS, (POPCORN, TEA, BREAKFAST), strict=True))  # each point at another adapter
SEED, KILLS = 1, 8  # of the storm
OVER = ("COMMITTED", "CANCELLED", "RELEASED")
END = {"cancel": "CANCELLED", "release": "RELEASED"}
_keys = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def box(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    """One sandbox on SQLite for the whole matrix."""
    async with boxes.running(tmp_path_factory.mktemp("sandbox")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def postgres_box(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> AsyncIterator[Box]:
    """One sandbox on PostgreSQL."""
    url = postgres.create("kill")
    async with boxes.running(tmp_path_factory.mktemp("sandbox"), database_url=url) as made:
        yield made


# -- what the default run has of it: the rest repeats it elsewhere, in `make chaos` ----------------


def some(cases: Sequence[str], *kept: str) -> list[Any]:
    """These cases; all but some belong to the campaign."""
    return [
        pytest.param(case, marks=() if case in kept else pytest.mark.campaign) for case in cases
    ]


each_step_at_each_point = pytest.mark.parametrize(
    ("step", "point"),
    [
        pytest.param(
            step,
            point,
            id=f"{step}-{point}",
            marks=() if (step, point) in zip(STEPS, POINTS, strict=True) else pytest.mark.campaign,
        )
        for step in STEPS
        for point in POINTS
    ],
)
each_step_at_the_partner = pytest.mark.parametrize(
    ("step", "buy"),
    [
        pytest.param(step, buy, id=step, marks=() if step == "confirm" else pytest.mark.campaign)
        for step, buy in zip(STEPS, AT.values(), strict=True)
    ],
)


# -- the gateway ----------------------------------------------------------------------------------


@each_step_at_each_point
async def test_gateway_killed_in_a_call(box: Box, step: str, point: str) -> None:
    await gateway_killed(box, AT[point], step, f"{step}:{point}")


@pytest.mark.parametrize("point", some(POINTS, "after_call"))
async def test_gateway_killed_while_it_gives_a_hold_back(box: Box, point: str) -> None:
    await gateway_killed(box, AT[point], "release", f"fence:{point}")


@pytest.mark.parametrize(
    "failpoint",
    some(["hold:before_call", "hold:stored", "confirm:after_call"], "hold:stored"),
)
async def test_gateway_killed_in_one_step_redemption(box: Box, failpoint: str) -> None:
    await gateway_killed(box, TEA, "redeem", failpoint)


@pytest.mark.parametrize("point", some(["stored", "applied"], "stored"))
async def test_gateway_killed_while_it_receives_a_confirmation(box: Box, point: str) -> None:
    await confirmation_interrupted(box, f"event:{point}")


@pytest.mark.parametrize("point", some(["stored", "applied"], "applied"))
async def test_gateway_killed_while_it_receives_a_lower_final_fare(box: Box, point: str) -> None:
    await box.start_gateway()
    story = await Story.begin(box, RIDE)
    mutation, asked = await story.prepared("confirm")
    await story.ask(mutation, **asked)
    await story.reaches("COMMITTED")
    await box.start_gateway(failpoint=f"event:{point}")
    await box.control.fulfil("M07", story.id, now=await box.now(), final_fare_fen=9_000)
    await box.killed_itself("gateway")
    await box.start_gateway()
    await story.reaches("FULFILLED")
    await story.settled("FULFILLED")
    assert (await story.seen())["legs"][0]["returnedPoints"] == 12_000 - 9_000
    await heard_once(box, story, ["applied", "applied"])


# -- the worker -----------------------------------------------------------------------------------


@each_step_at_each_point
async def test_worker_killed_while_it_sends_a_lost_call_again(
    box: Box, step: str, point: str
) -> None:
    await worker_killed(box, AT[point], step, f"{step}:{point}")


@pytest.mark.parametrize("point", some(POINTS, "after_call"))
async def test_worker_killed_while_it_fences_a_confirm_in_doubt(box: Box, point: str) -> None:
    await worker_killed(box, AT[point], "confirm", f"fence:{point}", late=True)


@pytest.mark.parametrize("point", some(POINTS, "after_call"))
async def test_worker_killed_in_a_job(box: Box, point: str) -> None:
    """It asks the partner to let go of what is released already: once more does no harm."""
    story = await Story.begin(box, POPCORN)
    mutation, asked = await story.prepared("release")
    await story.ask(mutation, **asked)
    await story.settled("RELEASED")
    box.kill("worker")
    op_key = f"{story.id}:{Step.HOLD}:1"
    job = jobs.c.key == f"let_go:{op_key}"
    async with box.database.transaction() as tx:
        payload = {"redemption": story.id, "op_key": op_key}
        await enqueue(tx, name="let_go", key=op_key, payload=payload, lane=POPCORN.merchant)
    box.start_worker(failpoint=f"job:{point}")
    await box.killed_itself("worker")

    async def state() -> tuple[str, bool]:
        async with box.database.reading() as tx:
            row = (await tx.execute(sa.select(jobs.c.state, jobs.c.leased_until).where(job))).one()
            return row.state, row.leased_until is not None

    assert await state() == (("DONE", False) if point == "stored" else ("DUE", True))
    box.start_worker()
    await box.until(state, ("DONE", False).__eq__, op_key)
    await story.settled("RELEASED")


# -- the partner ----------------------------------------------------------------------------------


@each_step_at_the_partner
async def test_partner_killed_before_the_effect(box: Box, step: str, buy: Buy) -> None:
    story = await Story.begin(box, buy)
    mutation, asked = await story.prepared(step)
    await box.control.clear(buy.merchant)
    await box.control.fault(buy.merchant, "latency", verb=step, value=60, count=1)
    asking = asyncio.create_task(story.ask(mutation, **asked))
    await box.fault_used(buy.merchant, "latency")
    box.kill("simulators")
    assert (await asking)["state"] == "IN_DOUBT"
    await box.start_simulators()
    await story.ends(step)
    await story.settled(END.get(step, "COMMITTED"))


@each_step_at_the_partner
async def test_partner_killed_after_the_effect(box: Box, step: str, buy: Buy) -> None:
    story = await Story.begin(box, buy)
    mutation, asked = await story.prepared(step)
    await box.control.fault(buy.merchant, f"{step}_times_out_after_effect", count=1)
    assert (await story.ask(mutation, **asked))["state"] == "IN_DOUBT"
    box.kill("simulators")
    await box.start_simulators()
    await story.ends(step)
    await story.settled(END.get(step, "COMMITTED"))


# -- everything -----------------------------------------------------------------------------------


@pytest.mark.campaign
async def test_members_buy_and_cancel_while_everything_is_killed_at_random(box: Box) -> None:
    chance, calm = random.Random(SEED), asyncio.Event()
    buys = (POPCORN, TEA, BREAKFAST, COUPON)
    before = {buy: await Story(box, buy).wallets() for buy in buys}
    shopping = {buy: asyncio.create_task(shop(box, buy, chance, calm)) for buy in buys}
    for _ in range(KILLS):
        name = chance.choice(["gateway", "worker", "simulators"])
        await asyncio.sleep(chance.uniform(0.1, 0.8))
        box.kill(name)
        await asyncio.sleep(chance.uniform(0, 0.2))
        await box.start(name)
    calm.set()
    for buy, task in shopping.items():
        spent: Counter[str] = Counter()
        for story in await task:
            spent += await story.agreed((await story.reaches(*OVER))["state"])
        assert await Story(box, buy).wallets() == {
            programme: points - spent[programme] for programme, points in before[buy].items()
        }
    assert await box.broken_invariants() == []


async def shop(box: Box, buy: Buy, chance: random.Random, calm: asyncio.Event) -> list[Story]:
    """Buy one after the other, and take some of it back, until it is calm."""
    stories: list[Story] = []
    while not calm.is_set():
        story = Story(box, buy)
        stories.append(story)
        _, asked = await story.prepared("redeem")
        bought = await insist(story, "redeemOffer", "redemption { id }", asked)
        story.id = bought["redemption"]["id"]
        if chance.random() < 0.5:
            await take_back(story)
    return stories


async def take_back(story: Story) -> None:
    """Cancel what is bought, if it is."""

    async def state() -> str:
        with contextlib.suppress(httpx2.TransportError):
            return str((await story.seen())["state"])
        return "unknown"

    await story.box.until(state, OVER.__contains__, story.id)
    asked = {"redemption": story.id}
    offered = await insist(story, "requestCancellation", "cancelQuote { id }", asked)
    if offered["cancelQuote"]:
        asked["cancelQuote"] = offered["cancelQuote"]["id"]
        await insist(story, "cancelRedemption", "redemption { id }", asked)


async def insist(
    story: Story, mutation: str, wanted: str, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """Repeat a request under one key until gateway and partner are there to answer it."""
    app = story.box.member(story.buy.member)
    key = f"kill-{next(_keys)}"
    while True:
        with contextlib.suppress(httpx2.TransportError):
            payload = await app.do(mutation, wanted, idempotencyKey=key, **asked)
            if "PARTNER_UNAVAILABLE" not in [error["code"] for error in payload["errors"]]:
                return payload
        await asyncio.sleep(0.05)


# -- on PostgreSQL --------------------------------------------------------------------------------


@pytest.mark.parametrize("point", some(POINTS, "after_call"))
async def test_gateway_killed_in_a_confirm_on_postgresql(postgres_box: Box, point: str) -> None:
    await gateway_killed(postgres_box, AT[point], "confirm", f"confirm:{point}")


@pytest.mark.campaign
async def test_gateway_killed_in_a_webhook_on_postgresql(postgres_box: Box) -> None:
    await confirmation_interrupted(postgres_box, "event:stored")


@pytest.mark.campaign
@pytest.mark.parametrize("failpoint", ["hold:before_call", "cancel:after_call"])
async def test_worker_killed_on_postgresql(postgres_box: Box, failpoint: str) -> None:
    await worker_killed(postgres_box, TEA, failpoint.partition(":")[0], failpoint)


@pytest.mark.campaign
async def test_worker_killed_at_a_fence_on_postgresql(postgres_box: Box) -> None:
    await worker_killed(postgres_box, TEA, "confirm", "fence:after_call", late=True)


async def test_postgresql_killed_during_a_confirm(postgres_box: Box, postgres: Postgres) -> None:
    box = postgres_box
    story = await Story.begin(box, TEA)
    mutation, asked = await story.prepared("confirm")
    asked |= {"idempotencyKey": f"kill-{next(_keys)}"}
    await box.control.fault(TEA.merchant, "latency", verb="confirm", value=3, count=1)
    asking = asyncio.create_task(story.unanswered(mutation, **asked))
    await box.fault_used(TEA.merchant, "latency")
    postgres.kill()
    await asking
    await asyncio.to_thread(postgres.start)
    assert (await story.ask(mutation, **asked))["replayed"]
    await story.ends("confirm")
    await story.settled("COMMITTED")


# -- how it goes ----------------------------------------------------------------------------------


async def gateway_killed(box: Box, buy: Buy, step: str, failpoint: str) -> None:
    """The gateway dies in a step and comes back; the client repeats, the worker finishes."""
    await box.start_gateway(failpoint=failpoint)
    story = await Story.begin(box, buy)
    mutation, asked = await story.prepared(step)
    asked |= {"idempotencyKey": f"kill-{next(_keys)}"}
    await story.unanswered(mutation, **asked)
    await box.killed_itself("gateway")
    await box.start_gateway()
    assert (await story.ask(mutation, **asked))["replayed"]
    await story.ends(step)
    await story.settled(END.get(step, "COMMITTED"))


async def worker_killed(
    box: Box, buy: Buy, step: str, failpoint: str, *, late: bool = False
) -> None:
    """The gateway's call is lost, so the worker sends it again, or fences it; another finishes."""
    box.kill("worker")
    story = await Story.begin(box, buy)
    mutation, asked = await story.prepared(step)
    await box.control.fault(buy.merchant, f"{step}_times_out_before_effect", count=1)
    assert (await story.ask(mutation, **asked))["state"] == "IN_DOUBT"
    await box.jump(timedelta(minutes=3) if late else timedelta(seconds=1))
    box.start_worker(failpoint=failpoint)
    await box.killed_itself("worker")
    box.start_worker()
    if late:
        await story.reaches("RELEASED")
        await story.settled("RELEASED")
    else:
        await story.ends(step)
        await story.settled(END.get(step, "COMMITTED"))


async def confirmation_interrupted(box: Box, failpoint: str) -> None:
    """The gateway dies of the webhook that confirms; it is applied once."""
    await box.start_gateway(failpoint=failpoint)
    story = await Story.begin(box, COUPON)
    mutation, asked = await story.prepared("confirm")
    asked |= {"idempotencyKey": f"kill-{next(_keys)}"}
    asking = asyncio.create_task(story.ask(mutation, **asked))
    await box.killed_itself("gateway")
    await box.start_gateway()
    await asking
    assert (await story.ask(mutation, **asked))["replayed"]
    await story.ends("confirm")
    await story.settled("COMMITTED")
    await heard_once(box, story, ["applied"])


async def heard_once(box: Box, story: Story, outcomes: list[str]) -> None:
    """The partner's webhooks all arrived, and each was applied once."""

    async def waiting() -> list[Any]:
        events = (await box.control.state(story.buy.merchant))["events"]
        return [one for one in events if one["done"] is None]

    await box.until(waiting, lambda rows: not rows, "webhooks")
    assert await box.heard(story.id) == outcomes
