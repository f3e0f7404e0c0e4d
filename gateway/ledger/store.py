"""Tables of the ledger and all its SQL. Journals and lines are append-only, and sealed."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import batch, db
from gateway.db import Instant, metadata
from gateway.ledger.model import Change, Kind, Part

_KINDS = ", ".join(f"'{kind}'" for kind in Kind)

journals = sa.Table(
    "ledger_journals",
    metadata,
    sa.Column("journal_id", sa.String, primary_key=True),
    sa.Column("op_key", sa.String, nullable=False, unique=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("cause_id", sa.String, nullable=False, index=True),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("approver", sa.String),
    sa.Column("note", sa.String),
    sa.Column("effective_at", Instant, nullable=False),
    sa.Column("recorded_at", Instant, nullable=False),
    sa.CheckConstraint(f"kind IN ({_KINDS})", name="kind"),
    sa.CheckConstraint("approver <> actor", name="four_eyes"),
    info={"append_only": True, "sealed": "journal_id"},
)

lines = sa.Table(
    "ledger_lines",
    metadata,
    sa.Column("journal_id", sa.ForeignKey("ledger_journals.journal_id"), primary_key=True),
    sa.Column("line_no", sa.Integer, primary_key=True),
    sa.Column("book", sa.String, nullable=False),
    sa.Column("account", sa.String, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),  # debit > 0, credit < 0
    sa.CheckConstraint("amount <> 0", name="amount"),
    sa.Index("ix_ledger_lines_account", "book", "account"),
    info={"append_only": True, "sealed_with": "ledger_journals"},
)

balances = sa.Table(
    "ledger_balances",
    metadata,
    sa.Column("book", sa.String, primary_key=True),
    sa.Column("account", sa.String, primary_key=True),
    sa.Column("balance", sa.BigInteger, nullable=False),  # in the account's normal sense
    sa.CheckConstraint("balance >= 0", name="guard"),
)

sa.Table(  # The chain of revision 0001, of journals only. `audit` goes on; a contract drops it.
    "ledger_seals",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),  # from 1, no gap
    sa.Column("journal_id", sa.ForeignKey("ledger_journals.journal_id"), unique=True),
    sa.Column("previous", sa.String, nullable=False),
    sa.Column("seal", sa.String, nullable=False),
    info={"append_only": True},
)


_INSERT_LINES = sa.insert(lines)
_INSERT_JOURNALS = sa.insert(journals)
_BY = sa.bindparam("by", type_=sa.BigInteger)
_CHANGE = (
    sa.update(balances)
    .where(
        balances.c.book == sa.bindparam("of_book"),
        balances.c.account == sa.bindparam("of_account"),
        balances.c.balance + _BY >= 0,
    )
    .values(balance=balances.c.balance + _BY)
)


async def insert_journals(tx: AsyncConnection, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Insert the journals whose op key is new.

    Returns:
        The op keys inserted.
    """
    insert = db.insert_missing(tx, journals, journals.c.op_key)
    return set((await tx.execute(insert, rows)).scalars())


async def journal_ids(tx: AsyncConnection, op_keys: Iterable[str]) -> dict[str, str]:
    """Journal ids by op key."""
    query = sa.select(journals.c.op_key, journals.c.journal_id)
    rows = await tx.execute(query.where(journals.c.op_key.in_(list(op_keys))))
    return {row.op_key: row.journal_id for row in rows}


