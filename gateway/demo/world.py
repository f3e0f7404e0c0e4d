"""What every part of the play shares: the clients, the business clock, ways to look and wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from gateway.demo.clients import (
    PATIENCE,
    STAFF_CONSOLE,
    Caller,
    MemberApp,
    Merchant,
    Person,
    Unexpected,
    Wire,
)
from gateway.demo.data import catalog
from gateway.demo.install import Install
from gateway.demo.show import Show
from partners.simulators.remote import Control

T = TypeVar("T")
REDEMPTION = (
    "id state slot quantity listFen cashFen finalFareFen savedFen bookingRef since nextCheckAt"
    " offer { nameZh } voucher { code holder }"
    " legs { legNo points faceFen own agreement settlementFen feeFen returnedPoints"
    " programme { id } }"
)
_OBLIGATIONS = """query($after: String, $cause: ID, $day: Date, $window: ID) {
  obligations(filter: {cause: $cause, day: $day, window: $window}, first: 100, after: $after) {
    edges { node { id type cause payer payee amountFen statementFen corrects window state
                   businessDate } }
    pageInfo { hasNextPage endCursor } } }"""


class World:
    """The running demo as its outside clients see it.

    Args:
        expected: The demo day's document: what is played, and what must come of it.
    """

    def __init__(self, show: Show, wire: Wire, made: Install, expected: Mapping[str, Any]) -> None:
        self.show = show
        self.wire = wire
        self.made = made
        self.expected = expected
        self.control = Control(*made.control())
        self.names = {row["id"]: row["name_zh"] for row in catalog()["merchants"]}
        self.units = {row["id"]: row["unit_zh"] for row in catalog()["programmes"]}
        self.offers = {row["id"]: row["name_zh"] for row in catalog()["offers"]}
        self.slotted = {row["id"]: bool(row.get("slots")) for row in catalog()["offers"]}
        self._people: dict[str, Person] = {}
        self._merchants: dict[str, Merchant] = {}

    async def aclose(self) -> None:
        await self.control.aclose()

    # -- who --------------------------------------------------------------------------------------

    def member(self, member_id: str) -> MemberApp:
        """A member's app."""
        made = self._people.get(member_id)
        if made is None:
            made = MemberApp(self.wire, login=member_id, password=self.made.password)
            self._people[member_id] = made
        assert isinstance(made, MemberApp)
        return made

    def staff(self, login: str) -> Person:
        """Somebody of the operator's or of finance's staff."""
        if login not in self._people:
            self._people[login] = Person(
                self.wire, login=login, password=self.made.password, client_id=STAFF_CONSOLE
            )
        return self._people[login]

    @property
    def operator(self) -> Person:
        return self.staff("usr_operator")

    @property
    def finance(self) -> Person:
        return self.staff("usr_fin_maker")

    def merchant(self, merchant_id: str, key: Mapping[str, Any] | None = None) -> Merchant:
        """A merchant's own system."""
        if merchant_id not in self._merchants:
            own = key or self.made.merchant_key(merchant_id)
            self._merchants[merchant_id] = Merchant(self.wire, merchant_id=merchant_id, key=own)
        return self._merchants[merchant_id]

    def anonymous(self) -> Caller:
        """Somebody without a token."""
        return Caller(self.wire)

    async def log_in(self, logins: Sequence[str], *, at_once: int = 4) -> None:
        """Have these people log in, a few at a time."""
        places = asyncio.Semaphore(at_once)

        async def one(login: str) -> None:
            person = self.staff(login) if login.startswith("usr_") else self.member(login)
            async with places:
                await person.log_in()

        await asyncio.gather(*(one(login) for login in logins))

    # -- time -------------------------------------------------------------------------------------

    async def clock(self, at: datetime | str) -> datetime:
        """Set the sandbox's business clock, for every process."""
        instant = datetime.fromisoformat(at) if isinstance(at, str) else at
        await self.operator.did("setSandboxClock", "now", at=instant.isoformat())
        return instant

    async def until(
        self, look: Callable[[], Awaitable[T]], done: Callable[[T], bool], what: str
    ) -> T:
        """Look again until it is as wanted.

        Raises:
            Unexpected: It is not, in time.
        """
        began, pause = time.monotonic(), 0.02
        while not done(found := await look()):
            if time.monotonic() - began > PATIENCE:
                raise Unexpected(f"{what}: still {found}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        return found

    # -- redemptions ------------------------------------------------------------------------------

    async def slot(self, member: MemberApp, offer: str, now: datetime) -> str | None:
        """The first slot the partner sells now; None for an offer without slots."""
        if not self.slotted[offer]:
            return None
        text = "query($id: ID!) { offer(id: $id) { live { slots { id startsAt left } } } }"
        found = (await member.query(text, id=offer))["offer"]["live"]
        for slot in found["slots"] if found else ():
            if slot["left"] > 0 and datetime.fromisoformat(slot["startsAt"]) > now:
                return str(slot["id"])
        raise Unexpected(f"{offer}: no slot left: {found}")

    async def redemption(self, member: MemberApp, redemption_id: str) -> dict[str, Any]:
        """One of the member's redemptions."""
        text = f"query($id: ID!) {{ redemption(id: $id) {{ {REDEMPTION} }} }}"
        found: dict[str, Any] = (await member.query(text, id=redemption_id))["redemption"]
        return found

    async def reaches(self, member: MemberApp, redemption_id: str, *states: str) -> dict[str, Any]:
        """Wait until a redemption is in one of these states."""
        return await self.until(
            lambda: self.redemption(member, redemption_id),
            lambda row: row["state"] in states,
            f"{redemption_id} {states}",
        )

    async def obligations(self, **filter: str) -> list[dict[str, Any]]:
        """Obligations as finance sees them: of a cause, a day or a window."""
        return await self.finance.rows(_OBLIGATIONS, "obligations", **filter)

    async def claims(self, cause: str, like: Sequence[list[Any]] = ()) -> list[list[Any]]:
        """A cause's obligations as [type, payer, payee, fen]; in the order of `like`."""
        rows = await self.obligations(cause=cause)
        found = [[row["type"], row["payer"], row["payee"], row["amountFen"]] for row in rows]
        return sorted(found, key=lambda row: like.index(row) if row in like else len(like))

    async def journals(self, cause: str) -> list[dict[str, Any]]:
        """A cause's journals, newest first."""
        text = (
            "query($cause: ID!) { journals(filter: {cause: $cause}, first: 100) { edges { node {"
            " id kind opKey lines { book account amount } } } } }"
        )
        found = (await self.finance.query(text, cause=cause))["journals"]["edges"]
        return [edge["node"] for edge in found]

    async def delivered(self, merchant_id: str) -> None:
        """Wait until the merchant's system has delivered all its webhooks."""

        async def waiting() -> int:
            events = (await self.control.state(merchant_id))["events"]
            return sum(event["done"] is None for event in events)

        await self.until(waiting, lambda number: number == 0, f"webhooks of {merchant_id}")


def spent(row: Mapping[str, Any]) -> dict[str, int]:
    """What a redemption's legs have burned by programme, less what came back."""
    return {leg["programme"]["id"]: leg["points"] - leg["returnedPoints"] for leg in row["legs"]}


def asked_legs(legs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The legs as the member asks for them: the last one covers what is left."""
    *first, last = legs
    asked: list[dict[str, Any]] = [
        {"programme": leg["programme"], "points": leg["points"]} for leg in first
    ]
    return [*asked, {"programme": last["programme"]}]
