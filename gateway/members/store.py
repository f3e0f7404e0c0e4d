"""Tables of members and their SQL."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Ask
from gateway.db import Instant, Json, metadata

members = sa.Table(
    "members",
    metadata,
    sa.Column("member_id", sa.String, primary_key=True),
    sa.Column("name_zh", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("city", sa.String, nullable=False),
    sa.Column("birth_on", sa.Date),
    sa.Column("tiers", Json, nullable=False),
    sa.Column("dates", Json, nullable=False),
    sa.Column("contract", sa.String),
    sa.Column("registered_at", Instant, nullable=False),
    sa.CheckConstraint("kind IN ('person', 'enterprise')", name="kind"),
)

registrations = sa.Table(  # which merchant knows which member
    "member_registrations",
    metadata,
    sa.Column("merchant_id", sa.String, primary_key=True),
    sa.Column("member_id", sa.ForeignKey("members.member_id"), primary_key=True),
    sa.Column("partner_member_ref", sa.String),  # the merchant's own name for the member
    sa.UniqueConstraint("merchant_id", "partner_member_ref"),
    sa.Index("ix_member_registrations_member", "member_id"),
)

consents = sa.Table(
    "member_consents",
    metadata,
    sa.Column("consent_id", sa.String, primary_key=True),
    sa.Column("member_id", sa.ForeignKey("members.member_id"), nullable=False),
    sa.Column("purpose", sa.String, nullable=False),
    sa.Column("issuer", sa.String),
    sa.Column("redeemer", sa.String),
    sa.Column("granted_at", Instant, nullable=False),
    sa.Column("revoked_at", Instant),
    sa.CheckConstraint(
        "(purpose = 'partner_pair') = (issuer IS NOT NULL AND redeemer IS NOT NULL)", name="pair"
    ),
    sa.Index("ix_member_consents_member", "member_id", "purpose"),
)


async def insert(tx: AsyncConnection, row: dict[str, Any]) -> bool:
    """Insert a member; False when its id is taken."""
    return (await tx.execute(db.insert_missing(tx, members).values(row))).rowcount == 1


async def relate(
    tx: AsyncConnection, member_id: str, merchant_id: str, partner_member_ref: str | None
) -> bool:
    """Note that a merchant knows a member; False when it, or the reference, was known."""
    row = {"merchant_id": merchant_id, "member_id": member_id}
    row |= {"partner_member_ref": partner_member_ref} if partner_member_ref else {}
    return (await tx.execute(db.insert_missing(tx, registrations).values(row))).rowcount == 1


async def related(tx: AsyncConnection, member_id: str, merchant_id: str) -> bool:
    c = registrations.c
    known = sa.exists().where(c.member_id == member_id, c.merchant_id == merchant_id)
    return bool(await tx.scalar(sa.select(known)))


@cache
def _known() -> sa.Select[Any]:
    r, c = registrations.c, consents.c
    member: sa.BindParameter[str] = sa.bindparam("member")
    merchant: sa.BindParameter[str] = sa.bindparam("merchant")
    dealt = sa.exists().where(r.member_id == member, r.merchant_id == merchant)
    agreed = sa.exists().where(
        c.member_id == member,
        c.purpose == sa.bindparam("of_purpose"),
        (c.issuer == merchant) | (c.redeemer == merchant),
        c.revoked_at.is_(None),
    )
    return sa.select(dealt | agreed)


async def known(tx: AsyncConnection, member_id: str, merchant_id: str, purpose: str) -> bool:
    """Whether they are related, or a consent of that purpose names the merchant."""
    given = {"member": member_id, "merchant": merchant_id, "of_purpose": purpose}
    return bool(await tx.scalar(_known(), given))


async def by_reference(
    tx: AsyncConnection, merchant_id: str, partner_member_ref: str
) -> str | None:
    c = registrations.c
    query = sa.select(c.member_id).where(c.merchant_id == merchant_id)
    found = await tx.scalar(query.where(c.partner_member_ref == partner_member_ref))
    return str(found) if found is not None else None


async def select(tx: AsyncConnection, ids: Iterable[str]) -> list[sa.Row[Any]]:
    return list(await tx.execute(sa.select(members).where(members.c.member_id.in_(list(ids)))))


async def lock(tx: AsyncConnection, member_id: str) -> bool:
    """Keep others from the same member until the end; False when there is none."""
    query = sa.select(members.c.member_id).where(members.c.member_id == member_id)
    return await tx.scalar(query.with_for_update(key_share=True)) is not None


_ONE = sa.select(members).where(members.c.member_id == sa.bindparam("member"))


def ask_member(member_id: str) -> Ask:
    return Ask(_ONE, {"member": member_id})


@cache
def _pair_consents(redeemer: Any) -> sa.Select[Any]:
    c = consents.c
    return sa.select(consents).where(
        c.member_id == sa.bindparam("member"),
        c.purpose == sa.bindparam("of_purpose"),
        c.redeemer == redeemer,
    )


def ask_pair_consents(
    member_id: str, purpose: str, redeemer: Any, values: Mapping[str, Any]
) -> Ask:
    """A member's consents for pairs with a redeemer, which may be an expression with values."""
    given = {"member": member_id, "of_purpose": purpose}
    return Ask(_pair_consents(redeemer), given | dict(values))


async def update_tiers(tx: AsyncConnection, member_id: str, tiers: dict[str, str]) -> None:
    await tx.execute(sa.update(members).where(members.c.member_id == member_id).values(tiers=tiers))


async def insert_consents(tx: AsyncConnection, rows: list[dict[str, Any]]) -> None:
    await tx.execute(sa.insert(consents), rows)


async def select_consents(
    tx: AsyncConnection,
    member_id: str,
    *,
    purpose: str | None = None,
    issuer: str | None = None,
    redeemer: str | None = None,
) -> list[sa.Row[Any]]:
    """Consents of a member, oldest first."""
    c = consents.c
    query = sa.select(consents).where(c.member_id == member_id)
    if purpose is not None:
        query = query.where(c.purpose == purpose)
        query = query.where(c.issuer.is_not_distinct_from(issuer))
        query = query.where(c.redeemer.is_not_distinct_from(redeemer))
    return list(await tx.execute(query.order_by(c.granted_at, c.consent_id)))


async def revoke(tx: AsyncConnection, consent_id: str, member_id: str, now: datetime) -> bool:
    c = consents.c
    mine = (c.consent_id == consent_id) & (c.member_id == member_id)
    revoked_at = sa.func.coalesce(c.revoked_at, sa.literal(now, Instant))
    change = sa.update(consents).where(mine).values(revoked_at=revoked_at)
    return (await tx.execute(change)).rowcount == 1
