"""The door of this room: programmes, lots, holds, earnings, and a member's wallets."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.batch import Ask
from gateway.errors import NotFound
from gateway.ledger import service as ledger
from gateway.ledger.model import Part, member_account, points_book
from gateway.points import rows, store
from gateway.points.earning import earn, mature, record_return
from gateway.points.holding import (
    HoldAlreadyResolved,
    InsufficientPoints,
    Taken,
    ask_free,
    ask_taken,
    burn,
    give_back,
    held,
    hold,
    rehold,
    release,
    take,
    taken,
)
from gateway.points.issuing import (
    donate,
    expire,
    issue,
    issued,
    open_lot,
    spend,
    spend_opening,
    undonate,
)
from gateway.points.model import Earning, Lot, Movement, Wallet
from gateway.points.programmes import (
    DisclosureMissing,
    ValueGuaranteeViolation,
    all_programmes,
    ask_all_programmes,
    ask_programmes,
    found_programmes,
    policy,
    programme,
    programme_of,
    programmes,
    publish_policy,
)

__all__ = [
    "DisclosureMissing",
    "HoldAlreadyResolved",
    "InsufficientPoints",
    "Taken",
    "ValueGuaranteeViolation",
    "all_programmes",
    "ask_all_programmes",
    "ask_available",
    "ask_free",
    "ask_programmes",
    "ask_taken",
    "available",
    "burn",
    "donate",
    "earn",
    "earning",
    "expire",
    "found_programmes",
    "give_back",
    "held",
    "history",
    "hold",
    "issue",
    "issued",
    "issuers_of",
    "liability",
    "look_through",
    "lots",
    "mature",
    "open_lot",
    "policy",
    "programme",
    "programme_of",
    "programmes",
    "publish_policy",
    "record_return",
    "rehold",
    "release",
    "spend",
    "spend_opening",
    "take",
    "taken",
    "undonate",
    "wallets",
]


async def wallets(tx: AsyncConnection, member_id: str, *, now: datetime) -> list[Wallet]:
    """A member's points by programme. They are never added up: issuers differ.

    Returns:
        One for each programme in which the member has or had points, by its id.
    """
    free = {
        row.programme_id: row for row in await store.sum_wallets(tx, member_id=member_id, now=now)
    }
    pending = {row.programme_id: row for row in await store.sum_pending(tx, member_id=member_id)}
    issuers = {row.programme_id: row.issuer for row in (*free.values(), *pending.values())}
    owed = await ledger.guarded_balances(tx, [_owed(one, member_id) for one in issuers.values()])
    return [
        Wallet(
            programme_id=programme_id,
            issuer=issuer,
            available=int(free[programme_id].available) if programme_id in free else 0,
            pending=int(pending[programme_id].pending) if programme_id in pending else 0,
            held=int(free[programme_id].held) if programme_id in free else 0,
            owed=owed[_owed(issuer, member_id)],
        )
        for programme_id, issuer in sorted(issuers.items())
    ]


async def available(tx: AsyncConnection, *, member_id: str, issuer: str, now: datetime) -> int:
    """Points of an issuer that a member can spend now."""
    found = await store.sum_wallets(tx, member_id=member_id, now=now, issuer=issuer)
    return int(found[0].available) if found else 0


def ask_available(member_id: str, *, now: datetime) -> Ask:
    """What a member can spend now: rows of issuer and available."""
    return store.ask_available(member_id, now)


def issuers_of(programme_ids: Sequence[str]) -> tuple[Any, dict[str, str]]:
    """The issuers of programmes as an SQL expression, and the values it needs."""
    return store.issuers_of(len(programme_ids)), store.names_of(programme_ids)


async def lots(
    tx: AsyncConnection, *, member_id: str, programme_id: str | None = None
) -> list[Lot]:
    """A member's lots, also spent ones, oldest first."""
    found = await store.select_lots(tx, member_id=member_id, programme_id=programme_id)
    return [rows.lot(row) for row in found]


async def earning(tx: AsyncConnection, earning_id: str) -> Earning:
    """What one purchase earned, as it is now.

    Raises:
        NotFound: There is none.
    """
    row = await store.select_earning(tx, earning_id)
    if row is None:
        raise NotFound(id=earning_id)
    return rows.earning(row)


async def history(
    tx: AsyncConnection, *, member_id: str, programme_id: str | None = None, limit: int
) -> list[Movement]:
    """What happened to a member's lots, newest first."""
    return [
        Movement(
            journal_id=row.journal_id,
            kind=row.kind,
            programme_id=row.programme_id,
            lot_id=row.lot_id,
            held=row.held_delta,
            remaining=row.remaining_delta,
            cause_id=row.cause_id,
            moved_at=row.moved_at,
        )
        for row in await store.select_history(tx, member_id, programme_id, limit)
    ]


async def look_through(tx: AsyncConnection, redemption_id: str) -> list[tuple[int, Lot, int]]:
    """The purchases behind a redemption: leg, lot, and the points burned of it.

    Returns:
        By leg, then oldest first; what was given back is left out. Source: S-108.
    """
    found = await store.select_spent(tx, redemption_id)
    return [(row.leg_no, rows.lot(row), int(row.spent)) for row in found]


async def liability(tx: AsyncConnection, issuer: str) -> int:
    """What an issuer's outstanding points are worth at their declared value, in fen."""
    of = await programme_of(tx, issuer)
    return of.rate.floor(await ledger.outstanding(tx, issuer)) if of else 0


def _owed(issuer: str, member_id: str) -> tuple[str, str]:
    return points_book(issuer), member_account(member_id, Part.OWED)
