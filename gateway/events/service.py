"""What other rooms record, what merchants ask, and how they set up their webhooks."""

import base64
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import NotFound
from gateway.events import store
from gateway.events.model import (
    EVERYBODY,
    TYPES,
    Delivery,
    DeliveryState,
    Endpoint,
    EndpointState,
    Event,
    Trouble,
    check_types,
    check_url,
    parse_id,
)
from gateway.values import InvalidInput, new_id

ROTATION = timedelta(hours=24)
"""How long what is sent is signed with the old secret too."""
MOST_ENDPOINTS = 20
_SECRET_BYTES = 32
_RESEND_LIMIT = 10_000


class Vault(Protocol):
    """Seals secrets at rest."""

    def seal(self, plain: bytes, *, name: str) -> str: ...
    def unseal(self, sealed: str, *, name: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Change:
    """A state change to record; `merchants` are those it concerns.

    `seq` is the object's next number where its row counts them; else it is looked up.
    """

    type: str
    object_id: str
    merchants: Collection[str]
    data: Mapping[str, Any]
    member_id: str | None = None
    seq: int | None = None


async def record(tx: AsyncConnection, *changes: Change, now: datetime) -> None:
    """Record state changes in the transaction that makes them, after their rows are locked.

    The lock of its row makes an object's sequence: number n is committed before n + 1 is taken.
    Who writes without it, or counts wrongly, meets the unique key of object and number.

    Args:
        changes: Of published types; in order. All with a number of their own, or none.
        now: Business time.
    """
    rows = []
    for change in changes:
        assert change.type in TYPES, change.type
        merchants = " ".join(sorted(set(change.merchants))) or EVERYBODY
        row: dict[str, Any] = {"type": change.type, "object_id": change.object_id}
        row |= {"merchants": merchants, "member_id": change.member_id}
        row |= {} if change.seq is None else {"seq": change.seq}
        rows.append(row | {"data": dict(change.data), "occurred_at": now})
    if rows:
        await store.record(tx, rows)


# -- reading ------------------------------------------------------------------------------------


async def events_of(
    tx: AsyncConnection,
    merchant_id: str,
    *,
    types: Sequence[str] | None = None,
    object_id: str | None = None,
    since: datetime | None = None,
    before: int | None = None,
    limit: int,
) -> list[tuple[int, Event]]:
    """The events that concern a merchant, newest first, with their positions in its feed.

    Args:
        types: Of these types only; patterns such as `redemption.*` too.
        before: Those before this position.

    Raises:
        InvalidInput: A type is none.
    """
    if types is not None:
        wanted = check_types(types)
        types = [known for known in TYPES if _any(wanted, known)]
    found = await store.of_merchants(
        tx,
        [merchant_id],
        types=types,
        object_id=object_id,
        since=since,
        before=before,
        limit=limit,
    )
    return [(position, event) for position, _, event in found]


async def newest_events(tx: AsyncConnection, *, since: datetime | None, limit: int) -> list[Event]:
    """Everybody's events, newest first."""
    return await store.newest_events(tx, since=since, limit=limit)


async def feed_after(
    tx: AsyncConnection, position: int, *, limit: int
) -> list[tuple[int, str, Event]]:
    """Everybody's events after a position, oldest first, once per merchant concerned."""
    return await store.all_after(tx, position, limit)


async def newest_of(tx: AsyncConnection, object_id: str) -> int:
    """The last sequence of an object; 0 before its first event."""
    return (await store.newest(tx, [object_id])).get(object_id, 0)


async def head(tx: AsyncConnection) -> int:
    """The newest position."""
    _, position = await store.head(tx)
    return position


def _any(patterns: Iterable[str], known: str) -> bool:
    return any(
        known == each or (each.endswith(".*") and known.startswith(each[:-1])) for each in patterns
    )


# -- endpoints ----------------------------------------------------------------------------------


async def register(
    tx: AsyncConnection,
    *,
    merchant_id: str,
    url: str,
    types: Sequence[str],
    vault: Vault,
    sandbox: bool,
    now: datetime,
) -> tuple[Endpoint, str]:
    """Register an endpoint for what happens from now on.

    Returns:
        The endpoint and its secret (`whsec_…`), which is not shown again.

    Raises:
        InvalidInput: The address or a type breaks its rule, or there are too many.
    """
    url, types = check_url(url, sandbox=sandbox), check_types(types)
    if len(await endpoints(tx, merchant_id=merchant_id)) >= MOST_ENDPOINTS:
        raise InvalidInput("url", "at most {most} endpoints of one merchant", most=MOST_ENDPOINTS)
    endpoint_id, secret = new_id("whk"), new_secret()
    row: dict[str, Any] = {"id": endpoint_id, "merchant_id": merchant_id, "url": url}
    row |= {"types": list(types), "state": EndpointState.ACTIVE, "created_at": now}
    row |= {"sealed": vault.seal(secret.encode(), name=endpoint_id)}
    await store.add_endpoint(tx, row)
    return await endpoint(tx, endpoint_id, merchant_id=merchant_id), secret


async def change(
    tx: AsyncConnection,
    *,
    endpoint_id: str,
    merchant_id: str,
    url: str,
    types: Sequence[str],
    active: bool,
    rotate: bool,
    vault: Vault,
    sandbox: bool,
    system_now: datetime,
) -> tuple[Endpoint, str | None]:
    """Change an endpoint; made active again, it gets what has waited.

    Args:
        rotate: Make a new secret; for a day both sign, then the old one is forgotten.

    Returns:
        The endpoint, and the new secret if there is one.

    Raises:
        NotFound: The merchant has no such endpoint.
        InvalidInput: The address or a type breaks its rule.
    """
    was = await endpoint(tx, endpoint_id, merchant_id=merchant_id, lock=True)
    state = EndpointState.ACTIVE if active else EndpointState.PAUSED
    values: dict[str, Any] = {"url": check_url(url, sandbox=sandbox), "state": state}
    values |= {"types": list(check_types(types))}
    secret = None
    if rotate:
        secret = new_secret()
        values |= {"sealed": vault.seal(secret.encode(), name=endpoint_id)}
        values |= {"previous": was.sealed, "previous_until": system_now + ROTATION}
    await store.update_endpoint(tx, endpoint_id, **values)
    return await endpoint(tx, endpoint_id, merchant_id=merchant_id), secret


async def endpoint(
    tx: AsyncConnection, endpoint_id: str, *, merchant_id: str | None = None, lock: bool = False
) -> Endpoint:
    """One endpoint, of a merchant if it is named.

    Raises:
        NotFound: There is none.
    """
    found = await store.find_endpoints(tx, store.endpoints.c.id == endpoint_id, lock=lock)
    if not found or merchant_id not in (None, found[0].merchant_id):
        raise NotFound(id=endpoint_id)
    return found[0]


async def endpoints(tx: AsyncConnection, *, merchant_id: str | None = None) -> list[Endpoint]:
    """A merchant's endpoints, or all, oldest first."""
    where = [] if merchant_id is None else [store.endpoints.c.merchant_id == merchant_id]
    return await store.find_endpoints(tx, *where)


def secrets_of(found: Endpoint, vault: Vault, *, system_now: datetime) -> list[str]:
    """What to sign with: the secret, and the one before it while they rotate."""
    sealed = [found.sealed]
    if found.previous and found.previous_until and system_now < found.previous_until:
        sealed.append(found.previous)
    return [vault.unseal(each, name=found.id).decode() for each in sealed]


# -- deliveries ---------------------------------------------------------------------------------


async def deliveries_of(
    tx: AsyncConnection,
    *,
    endpoint_ids: Collection[str] | None = None,
    failed: bool = False,
    since: datetime | None = None,
    tried_since: datetime | None = None,
    limit: int,
) -> list[Delivery]:
    """Deliveries, newest first.

    Args:
        failed: Those only whose last try failed.
        since: Of events that occurred then or later; business time.
        tried_since: Those whose last try was then or later; system time.
    """
    d = store.deliveries.c
    where: list[sa.ColumnElement[bool]] = []
    if endpoint_ids is not None:
        where.append(d.endpoint_id.in_(endpoint_ids))
    if failed:
        where += [d.state != DeliveryState.DELIVERED, d.sent_at.is_not(None)]
    if since is not None:
        where.append(store.events.c.occurred_at >= since)
    if tried_since is not None:
        where.append(d.sent_at >= tried_since)
    return await store.find_deliveries(tx, *where, newest=limit)


async def trouble(tx: AsyncConnection) -> Trouble:
    """What does not arrive at its endpoint."""
    return await store.trouble(tx)


async def resend(
    tx: AsyncConnection,
    *,
    merchant_id: str | None,
    event_ids: Sequence[str] | None = None,
    failed_since: datetime | None = None,
    endpoint_id: str | None = None,
    system_now: datetime,
) -> int:
    """Send events again under their old ids, with all tries; one never sent to an endpoint, too.

    One that failed and waits for its next try is tried at once, if it is asked for by its id.

    Args:
        merchant_id: Whose; None: the operator asks, for everybody.
        event_ids: These events; or
        failed_since: those that were given up and occurred then or later.
        endpoint_id: To this endpoint only.

    Returns:
        How many will be sent. What is to be sent now anyway is not counted.

    Raises:
        NotFound: An event or the endpoint is not this merchant's.
    """
    targets = await endpoints(tx, merchant_id=merchant_id)
    if endpoint_id is not None:
        targets = [each for each in targets if each.id == endpoint_id]
        if not targets:
            raise NotFound(id=endpoint_id)
    d, ids = store.deliveries.c, [each.id for each in targets]
    if event_ids is None:
        where = [d.endpoint_id.in_(ids), d.state == DeliveryState.DEAD]
        if failed_since is not None:
            recent = sa.select(store.events.c.number)
            where.append(d.number.in_(recent.where(store.events.c.occurred_at >= failed_since)))
        return await store.make_due(tx, *where, system_now=system_now)
    found = await events_by_id(tx, event_ids, merchant_id=merchant_id)
    mine = d.endpoint_id.in_(ids), d.number.in_([event.number for event in found])
    count = await store.try_now(tx, *mine, system_now=system_now)
    count += await store.make_due(tx, *mine, system_now=system_now)
    rows = [
        row
        for event in found
        for row in due_rows(event, [each for each in targets if _told(each, event)], system_now)
    ]
    return count + (await _add_missing(tx, rows) if rows else 0)


async def held_back(
    tx: AsyncConnection, event_ids: Sequence[str], *, system_now: datetime
) -> list[str]:
    """Why events that were just asked for are not sent at once: a line for each delivery."""
    found, told = await events_by_id(tx, event_ids), []
    rows = await store.waiting(tx, [event.number for event in found])
    for event in found:
        mine = [row for row in rows if row.number == event.number]
        reasons = [(row.merchant_id, _why_waiting(row, system_now)) for row in mine]
        told += [f"{event.id} to {merchant}: {why}" for merchant, why in reasons if why]
        if not mine:
            told.append(f"{event.id}: nobody it concerns has an endpoint")
    return told


def _why_waiting(row: sa.Row[Any], system_now: datetime) -> str | None:
    if row.state != EndpointState.ACTIVE:
        return f"its endpoint is {row.state}; it is sent once the merchant makes it active"
    if row.leased_until and row.leased_until >= system_now:
        return "it is being sent"
    if row.ahead:
        return f"earlier ones of its object go first ({row.ahead}); resend those, too"
    return "it was due already; `gateway worker` sends it" if row.due_at < system_now else None


async def events_by_id(
    tx: AsyncConnection, event_ids: Sequence[str], *, merchant_id: str | None = None
) -> list[Event]:
    """Events by their ids.

    Raises:
        NotFound: There is none of that id, or it does not concern the merchant.
    """
    asked = {}
    for event_id in event_ids[:_RESEND_LIMIT]:
        try:
            asked[parse_id(event_id)] = event_id
        except ValueError as error:
            raise NotFound(id=event_id) from error
    found = [
        event
        for event in await store.by_ids(tx, asked)
        if merchant_id is None or {merchant_id, EVERYBODY} & set(event.merchants)
    ]
    missing = set(asked) - {(event.object_id, event.seq) for event in found}
    if missing:
        raise NotFound(id=asked[min(missing)])
    return found


def due_rows(
    event: Event, targets: Iterable[Endpoint], system_now: datetime
) -> list[dict[str, Any]]:
    """Rows of deliveries to be sent now."""
    row: dict[str, Any] = {"number": event.number, "object_id": event.object_id}
    row |= {"state": DeliveryState.DUE, "attempts": 0, "due_at": system_now}
    return [row | {"endpoint_id": each.id} for each in targets]


def _told(found: Endpoint, event: Event) -> bool:
    return bool({found.merchant_id, EVERYBODY} & set(event.merchants))


async def _add_missing(tx: AsyncConnection, rows: Sequence[dict[str, Any]]) -> int:
    d = store.deliveries.c
    known = await store.find_deliveries(
        tx,
        d.number.in_({row["number"] for row in rows}),
        d.endpoint_id.in_({row["endpoint_id"] for row in rows}),
    )
    have = {(each.endpoint_id, each.number) for each in known}
    new = [row for row in rows if (row["endpoint_id"], row["number"]) not in have]
    if new:
        await store.add_deliveries(tx, new)
    return len(new)


def new_secret() -> str:
    """A secret to sign with, in the form of Standard Webhooks."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"
