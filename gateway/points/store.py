"""Tables of points and all their SQL. Lot movements are append-only."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Ask
from gateway.db import Instant, Json, metadata

programmes = sa.Table(
    "points_programmes",
    metadata,
    sa.Column("programme_id", sa.String, primary_key=True),
    sa.Column("issuer", sa.String, nullable=False, unique=True),  # one issuer, one programme
    sa.Column("version", sa.Integer, nullable=False),  # of the policy in force
)

policies = sa.Table(
    "points_policies",
    metadata,
    sa.Column("programme_id", sa.ForeignKey("points_programmes.programme_id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name_zh", sa.String, nullable=False),
    sa.Column("unit_zh", sa.String, nullable=False),
    sa.Column("rate_num", sa.BigInteger, nullable=False),  # fen
    sa.Column("rate_den", sa.BigInteger, nullable=False),  # points
    sa.Column("months", sa.Integer),  # null: for life
    sa.Column("earn", Json, nullable=False),
    sa.Column("disclosure", Json, nullable=False),
    sa.Column("compensation_bps", sa.Integer, nullable=False),
    sa.Column("published_at", Instant, nullable=False),
    sa.CheckConstraint("rate_num > 0 AND rate_den > 0", name="rate"),
    sa.CheckConstraint("months > 0", name="months"),
)

lots = sa.Table(
    "points_lots",
    metadata,
    sa.Column("lot_id", sa.String, primary_key=True),
    sa.Column("member_id", sa.String, nullable=False),
    sa.Column("programme_id", sa.String, nullable=False),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("points", sa.BigInteger, nullable=False),
    sa.Column("held", sa.BigInteger, nullable=False),
    sa.Column("remaining", sa.BigInteger, nullable=False),  # held ones included
    sa.Column("rate_num", sa.BigInteger, nullable=False),
    sa.Column("rate_den", sa.BigInteger, nullable=False),
    sa.Column("policy_version", sa.Integer, nullable=False),
    sa.Column("earned_on", sa.Date, nullable=False),
    sa.Column("expires_at", Instant),  # only ever moved later
    sa.Column("basis", sa.String, nullable=False),
    sa.Column("ref", sa.String, nullable=False),
    sa.Column("op_key", sa.String, nullable=False, unique=True),  # of the journal that opened it
    sa.Column("opened_at", Instant, nullable=False),
    sa.CheckConstraint("0 <= held AND held <= remaining", name="held"),
    sa.CheckConstraint("remaining <= points AND points > 0", name="remaining"),
    sa.Index("ix_points_lots_member", "member_id", "programme_id"),
    sa.Index("ix_points_lots_expiry", "expires_at"),
)

holds = sa.Table(
    "points_holds",
    metadata,
    sa.Column("hold_id", sa.String, primary_key=True),
    sa.Column("redemption_id", sa.String, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("leg_no", sa.Integer, nullable=False),
    sa.Column("member_id", sa.String, nullable=False),
    sa.Column("programme_id", sa.String, nullable=False),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("points", sa.BigInteger, nullable=False),
    sa.Column("returned", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("sink", sa.String),  # where burned points went
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("held_at", Instant, nullable=False),
    sa.UniqueConstraint("redemption_id", "epoch", "leg_no"),
    sa.CheckConstraint("points > 0 AND 0 <= returned AND returned <= points", name="points"),
    sa.CheckConstraint("state IN ('HELD', 'POSTED', 'VOIDED')", name="state"),
    sa.CheckConstraint("returned = 0 OR state = 'POSTED'", name="returned"),
    sa.CheckConstraint("(state = 'POSTED') = (sink IS NOT NULL)", name="sink"),
    sa.Index("ix_points_holds_member", "member_id", "state"),
)

movements = sa.Table(  # every change of a lot, with the journal it belongs to
    "points_lot_movements",
    metadata,
    sa.Column("journal_id", sa.ForeignKey("ledger_journals.journal_id"), primary_key=True),
    sa.Column("lot_id", sa.ForeignKey("points_lots.lot_id"), primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),  # in the order of allocation, from 1
    sa.Column("held_delta", sa.BigInteger, nullable=False),
    sa.Column("remaining_delta", sa.BigInteger, nullable=False),
    sa.Column("cause_id", sa.String, nullable=False, index=True),
    sa.Column("hold_id", sa.ForeignKey("points_holds.hold_id"), index=True),
    sa.Column("expires_at", Instant),  # the lot's end after an extension
    sa.Column("moved_at", Instant, nullable=False),
    sa.CheckConstraint("held_delta <> 0 OR remaining_delta <> 0", name="delta"),
    sa.Index("ix_points_lot_movements_lot", "lot_id"),
    info={"append_only": True, "sealed_with": "ledger_journals"},
)

earnings = sa.Table(
    "points_earnings",
    metadata,
    sa.Column("earning_id", sa.String, primary_key=True),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("ref", sa.String, nullable=False),
    sa.Column("programme_id", sa.String, nullable=False),
    sa.Column("member_id", sa.String, nullable=False),
    sa.Column("points", sa.BigInteger, nullable=False),
    sa.Column("returned_points", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cash_fen", sa.BigInteger),
    sa.Column("returned_fen", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("rate_num", sa.BigInteger, nullable=False),
    sa.Column("rate_den", sa.BigInteger, nullable=False),
    sa.Column("policy_version", sa.Integer, nullable=False),
    sa.Column("basis", sa.String, nullable=False),
    sa.Column("terms", Json, nullable=False),  # what the points were computed from
    sa.Column("earned_on", sa.Date, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("mature_at", Instant, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("lot_id", sa.ForeignKey("points_lots.lot_id")),
    sa.Column("returns", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("issuer", "ref"),
    sa.CheckConstraint("0 <= returned_points AND returned_points <= points", name="points"),
    sa.CheckConstraint("0 <= returned_fen AND returned_fen <= cash_fen", name="cash"),
    sa.CheckConstraint("state IN ('PENDING', 'MATURED', 'RETURNED')", name="state"),
    sa.Index("ix_points_earnings_due", "state", "mature_at"),
    sa.Index("ix_points_earnings_member", "member_id", "state"),
)


async def insert(tx: AsyncConnection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows of equal shape, with the transaction's next batch."""
    await db.write(tx, _insert(table), rows)


