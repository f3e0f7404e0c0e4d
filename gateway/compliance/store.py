"""Tables of compliance and their SQL. The decision log is append-only."""

from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.db import Instant, Json, metadata

budgets = sa.Table(
    "compliance_budgets",
    metadata,
    sa.Column("budget_id", sa.String, primary_key=True),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("year", sa.Integer, nullable=False),
    sa.Column("budget_fen", sa.BigInteger, nullable=False),
    sa.Column("compensation_bps", sa.Integer, nullable=False),
    sa.Column("proposed_by", sa.String, nullable=False),
    sa.Column("proposed_at", Instant, nullable=False),
    sa.Column("approved_by", sa.String),
    sa.Column("approved_at", Instant),
    sa.Column("opened_at", Instant),  # when its fen could be issued: not before its year
    sa.CheckConstraint("budget_fen > 0", name="budget_fen"),
    sa.CheckConstraint("compensation_bps BETWEEN 0 AND 10000", name="compensation_bps"),
    sa.CheckConstraint("approved_by <> proposed_by", name="four_eyes"),
    sa.CheckConstraint("(approved_by IS NULL) = (approved_at IS NULL)", name="approved"),
    sa.CheckConstraint("opened_at IS NULL OR approved_at IS NOT NULL", name="opened"),
    sa.Index("ix_compliance_budgets_issuer", "issuer", "year"),
)

slices = sa.Table(
    "compliance_slices",
    metadata,
    sa.Column("issuer", sa.String, primary_key=True),
    sa.Column("slice", sa.String, primary_key=True),
    sa.Column("year", sa.Integer, primary_key=True),
    sa.Column("slice_fen", sa.BigInteger, nullable=False),
    sa.CheckConstraint("slice_fen > 0", name="slice_fen"),
)

licences = sa.Table(
    "compliance_licences",
    metadata,
    sa.Column("number", sa.String, primary_key=True),
    sa.Column("valid_from", sa.Date, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("scope", sa.String, nullable=False),
    sa.Column("valid_until", sa.Date, nullable=False),
    sa.Column("recorded_at", Instant, nullable=False),
    sa.CheckConstraint("valid_from < valid_until", name="period"),
)

decisions = sa.Table(
    "compliance_decisions",
    metadata,
    sa.Column("decision_id", sa.String, primary_key=True),
    sa.Column("rule", sa.String, nullable=False),
    sa.Column("subject", sa.String, nullable=False, index=True),
    sa.Column("verdict", sa.String, nullable=False),
    sa.Column("context", Json, nullable=False),
    sa.Column("decided_at", Instant, nullable=False),
    info={"append_only": True, "sealed": "decision_id"},
)


async def insert_budget(tx: AsyncConnection, row: dict[str, Any]) -> None:
    await tx.execute(sa.insert(budgets).values(row))


async def select_budget(tx: AsyncConnection, budget_id: str) -> sa.Row[Any] | None:
    query = sa.select(budgets).where(budgets.c.budget_id == budget_id)
    return (await tx.execute(query)).first()


async def select_budgets(tx: AsyncConnection, issuer: str) -> list[sa.Row[Any]]:
    """Budgets of an issuer, newest year first."""
    query = sa.select(budgets).where(budgets.c.issuer == issuer)
    return list(await tx.execute(query.order_by(budgets.c.year.desc(), budgets.c.budget_id)))


async def approve_budget(tx: AsyncConnection, budget_id: str, values: dict[str, Any]) -> bool:
    """Approve a budget once; False when it was approved before."""
    c = budgets.c
    waiting = (c.budget_id == budget_id) & c.approved_by.is_(None)
    return (await tx.execute(sa.update(budgets).where(waiting).values(values))).rowcount == 1


async def select_unopened(tx: AsyncConnection, year: int) -> list[sa.Row[Any]]:
    """Lock approved budgets of a year, or one before, that are not open yet."""
    c = budgets.c
    waiting = sa.select(budgets).where(c.approved_by.is_not(None), c.opened_at.is_(None))
    waiting = waiting.where(c.year <= year).order_by(c.year, c.budget_id).with_for_update()
    return list(await tx.execute(waiting))


async def open_budget(tx: AsyncConnection, budget_id: str, now: datetime) -> bool:
    """Mark a budget open; False when it was."""
    c = budgets.c
    closed = (c.budget_id == budget_id) & c.opened_at.is_(None)
    return (await tx.execute(sa.update(budgets).where(closed).values(opened_at=now))).rowcount == 1


async def last_years(tx: AsyncConnection) -> dict[str, int]:
    """The last year of which each issuer had a budget open."""
    c = budgets.c
    query = sa.select(c.issuer, sa.func.max(c.year).label("last"))
    query = query.where(c.opened_at.is_not(None)).group_by(c.issuer)
    return {row.issuer: row.last for row in await tx.execute(query)}


async def add_slice(tx: AsyncConnection, row: dict[str, Any]) -> bool:
    """Record a slice; False when the year has it already."""
    return (await tx.execute(db.insert_missing(tx, slices).values(row))).rowcount == 1


async def slice_fen(tx: AsyncConnection, issuer: str, slice: str, year: int) -> int:
    c = slices.c
    query = sa.select(c.slice_fen).where(c.issuer == issuer, c.slice == slice, c.year == year)
    return int(await tx.scalar(query) or 0)


async def insert_licence(tx: AsyncConnection, row: dict[str, Any]) -> None:
    await tx.execute(db.insert_missing(tx, licences).values(row))


async def select_licences(tx: AsyncConnection) -> list[sa.Row[Any]]:
    """Licences, that which ends last first."""
    return list(await tx.execute(sa.select(licences).order_by(licences.c.valid_until.desc())))


async def insert_decision(tx: AsyncConnection, row: dict[str, Any]) -> None:
    await tx.execute(sa.insert(decisions).values(row))


async def select_decisions(
    tx: AsyncConnection, subject: str | None, limit: int
) -> list[sa.Row[Any]]:
    """Decisions, newest first."""
    query = sa.select(decisions)
    if subject is not None:
        query = query.where(decisions.c.subject == subject)
    query = query.order_by(decisions.c.decided_at.desc(), decisions.c.decision_id.desc())
    return list(await tx.execute(query.limit(limit)))


async def licence_on(tx: AsyncConnection, on: date) -> bool:
    c = licences.c
    query = sa.select(sa.exists().where(c.valid_from <= on, c.valid_until > on))
    return bool(await tx.scalar(query))
