"""The settlement room's operations. Claims between merchants become payments between merchants.

agreements  what an issuer pays a redeemer, its monthly cap, the issuer's cover
claims      reserve → accrue → clear; release, reverse, adjust, compensate, owe goods, correct
windows     the cut, netting, a settlement proposed and approved by two people
legs        notices, signed answers, booking

The functions that make claims return HUB lines: the caller posts them in its own journal.
"""

from collections.abc import Collection
from datetime import date

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.settlement import store
from gateway.settlement.agreements import (
    AgreementCap,
    CoverExceeded,
    NoAgreement,
    Room,
    add_agreement,
    agreement_for,
    agreement_in_force,
    agreements,
    agreements_between,
    ask_agreements,
    ask_room,
    ask_towards,
    check_room,
    cover_of,
    propose_agreement,
    set_cover,
    sign_agreement,
    towards,
    used_fen,
)
from gateway.settlement.claims import (
    accrue,
    adjust,
    ask_reserved,
    clear,
    compensate,
    correct,
    owe_goods,
    release,
    reserve,
    reserve_legs,
    reserved_lines,
    reverse,
)
from gateway.settlement.legs import (
    acknowledge_leg,
    book_leg,
    leg,
    legs,
    notice,
    record_notice,
)
from gateway.settlement.model import HUB_PARTIES, STATEMENT_TYPES, Obligation, State, Type
from gateway.settlement.windows import (
    StaleNetHash,
    WindowNotOpen,
    approve_settlement,
    bank_csv,
    close_due_window,
    close_window,
    ensure_window,
    net_window,
    payments,
    positions,
    propose_settlement,
    publish_window,
    settlement,
    settlements,
    window,
    windows,
)

__all__ = [
    "AgreementCap",
    "CoverExceeded",
    "NoAgreement",
    "Room",
    "StaleNetHash",
    "WindowNotOpen",
    "accrue",
    "acknowledge_leg",
    "add_agreement",
    "adjust",
    "agreement_for",
    "agreement_in_force",
    "agreements",
    "agreements_between",
    "approve_settlement",
    "ask_agreements",
    "ask_reserved",
    "ask_room",
    "ask_towards",
    "bank_csv",
    "book_leg",
    "check_room",
    "clear",
    "close_due_window",
    "close_window",
    "compensate",
    "correct",
    "cover_of",
    "ensure_window",
    "leg",
    "legs",
    "net_window",
    "notice",
    "obligations",
    "owe_goods",
    "payments",
    "positions",
    "propose_agreement",
    "propose_settlement",
    "publish_window",
    "record_notice",
    "release",
    "reserve",
    "reserve_legs",
    "reserved_lines",
    "reverse",
    "set_cover",
    "settlement",
    "settlements",
    "sign_agreement",
    "statement_rows",
    "towards",
    "used_fen",
    "window",
    "windows",
]


async def obligations(
    tx: AsyncConnection,
    *,
    merchant: str | None = None,
    cause_id: str | None = None,
    cause_ids: Collection[str] | None = None,
    window_id: str | None = None,
    settlement_id: str | None = None,
    day: date | None = None,
    types: Collection[Type] | None = None,
    states: Collection[State] | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> list[Obligation]:
    """Obligations by id, which is by time.

    Args:
        merchant: As payer or payee.
        day: Business day of clearing.
        after: Continue after this id.
    """
    o = store.obligations.c
    where: list[sa.ColumnElement[bool]] = []
    if merchant is not None:
        where.append(sa.or_(o.payer == merchant, o.payee == merchant))
    for column, value in (
        (o.cause_id, cause_id),
        (o.window_id, window_id),
        (o.settlement_id, settlement_id),
        (o.business_date, day),
    ):
        if value is not None:
            where.append(column == value)
    for column, values in ((o.cause_id, cause_ids), (o.type, types), (o.state, states)):
        if values is not None:
            where.append(column.in_(values))
    if after is not None:
        where.append(o.obligation_id > after)
    return await store.find_obligations(tx, *where, limit=limit)


async def statement_rows(
    tx: AsyncConnection,
    *,
    merchant: str | None,
    day: date | None = None,
    cause_ids: Collection[str] | None = None,
) -> list[Obligation]:
    """What a redeemer's statement of one business day lists: redemptions and their reversals.

    Args:
        merchant: The redeemer; None for all of them.
        day: Business day of clearing; None for every day.

    Returns:
        By id, without fees and whatever else the redeemer's own books do not know.
    """
    o = store.obligations.c
    where: list[sa.ColumnElement[bool]] = [o.type.in_(STATEMENT_TYPES), o.window_id.is_not(None)]
    where += [o.payer.not_in(HUB_PARTIES), o.payee.not_in(HUB_PARTIES)]
    where += [sa.or_(o.payer == o.redeemer, o.payee == o.redeemer), o.agreement_id.is_not(None)]
    if merchant is not None:
        where.append(o.redeemer == merchant)
    if day is not None:
        where.append(o.business_date == day)
    if cause_ids is not None:
        where.append(o.cause_id.in_(cause_ids))
    return await store.find_obligations(tx, *where)