@cache
def _insert(table: sa.Table) -> sa.Insert:
    return sa.insert(table)


# --- programmes -------------------------------------------------------------------------------


def _current() -> sa.Select[Any]:
    in_force = (policies.c.programme_id == programmes.c.programme_id) & (
        policies.c.version == programmes.c.version
    )
    return sa.select(programmes.c.issuer, policies).join_from(programmes, policies, in_force)


async def select_programmes(
    tx: AsyncConnection, *, programme_id: str | None = None, issuer: str | None = None
) -> list[sa.Row[Any]]:
    """Programmes under the policy in force, by id."""
    query = _current().order_by(programmes.c.programme_id)
    if programme_id is not None:
        query = query.where(programmes.c.programme_id == programme_id)
    if issuer is not None:
        query = query.where(programmes.c.issuer == issuer)
    return list(await tx.execute(query))


@cache
def _all_programmes() -> sa.Select[Any]:
    return _current().order_by(programmes.c.programme_id)


def ask_all_programmes() -> Ask:
    """Every programme under the policy in force, by id."""
    return Ask(_all_programmes(), {})


@cache
def _programmes(count: int) -> sa.Select[Any]:
    return _current().where(_named(count)).order_by(programmes.c.programme_id)


def _named(count: int) -> sa.ColumnElement[bool]:
    ids = [programmes.c.programme_id == sa.bindparam(f"programme_{n}") for n in range(count)]
    return sa.or_(*ids)


