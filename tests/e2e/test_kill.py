"""Kill -9 at every point of a partner call, in every process: both sides agree in the end.

A killed process is started again; the client repeats its request with the same key, the worker
does what is due. What has to hold then is in `settled`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from gateway.demo.clients import Unexpected
from tests.support import box as boxes
from tests.support.box import Box

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

POINTS = ("before_call", "after_call", "stored")
STEPS = ("hold", "confirm", "cancel")
LIVE = ("PENDING", "CONFIRMED", "FULFILLED")


@dataclass(frozen=True)
class Buy:
    """What is bought, by whom, with what: a merchant of each way of integrating."""

    merchant: str
    offer: str
    member: str
    legs: tuple[dict[str, Any], ...]


POPCORN = Buy("M05", "XH-03", "mbr_demo_02", ({"programme": "P-LL"},))
TEA = Buy("M06", "CW-01", "mbr_demo_15", ({"programme": "P-LL", "points": 600}, {"programme": "P-CW"}))
BREAKFAST = Buy("M03", "YQ-04", "mbr_demo_10", ({"programme": "P-YQ"},))
COUPON = Buy("M07", "KX-01", "mbr_demo_07", ({"programme": "P-LL"},))
BUYS = dict(zip(POINTS, (POPCORN, TEA, BREAKFAST), strict=True))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sqlite_box(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    async with boxes.running(tmp_path_factory.mktemp("sandbox")) as box:
        yield box


@dataclass
class Story:
    """One purchase, by a client that repeats what is not answered."""

    box: Box
    buy: Buy
    before: dict[str, int] = field(default_factory=dict)
    id: str = ""
    cancel_quote: str = ""

    @property
    def client(self) -> Any:
        return self.box.member(self.buy.member)

    @classmethod
    async def begin(cls, box: Box, buy: Buy) -> "Story":
        """Look into the wallet first."""
        story = cls(box, buy)
        story.before = await story.wallets()
        return story

    async def wallets(self) -> dict[str, int]:
        text = "{ me { wallets { programme { id } available held } } }"
        rows = (await self.client.query(text))["me"]["wallets"]
        assert all(row["held"] == 0 for row in rows), rows
        return {row["programme"]["id"]: row["available"] for row in rows}

    async def ask(self, mutation: str, **given: Any) -> dict[str, Any]:
        """Ask once; errors of the transport and refusals are raised."""
        return await self.client.did(mutation, "redemption { id state }", **given)

    async def quote(self) -> str:
        asked = {"offer": self.buy.offer, "legs": list(self.buy.legs)}
        return (await self.client.did("requestQuote", "quote { id }", **asked))["quote"]["id"]
