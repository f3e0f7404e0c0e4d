"""Outside clients as sane ones are: one key a request, sent again until it is answered.

What was answered is in the journal, on disk, before the client believes it. A request that two
clients send at once under one key must come to the same.
"""

import asyncio
import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from gateway.demo.clients import MemberApp, Merchant, Person, Unexpected, Wire
from tests.chaos.fleet import Fleet
from tests.support.story import Buy

LL, YQ = {"programme": "P-LL"}, {"programme": "P-YQ"}
POPCORN = Buy("M05", "XH-03", "mbr_demo_02", (LL,))
TEA = Buy(
    "M06", "CW-01", "mbr_demo_15", ({"programme": "P-LL", "points": 600}, {"programme": "P-CW"})
)
BREAKFAST = Buy("M03", "YQ-04", "mbr_demo_10", (YQ,))
COUPON = Buy("M07", "KX-01", "mbr_demo_07", (LL,))
BUYS = (POPCORN, TEA, BREAKFAST, COUPON)
CHARITY, SHOP = "M16", "M04"
REDEMPTION = "redemption { id state legs { points programme { id } } }"
WANTED = {
    "requestQuote": "quote { id }",
    "requestCancellation": "cancelQuote { id }",
    "donatePoints": "donation { id points }",
    "recordEarnEvent": "earning { id points }",
}
OBJECTS = {"requestQuote": "quote", "requestCancellation": "cancelQuote"}
OBJECTS |= {"donatePoints": "donation", "recordEarnEvent": "earning"}
NOT_YET = ("IDEMPOTENCY_IN_FLIGHT",)
SETTLED = ("HELD", "COMMITTED", "CANCELLED", "RELEASED", "FULFILLED")


