"""Register members, keep their consents, and know which merchant may act on whom."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.batch import Ask
from gateway.errors import AlreadyRegistered, NotFound
from gateway.members import store
from gateway.members.model import (
    LEAST_AGE,
    PARTNER_PAIR,
    PURPOSES,
    AgeRestricted,
    Consent,
    ConsentRequired,
    Member,
    age_on,
)
from gateway.values import InvalidInput, business_day, new_id


async def register(
    tx: AsyncConnection,
    *,
    name_zh: str,
    city: str,
    consents: Sequence[Mapping[str, str | None]],
    now: datetime,
    member_id: str | None = None,
    merchant_id: str | None = None,
    partner_member_ref: str | None = None,
    kind: str = "person",
    birth_on: date | None = None,
    tiers: Mapping[str, str] | None = None,
    dates: Mapping[str, str] | None = None,
    contract: str | None = None,
) -> Member:
    """Register a member, with what it agreed to.

    Args:
        consents: Each `{purpose, issuer?, redeemer?}`.
        merchant_id: The merchant that registers it and may act on it from now on.
        partner_member_ref: That merchant's own name for the member.

    Raises:
        AlreadyRegistered: The merchant's reference, or the id, is taken.
        AgeRestricted: A person under 14.
        InvalidInput: A consent is for no known purpose, or a pair lacks its parties.
    """
    if birth_on is not None and age_on(birth_on, business_day(now)) < LEAST_AGE:
        raise AgeRestricted(field=("birth_on",), age=LEAST_AGE)
    if merchant_id is not None and partner_member_ref is not None:
        known = await store.by_reference(tx, merchant_id, partner_member_ref)
        if known is not None:
            raise AlreadyRegistered(field=("partner_member_ref",), id=partner_member_ref)
    prefix = "mbr" if kind == "person" else "ent"
    member = Member(
        id=member_id or new_id(prefix),
        name_zh=name_zh,
        kind=kind,
        city=city,
        birth_on=birth_on,
        tiers=dict(tiers or {}),
        dates=dict(dates or {}),
        contract=contract,
    )
    if not await store.insert(tx, _row(member, now)):
        raise AlreadyRegistered(field=("member_id",), id=member.id)
    if merchant_id is not None and not await store.relate(
        tx, member.id, merchant_id, partner_member_ref
    ):
        raise AlreadyRegistered(field=("partner_member_ref",), id=partner_member_ref)
    rows = [_consent(member.id, now=now, **consent) for consent in consents]
    if rows:
        await store.insert_consents(tx, rows)
    return member


async def get(tx: AsyncConnection, member_id: str) -> Member:
    """One member.

    Raises:
        NotFound: There is none.
    """
    found = await get_many(tx, [member_id])
    if member_id not in found:
        raise NotFound(id=member_id)
    return found[member_id]


def ask(member_id: str) -> Ask:
    """One member, for `found`."""
    return store.ask_member(member_id)


def found(rows: Sequence[sa.Row[Any]], member_id: str) -> Member:
    """The member out of the rows of `ask`; as `get`."""
    if not rows:
        raise NotFound(id=member_id)
    return _member(rows[0])


async def get_many(tx: AsyncConnection, ids: Iterable[str]) -> dict[str, Member]:
    """Members by id; unknown ids are left out."""
    return {row.member_id: _member(row) for row in await store.select(tx, set(ids))}


async def by_reference(
    tx: AsyncConnection, *, merchant_id: str, partner_member_ref: str
) -> str | None:
    """Id of the member a merchant registered under its own reference."""
    return await store.by_reference(tx, merchant_id, partner_member_ref)


async def set_tier(tx: AsyncConnection, *, member_id: str, programme_id: str, tier: str) -> None:
    """Set a member's tier in one programme.

    Raises:
        NotFound: There is no such member.
    """
    member = await get(tx, member_id)
    await store.update_tiers(tx, member_id, {**member.tiers, programme_id: tier})


async def relate(tx: AsyncConnection, member_id: str, merchant_id: str) -> None:
    """Note that a merchant knows a member, by points or a redemption. Saying it twice is fine."""
    await store.relate(tx, member_id, merchant_id, None)


async def related(tx: AsyncConnection, member_id: str, merchant_id: str) -> bool:
    """Whether a merchant may act on a member: it registered it, or has dealt with it."""
    return await store.related(tx, member_id, merchant_id)


async def known_at(tx: AsyncConnection, member_id: str, merchant_id: str) -> bool:
    """Whether a merchant may know that a member asks for something of it.

    It has to do with the member, or the member has agreed to use points of it or with it.
    """
    return await store.known(tx, member_id, merchant_id, PARTNER_PAIR)


async def grant_consent(
    tx: AsyncConnection,
    *,
    member_id: str,
    purpose: str,
    issuer: str | None = None,
    redeemer: str | None = None,
    now: datetime,
) -> str:
    """Record a member's consent.

    Returns:
        Its id; that of the running one if it was given before.

    Raises:
        NotFound: There is no such member.
        InvalidInput: No known purpose, or a pair without its parties.
    """
    if not await store.lock(tx, member_id):  # Two grants at once are one.
        raise NotFound(id=member_id)
    row = _consent(member_id, purpose=purpose, issuer=issuer, redeemer=redeemer, now=now)
    for given in await store.select_consents(
        tx, member_id, purpose=purpose, issuer=row["issuer"], redeemer=row["redeemer"]
    ):
        if given.revoked_at is None:
            return str(given.consent_id)
    await store.insert_consents(tx, [row])
    return str(row["consent_id"])


async def revoke_consent(
    tx: AsyncConnection, *, consent_id: str, member_id: str, now: datetime
) -> None:
    """End a consent. Ending it twice is fine.

    Raises:
        NotFound: The member has given no such consent.
    """
    if not await store.revoke(tx, consent_id, member_id, now):
        raise NotFound(id=consent_id)


async def has_consent(
    tx: AsyncConnection,
    *,
    member_id: str,
    purpose: str,
    issuer: str | None = None,
    redeemer: str | None = None,
    now: datetime,
) -> bool:
    """Whether a member's consent runs at `now`."""
    given = await store.select_consents(
        tx, member_id, purpose=purpose, issuer=issuer, redeemer=redeemer
    )
    return _runs(given, now)


