"""What must hold of lots, holds and earnings against the ledger, checked by SQL.

The ledger's rows are read here as tables of the same database, nothing more: these checks are
the one place where two rooms' rows are compared.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.compliance.model import BASES
from gateway.ledger import service as ledger
from gateway.ledger.invariants import result
from gateway.ledger.model import ISSUES, Kind, Result
from gateway.points import service
from gateway.points.store import earnings, holds, lots, movements

_SHOWN = 5
_lines = sa.table(
    "ledger_lines",
    sa.column("journal_id", sa.String),
    sa.column("book", sa.String),
    sa.column("account", sa.String),
    sa.column("amount", sa.BigInteger),
)
_journals = sa.table(
    "ledger_journals", sa.column("journal_id", sa.String), sa.column("kind", sa.String)
)
_balances = sa.table(
    "ledger_balances",
    sa.column("book", sa.String),
    sa.column("account", sa.String),
    sa.column("balance", sa.BigInteger),
)


async def check(tx: AsyncConnection) -> list[Result]:
    """Check L3, L4, L5, K4 and R6, in this order."""
    return [
        *await standing(tx),
        result("L4", "every movement of points names its lots", await _unnamed(tx)),
        result("L5", "liability = floor(outstanding x rate)", await _liability(tx)),
        result("K4", "every issue has member, basis, reference, budget", await _baseless(tx)),
        result("R6", "held = open holds = their allocations", await _holds_drift(tx)),
    ]


async def standing(tx: AsyncConnection) -> list[Result]:
    """Check L3, which stays on in production."""
    return [result("L3", "AVAIL + HELD = what the lots have left", await _lots_drift(tx))]


async def _lots_drift(tx: AsyncConnection) -> list[object]:
    book, member = sa.literal("PTS:") + lots.c.issuer, sa.literal("M:") + lots.c.member_id
    ours = sa.union_all(
        sa.select(book.label("book"), (member + ":AVAIL").label("account"),
                  (lots.c.remaining - lots.c.held).label("n")),
        sa.select(book, member + ":HELD", lots.c.held),
        sa.select(
            sa.literal("PTS:") + earnings.c.issuer,
            sa.literal("M:") + earnings.c.member_id + ":PENDING",
            earnings.c.points - earnings.c.returned_points,
        ).where(earnings.c.state == "PENDING"),
        sa.select(_balances.c.book, _balances.c.account, -_balances.c.balance).where(
            _balances.c.book.startswith("PTS:"), ~_balances.c.account.endswith(":OWED")
        ),
    ).subquery()  # fmt: skip
    query = (
        sa.select(ours.c.book, ours.c.account, sa.func.sum(ours.c.n))
        .group_by(ours.c.book, ours.c.account)
        .having(sa.func.sum(ours.c.n) != 0)
    )
    moved = (
        sa.select(
            movements.c.lot_id,
            sa.func.sum(movements.c.held_delta).label("held"),
            sa.func.sum(movements.c.remaining_delta).label("remaining"),
        )
        .group_by(movements.c.lot_id)
        .subquery()
    )
    told = lots.c.lot_id == moved.c.lot_id
    drift = (
        sa.select(lots.c.lot_id)
        .join_from(lots, moved, told, isouter=True)
        .where(
            sa.or_(
                sa.func.coalesce(moved.c.held, 0) != lots.c.held,
                sa.func.coalesce(moved.c.remaining, 0) != lots.c.remaining,
            )
        )
    )
    return await _few(tx, query) + await _few(tx, drift)


async def _unnamed(tx: AsyncConnection) -> list[object]:
    """Per journal and part: what its lines do to AVAIL and HELD is what its lots do."""
    available, in_holds = (
        _lines.c.account.endswith(":AVAIL"),
        _lines.c.account.endswith(":HELD"),
    )
    personal = sa.and_(_lines.c.book.startswith("PTS:"), _lines.c.account.startswith("M:"))
    both = sa.union_all(
        sa.select(
            _lines.c.journal_id,
            sa.case((available, -_lines.c.amount), else_=0).label("free"),
            sa.case((in_holds, -_lines.c.amount), else_=0).label("held"),
        ).where(personal),
        sa.select(
            movements.c.journal_id,
            movements.c.held_delta - movements.c.remaining_delta,
            -movements.c.held_delta,
        ),
    ).subquery()
    query = (
        sa.select(both.c.journal_id)
        .group_by(both.c.journal_id)
        .having(sa.or_(sa.func.sum(both.c.free) != 0, sa.func.sum(both.c.held) != 0))
    )
    return await _few(tx, query)


async def _liability(tx: AsyncConnection) -> list[object]:
    """The value of what lots and pending earnings hold, less debts, against the ledger's."""
    wrong: list[object] = []
    for programme in await service.programmes(tx):
        mine = lots.c.issuer == programme.issuer
        left = await tx.scalar(sa.select(sa.func.sum(lots.c.remaining)).where(mine)) or 0
        waiting = sa.select(sa.func.sum(earnings.c.points - earnings.c.returned_points)).where(
            earnings.c.issuer == programme.issuer, earnings.c.state == "PENDING"
        )
        owed = sa.select(sa.func.sum(_balances.c.balance)).where(
            _balances.c.book == f"PTS:{programme.issuer}", _balances.c.account.endswith(":OWED")
        )
        outstanding = int(left + (await tx.scalar(waiting) or 0) - (await tx.scalar(owed) or 0))
        value_fen = programme.rate.floor(outstanding)
        if value_fen != programme.rate.floor(await ledger.outstanding(tx, programme.issuer)):
            wrong.append((programme.issuer, value_fen))
    return wrong


