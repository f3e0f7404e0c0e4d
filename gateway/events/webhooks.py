"""Sends events to merchants: routed once, signed, retried, in order per object.

Routing gives every committed event its place in the merchants' feeds and queues a delivery for
each endpoint that wants it. A worker then takes deliveries on lease, an object's first unfinished
one only, sends each outside of any transaction, and records the answer. A worker that dies leaves
its lease to end; what it sent may be sent again, under the same id.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx2
from sqlalchemy.ext.asyncio import AsyncConnection
from standardwebhooks import Webhook

from gateway import failpoint, telemetry
from gateway.db import Database, lock_exclusive, system_now
from gateway.events import store
from gateway.events.model import (
    EVERYBODY,
    Delivery,
    DeliveryState,
    Endpoint,
    EndpointState,
    Event,
    asked_wait,
    body,
    document,
    pause,
)
from gateway.events.service import Vault, due_rows, secrets_of
from gateway.members.model import pseudonym
from gateway.outage import PAUSE_SECONDS, Outage
from gateway.settings import Settings
from gateway.telemetry import work

log = telemetry.log(__name__)

ANSWER_LIMIT = 64 * 1024
_KEPT = 500  # characters of an answer
_BATCH = 20
_ROUTE_BATCH = 500
_GAP = timedelta(minutes=5)  # After it a number nobody has seen is one that was rolled back.
_LOOK_BACK = 1_000_000
_KEEP = timedelta(days=30)
_SWEEP_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class Said:
    """How a receiver answered: status and the answer's beginning; None, and why there was none."""

    status: int | None
    text: str
    wait: timedelta = timedelta(0)  # asked for, before another try


class Webhooks:
    """The router and the sender of one process; any number may run over one database.

    Args:
        http: Connects where endpoints may be only; see `oauth.addresses`.
        secret: Key of the members' pseudonyms.
    """

    def __init__(
        self,
        database: Database,
        http: httpx2.AsyncClient,
        settings: Settings,
        *,
        vault: Vault,
        secret: bytes,
    ) -> None:
        self.database = database
        self.http = http
        self.settings = settings
        self.vault = vault
        self._secret = secret
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._outage = Outage()

    async def run(self, stop: asyncio.Event) -> None:
        """Route and send until `stop` is set; what is being sent then is finished."""
        swept = -_SWEEP_SECONDS
        try:
            while not stop.is_set():
                if time.monotonic() > swept + _SWEEP_SECONDS:
                    swept = time.monotonic()
                    await self._safely(self.sweep())
                done = await self._safely(self.route()) and await self._safely(
                    self._start_sending()
                )
                pause = self.settings.worker_poll_seconds if done else PAUSE_SECONDS
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
        finally:
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def sweep(self) -> None:
        """Forget what arrived long ago, and look for what was missed: each hour."""
        await self.route(look_back=_LOOK_BACK)
        async with self.database.transaction() as tx:
            await store.forget_delivered(tx, before=system_now() - _KEEP)

    async def turn(self) -> int:
        """Route what is new and send what is due once; returns how much was sent."""
        await self.route()
        async with self.database.reading() as tx:
            due = await store.endpoints_due(tx, system_now=system_now())
        return sum(await asyncio.gather(*(self._serve(each.id) for each in due)))

    async def _safely(self, work: Any) -> bool:
        """Do it; False if there was no database for it."""
        try:
            await work
        except Exception as error:
            return not self._outage.failed("webhook round failed", error)
        self._outage.succeeded()
        return True

    async def _start_sending(self) -> None:
        """One task per endpoint, so that a slow one holds up no other."""
        async with self.database.reading() as tx:
            due = await store.endpoints_due(tx, system_now=system_now())
        for each in due:
            if each.id not in self._busy:
                self._busy[each.id] = asyncio.create_task(self._serve_all(each.id))

    async def _serve_all(self, endpoint_id: str) -> None:
        try:
            while await self._serve(endpoint_id):
                pass
        except Exception:
            log.exception("webhooks failed", endpoint=endpoint_id)
        finally:
            del self._busy[endpoint_id]

    # -- routing ------------------------------------------------------------------------------

    async def route(self, *, look_back: int = 0) -> int:
        """Give committed events their places in the feeds, and queue their deliveries.

        Args:
            look_back: Also look for events among so many that are thought to be routed: one
                whose transaction stayed open for longer than any should.
        """
        async with self.database.reading() as tx:
            low, _ = await store.head(tx)
            if not await store.unrouted(tx, above=max(low - look_back, 0), limit=1):
                return 0
        done = 0
        while True:
            async with self.database.transaction() as tx:
                count = await self._route(tx, look_back, now=system_now())
            done += count
            if count < _ROUTE_BATCH:
                return done

    async def _route(self, tx: AsyncConnection, look_back: int, *, now: datetime) -> int:
        await lock_exclusive(tx, store.ROUTE_LOCK)
        low, position = await store.head(tx)
        found = await store.unrouted(tx, above=max(low - look_back, 0), limit=_ROUTE_BATCH)
        if not found:
            return 0
        rows = []
        for event in found:
            position += 1
            row = {"position": position, "number": event.number, "routed_at": now}
            rows += [row | {"merchant_id": merchant} for merchant in event.merchants]
        await store.add_to_feed(tx, rows)
        active = store.endpoints.c.state == EndpointState.ACTIVE
        targets = await store.find_endpoints(tx, active)
        queued = [row for event in found for row in due_rows(event, _for(event, targets), now)]
        if queued:
            await store.add_deliveries(tx, queued)
        await store.set_head(tx, low=await _low(tx, low, now=now), position=position)
        return len(found)

    # -- sending ------------------------------------------------------------------------------

    async def _serve(self, endpoint_id: str) -> int:
        """Send what is due at one endpoint, a batch of different objects at once."""
        now = system_now()
        seconds = self.settings.webhook_timeout_seconds + self.settings.lease_seconds
        active = store.endpoints.c.state == EndpointState.ACTIVE
        async with self.database.transaction() as tx:
            found = await store.find_endpoints(tx, store.endpoints.c.id == endpoint_id, active)
            claimed = []
            if found:
                claimed = await store.claim(
                    tx,
                    endpoint_id,
                    system_now=now,
                    leased_until=now + timedelta(seconds=seconds),
                    limit=_BATCH,
                )
        await asyncio.gather(*(self._deliver(found[0], each) for each in claimed))
        return len(claimed)

    async def _deliver(self, found: Endpoint, delivery: Delivery) -> None:
        keys = secrets_of(found, self.vault, system_now=system_now())
        failpoint.reached(self.settings, "webhook", "before_call")
        said = await self.send(
            delivery.event, merchant_id=found.merchant_id, url=found.url, keys=keys
        )
        failpoint.reached(self.settings, "webhook", "after_call")
        status, answer = said.status, said.text
        values: dict[str, Any] = {"status": status, "answer": answer, "sent_at": system_now()}
        values |= {"state": DeliveryState.DUE}
        if status is not None and 200 <= status < 300:
            values |= {"state": DeliveryState.DELIVERED}
        elif (wait := pause(delivery.attempts, luck=random.random())) is None:  # noqa: S311 - no secret
            values |= {"state": DeliveryState.DEAD}
        else:
            values |= {"due_at": system_now() + max(wait, said.wait)}
        async with self.database.transaction() as tx:
            kept = await store.close(tx, delivery, **values)
            if kept and status == 410:
                await store.update_endpoint(tx, found.id, state=EndpointState.GONE)
        failpoint.reached(self.settings, "webhook", "stored")
        log.info(
            "webhook",
            endpoint=found.id,
            event_id=delivery.event.id,
            status=status,
            attempt=delivery.attempts,
            state=str(values["state"]),
        )

    async def send(self, event: Event, *, merchant_id: str, url: str, keys: Iterable[str]) -> Said:
        """Send one event once, as it concerns a merchant.

        Args:
            keys: The secrets to sign with, each `whsec_…`.

        """
        content = body(event, member=self._member(event, merchant_id))
        headers = signed(content, event.id, keys, at=system_now())
        with work.delivery(merchant_id) as ended:
            try:
                async with (
                    asyncio.timeout(self.settings.webhook_timeout_seconds),
                    self.http.stream("POST", url, content=content, headers=headers) as answer,
                ):
                    said = await _beginning(answer)
            except TimeoutError:
                ended("no_answer")
                return Said(None, "no answer in time")
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                ended("no_answer")
                return Said(None, f"{type(error).__name__}: {error}"[:_KEPT])
            ended("ok" if answer.is_success else "refused")
            wait = asked_wait(answer.headers.get("retry-after"), now=system_now())
            return Said(answer.status_code, said, wait)

    def _member(self, event: Event, merchant_id: str) -> str | None:
        if event.member_id is None:
            return None
        return pseudonym(self._secret, merchant_id, event.member_id)

    def document_for(self, event: Event, merchant_id: str) -> dict[str, Any]:
        """What a merchant's systems are told of an event, as they are sent it."""
        return document(event, member=self._member(event, merchant_id))


