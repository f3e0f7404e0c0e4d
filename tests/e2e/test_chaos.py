"""A slice of `make chaos` on each database: enough to know that the campaign itself works."""

import contextlib
from pathlib import Path

import pytest

from tests.chaos import campaign, report
from tests.support.postgres import running

pytestmark = [pytest.mark.slow, pytest.mark.campaign]


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
async def test_a_slice_of_the_campaign(kind: str, tmp_path: Path) -> None:
    """Killed under load and started again: three books agree, and nothing acknowledged is lost."""
    part = campaign.Part(kind, tmp_path)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running()) if kind == "postgresql" else None
        await campaign.run(part, server=server, seed=1, kills=4, seconds=60)
    assert part.verdict
    assert report.violations([part]) == []
    assert part.deaths.counted >= 4
    assert part.verdict.looked["acknowledged states"] > 0
    assert part.verdict.looked["keys sent again"] > 0
