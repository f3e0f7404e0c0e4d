"""A slice of the simulation, and that it repeats itself and can fail."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation import mutants, sweep
from tests.simulation.engine import TEMPLATE, Simulator
from tests.simulation.planted_faults import MUTANTS
from tests.simulation.situations import SOMETIMES, missing

ROOT = Path(__file__).parents[2]
SLICE, PART = 30, 15
SWEPT, EVERY = 14, 13  # a seed, and which of its places
CHEAP = ("released without asking the partner", "cover is not released", "void on timeout")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    made = Simulator()
    yield made
    made.close()


@pytest.mark.parametrize("first", range(1, SLICE + 1, PART))
def test_nothing_is_lost_whatever_fails(simulator: Simulator, first: int) -> None:
    runs = [simulator.run(seed) for seed in range(first, first + PART)]
    failed = {run.seed: run.problems for run in runs if run.problems}
    for seed in failed:
        again = simulator.run(seed, traced=True)
        print(f"seed {seed}, the last lines:", *again.trace[-200:], sep="\n")  # noqa: T201 - for whoever reads the failure
    assert failed == {}
    assert sum(run.io_points for run in runs) > 5_000


def test_one_crash_anywhere_loses_nothing(simulator: Simulator) -> None:
    swept = sweep.each(simulator, SWEPT, range(EVERY, 200, EVERY))
    assert swept.failures == []
    assert swept.places > 200
    assert swept.crashes == swept.runs > 10


def test_a_seed_repeats_itself_in_another_process(simulator: Simulator) -> None:
    here = simulator.run(7, traced=True)
    again = simulator.run(7, traced=True)
    assert here.trace == again.trace
    there = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", "7"],
        cwd=ROOT,
        env=os.environ | {TEMPLATE: str(simulator.template)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"digest {here.digest}" in there.stdout


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_fits_the_source(mutant: mutants.Mutant) -> None:
    assert mutant.apply(mutant.source()) != mutant.source()


@pytest.mark.parametrize("name", CHEAP)
def test_a_planted_fault_is_found(
    simulator: Simulator, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TEMPLATE, str(simulator.template))
    found = mutants.hunt(mutants.named(name))
    assert found.seed is not None
    assert found.problem


def test_there_are_faults_enough() -> None:
    assert len({mutant.name for mutant in MUTANTS}) >= 15
    assert set(missing(Counter())) == set(SOMETIMES)
