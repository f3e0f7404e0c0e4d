"""Tables of events, who they concern, webhook endpoints and deliveries; all their SQL.

`events` is append-only and written with the change it tells of: one INSERT, which takes the
object's next sequence under the object's own lock. The database's numbers rise per object, but
become visible out of order between objects; the router makes `event_feed` from them, whose
positions are in the order in which they become visible.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.db import Instant, Json, Serial, insert_missing, metadata, one_of
from gateway.events.model import (
    EVERYBODY,
    Delivery,
    DeliveryState,
    Endpoint,
    EndpointState,
    Event,
    Trouble,
)

ROUTE_LOCK = 6_201  # advisory lock: one router at a time
_states = ", ".join(f"'{state}'" for state in DeliveryState)
_endpoint_states = ", ".join(f"'{state}'" for state in EndpointState)

events = sa.Table(
    "events",
    metadata,
    sa.Column("number", Serial, primary_key=True),
    sa.Column("object_id", sa.String, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),  # from 1 per object, no gap
    sa.Column("type", sa.String, nullable=False),
    sa.Column("merchants", sa.String, nullable=False),  # ids with a space between, or *
    sa.Column("member_id", sa.String),
    sa.Column("data", Json, nullable=False),
    sa.Column("occurred_at", Instant, nullable=False),
    sa.CheckConstraint("seq > 0", name="seq"),
    sa.UniqueConstraint("object_id", "seq"),
    info={"append_only": True},
)

feed = sa.Table(
    "event_feed",
    metadata,
    sa.Column("merchant_id", sa.String, primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.ForeignKey("events.number"), nullable=False, index=True),
    sa.Column("routed_at", Instant, nullable=False),  # system time
    sa.Index("ix_event_feed_position", "position", "merchant_id"),
    info={"append_only": True},
)

router = sa.Table(
    "event_router",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True),
    sa.Column("low", sa.BigInteger, nullable=False),  # everything up to here is routed
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.CheckConstraint("one = 1", name="one"),
)

endpoints = sa.Table(
    "webhook_endpoints",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("merchant_id", sa.String, nullable=False, index=True),
    sa.Column("url", sa.String, nullable=False),
    sa.Column("types", Json, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("sealed", sa.String, nullable=False),
    sa.Column("previous", sa.String),
    sa.Column("previous_until", Instant),  # system time
    sa.Column("created_at", Instant, nullable=False),
    sa.CheckConstraint(f"state IN ({_endpoint_states})", name="state"),
    sa.CheckConstraint("(previous IS NULL) = (previous_until IS NULL)", name="previous"),
)

deliveries = sa.Table(
    "webhook_deliveries",
    metadata,
    sa.Column("endpoint_id", sa.ForeignKey("webhook_endpoints.id"), primary_key=True),
    sa.Column("number", sa.ForeignKey("events.number"), primary_key=True),
    sa.Column("object_id", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", Instant, nullable=False),  # system time
    sa.Column("leased_until", Instant),  # system time
    sa.Column("status", sa.Integer),  # of the last answer
    sa.Column("answer", sa.String),  # its beginning, or why there was none
    sa.Column("sent_at", Instant),
    sa.CheckConstraint(f"state IN ({_states})", name="state"),
    sa.Index("ix_webhook_deliveries_due", "state", "endpoint_id", "object_id", "number"),
)

_plain = [column for column in events.c if column.name != "number"]
_next = sa.select(
    *(
        sa.bindparam(column.name, type_=column.type)
        if column.name != "seq"
        else sa.func.coalesce(sa.func.max(events.c.seq), 0) + 1
        for column in _plain
    )
).where(events.c.object_id == sa.bindparam("of_object", type_=sa.String()))
_RECORD = sa.insert(events).inline()  # Nobody asks for the number it got.
_RECORD_NEXT = sa.insert(events).from_select([column.name for column in _plain], _next)


async def record(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert events; those without a sequence get the next one of their object."""
    if "seq" in rows[0]:
        await db.write(tx, _RECORD, list(rows))
    else:
        await tx.execute(_RECORD_NEXT, [{**row, "of_object": row["object_id"]} for row in rows])


def _event(row: Any) -> Event:
    values = {item.name: getattr(row, item.name) for item in fields(Event)}
    return Event(**values | {"merchants": tuple(row.merchants.split())})