async def _baseless(tx: AsyncConnection) -> list[object]:
    """Issues without a budget line, lots without a basis, lots of nobody registered."""
    charged = sa.exists().where(
        _lines.c.journal_id == _journals.c.journal_id, _lines.c.book.startswith("BUDGET:")
    )
    points = sa.exists().where(
        _lines.c.journal_id == _journals.c.journal_id, _lines.c.book.startswith("PTS:")
    )
    free = sa.select(_journals.c.journal_id).where(
        _journals.c.kind.in_([*ISSUES]), points, ~charged
    )
    opened = sa.exists().where(
        movements.c.lot_id == lots.c.lot_id, movements.c.kind == Kind.OPENING
    )
    without = sa.or_(lots.c.basis.not_in(BASES), lots.c.ref == "")
    members = sa.table("members", sa.column("member_id", sa.String))
    known = sa.exists().where(members.c.member_id == lots.c.member_id)
    baseless = sa.select(lots.c.lot_id).where(sa.or_(without, ~known), ~opened)
    return await _few(tx, free) + await _few(tx, baseless)


async def _holds_drift(tx: AsyncConnection) -> list[object]:
    """Open holds against HELD by member and issuer, and against their own allocations."""
    both = sa.union_all(
        sa.select(
            (sa.literal("PTS:") + holds.c.issuer).label("book"),
            (sa.literal("M:") + holds.c.member_id + ":HELD").label("account"),
            holds.c.points.label("n"),
        ).where(holds.c.state == "HELD"),
        sa.select(_balances.c.book, _balances.c.account, -_balances.c.balance).where(
            _balances.c.account.endswith(":HELD")
        ),
    ).subquery()
    drift = (
        sa.select(both.c.book, both.c.account, sa.func.sum(both.c.n))
        .group_by(both.c.book, both.c.account)
        .having(sa.func.sum(both.c.n) != 0)
    )
    want = sa.case((holds.c.state == "HELD", holds.c.points), else_=0)
    burned = sa.case((holds.c.state == "POSTED", holds.c.returned - holds.c.points), else_=0)
    uneven = (
        sa.select(holds.c.hold_id)
        .join_from(holds, movements, movements.c.hold_id == holds.c.hold_id, isouter=True)
        .group_by(holds.c.hold_id, holds.c.state, holds.c.points, holds.c.returned)
        .having(
            sa.or_(
                sa.func.coalesce(sa.func.sum(movements.c.held_delta), 0) != want,
                sa.func.coalesce(sa.func.sum(movements.c.remaining_delta), 0) != burned,
            )
        )
    )
    return await _few(tx, drift) + await _few(tx, uneven)


async def _few(tx: AsyncConnection, query: sa.Select[Any]) -> list[object]:
    return [tuple(row) for row in await tx.execute(query.limit(_SHOWN))]
