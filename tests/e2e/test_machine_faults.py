"""The machine fails our processes: its disk is full, its clock is wrong or jumps.

Real processes on SQLite. Their database and logs lie on a small disk of their own, which is filled
and freed; a quota is a limit on the size of files, which can be taken away.
"""

import asyncio
import contextlib
import resource
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import pytest
import pytest_asyncio

from tests.support import box as boxes
from tests.support import postgres
from tests.support.box import Box
from tests.support.postgres import Postgres
from tests.support.processes import Child
from tests.support.skewed import Skewed
from tests.support.small_disk import Disk, mounted
from tests.support.story import Buy, Story

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

POPCORN = Buy("M05", "XH-03", "mbr_demo_02", ({"programme": "P-LL"},))
TEXT = "mutation($input: {kind}!) {{ {name}(input: $input) {{ redemption {{ id state }} }} }}"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk | OSError]:
    """A small disk, or why there is none."""
    with contextlib.ExitStack() as stack:
        found: Disk | OSError
        try:
            found = stack.enter_context(mounted(tmp_path_factory.mktemp("disk"), megabytes=96))
        except OSError as error:
            found = error
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def box(disk: Disk | OSError, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    """One sandbox for all; gateway and worker write to the small disk, the partners do not."""
    home, url = tmp_path_factory.mktemp("sandbox"), ""
    if isinstance(disk, Disk):
        url = f"sqlite+aiosqlite:///{disk.path / 'gateway.db'}"
        for name in ("gateway.log", "worker.log"):
            (home / name).symlink_to(disk.path / name)
    async with boxes.running(home, database_url=url) as made:
        yield made


# -- the disk is full ----------------------------------------------------------------------------


def no_disk(why: OSError) -> NoReturn:
    """Skip, and say why."""
    pytest.skip(f"no disk of its own can be mounted here: {why}")


@pytest.fixture
def small(disk: Disk | OSError, box: Box) -> Disk:
    """The disk that can be filled. Where there is none, `test_database_errors` has a full file."""
    if isinstance(disk, OSError):
        no_disk(disk)
    return disk


@contextlib.contextmanager
def filled(disk: Disk) -> Iterator[None]:
    """The disk has no byte left, and SQLite's log no room that it could use again."""
    path = disk.path / "gateway.db"
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        busy = True
        while busy:
            busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        with disk.full():
            with pytest.raises(sqlite3.OperationalError) as refusal:
                db.execute("BEGIN IMMEDIATE")
                db.execute("CREATE TABLE room AS SELECT zeroblob(1000000)")
                db.execute("COMMIT")
            assert refusal.value.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
            if db.in_transaction:
                db.execute("ROLLBACK")
            yield


def pids(box: Box) -> list[int]:
    """Of the two that must live through it."""
    found = [box.children[name] for name in ("gateway", "worker")]
    assert all(isinstance(child, Child) and child.alive for child in found)
    return [child.pid for child in found if isinstance(child, Child)]


async def test_disk_fills_up_while_purchases_are_confirmed(box: Box, small: Disk) -> None:
    """Whoever was told yes has it; the others' keys finish theirs; the partner has each once."""
    story, lived = await Story.begin(box, POPCORN), pids(box)
    before = len((await box.control.state("M05"))["bookings"])
    asked = [{"offer": POPCORN.offer, "legs": list(POPCORN.legs)} for _ in range(6)]
    for number, one in enumerate(asked):
        one["idempotencyKey"] = f"filling-{number}"
    done = await once(box, "redeemOffer", **asked[0])
    await box.control.clear("M05")
    await box.control.fault("M05", "latency", verb="confirm", value=2, count=5)
    asking = [asyncio.create_task(once(box, "redeemOffer", **one)) for one in asked[1:]]
    await box.fault_used("M05", "latency")
    with filled(small):
        answers = [done, *await asyncio.gather(*asking)]
        refused(await once(box, "redeemOffer", **asked[1] | {"idempotencyKey": "filling-new"}))
        await asyncio.sleep(1)  # The worker finds them due, and can note nothing.
    told = [one.json() for one in answers if one.status_code == 200]
    for one in answers:
        if one.status_code != 200:
            refused(one)
    assert len(told) < len(asked), "the disk was full"
    stories = [Story(box, POPCORN) for _ in asked]
    for each, one in zip(stories, asked, strict=True):
        await each.ask("redeemOffer", **one)
        await each.reaches("COMMITTED")
        await each.agreed("COMMITTED")
    assert {one["data"]["redeemOffer"]["redemption"]["id"] for one in told} <= {
        each.id for each in stories
    }
    assert len({each.id for each in stories}) == len(asked)
    assert len((await box.control.state("M05"))["bookings"]) == before + len(asked)
    seen = [await each.seen() for each in stories]
    spent = sum(leg["points"] for row in seen for leg in row["legs"])
    assert await story.wallets() == story.before | {"P-LL": story.before["P-LL"] - spent}
    assert await box.broken_invariants() == []
    assert pids(box) == lived, "neither was started again"


@pytest.mark.parametrize("effect", [pytest.param("before", marks=pytest.mark.campaign), "after"])
async def test_disk_full_while_the_worker_finds_an_end(box: Box, small: Disk, effect: str) -> None:
    """The partner's word reaches the worker, which cannot store it: it asks again with space."""
    lived = pids(box)
    story = await lost_confirm(box, effect, latency=2)
    with filled(small):
        await asyncio.sleep(3)  # The answer comes, and the leases end.
        assert (await story.seen())["state"] == "IN_DOUBT"
    await story.reaches("COMMITTED")  # Found, or confirmed with the same key: it is in time.
    await story.settled("COMMITTED")
    assert pids(box) == lived, "neither was started again"


@contextlib.contextmanager
def postgresql_on_a_small_disk() -> Iterator[tuple[Disk, Postgres]]:
    """A server whose tables and whose log lie on it; its own user must be able to go there."""
    folder = Path(tempfile.mkdtemp(prefix="coalition-disk-"))
    folder.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(folder.rmdir)
        try:
            disk = stack.enter_context(mounted(folder, megabytes=256))
        except OSError as error:
            no_disk(error)
        options = {"wal_recycle": "off", "max_wal_size": "32MB", "min_wal_size": "32MB"}
        yield disk, stack.enter_context(postgres.running(options, memory=str(disk.path)))


@pytest.mark.campaign
async def test_postgresql_has_no_room_for_its_log_while_the_partner_confirms(
    tmp_path: Path,
) -> None:
    """It breaks down before the answer can be committed; with space all is found."""
    with postgresql_on_a_small_disk() as (disk, server):
        async with boxes.running(tmp_path, database_url=server.create("full")) as box:
            story, lived = await Story.begin(box, POPCORN), pids(box)
            mutation, asked = await story.prepared("confirm")
            asked |= {"idempotencyKey": "log-1"}
            await box.control.fault("M05", "latency", verb="confirm", value=2, count=1)
            asking = asyncio.create_task(once(box, mutation, **asked))
            await box.fault_used("M05", "latency")
            with disk.full():
                with contextlib.suppress(AssertionError):  # It needs a new file, as any commit now.
                    server.run("SELECT pg_switch_wal()")
                refused(await asking)
                await asyncio.sleep(1)
                said = (server.folder / "log").read_text()
                assert "PANIC" in said
                assert "No space left on device" in said
            if not server.alive:
                await asyncio.to_thread(server.start)
            while (await once(box, mutation, **asked)).status_code != 200:
                await asyncio.sleep(0.1)
            assert (await story.ask(mutation, **asked))["replayed"]
            await story.ends("confirm")
            await story.settled("COMMITTED")
            assert pids(box) == lived, "neither was started again"


# -- a quota --------------------------------------------------------------------------------------


@contextlib.contextmanager
def used_up(box: Box) -> Iterator[None]:
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


async def test_quota_used_up_before_a_hold_is_accepted(box: Box) -> None:
    """Refused before anything is done; the partner hears nothing; with space it goes on."""
    story = await Story.begin(box, POPCORN)
    mutation, asked = await story.prepared("hold")
    asked |= {"idempotencyKey": "disk-1"}
    theirs = len((await box.control.state("M05"))["holds"])
    with used_up(box):
        for _ in range(3):
            refused(await once(box, mutation, **asked))
        assert await story.wallets() == story.before, "reading goes on"
        assert len((await box.control.state("M05"))["holds"]) == theirs
    assert not (await story.ask(mutation, **asked))["replayed"]
    await story.ends("hold")
    await story.reaches("COMMITTED")
    await story.settled("COMMITTED")


async def test_quota_used_up_while_the_partner_confirms(box: Box) -> None:
    """Its answer cannot be stored: nobody says it failed, and the worker finds it out."""
    story = await Story.begin(box, POPCORN)
    mutation, asked = await story.prepared("confirm")
    asked |= {"idempotencyKey": "disk-2"}
    await box.control.clear("M05")
    await box.control.fault("M05", "latency", verb="confirm", value=3, count=1)
    asking = asyncio.create_task(once(box, mutation, **asked))
    await box.fault_used("M05", "latency")
    with used_up(box):
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


async def lost_confirm(box: Box, effect: str, *, latency: int = 0) -> Story:
    """A purchase whose confirm got no answer: the worker's from now on.

    Args:
        latency: Seconds the partner then needs to tell the worker; that it asks is waited for.
    """
    await box.control.clear("M05")
    story = await Story.begin(box, POPCORN)
    mutation, asked = await story.prepared("confirm")
    if latency:
        await box.control.fault("M05", "latency", verb="status", value=latency, count=1)
    await box.control.fault("M05", f"confirm_times_out_{effect}_effect", count=1)
    state = (await story.ask(mutation, **asked))["state"]
    assert state == "IN_DOUBT"
    if latency:
        await box.fault_used("M05", "latency")
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
