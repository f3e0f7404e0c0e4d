"""SIGTERM in the middle of a partner's call: it is finished, or another goes on at once.

Gateway, worker and partners are processes of their own. A lease lasts a minute here, longer than
any test waits: what is done in time was handed back.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import sqlalchemy as sa

from gateway.demo.clients import Unexpected
from tests.support import box as boxes
from tests.support.box import Box
from tests.support.postgres import Postgres
from tests.support.story import Buy, Story

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

TEA = Buy(
    "M06", "CW-01", "mbr_demo_15", ({"programme": "P-LL", "points": 600}, {"programme": "P-CW"})
)
POPCORN = Buy("M05", "XH-03", "mbr_demo_02", ({"programme": "P-LL"},))
LONG = {"GATEWAY_LEASE_SECONDS": "60"}
HASTY = LONG | {"GATEWAY_SHUTDOWN_GRACE_SECONDS": "1"}
_keys = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def box(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> AsyncIterator[Box]:
    url = postgres.create("sigterm")
    async with boxes.running(tmp_path_factory.mktemp("sandbox"), database_url=url) as made:
        yield made


async def calls(box: Box, story: Story) -> list[tuple[str, str]]:
    """Verb and end of every call of a redemption."""
    query = "SELECT verb, state FROM partner_calls WHERE redemption_id = :id ORDER BY queued_at"
    async with box.database.reading() as tx:
        return [tuple(row) for row in await tx.execute(sa.text(query), {"id": story.id})]


async def begun(box: Box, buy: Buy, step: str, *, seconds: float) -> tuple[Story, Any]:
    """A request whose partner takes its time; it has reached the partner."""
    story = await Story.begin(box, buy)
    mutation, asked = await story.prepared(step)
    asked |= {"idempotencyKey": f"term-{next(_keys)}"}
    await box.control.clear(buy.merchant)
    await box.control.fault(buy.merchant, "latency", verb=step, value=seconds, count=1)
    return story, (mutation, asked)


async def broken_off(story: Story, mutation: str, asked: Any) -> None:
    """A request that gets no answer, or none that tells anything."""
    with pytest.raises((httpx2.TransportError, Unexpected, ValueError)):
        await story.box.member(story.buy.member).did(mutation, "redemption { id }", **asked)


MORE = pytest.mark.campaign


@pytest.mark.parametrize(
    "step", [pytest.param("hold", marks=MORE), "confirm", pytest.param("cancel", marks=MORE)]
)
async def test_a_gateway_answers_what_it_was_asked_before_it_ends(box: Box, step: str) -> None:
    box.environment = LONG
    await box.start_gateway()
    story, (mutation, asked) = await begun(box, TEA, step, seconds=2)
    asking = asyncio.create_task(story.ask(mutation, **asked))
    await box.fault_used(TEA.merchant, "latency")
    box.children["gateway"].end()
    answer = await asking
    assert (answer["state"], answer["replayed"]) == (
        {"hold": "HELD", "confirm": "COMMITTED", "cancel": "CANCELLED"}[step],
        False,
    )
    await box.ended("gateway")
    with pytest.raises(httpx2.TransportError):
        await story.seen()
    assert {state for _, state in await calls(box, story)} == {"ANSWERED"}
    await box.start_gateway()
    await story.ends(step)
    await story.settled("CANCELLED" if step == "cancel" else "COMMITTED")


async def test_a_worker_goes_on_at_once_with_what_a_hasty_gateway_leaves(box: Box) -> None:
    box.environment = HASTY
    await box.start_gateway()
    story, (mutation, asked) = await begun(box, TEA, "confirm", seconds=8)
    asking = asyncio.create_task(broken_off(story, mutation, asked))
    await box.fault_used(TEA.merchant, "latency")
    box.children["gateway"].end()
    await asyncio.gather(asking, box.ended("gateway"))
    await box.start_gateway()
    await story.reaches("COMMITTED")
    assert "UNKNOWN" not in {state for _, state in await calls(box, story)}
    assert (await story.ask(mutation, **asked))["replayed"]
    await story.settled("COMMITTED")


@pytest.mark.parametrize("environment", [LONG, HASTY], ids=["in time", "hasty"])
async def test_a_worker_finishes_or_hands_on(box: Box, environment: dict[str, str]) -> None:
    box.environment = environment
    await box.start_gateway()
    box.kill("worker")
    story = await Story.begin(box, POPCORN)
    mutation, asked = await story.prepared("confirm")
    await box.control.clear(POPCORN.merchant)
    await box.control.fault(POPCORN.merchant, "confirm_times_out_before_effect", count=1)
    assert (await story.ask(mutation, **asked))["state"] == "IN_DOUBT"
    slow = 8 if environment is HASTY else 2
    await box.control.fault(POPCORN.merchant, "latency", verb="confirm", value=slow, count=1)
    await box.jump(timedelta(seconds=2))
    box.start_worker()
    await box.fault_used(POPCORN.merchant, "latency")  # It sends the confirm again.
    box.children["worker"].end()
    await box.ended("worker")
    state = (await story.seen())["state"]
    if environment is HASTY:
        box.start_worker()
        await story.reaches("COMMITTED")
    else:
        assert state == "COMMITTED"
        box.start_worker()
    await story.settled("COMMITTED")
