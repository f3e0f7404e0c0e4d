"""Tables of promotions: business days, campaigns, and what a capped campaign has used."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Ask, among, padded, values_of
from gateway.promotions.calendar import Day
from gateway.promotions.model import Promotion

calendar_days = sa.Table(
    "calendar_days",
    db.metadata,
    sa.Column("day_on", sa.Date, primary_key=True),
    sa.Column("lunar_year", sa.Integer, nullable=False),
    sa.Column("lunar_month", sa.Integer, nullable=False),
    sa.Column("lunar_day", sa.Integer, nullable=False),
    sa.Column("leap", sa.Boolean, nullable=False),
    sa.Column("flag", sa.String, nullable=False),  # H, HP, W or nothing
    sa.Column("festival", sa.String, nullable=False),
    sa.Column("solar_term", sa.String, nullable=False),
    sa.CheckConstraint("flag IN ('', 'H', 'HP', 'W')", name="flag"),
    sa.CheckConstraint("lunar_month BETWEEN 1 AND 12", name="month"),
    sa.CheckConstraint("lunar_day BETWEEN 1 AND 30", name="day"),
)

promotions = sa.Table(
    "promotions",
    db.metadata,
    sa.Column("promotion_id", sa.String, primary_key=True),
    sa.Column("merchant_id", sa.String, nullable=False),
    sa.Column("name_zh", sa.String, nullable=False),
    sa.Column("rule_text", sa.String, nullable=False),
    sa.Column("effect_kind", sa.String, nullable=False),
    sa.Column("target_kind", sa.String, nullable=False),  # offer, programme, merchant, …
    sa.Column("target_id", sa.String, nullable=False),  # '*' for the whole catalog
    sa.Column("scope", sa.String, nullable=False),
    sa.Column("judged_by", sa.String, nullable=False),
    sa.Column("effect", db.Json, nullable=False),
    sa.Column("calendar", db.Json, nullable=False),
    sa.Column("sub_budget_fen", sa.BigInteger),
    sa.Column("details", db.Json, nullable=False),
    sa.Column("published_at", db.Instant, nullable=False),
    sa.CheckConstraint("scope IN ('own', 'coalition')", name="scope"),
    sa.CheckConstraint("sub_budget_fen >= 0", name="sub_budget"),
    sa.Index("ix_promotions_effect", "effect_kind", "target_kind", "target_id"),
    info={"append_only": True},
)

promotion_usage = sa.Table(
    "promotion_usage",
    db.metadata,
    sa.Column("promotion_id", sa.ForeignKey("promotions.promotion_id"), primary_key=True),
    sa.Column("period", sa.String, primary_key=True),  # a month such as 2026-11
    sa.Column("used_fen", sa.BigInteger, nullable=False),
    sa.Column("cap_fen", sa.BigInteger, nullable=False),
    sa.CheckConstraint("used_fen >= 0", name="used"),
    sa.CheckConstraint("used_fen <= cap_fen", name="cap"),
)


async def put_days(tx: AsyncConnection, days: Sequence[Day]) -> None:
    """Write days; a day known before is replaced."""
    known = [day.on for day in days]
    if not known:
        return
    await tx.execute(sa.delete(calendar_days).where(calendar_days.c.day_on.in_(known)))
    rows = [
        {
            "day_on": day.on,
            "lunar_year": day.lunar_year,
            "lunar_month": day.lunar_month,
            "lunar_day": day.lunar_day,
            "leap": day.leap,
            "flag": day.flag,
            "festival": day.festival,
            "solar_term": day.solar_term,
        }
        for day in days
    ]
    await tx.execute(sa.insert(calendar_days), rows)


async def days_between(tx: AsyncConnection, first: date, last: date) -> dict[date, Day]:
    """The known days of a closed range."""
    c = calendar_days.c
    query = sa.select(calendar_days).where(c.day_on.between(first, last)).order_by(c.day_on)
    return {row.day_on: Day(*row) for row in await tx.execute(query)}


async def put(tx: AsyncConnection, promotion: Promotion, *, now: datetime) -> bool:
    """Write a promotion; False when its id is taken."""
    ((kind, value),) = promotion.target.items()
    row = {
        "promotion_id": promotion.id,
        "merchant_id": promotion.merchant_id,
        "name_zh": promotion.name_zh,
        "rule_text": promotion.rule_text,
        "effect_kind": promotion.kind,
        "target_kind": kind,
        "target_id": "*" if value is True else value,
        "scope": promotion.scope,
        "judged_by": promotion.judged_by,
        "effect": dict(promotion.effect),
        "calendar": dict(promotion.rule),
        "sub_budget_fen": promotion.sub_budget_fen,
        "details": dict(promotion.details),
        "published_at": now,
    }
    done = await tx.execute(db.insert_missing(tx, promotions).values(row))
    return bool(done.rowcount)


async def find(
    tx: AsyncConnection,
    *,
    effect: str | None = None,
    target: str | None = None,
    ids: Iterable[str] | None = None,
) -> list[Promotion]:
    """Promotions by effect, kind of target and target ids; by id."""
    c = promotions.c
    query = sa.select(promotions).order_by(c.promotion_id)
    if effect is not None:
        query = query.where(c.effect_kind == effect)
    if target is not None:
        query = query.where(c.target_kind == target)
    if ids is not None:
        query = query.where(c.target_id.in_(sorted(set(ids))))
    return [_promotion(row) for row in await tx.execute(query)]


_OF_OFFER = (
    sa.select(promotions)
    .where(
        (promotions.c.effect_kind == "price") | (promotions.c.effect_kind == "enable"),
        promotions.c.target_kind == "offer",
        promotions.c.target_id == sa.bindparam("of_offer"),
    )
    .order_by(promotions.c.promotion_id)
)


def ask_of_offer(offer_id: str) -> Ask:
    """Promotions that set an offer's price, or open it."""
    return Ask(_OF_OFFER, {"of_offer": offer_id})


