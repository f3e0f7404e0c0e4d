"""Subgraphs that answer late, in any order, or not at all; many operations at once."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

from gateway.federation.services import Answer, ServiceFailure, SubgraphRequest
from tests.federation.differential import Comparison, Difference, questions
from tests.federation.harness.cases import Federation
from tests.federation.harness.gateway import Gateway, InProcess
from tests.federation.harness.subgraph import Subgraph

AT_ONCE = 8


class Late(InProcess):
    """A service whose answers come in any order; `failing` is the share that never comes."""

    def __init__(self, subgraph: Subgraph, rng: random.Random, failing: float) -> None:
        super().__init__(subgraph)
        self._rng, self._failing = rng, failing

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """Ask it, sometime."""
        for _ in range(self._rng.randint(0, 6)):
            await asyncio.sleep(0)
        if self._rng.random() < self._failing:
            if self._rng.random() < 0.5:
                raise ServiceFailure("SUBGRAPH_UNREACHABLE", "nobody is there")
            return Answer.of({"errors": [{"message": "out of order"}], "data": None})
        return await super().fetch(request)


async def complaints(
    federation: Federation, count: int, seed: int, failing: float
) -> list[Difference]:
    """What is wrong with answers to `count` operations, some of them asked at the same time."""
    comparison = Comparison(federation)
    rng = random.Random(f"{federation.name} {seed}")
    services = {name: Late(one, rng, failing) for name, one in comparison.running.subgraphs.items()}
    gateway = Gateway(comparison.running, services=services)
    asked = list(questions(comparison, count, seed))
    found: list[Difference] = []
    for start in range(0, len(asked), AT_ONCE):
        batch = asked[start : start + AT_ONCE]
        answers = await asyncio.gather(*(gateway.answer(*one) for one in batch))
        for (query, variables), answer in zip(batch, answers, strict=True):
            truth = comparison.running.monolith.answer(query, variables, valid=True)["data"]
            wrong = [*_blamed(comparison.running.log.wrong, failing), *_wrong(answer, truth)]
            if wrong:
                found.append(Difference(federation.name, query, variables, "; ".join(wrong)))
            comparison.running.log.wrong.clear()
    return found


def _blamed(wrong: list[str], failing: float) -> list[str]:
    """Wrong calls; what could not be fetched may be sent as null where it is required."""
    return [one for one in wrong if not (failing and "None was sent" in one)]


def _wrong(answer: dict[str, Any], truth: Any) -> Iterator[str]:
    """Data may be null where there is an error at, above or below it; what is not null is true."""
    errors = answer.get("errors", [])
    if "data" not in answer:
        yield f"refused: {errors}"
        return
    for path, what in _differences(answer["data"], truth, ()):
        if what != "null":
            yield f"{path}: {what}"
        elif not any(_related(path, tuple(error.get("path", ()))) for error in errors):
            yield f"{path} is null, and no error says why: {errors}"
    for error in errors:
        if not error.get("message") or not error.get("extensions"):
            yield f"an error that says little: {error}"


def _related(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))


def _differences(data: Any, truth: Any, path: tuple[str | int, ...]) -> Iterator[tuple[Any, str]]:
    if data is None:
        if truth is not None:
            yield path, "null"
    elif isinstance(data, dict) and isinstance(truth, dict) and data.keys() == truth.keys():
        for key, value in data.items():
            yield from _differences(value, truth[key], (*path, key))
    elif isinstance(data, list) and isinstance(truth, list) and len(data) == len(truth):
        for index, value in enumerate(data):
            yield from _differences(value, truth[index], (*path, index))
    elif data != truth or isinstance(data, dict | list):
        yield path, f"{data!r} for {truth!r}"
