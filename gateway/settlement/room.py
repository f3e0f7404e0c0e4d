"""Cap and cover: conditional updates of single rows, which go with the transaction's batch."""

from collections.abc import Iterable, Mapping
from functools import cache

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import batch, db
from gateway.settlement.model import HUB_PARTIES, Agreement
from gateway.settlement.store import cover, usage

_FEN = sa.bindparam("fen", type_=sa.BigInteger)
_TAKE_USAGE = (
    sa.update(usage)
    .where(
        usage.c.agreement_id == sa.bindparam("agreement"),
        usage.c.month == sa.bindparam("in_month"),
        usage.c.used_fen + _FEN <= sa.bindparam("cap_fen", type_=sa.BigInteger),
    )
    .values(used_fen=usage.c.used_fen + _FEN)
)


async def take_usage(
    tx: AsyncConnection, agreement: Agreement, *, month: str, fen: int, missed: batch.Missed
) -> None:
    """Count fen against an agreement's month, with the transaction's next batch.

    Args:
        missed: When the month has no row yet, or the cap does not allow it.
    """
    row = _take(agreement, month, fen)
    await db.write(tx, _TAKE_USAGE, [row], by=("agreement", "in_month"), expect=1, missed=missed)


async def open_usage(tx: AsyncConnection, agreement_ids: Iterable[str], *, month: str) -> None:
    """Make sure that agreements have a row of a month to be counted in."""
    rows = [
        {"agreement_id": agreement_id, "month": month, "used_fen": 0}
        for agreement_id in sorted(agreement_ids)
    ]
    await db.write(tx, db.insert_missing(tx, usage), rows)


def _take(agreement: Agreement, month: str, fen: int) -> dict[str, object]:
    take: dict[str, object] = {"agreement": agreement.id, "in_month": month}
    return take | {"fen": fen, "cap_fen": agreement.monthly_cap_fen}


_MOVE_USAGE = (
    sa.update(usage)
    .where(
        usage.c.agreement_id == sa.bindparam("agreement"),
        usage.c.month == sa.bindparam("in_month"),
    )
    .values(used_fen=usage.c.used_fen + _FEN)
)


async def move_usage(tx: AsyncConnection, changes: Mapping[tuple[str, str], int]) -> None:
    """Change used fen per (agreement, month), in that order, whatever the cap."""
    for (agreement_id, month), fen in sorted(changes.items()):
        if fen > 0:
            row = {"agreement_id": agreement_id, "month": month, "used_fen": 0}
            await db.write(tx, db.insert_missing(tx, usage), [row])
        if fen:
            row = {"agreement": agreement_id, "in_month": month, "fen": fen}
            await db.write(tx, _MOVE_USAGE, [row], by=("agreement", "in_month"))


async def take_cover(
    tx: AsyncConnection, merchant_id: str, fen: int, *, column: str, missed: batch.Missed
) -> None:
    """Reserve (or, for `debit_fen`, owe) fen if both limits of the merchant's cover allow it.

    With the transaction's next batch; `missed` when they do not.
    """
    take = {"merchant": merchant_id, "fen": fen}
    await db.write(tx, _take_cover(column), [take], by=("merchant",), expect=1, missed=missed)


@cache
def _take_cover(column: str) -> sa.Update:
    """Built once a column: this is the hot path."""
    c = cover.c
    after = c.reserved_fen + c.debit_fen - c.credit_fen + _FEN
    within = (after <= c.collateral_fen) & (after <= c.net_debit_cap_fen)
    take = sa.update(cover).where(c.merchant_id == sa.bindparam("merchant"), within)
    return take.values({column: c[column] + _FEN})


async def move_cover(tx: AsyncConnection, changes: Mapping[str, Mapping[str, int]]) -> None:
    """Add to columns of cover rows, merchant by merchant; a merchant without cover has none."""
    for merchant_id, columns in sorted(changes.items()):
        if merchant_id in HUB_PARTIES:
            continue
        by = {f"{name}_by": fen for name, fen in columns.items() if fen}
        if by:
            move = _move_cover(tuple(name for name, fen in columns.items() if fen))
            await db.write(tx, move, [{"merchant": merchant_id, **by}], by=("merchant",))


@cache
def _move_cover(columns: tuple[str, ...]) -> sa.Update:
    """Built once for some columns: this is the hot path."""
    changed = {
        name: cover.c[name] + sa.bindparam(f"{name}_by", type_=sa.BigInteger) for name in columns
    }
    mine = cover.c.merchant_id == sa.bindparam("merchant")
    return sa.update(cover).where(mine).values(changed)
