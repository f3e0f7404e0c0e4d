"""The partner contract as a list of checks, for tests, operators and partners alike.

    access.py      A  getting in: tokens, keys, scopes, clocks
    redemption.py  C  quote, hold, confirm, status, fence, cancel, under pressure
    settlement.py  F  statements and settlement notices
    stand_in.py    boxes to run them in: our own stand-in, or a partner's sandbox
    report.py      the results as text, JSON and JUnit XML

A check is a plain async function of a `Box`: it returns when the partner keeps the rule, fails an
assertion when it does not, raises `Skip` where it cannot be checked and `Warn` where it should be
better. `certify` runs them and never raises for a partner's failure. Source: experience §2.4.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import uuid4

import httpx2

from gateway.ports import (
    Capability,
    Claim,
    Fact,
    LiveOffer,
    Outcome,
    Partner,
    Quote,
    QuoteRequest,
    Reservation,
    Slot,
)
from gateway.values import business_day
from partners import Connection
from partners.simulators.remote import Control

ClientFor = Callable[[Connection, Callable[[], datetime]], httpx2.AsyncClient]
"""Makes the HTTP client of a connection, which tells the partner this business time."""

DECIDED_WITHIN_SECONDS = 30
ISSUER = "M04"  # Any issuer the merchant has an agreement with.
UNFIT = ("offset", "donation", "draw", "badge_prize", "credential", "carbon", "upgrade")


class Skip(Exception):
    """This cannot be checked here; says why."""


class Warn(Exception):
    """The rule is kept, but it should be better."""


class Status(StrEnum):
    PASS = "PASS"  # noqa: S105 - no password
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"


@dataclass(slots=True)
class Box:
    """One partner under test.

    `now` is the business time its sandbox is told; without a sandbox clock it is the system's and
    checks that travel are skipped. `control` is the hand behind our own stand-ins.
    """

    partner: Partner
    connection: Connection
    http: httpx2.AsyncClient  # to the partner, without a token
    client_for: "ClientFor"
    control: Control | None = None
    travels: bool = False
    issuer: str = ISSUER
    bps: int = 9000  # what the issuer pays
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    exchanges: list[str] = field(default_factory=list)

    @property
    def merchant(self) -> str:
        return self.partner.code

    def hand(self) -> Control:
        """The control of a stand-in.

        Raises:
            Skip: There is none.
        """
        if self.control is None:
            raise Skip("only a stand-in can be made to do this")
        return self.control

    def travel(self, **by: float) -> None:
        """Move business time on.

        Raises:
            Skip: The partner's sandbox has no clock to set.
        """
        if not self.travels:
            raise Skip("needs a sandbox whose clock can be set")
        self.now += timedelta(**by)

    def travel_to(self, instant: datetime) -> None:
        """Move business time to just after an instant.

        Raises:
            Skip: The partner's sandbox has no clock to set.
        """
        self.travel(seconds=(instant - self.now).total_seconds() + 1)

    def client(self, connection: Connection) -> httpx2.AsyncClient:
        """A client that tells this box's time; what it exchanges is written down."""
        return self.watch(self.client_for(connection, lambda: self.now))

    def watch(self, http: httpx2.AsyncClient) -> httpx2.AsyncClient:
        """Write down what a client exchanges."""

        async def note(answer: httpx2.Response) -> None:
            request = answer.request
            path = request.url.path
            self.exchanges.append(f"{request.method} {path} → {answer.status_code}")

        hooks = http.event_hooks
        http.event_hooks = {**hooks, "response": [*hooks["response"], note]}
        return http

    def key(self, step: str) -> str:
        """A new op key of a step."""
        return f"red_cf{uuid4().hex}:{step}:1"

    def member(self) -> str:
        """A new member's pseudonym."""
        return f"pm_cf_{uuid4().hex}"

    async def offer(self, *, slotted: bool) -> tuple[LiveOffer, Slot | None]:
        """Something that is on sale now: with a slot that can be cancelled freely, or without.

        Raises:
            Skip: There is none.
        """
        late = self.now + timedelta(hours=25)
        fit = await self._fit()
        # A merchant may show the slots of today and tomorrow only, unless it is asked for a day.
        for on in (None, business_day(late) + timedelta(days=1)) if slotted else (None,):
            for live in await self.partner.live(fit, on=on):
                if not slotted and not live.slots and (live.left is None or live.left > 0):
                    return live, None
                for slot in live.slots if slotted else ():
                    if slot.left > 0 and slot.starts_at > late:
                        return live, slot
        raise Skip("no offer with slots" if slotted else "no offer without slots")

    async def quote(
        self, *, slotted: bool = False, quantity: int = 1, member_ref: str | None = None
    ) -> Quote:
        """A quote for something on sale."""
        live, slot = await self.offer(slotted=slotted)
        request = QuoteRequest(
            live.offer_id, slot.id if slot else None, quantity, None, member_ref or self.member()
        )
        return await self.partner.quote(request)

    def claims(self, quote: Quote) -> list[Claim]:
        return [Claim(self.issuer, quote.list_fen)]

    async def held(self, quote: Quote, *, ttl_seconds: int = 600) -> tuple[str, Reservation]:
        """Hold a quote; the redemption and its hold."""
        redemption = f"red_cf{uuid4().hex}"
        reservation = await self.partner.hold(
            quote.id,
            op_key=f"{redemption}:hold:1",
            ttl_seconds=ttl_seconds,
            claims=self.claims(quote),
        )
        return redemption, reservation

    async def confirmed(self, redemption: str, held: Reservation) -> Fact:
        """Confirm a hold, in time; what is decided later is waited for."""
        fact = await self.partner.confirm(
            held.hold_ref,
            op_key=f"{redemption}:confirm:1",
            deadline=self.now + timedelta(seconds=30),
            gateway_ref=redemption,
        )
        return await self.decided(fact)

    async def decided(self, fact: Fact) -> Fact:
        """A fact that is no longer in flight, asked for until it is decided."""
        async with asyncio.timeout(DECIDED_WITHIN_SECONDS):
            while fact.outcome is Outcome.IN_FLIGHT:
                assert Capability.ASYNC_CONFIRM in self.partner.capabilities, "confirm is in flight"
                await asyncio.sleep(0.05)
                fact = await self.partner.status(fact.op_key)
        return fact

    async def booked(self, *, slotted: bool = False) -> tuple[Quote, str, Fact]:
        """Quote, hold and confirm something; its quote, redemption and fact."""
        quote = await self.quote(slotted=slotted)
        redemption, held = await self.held(quote)
        return quote, redemption, await self.confirmed(redemption, held)

    async def left(self, offer_id: str, slot: Slot) -> int:
        """The places left in a slot now."""
        (live,) = await self.partner.live([offer_id], on=business_day(slot.starts_at))
        return next(one.left for one in live.slots if one.id == slot.id)

    async def _fit(self) -> list[str]:
        """Offers that need nothing but points."""
        fit: list[str] = []
        cursor: str | None = None
        while True:
            page = await self.partner.list_offers(cursor)
            fit += [
                offer.id
                for offer in page.offers
                if not offer.deleted
                and offer.kind not in UNFIT
                and not offer.attributes.get("needs")
            ]
            if not page.more:
                return fit[:100]
            cursor = page.cursor


