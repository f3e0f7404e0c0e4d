"""Agreements: proposed, signed by every party, looked up; the room left under cap and cover."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.audit import service as audit
from gateway.batch import Ask
from gateway.errors import NotFound, Refused
from gateway.events import service as events
from gateway.events.service import Change
from gateway.settlement import store
from gateway.settlement.model import Agreement, AgreementKind, Cover
from gateway.values import InvalidInput, amount, business_day, month_of, next_month


class NoAgreement(Refused):
    code = "NO_AGREEMENT"
    when = "no valid agreement issuer → redeemer for the offer"
    zh = "{issuer}与{redeemer}没有有效的兑换协议"
    en = "no valid agreement between {issuer} and {redeemer}"
    next_zh = "查看该商户接受的积分"
    next_en = "see which programmes are accepted there"


class AgreementCap(Refused):
    code = "AGREEMENT_CAP"
    when = "the monthly cap would be exceeded"
    zh = "本月额度只剩 {left}"
    en = "only {left} left this month"
    next_zh = "请等到 {renews_on},或使用其他积分"
    next_en = "wait until {renews_on}, or use another programme"


class CoverExceeded(Refused):
    code = "COVER_EXCEEDED"
    when = "the issuer's net debit cap would be exceeded"
    zh = "该积分暂不能跨店使用,积分未扣除"
    en = "these points cannot be used elsewhere right now; nothing was charged"
    next_zh = "请使用其他积分,发行方已收到提醒"
    next_en = "use another programme; the issuer is alerted"


async def add_agreement(
    tx: AsyncConnection,
    *,
    issuer: str,
    redeemer: str,
    settlement_bps: int,
    fee_bps: int,
    monthly_cap_fen: int,
    valid_from: date,
    valid_until: date,
    now: datetime,
    kind: str = AgreementKind.REDEMPTION,
    offers: Collection[str] | None = None,
    categories: Collection[str] | None = None,
    payee: str | None = None,
    agreement_id: str | None = None,
    version: int | None = None,
    signed_by: Collection[str] = (),
    opening_used: Mapping[str, int] | None = None,
) -> Agreement:
    """Record an agreement with the signatures it already has.

    Args:
        monthly_cap_fen: Settlement fen per calendar month of commitment.
        valid_until: The first day without it. Scope None is no limit.
        payee: Of a donation: who delivers the goods and is owed for them.
        agreement_id, version: None: `agr_<issuer>_<redeemer>`, and the version after the last.
        opening_used: Fen used before, by month as in `2026-11`, without obligations behind them.

    Raises:
        InvalidInput, InvalidAmount: A term breaks its rule.
    """
    _check_terms(issuer, redeemer, bps=settlement_bps, fee_bps=fee_bps)
    if valid_from >= valid_until:
        raise InvalidInput("valid_until", "after valid_from")
    amount(monthly_cap_fen, field="monthly_cap_fen", least=0)
    agreement_id = agreement_id or f"agr_{issuer}_{redeemer}"
    earlier = await store.find_agreements(tx, store.agreements.c.agreement_id == agreement_id)
    agreement = Agreement(
        id=agreement_id,
        version=version or max((each.version for each in earlier), default=0) + 1,
        issuer=issuer,
        redeemer=redeemer,
        kind=AgreementKind(kind),
        settlement_bps=settlement_bps,
        fee_bps=fee_bps,
        monthly_cap_fen=monthly_cap_fen,
        valid_from=valid_from,
        valid_until=valid_until,
        offers=None if offers is None else tuple(offers),
        categories=None if categories is None else tuple(categories),
        payee=payee,
        signed_by=tuple(sorted(set(signed_by))),
    )
    signed_at = now if agreement.parties <= set(signed_by) else None
    agreement = replace(agreement, signed_at=signed_at)
    await store.add_agreement(tx, agreement, now=now)
    await store.set_usage(tx, agreement_id, opening_used or {})
    return agreement


async def propose_agreement(
    tx: AsyncConnection,
    *,
    proposer: str,
    issuer: str,
    redeemer: str,
    settlement_bps: int,
    fee_bps: int,
    monthly_cap_fen: int,
    valid_from: date,
    valid_until: date,
    now: datetime,
    kind: str = AgreementKind.REDEMPTION,
    offers: Collection[str] | None = None,
    categories: Collection[str] | None = None,
    payee: str | None = None,
) -> Agreement:
    """Propose an agreement, signed by the proposer; it is in force once every party has signed.

    Raises:
        NotFound: The proposer is no party to it.
        InvalidInput, InvalidAmount: A term breaks its rule.
    """
    if proposer not in {issuer, redeemer, payee}:
        raise NotFound(id=proposer)
    made = await add_agreement(
        tx,
        issuer=issuer,
        redeemer=redeemer,
        settlement_bps=settlement_bps,
        fee_bps=fee_bps,
        monthly_cap_fen=monthly_cap_fen,
        valid_from=valid_from,
        valid_until=valid_until,
        kind=kind,
        offers=offers,
        categories=categories,
        payee=payee,
        signed_by=(proposer,),
        now=now,
    )
    await _tell(tx, made, "agreement.proposed", now=now)
    return made


async def sign_agreement(
    tx: AsyncConnection,
    *,
    agreement_id: str,
    merchant_id: str,
    now: datetime,
    version: int | None = None,
) -> Agreement:
    """Sign the version given, or the only one that waits. Signing twice is signing once.

    Raises:
        NotFound: There is no such agreement, or the merchant is no party to it.
        InvalidInput: Several wait: terms nobody has read must not slip under a signature.
    """
    a = store.agreements.c
    versions = await store.find_agreements(tx, a.agreement_id == agreement_id, lock=True)
    asked = [each for each in versions if version in (None, each.version)]
    if not asked or merchant_id not in asked[-1].parties:
        raise NotFound(id=agreement_id)
    if version is None and sum(each.signed_at is None for each in asked) > 1:
        raise InvalidInput("version", "the one to be signed: several wait")
    agreement = asked[-1]
    if merchant_id in agreement.signed_by:
        return agreement
    signed_by = tuple(sorted({*agreement.signed_by, merchant_id}))
    signed_at = now if agreement.parties <= set(signed_by) else None
    await store.sign(tx, agreement, signed_by=signed_by, signed_at=signed_at)
    body = {"version": agreement.version, "signed_by": list(signed_by)}
    await audit.record(
        tx, kind="agreement.signed", subject=agreement_id, actor=merchant_id, body=body, now=now
    )
    agreement = replace(agreement, signed_by=signed_by, signed_at=signed_at)
    if signed_at is not None:
        await _tell(tx, agreement, "agreement.signed", now=now)
    return agreement


async def _tell(tx: AsyncConnection, made: Agreement, event_type: str, *, now: datetime) -> None:
    data = {"version": made.version, "issuer": made.issuer, "redeemer": made.redeemer}
    await events.record(tx, Change(event_type, made.id, made.parties, data), now=now)


async def agreement_for(
    tx: AsyncConnection,
    *,
    issuer: str,
    redeemer: str,
    offer_id: str | None,
    category: str | None,
    at: datetime,
    kind: str = AgreementKind.REDEMPTION,
) -> Agreement:
    """The newest signed agreement that covers an offer on the business day of `at`.

    Raises:
        NoAgreement: There is none; `ended_on` is the first day without it, if there was one.
    """
    (found,) = await db.read(tx, ask_agreements(issuer, redeemer))
    return agreement_in_force(
        found,
        issuer=issuer,
        redeemer=redeemer,
        offer_id=offer_id,
        category=category,
        at=at,
        kind=kind,
    )


def ask_agreements(issuer: str, redeemer: str) -> Ask:
    """All versions that an issuer and a redeemer have signed, for `agreement_in_force`."""
    return store.ask_pair(issuer, redeemer)


def agreement_in_force(
    rows: Sequence[Any],
    *,
    issuer: str,
    redeemer: str,
    offer_id: str | None,
    category: str | None,
    at: datetime,
    kind: str = AgreementKind.REDEMPTION,
) -> Agreement:
    """As `agreement_for`, out of the rows of `ask_agreements`; those of other pairs are left."""
    found = [store.agreement_of(row) for row in rows]
    mine = [
        each
        for each in found
        if (each.issuer, each.redeemer, each.kind) == (issuer, redeemer, kind)
    ]
    covering = [each for each in mine if each.covers(offer_id, category)]
    day = business_day(at)
    in_force = [each for each in covering if each.in_force(day)]
    if not in_force:
        ended = [each.valid_until for each in covering if each.valid_until <= day]
        raise NoAgreement(issuer=issuer, redeemer=redeemer, ended_on=max(ended, default=None))
    return max(in_force, key=lambda each: (each.version, each.id))


async def agreements_between(
    tx: AsyncConnection,
    *,
    issuers: Collection[str],
    redeemers: Collection[str],
    at: datetime,
    kind: str | None = AgreementKind.REDEMPTION,
) -> list[Agreement]:
    """Signed agreements in force between any of the issuers and any of the redeemers.

    Returns:
        By issuer, redeemer; the newest version first.
    """
    a, day = store.agreements.c, business_day(at)
    where: list[sa.ColumnElement[bool]] = [a.issuer.in_(issuers), a.redeemer.in_(redeemers)]
    where += [a.signed_at.is_not(None), a.valid_from <= day, a.valid_until > day]
    if kind is not None:
        where.append(a.kind == kind)
    found = await store.find_agreements(tx, *where)
    return sorted(found, key=lambda each: (each.issuer, each.redeemer, -each.version, each.id))


def ask_towards(redeemers: Sequence[str], *, at: datetime) -> Ask:
    """Signed agreements in force with redeemers, for `towards`."""
    return store.ask_towards(redeemers, business_day(at))


def towards(rows: Sequence[Any]) -> list[Agreement]:
    """The agreements out of the rows of `ask_towards`, as `agreements_between` has them."""
    found = [store.agreement_of(row) for row in rows]
    return sorted(found, key=lambda each: (each.issuer, each.redeemer, -each.version, each.id))


async def agreements(
    tx: AsyncConnection,
    *,
    merchant: str | None = None,
    agreement_ids: Collection[str] | None = None,
) -> list[Agreement]:
    """All versions, proposed and signed, of one merchant or of some agreements."""
    a = store.agreements.c
    where: list[sa.ColumnElement[bool]] = []
    if merchant is not None:
        where.append(sa.or_(a.issuer == merchant, a.redeemer == merchant, a.payee == merchant))
    if agreement_ids is not None:
        where.append(a.agreement_id.in_(agreement_ids))
    return await store.find_agreements(tx, *where)


async def used_fen(tx: AsyncConnection, *, agreement_id: str, month: str) -> int:
    """Settlement fen counted against an agreement's month, as in `2026-11`."""
    return await store.used(tx, agreement_id, month)


