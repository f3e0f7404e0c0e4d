"""A slice of the load command, and SIGTERM under load, on processes of their own."""

from pathlib import Path

import pytest

from tests.load import mixed, redemptions, stopping
from tests.load.place import stand
from tests.support.postgres import Postgres

GUARDS = ("settlement_cover ", "settlement_agreement_usage ", "ledger_balances HUB RSV:")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("at_once", "statements"), [(False, 8), pytest.param(True, 6, marks=pytest.mark.campaign)]
)
async def test_a_slice_of_the_load_commits_everything(
    tmp_path: Path, at_once: bool, statements: int
) -> None:
    asked = redemptions.Asked(seconds=3, clients=4, floor_seconds=1, at_once=at_once)
    with redemptions.bars(quiet=True) as progress:
        found = await redemptions.run(tmp_path, asked, progress)
    assert found["errors"] == {}
    assert found["broken_invariants"] == []
    assert found["committed"] > 0
    assert found["floor"]["transactions"] == 2
    assert 3 < found["statements"] <= statements
    # Sinks and positions, which a whole coalition shares, are sums of lines and no rows; only
    # the guards are rows: what an issuer is covered for, and what an agreement has used.
    for row in found["shared_rows"]:
        assert row.startswith(GUARDS), row


async def test_sigterm_under_load_loses_nothing_and_leaves_no_doubt(
    tmp_path: Path, postgres: Postgres
) -> None:
    async with stand(postgres, tmp_path, clients=6) as here:
        found = await stopping.run(here, stops=1, seconds=1.0)
        assert found.bad() == []
        assert await here.broken() == []


async def test_a_slice_of_everything_at_once_has_no_deadlock(tmp_path: Path) -> None:
    asked = mixed.Asked(seconds=3, clients=6)
    with redemptions.bars(quiet=True) as progress:
        found = await mixed.run(tmp_path, asked, progress)
    assert found["unexpected"] == {}
    assert found["deadlocks"] == 0
    assert found["broken_invariants"] == []
    assert found["redemptions"].get("COMMITTED", 0) > 0
