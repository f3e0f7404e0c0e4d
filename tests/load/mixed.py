"""Everything at once on PostgreSQL: no deadlock, nothing refused that need not be, books right.

Members share wallets; legs come from several issuers; requests are sent twice; shops earn and
fulfil; finance closes windows. The server looks for deadlocks after 50 ms and logs long waits.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from rich.progress import Progress

from gateway.demo.clients import STAFF_CONSOLE, MemberApp, Merchant, Person, Unexpected, Wire
from gateway.settlement.model import cut_of, window_after
from tests.load import floor as floors
from tests.load.buyers import Buyer, Refusal, Tally, document
from tests.load.place import DURABLE, PAIRS, Stand, stand
from tests.load.wire import Lost
from tests.support.postgres import running

WATCHFUL = {"deadlock_timeout": "50ms", "log_lock_waits": "on"}
EXPECTED = {  # What a client of a busy coalition must live with, and why.
    "IDEMPOTENCY_IN_FLIGHT": "the twin of a request that still runs",
    "CANCEL_TOO_LATE": "its shop was faster",
    "HOLD_ALREADY_RESOLVED": "its twin was faster",
    "BUDGET_EXCEEDED": "the issuer's year is full",
    "ALREADY_USED": "the other till was faster",
    "verifyVoucher: NOT_FOUND": "its holder has cancelled it",
}
MERCHANTS = {"XH-03": "M05", "CW-01": "M06", "YT-05": "M11"}
PROGRAMMES = ("P-LL", "P-CA", "P-YQ")
READ = "{ me { wallets { programme { id } available held } } }"
PAGE = """query Page { offers(first: 10, filter: {kind: "voucher"}) {
  edges { node { id cashFen prices { points programme { id } } } } } }"""
_REDEMPTION = "redemption { id state }"
_BOUGHT = "redemption { id state voucher { code } }"
DOCUMENTS = {
    name: document(name, wanted)
    for name, wanted in {
        "requestQuote": "quote { id }",
        "holdRedemption": _REDEMPTION,
        "confirmRedemption": _BOUGHT,
        "redeemOffer": _REDEMPTION,
        "releaseRedemption": _REDEMPTION,
        "requestCancellation": "cancelQuote { id }",
        "cancelRedemption": _REDEMPTION,
        "donatePoints": "donation { id }",
    }.items()
}


@dataclass
class Mixed:
    """What happened so far."""

    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    bought: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=1_000))
    shown: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=1_000))

    def unexpected(self) -> dict[str, int]:
        return {
            name: count
            for name, count in self.refused.items()
            if not {name, name.rpartition(" ")[2]} & EXPECTED.keys()
        }


class Member:
    """Somebody at their phone, and at another phone with the same account."""

    def __init__(self, buyer: Buyer, twin: Buyer, mixed: Mixed, seed: int) -> None:
        self.buyer = buyer
        self.twin = twin
        self.mixed = mixed
        self.random = random.Random(seed)
        self.acts: dict[Callable[[], Awaitable[object]], int] = {
            self.buys: 8,
            self.buys_at_once: 4,
            self.changes_their_mind: 3,
            self.cancels: 3,
            self.donates: 3,
            self.reads: 5,
            self.asks_a_price: 2,
        }

    async def act(self) -> None:
        (chosen,) = self.random.choices(list(self.acts), list(self.acts.values()))
        try:
            await self.buyer.log_in()
            self.twin.token = self.buyer.token
            await chosen()
            self.mixed.done[chosen.__name__] += 1
        except Refusal as refusal:
            self.mixed.refused[f"{refusal.step}: {refusal.code}"] += 1
        except (Lost, OSError) as error:
            self.mixed.refused[f"connection: {type(error).__name__}"] += 1

    async def do(self, name: str, **given: Any) -> dict[str, Any]:
        """A mutation, now and then sent twice at once: the answers name the same thing."""
        asked = given | {"idempotencyKey": f"{self.buyer.key()}-{self.random.random()}"}
        if self.random.random() > 0.2 or name in ("requestQuote", "requestCancellation"):
            return await self.buyer.do(name, DOCUMENTS[name], **asked)
        both = await asyncio.gather(
            self.buyer.do(name, DOCUMENTS[name], **asked),
            self.twin.do(name, DOCUMENTS[name], **asked),
            return_exceptions=True,
        )
        answers = [one for one in both if not isinstance(one, BaseException)]
        for error in both:
            if isinstance(error, BaseException):
                if not isinstance(error, Refusal):
                    raise error
                self.mixed.refused[f"{error.step}: {error.code}"] += 1
        if not answers:
            raise Refusal(name, "IDEMPOTENCY_IN_FLIGHT")  # Both counted above.
        ids = {str(next(iter(one.values())).get("id")) for one in answers}
        if len(ids) > 1:
            raise Refusal(name, f"TWO_EFFECTS_{sorted(ids)}")
        return answers[0]

    def order(self) -> dict[str, Any]:
        """Something to buy, by one programme or two."""
        pair = self.random.choice(PAIRS)
        legs: list[dict[str, Any]] = [{"programme": pair.programme}]
        if self.random.random() < 0.4:
            other = self.random.choice([one for one in PROGRAMMES if one != pair.programme])
            legs.insert(0, {"programme": other, "points": 10})
        return {"offer": pair.offer, "legs": legs}

    async def holds(self, order: dict[str, Any] | None = None) -> str:
        quoted = await self.do("requestQuote", **(order or self.order()))
        held = await self.do("holdRedemption", quote=quoted["quote"]["id"])
        return str(held["redemption"]["id"])

    async def buys(self) -> str:
        order = self.order()
        redemption = await self.holds(order)
        made = await self.do("confirmRedemption", redemption=redemption)
        merchant, voucher = MERCHANTS[order["offer"]], made["redemption"]["voucher"]
        if voucher and self.random.random() < 0.5:
            self.mixed.shown.append((merchant, voucher["code"]))
        else:
            self.mixed.bought.append((merchant, redemption))
        return redemption

    async def buys_at_once(self) -> None:
        await self.do("redeemOffer", **self.order())

    async def changes_their_mind(self) -> None:
        await self.do("releaseRedemption", redemption=await self.holds())

    async def cancels(self) -> None:
        redemption = await self.buys()
        asked = await self.do("requestCancellation", redemption=redemption)
        quote = asked["cancelQuote"]["id"]
        await self.do("cancelRedemption", redemption=redemption, cancelQuote=quote)

    async def donates(self) -> None:
        programme = self.random.choice(PROGRAMMES)
        await self.do("donatePoints", beneficiary="M16", programme=programme, points=100)

    async def asks_a_price(self) -> None:
        await self.do("requestQuote", **self.order())

    async def reads(self) -> None:
        text = self.random.choice((READ, PAGE))
        status, body = await self.buyer.line.post(self.buyer.token, {"query": text})
        if status != 200 or body.get("errors"):
            raise Refusal("query", f"HTTP {status}")


@dataclass(frozen=True, slots=True)
class Asked:
    seconds: float
    clients: int
    members: int = 5
    gateways: int = 1
    workers: int = 1


async def run(home: Path, asked: Asked, progress: Progress) -> dict[str, Any]:
    """Load for so long; the figures."""
    with running(DURABLE | WATCHFUL) as server:
        made = stand(server, home, clients=asked.members, gateways=asked.gateways)
        async with made as here:
            for number in range(asked.gateways):
                await here.start_gateway(number + 1)
            for number in range(asked.workers):
                await here.start_worker(number + 1)
            mixed = Mixed()
            await _load(here, mixed, asked, progress)
            found = await _figures(here, mixed)
        waits = (server.folder / "log").read_text(errors="replace").count("still waiting for")
        return found | {"lock_waits_over_50_ms": waits}


async def _load(here: Stand, mixed: Mixed, asked: Asked, progress: Progress) -> None:
    wire = Wire.open(here.urls[0])
    until = time.monotonic() + asked.seconds
    clients = [_client(here, wire, mixed, number) for number in range(asked.clients)]

    async def again(act: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < until:
            await act()

    acts = [client.act for client in clients]
    staff = (_earner, _fulfiller, _tills, _closer)
    acts += [make(here, wire, mixed) for make in staff]
    bar = progress.add_task("mixed", total=asked.seconds)

    async def show() -> None:
        left = max(0.0, until - time.monotonic())
        words = f"{sum(mixed.done.values()):,} done, {sum(mixed.refused.values()):,} refused"
        progress.update(bar, completed=asked.seconds - left, description=words)
        await asyncio.sleep(min(1.0, left))

    try:
        await asyncio.gather(*(again(act) for act in [*acts, show]))
    finally:
        for client in clients:
            client.buyer.close()
            client.twin.close()
        await wire.aclose()


def _client(here: Stand, wire: Wire, mixed: Mixed, number: int) -> Member:
    login = here.members[number % len(here.members)]
    app = MemberApp(wire, login=login, password=here.made.password)
    url = here.urls[number % len(here.urls)]
    pair, tally = PAIRS[number % len(PAIRS)], Tally()
    return Member(Buyer(app, url, pair, tally), Buyer(app, url, pair, tally), mixed, number)


def _earner(here: Stand, wire: Wire, mixed: Mixed) -> Callable[[], Awaitable[None]]:
    shop = Merchant(wire, merchant_id="M04", key=here.made.merchant_key("M04"))
    numbers = iter(range(10**9))

    async def earn() -> None:
        number = next(numbers)
        member = here.members[number % len(here.members)]
        order = f"mixed-{number}"
        given = {"member": member, "order": order, "consumed": True, "cashFen": 1_000}
        await _staff(shop, mixed, "recordEarnEvent", "earning { id }", **given)
        await asyncio.sleep(0.1)

    return earn


def _fulfiller(here: Stand, wire: Wire, mixed: Mixed) -> Callable[[], Awaitable[None]]:
    shops = {
        merchant: Merchant(wire, merchant_id=merchant, key=here.made.merchant_key(merchant))
        for merchant in MERCHANTS.values()
    }

    async def fulfil() -> None:
        if not mixed.bought:
            await asyncio.sleep(0.1)
            return
        merchant, redemption = mixed.bought.popleft()
        await _staff(shops[merchant], mixed, "recordFulfilment", _REDEMPTION, redemption=redemption)

    return fulfil


def _tills(here: Stand, wire: Wire, mixed: Mixed) -> Callable[[], Awaitable[None]]:
    """Two tills of a shop take the voucher that its holder shows, and may be cancelling."""
    tills = {
        merchant: [
            Merchant(wire, merchant_id=merchant, key=here.made.merchant_key(merchant))
            for _ in range(2)
        ]
        for merchant in MERCHANTS.values()
    }

    async def take() -> None:
        if not mixed.shown:
            await asyncio.sleep(0.02)
            return
        merchant, code = mixed.shown.popleft()
        taken = [
            _staff(till, mixed, "verifyVoucher", _REDEMPTION, code=code) for till in tills[merchant]
        ]
        await asyncio.gather(*taken)

    return take


def _closer(here: Stand, wire: Wire, mixed: Mixed) -> Callable[[], Awaitable[None]]:
    finance = Person(
        wire, login="usr_fin_maker", password=here.made.password, client_id=STAFF_CONSOLE
    )

    named: dict[str, str] = {}  # After the first one they are of weeks to come.

    async def close() -> None:
        await asyncio.sleep(1)
        closed = await _staff(finance, mixed, "closeSettlementWindow", "window { id }", **named)
        if closed:
            last = closed["window"]["id"]
            named["window"] = window_after(last, now=cut_of(last))
            mixed.windows += 1

    return close


async def _staff(
    caller: Any, mixed: Mixed, name: str, wanted: str, **given: Any
) -> dict[str, Any] | None:
    """What a mutation answered; none if it was refused."""
    try:
        payload = await caller.do(name, wanted, **given)
    except Unexpected as error:
        if "UNAUTHENTICATED" not in str(error):
            mixed.refused[f"{name}: {error}"[:200]] += 1
        caller._token = None  # It lives for ten minutes: another one, then.
        return None
    for error in payload["errors"]:
        mixed.refused[f"{name}: {error['code']}"] += 1
    mixed.done[name] += not payload["errors"]
    return None if payload["errors"] else dict(payload)


async def _figures(here: Stand, mixed: Mixed) -> dict[str, Any]:
    connection = await asyncpg.connect(floors.plain(here.settings.url))
    try:
        deadlocks = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        rows = await connection.fetch("SELECT state, count(*) n FROM redemptions GROUP BY 1")
    finally:
        await connection.close()
    return {
        "done": dict(mixed.done),
        "refused": dict(mixed.refused),
        "unexpected": mixed.unexpected(),
        "windows_closed": mixed.windows,
        "redemptions": {row["state"]: row["n"] for row in rows},
        "deadlocks": deadlocks,
        "broken_invariants": await here.broken(),
    }
