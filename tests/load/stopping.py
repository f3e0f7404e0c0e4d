"""SIGTERM under load: what was acknowledged stays, and nothing is left in doubt that need not be.

Members buy without pause while gateway and worker are asked to end. Each member repeats a request
that was not answered, with its key, once the gateway is back.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from gateway.demo.clients import Wire
from tests.load import floor as floors
from tests.load.buyers import DOCUMENTS, IN_FLIGHT, Buyer, Refusal, Tally, buyers
from tests.load.place import Stand
from tests.load.wire import Lost

SETTLED = ("COMMITTED", "RELEASED", "HELD")  # HELD waits for its member, not for a partner.


@dataclass
class Stop:
    """What one stop found."""

    drained_in: dict[str, float] = field(default_factory=dict)
    exit_codes: dict[str, int] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)  # As the ended processes left them.
    unanswered: int = 0  # Requests whose connection ended without an answer.


@dataclass
class Found:
    """What all stops found."""

    stops: list[Stop] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)  # Redemption to state, as told.
    lost: list[str] = field(default_factory=list)  # Told so, and not so.
    committed_here: int = 0
    confirmed_there: int = 0
    unsettled: int = 0  # At the very end.
    refusals: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, object]:
        drained = [seconds for stop in self.stops for seconds in stop.drained_in.values()]
        return {
            "stops": len(self.stops),
            "acknowledged": len(self.acknowledged),
            "acknowledged and lost": len(self.lost),
            "left HOLDING, CONFIRMING or IN_DOUBT": sum(
                n for stop in self.stops for s, n in stop.states.items() if s not in SETTLED
            ),
            "connections ended without an answer": sum(stop.unanswered for stop in self.stops),
            "committed here": self.committed_here,
            "confirmed at the partner": self.confirmed_there,
            "slowest end in seconds": max(drained, default=0.0),
            "bad": self.bad(),
        }

    def bad(self) -> list[str]:
        """What must not be."""
        found = [f"lost: {one}" for one in self.lost]
        for stop in self.stops:
            found += [f"{name} ended with {code}" for name, code in stop.exit_codes.items() if code]
            found += [f"left {n} {s}" for s, n in stop.states.items() if s not in SETTLED]
        if self.committed_here != self.confirmed_there:
            found.append(f"{self.committed_here} here, {self.confirmed_there} at the partner")
        found += [f"{self.unsettled} unsettled"] if self.unsettled else []
        return found + [f"refused: {code}" for code in self.refusals]


class Stubborn:
    """A member who buys until told to stop and repeats what was not answered."""

    def __init__(self, buyer: Buyer, found: Found) -> None:
        self.buyer = buyer
        self.found = found
        self.unanswered = 0

    async def buy_until(self, over: asyncio.Event) -> None:
        legs = [{"programme": self.buyer.pair.programme}]
        while not over.is_set():
            try:
                quoted = await self.surely("requestQuote", offer=self.buyer.pair.offer, legs=legs)
                held = await self.surely("holdRedemption", quote=quoted["quote"]["id"])
                redemption = held["redemption"]["id"]
                self.told(held)
                self.told(await self.surely("confirmRedemption", redemption=redemption))
            except Refusal as refusal:
                self.found.refusals[f"{refusal.step}: {refusal.code}"] += 1

    def told(self, payload: dict[str, Any]) -> None:
        self.found.acknowledged[payload["redemption"]["id"]] = payload["redemption"]["state"]

    async def surely(self, name: str, **given: Any) -> dict[str, Any]:
        """One step, repeated with the same key until it is answered."""
        key = self.buyer.key()
        while True:
            try:
                return await self.buyer.do(name, DOCUMENTS[name], **given, idempotencyKey=key)
            except Lost:
                self.unanswered += 1
            except OSError:
                await asyncio.sleep(0.02)  # Nobody listens: the process is being replaced.
            except Refusal as refusal:
                if refusal.code != IN_FLIGHT:
                    raise
                await asyncio.sleep(1)


async def run(stand: Stand, *, stops: int, seconds: float) -> Found:
    """Buy, and stop gateway and worker so many times, each after so many seconds."""
    found = Found()
    wire = Wire.open(stand.urls[0])
    await stand.start_gateway()
    await stand.start_worker()
    members = [Stubborn(one, found) for one in buyers(stand, wire, Tally())]
    for member in members:
        await member.buyer.log_in()
    over = asyncio.Event()
    tasks = [asyncio.create_task(member.buy_until(over)) for member in members]
    try:
        for _ in range(stops):
            await _until_busy(found, seconds)
            found.stops.append(await _stop(stand, members))
            await stand.start_gateway()
            await stand.start_worker()
        await _until_busy(found, seconds / 2)
    finally:
        over.set()
        await asyncio.gather(*tasks)
        await wire.aclose()
    await _compare(stand, found)
    for member in members:
        member.buyer.close()
    return found


async def _until_busy(found: Found, seconds: float) -> None:
    """Let them buy for so long, and something at least."""
    before = len(found.acknowledged)
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(found.acknowledged) < before + 10:
        await asyncio.sleep(0.05)


async def _stop(stand: Stand, members: list[Stubborn]) -> Stop:
    stop = Stop()
    before = sum(member.unanswered for member in members)
    ours = {name: one for name, one in stand.processes.items() if name != "partner"}
    began = time.monotonic()
    for process in ours.values():
        process.ask_to_end()
    waiting = set(ours)
    while waiting:
        for name in sorted(waiting):
            code = ours[name].code
            if code is not None:
                stop.exit_codes[name], stop.drained_in[name] = code, time.monotonic() - began
                waiting.discard(name)
        await asyncio.sleep(0.01)
        assert time.monotonic() < began + 60, f"{waiting} did not end"
    stop.unanswered = sum(member.unanswered for member in members) - before
    stop.states = Counter(dict(await _states(stand)))
    return stop


async def _states(stand: Stand) -> list[tuple[str, int]]:
    connection = await asyncpg.connect(floors.plain(stand.settings.url))
    try:
        rows = await connection.fetch("SELECT state, count(*) AS n FROM redemptions GROUP BY state")
        return [(row["state"], row["n"]) for row in rows]
    finally:
        await connection.close()


async def _compare(stand: Stand, found: Found) -> None:
    """The database against what members were told, and against the partner."""
    connection = await asyncpg.connect(floors.plain(stand.settings.url))
    try:
        rows = await connection.fetch("SELECT id, state FROM redemptions")
    finally:
        await connection.close()
    here = {row["id"]: row["state"] for row in rows}
    for name, told in found.acknowledged.items():
        if here.get(name) != told:
            found.lost.append(f"{name}: told {told}, is {here.get(name)}")
    found.committed_here = sum(state == "COMMITTED" for state in here.values())
    found.confirmed_there = (await stand.partner_facts())["outcomes"].get("CONFIRMED", 0)
    found.unsettled = sum(state not in SETTLED for state in here.values())
