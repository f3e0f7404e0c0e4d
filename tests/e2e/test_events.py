"""Events across processes: the gateway serves sockets, the worker changes things and sends them.

Both are killed on the way; the subscriber resumes, and the merchant gets everything in order.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.demo.clients import Merchant
from tests.support import box as boxes
from tests.support.box import Box
from tests.support.postgres import Postgres
from tests.support.receiver import Receiver, receiving
from tests.support.story import Buy, Story
from tests.support.subscriber import REDEMPTION, Subscriber, subscribed

pytestmark = [pytest.mark.slow]
POPCORN = Buy("M05", "XH-03", "mbr_demo_02", ({"programme": "P-LL"},))


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def box(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Box]:
    url = ""
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.create("events")
    home = tmp_path_factory.mktemp("sandbox")
    async with boxes.running(home, database_url=url) as made:
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


async def cinema(box: Box) -> Merchant:
    key = json.loads((box.made.sandbox / "keys" / "M05.json").read_text(encoding="utf-8"))
    return Merchant(box.wire, merchant_id="M05", key=key)


async def states(client: Subscriber, count: int) -> list[tuple[int, str]]:
    found = [await client.next() for _ in range(count)]
    return [(each["sequence"], each["state"]) for each in found]


async def test_another_process_is_heard_and_no_kill_loses_or_reorders(
    box: Box, receiver: Receiver
) -> None:
    asked = {"url": receiver.url, "types": ["redemption.*"]}
    made = await (await cinema(box)).did("registerWebhook", "webhook { id } secret", **asked)
    receiver.secrets.append(made["secret"])
    story = await Story.begin(box, POPCORN)
    mutation, given = await story.prepared("confirm")
    member = box.member(POPCORN.member)
    token = member.headers()["authorization"].removeprefix("Bearer ")
    receiver.gate = asyncio.Event()
    async with subscribed(box.wire.base_url, token) as client:
        await client.follow(REDEMPTION, id=story.id)
        assert await states(client, 1) == [(1, "HELD")]
        await box.control.fault("M05", "confirm_times_out_after_effect", count=1)
        assert (await story.ask(mutation, **given))["state"] == "IN_DOUBT"  # The gateway's doing.
        found = await states(client, 3)
        assert found == [(2, "CONFIRMING"), (3, "IN_DOUBT"), (4, "COMMITTED")]  # The worker's.

        async def calls() -> int:
            return len(receiver.calls)

        await box.until(calls, lambda count: count >= 1, "the first event is on its way")
        box.kill("worker")  # While it sends.
        box.kill("gateway")
        assert await client.closed_with() == 1006
    receiver.gate.set()
    await box.start_gateway()
    box.start_worker()
    await box.control.fulfil("M05", story.id, now=await box.now())
    async with subscribed(box.wire.base_url, token) as client:
        await client.follow(REDEMPTION, id=story.id, after=4)
        assert await states(client, 1) == [(5, "FULFILLED")]
        assert (await client.hear())["type"] == "complete"

    async def taken() -> list[int]:
        return receiver.order(story.id)

    order = await box.until(taken, lambda found: 5 in found, "all events are taken")
    assert list(dict.fromkeys(order)) == [1, 2, 3, 4, 5]
    assert order == sorted(order)
    assert receiver.refused == 0
    assert await box.broken_invariants() == []
