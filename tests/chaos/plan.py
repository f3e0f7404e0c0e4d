"""Who lives how long, and where it dies: a sequence for each process, from the seed alone."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CALLS = ("hold", "confirm", "cancel", "fence")
POINTS = ("before_call", "after_call", "stored")
IN_CALLS = tuple(f"{verb}:{point}" for verb in CALLS for point in POINTS)
OF_GATEWAY = (*IN_CALLS, "event:stored", "event:applied")
OF_WORKER = (*IN_CALLS, *(f"{what}:{point}" for what in ("webhook", "job") for point in POINTS))
PATIENCE_SECONDS = 2.0  # for a failpoint to be reached; then the process is killed where it is


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a process, from the moment it is ready.

    Args:
        seconds: Until it is killed, if it has not died before.
        failpoint: Where it kills itself; empty: nowhere.
        whole: Of PostgreSQL: the whole server is killed, and not one backend alone.
    """

    seconds: float
    failpoint: str = ""
    whole: bool = True


def lives(seed: int, name: str, *, mean_seconds: float) -> Iterator[Life]:
    """All lives of one process; every other of ours ends at a failpoint, each in turn."""
    chance = random.Random(f"{seed}:{name}")
    points = _shuffled(chance, OF_GATEWAY if name.startswith("gateway") else OF_WORKER)
    number = 0
    while True:
        seconds = min(chance.expovariate(1 / mean_seconds), 4 * mean_seconds)
        if name in ("postgresql", "partners"):
            yield Life(seconds, whole=chance.random() < 0.5)
            continue
        number += 1
        if number % 2:
            yield Life(seconds)
        else:
            yield Life(PATIENCE_SECONDS, failpoint=points[number // 2 % len(points)])


def _shuffled(chance: random.Random, points: Sequence[str]) -> list[str]:
    return chance.sample(points, len(points))