# -- routing ------------------------------------------------------------------------------------


async def head(tx: AsyncConnection) -> tuple[int, int]:
    """Up to which number everything is routed, and the last position given."""
    row = (await tx.execute(sa.select(router.c.low, router.c.position))).one_or_none()
    return (row.low, row.position) if row else (0, 0)


async def set_head(tx: AsyncConnection, *, low: int, position: int) -> None:
    await tx.execute(insert_missing(tx, router).values(one=1, low=0, position=0))
    await tx.execute(sa.update(router).values(low=low, position=position))


async def unrouted(tx: AsyncConnection, *, above: int, limit: int) -> list[Event]:
    """Events nobody was told of yet, by number."""
    routed = sa.exists().where(
        feed.c.number == events.c.number,
        feed.c.number > above,  # Follows, but lets the index begin there.
    )
    query = sa.select(events).where(events.c.number > above, ~routed)
    return [_event(row) for row in await tx.execute(query.order_by(events.c.number).limit(limit))]


async def add_to_feed(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    await tx.execute(sa.insert(feed), list(rows))


async def routed_above(tx: AsyncConnection, low: int, limit: int) -> list[tuple[int, datetime]]:
    """Numbers that are routed, and when, from `low` on."""
    query = sa.select(feed.c.number, sa.func.min(feed.c.routed_at, type_=Instant()))
    query = query.where(feed.c.number > low).group_by(feed.c.number)
    found = await tx.execute(query.order_by(feed.c.number).limit(limit))
    return [(number, at) for number, at in found]


async def add_deliveries(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Queue deliveries; one that is there already stays as it is."""
    await tx.execute(insert_missing(tx, deliveries), list(rows))


# -- reading ------------------------------------------------------------------------------------


async def newest(tx: AsyncConnection, object_ids: Sequence[str]) -> dict[str, int]:
    """The last sequence of each of these objects that has one."""
    query = sa.select(events.c.object_id, sa.func.max(events.c.seq))
    query = query.where(events.c.object_id.in_(object_ids)).group_by(events.c.object_id)
    return {row[0]: row[1] for row in await tx.execute(query)}


async def of_objects(tx: AsyncConnection, object_ids: Sequence[str]) -> list[Event]:
    """Every event of these objects, by number, which is in order per object."""
    query = sa.select(events).where(events.c.object_id.in_(object_ids))
    return [_event(row) for row in await tx.execute(query.order_by(events.c.number))]


async def newest_events(tx: AsyncConnection, *, since: datetime | None, limit: int) -> list[Event]:
    """Events, newest first."""
    query = sa.select(events).order_by(events.c.number.desc()).limit(limit)
    if since is not None:
        query = query.where(events.c.occurred_at >= since)
    return [_event(row) for row in await tx.execute(query)]


async def by_ids(tx: AsyncConnection, ids: Iterable[tuple[str, int]]) -> list[Event]:
    """Events by object and sequence."""
    pairs = [(events.c.object_id == object_id) & (events.c.seq == seq) for object_id, seq in ids]
    query = sa.select(events).where(sa.or_(sa.false(), *pairs)).order_by(events.c.number)
    return [_event(row) for row in await tx.execute(query)]


async def of_merchants(
    tx: AsyncConnection,
    merchants: Sequence[str],
    *,
    after: int | None = None,
    before: int | None = None,
    types: Sequence[str] | None = None,
    object_id: str | None = None,
    since: datetime | None = None,
    limit: int,
) -> list[tuple[int, str, Event]]:
    """Events that concern merchants, with position and merchant.

    Args:
        after: Those after a position, oldest first; else newest first.
    """
    query = sa.select(feed.c.position, feed.c.merchant_id, events)
    query = query.join_from(feed, events, feed.c.number == events.c.number)
    query = query.where(feed.c.merchant_id.in_([*merchants, EVERYBODY]))
    if after is not None:
        query = query.where(feed.c.position > after)
    if before is not None:
        query = query.where(feed.c.position < before)
    if types is not None:
        query = query.where(events.c.type.in_(types))
    if object_id is not None:
        query = query.where(events.c.object_id == object_id)
    if since is not None:
        query = query.where(events.c.occurred_at >= since)
    order = feed.c.position.desc() if after is None else feed.c.position
    rows = await tx.execute(query.order_by(order).limit(limit))
    return [(row.position, row.merchant_id, _event(row)) for row in rows]


async def all_after(tx: AsyncConnection, position: int, limit: int) -> list[tuple[int, str, Event]]:
    """Every merchant's events after a position."""
    query = sa.select(feed.c.position, feed.c.merchant_id, events)
    query = query.join_from(feed, events, feed.c.number == events.c.number)
    query = query.where(feed.c.position > position).order_by(feed.c.position, feed.c.merchant_id)
    rows = await tx.execute(query.limit(limit))
    return [(row.position, row.merchant_id, _event(row)) for row in rows]


# -- endpoints ----------------------------------------------------------------------------------


async def add_endpoint(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    await tx.execute(sa.insert(endpoints).values(**row))


async def update_endpoint(tx: AsyncConnection, endpoint_id: str, **values: Any) -> None:
    await tx.execute(sa.update(endpoints).where(endpoints.c.id == endpoint_id).values(**values))


async def find_endpoints(
    tx: AsyncConnection, *where: sa.ColumnElement[bool], lock: bool = False
) -> list[Endpoint]:
    """Endpoints, oldest first."""
    query = sa.select(endpoints).where(*where).order_by(endpoints.c.created_at, endpoints.c.id)
    rows = await tx.execute(query.with_for_update() if lock else query)
    found = []
    for row in rows:
        values = dict(row._mapping)
        values |= {"types": tuple(row.types), "state": EndpointState(row.state)}
        found.append(Endpoint(**values))
    return found


# -- deliveries ---------------------------------------------------------------------------------


async def endpoints_due(tx: AsyncConnection, *, system_now: datetime) -> list[Endpoint]:
    """Active endpoints for which something can be sent."""
    d = deliveries.c
    waits = sa.exists().where(
        d.endpoint_id == endpoints.c.id,
        d.state == DeliveryState.DUE,
        d.due_at <= system_now,
        sa.or_(d.leased_until.is_(None), d.leased_until < system_now),
    )
    return await find_endpoints(tx, endpoints.c.state == EndpointState.ACTIVE, waits)


async def claim(
    tx: AsyncConnection,
    endpoint_id: str,
    *,
    system_now: datetime,
    leased_until: datetime,
    limit: int,
) -> list[Delivery]:
    """Take the next delivery of objects that have one due; no two workers get the same.

    Only an object's first unfinished delivery can be taken, so a retry holds back what follows.
    """
    d, earlier = deliveries.c, deliveries.alias("earlier")
    first = ~sa.exists().where(
        earlier.c.state == DeliveryState.DUE,
        earlier.c.endpoint_id == d.endpoint_id,
        earlier.c.object_id == d.object_id,
        earlier.c.number < d.number,
    )
    free = sa.or_(d.leased_until.is_(None), d.leased_until < system_now)
    query = (
        sa.select(d.number)
        .where(d.endpoint_id == endpoint_id, d.state == DeliveryState.DUE)
        .where(d.due_at <= system_now, free, first)
        .order_by(d.number)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    numbers = list(await tx.scalars(query))
    if not numbers:
        return []
    mine = (d.endpoint_id == endpoint_id) & one_of(tx, d.number, numbers)
    taken = {"leased_until": leased_until, "attempts": d.attempts + 1}
    await tx.execute(sa.update(deliveries).where(mine).values(taken))
    return await find_deliveries(tx, mine)


async def find_deliveries(
    tx: AsyncConnection, *where: sa.ColumnElement[bool], newest: int | None = None
) -> list[Delivery]:
    """Deliveries with their events, by number; the `newest` so many first, if that is given."""
    query = sa.select(deliveries, *(column.label(f"e_{column.name}") for column in events.c))
    query = query.join_from(deliveries, events, events.c.number == deliveries.c.number)
    order = deliveries.c.number if newest is None else deliveries.c.number.desc()
    query = query.where(*where).order_by(order, deliveries.c.endpoint_id).limit(newest)
    found = []
    for row in await tx.execute(query):
        plain = {item.name: getattr(row, f"e_{item.name}") for item in fields(Event)}
        event = Event(**plain | {"merchants": tuple(plain["merchants"].split())})
        values = {item.name: getattr(row, item.name) for item in fields(Delivery)[:-1]}
        values |= {"state": DeliveryState(row.state), "event": event}
        found.append(Delivery(**values))
    return found


async def close(
    tx: AsyncConnection, delivery: Delivery, *, state: DeliveryState, **values: Any
) -> bool:
    """Record how a try ended; False when another try has begun since."""
    d = deliveries.c
    mine = (d.endpoint_id == delivery.endpoint_id) & (d.number == delivery.number)
    mine &= (d.attempts == delivery.attempts) & (d.state == DeliveryState.DUE)
    changes = {"state": state, "leased_until": None} | values
    done = await tx.execute(sa.update(deliveries).where(mine).values(**changes))
    return bool(done.rowcount)


async def make_due(
    tx: AsyncConnection, *where: sa.ColumnElement[bool], system_now: datetime
) -> int:
    """Send what is finished once more, with all its tries."""
    again = {"state": DeliveryState.DUE, "due_at": system_now, "attempts": 0}
    over = deliveries.c.state != DeliveryState.DUE
    done = await tx.execute(sa.update(deliveries).where(*where, over).values(**again))
    return int(done.rowcount)


async def try_now(tx: AsyncConnection, *where: sa.ColumnElement[bool], system_now: datetime) -> int:
    """Let what waits after a failed try be tried at once; its tries are counted on."""
    d = deliveries.c
    free = sa.or_(d.leased_until.is_(None), d.leased_until < system_now)
    waits = sa.and_(d.state == DeliveryState.DUE, d.attempts > 0, d.due_at > system_now, free)
    change = sa.update(deliveries).where(*where, waits).values(due_at=system_now)
    return int((await tx.execute(change)).rowcount)


async def waiting(tx: AsyncConnection, numbers: Sequence[int]) -> list[sa.Row[Any]]:
    """Deliveries of these events that are not done, with their endpoint's merchant and state.

    `ahead` is how many of the same object go before; while `leased_until` lasts, it is being sent.
    """
    d, earlier = deliveries.c, deliveries.alias("earlier")
    ahead = sa.select(sa.func.count()).where(
        earlier.c.state == DeliveryState.DUE,
        earlier.c.endpoint_id == d.endpoint_id,
        earlier.c.object_id == d.object_id,
        earlier.c.number < d.number,
    )
    query = sa.select(
        *(d.number, d.due_at, d.leased_until, ahead.scalar_subquery().label("ahead")),
        *(endpoints.c.merchant_id, endpoints.c.state),
    ).join_from(deliveries, endpoints)
    query = query.where(d.number.in_(numbers), d.state == DeliveryState.DUE)
    return list(await tx.execute(query.order_by(d.number, d.endpoint_id)))


async def trouble(tx: AsyncConnection) -> Trouble:
    """What does not arrive."""
    d, active = deliveries.c, endpoints.c.state == EndpointState.ACTIVE
    fails = sa.and_(d.state == DeliveryState.DUE, d.sent_at.is_not(None))
    routed = sa.select(sa.func.min(feed.c.routed_at)).where(feed.c.number == d.number)
    since = sa.func.min(routed.scalar_subquery(), type_=Instant())
    query = sa.select(sa.func.count(), since).join_from(deliveries, endpoints)
    count, oldest = (await tx.execute(query.where(active, fails))).one()
    lost = sa.select(endpoints.c.merchant_id, sa.func.count()).join_from(deliveries, endpoints)
    lost = lost.where(active, d.state == DeliveryState.DEAD).group_by(endpoints.c.merchant_id)
    dead = {row[0]: int(row[1]) for row in await tx.execute(lost)}
    gone = await find_endpoints(tx, endpoints.c.state == EndpointState.GONE)
    return Trouble(count, oldest, dead, sorted({each.merchant_id for each in gone}))


async def forget_delivered(tx: AsyncConnection, *, before: datetime) -> None:
    """Drop deliveries that arrived before an instant; the events stay."""
    old = (deliveries.c.state == DeliveryState.DELIVERED) & (deliveries.c.sent_at < before)
    await tx.execute(sa.delete(deliveries).where(old))
