"""Every case's plan is the one that was read and kept.

Goal: a change of plans is seen as a change of plans, also where answers and counts stay the same.
Method: `tests/federation/plans` holds each plan as text; `python -m tests.federation
--write-plans` writes them, and the diff is reviewed.
"""

import pytest

from tests.federation import suites
from tests.federation.harness.cases import Federation
from tests.federation.snapshots import FOLDER, kept, snapshot

FEDERATIONS = suites.load()


@pytest.mark.parametrize("federation", FEDERATIONS.values(), ids=lambda one: one.name)
def test_plans_are_the_kept_ones(federation: Federation) -> None:
    expected = kept(federation).read_text("utf-8") if kept(federation).exists() else ""
    assert snapshot(federation) == expected


def test_no_plan_is_kept_of_what_is_gone() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} <= set(FEDERATIONS)
