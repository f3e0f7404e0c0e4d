"""Storms over HTTP: a hundred at once on the same points, the same request, the same seats.

On SQLite, and against two gateways over one PostgreSQL.
"""

import asyncio
import contextlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.catalog.pricing import LegInput
from gateway.db import Database
from gateway.demo import data
from gateway.errors import PartnerRejected
from gateway.members import service as members
from gateway.points import service as points
from gateway.ports import Claim, Partner, Reservation
from gateway.settings import Settings
from gateway.settlement import service as settlement
from tests.integration.conftest import MORNING, Coalition, StillClock
from tests.support import postgres as pg
from tests.support.gateway import Client, Gateway, running
from tests.support.scripted import ScriptedPartner
from tests.support.stands import Stand, standing

LEGS = [{"programme": "P-LL"}]
WHOLE = "redemption { id state legs { points faceFen } offer { id } }"
SEATS, BUYERS, AT_ONCE = 20, 200, 100
TRIES, PRICE = 10, 4_500  # of each of the buyers' twenty members; in points of P-LL
PATIENCE = 300.0  # Seconds: two hundred wait for one another.


class Place:
    """One coalition behind one gateway or two."""

    def __init__(self, coalitions: list[Coalition], gateways: list[Gateway]) -> None:
        self.coalitions = coalitions
        self.gateways = gateways

    @property
    def coalition(self) -> Coalition:
        return self.coalitions[0]

    async def members(self, member_id: str) -> Iterator[Client]:
        """The member's app at each gateway in turn, for ever."""
        return itertools.cycle([await one.member(member_id) for one in self.gateways])

    def calls(self, merchant: str, verb: str) -> int:
        """How often the merchant was asked, by whichever gateway."""
        asked = [call for one in self.coalitions for call in one.partners[merchant].calls]
        return sum(name == verb for name, _ in asked)


@pytest.fixture(params=["sqlite", "two gateways on postgresql"])
def place_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """URL of a new database with the demo coalition, and how many gateways it has."""
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_seeded"), tmp_path / "gateway.db")
        yield f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}", 1
        return
    template = request.getfixturevalue("postgres_seeded")
    with pg.database(request.getfixturevalue("postgres"), template=template) as url:
        yield url, 2


@pytest.fixture
async def place(place_url: tuple[str, int], tmp_path: Path) -> AsyncIterator[Place]:
    """The seeded coalition on 2026-11-20, 09:00; its invariants hold at the end."""
    url, count = place_url
    async with contextlib.AsyncExitStack() as stack:
        coalitions, gateways = [], []
        for number in range(count):
            database = Database(url, wait_seconds=PATIENCE)
            stack.push_async_callback(database.close)
            made = Coalition(database, StillClock(MORNING), Settings())
            home = tmp_path / f"gateway-{number}"
            home.mkdir()
            if number:  # They share the key that guards the others.
                (home / "vault.key").symlink_to(tmp_path / "gateway-0/vault.key")
            serving = running(database, home, clock=made.clock, partners=made.partners)
            coalitions.append(made)
            gateways.append(await stack.enter_async_context(serving))
            gateways[-1].http.timeout = PATIENCE
        yield Place(coalitions, gateways)
        assert await coalitions[0].broken() == []


async def patient(client: Client, mutation: str, wanted: str, **given: Any) -> dict[str, Any]:
    """As a client that does what IDEMPOTENCY_IN_FLIGHT says: again, with the same key."""
    while True:
        payload = await client.do(mutation, wanted, **given)
        codes = [error["code"] for error in payload["errors"]]
        if codes != ["IDEMPOTENCY_IN_FLIGHT"]:
            return payload
        await asyncio.sleep(payload["errors"][0]["context"]["retry_after_seconds"])


def codes(answers: Sequence[dict[str, Any]]) -> Counter[str]:
    return Counter(error["code"] for answer in answers for error in answer["errors"])


async def test_a_hundred_clients_on_the_same_points_get_what_can_be_paid(place: Place) -> None:
    clients = await place.members("mbr_demo_01")  # 20,000 points: four tickets
    answers = await asyncio.gather(
        *(
            patient(next(clients), "redeemOffer", WHOLE, offer="XH-01", legs=LEGS)
            for _ in range(AT_ONCE)
        )
    )
    states = Counter(one["redemption"]["state"] for one in answers if one["redemption"])
    assert states == {"COMMITTED": 4}
    assert codes(answers) == {"INSUFFICIENT_POINTS": AT_ONCE - 4}
    assert await place.coalition.wallet("mbr_demo_01", "P-LL") == (2_000, 0)
    assert place.calls("M05", "confirm") == 4


async def test_a_hundred_duplicates_have_one_effect_and_one_answer(place: Place) -> None:
    clients = await place.members("mbr_demo_01")

    async def storm(mutation: str, **asked: Any) -> dict[str, Any]:
        """All at once under one key; then a few more; the one answer."""
        asked |= {"idempotencyKey": f"{mutation}-once"}
        answers = await asyncio.gather(
            *(patient(next(clients), mutation, WHOLE, **asked) for _ in range(AT_ONCE))
        )
        assert codes(answers) == {}
        assert Counter(one["replayed"] for one in answers) == {False: 1, True: AT_ONCE - 1}
        (first,) = (one["redemption"] for one in answers if not one["replayed"])
        for one in answers:  # The object's present state is part of the answer.
            one["redemption"]["state"] = first["state"]
        assert all(one["redemption"] == first for one in answers)
        after = [await patient(next(clients), mutation, WHOLE, **asked) for _ in range(4)]
        assert all(one["redemption"] == first and one["replayed"] for one in after)
        found: dict[str, Any] = first
        return found

    quote = await next(clients).did("requestQuote", "quote { id }", offer="XH-01", legs=LEGS)
    held = await storm("holdRedemption", quote=quote["quote"]["id"])
    assert held["state"] == "HELD"
    assert (await storm("confirmRedemption", redemption=held["id"]))["state"] == "COMMITTED"
    assert (place.calls("M05", "hold"), place.calls("M05", "confirm")) == (1, 1)
    assert await place.coalition.wallet("mbr_demo_01", "P-LL") == (20_000 - 4_500, 0)