async def set_cover(
    tx: AsyncConnection, *, merchant_id: str, collateral_fen: int, net_debit_cap_fen: int
) -> None:
    """Set both limits of an issuer's cover; what is reserved and owed stays.

    Raises:
        InvalidAmount: A limit is negative.
    """
    amount(collateral_fen, field="collateral_fen", least=0)
    amount(net_debit_cap_fen, field="net_debit_cap_fen", least=0)
    await store.set_cover(
        tx, merchant_id, collateral_fen=collateral_fen, net_debit_cap_fen=net_debit_cap_fen
    )


async def cover_of(tx: AsyncConnection, *, merchant_id: str) -> Cover | None:
    """A merchant's cover; None if none was set."""
    return await store.find_cover(tx, merchant_id)


async def check_room(
    tx: AsyncConnection,
    *,
    agreement: Agreement,
    settlement_fen: int,
    fee_fen: int,
    at: datetime,
) -> None:
    """Whether cap and cover would allow a leg now; nothing is reserved. For quotes.

    Raises:
        AgreementCap, CoverExceeded: They would not.
    """
    used = await store.used(tx, agreement.id, month_of(at))
    cover = await store.find_cover(tx, agreement.issuer)
    _require_room(
        agreement,
        settlement_fen=settlement_fen,
        total_fen=settlement_fen + fee_fen,
        used_fen=used,
        cover=cover,
        at=at,
    )