def client(*, transport: httpx2.AsyncBaseTransport, timeout: float) -> httpx2.AsyncClient:
    """The client that events are sent with: no redirects, no proxies of the environment."""
    return httpx2.AsyncClient(
        transport=transport,
        timeout=timeout,
        headers={"User-Agent": "coalition-gateway", "Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )


def signed(content: bytes, event_id: str, keys: Iterable[str], *, at: datetime) -> dict[str, str]:
    """The headers of an event, with one signature per secret. Source: Standard Webhooks 1.0."""
    text = content.decode()
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(key).sign(event_id, at, text) for key in keys),
    }


async def _beginning(answer: httpx2.Response) -> str:
    """What an answer says first, without secrets; no more is read than an honest one has."""
    read = bytearray()
    async for part in answer.aiter_raw():
        read += part
        if len(read) > ANSWER_LIMIT:
            break
    text = telemetry.hide(bytes(read[: 4 * _KEPT]).decode("utf-8", "replace"))[:_KEPT]
    return "".join(mark if mark.isprintable() else " " for mark in text)


def _for(event: Event, targets: Iterable[Endpoint]) -> list[Endpoint]:
    """The endpoints that are to be told of an event."""
    concerned = set(event.merchants)
    return [
        each
        for each in targets
        if each.wants(event.type) and {each.merchant_id, EVERYBODY} & concerned
    ]


async def _low(tx: AsyncConnection, low: int, *, now: datetime) -> int:
    """Up to which number nothing can be missing any more."""
    while found := await store.routed_above(tx, low, limit=_ROUTE_BATCH):
        for number, routed_at in found:
            if number != low + 1 and routed_at > now - _GAP:
                return low
            low = number
    return low
