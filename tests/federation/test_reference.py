"""The compiled executor beside the simple interpreter of plans: the same data for every case."""

import pytest

from tests.federation import reference, suites
from tests.federation.harness.cases import Case, Federation
from tests.federation.harness.gateway import Gateway
from tests.federation.harness.running import Running


@pytest.mark.parametrize("federation", suites.load().values(), ids=lambda one: one.name)
async def test_the_executor_does_what_the_plan_says(federation: Federation) -> None:
    differing = []
    for case in _planned(federation):
        running, other = Running(federation), Running(federation)
        answer = await Gateway(running, case.labels).answer_case(case)
        said = reference.data_of(other, case)
        texts = sorted(request.query for request in running.log.requests)
        if answer["data"] != said:
            differing.append(f"{case.name}: {answer['data']}, the plan says {said}")
        if texts != sorted(request.query for request in other.log.requests):
            differing.append(f"{case.name}: other requests: {texts}")
    assert differing == []


def _planned(federation: Federation) -> list[Case]:
    """Cases with a plan: neither refused, nor impossible, nor about introspection alone."""
    return [case for case in federation.cases if not case.refused and case.requests]