def ask_room(
    issuers: Any, redeemer: Any, values: Mapping[str, Any], *, at: datetime
) -> tuple[Ask, Ask, Ask]:
    """Agreements, what is used of them this month, and cover; for `Room`.

    Args:
        issuers, redeemer: SQL expressions that name them.
        values: What the expressions need.
    """
    return store.ask_room(issuers, redeemer, values, month=month_of(at))


@dataclass(frozen=True, slots=True)
class Room:
    """What issuers may spend at a redeemer: the rows of `ask_room`."""

    agreements: Sequence[Any]
    used: Sequence[Any]
    covers: Sequence[Any]

    def check(
        self, agreement: Agreement, *, settlement_fen: int, fee_fen: int, at: datetime
    ) -> None:
        """As `check_room`."""
        used = [row.used_fen for row in self.used if row.agreement_id == agreement.id]
        covers = [row for row in self.covers if row.merchant_id == agreement.issuer]
        _require_room(
            agreement,
            settlement_fen=settlement_fen,
            total_fen=settlement_fen + fee_fen,
            used_fen=used[0] if used else 0,
            cover=Cover(**covers[0]._mapping) if covers else None,
            at=at,
        )


def _require_room(
    agreement: Agreement,
    *,
    settlement_fen: int,
    total_fen: int,
    used_fen: int,
    cover: Cover | None,
    at: datetime,
) -> None:
    left = agreement.monthly_cap_fen - used_fen
    if settlement_fen > left:
        raise cap_refusal(agreement, left_fen=left, at=at)
    if cover is None or total_fen > cover.left_fen:
        raise CoverExceeded(issuer=agreement.issuer)


def cap_refusal(agreement: Agreement, *, left_fen: int, at: datetime) -> AgreementCap:
    """The refusal of an agreement whose month has `left_fen` left."""
    return AgreementCap(
        agreement=agreement.id,
        cap_fen=agreement.monthly_cap_fen,
        left_fen=max(left_fen, 0),
        renews_on=next_month(business_day(at)),
    )


def _check_terms(issuer: str, redeemer: str, *, bps: int, fee_bps: int) -> None:
    if issuer == redeemer:
        raise InvalidInput("redeemer", "another merchant than the issuer")
    if not 1 <= bps <= 10_000:
        raise InvalidInput("settlement_bps", "{least} to {most}", least=1, most=10_000)
    if not 0 <= fee_bps <= 10_000:
        raise InvalidInput("fee_bps", "{least} to {most}", least=0, most=10_000)
