"""Random operations over the federations beside a monolith: slices, and the campaigns.

`python -m tests.federation --random 250 --seed 3` runs any number, and shows every difference as
small as it can be made; `--invented 100` does so over federations made up by chance.
"""

import pytest

from tests.federation.differential import campaign, federations
from tests.federation.harness.cases import Federation
from tests.federation.inventing import composed
from tests.federation.unreliable import complaints

FEDERATIONS = federations()
BY_NAME = {one.name: one for one in FEDERATIONS}
TRUE = [one for one in FEDERATIONS if one.name not in {"errors-and-partial-data", "subscriptions"}]
SLICE = ["many-paths", "interface-entities", "simple-requires-provides", "requires-circular"]


@pytest.mark.parametrize("federation", FEDERATIONS, ids=lambda one: one.name)
async def test_random_operations_are_answered_as_by_one_schema(federation: Federation) -> None:
    figures = await campaign([federation], 4, start=1)
    assert [str(one) for one in figures.differences] == []


async def test_random_operations_over_random_federations() -> None:
    chosen = composed(range(8))
    assert len(chosen) >= 5
    figures = await campaign(chosen, 4, start=1)
    assert [str(one) for one in figures.differences] == []


@pytest.mark.parametrize("name", SLICE)
@pytest.mark.parametrize("failing", [0, 0.2], ids=["late", "failing"])
async def test_answers_in_any_order_or_none(name: str, failing: float) -> None:
    found = await complaints(BY_NAME[name], 16, 1, failing)
    assert [str(one) for one in found] == []


@pytest.mark.campaign
async def test_ten_thousand_random_operations_over_all_federations() -> None:
    assert len(FEDERATIONS) >= 6
    figures = await campaign(FEDERATIONS, 10_000 // len(FEDERATIONS) + 1, start=2)
    assert [str(one) for one in figures.differences] == []
    assert figures.queries >= 10_000


@pytest.mark.campaign
async def test_three_hundred_random_federations() -> None:
    figures = await campaign(composed(range(1_000, 1_300)), 10, start=3)
    assert [str(one) for one in figures.differences] == []


@pytest.mark.campaign
@pytest.mark.parametrize("failing", [0, 0.2, 0.6])
async def test_all_federations_under_failures(failing: float) -> None:
    found = [str(o) for one in TRUE for o in await complaints(one, 48, 4, failing)]
    assert found == []
