"""Random operations over the federations beside a monolith: a slice, and the campaign.

`python -m tests.federation random --count 250 --seed 3` runs any number, and shows every
difference as small as it can be made.
"""

import pytest

from tests.federation.differential import campaign, federations

FEDERATIONS = federations()


@pytest.mark.parametrize("federation", FEDERATIONS, ids=lambda one: one.name)
async def test_random_operations_are_answered_as_by_one_schema(federation) -> None:
    figures = await campaign([federation], 6, start=1)
    assert [str(one) for one in figures.differences] == []


@pytest.mark.campaign
async def test_ten_thousand_random_operations_over_all_federations() -> None:
    assert len(FEDERATIONS) >= 6
    figures = await campaign(FEDERATIONS, 10_000 // len(FEDERATIONS) + 1, start=2)
    assert [str(one) for one in figures.differences] == []
    assert figures.queries >= 10_000
