"""One reading for all who ask at the same time."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.oauth.shared import SharedReading


class Source:
    """Something slow to read: each reading waits until it is told how it ends."""

    def __init__(self) -> None:
        self.readings: list[asyncio.Future[str]] = []
        self.shared = SharedReading(self._read, "nothing")

    async def _read(self) -> str:
        self.readings.append(asyncio.get_running_loop().create_future())
        return await self.readings[-1]

    def ask(self, seconds: float = 60.0) -> asyncio.Task[str]:
        return asyncio.create_task(self.shared.of(seconds=seconds))


async def until(done: Callable[[], bool]) -> None:
    while not done():
        await asyncio.sleep(0)  # A turn of the loop, no time.


async def test_all_who_wait_get_one_reading_and_later_ones_what_is_kept() -> None:
    source = Source()
    asked = [source.ask() for _ in range(20)]
    await until(lambda: bool(source.readings))
    source.readings[0].set_result("new")
    assert await asyncio.gather(*asked) == ["new"] * 20
    assert await source.shared.of(seconds=60.0) == "new"
    assert len(source.readings) == 1


async def test_a_failure_is_told_to_all_at_once_and_the_next_reads_again() -> None:
    source = Source()
    asked = [source.ask() for _ in range(20)]
    await until(lambda: bool(source.readings))
    source.readings[0].set_exception(TimeoutError("no connection is free"))
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in told} == {TimeoutError}
    assert len(source.readings) == 1
    again = source.ask()
    await until(lambda: len(source.readings) == 2)
    source.readings[1].set_result("new")
    assert await again == "new"


async def test_what_is_forgotten_while_it_is_read_is_not_believed() -> None:
    source = Source()
    asked = source.ask()
    await until(lambda: bool(source.readings))
    source.shared.forget()
    later = source.ask()
    await until(lambda: len(source.readings) == 2)
    source.readings[1].set_result("new")
    assert await later == "new"
    source.readings[0].set_result("old")
    assert await asked == "new"
    assert source.shared.value == "new"


async def test_a_reading_begun_too_long_ago_is_not_waited_for() -> None:
    source = Source()
    first = source.ask()
    await until(lambda: bool(source.readings))
    second = source.ask(seconds=0)
    await until(lambda: len(source.readings) == 2)
    source.readings[0].set_result("old")
    source.readings[1].set_result("new")
    assert await second == "new"
    assert await first == "new"


async def test_who_gives_up_leaves_the_others_their_answer() -> None:
    source = Source()
    first, second = source.ask(), source.ask()
    await until(lambda: bool(source.readings))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.readings[0].set_result("new")
    assert await second == "new"