Run = Callable[[Box], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One rule of the contract: how to check it, and what helps when it fails."""

    id: str  # CF-<group><nn>
    needs: Capability
    zh: str
    en: str
    hint: str
    run: Run

    @property
    def group(self) -> str:
        return self.id[3]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of a check; `exchanges` are its calls, last ones last."""

    check: Check
    status: Status
    reason: str
    seconds: float
    exchanges: tuple[str, ...] = ()


CHECKS: list[Check] = []


def check(
    id: str, zh: str, en: str, *, hint: str, needs: Capability = Capability.REDEEM
) -> Callable[[Run], Run]:
    """Enter a function into the list of checks."""

    def enter(run: Run) -> Run:
        CHECKS.append(Check(id, needs, zh, en, hint, run))
        return run

    return enter


async def run(one: Check, box: Box) -> CheckResult:
    """Run one check."""
    box.exchanges.clear()
    began = time.perf_counter()
    status, reason = Status.PASS, ""
    if one.needs not in box.partner.capabilities:
        status, reason = Status.SKIP, "capability not claimed"
    else:
        try:
            async with asyncio.timeout(60):
                await one.run(box)
        except Skip as skip:
            status, reason = Status.SKIP, str(skip)
        except Warn as warning:
            status, reason = Status.WARN, str(warning)
        except Exception as error:  # A partner may fail in any way; the report says how.
            status, reason = Status.FAIL, str(error) or repr(error)
    seconds = time.perf_counter() - began
    return CheckResult(one, status, reason, seconds, tuple(box.exchanges[-8:]))


async def certify(box: Box, groups: Iterable[str] = ("A", "C", "F")) -> list[CheckResult]:
    """Run the checks of these groups, one after the other.

    Returns:
        A result per check, in the order of their ids.
    """
    chosen = frozenset(groups)
    return [await run(one, box) for one in CHECKS if one.group in chosen]


from partners.conformance import access, redemption, settlement  # noqa: E402 - they need what is above

__all__ = [
    "CHECKS",
    "Box",
    "Check",
    "CheckResult",
    "ClientFor",
    "Skip",
    "Status",
    "Warn",
    "certify",
    "run",
]
assert access and redemption and settlement, "the modules of the checks enter them"
CHECKS.sort(key=lambda one: one.id)
