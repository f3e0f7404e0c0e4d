"""Tables of merchants and their SQL."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Ask, among, padded, values_of
from gateway.db import Instant, Json, metadata

merchants = sa.Table(
    "merchants",
    metadata,
    sa.Column("merchant_id", sa.String, primary_key=True),
    sa.Column("slug", sa.String, nullable=False, unique=True),
    sa.Column("name_zh", sa.String, nullable=False),
    sa.Column("name_en", sa.String, nullable=False),
    sa.Column("category", sa.String, nullable=False),
    sa.Column("cities", Json, nullable=False),
    sa.Column("market", sa.String, nullable=False),
    sa.Column("roles", Json, nullable=False),
    sa.Column("settlement_account", Json),
    sa.Column("sandbox", sa.Boolean, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("operator", Json),
    sa.Column("exited_on", sa.Date),
    sa.Column("registered_at", Instant, nullable=False),
)

onboarding_codes = sa.Table(
    "merchant_onboarding_codes",
    metadata,
    sa.Column("code_hash", sa.String, primary_key=True),
    sa.Column("merchant_id", sa.ForeignKey("merchants.merchant_id"), nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("used_at", Instant),
)


async def insert(tx: AsyncConnection, row: dict[str, Any]) -> bool:
    """Insert a merchant; False when its id or slug is taken."""
    return (await tx.execute(db.insert_missing(tx, merchants).values(row))).rowcount == 1


async def insert_code(
    tx: AsyncConnection, *, code_hash: str, merchant_id: str, expires_at: datetime
) -> None:
    row = {"code_hash": code_hash, "merchant_id": merchant_id, "expires_at": expires_at}
    await tx.execute(sa.insert(onboarding_codes).values(row))


async def use_code(tx: AsyncConnection, code_hash: str, now: datetime) -> str | None:
    """Use a code once; None when it is unknown, used or expired."""
    c = onboarding_codes.c
    usable = (c.code_hash == code_hash) & c.used_at.is_(None) & (c.expires_at > now)
    use = sa.update(onboarding_codes).where(usable).values(used_at=now)
    found: str | None = (await tx.execute(use.returning(c.merchant_id))).scalar_one_or_none()
    return found


async def select(tx: AsyncConnection, ids: Iterable[str] | None = None) -> list[sa.Row[Any]]:
    """Merchants by id; all of them when `ids` is None."""
    query = sa.select(merchants).order_by(merchants.c.merchant_id)
    if ids is not None:
        query = query.where(merchants.c.merchant_id.in_(list(ids)))
    return list(await tx.execute(query))


@cache
def _named(merchant: Any) -> sa.Select[Any]:
    return sa.select(merchants).where(merchants.c.merchant_id == merchant)


def ask_merchant(merchant: Any, values: Mapping[str, Any]) -> Ask:
    return Ask(_named(merchant), values)


@cache
def _several(count: int) -> sa.Select[Any]:
    return sa.select(merchants).where(among(merchants.c.merchant_id, "merchant", count))


def ask_several(merchant_ids: Sequence[str]) -> Ask:
    ids = padded(merchant_ids)
    return Ask(_several(len(ids)), values_of("merchant", ids))


async def update(
    tx: AsyncConnection, merchant_id: str, values: dict[str, bool | date | None]
) -> bool:
    change = sa.update(merchants).where(merchants.c.merchant_id == merchant_id).values(values)
    return (await tx.execute(change)).rowcount == 1
