"""How many SQL statements each operation takes over HTTP: everything between call and answer."""

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from gateway.db import Database
from gateway.oauth.scopes import Role
from tests.bench import place, served
from tests.support.gateway import Client, Gateway, running

MEMBER, TICKET, PROGRAMME = "mbr_demo_01", "XH-01", "P-LL"
_REDEMPTION = "redemption { id state }"
_RARE = ("oauth_", "clock_offset")  # Read once a second, whatever the number of requests.


async def run(path: Path) -> dict[str, int]:
    """The counts on the benchmark's database."""
    async with place.opened(place.url(path)) as database:
        return await counted(database, path.parent)


async def counted(database: Database, home: Path) -> dict[str, int]:
    """The counts on such a database; the gateway's keys are kept in `home`."""
    made = place.coalition(database)
    async with running(database, home, clock=made.clock, partners=made.partners) as gateway:
        return await count(gateway)


async def count(gateway: Gateway) -> dict[str, int]:
    """Statements by operation, each done once before so that what is read once has been read."""
    await _Day(gateway, "first").play()
    day = _Day(gateway, "second")
    await day.play()
    return day.counts


class _Day:
    """Every operation once."""

    def __init__(self, gateway: Gateway, name: str) -> None:
        self.gateway = gateway
        self.name = name
        self.counts: dict[str, int] = {}

    async def play(self) -> None:
        member = await self.gateway.member(MEMBER)
        page = {"first": 20, "programmes": list(place.ISSUERS.values())}
        await self.counted("catalog page of 20 offers", member.data(served.PAGE, **page))
        bought = await self.buy(member)
        cinema = await self.gateway.merchant("M05")
        fulfilled = cinema.did("recordFulfilment", _REDEMPTION, redemption=bought)
        await self.counted("recordFulfilment", fulfilled)
        await self.cancel(member)
        legs = [{"programme": PROGRAMME}]
        redeemed = member.did("redeemOffer", _REDEMPTION, offer=TICKET, legs=legs)
        await self.counted("redeemOffer", redeemed)
        await self.rest(member)

    async def counted(self, name: str, act: Awaitable[Any]) -> Any:
        with self.gateway.counting() as statements:
            found = await act
        self.counts[name] = sum(not any(word in text for word in _RARE) for text in statements)
        return found

    async def buy(self, member: Client) -> str:
        """Quote, hold and confirm a ticket."""
        legs = [{"programme": PROGRAMME}]
        quoted = member.did("requestQuote", "quote { id }", offer=TICKET, legs=legs)
        quote = (await self.counted("requestQuote", quoted))["quote"]["id"]
        held = member.did("holdRedemption", _REDEMPTION, quote=quote)
        redemption: str = (await self.counted("holdRedemption", held))["redemption"]["id"]
        confirmed = member.did("confirmRedemption", _REDEMPTION, redemption=redemption)
        await self.counted("confirmRedemption", confirmed)
        return redemption

    async def cancel(self, member: Client) -> None:
        """Cancel another ticket in two steps."""
        redemption = await self.buy(member)
        asked = member.did("requestCancellation", "cancelQuote { id }", redemption=redemption)
        quote = (await self.counted("requestCancellation", asked))["cancelQuote"]["id"]
        cancelled = member.did(
            "cancelRedemption", _REDEMPTION, redemption=redemption, cancelQuote=quote
        )
        await self.counted("cancelRedemption", cancelled)

    async def rest(self, member: Client) -> None:
        """Earn, donate, close the window."""
        shop = await self.gateway.merchant("M04")
        finance = await self.gateway.staff(Role.FINANCE, "usr_fin_maker")
        earned = shop.did(
            "recordEarnEvent",
            "earning { id }",
            member=MEMBER,
            order=f"bench-{self.name}",
            consumed=True,
            cashFen=10_000,
        )
        await self.counted("recordEarnEvent", earned)
        donated = member.did(
            "donatePoints", "donation { id }", beneficiary="M16", programme=PROGRAMME, points=100
        )
        await self.counted("donatePoints", donated)
        windows = "{ settlementWindows(first: 100) { edges { node { id state } } } }"
        found = (await finance.data(windows))["settlementWindows"]["edges"]
        names = [edge["node"]["id"] for edge in found if edge["node"]["state"] == "OPEN"]
        named = {"window": names[0]} if names else {}  # The second time, of a week to come.
        closed = finance.did("closeSettlementWindow", "window { id state }", **named)
        await self.counted("closeSettlementWindow", closed)
