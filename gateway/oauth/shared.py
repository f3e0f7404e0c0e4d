"""One reading for all who ask at the same time: its answer is theirs, and so is its failure."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedReading(Generic[T]):
    """What is read from the database now and then, by many requests at once.

    Whoever waits, waits for one reading: if the database has no connection to give, all are told
    so after one wait, not each after those before. A caller that gives up leaves the others
    their answer.

    Args:
        value: What is known before the first reading.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], value: T) -> None:
        self.value = value
        self._read = read
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._begun_at = float("-inf")

    def forget(self) -> None:
        """What was read before now, or is being read, is not believed."""
        self._read_at, self._reading = float("-inf"), None

    async def of(self, *, seconds: float) -> T:
        """The value, read no longer ago than that before this call."""
        instant = time.monotonic() - seconds
        while self._read_at < instant:
            task = self._reading
            if task is None or task.done() or self._begun_at < instant:
                self._begun_at = time.monotonic()
                task = self._reading = asyncio.create_task(self._begin())
                task.add_done_callback(_heard)
            await asyncio.shield(task)
        return self.value

    async def _begin(self) -> None:
        began, value = self._begun_at, await self._read()
        if self._reading is asyncio.current_task():
            self.value, self._read_at = value, began


def _heard(task: asyncio.Task[None]) -> None:
    """A failure that no caller has waited for is no news."""
    if not task.cancelled():
        task.exception()
