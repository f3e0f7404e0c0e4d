"""Register merchants and let them in; find them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.batch import Ask
from gateway.errors import AlreadyRegistered, NotFound, Refused
from gateway.merchants import store
from gateway.merchants.model import OPERATOR, Merchant, code_hash, new_code


class OnboardingCodeInvalid(Refused):
    code = "ONBOARDING_CODE_INVALID"
    when = "the onboarding code is used, expired or unknown"
    zh = "入驻码无效或已过期"
    en = "the onboarding code is not valid"
    next_zh = "请向平台索取新的入驻码"
    next_en = "ask the operator for a new one"


async def register(
    tx: AsyncConnection,
    *,
    id: str,
    slug: str,
    name_zh: str,
    name_en: str,
    category: str,
    cities: Sequence[str],
    market: str,
    roles: Collection[str],
    settlement_account: Mapping[str, Any] | None = None,
    operator: Mapping[str, Any] | None = None,
    sandbox: bool = True,
    now: datetime,
    code_hours: int,
) -> tuple[Merchant, str]:
    """Register a merchant.

    Args:
        code_hours: Life of its onboarding code.

    Returns:
        The merchant, and the one-use code with which it registers its first key. The code is
        shown this once: only its hash is stored.

    Raises:
        AlreadyRegistered: The id or slug is taken.
    """
    row = {
        "merchant_id": id,
        "slug": slug,
        "name_zh": name_zh,
        "name_en": name_en,
        "category": category,
        "cities": list(cities),
        "market": market,
        "roles": sorted(roles),
        "settlement_account": dict(settlement_account) if settlement_account else None,
        "sandbox": sandbox,
        "paused": False,
        "operator": dict(operator) if operator else None,
        "registered_at": now,
    }
    if not await store.insert(tx, row):
        raise AlreadyRegistered(field=("id",), id=id)
    code = new_code()
    expires_at = now + timedelta(hours=code_hours)
    await store.insert_code(tx, code_hash=code_hash(code), merchant_id=id, expires_at=expires_at)
    return await get(tx, id), code


async def use_onboarding_code(tx: AsyncConnection, *, code: str, now: datetime) -> str:
    """Use an onboarding code, once.

    Returns:
        Id of the merchant it was made for.

    Raises:
        OnboardingCodeInvalid: It is used, expired or unknown.
    """
    merchant_id = await store.use_code(tx, code_hash(code), now)
    if merchant_id is None:
        raise OnboardingCodeInvalid(field=("code",))
    return merchant_id


async def get(tx: AsyncConnection, id: str) -> Merchant:
    """One merchant.

    Raises:
        NotFound: There is none.
    """
    found = await get_many(tx, [id])
    if id not in found:
        raise NotFound(id=id)
    return found[id]


def ask(merchant: Any, values: Mapping[str, Any]) -> Ask:
    """The merchant that an SQL expression names, given its values; for `found`."""
    return store.ask_merchant(merchant, values)


def ask_one(merchant_id: str) -> Ask:
    """One merchant, for `found`."""
    return store.ask_merchant(_ONE, {"merchant": merchant_id})


def ask_several(merchant_ids: Sequence[str]) -> Ask:
    """Some merchants, for `by_id`."""
    return store.ask_several(merchant_ids)


def by_id(rows: Sequence[sa.Row[Any]]) -> dict[str, Merchant]:
    """The merchants out of the rows of `ask_several`."""
    return {row.merchant_id: _merchant(row) for row in rows}


_ONE = sa.bindparam("merchant", type_=sa.String)


def found(rows: Sequence[sa.Row[Any]], id: str) -> Merchant:
    """The merchant out of the rows of `ask`; as `get`."""
    if not rows:
        raise NotFound(id=id)
    return _merchant(rows[0])


async def get_many(tx: AsyncConnection, ids: Iterable[str]) -> dict[str, Merchant]:
    """Merchants by id; unknown ids are left out."""
    return {row.merchant_id: _merchant(row) for row in await store.select(tx, set(ids))}


async def find(
    tx: AsyncConnection,
    *,
    category: str | None = None,
    city: str | None = None,
    roles: Collection[str] | None = None,
) -> list[Merchant]:
    """Merchants of a category, in a city, with all of the roles; by id."""
    everyone = [_merchant(row) for row in await store.select(tx)]
    return [
        merchant
        for merchant in everyone
        if (category is None or merchant.category == category)
        and (city is None or not {city, "全国"}.isdisjoint(merchant.cities))
        and (roles is None or merchant.roles.issuperset(roles))
    ]


async def operator(tx: AsyncConnection) -> Merchant:
    """The merchant that runs the coalition.

    Raises:
        NotFound: None is registered.
    """
    found = await find(tx, roles=[OPERATOR])
    if not found:
        raise NotFound(id=OPERATOR)
    return found[0]


async def pause(tx: AsyncConnection, *, id: str, paused: bool) -> None:
    """Stop a merchant from taking part, or let it again.

    Raises:
        NotFound: There is none.
    """
    if not await store.update(tx, id, {"paused": paused}):
        raise NotFound(id=id)


async def leave(tx: AsyncConnection, *, id: str, exited_on: date) -> None:
    """Let an issuer leave: from that day it issues nothing; its points stay redeemable.

    Raises:
        NotFound: There is none.
    """
    if not await store.update(tx, id, {"exited_on": exited_on}):
        raise NotFound(id=id)


def _merchant(row: sa.Row[Any]) -> Merchant:
    values = row._asdict()
    return Merchant(
        id=values["merchant_id"],
        cities=tuple(values["cities"]),
        roles=frozenset(values["roles"]),
        **{
            name: values[name]
            for name in (
                "slug",
                "name_zh",
                "name_en",
                "category",
                "market",
                "settlement_account",
                "sandbox",
                "paused",
                "operator",
                "exited_on",
            )
        },
    )
