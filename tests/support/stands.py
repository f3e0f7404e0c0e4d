"""A stand-in merchant on a free loopback port, the adapter that talks to it, and a listener."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.ports import (
    Claim,
    Fact,
    Outcome,
    Partner,
    PartnerEvent,
    Quote,
    QuoteRequest,
    Reservation,
)
from gateway.values import SHANGHAI
from partners import Auth, Connection, adapter
from partners.simulators import config
from partners.simulators.serve import Door, Simulators
from tests.support.tokens import client_for

WEBHOOK_SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
KEY = ECKey.generate_key("P-256", {"kid": "gateway-1"}, auto_kid=False)


def at(text: str) -> datetime:
    """A moment in Shanghai."""
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI).astimezone(UTC)


@dataclass
class Clock:
    """The gateway's business time, sent along as `Sandbox-Now`."""

    now: datetime

    def forward(self, **time: float) -> None:
        self.now += timedelta(**time)


@dataclass
class Listener:
    """Takes webhooks as the gateway would, and keeps them."""

    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: Request) -> Response:
        self.taken.append((dict(request.headers), await request.body()))
        self.more.set()
        return Response(status_code=self.answers.pop(0) if self.answers else 204)


@dataclass
class Stand:
    """A running stand-in and its adapter."""

    partner: Partner
    clock: Clock
    control: httpx2.AsyncClient
    merchant: str
    http: httpx2.AsyncClient

    async def event(self, event: str, ref: str, **more: Any) -> dict[str, Any]:
        """Make the merchant do something by itself."""
        row = {"event": event, "booking_ref": ref, "now": self.clock.now.isoformat(), **more}
        return await self._post(f"/merchants/{self.merchant}/events", row)

    async def act(self, act: str, **more: Any) -> dict[str, Any]:
        row = {"act": act, "now": self.clock.now.isoformat(), **more}
        return await self._post(f"/merchants/{self.merchant}/acts", row)

    async def fault(self, fault: str, **more: Any) -> None:
        await self._post("/faults", {"fault": fault, **more})

    async def quote(
        self,
        offer_id: str,
        *,
        slot: str | None = None,
        quantity: int = 1,
        bill_fen: int | None = None,
        member_ref: str = "pm_1",
    ) -> Quote:
        request = QuoteRequest(offer_id, slot, quantity, bill_fen, member_ref)
        return await self.partner.quote(request)

    async def hold(
        self, quote: Quote, *, red: str = "red_1", claims: Sequence[Claim] | None = None
    ) -> Reservation:
        return await self.partner.hold(
            quote.id,
            op_key=f"{red}:hold:1",
            ttl_seconds=900,
            claims=claims if claims is not None else [Claim("M04", quote.list_fen)],
        )

    async def confirm(self, held: Reservation, *, red: str = "red_1") -> Fact:
        return await self.partner.confirm(
            held.hold_ref,
            op_key=f"{red}:confirm:1",
            deadline=self.clock.now + timedelta(seconds=60),
            gateway_ref=red,
        )

    async def redeem(
        self,
        offer_id: str,
        *,
        red: str = "red_1",
        claims: Sequence[Claim] | None = None,
        **asked: Any,
    ) -> Fact:
        """Quote, hold and confirm."""
        quote = await self.quote(offer_id, **asked)
        return await self.confirm(await self.hold(quote, red=red, claims=claims), red=red)

    async def cancel(self, fact: Fact, *, red: str = "red_1") -> Fact:
        assert fact.booking_ref is not None
        quote = await self.partner.cancel_quote(fact.booking_ref)
        return await self.partner.cancel(quote.id, op_key=f"{red}:cancel:1")

    async def _post(self, path: str, row: Mapping[str, Any]) -> Any:
        answer = await self.control.post(path, json=row)
        answer.raise_for_status()
        return answer.json()


@asynccontextmanager
async def standing(
    kind: str,
    folder: Path,
    *,
    offers: Sequence[Mapping[str, Any]],
    now: datetime,
    merchant: str = "M00",
    by_secret: bool = False,
    listener: Listener | None = None,
    **more: Any,
) -> AsyncIterator[Stand]:
    """Run one stand-in of a kind and connect its adapter, by signed assertion or by secret."""
    client = {"client_id": "gateway"}
    client |= (
        {"secret": "s3cret"} if by_secret else {"jwks": {"keys": [KEY.as_dict(private=False)]}}
    )
    row = {"id": merchant, "kind": kind, "clients": [client], "offers": offers, **more}
    row.setdefault("rates", {"*": 9_000})
    async with _listening(listener) as url:
        if url:
            row["webhook"] = {"url": url, "secret": WEBHOOK_SECRET, "retry_seconds": [0.02]}
        simulators = Simulators(config.parse({"merchants": [row]}), folder)
        await simulators.start()
        try:
            async with _connected(simulators, kind, merchant, by_secret, Clock(now)) as stand:
                yield stand
        finally:
            await simulators.stop()


@asynccontextmanager
async def _connected(
    simulators: Simulators, kind: str, merchant: str, by_secret: bool, clock: Clock
) -> AsyncIterator[Stand]:
    ports = simulators.ports()
    url = ports["merchants"][merchant]
    auth = (
        Auth("client_secret_basic", "gateway", secret="s3cret")
        if by_secret
        else Auth("private_key_jwt", "gateway", key=KEY.as_dict(private=True))
    )
    connection = Connection(merchant, kind, url, f"{url}/oauth/token", auth, audience=url)
    token = {"authorization": f"Bearer {ports['control_token']}"}

    async def tell_time(request: httpx2.Request) -> None:
        request.headers["sandbox-now"] = clock.now.isoformat()

    async with (
        client_for(connection) as http,
        httpx2.AsyncClient(base_url=ports["control"], headers=token, trust_env=False) as control,
    ):
        http.event_hooks["request"].append(tell_time)
        yield Stand(adapter(kind)(merchant, http), clock, control, merchant, http)


@asynccontextmanager
async def _listening(listener: Listener | None) -> AsyncIterator[str]:
    """The listener's URL while it listens; empty when there is none."""
    if listener is None:
        yield ""
        return
    door = Door("127.0.0.1", 0)
    door.app = Starlette(routes=[Route("/events", listener.take, methods=["POST"])])
    await door.open()
    try:
        yield f"http://127.0.0.1:{door.port}/events"
    finally:
        await door.shut()


async def settled(stand: Stand, op_key: str, *, seconds: float = 60) -> Fact:
    """Poll until the partner has decided."""
    async with asyncio.timeout(seconds):
        while True:
            fact = await stand.partner.status(op_key)
            if fact.outcome is not Outcome.IN_FLIGHT:
                return fact
            await asyncio.sleep(0.01)


async def told(
    stand: Stand, listener: Listener, number: int, *, seconds: float = 60
) -> PartnerEvent:
    """Wait for that many webhooks; the last one as the adapter reads it."""
    async with asyncio.timeout(seconds):
        while len(listener.taken) < number:
            listener.more.clear()
            await listener.more.wait()
    return stand.partner.event(json.loads(listener.taken[number - 1][1]))
