"""One crash at each place of a seed, one run per place: no statement, commit or call is left out.

Nothing else goes wrong. Until its place a run is the same as the calm one, so the places are those
of the calm run, in order.
"""

import multiprocessing
import multiprocessing.util
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.simulation.engine import Run, Simulator

_mine: list[Simulator] = []


@dataclass
class Swept:
    """What the sweep of one seed came to."""

    seed: int
    places: int
    story: dict[str, int]  # what people did in the calm run
    runs: int = 0
    crashes: int = 0
    seconds: float = 0.0
    failures: list[tuple[int, list[str]]] = field(default_factory=list)  # by place

    def add(self, place: int, run: Run) -> None:
        self.runs += 1
        self.crashes += sum(n for name, n in run.counts.items() if name.startswith("crash "))
        if run.problems:
            self.failures.append((place, run.problems))


def calm(simulator: Simulator, seed: int) -> Swept:
    """The run without any fault: how many places it has, and what happens in it."""
    run = simulator.run(seed, crash_at=0)
    done = {
        name.removeprefix("done "): n for name, n in run.counts.items() if name.startswith("done ")
    }
    swept = Swept(seed, run.places, done)
    if run.problems:
        swept.failures.append((0, run.problems))
    return swept


def each(simulator: Simulator, seed: int, places: Iterable[int]) -> Swept:
    """Crash at each of these places, in this process."""
    swept = calm(simulator, seed)
    for place in places:
        swept.add(place, simulator.run(seed, crash_at=place))
    return swept


def whole(seed: int, processes: int, progress: Callable[[Swept], None] = lambda _: None) -> Swept:
    """Crash at every place, on several processes."""
    os.environ["PYTHONHASHSEED"] = "0"
    began, context = time.monotonic(), multiprocessing.get_context("spawn")
    with context.Pool(processes, _begin) as pool:
        swept = pool.apply(_calm, (seed,))
        asked = ((seed, place) for place in range(1, swept.places + 1))
        for place, run in pool.imap_unordered(_one, asked, chunksize=10):
            swept.add(place, run)
            progress(swept)
        pool.close()
        pool.join()
    swept.failures.sort()
    swept.seconds = time.monotonic() - began
    return swept


def _begin() -> None:
    _mine.append(Simulator())
    multiprocessing.util.Finalize(None, _mine[0].close, exitpriority=10)


def _calm(seed: int) -> Swept:
    return calm(_mine[0], seed)


def _one(asked: tuple[int, int]) -> tuple[int, Run]:
    seed, place = asked
    return place, _mine[0].run(seed, crash_at=place)
