"""What must hold of the ledger at every instant, checked by SQL over all its rows."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.ledger.model import ISSUED, POINTS, Part, Result
from gateway.ledger.store import balances, journals, lines

_SHOWN = 5  # violations a result names


def result(id: str, title: str, violations: Sequence[object]) -> Result:
    """An invariant's result: it holds when nothing violates it."""
    shown = "; ".join(str(one) for one in violations[:_SHOWN])
    return Result(id, title, not violations, shown)


async def check(tx: AsyncConnection) -> list[Result]:
    """Check L1, L2, K1, K2, K3 and K5, in this order. L3 to L5 need lots: see points; L6: audit."""
    return [
        *await standing(tx),
        result("L2", "issued = sinks + what members have", await _lost(tx)),
        result("K1", "no journal takes points from one member for another", await _moved(tx)),
        result("K2", "no journal touches two points books", await _mixed(tx)),
        result("K3", "no points become money owed to a person", await _cashed(tx)),
        result("K5", "issued value is within the approved budget", await _overspent(tx)),
    ]


async def standing(tx: AsyncConnection) -> list[Result]:
    """Check L1, which stays on in production."""
    return [result("L1", "each journal balances per book", await _unbalanced(tx))]


async def _unbalanced(tx: AsyncConnection) -> list[object]:
    uneven = (
        sa.select(lines.c.journal_id, lines.c.book)
        .group_by(lines.c.journal_id, lines.c.book)
        .having(sa.func.sum(lines.c.amount) != 0)
    )
    written = sa.exists().where(lines.c.journal_id == journals.c.journal_id)
    empty = sa.select(journals.c.journal_id, sa.literal("no lines")).where(~written)
    return await _few(tx, sa.union_all(uneven, empty))


async def _lost(tx: AsyncConnection) -> list[object]:
    """Guarded balances that differ from their lines; issuers whose points are not all somewhere."""
    summed = (
        sa.select(lines.c.book, lines.c.account, sa.func.sum(lines.c.amount).label("total"))
        .group_by(lines.c.book, lines.c.account)
        .subquery()
    )
    same = (balances.c.book == summed.c.book) & (balances.c.account == summed.c.account)
    total = sa.func.coalesce(summed.c.total, 0)
    drift = (
        sa.select(balances.c.book, balances.c.account)
        .join_from(balances, summed, same, isouter=True)
        .where(sa.func.abs(total) != balances.c.balance)
    )
    mine = lines.c.book.startswith(POINTS, autoescape=True)
    member = lines.c.account.startswith("M:")
    issued = sa.select(
        lines.c.book,
        sa.func.sum(sa.case((lines.c.account == ISSUED, lines.c.amount), else_=0)).label("issued"),
        sa.func.sum(
            sa.case((sa.or_(lines.c.account == ISSUED, member), 0), else_=-lines.c.amount)
        ).label("sunk"),
    )
    flows = issued.where(mine).group_by(lines.c.book).subquery()
    owed = balances.c.account.endswith(f":{Part.OWED}")
    signed = sa.case((owed, -balances.c.balance), else_=balances.c.balance)
    had = (
        sa.select(balances.c.book, sa.func.sum(signed).label("had"))
        .group_by(balances.c.book)
        .subquery()
    )
    missing = (
        sa.select(flows.c.book, sa.literal("issued is not where it should be"))
        .join_from(flows, had, flows.c.book == had.c.book, isouter=True)
        .where(flows.c.issued != flows.c.sunk + sa.func.coalesce(had.c.had, 0))
    )
    return await _few(tx, sa.union_all(drift, missing))


async def _moved(tx: AsyncConnection) -> list[object]:
    """Journals in which one member's points fall and another's rise. A debt is negative points."""
    account = lines.c.account
    name = sa.case(
        *(
            (
                account.endswith(f":{part}"),
                sa.func.substr(account, 1, sa.func.length(account) - len(part) - 1),
            )
            for part in Part
        ),
        else_=account,
    )
    nets = (
        sa.select(
            lines.c.journal_id, name.label("member"), sa.func.sum(-lines.c.amount).label("net")
        )
        .where(account.startswith("M:"))
        .group_by(lines.c.journal_id, name)
        .subquery()
    )
    query = (
        sa.select(nets.c.journal_id)
        .group_by(nets.c.journal_id)
        .having(sa.func.min(nets.c.net) < 0, sa.func.max(nets.c.net) > 0)
    )
    return await _few(tx, query)


async def _mixed(tx: AsyncConnection) -> list[object]:
    query = (
        sa.select(lines.c.journal_id)
        .where(lines.c.book.startswith(POINTS, autoescape=True))
        .group_by(lines.c.journal_id)
        .having(sa.func.count(lines.c.book.distinct()) > 1)
    )
    return await _few(tx, query)


async def _cashed(tx: AsyncConnection) -> list[object]:
    """Accounts of members in a book that holds money."""
    money = ~lines.c.book.startswith(POINTS, autoescape=True)
    personal = sa.or_(lines.c.account.like("%M:%"), lines.c.account.like("%:mbr_%"))
    return await _few(tx, sa.select(lines.c.journal_id, lines.c.account).where(money, personal))


async def _overspent(tx: AsyncConnection) -> list[object]:
    used = sa.case((lines.c.account == "BUDGET_USED", -lines.c.amount), else_=0)
    approved = sa.case((lines.c.account == "BUDGET_APPROVED", lines.c.amount), else_=0)
    query = (
        sa.select(lines.c.book)
        .where(lines.c.account.in_(["BUDGET_USED", "BUDGET_APPROVED"]))
        .group_by(lines.c.book)
        .having(sa.func.sum(used) > sa.func.sum(approved))
    )
    return await _few(tx, query)


async def _few(tx: AsyncConnection, query: sa.Select[Any] | sa.CompoundSelect[Any]) -> list[object]:
    return [tuple(row) for row in await tx.execute(query.limit(_SHOWN))]
