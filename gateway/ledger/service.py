"""Post journals, read balances."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.ledger import store
from gateway.ledger.model import (
    Change,
    Insufficient,
    Journal,
    Kind,
    Line,
    changes,
    guarded,
    points_book,
)
from gateway.values import new_id


async def post(tx: AsyncConnection, journals: Sequence[Journal], *, now: datetime) -> list[str]:
    """Post journals together: three statements, however many there are.

    An op key that was posted before is left alone: its balances do not move again.

    Args:
        journals: At least one, each with an op key of its own.
        now: Stored as `recorded_at`.

    Returns:
        Journal ids in the order given; the old id of an op key posted before.

    Raises:
        Insufficient: A guarded balance would fall below zero. Roll the transaction back.
    """
    assert journals
    assert len({journal.op_key for journal in journals}) == len(journals), "one op key, one journal"
    made = sorted(new_id("jnl") for _ in journals)  # Ids sort as the journals were given.
    ids = dict(zip((journal.op_key for journal in journals), made, strict=True))
    rows = [_row(journal, ids[journal.op_key], now) for journal in journals]
    inserted = await store.insert_journals(tx, rows)
    if len(inserted) < len(journals):
        ids |= await store.journal_ids(tx, ids.keys() - inserted)
    new = [journal for journal in journals if journal.op_key in inserted]
    if new:
        await _change(tx, changes(new))
        await store.insert_lines(tx, [row for one in new for row in _lines(one, ids[one.op_key])])
    return [ids[journal.op_key] for journal in journals]


async def enter(tx: AsyncConnection, journals: Sequence[Journal], *, now: datetime) -> list[str]:
    """Post journals that are new, with the transaction's next batch: nothing is read.

    For a caller whose own guard makes sure that it comes here once; an op key that was posted
    before breaks its unique key, and the transaction with it.

    Returns:
        Journal ids in the order given.

    Raises:
        Insufficient: With the batch: a guarded balance would fall below zero.
    """
    assert journals
    made = sorted(new_id("jnl") for _ in journals)
    together = list(zip(journals, made, strict=True))
    await store.write_journals(
        tx,
        [_row(journal, journal_id, now) for journal, journal_id in together],
        [row for journal, journal_id in together for row in _lines(journal, journal_id)],
    )
    for change in changes(journals):
        await store.write_change(tx, change, missed=partial(_change_missed, change=change))
    return made


async def _change_missed(tx: AsyncConnection, *, change: Change) -> None:
    await _change(tx, [change])


async def balance(tx: AsyncConnection, book: str, account: str) -> int:
    """One balance: in its normal sense if guarded, else debits less credits."""
    return (await balances(tx, book, [account]))[account]


async def balances(tx: AsyncConnection, book: str, accounts: Sequence[str]) -> dict[str, int]:
    """Balances of accounts of one book; 0 for an account never touched.

    Returns:
        In its normal sense (>= 0) for a guarded account, else debits less credits.
    """
    kept = [account for account in accounts if guarded(book, account)]
    summed = [account for account in accounts if not guarded(book, account)]
    found = dict.fromkeys(accounts, 0)
    if kept:
        rows = await store.read_balances(tx, [(book, account) for account in kept])
        found |= {account: value for (_, account), value in rows.items()}
    if summed:
        found |= await store.sum_lines(tx, book, summed)
    return found


async def guarded_balances(
    tx: AsyncConnection, keys: Sequence[tuple[str, str]], *, lock: bool = False
) -> dict[tuple[str, str], int]:
    """Guarded balances of several books by (book, account), in one statement; 0 if untouched.

    Args:
        lock: Lock them, in their order, until the transaction ends.
    """
    found = await store.read_balances(tx, keys, lock=lock) if keys else {}
    return {key: found.get(key, 0) for key in keys}


async def book_balances(tx: AsyncConnection, book: str) -> dict[str, int]:
    """All guarded balances of a book by account."""
    return await store.read_book(tx, book)


async def outstanding(tx: AsyncConnection, issuer: str) -> int:
    """Points of an issuer that members have, pending and held ones too, less what they owe."""
    return await store.sum_members(tx, points_book(issuer))


async def trial_balance(tx: AsyncConnection, book: str) -> dict[str, int]:
    """Debits less credits of every account of one book; they sum to zero."""
    return await store.sum_book(tx, book)


async def entries(
    tx: AsyncConnection, *, cause_id: str | None = None, since: datetime | None = None, limit: int
) -> list[tuple[str, Journal]]:
    """Journals as posted, with their ids, newest first."""
    rows = await store.entries(tx, cause_id=cause_id, since=since, limit=limit)
    return [(row["journal_id"], _journal(row)) for row in rows]


async def _change(tx: AsyncConnection, wanted: Sequence[Change]) -> None:
    if not wanted:
        return
    done = await store.change_balances(tx, wanted)
    if len(done) == len(wanted):
        return
    left = [change for change in wanted if (change.book, change.account) not in done]
    await store.add_balances(tx, [(change.book, change.account) for change in left])
    done = await store.change_balances(tx, left)
    for change in left:
        key = (change.book, change.account)
        if key not in done:
            available = (await store.read_balances(tx, [key]))[key]
            raise Insufficient(
                book=change.book,
                account=change.account,
                needed=-change.amount,
                available=available,
            )


def _row(journal: Journal, journal_id: str, now: datetime) -> dict[str, Any]:
    return {
        "journal_id": journal_id,
        "op_key": journal.op_key,
        "kind": journal.kind,
        "cause_id": journal.cause_id,
        "actor": journal.actor,
        "approver": journal.approver,
        "note": journal.note,
        "effective_at": journal.effective_at,
        "recorded_at": now,
    }


def _lines(journal: Journal, journal_id: str) -> list[dict[str, Any]]:
    return [
        {
            "journal_id": journal_id,
            "line_no": line_no,
            "book": line.book,
            "account": line.account,
            "amount": line.amount,
        }
        for line_no, line in enumerate(journal.lines, 1)
    ]


def _journal(row: Mapping[str, Any]) -> Journal:
    return Journal(
        kind=Kind(row["kind"]),
        op_key=row["op_key"],
        lines=tuple(Line(book, account, amount) for _, book, account, amount in row["lines"]),
        effective_at=row["effective_at"],
        actor=row["actor"],
        cause_id=row["cause_id"],
        approver=row["approver"],
        note=row["note"],
    )
