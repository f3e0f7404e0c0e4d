"""A slice of `make chaos` on each database: enough to know that the campaign itself works."""

from pathlib import Path

import pytest

from tests.chaos import campaign, report
from tests.support.postgres import Postgres, running

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
async def test_a_slice_of_the_campaign(kind: str, tmp_path: Path) -> None:
    """Killed under load and started again: three books agree, and nothing acknowledged is lost."""
    if kind == "sqlite":
        part = await campaign.run(kind, tmp_path, server=None, seed=1, kills=4, seconds=60)
    else:
        with running() as server:
            part = await slice_of(server, tmp_path)
    assert report.violations([part]) == []
    assert part.deaths.counted >= 4
    assert part.verdict.looked["acknowledged states"] > 0
    assert part.verdict.looked["keys sent again"] > 0


async def slice_of(server: Postgres, home: Path) -> campaign.Part:
    return await campaign.run("postgresql", home, server=server, seed=1, kills=6, seconds=60)
