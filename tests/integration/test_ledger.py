"""Posting on real databases: once, and never below zero."""

import asyncio
from collections import Counter
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from gateway.db import Database
from gateway.ledger import invariants, store
from gateway.ledger import service as ledger
from gateway.ledger.model import HUB, Insufficient, Journal, Kind, Line, credit, debit
from tests.support.issuers import open_books

NOW = datetime(2026, 11, 20, 2, tzinfo=UTC)


def journal(op_key: str, *lines: Line, kind: Kind = Kind.FEE) -> Journal:
    return Journal(kind, op_key, lines, NOW, "usr_1", "agr_1")


def fund(op_key: str, fen: int) -> Journal:
    book = "BUDGET:M04"
    return journal(op_key, debit(book, "BUDGET_APPROVED", fen), credit(book, "BUDGET_AVAIL", fen))


def use(op_key: str, fen: int) -> Journal:
    book = "BUDGET:M04"
    return journal(op_key, debit(book, "BUDGET_AVAIL", fen), credit(book, "BUDGET_USED", fen))


def fee(op_key: str, fen: int) -> Journal:
    return journal(op_key, debit(HUB, "POS:M04", fen), credit(HUB, "POS:HUB_FEE", fen))


async def test_an_op_key_posts_once(database: Database) -> None:
    async with database.transaction() as tx:
        first = await ledger.post(tx, [fund("f1", 100), fee("e12", 5_000)], now=NOW)
        again = await ledger.post(tx, [fee("e12", 5_000), fund("f1", 100)], now=NOW)
        mixed = await ledger.post(tx, [fund("f1", 100), use("u1", 40)], now=NOW)

        assert again == first[::-1]
        assert mixed[0] == first[0]
        assert await ledger.balance(tx, "BUDGET:M04", "BUDGET_AVAIL") == 60
        assert await ledger.balances(tx, HUB, ["POS:M04", "POS:HUB_FEE", "POS:M05"]) == {
            "POS:M04": 5_000,
            "POS:HUB_FEE": -5_000,
            "POS:M05": 0,
        }
        assert len(await ledger.entries(tx, limit=10)) == 3
        assert [j for _, j in await ledger.entries(tx, cause_id="agr_1", limit=1)]


async def test_a_guarded_account_never_falls_below_zero(database: Database) -> None:
    async with database.transaction() as tx:
        await ledger.post(tx, [fund("f1", 100)], now=NOW)
    with pytest.raises(Insufficient) as short:
        async with database.transaction() as tx:
            await ledger.post(tx, [use("u1", 101)], now=NOW)
    assert (short.value.account, short.value.needed, short.value.available) == (
        "BUDGET_AVAIL",
        101,
        100,
    )
    with pytest.raises(IntegrityError, match="ck_ledger_balances_guard"):
        async with database.transaction() as tx:
            await tx.execute(sa.update(store.balances).values(balance=-1))


async def test_what_many_take_at_once_is_what_there_is(database: Database) -> None:
    async with database.transaction() as tx:
        await ledger.post(tx, [fund("f1", 1_000)], now=NOW)

    async def attempt(number: int) -> bool:
        try:
            async with database.transaction() as tx:
                await ledger.post(tx, [use(f"u{number}", 90)], now=NOW)
        except Insufficient:
            return False
        return True

    outcomes = Counter(await asyncio.gather(*(attempt(number) for number in range(30))))
    assert outcomes == {True: 11, False: 19}
    async with database.transaction() as tx:
        assert await ledger.balance(tx, "BUDGET:M04", "BUDGET_AVAIL") == 10


async def test_the_same_op_key_at_once_posts_once(database: Database) -> None:
    async def attempt() -> str:
        async with database.transaction() as tx:
            return (await ledger.post(tx, [fund("f1", 100)], now=NOW))[0]

    assert len(set(await asyncio.gather(*(attempt() for _ in range(10))))) == 1
    async with database.transaction() as tx:
        assert await ledger.balance(tx, "BUDGET:M04", "BUDGET_AVAIL") == 100


@pytest.mark.parametrize(
    ("id", "lines"),
    [
        ("L1", [Line(HUB, "POS:M04", 5)]),
        ("L2", [Line("PTS:M04", "ISSUED", 5), Line("PTS:M04", "M:m1:AVAIL", -5)]),
        ("K1", [Line("PTS:M04", "M:m1:AVAIL", 5), Line("PTS:M04", "M:m2:HELD", -5)]),
        (
            "K2",
            [
                Line("PTS:M04", "ISSUED", 5),
                Line("PTS:M04", "EXPIRED", -5),
                Line("PTS:M05", "ISSUED", 5),
                Line("PTS:M05", "EXPIRED", -5),
            ],
        ),
        ("K3", [Line(HUB, "POS:M04", 5), Line(HUB, "M:m1:AVAIL", -5)]),
        ("K5", [Line("BUDGET:M04", "BUDGET_AVAIL", 5), Line("BUDGET:M04", "BUDGET_USED", -5)]),
    ],
)
async def test_a_planted_violation_is_found(database: Database, id: str, lines: list[Line]) -> None:
    async with database.transaction() as tx:
        await ledger.post(tx, [fund("f1", 1), fee("e1", 1)], now=NOW)
        assert all(result.ok for result in await invariants.check(tx))
        (planted,) = await ledger.post(tx, [fee("bad", 1)], now=NOW)
        await open_books(tx, "ledger_lines")
        await tx.execute(sa.delete(store.lines).where(store.lines.c.journal_id == planted))
        rows = [
            {"journal_id": planted, "line_no": n, "book": line.book, "account": line.account,
             "amount": line.amount}
            for n, line in enumerate(lines, 1)
        ]  # fmt: skip
        await tx.execute(sa.insert(store.lines), rows)
        if id == "L2":
            keys = [("PTS:M04", "M:m1:AVAIL")]
            await store.add_balances(tx, keys)
        failed = [result.id for result in await invariants.check(tx) if not result.ok]
    assert id in failed