@cache
def _prices(count: int) -> sa.Select[Any]:
    p = promotions.c
    priced = (p.effect_kind == "price") & (p.target_kind == "offer")
    query = sa.select(promotions).where(priced, among(p.target_id, "target", count))
    return query.order_by(p.promotion_id)


def ask_prices(offer_ids: Sequence[str]) -> Ask:
    """Promotions that set offers' prices."""
    ids = padded(offer_ids)
    return Ask(_prices(len(ids)), values_of("target", ids))


def promotions_of(rows: Iterable[sa.Row[Any]]) -> list[Promotion]:
    return [_promotion(row) for row in rows]


async def get(tx: AsyncConnection, promotion_id: str) -> Promotion | None:
    query = sa.select(promotions).where(promotions.c.promotion_id == promotion_id)
    row = (await tx.execute(query)).one_or_none()
    return _promotion(row) if row else None


def _promotion(row: sa.Row[Any]) -> Promotion:
    target = True if row.target_id == "*" else row.target_id
    return Promotion(
        id=row.promotion_id,
        merchant_id=row.merchant_id,
        name_zh=row.name_zh,
        rule_text=row.rule_text,
        target={row.target_kind: target},
        scope=row.scope,
        effect=row.effect,
        rule=row.calendar,
        judged_by=row.judged_by,
        sub_budget_fen=row.sub_budget_fen,
        details=row.details,
    )


async def used(tx: AsyncConnection, promotion_id: str, period: str) -> int:
    """What a capped promotion has used in a period, in fen."""
    u = promotion_usage.c
    query = sa.select(u.used_fen).where(u.promotion_id == promotion_id, u.period == period)
    return int(await tx.scalar(query) or 0)


async def lock_usage(tx: AsyncConnection, promotion_id: str, period: str, cap_fen: int) -> int:
    """Make the usage row if needed and lock it until the end of the transaction; what is used."""
    row = {"promotion_id": promotion_id, "period": period, "used_fen": 0, "cap_fen": cap_fen}
    await tx.execute(db.insert_missing(tx, promotion_usage).values(row))
    u = promotion_usage.c
    query = sa.select(u.used_fen).where(u.promotion_id == promotion_id, u.period == period)
    return int((await tx.execute(query.with_for_update())).scalar_one())


async def add_usage(tx: AsyncConnection, promotion_id: str, period: str, fen: int) -> None:
    """Add to a locked usage row (or take from it); the table's CHECKs hold the cap."""
    u = promotion_usage.c
    change = (
        sa.update(promotion_usage)
        .where(u.promotion_id == promotion_id, u.period == period)
        .values(used_fen=u.used_fen + fen)
    )
    done = await tx.execute(change)
    assert done.rowcount == 1, "the usage row was made by lock_usage"
