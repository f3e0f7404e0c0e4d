"""Members who buy over HTTP, step by step or all at once, as fast as they may."""

import asyncio
import itertools
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.demo.clients import MemberApp, Wire
from tests.load.place import PAIRS, Pair, Stand
from tests.load.wire import Connection, Lost

WANTED = {
    "requestQuote": "quote { id }",
    "holdRedemption": "redemption { id state }",
    "confirmRedemption": "redemption { id state }",
    "redeemOffer": "redemption { id state }",
}
RENEW_AFTER = 420.0  # Seconds; a token lives for 600.
IN_FLIGHT = "IDEMPOTENCY_IN_FLIGHT"


def document(mutation: str, wanted: str) -> str:
    kind = mutation[0].upper() + mutation[1:]
    return (
        f"mutation($input: {kind}Input!) {{ {mutation}(input: $input) {{ {wanted} replayed"
        " errors { code message field context nextStep } } }"
    )


DOCUMENTS = {name: document(name, wanted) for name, wanted in WANTED.items()}


class Refusal(Exception):
    """The gateway said no, or something that is no answer."""

    def __init__(self, step: str, code: str) -> None:
        super().__init__(step, code)
        self.step = step
        self.code = code


@dataclass
class Tally:
    """What happened: seconds of each step and of the whole, and errors by step and code."""

    seconds: "dict[str, array[float]]" = field(
        default_factory=lambda: defaultdict(lambda: array("d"))
    )
    errors: Counter[str] = field(default_factory=Counter)
    committed: int = 0

    def clear(self) -> None:
        for each in self.seconds.values():  # Their order stays that of the steps.
            del each[:]
        self.errors.clear()
        self.committed = 0


class Buyer:
    """One member with a token and a connection of their own.

    Args:
        app: Logs in on the gateway's pages.
        pair: What they buy.
        tally: Where figures go.
        at_once: By `redeemOffer` instead of quote, hold and confirm.
    """

    def __init__(
        self, app: MemberApp, url: str, pair: Pair, tally: Tally, *, at_once: bool = False
    ) -> None:
        self.app = app
        self._url = url
        self.pair = pair
        self.tally = tally
        self.at_once = at_once
        self.line = Connection(f"{url}/graphql")
        self.token = ""
        self._renew_at = 0.0
        self._keys = itertools.count(1)
        self._prefix = app.login

    def log_in_again(self) -> None:
        """With the next purchase, as when the token has grown old."""
        self._renew_at = 0.0

    def double(self, number: int) -> "Buyer":
        """The same member on another device, logged in already."""
        made = Buyer(self.app, self._url, self.pair, self.tally, at_once=self.at_once)
        made.token, made._renew_at = self.token, self._renew_at
        made._prefix = f"{self.member}-{number}"
        return made

    @property
    def member(self) -> str:
        return self.app.login

    async def log_in(self) -> None:
        """Get a token, or another when this one grows old."""
        if time.monotonic() < self._renew_at:
            return
        self.app._token = None
        await self.app.log_in()
        self.token = self.app.headers()["authorization"].removeprefix("Bearer ")
        self._renew_at = time.monotonic() + RENEW_AFTER

    def key(self) -> str:
        return f"{self._prefix}-{next(self._keys)}"

    async def do(self, mutation: str, text: str, **given: Any) -> dict[str, Any]:
        """Run a mutation once.

        Raises:
            Refusal: It was refused; with HTTP's status where that is no 200.
            Lost, OSError: No answer.
        """
        document = {"query": text, "variables": {"input": given}}
        status, body = await self.line.post(self.token, document)
        if status != 200 or body.get("errors"):
            errors = body.get("errors") or [{}]
            code = errors[0].get("extensions", {}).get("code", "")
            raise Refusal(mutation, f"HTTP {status} {code}")
        payload: dict[str, Any] = body["data"][mutation]
        if payload["errors"]:
            raise Refusal(mutation, payload["errors"][0]["code"])
        return payload

    async def step(self, name: str, **given: Any) -> dict[str, Any]:
        """One timed step of a redemption, under a new key."""
        began = time.perf_counter()
        payload = await self.do(name, DOCUMENTS[name], **given, idempotencyKey=self.key())
        self.tally.seconds[name].append(time.perf_counter() - began)
        return payload

    def order(self) -> dict[str, Any]:
        return {"offer": self.pair.offer, "legs": [{"programme": self.pair.programme}]}

    async def hold(self) -> str:
        """Quote and hold; the redemption's id."""
        quoted = await self.step("requestQuote", **self.order())
        held = await self.step("holdRedemption", quote=quoted["quote"]["id"])
        return str(held["redemption"]["id"])

    async def buy(self) -> str:
        """One redemption from its first request to COMMITTED; its id."""
        began = time.perf_counter()
        if self.at_once:
            bought = await self.step("redeemOffer", **self.order())
        else:
            bought = await self.step("confirmRedemption", redemption=await self.hold())
        done = bought["redemption"]
        if done["state"] != "COMMITTED":
            raise Refusal("buy", done["state"])
        self.tally.seconds["whole"].append(time.perf_counter() - began)
        self.tally.committed += 1
        return str(done["id"])

    async def buy_until(self, over: Callable[[], bool]) -> None:
        """Buy until it is over; a failure is counted and the next one tried."""
        while not over():
            try:
                await self.log_in()
                await self.buy()
            except Refusal as refusal:
                self.tally.errors[f"{refusal.step}: {refusal.code}"] += 1
            except (Lost, OSError) as error:
                self.tally.errors[f"connection: {type(error).__name__}"] += 1
                await asyncio.sleep(0)

    def close(self) -> None:
        self.line.close()


def buyers(stand: Stand, wire: Wire, tally: Tally, *, at_once: bool = False) -> list[Buyer]:
    """One buyer a member, each at the next gateway and with the next pair."""
    made = []
    for number, member in enumerate(stand.members):
        app = MemberApp(wire, login=member, password=stand.made.password)
        url = stand.urls[number % len(stand.urls)]
        made.append(Buyer(app, url, PAIRS[number % len(PAIRS)], tally, at_once=at_once))
    return made
