"""An event loop without a clock, threads or sockets: the seed decides what runs next.

Time passes when nothing is ready, and a little with every callback. Everything that asyncio
promises is kept but the order of callbacks that are ready together, which it never promised
between tasks.
"""

import asyncio
import heapq
from random import Random
from typing import Any

TICK_US = 40  # what one callback takes


MOST_STEPS = 150_000


class Stuck(Exception):
    """Nothing is ready and nothing is due, or there is no end of it."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop of one simulated run.

    Args:
        rng: Picks the next callback.
    """

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self.now_us = 0
        self.steps = 0
        self._random = rng.random
        self.set_debug(False)

    def time(self) -> float:
        """Virtual seconds since the run began."""
        return self.now_us / 1e6

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        self._move_due()
        while not ready:
            if not scheduled:
                raise Stuck("nothing is ready and nothing is due")
            self.now_us = max(self.now_us, -int(-scheduled[0]._when * 1e6 // 1))
            self._move_due()
        if len(ready) > 1:
            ready.rotate(-int(self._random() * len(ready)))
        handle = ready.popleft()
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Stuck(f"no end after {self.steps} steps")
        self.now_us += TICK_US
        if not handle._cancelled:
            handle._run()

    def _move_due(self) -> None:
        scheduled, now = self._scheduled, self.now_us / 1e6 + 5e-7
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= now):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                self._ready.append(handle)

    def _timer_handle_cancelled(self, handle: Any) -> None:
        self._timer_cancelled_count += 1

    def _process_events(self, event_list: Any) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        """There are no other threads."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        raise AssertionError("a simulation has no threads")