def ask_programmes(programme_ids: Sequence[str]) -> Ask:
    """Programmes under the policy in force."""
    return Ask(_programmes(len(programme_ids)), names_of(programme_ids))


@cache
def issuers_of(count: int) -> Any:
    """The issuers of so many programmes, as an expression with the values of `names_of`."""
    return sa.select(programmes.c.issuer).where(_named(count))


def names_of(programme_ids: Sequence[str]) -> dict[str, str]:
    return {f"programme_{n}": programme_id for n, programme_id in enumerate(programme_ids)}


async def select_policy(tx: AsyncConnection, programme_id: str, version: int) -> sa.Row[Any] | None:
    """A programme under one of its policies, in force or not."""
    query = sa.select(programmes.c.issuer, policies).join_from(programmes, policies)
    query = query.where(policies.c.programme_id == programme_id, policies.c.version == version)
    return (await tx.execute(query)).first()


async def add_programme(tx: AsyncConnection, programme_id: str, issuer: str) -> bool:
    """Open a programme; False when its id is taken or its issuer has one."""
    row = {"programme_id": programme_id, "issuer": issuer, "version": 1}
    return (await tx.execute(db.insert_missing(tx, programmes).values(row))).rowcount == 1


async def raise_version(tx: AsyncConnection, programme_id: str, version: int) -> bool:
    """Put version + 1 in force; False when another policy came first."""
    c = programmes.c
    mine = (c.programme_id == programme_id) & (c.version == version)
    change = sa.update(programmes).where(mine).values(version=version + 1)
    return (await tx.execute(change)).rowcount == 1


# --- lots -------------------------------------------------------------------------------------


