"""The SQL of reviews and of what people decide about them; the tables are the store's."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import insert_missing
from gateway.redemption.store import facts, redemptions, review_resolutions, reviews


async def open_one(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Note why a redemption needs a person; one that needed one before needs one again."""
    if not (await tx.execute(insert_missing(tx, reviews), row)).rowcount:
        mine = reviews.c.redemption_id == row["redemption_id"]
        await tx.execute(sa.update(reviews).where(mine).values(row))


async def update(tx: AsyncConnection, redemption_id: str, values: Mapping[str, Any]) -> None:
    mine = reviews.c.redemption_id == redemption_id
    await tx.execute(sa.update(reviews).where(mine).values(values))


async def find(tx: AsyncConnection, *where: sa.ColumnElement[bool]) -> list[sa.Row[Any]]:
    """Reviews with the merchant of their redemption, what is due first first."""
    query = sa.select(reviews, redemptions.c.merchant_id).join_from(reviews, redemptions)
    order = (reviews.c.due_at, reviews.c.redemption_id)
    return list(await tx.execute(query.where(*where).order_by(*order)))


async def add_resolution(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    await tx.execute(sa.insert(review_resolutions).values(**row))


async def find_resolutions(
    tx: AsyncConnection, *where: sa.ColumnElement[bool], lock: bool = False
) -> list[sa.Row[Any]]:
    """Decisions about redemptions and proposals, oldest first."""
    v = review_resolutions.c
    query = sa.select(review_resolutions).where(*where).order_by(v.proposed_at, v.id)
    return list(await tx.execute(query.with_for_update() if lock else query))


async def update_resolutions(
    tx: AsyncConnection, *where: sa.ColumnElement[bool], **values: Any
) -> None:
    await tx.execute(sa.update(review_resolutions).where(*where).values(values))


async def all_facts(tx: AsyncConnection, redemption_ids: Sequence[str]) -> list[sa.Row[Any]]:
    """What partners have said of redemptions, oldest first."""
    f = facts.c
    query = sa.select(facts).where(f.redemption_id.in_(redemption_ids))
    return list(await tx.execute(query.order_by(f.recorded_at, f.op_key, f.version)))
