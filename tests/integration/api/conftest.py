"""A gateway over HTTP on the seeded coalition, on each kind of database."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.integration.conftest import Coalition
from tests.support.gateway import Gateway, running

WEBHOOK_SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBjaW5lbWE="


@pytest.fixture
async def gateway(coalition: Coalition, tmp_path: Path) -> AsyncIterator[Gateway]:
    """2026-11-20, 09:00; every merchant's system is a scripted partner."""
    async with running(
        coalition.database,
        tmp_path,
        clock=coalition.clock,
        partners=coalition.partners,
        connections={"M05": SimpleNamespace(webhook_secret=WEBHOOK_SECRET)},
    ) as made:
        yield made