def ask_open_lots(wallets: Iterable[tuple[str, str]], *, lock: bool) -> Ask:
    """The lots with free points of (member, programme) pairs, in the order of their ids."""
    values: dict[str, str] = {}
    for n, (member_id, programme_id) in enumerate(sorted(wallets)):
        values |= {f"member_{n}": member_id, f"programme_{n}": programme_id}
    return Ask(_open_lots(len(values) // 2, lock), values)


async def lock_open_lots(
    tx: AsyncConnection, wallets: Iterable[tuple[str, str]]
) -> list[sa.Row[Any]]:
    """Lock the lots with free points of (member, programme) pairs, in the order of their ids."""
    (found,) = await db.read(tx, ask_open_lots(wallets, lock=True))
    return found


@cache
def _open_lots(count: int, lock: bool) -> sa.Select[Any]:
    """Built once for a number of wallets: this is the hot path."""
    c = lots.c
    wallets = [
        (c.member_id == sa.bindparam(f"member_{n}"))
        & (c.programme_id == sa.bindparam(f"programme_{n}"))
        for n in range(count)
    ]
    query = sa.select(lots).where(sa.or_(*wallets), c.remaining > c.held).order_by(c.lot_id)
    return query.with_for_update() if lock else query


async def lock_lots(tx: AsyncConnection, lot_ids: Iterable[str]) -> list[sa.Row[Any]]:
    """Lock lots, in the order of their ids."""
    query = sa.select(lots).where(lots.c.lot_id.in_(sorted(lot_ids)))
    return list(await tx.execute(query.order_by(lots.c.lot_id).with_for_update()))


async def lock_expired(tx: AsyncConnection, now: datetime, limit: int) -> list[sa.Row[Any]]:
    """Lock lots that have ended with free points; those in use elsewhere are left for later."""
    c = lots.c
    query = (
        sa.select(lots)
        .where(c.expires_at <= now, c.remaining > c.held)
        .order_by(c.lot_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list(await tx.execute(query))


async def select_lots(
    tx: AsyncConnection, *, member_id: str, programme_id: str | None = None
) -> list[sa.Row[Any]]:
    """Lots of a member, also spent ones, oldest first."""
    query = sa.select(lots).where(lots.c.member_id == member_id)
    if programme_id is not None:
        query = query.where(lots.c.programme_id == programme_id)
    return list(await tx.execute(query.order_by(lots.c.earned_on, lots.c.lot_id)))


async def lot_by_op_key(tx: AsyncConnection, op_key: str) -> sa.Row[Any] | None:
    return (await tx.execute(sa.select(lots).where(lots.c.op_key == op_key))).first()


_MOVE_LOTS = (
    sa.update(lots)
    .where(lots.c.lot_id == sa.bindparam("lot"))
    .values(
        held=lots.c.held + sa.bindparam("held_by", type_=sa.BigInteger),
        remaining=lots.c.remaining + sa.bindparam("remaining_by", type_=sa.BigInteger),
    )
)


async def move_lots(tx: AsyncConnection, moves: Iterable[tuple[str, int, int]]) -> None:
    """Change held and remaining of lots: (lot id, held delta, remaining delta), locked by id.

    With the transaction's next batch. The table's CHECKs refuse what would break
    0 <= held <= remaining <= points.
    """
    held, remaining = Counter[str](), Counter[str]()
    for lot_id, held_delta, remaining_delta in moves:
        held[lot_id] += held_delta
        remaining[lot_id] += remaining_delta
    rows = [
        {"lot": lot_id, "held_by": held[lot_id], "remaining_by": remaining[lot_id]}
        for lot_id in sorted(held)
    ]
    await db.write(tx, _MOVE_LOTS, rows, by=("lot",), expect=len(rows))


_UNTIL = sa.bindparam("until", type_=Instant)
_EXTEND = (
    sa.update(lots)
    .where(lots.c.lot_id == sa.bindparam("lot"), lots.c.expires_at < _UNTIL)
    .values(expires_at=_UNTIL)
)


_TAKE_LOTS = (
    sa.update(lots)
    .where(
        lots.c.lot_id == sa.bindparam("lot"),
        lots.c.held == sa.bindparam("seen_held", type_=sa.BigInteger),
        lots.c.remaining == sa.bindparam("seen_remaining", type_=sa.BigInteger),
    )
    .values(held=lots.c.held + sa.bindparam("held_by", type_=sa.BigInteger))
)


async def take_lots(tx: AsyncConnection, taken: Sequence[tuple[str, int, int, int]]) -> None:
    """Hold points of lots that were read without a lock: (lot id, held, remaining, points).

    Raises:
        Raced: With the batch: a lot has changed meanwhile.
    """
    rows = [
        {"lot": lot_id, "seen_held": held, "seen_remaining": remaining, "held_by": n}
        for lot_id, held, remaining, n in sorted(taken)
    ]
    await db.write(tx, _TAKE_LOTS, rows, by=("lot",), expect=len(rows))


async def extend_lots(tx: AsyncConnection, ends: dict[str, datetime]) -> None:
    """Move the end of lots later; a lot that ends later already is left alone."""
    rows = [{"lot": lot_id, "until": end} for lot_id, end in sorted(ends.items())]
    await db.write(tx, _EXTEND, rows, by=("lot",))


_AVAILABLE = (
    sa.select(
        lots.c.issuer,
        sa.func.sum(lots.c.remaining - lots.c.held, type_=sa.BigInteger).label("available"),
    )
    .where(
        lots.c.member_id == sa.bindparam("member"),
        lots.c.remaining > lots.c.held,
        sa.or_(lots.c.expires_at.is_(None), lots.c.expires_at > sa.bindparam("at", type_=Instant)),
    )
    .group_by(lots.c.issuer)
)


def ask_available(member_id: str, now: datetime) -> Ask:
    """What a member can spend now, by issuer."""
    return Ask(_AVAILABLE, {"member": member_id, "at": now})


async def sum_wallets(
    tx: AsyncConnection, *, member_id: str, now: datetime, issuer: str | None = None
) -> list[sa.Row[Any]]:
    """Available and held points of a member by programme, from its lots."""
    c = lots.c
    alive = sa.or_(c.expires_at.is_(None), c.expires_at > now)
    available = sa.func.sum(sa.case((alive, c.remaining - c.held), else_=0))
    query = (
        sa.select(
            c.programme_id,
            c.issuer,
            available.label("available"),
            sa.func.sum(c.held).label("held"),
        )
        .where(c.member_id == member_id)
        .group_by(c.programme_id, c.issuer)
    )
    if issuer is not None:
        query = query.where(c.issuer == issuer)
    return list(await tx.execute(query))


# --- holds and movements ----------------------------------------------------------------------


_HOLDS = (
    sa.select(holds)
    .where(
        holds.c.redemption_id == sa.bindparam("redemption"),
        holds.c.epoch == sa.bindparam("of_epoch"),
    )
    .order_by(holds.c.leg_no)
)


def ask_holds(redemption_id: str, epoch: int) -> Ask:
    """Holds of an epoch by leg."""
    return Ask(_HOLDS, {"redemption": redemption_id, "of_epoch": epoch})


async def select_holds(
    tx: AsyncConnection, redemption_id: str, epoch: int | None = None
) -> list[sa.Row[Any]]:
    """Holds of a redemption by epoch and leg."""
    query = sa.select(holds).where(holds.c.redemption_id == redemption_id)
    if epoch is not None:
        query = query.where(holds.c.epoch == epoch)
    return list(await tx.execute(query.order_by(holds.c.epoch, holds.c.leg_no)))


_ALLOCATIONS = (
    sa.select(holds, movements.c.lot_id, movements.c.held_delta.label("taken"))
    .join_from(
        holds, movements, (movements.c.hold_id == holds.c.hold_id) & (movements.c.kind == "HOLD")
    )
    .where(holds.c.redemption_id == sa.bindparam("redemption"))
    .where(holds.c.epoch == sa.bindparam("of_epoch"))
    .order_by(holds.c.leg_no, movements.c.position)
)
_LOCK_ALLOCATIONS = _ALLOCATIONS.with_for_update(of=holds)


def ask_allocations(redemption_id: str, epoch: int, *, lock: bool) -> Ask:
    """Holds of an epoch with the lots they took, by leg and order of allocation."""
    values = {"redemption": redemption_id, "of_epoch": epoch}
    return Ask(_LOCK_ALLOCATIONS if lock else _ALLOCATIONS, values)


_RESOLVE = (
    sa.update(holds)
    .where(holds.c.hold_id == sa.bindparam("hold"), holds.c.state == "HELD")
    .values(state=sa.bindparam("to"), sink=sa.bindparam("into"))
)


async def resolve_holds(tx: AsyncConnection, sinks: dict[str, str | None], *, state: str) -> None:
    """Resolve holds that are still held: POSTED with a sink by hold id, or VOIDED.

    With the transaction's next batch.

    Raises:
        Raced: With the batch: one was resolved meanwhile.
    """
    rows = [{"hold": hold_id, "to": state, "into": sink} for hold_id, sink in sinks.items()]
    await db.write(tx, _RESOLVE, rows, by=("hold",), expect=len(rows))


_RETURN = (
    sa.update(holds)
    .where(holds.c.hold_id == sa.bindparam("hold"))
    .values(returned=holds.c.returned + sa.bindparam("given", type_=sa.BigInteger))
)


async def return_points(tx: AsyncConnection, points: dict[str, int]) -> None:
    """Count points of burned holds as returned, by hold id."""
    rows = [{"hold": hold_id, "given": given} for hold_id, given in points.items()]
    await db.write(tx, _RETURN, rows, by=("hold",), expect=len(rows))


async def movements_of(tx: AsyncConnection, cause_id: str) -> list[sa.Row[Any]]:
    """Movements of one cause with their lots' ends, in order of allocation."""
    query = (
        sa.select(
            movements,
            lots.c.expires_at.label("lot_expires_at"),
            lots.c.member_id,
            lots.c.programme_id,
            lots.c.issuer,
        )
        .join_from(movements, lots)
        .where(movements.c.cause_id == cause_id)
        .order_by(movements.c.journal_id, movements.c.position)
    )
    return list(await tx.execute(query))


async def select_history(
    tx: AsyncConnection, member_id: str, programme_id: str | None, limit: int
) -> list[sa.Row[Any]]:
    """Movements of a member's lots, newest first."""
    query = (
        sa.select(movements, lots.c.programme_id)
        .join_from(movements, lots)
        .where(lots.c.member_id == member_id)
        .order_by(movements.c.moved_at.desc(), movements.c.journal_id.desc(), movements.c.position)
        .limit(limit)
    )
    if programme_id is not None:
        query = query.where(lots.c.programme_id == programme_id)
    return list(await tx.execute(query))


async def select_spent(tx: AsyncConnection, redemption_id: str) -> list[sa.Row[Any]]:
    """Lots behind a redemption, with the leg and the points burned of each, given back ones off."""
    spent = sa.func.sum(-movements.c.remaining_delta).label("spent")
    query = (
        sa.select(holds.c.leg_no, spent, lots)
        .join_from(holds, movements, movements.c.hold_id == holds.c.hold_id)
        .join(lots, lots.c.lot_id == movements.c.lot_id)
        .where(holds.c.redemption_id == redemption_id)
        .group_by(holds.c.leg_no, *lots.c)
        .having(spent > 0)
        .order_by(holds.c.leg_no, lots.c.earned_on, lots.c.lot_id)
    )
    return list(await tx.execute(query))


# --- earnings ---------------------------------------------------------------------------------


async def add_earning(tx: AsyncConnection, row: dict[str, Any]) -> bool:
    """Insert an earning; False when its issuer has recorded the reference."""
    return (await tx.execute(db.insert_missing(tx, earnings).values(row))).rowcount == 1


async def lock_earning(tx: AsyncConnection, issuer: str, ref: str) -> sa.Row[Any] | None:
    c = earnings.c
    query = sa.select(earnings).where(c.issuer == issuer, c.ref == ref).with_for_update()
    return (await tx.execute(query)).first()


async def select_earning(tx: AsyncConnection, earning_id: str) -> sa.Row[Any] | None:
    query = sa.select(earnings).where(earnings.c.earning_id == earning_id)
    return (await tx.execute(query)).first()


async def lock_due(tx: AsyncConnection, now: datetime, limit: int) -> list[sa.Row[Any]]:
    """Lock pending earnings whose return window is over, oldest first."""
    c = earnings.c
    query = (
        sa.select(earnings)
        .where(c.state == "PENDING", c.mature_at <= now)
        .order_by(c.mature_at, c.earning_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list(await tx.execute(query))


async def update_earnings(tx: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Set what changes of earnings: `{earning, ...columns}` of equal shape."""
    names = [name for name in rows[0] if name != "earning"]
    statement = (
        sa.update(earnings)
        .where(earnings.c.earning_id == sa.bindparam("earning"))
        .values({name: sa.bindparam(f"to_{name}") for name in names})
    )
    values = [{"earning": row["earning"]} | {f"to_{n}": row[n] for n in names} for row in rows]
    await tx.execute(statement, values)


async def sum_pending(tx: AsyncConnection, *, member_id: str) -> list[sa.Row[Any]]:
    """Pending points of a member by programme."""
    c = earnings.c
    query = (
        sa.select(
            c.programme_id, c.issuer, sa.func.sum(c.points - c.returned_points).label("pending")
        )
        .where(c.member_id == member_id, c.state == "PENDING")
        .group_by(c.programme_id, c.issuer)
    )
    return list(await tx.execute(query))
