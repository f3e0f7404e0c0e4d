"""What the operator does with events: look, send again, and follow them while a partner develops.

The commands `gateway events …` and `gateway dev` work on the database, without a server.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.db import Database, SandboxOnly, system_now
from gateway.events import service
from gateway.events.model import EVERYBODY, Event
from gateway.events.webhooks import Webhooks

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Row:
    """An event, or one delivery of it, as a line of a table."""

    at: str
    event: str
    type: str
    merchant: str
    state: str
    attempts: str
    answer: str


@dataclass(frozen=True, slots=True)
class Sent:
    """How an event was taken that was sent by hand."""

    event: str
    type: str
    merchant: str
    status: int | None
    answer: str
    milliseconds: int

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def span(text: str) -> timedelta:
    """A time such as `90s`, `30m`, `1h` or `2d`.

    Raises:
        ValueError: It is none.
    """
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in _UNITS):
        raise ValueError(f"{text}: a time such as 30m, 1h or 2d is expected")
    return timedelta(**{_UNITS[unit]: int(number)})


async def listed(
    database: Database, *, failed: bool, since: datetime | None, limit: int
) -> list[Row]:
    """Events with their deliveries, newest first; one nobody asked for has no delivery.

    Args:
        failed: Only deliveries whose last try failed.
        since: Those that occurred then or later (business time); with `failed`, those whose last
            try was (system time).
    """
    tried, occurred = (since, None) if failed else (None, since)
    async with database.reading() as tx:
        endpoints = {each.id: each for each in await service.endpoints(tx)}
        sent = await service.deliveries_of(
            tx, failed=failed, since=occurred, tried_since=tried, limit=limit
        )
        events = [] if failed else await service.newest_events(tx, since=since, limit=limit)
    rows = {}
    for each in sent:
        merchant = endpoints[each.endpoint_id].merchant_id
        answer = f"{each.status or '–'} {each.answer or ''}".strip() if each.sent_at else ""
        key = (each.number, each.endpoint_id)
        rows[key] = _row(each.event, merchant, str(each.state), str(each.attempts), answer)
    known = {number for number, _ in rows}
    for event in events:
        if event.number not in known:
            rows[event.number, ""] = _row(event, " ".join(event.merchants), "", "", "")
    return [rows[key] for key in sorted(rows, reverse=True)][:limit]


def _row(event: Event, merchant: str, state: str, attempts: str, answer: str) -> Row:
    at = event.occurred_at.isoformat(timespec="seconds")
    return Row(at, event.id, event.type, merchant, state, attempts, answer)


async def resend(database: Database, event_ids: Sequence[str]) -> tuple[int, list[str]]:
    """Queue events again for every endpoint they concern.

    Returns:
        How many will be sent, and why others are not, or not at once.

    Raises:
        NotFound: There is no such event.
    """
    now = system_now()
    async with database.transaction() as tx:
        count = await service.resend(tx, merchant_id=None, event_ids=event_ids, system_now=now)
        return count, await service.held_back(tx, event_ids, system_now=now)


async def send_to(
    webhooks: Webhooks, event_ids: Sequence[str], url: str, *, merchant: str | None, secret: str
) -> list[Sent]:
    """Send events to an address at once, as a merchant's endpoint would get them.

    Args:
        merchant: Whose; by default the first one they concern.
        secret: What to sign with if the merchant has no endpoint.

    Raises:
        SandboxOnly: Outside the sandbox nobody sends a merchant's events elsewhere.
        NotFound: There is no such event.
    """
    _require_sandbox(webhooks)
    async with webhooks.database.reading() as tx:
        found = await service.events_by_id(tx, event_ids, merchant_id=merchant)
    return [
        await _send(webhooks, event, url, merchant or event.merchants[0], secret) for event in found
    ]


async def now_at(webhooks: Webhooks) -> int:
    """The position after which everything is new."""
    await webhooks.route()
    async with webhooks.database.reading() as tx:
        return await service.head(tx)


async def follow(
    webhooks: Webhooks,
    url: str,
    *,
    after: int,
    merchant: str | None,
    secret: str,
    tell: Callable[[Sent], None],
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Send every event after a position to an address, in order; what fails is not repeated.

    Args:
        merchant: Whose; all by default.
        secret: What to sign with for a merchant that has no endpoint.

    Raises:
        SandboxOnly: It is no sandbox.
    """
    _require_sandbox(webhooks)
    while not until():
        await webhooks.route()
        async with webhooks.database.reading() as tx:
            found = await service.feed_after(tx, after, limit=_BATCH)
        if len(found) == _BATCH:  # The last position may be half here.
            found = [row for row in found if row[0] < found[-1][0]]
        for _, concerned, event in found:
            if merchant in (None, concerned) or concerned == EVERYBODY:
                tell(await _send(webhooks, event, url, merchant or concerned, secret))
        if found:
            after = found[-1][0]
        else:
            await asyncio.sleep(webhooks.settings.events_poll_seconds)


def _require_sandbox(webhooks: Webhooks) -> None:
    if not webhooks.settings.sandbox:
        raise SandboxOnly


async def _send(webhooks: Webhooks, event: Event, url: str, merchant: str, secret: str) -> Sent:
    """Signed with the secrets of the merchant's first endpoint, if it has one."""
    async with webhooks.database.reading() as tx:
        endpoints = await service.endpoints(tx, merchant_id=merchant)
    keys = [secret]
    if endpoints:
        keys = service.secrets_of(endpoints[0], webhooks.vault, system_now=system_now())
    began = time.monotonic()
    said = await webhooks.send(event, merchant_id=merchant, url=url, keys=keys)
    milliseconds = round((time.monotonic() - began) * 1000)
    return Sent(event.id, event.type, merchant, said.status, said.text, milliseconds)
