"""Tables of subgraphs, of the one graph's versions and of saved operations, and their SQL."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Raced
from gateway.db import Instant, Json, metadata
from gateway.subgraphs.model import Live, Operation, Subgraph, Version

prefixes = sa.Table(
    "subgraph_prefixes",
    metadata,
    sa.Column("merchant_id", sa.ForeignKey("merchants.merchant_id"), primary_key=True),
    sa.Column("prefix", sa.String, nullable=False, unique=True),  # in lower case
)

subgraphs = sa.Table(
    "subgraph_versions",
    metadata,
    sa.Column("subgraph_id", sa.String, primary_key=True),
    sa.Column("merchant_id", sa.ForeignKey("merchants.merchant_id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),  # from 1 per merchant
    sa.Column("url", sa.String, nullable=False),
    sa.Column("sdl", sa.Text, nullable=False),
    sa.Column("published_by", sa.String, nullable=False),
    sa.Column("published_at", Instant, nullable=False),
    sa.UniqueConstraint("merchant_id", "number"),
    info={"append_only": True},
)

versions = sa.Table(
    "supergraph_versions",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),  # from 1
    sa.Column("members", Json, nullable=False),  # merchant to subgraph_id
    sa.Column("sdl", sa.Text, nullable=False),
    sa.Column("ours", sa.String, nullable=False),  # digest of our own schema in it
    sa.Column("made_by", sa.String, nullable=False),
    sa.Column("made_at", Instant, nullable=False),
    info={"append_only": True},
)

live = sa.Table(  # one row says what is answered with
    "supergraph_live",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True),
    sa.Column("number", sa.ForeignKey("supergraph_versions.number")),  # none: ours alone
    sa.Column("activation", sa.Integer, nullable=False),
    sa.CheckConstraint("one = 1", name="one"),
)

operations = sa.Table(
    "subgraph_operations",
    metadata,
    sa.Column("client_id", sa.String, primary_key=True),
    sa.Column("hash", sa.String, primary_key=True),  # SHA-256 of the text
    sa.Column("merchant_id", sa.String),  # whose client; none: nobody's
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("registered", sa.Boolean, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),
    sa.Index("ix_subgraph_operations_seen_at", "seen_at"),
)


# -- prefixes -----------------------------------------------------------------------------------


async def take_prefix(tx: AsyncConnection, merchant_id: str, prefix: str) -> bool:
    """Keep a prefix for a merchant; False when it is another one's."""
    row = {"merchant_id": merchant_id, "prefix": prefix}
    await tx.execute(db.insert_missing(tx, prefixes).values(row))
    query = sa.select(prefixes.c.prefix).where(prefixes.c.merchant_id == merchant_id)
    return bool(await tx.scalar(query) == prefix)


# -- subgraphs ----------------------------------------------------------------------------------


async def insert_subgraph(tx: AsyncConnection, made: Subgraph) -> None:
    row = {name: getattr(made, name) for name in Subgraph.__dataclass_fields__}
    await tx.execute(sa.insert(subgraphs).values(row | {"subgraph_id": row.pop("id")}))


async def select_subgraphs(tx: AsyncConnection, *where: sa.ColumnElement[bool]) -> list[Subgraph]:
    """Subgraphs, by merchant and number."""
    order = subgraphs.c.merchant_id, subgraphs.c.number
    rows = await tx.execute(sa.select(subgraphs).where(*where).order_by(*order))
    return [_subgraph(row) for row in rows]


async def last_number(tx: AsyncConnection, merchant_id: str) -> int:
    """The newest version of a merchant's subgraph; 0 without one."""
    s = subgraphs.c
    query = sa.select(sa.func.max(s.number)).where(s.merchant_id == merchant_id)
    return await tx.scalar(query) or 0


def _subgraph(row: sa.Row[Any]) -> Subgraph:
    values = row._asdict()
    return Subgraph(id=values.pop("subgraph_id"), **values)


# -- versions of the graph ----------------------------------------------------------------------


async def insert_version(tx: AsyncConnection, made: Version) -> None:
    row = {name: getattr(made, name) for name in Version.__dataclass_fields__}
    await tx.execute(sa.insert(versions).values(row | {"members": dict(made.members)}))


async def select_versions(
    tx: AsyncConnection, *where: sa.ColumnElement[bool], newest: int | None = None
) -> list[Version]:
    """Versions of the graph, newest first."""
    query = sa.select(versions).where(*where).order_by(versions.c.number.desc()).limit(newest)
    return [Version(**row._asdict()) for row in await tx.execute(query)]


async def newest_number(tx: AsyncConnection) -> int:
    return await tx.scalar(sa.select(sa.func.max(versions.c.number))) or 0


async def get_live(tx: AsyncConnection) -> Live:
    row = (await tx.execute(sa.select(live.c.number, live.c.activation))).one_or_none()
    return Live(row.number, row.activation) if row else Live(None, 0)


async def set_live(tx: AsyncConnection, number: int | None, *, seen: int) -> None:
    """Answer with another version from now on.

    Args:
        seen: The activation that the decision rests on.

    Raises:
        Raced: Another version was activated meanwhile.
    """
    first = db.insert_missing(tx, live).values(one=1, number=None, activation=0)
    await tx.execute(first)
    change = sa.update(live).where(live.c.activation == seen)
    done = await tx.execute(change.values(number=number, activation=seen + 1))
    if done.rowcount != 1:
        raise Raced("another version was activated")


# -- saved operations ---------------------------------------------------------------------------


async def put_operations(tx: AsyncConnection, given: Iterable[Operation], *, now: datetime) -> None:
    """Save operations, or note that they were seen again; a registered one stays registered."""
    o = operations.c
    for each in given:
        row = {name: getattr(each, name) for name in Operation.__dataclass_fields__}
        await tx.execute(db.insert_missing(tx, operations).values(row | {"seen_at": now}))
        this = (o.client_id == each.client_id) & (o.hash == each.hash)
        change: dict[str, Any] = {"seen_at": now} | (
            {"registered": True} if each.registered else {}
        )
        await tx.execute(sa.update(operations).where(this).values(change))


async def select_operations(
    tx: AsyncConnection, *where: sa.ColumnElement[bool]
) -> Sequence[Operation]:
    """Saved operations, those seen last first."""
    query = sa.select(operations).where(*where)
    rows = await tx.execute(query.order_by(operations.c.seen_at.desc(), operations.c.hash))
    return [Operation(**row._asdict()) for row in rows]


async def forget_operations(tx: AsyncConnection, client_id: str, *, keep: int) -> None:
    """Forget those of a client's unregistered operations that were seen longest ago."""
    o = operations.c
    mine = (o.client_id == client_id) & o.registered.is_(False)
    kept = sa.select(o.hash).where(mine).order_by(o.seen_at.desc(), o.hash).limit(keep).subquery()
    old = mine & o.hash.not_in(sa.select(kept.c.hash))
    await tx.execute(sa.delete(operations).where(old))


async def known_clients(tx: AsyncConnection) -> set[str]:
    """The clients that have saved operations."""
    return set(await tx.scalars(sa.select(operations.c.client_id).distinct()))
