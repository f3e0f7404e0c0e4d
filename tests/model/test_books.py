"""The services beside the reference model: after every step both have the same books.

Goal: no order of earning, holding, burning, reversing, returning, expiring and settling makes
ledger, lots, holds, cover or positions differ from a model a person can read in one sitting.
Method: a Hypothesis state machine, on both databases; each example is one transaction that is
rolled back at its end, each step a savepoint in it. The default run is always the same; the
campaign is seeded afresh, and a failure prints a `@reproduce_failure` to put above `Machine`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.db import Database
from gateway.settlement.model import Fault
from tests.model import planted
from tests.model.beside import World
from tests.model.machine import Machine

LOG = logging.getLogger(__name__)  # pytest --log-cli-level=INFO shows what happened.
MUST_HAPPEN = {
    "adjust",
    "adjust: cleared before",
    "another lot",
    "burn",
    "debt",
    "debt paid",
    "earn: consumed",
    "earn: pending",
    "expire",
    "fulfil",
    "hold: AGREEMENT_CAP",
    "hold: COVER_EXCEEDED",
    "hold: INSUFFICIENT_POINTS",
    "hold: None",  # not refused
    "hold: several legs",
    "hold: several lots",
    "mature",
    "payments",
    "release",
    "release: several lots",
    "return: in part",
    "return: of a lot",
    "return: pending",
    "reverse: adjusted before",
    "reverse: settled before",
    *(f"reverse: {fault}" for fault in Fault),
}
EXAMPLES = {"sqlite": 16, "postgresql": 12}  # of the default run: some seconds each


@pytest.fixture
def bound(database_url: str) -> Iterator[type[Machine]]:
    """The machine, beside services on a real database."""
    with asyncio.Runner() as runner:
        database = Database(database_url)
        yield type("BoundMachine", (Machine,), {"world": World(database, runner)})
        runner.run(database.close())


def explore(machine: type[Machine], options: settings) -> Counter[str]:
    """Run examples; returns what happened in them."""
    steps = settings(
        options,
        stateful_step_count=40,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=steps)
    LOG.info("happened: %s", sorted(machine.world.seen.items()))
    return +machine.world.seen


def test_the_services_keep_the_books_of_the_model(bound: type[Machine], database_url: str) -> None:
    examples = EXAMPLES[database_url.partition("+")[0]]
    seen = explore(bound, settings(max_examples=examples, derandomize=True))
    assert not (never := MUST_HAPPEN - set(seen)), f"never happened: {never}"


@pytest.mark.campaign
def test_the_services_keep_the_books_of_the_model_for_long(bound: type[Machine]) -> None:
    seen = explore(bound, settings(max_examples=150, derandomize=False, print_blob=True))
    assert not (never := MUST_HAPPEN - set(seen)), f"never happened: {never}"


@pytest.mark.campaign
@pytest.mark.parametrize("fault", planted.FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(
    bound: type[Machine], fault: planted.Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    options = settings(max_examples=100, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(planted.NOTICED):
        explore(bound, options)
    LOG.info("%s: found after %s acts", fault.__name__, bound.world.seen["acts"])
