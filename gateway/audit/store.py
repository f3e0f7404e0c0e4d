"""Tables of the audit chain and all SQL over sealed tables.

A room asks for sealing by its table's `info`: `sealed` names the column of a time-ordered id
(`values.new_id`); `sealed_with` names the table to whose rows this one's belong, by the same id:
they are written in the same transaction and sealed together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Instant, Json, metadata, one_of

SEAL_LOCK = 4_703  # advisory lock: one sealer at a time

entries = sa.Table(
    "audit_entries",
    metadata,
    sa.Column("entry_id", sa.String, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),  # what was decided, as in settlement.approved
    sa.Column("subject", sa.String, nullable=False, index=True),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("body", Json, nullable=False),
    sa.Column("recorded_at", Instant, nullable=False),
    info={"append_only": True, "sealed": "entry_id"},
)

seals = sa.Table(
    "audit_seals",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),  # from 1, no gap
    sa.Column("source", sa.String, nullable=False),  # the sealed row's table
    sa.Column("row_id", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("previous", sa.String, nullable=False),
    sa.Column("seal", sa.String, nullable=False),
    sa.UniqueConstraint("source", "row_id"),
    info={"append_only": True},
)

heads = sa.Table(
    "audit_heads",
    metadata,
    sa.Column("head_id", sa.String, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),  # of the link it names
    sa.Column("seal", sa.String, nullable=False),
    sa.Column("business_date", sa.Date, nullable=False),
    sa.Column("made_at", Instant, nullable=False, index=True),
    sa.Column("kid", sa.String, nullable=False),
    sa.Column("jwk", Json, nullable=False),  # public: a retired key still verifies old heads
    sa.Column("token", sa.Text, nullable=False),  # compact JWS
    info={"append_only": True},
)

# The gateway's keys lie in a room above: this one reads their public parts only.
_keys = sa.table(
    "oauth_signing_keys",
    sa.column("kid", sa.String),
    sa.column("jwk", Json),
    sa.column("created_at", Instant),
)

_BY_NUMBER = sa.select(seals).order_by(seals.c.number)
_NEWEST = sa.select(seals).order_by(seals.c.number.desc()).limit(1)


@dataclass(frozen=True, slots=True)
class Source:
    """A sealed table, its id column, and the tables whose rows are part of its rows."""

    table: sa.Table
    key: sa.Column[Any]
    parts: tuple[sa.Table, ...]

    @property
    def name(self) -> str:
        return self.table.name


def sources() -> list[Source]:
    """Every table that asks to be sealed, by name. Only rooms that are loaded are seen."""
    found = []
    for name in sorted(metadata.tables):
        table = metadata.tables[name]
        if key := table.info.get("sealed"):
            parts = tuple(
                metadata.tables[part]
                for part in sorted(metadata.tables)
                if metadata.tables[part].info.get("sealed_with") == name
            )
            found.append(Source(table, table.c[key], parts))
    return found


async def insert_entry(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    await tx.execute(sa.insert(entries), dict(row))


async def select_entries(
    tx: AsyncConnection, *, subject: str | None, limit: int
) -> list[sa.Row[Any]]:
    """Entries, newest first."""
    query = sa.select(entries)
    if subject is not None:
        query = query.where(entries.c.subject == subject)
    return list(await tx.execute(query.order_by(entries.c.entry_id.desc()).limit(limit)))


async def last_link(tx: AsyncConnection) -> sa.Row[Any] | None:
    return (await tx.execute(_NEWEST)).first()


async def newest_sealed(tx: AsyncConnection, source: Source) -> str | None:
    """The greatest id of a sealed row of a table."""
    query = sa.select(sa.func.max(seals.c.row_id)).where(seals.c.source == source.name)
    found: str | None = await tx.scalar(query)
    return found


async def unsealed(
    tx: AsyncConnection,
    source: Source,
    *,
    limit: int,
    above: str = "",
    below: str | None = None,
) -> list[dict[str, Any]]:
    """Committed rows without a link, with their parts, by id, which is by their making."""
    mine = (seals.c.source == source.name) & (seals.c.row_id == source.key)
    mine &= seals.c.row_id > above  # Follows, but lets the index begin there.
    query = sa.select(source.table).where(~sa.exists().where(mine), source.key > above)
    if below is not None:
        query = query.where(source.key < below)
    rows = await tx.execute(query.order_by(source.key).limit(limit))
    found = [dict(row._mapping) for row in rows]
    for part in source.parts:
        await _add_parts(tx, source, part, found)
    return found


async def waiting(
    tx: AsyncConnection, source: Source, *, above: str, limit: int
) -> tuple[int, str | None]:
    """How many rows of a table have no link yet, up to `limit`, and the least id of them."""
    mine = (seals.c.source == source.name) & (seals.c.row_id == source.key)
    some = sa.select(source.key.label("id")).where(~sa.exists().where(mine), source.key > above)
    found = some.order_by(source.key).limit(limit).subquery()
    query = sa.select(sa.func.count(), sa.func.min(found.c.id)).select_from(found)
    count, first = (await tx.execute(query)).one()
    return count, first


async def newest(tx: AsyncConnection, source: Source) -> str | None:
    """The greatest id of a table's rows, sealed or not."""
    found: str | None = await tx.scalar(sa.select(sa.func.max(source.key)))
    return found


