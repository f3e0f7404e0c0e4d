"""The machine fails our processes: its disk is full, its clock is wrong or jumps.

Real processes on SQLite. A full disk is a limit on the size of files, which can be taken away.
"""

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.support import box as boxes
from tests.support.box import Box
from tests.support.processes import Child
from tests.support.skewed import Skewed
from tests.support.story import Buy, Story

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

POPCORN = Buy("M05", "XH-03", "mbr_demo_02", ({"programme": "P-LL"},))
TEXT = "mutation($input: {kind}!) {{ {name}(input: $input) {{ redemption {{ id state }} }} }}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def box(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    """One sandbox for all."""
    async with boxes.running(tmp_path_factory.mktemp("sandbox")) as made:
        yield made


# -- the disk -------------------------------------------------------------------------------------


@contextlib.contextmanager
def full_disk(box: Box) -> Iterator[None]:
    """The gateway can write no more byte to any file."""
    child = box.children["gateway"]
    assert isinstance(child, Child)
    before = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, before)


async def once(box: Box, mutation: str, **asked: Any) -> httpx2.Response:
    """One try, whatever comes of it."""
    app = box.member(POPCORN.member)
    await app.log_in()
    kind = f"{mutation[0].upper()}{mutation[1:]}Input"
    body = {"query": TEXT.format(kind=kind, name=mutation), "variables": {"input": asked}}
    return await app.wire.http.post(
        f"{app.wire.base_url}/graphql", json=body, headers=app.headers()
    )


def refused(answer: httpx2.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["errors"][0]["extensions"]["code"] == "INTERNAL"


async def test_disk_full_before_a_hold_is_accepted(box: Box) -> None:
    """Refused before anything is done; the partner hears nothing; with space it goes on."""
    story = await Story.begin(box, POPCORN)
    mutation, asked = await story.prepared("hold")
    asked |= {"idempotencyKey": "disk-1"}
    theirs = len((await box.control.state("M05"))["holds"])
    with full_disk(box):
        for _ in range(3):
            refused(await once(box, mutation, **asked))
        assert await story.wallets() == story.before, "reading goes on"
        assert len((await box.control.state("M05"))["holds"]) == theirs
    assert not (await story.ask(mutation, **asked))["replayed"]
    await story.ends("hold")
    await story.reaches("COMMITTED")
    await story.settled("COMMITTED")


async def test_disk_full_while_the_partner_confirms(box: Box) -> None:
    """Its answer cannot be stored: nobody says it failed, and the worker finds it out."""
    story = await Story.begin(box, POPCORN)
    mutation, asked = await story.prepared("confirm")
    asked |= {"idempotencyKey": "disk-2"}
    await box.control.fault("M05", "latency", verb="confirm", value=3, count=1)
    asking = asyncio.create_task(once(box, mutation, **asked))
    await box.fault_used("M05", "latency")
    with full_disk(box):
        refused(await asking)
    assert (await story.ask(mutation, **asked))["replayed"]
    await story.ends("confirm")
    await story.settled("COMMITTED")


# -- the clock ------------------------------------------------------------------------------------


@pytest.mark.campaign
@pytest.mark.parametrize("effect", ["before", "after"])
async def test_worker_five_minutes_ahead(box: Box, effect: str) -> None:
    """For it every lease and deadline is over: it fences, and the partner's word decides."""
    await skewed_worker(box, 300)
    story = await lost_confirm(box, effect)
    end = "COMMITTED" if effect == "after" else "RELEASED"
    await story.reaches(end)
    await story.settled(end)


@pytest.mark.campaign
async def test_worker_five_minutes_behind_and_its_clock_jumps(box: Box) -> None:
    """For it nothing is due yet: points stay held until its clock is right again."""
    worker = await skewed_worker(box, -300)
    story = await lost_confirm(box, "after")
    began = time.monotonic()
    while time.monotonic() < began + 2:
        assert (await story.seen())["state"] == "IN_DOUBT"
        await asyncio.sleep(0.5)
    worker.set(0)
    await story.reaches("COMMITTED")
    await story.settled("COMMITTED")


async def skewed_worker(box: Box, seconds: int) -> Skewed:
    """The worker, so far ahead. It is started once: that takes seconds, to jump takes nothing."""
    found = box.children["worker"]
    if not (isinstance(found, Skewed) and found.alive):
        return await box.start_skewed("worker", seconds)
    found.set(seconds)
    return found


async def lost_confirm(box: Box, effect: str) -> Story:
    """A purchase whose confirm got no answer: the worker's from now on."""
    await box.control.clear("M05")
    story = await Story.begin(box, POPCORN)
    mutation, asked = await story.prepared("confirm")
    await box.control.fault("M05", f"confirm_times_out_{effect}_effect", count=1)
    state = (await story.ask(mutation, **asked))["state"]
    assert state == "IN_DOUBT"
    return story


@pytest.mark.campaign
async def test_tokens_at_a_gateway_with_another_clock(box: Box) -> None:
    """A token is good where the clocks differ by less than a minute; else: sign in again.

    One from the future comes first: a token that was good once is known until it expires.
    """
    app = box.member("mbr_demo_07")
    await app.query("{ me { wallets { available } } }")
    gateway = await box.start_skewed("gateway", 0)
    for seconds, status in ((-300, 401), (-30, 200), (30, 200), (300, 200), (700, 401)):
        gateway.set(seconds)
        answer = await app.wire.http.post(
            f"{app.wire.base_url}/graphql",
            json={"query": "{ me { wallets { available } } }"},
            headers=app.headers(),
        )
        assert answer.status_code == status, f"{seconds} s: {answer.text}"