class Hall(ScriptedPartner):
    """A cinema with so many seats, whichever gateway asks."""

    seats = 0

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Sequence[Claim]
    ) -> Reservation:
        if Hall.seats == 0:
            self.script["hold"].append("reject")
        else:
            Hall.seats -= 1
        return await super().hold(quote_id, op_key=op_key, ttl_seconds=ttl_seconds, claims=claims)


async def crowd(coalition: Coalition, count: int, tickets: int) -> list[str]:
    """Members with the points of so many tickets each."""
    names = [f"mbr_crowd_{number:03}" for number in range(count)]
    pair = {"purpose": "partner_pair", "issuer": "M04", "redeemer": "M05"}
    async with coalition.database.transaction() as tx:
        cover = {"collateral_fen": 10**9, "net_debit_cap_fen": 10**9}
        await settlement.set_cover(tx, merchant_id="M04", **cover)
        for name in names:
            await members.register(
                tx,
                member_id=name,
                name_zh="众",
                city="上海",
                consents=[{"purpose": "service"}, pair],
                now=MORNING,
            )
            await points.open_lot(
                tx,
                member_id=name,
                programme_id="P-LL",
                points=tickets * PRICE,
                earned_on=date(2026, 6, 1),
                basis="PURCHASE",
                ref=name,
                expires_at=None,
                now=MORNING,
            )
    return names


async def test_twenty_members_try_ten_times_each_for_twenty_seats(place: Place) -> None:
    Hall.seats = SEATS
    for one in place.coalitions:
        known = one.partners["M05"]
        one.partners["M05"] = Hall("M05", known.prices, one.clock.now)
    names = await crowd(place.coalition, BUYERS // TRIES, TRIES)
    turn = itertools.cycle(place.coalitions)

    async def buy(name: str, number: int) -> tuple[str, str]:
        """Below HTTP: a member's own tries meet each other, too."""
        legs = [LegInput("P-LL", None)]
        given = {"slot": None, "quantity": 1, "bill_fen": None, "cash_fen": None}
        try:
            made, _ = await next(turn).redemptions.redeem(
                member_id=name, offer_id="XH-01", legs=legs, key=f"seat-{number}", **given
            )
        except PartnerRejected as refusal:
            return name, refusal.code
        return name, str(made.state)

    outcomes = await asyncio.gather(
        *(buy(name, number) for number in range(TRIES) for name in names)
    )
    assert Counter(code for _, code in outcomes) == {"COMMITTED": SEATS, "SOLD_OUT": BUYERS - SEATS}
    seats = Counter(name for name, code in outcomes if code == "COMMITTED")
    for name in names:
        left = (TRIES - seats[name]) * PRICE
        assert await place.coalition.wallet(name, "P-LL") == (left, 0)


@contextlib.asynccontextmanager
async def cinema(place: Place, folder: Path) -> AsyncIterator[Stand]:
    """The cinema's own stand-in, with twenty seats a show, behind whichever gateway."""
    rows = data.catalog()
    async with standing(
        "cinemas",
        folder,
        merchant="M05",
        now=MORNING,
        offers=[row for row in rows["offers"] if row["id"] == "XH-01"],
        slots={"shows": rows["slots"]["shows"] | {"capacity": SEATS}},
    ) as stand:
        for one in place.coalitions:
            cast(dict[str, Partner], one.partners)["M05"] = stand.partner
        yield stand


@pytest.mark.parametrize(
    "place_url",
    ["sqlite", pytest.param("two gateways on postgresql", marks=pytest.mark.campaign)],
    indirect=True,
)
async def test_two_hundred_members_at_a_cinema_with_twenty_seats(
    place: Place, tmp_path: Path
) -> None:
    names = await crowd(place.coalition, BUYERS, 1)
    gateways = itertools.cycle(place.gateways)
    clients = [await next(gateways).member(name) for name in names]
    show = {"offer": "XH-01", "legs": LEGS, "slot": "2026-11-20T19:40:00+08:00"}
    async with cinema(place, tmp_path / "cinema") as stand:
        answers = await asyncio.gather(
            *(patient(each, "redeemOffer", WHOLE, **show) for each in clients)
        )
        theirs = (await stand.control.get("/merchants/M05/bookings")).json()
    bought = [one["redemption"] for one in answers if one["redemption"]]
    assert Counter(one["state"] for one in bought) == {"COMMITTED": SEATS}
    assert codes(answers) == {"SLOT_FULL": BUYERS - SEATS}
    sold = {row["gateway_ref"] for row in theirs["bookings"]}
    assert sold == {one["id"] for one in bought}
    assert Counter(row["state"] for row in theirs["bookings"]) == {"CONFIRMED": SEATS}
    seats = [seat for row in theirs["holds"] if row["state"] != "FENCED" for seat in units(row)]
    assert sorted(seats) == list(range(1, SEATS + 1))
    assert [row["left_"] for row in theirs["slots"] if row["slot"] == show["slot"]] == [0]
    for name, one in zip(names, answers, strict=True):
        left = PRICE if one["errors"] else 0
        assert await place.coalition.wallet(name, "P-LL") == (left, 0)


def units(row: dict[str, Any]) -> list[int]:
    """The numbers of the seats a hold has."""
    found: list[int] = json.loads(row["units"]) if isinstance(row["units"], str) else row["units"]
    return found
