"""Kill -9 at every point of a partner call, in every process: both sides agree in the end.

Gateway, worker and simulators are processes of their own and the clients are outside. A process
that was killed is started again, the client repeats its request with the same key, the worker
does what is due. What has to hold then is in `Story.settled`.
"""

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support import box as boxes
from tests.support.box import Box
from tests.support.story import Buy, Story

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

POINTS = ("before_call", "after_call", "stored")
POPCORN = Buy("M05", "XH-03", "mbr_demo_02", ({"programme": "P-LL"},))
TWO_LEGS = ({"programme": "P-LL", "points": 600}, {"programme": "P-CW"})
TEA = Buy("M06", "CW-01", "mbr_demo_15", TWO_LEGS)
BREAKFAST = Buy("M03", "YQ-04", "mbr_demo_10", ({"programme": "P-YQ"},))
COUPON = Buy("M07", "KX-01", "mbr_demo_07", ({"programme": "P-LL"},))
AT = dict(zip(POINTS, (POPCORN, TEA, BREAKFAST), strict=True))  # each point at another adapter
END = {"cancel": "CANCELLED", "release": "RELEASED"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def box(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    """One sandbox on SQLite for the whole matrix."""
    async with boxes.running(tmp_path_factory.mktemp("sandbox")) as made:
        yield made


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("step", ["hold", "confirm", "cancel"])
async def test_gateway_killed_in_a_call(box: Box, step: str, point: str) -> None:
    await gateway_killed(box, AT[point], step, f"{step}:{point}")


async def gateway_killed(box: Box, buy: Buy, step: str, failpoint: str) -> None:
    """The gateway dies in a step and comes back; the client repeats, the worker finishes."""
    await box.start_gateway(failpoint=failpoint)
    story = await Story.begin(box, buy)
    mutation, asked = await story.prepared(step)
    asked |= {"idempotencyKey": f"kill-{failpoint}-{time.monotonic_ns()}"}
    await story.dies(mutation, **asked)
    await box.start_gateway()
    again = await story.ask(mutation, **asked)
    assert again["replayed"]
    await story.ends(step)
    await story.settled(END.get(step, "COMMITTED"))