class Journal:
    """Every answer a client got, synced to disk before it counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self.rows: list[dict[str, Any]] = []
        self.asked: set[tuple[str, str]] = set()  # (redemption, mutation) that was ever sent

    async def write(self, row: dict[str, Any]) -> None:
        """Append one answer; it is on disk afterwards."""
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        await asyncio.to_thread(self._sync, line)
        self.rows.append(row)

    def _sync(self, line: bytes) -> None:
        self._file.write(line)
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def read(self) -> list[dict[str, Any]]:
        """What is on disk."""
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]


@dataclass
class Load:
    """What the clients have seen, together."""

    journal: Journal
    answered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)  # tries without an answer, by what came
    retried: int = 0
    longest: float = 0.0  # seconds until a request was answered, with all its tries
    wrong: list[str] = field(default_factory=list)
    keys: Any = field(default_factory=lambda: itertools.count(1))


class Client:
    """Somebody who knows all gateways and goes to another when one does not answer."""

    def __init__(self, fleet: Fleet, load: Load, who: str, chance: random.Random) -> None:
        self.load, self.who, self.chance = load, who, chance
        self.http = httpx2.AsyncClient(timeout=20, trust_env=False)
        self.people = [self._person(fleet, Wire(url, self.http)) for url in fleet.addresses]
        self._token_of: Person | Merchant | None = None
        self.waiting: dict[str, str] = {}  # key: what was asked, and what came instead of an answer
        self._came = ""
        self._logging_in = asyncio.Lock()

    def _person(self, fleet: Fleet, wire: Wire) -> Person | Merchant:
        if self.who == SHOP:
            key = fleet.made.merchant_key(SHOP)
            # Assertions are for the issuer, whichever gateway takes them.
            return _Shop(wire, merchant_id=SHOP, key=key, issuer=fleet.settings.base_url)
        return MemberApp(wire, login=self.who, password=fleet.made.password)

    async def ask(self, mutation: str, *, key: str = "", **given: Any) -> dict[str, Any]:
        """One request under one key, until it is answered; the answer is in the journal.

        Returns:
            The payload.
        """
        key = key or f"chaos-{next(self.load.keys)}"
        began, tries = time.monotonic(), 0
        while (payload := await self._try(mutation, given | {"idempotencyKey": key})) is None:
            tries += 1
            self.load.retried += 1
            self.waiting[key] = f"{mutation} {given}: {self._came}"
            await asyncio.sleep(min(0.05 * 2**tries, 1.0) * self.chance.uniform(0.5, 1.0))
        self.waiting.pop(key, None)
        self.load.longest = max(self.load.longest, time.monotonic() - began)
        self.load.answered += 1
        codes = [error["code"] for error in payload["errors"]]
        self.load.refused.update(codes)
        found = payload.get(OBJECTS.get(mutation, "redemption"))
        row = {"who": self.who, "mutation": mutation, "key": key, "input": given, "codes": codes}
        await self.load.journal.write(row | {"object": found, "replayed": payload["replayed"]})
        return payload

    async def twice(self, mutation: str, **given: Any) -> dict[str, Any]:
        """As `ask`; now and then the same request goes out twice at once, under one key."""
        if self.chance.random() > 0.2:
            return await self.ask(mutation, **given)
        key = f"chaos-{next(self.load.keys)}"
        one, two = await asyncio.gather(*(self.ask(mutation, key=key, **given) for _ in range(2)))
        name = OBJECTS.get(mutation, "redemption")
        ids = {(payload.get(name) or {}).get("id") for payload in (one, two)} - {None}
        if len(ids) > 1:
            self.load.wrong.append(f"{key}: one request made {sorted(map(str, ids))}")
        return one if one.get(name) else two

    async def state(self, redemption: str) -> str:
        """The redemption's state, or `unknown` while nobody says."""
        body = await self.post("query($id: ID!) { redemption(id: $id) { state } }", id=redemption)
        return str(body["data"]["redemption"]["state"]) if body else "unknown"

    async def post(self, text: str, **variables: Any) -> dict[str, Any] | None:
        """One try; None when there is no answer, and the next try goes elsewhere."""
        person = self._token_of or self.chance.choice(self.people)
        wire = self.chance.choice(self.people).wire
        try:
            async with self._logging_in:
                await person.log_in()
            self._token_of = person
            answer = await self.http.post(
                f"{wire.base_url}/graphql",
                json={"query": text, "variables": variables},
                headers=person.headers(),
            )
        except httpx2.TransportError as error:
            return self._no_answer(type(error).__name__)
        except (Unexpected, KeyError):  # A page of the login did not come.
            return self._no_answer("login")
        if answer.status_code == 401:
            person._token, self._token_of = None, None
            return self._no_answer("401")
        if answer.status_code != 200:
            return self._no_answer(_said(answer))
        body: dict[str, Any] = answer.json()
        if body.get("errors"):
            return self._no_answer(_said(answer))
        return body

    def _no_answer(self, came: str) -> None:
        self._came = came
        self.load.failed[came] += 1

    async def _try(self, mutation: str, input: dict[str, Any]) -> dict[str, Any] | None:
        kind = f"{mutation[0].upper()}{mutation[1:]}Input"
        wanted = WANTED.get(mutation, REDEMPTION)
        text = (
            f"mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {wanted} replayed"
            " errors { code message } } }"
        )
        body = await self.post(text, input=input)
        if body is None:
            return None
        payload: dict[str, Any] = body["data"][mutation]
        if any(error["code"] in NOT_YET for error in payload["errors"]):
            return None
        return payload

    async def aclose(self) -> None:
        await self.http.aclose()


@dataclass
class _Shop(Merchant):
    """A merchant's system whose token is good at every gateway of the issuer."""

    issuer: str = ""

    def _assertion(self) -> str:
        real, self.wire = self.wire, Wire(self.issuer, self.wire.http)
        try:
            return super()._assertion()
        finally:
            self.wire = real


def _said(answer: httpx2.Response) -> str:
    """What an answer says that is no answer, as `503 INTERNAL`."""
    try:
        code = answer.json()["errors"][0]["extensions"]["code"]
    except (ValueError, KeyError, IndexError, TypeError):
        code = "without a code"
    return f"{answer.status_code} {code}"