async def _add_parts(
    tx: AsyncConnection, source: Source, part: sa.Table, found: Sequence[dict[str, Any]]
) -> None:
    by_id = {row[source.key.name]: row for row in found}
    for row in found:
        row[part.name] = []
    if by_id:
        query = _in_order(part).where(one_of(tx, part.c[source.key.name], by_id))
        _hand_out(await tx.execute(query), source, part, by_id)


def _in_order(part: sa.Table) -> sa.Select[Any]:
    return sa.select(part).order_by(*part.primary_key.columns)


def _hand_out(
    rows: sa.CursorResult[Any], source: Source, part: sa.Table, by_id: Mapping[str, dict[str, Any]]
) -> None:
    """Put each part's row into the row it belongs to, without what is null or said there."""
    names = tuple(rows.keys())  # By position: this is read a million times.
    owner = names.index(source.key.name)
    for row in rows:
        if (whole := by_id.get(row[owner])) is not None:
            one = {name: value for name, value in zip(names, row, strict=True) if value is not None}
            del one[names[owner]]
            whole[part.name].append(one)


async def links(tx: AsyncConnection, *, after: int, limit: int) -> list[sa.Row[Any]]:
    """Links by number."""
    return list(await tx.execute(_BY_NUMBER.where(seals.c.number > after).limit(limit)))


async def sealed_rows(
    tx: AsyncConnection, source: Source, *, first: int, last: int
) -> dict[str, dict[str, Any]]:
    """The rows of a table that links `first` to `last` name, by id, with their parts."""
    within = (seals.c.source == source.name) & seals.c.number.between(first, last)
    query = sa.select(source.table).join(seals, within & (seals.c.row_id == source.key))
    rows = await tx.execute(query)
    names = tuple(rows.keys())
    key = names.index(source.key.name)
    found = {row[key]: dict(zip(names, row, strict=True)) for row in rows}
    for part in source.parts:
        for row in found.values():
            row[part.name] = []
        owner = part.c[source.key.name]
        named = _in_order(part).join(seals, within & (seals.c.row_id == owner))
        _hand_out(await tx.execute(named), source, part, found)
    return found


async def insert_links(tx: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    await tx.execute(sa.insert(seals), rows)


async def seal_at(tx: AsyncConnection, number: int) -> str | None:
    found: str | None = await tx.scalar(sa.select(seals.c.seal).where(seals.c.number == number))
    return found


async def insert_head(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    await tx.execute(sa.insert(heads), dict(row))


async def newest_head(tx: AsyncConnection) -> sa.Row[Any] | None:
    """The head made last; of those of one number, too."""
    order = (heads.c.number.desc(), heads.c.head_id.desc())
    return (await tx.execute(sa.select(heads).order_by(*order).limit(1))).first()


async def first_head(tx: AsyncConnection, since: datetime) -> sa.Row[Any] | None:
    """The first head made at or after an instant."""
    query = sa.select(heads).where(heads.c.made_at >= since)
    return (await tx.execute(query.order_by(heads.c.made_at, heads.c.head_id).limit(1))).first()


async def select_heads(tx: AsyncConnection) -> list[sa.Row[Any]]:
    """All heads, oldest first."""
    return list(await tx.execute(sa.select(heads).order_by(heads.c.head_id)))


async def signing_keys(tx: AsyncConnection) -> list[sa.Row[Any]]:
    """kid, public jwk and created_at of every key that is not gone, oldest first."""
    return list(await tx.execute(sa.select(_keys).order_by(_keys.c.created_at)))