async def insert_lines(tx: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    await tx.execute(_INSERT_LINES, rows)


async def write_journals(
    tx: AsyncConnection,
    rows: Sequence[dict[str, Any]],
    of_lines: Sequence[dict[str, Any]],
) -> None:
    """Let new journals wait with their lines."""
    await db.write(tx, _INSERT_JOURNALS, rows)
    await db.write(tx, _INSERT_LINES, of_lines)


async def write_change(tx: AsyncConnection, change: Change, *, missed: batch.Missed) -> None:
    """Let the change of one balance wait; `missed` if there is none, or it would fall below 0."""
    row = {"of_book": change.book, "of_account": change.account, "by": change.amount}
    await db.write(tx, _CHANGE, [row], by=("of_book", "of_account"), expect=1, missed=missed)


async def change_balances(tx: AsyncConnection, changes: Sequence[Change]) -> set[tuple[str, str]]:
    """Change balances that exist and stay at or above zero; lock them in the given order.

    Returns:
        The (book, account) pairs changed.
    """
    values: dict[str, str | int] = {}
    for n, change in enumerate(changes):
        values[f"book_{n}"] = change.book
        values[f"account_{n}"] = change.account
        values[f"amount_{n}"] = change.amount
    rows = await tx.execute(_change_statement(len(changes)), values)
    return {(book, account) for book, account in rows}


@cache
def _change_statement(count: int) -> Any:
    """The one conditional update of `count` balances. Built once: this is the hot path."""
    book, account = balances.c.book, balances.c.account
    ours = [
        (book == sa.bindparam(f"book_{n}")) & (account == sa.bindparam(f"account_{n}"))
        for n in range(count)
    ]
    locked = (
        sa.select(book, account)
        .where(sa.or_(*ours))
        .order_by(book, account)
        .with_for_update()
        .cte("locked")
    )
    amounts = [sa.bindparam(f"amount_{n}", type_=sa.BigInteger) for n in range(count)]
    amount = sa.case(*zip(ours, amounts, strict=True))
    return (
        sa.update(balances)
        .where(book == locked.c.book, account == locked.c.account)
        .where(balances.c.balance + amount >= 0)
        .values(balance=balances.c.balance + amount)
        .returning(book, account)
    )


async def add_balances(tx: AsyncConnection, keys: Iterable[tuple[str, str]]) -> None:
    """Open guarded balances at zero; those that exist are left alone."""
    rows = [{"book": book, "account": account, "balance": 0} for book, account in keys]
    await tx.execute(db.insert_missing(tx, balances), rows)


async def read_balances(
    tx: AsyncConnection, keys: Iterable[tuple[str, str]], *, lock: bool = False
) -> dict[tuple[str, str], int]:
    """Guarded balances by (book, account); those never touched are left out."""
    query = sa.select(balances).where(
        sa.tuple_(balances.c.book, balances.c.account).in_(list(keys))
    )
    if lock:
        query = query.order_by(balances.c.book, balances.c.account).with_for_update()
    return {(book, account): balance for book, account, balance in await tx.execute(query)}


async def sum_lines(tx: AsyncConnection, book: str, accounts: Sequence[str]) -> dict[str, int]:
    """Debits less credits by account."""
    query = (
        sa.select(lines.c.account, sa.func.sum(lines.c.amount))
        .where(lines.c.book == book, lines.c.account.in_(accounts))
        .group_by(lines.c.account)
    )
    return {account: int(total) for account, total in await tx.execute(query)}


async def sum_book(tx: AsyncConnection, book: str) -> dict[str, int]:
    """Debits less credits of every account of a book."""
    query = (
        sa.select(lines.c.account, sa.func.sum(lines.c.amount))
        .where(lines.c.book == book)
        .group_by(lines.c.account)
    )
    return {account: int(total) for account, total in await tx.execute(query)}


async def read_book(tx: AsyncConnection, book: str) -> dict[str, int]:
    """Guarded balances of a book by account, in order."""
    query = sa.select(balances.c.account, balances.c.balance).where(balances.c.book == book)
    rows = await tx.execute(query.order_by(balances.c.account))
    return {row.account: row.balance for row in rows}


async def sum_members(tx: AsyncConnection, book: str) -> int:
    """What all members of a points book have, less what they owe."""
    c = balances.c
    amount = sa.case((c.account.endswith(f":{Part.OWED}"), -c.balance), else_=c.balance)
    query = sa.select(sa.func.coalesce(sa.func.sum(amount), 0)).where(c.book == book)
    return int(await tx.scalar(query) or 0)


async def _with_lines(tx: AsyncConnection, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_id: dict[str, list[list[object]]] = {row["journal_id"]: [] for row in found}
    query = sa.select(lines).where(lines.c.journal_id.in_(list(by_id)))
    for line in await tx.execute(query.order_by(lines.c.journal_id, lines.c.line_no)):
        by_id[line.journal_id].append([line.line_no, line.book, line.account, line.amount])
    for row in found:
        row["lines"] = by_id[row["journal_id"]]
    return found


async def entries(
    tx: AsyncConnection, *, cause_id: str | None, since: datetime | None, limit: int
) -> list[dict[str, Any]]:
    """Journals with their lines, newest first."""
    query = sa.select(journals)
    if cause_id is not None:
        query = query.where(journals.c.cause_id == cause_id)
    if since is not None:
        query = query.where(journals.c.recorded_at >= since)
    query = query.order_by(journals.c.recorded_at.desc(), journals.c.journal_id.desc())
    return await _with_lines(tx, [row._asdict() for row in await tx.execute(query.limit(limit))])
