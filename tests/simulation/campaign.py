"""Many seeds on several cores: each core is a process of its own with its own template."""

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

from tests.simulation.engine import Run, Simulator

BATCH = 25


@dataclass
class Total:
    """What a campaign came to."""

    seeds: int = 0
    io_points: int = 0
    commits: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, list[str]]] = field(default_factory=list)

    def add(self, run: Run) -> None:
        self.seeds += 1
        self.io_points += run.io_points
        self.commits += run.commits
        self.counts += run.counts
        if run.problems:
            self.failures.append((run.seed, run.problems))


def play(seeds: Iterable[int], *, stop_at_failure: bool = False) -> Total:
    """Play seeds in this process."""
    total, began, cpu = Total(), time.monotonic(), time.process_time()
    simulator = Simulator()
    try:
        for seed in seeds:
            total.add(simulator.run(seed))
            if stop_at_failure and total.failures:
                break
    finally:
        simulator.close()
    total.seconds, total.cpu_seconds = time.monotonic() - began, time.process_time() - cpu
    return total


def _serve(seeds: Any, done: Any) -> None:
    simulator = Simulator()
    try:
        while (batch := seeds.get()) is not None:
            total, cpu = Total(), time.process_time()
            for seed in batch:
                total.add(simulator.run(seed))
            total.cpu_seconds = time.process_time() - cpu
            done.put(total)
    finally:
        simulator.close()


def spread(
    first: int, count: int, processes: int, progress: Callable[[Total], None] = lambda _: None
) -> Total:
    """Play `count` seeds from `first` on several processes.

    Args:
        progress: Told the sum after every batch.
    """
    os.environ["PYTHONHASHSEED"] = "0"
    context, began = multiprocessing.get_context("spawn"), time.monotonic()
    seeds, done = context.Queue(), context.Queue()
    batches = list(_batches(first, count))
    for batch in [*batches, *[None] * processes]:
        seeds.put(batch)
    team = [context.Process(target=_serve, args=(seeds, done)) for _ in range(processes)]
    for one in team:
        one.start()
    total = Total()
    try:
        for _ in batches:
            part = _next(done, team)
            total.seeds += part.seeds
            total.io_points += part.io_points
            total.commits += part.commits
            total.cpu_seconds += part.cpu_seconds
            total.counts += part.counts
            total.failures += part.failures
            total.seconds = time.monotonic() - began
            progress(total)
    finally:
        for one in team:
            one.join(5)
            one.terminate()
    total.failures.sort()
    return total


def _next(done: Any, team: list[Any]) -> Total:
    """The next result; whoever dies without one ends the campaign."""
    while True:
        try:
            part: Total = done.get(timeout=5)
            return part
        except Empty:
            dead = [one.exitcode for one in team if one.exitcode]
            if dead:
                raise RuntimeError(f"a simulating process ended with {dead}") from None


def _batches(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count, BATCH):
        yield range(start, min(start + BATCH, first + count))