def _runs(given: Sequence[sa.Row[Any]], now: datetime) -> bool:
    return any(
        row.granted_at <= now and (row.revoked_at is None or now < row.revoked_at) for row in given
    )


async def require_pair_consent(
    tx: AsyncConnection,
    *,
    member_id: str,
    issuer: str,
    redeemer: str,
    programme: str,
    now: datetime,
) -> None:
    """Check the consent to use one issuer's points at another merchant.

    Raises:
        ConsentRequired: It is missing; the context holds the text to agree to.

    Source: Personal Information Protection Law, art. 23 (separate consent).
    """
    given = await store.select_consents(
        tx, member_id, purpose=PARTNER_PAIR, issuer=issuer, redeemer=redeemer
    )
    check_pair_consent(given, issuer=issuer, redeemer=redeemer, programme=programme, now=now)


def ask_pair_consents(member_id: str, redeemer: Any, values: Mapping[str, Any]) -> Ask:
    """A member's consents for any issuer's points at a redeemer, for `check_pair_consent`.

    Args:
        redeemer: An SQL expression that names it.
        values: What the expression needs.
    """
    return store.ask_pair_consents(member_id, PARTNER_PAIR, redeemer, values)


def check_pair_consent(
    rows: Sequence[sa.Row[Any]], *, issuer: str, redeemer: str, programme: str, now: datetime
) -> None:
    """As `require_pair_consent`, out of the rows of `ask_pair_consents`."""
    mine = [row for row in rows if (row.issuer, row.redeemer) == (issuer, redeemer)]
    if _runs(mine, now):
        return
    raise ConsentRequired(
        purpose=PARTNER_PAIR,
        programme=programme,
        issuer=issuer,
        redeemer=redeemer,
        consent_text="同意将本次兑换所需的信息提供给该商户,仅用于履行兑换与售后,可随时撤回。",
    )


async def consents(tx: AsyncConnection, member_id: str) -> list[Consent]:
    """All consents of a member, also ended ones, oldest first."""
    rows = await store.select_consents(tx, member_id)
    return [
        Consent(
            id=row.consent_id,
            member_id=row.member_id,
            purpose=row.purpose,
            issuer=row.issuer,
            redeemer=row.redeemer,
            granted_at=row.granted_at,
            revoked_at=row.revoked_at,
        )
        for row in rows
    ]


def _consent(
    member_id: str,
    *,
    purpose: str | None = None,
    issuer: str | None = None,
    redeemer: str | None = None,
    now: datetime,
) -> dict[str, Any]:
    if purpose not in PURPOSES:
        raise InvalidInput("consents.purpose", "one of {values}", values=sorted(PURPOSES))
    pair = issuer is not None and redeemer is not None
    if pair != (purpose == PARTNER_PAIR) or (issuer is None) != (redeemer is None):
        raise InvalidInput(
            "consents.issuer", "issuer and redeemer, for {purpose} only", purpose=PARTNER_PAIR
        )
    return {
        "consent_id": new_id("cns"),
        "member_id": member_id,
        "purpose": purpose,
        "issuer": issuer,
        "redeemer": redeemer,
        "granted_at": now,
    }


def _row(member: Member, now: datetime) -> dict[str, Any]:
    return {
        "member_id": member.id,
        "name_zh": member.name_zh,
        "kind": member.kind,
        "city": member.city,
        "birth_on": member.birth_on,
        "tiers": dict(member.tiers),
        "dates": dict(member.dates),
        "contract": member.contract,
        "registered_at": now,
    }


def _member(row: sa.Row[Any]) -> Member:
    return Member(
        id=row.member_id,
        name_zh=row.name_zh,
        kind=row.kind,
        city=row.city,
        birth_on=row.birth_on,
        tiers=row.tiers,
        dates=row.dates,
        contract=row.contract,
    )