class Member(Client):
    """A member who buys, gives back and gives away."""

    def __init__(self, fleet: Fleet, load: Load, buy: Buy, chance: random.Random) -> None:
        super().__init__(fleet, load, buy.member, chance)
        self.buy = buy

    async def live(self, calm: asyncio.Event) -> None:
        """One thing after the other until it is calm."""
        while not calm.is_set():
            drawn = self.chance.random()
            if drawn < 0.1:
                programme = self.buy.legs[0]["programme"]
                await self.twice(
                    "donatePoints", beneficiary=CHARITY, programme=programme, points=100
                )
            elif drawn < 0.5:
                await self._redeem()
            else:
                await self._hold_first()
            await asyncio.sleep(self.chance.uniform(0, 0.1))

    async def _redeem(self) -> None:
        order = {"offer": self.buy.offer, "legs": list(self.buy.legs)}
        bought = (await self.twice("redeemOffer", **order))["redemption"]
        if bought and self.chance.random() < 0.4:
            await self._take_back(bought["id"])

    async def _hold_first(self) -> None:
        """Quote and hold; then confirm, give up, or forget it."""
        order = {"offer": self.buy.offer, "legs": list(self.buy.legs)}
        quote = (await self.twice("requestQuote", **order))["quote"]
        if not quote:
            return
        held = (await self.twice("holdRedemption", quote=quote["id"]))["redemption"]
        if not held or await self._settled(held) != "HELD":
            return
        drawn = self.chance.random()
        if drawn < 0.15:
            await self._on("releaseRedemption", held["id"])
        elif drawn < 0.9:
            await self._on("confirmRedemption", held["id"])
            if self.chance.random() < 0.4:
                await self._take_back(held["id"])

    async def _take_back(self, redemption: str) -> None:
        if await self._settled({"id": redemption, "state": ""}) != "COMMITTED":
            return
        offered = (await self.ask("requestCancellation", redemption=redemption))["cancelQuote"]
        if offered:
            await self._on("cancelRedemption", redemption, cancelQuote=offered["id"])

    async def _on(self, mutation: str, redemption: str, **more: Any) -> None:
        self.load.journal.asked.add((redemption, mutation))
        await self.twice(mutation, redemption=redemption, **more)

    async def _settled(self, redemption: dict[str, Any]) -> str:
        """Its state once it is in no doubt; after some seconds, whatever it is."""
        state, ends = redemption["state"], time.monotonic() + 5
        while state not in SETTLED and time.monotonic() < ends:
            await asyncio.sleep(0.1)
            state = await self.state(redemption["id"])
        return str(state)


class Shop(Client):
    """A merchant's system that records what members buy."""

    def __init__(self, fleet: Fleet, load: Load, chance: random.Random) -> None:
        super().__init__(fleet, load, SHOP, chance)

    async def live(self, calm: asyncio.Event) -> None:
        """One purchase after the other until it is calm."""
        while not calm.is_set():
            await self.twice(
                "recordEarnEvent",
                member=self.chance.choice([buy.member for buy in BUYS if buy.legs[0] is not YQ]),
                order=f"order-{next(self.load.keys)}",
                cashFen=self.chance.randint(100, 5_000),
                consumed=True,
            )
            await asyncio.sleep(self.chance.uniform(0.05, 0.4))


@asynccontextmanager
async def at_work(fleet: Fleet, load: Load, seed: int) -> AsyncIterator[Sequence[Client]]:
    """Two devices for each member, and a shop."""
    everybody: list[Client] = []
    for buy, device in itertools.product(BUYS, (1, 2)):
        chance = random.Random(f"{seed}:{buy.member}:{device}")
        everybody.append(Member(fleet, load, buy, chance))
    everybody.append(Shop(fleet, load, random.Random(f"{seed}:shop")))
    try:
        yield everybody
    finally:
        for client in everybody:
            await client.aclose()
