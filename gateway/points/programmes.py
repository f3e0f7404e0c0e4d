"""Programmes and the policies they publish: promises that only ever get better."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.batch import Ask
from gateway.errors import AlreadyRegistered, NotFound, Refused
from gateway.points import rows, store
from gateway.points.model import Programme, missing_disclosures, worse
from gateway.values import InvalidInput, Rate


class DisclosureMissing(Refused):
    code = "DISCLOSURE_MISSING"
    when = "accrual, validity or limits not stated"
    zh = "缺少公示项:{fields}"
    en = "disclosure missing: {fields}"
    next_zh = "请补全公示内容"
    next_en = "fill the form"


class ValueGuaranteeViolation(Refused):
    code = "VALUE_GUARANTEE_VIOLATION"
    when = (
        "a lower declared value, a shorter validity, a rise for the guaranteed set, or a price"
        " above ceil(cash ÷ value) unflagged"
    )
    zh = "不能降低已承诺的积分价值"
    en = "a promised value cannot be lowered"
    next_zh = "保持或提高"
    next_en = "keep or raise"


async def publish_policy(
    tx: AsyncConnection,
    *,
    programme_id: str,
    issuer: str,
    name_zh: str,
    unit_zh: str,
    rate: Rate,
    earn: Mapping[str, Any],
    months: int | None,
    disclosure: Mapping[str, str],
    compensation_bps: int,
    now: datetime,
) -> Programme:
    """Publish an issuer's programme, or its next policy. Points issued keep their old terms.

    Args:
        rate: Declared value, fen per point.
        months: Validity of points; None for life.
        disclosure: Public statements `accrual_zh`, `validity_zh`, `limits_zh`.
        compensation_bps: Share of the yearly budget approved on top for compensation.

    Raises:
        DisclosureMissing: A public statement is not there.
        ValueGuaranteeViolation: A lower rate or shorter validity than promised before.
        AlreadyRegistered: The issuer has another programme, or the id is another issuer's.

    Source: requirements C-01, C-02, S-010, S-012, S-062.
    """
    if missing := missing_disclosures(disclosure):
        raise DisclosureMissing(field=("disclosure",), fields=missing)
    if earn.get("kind") not in ("per_amount", "per_night", "per_distance"):
        raise InvalidInput(
            "earn.kind", "one of {values}", values=("per_amount", "per_night", "per_distance")
        )
    known = await store.select_programmes(tx, programme_id=programme_id)
    if known:
        _keeps_promise(rows.programme(known[0]), issuer=issuer, rate=rate, months=months)
        version = known[0].version + 1
        if not await store.raise_version(tx, programme_id, known[0].version):
            raise AlreadyRegistered(id=f"{programme_id} v{version}")
    else:
        version = 1
        if not await store.add_programme(tx, programme_id, issuer):
            raise AlreadyRegistered(field=("programme_id",), id=programme_id)
    row = {
        "programme_id": programme_id,
        "version": version,
        "name_zh": name_zh,
        "unit_zh": unit_zh,
        "rate_num": rate.num,
        "rate_den": rate.den,
        "months": months,
        "earn": dict(earn),
        "disclosure": dict(disclosure),
        "compensation_bps": compensation_bps,
        "published_at": now,
    }
    await store.insert(tx, store.policies, [row])
    return await programme(tx, programme_id)


def _keeps_promise(old: Programme, *, issuer: str, rate: Rate, months: int | None) -> None:
    if old.issuer != issuer:
        raise AlreadyRegistered(field=("programme_id",), id=old.id)
    if worse(old, rate=rate, months=months):
        raise ValueGuaranteeViolation(
            programme=old.id,
            offer=None,
            promised={"num": old.rate.num, "den": old.rate.den, "months": old.months},
            asked={"num": rate.num, "den": rate.den, "months": months},
        )


async def programme(tx: AsyncConnection, id: str) -> Programme:
    """A programme under the policy in force.

    Raises:
        NotFound: There is none.
    """
    found = await store.select_programmes(tx, programme_id=id)
    if not found:
        raise NotFound(id=id)
    return rows.programme(found[0])


def ask_programmes(ids: Sequence[str]) -> Ask:
    """Programmes under the policies in force, for `found_programmes`."""
    return store.ask_programmes(ids)


def ask_all_programmes() -> Ask:
    """All programmes under the policies in force, for `all_programmes`."""
    return store.ask_all_programmes()


def all_programmes(found: Sequence[Any]) -> list[Programme]:
    """The programmes out of the rows of `ask_all_programmes`, by id."""
    return [rows.programme(row) for row in found]


def found_programmes(found: Sequence[Any], ids: Sequence[str]) -> tuple[Programme, ...]:
    """The programmes of some ids, in their order, out of the rows of `ask_programmes`.

    Raises:
        NotFound: There is none of an id.
    """
    known = {row.programme_id: rows.programme(row) for row in found}
    for programme_id in ids:
        if programme_id not in known:
            raise NotFound(id=programme_id)
    return tuple(known[programme_id] for programme_id in ids)


async def programme_of(tx: AsyncConnection, issuer: str) -> Programme | None:
    """The programme of an issuer, if it has one."""
    found = await store.select_programmes(tx, issuer=issuer)
    return rows.programme(found[0]) if found else None


async def programmes(tx: AsyncConnection) -> list[Programme]:
    """All programmes under the policies in force, by id."""
    return [rows.programme(row) for row in await store.select_programmes(tx)]


async def policy(tx: AsyncConnection, programme_id: str, version: int) -> Programme:
    """A programme under one of its policies, which points issued under it keep."""
    row = await store.select_policy(tx, programme_id, version)
    assert row is not None, f"{programme_id} never had a policy {version}"
    return rows.programme(row)
