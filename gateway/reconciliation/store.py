"""Tables of reconciliation and its SQL."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Instant, Json, metadata
from gateway.reconciliation.model import (
    Action,
    Break,
    BreakState,
    Code,
    MerchantResult,
    PlacedRow,
    Rating,
    Resolution,
    ResolutionState,
    Row,
    Rules,
    Run,
    RunState,
    Side,
    Status,
)
from gateway.settlement.model import Flow

CHUNK = 5_000  # values in one IN list; SQLite takes 32,766

runs = sa.Table(
    "reconciliation_runs",
    metadata,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("business_date", sa.Date, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("rules", Json, nullable=False),
    sa.Column("supersedes", sa.ForeignKey("reconciliation_runs.run_id")),
    sa.Column("inputs_hash", sa.String),
    sa.Column("result_hash", sa.String),
    sa.Column("matched_at", Instant),
    sa.Column("signed_off_by", sa.String),
    sa.Column("signed_off_at", Instant),
    sa.Column("summary", Json),
    sa.UniqueConstraint("business_date", "number"),
    sa.CheckConstraint(
        "state IN ('CREATED', 'INGESTING', 'REVIEW', 'LOCKED', 'SUPERSEDED')", name="state"
    ),
)

statements = sa.Table(
    "reconciliation_statements",
    metadata,
    sa.Column("run_id", sa.ForeignKey("reconciliation_runs.run_id"), primary_key=True),
    sa.Column("merchant", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("imported_at", Instant, nullable=False),
    sa.Column("exceptions", Json, nullable=False),  # rows that cannot be matched, and why
)

rows = sa.Table(
    "reconciliation_rows",
    metadata,
    sa.Column("run_id", sa.ForeignKey("reconciliation_runs.run_id"), primary_key=True),
    sa.Column("side", sa.String, primary_key=True),
    sa.Column("row_id", sa.String, primary_key=True),
    sa.Column("merchant", sa.String, nullable=False),
    sa.Column("ref", sa.String, index=True),
    sa.Column("partner_ref", sa.String),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("amount_fen", sa.BigInteger, nullable=False),
    sa.Column("business_date", sa.Date, nullable=False),
    sa.Column("offer_id", sa.String),
    sa.Column("rating", Json),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("match_no", sa.Integer),  # both rows of a match have its number
    sa.Column("made_by", sa.String),  # the pass
    sa.Column("break_id", sa.String, index=True),
    sa.CheckConstraint("status IN ('STAGED', 'MATCHED', 'BREAK', 'EXPECTED')", name="status"),
    sa.CheckConstraint("(status = 'MATCHED') = (match_no IS NOT NULL)", name="matched"),
    sa.CheckConstraint("(status = 'BREAK') = (break_id IS NOT NULL)", name="broken"),
)

breaks = sa.Table(
    "reconciliation_breaks",
    metadata,
    sa.Column("break_id", sa.String, primary_key=True),
    sa.Column("run_id", sa.ForeignKey("reconciliation_runs.run_id"), nullable=False, index=True),
    sa.Column("key", sa.String, nullable=False, index=True),  # the same in a superseding run
    sa.Column("code", sa.String, nullable=False),
    sa.Column("merchant", sa.String, nullable=False),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("ref", sa.String),
    sa.Column("ours_ids", Json, nullable=False),
    sa.Column("theirs_ids", Json, nullable=False),
    sa.Column("ours_fen", sa.BigInteger, nullable=False),
    sa.Column("theirs_fen", sa.BigInteger, nullable=False),
    sa.Column("amount_fen", sa.BigInteger, nullable=False),
    sa.Column("field", sa.String),
    sa.Column("hypothesis_zh", sa.String, nullable=False),
    sa.Column("hypothesis_en", sa.String, nullable=False),
    sa.Column("flows", Json, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("opened_at", Instant, nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("owner", sa.String),
    sa.Column("closed_at", Instant),
    sa.Column("resolution_id", sa.String),
)

resolutions = sa.Table(
    "reconciliation_resolutions",
    metadata,
    sa.Column("resolution_id", sa.String, primary_key=True),
    sa.Column("break_id", sa.ForeignKey("reconciliation_breaks.break_id"), nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("note", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("flows", Json, nullable=False),
    sa.Column("amount_fen", sa.BigInteger, nullable=False),
    sa.Column("proposed_by", sa.String, nullable=False),
    sa.Column("proposed_at", Instant, nullable=False),
    sa.Column("approved_by", sa.String),
    sa.Column("approved_at", Instant),
    sa.Column("journal_id", sa.String),
    sa.CheckConstraint("approved_by IS NULL OR approved_by <> proposed_by", name="four_eyes"),
    sa.CheckConstraint("(state = 'APPROVED') = (approved_by IS NOT NULL)", name="approved"),
)


def run_of(row: Any) -> Run:
    values = dict(row._mapping)
    values["id"] = values.pop("run_id")
    summary = values.pop("summary") or {}
    values |= {"state": RunState(row.state), "rules": Rules(**row.rules)}
    values["merchants"] = tuple(MerchantResult(**each) for each in summary.get("merchants", ()))
    for name in ("break_count", "break_fen", "expected_count"):
        values[name] = summary.get(name, 0)
    return Run(**values)


def row_of(row: Any) -> Row:
    rating = row.rating
    if rating is not None:
        rating = Rating(**rating | {"other_bps": tuple(rating["other_bps"])})
    names = ("merchant", "ref", "partner_ref", "type", "issuer", "amount_fen")
    values = {name: getattr(row, name) for name in (*names, "business_date", "offer_id")}
    return Row(id=row.row_id, rating=rating, **values)


def break_of(row: Any) -> Break:
    values = dict(row._mapping)
    values["id"] = values.pop("break_id")
    values |= {"code": Code(row.code), "state": BreakState(row.state)}
    values["flows"] = tuple(Flow(*each) for each in row.flows)
    values |= {name: tuple(values[name]) for name in ("ours_ids", "theirs_ids")}
    return Break(**values)


def resolution_of(row: Any) -> Resolution:
    values = dict(row._mapping)
    values["id"] = values.pop("resolution_id")
    values |= {"action": Action(row.action), "state": ResolutionState(row.state)}
    values["flows"] = tuple(Flow(*each) for each in row.flows)
    return Resolution(**values)


async def add_run(tx: AsyncConnection, run: Run) -> None:
    names = ("business_date", "number", "state", "actor", "created_at", "supersedes")
    row = {name: getattr(run, name) for name in names}
    row |= {"run_id": run.id, "rules": asdict(run.rules)}
    await tx.execute(sa.insert(runs).values(row))


async def find_runs(tx: AsyncConnection, *where: Any, lock: bool = False) -> list[Run]:
    """Runs by day and number."""
    query = sa.select(runs).where(*where).order_by(runs.c.business_date, runs.c.number)
    return [run_of(row) for row in await tx.execute(query.with_for_update() if lock else query)]


async def update_run(tx: AsyncConnection, run_id: str, **values: Any) -> None:
    await tx.execute(sa.update(runs).where(runs.c.run_id == run_id).values(values))


async def find_statements(tx: AsyncConnection, *where: Any) -> list[Any]:
    query = sa.select(statements).where(*where).order_by(statements.c.merchant)
    return list(await tx.execute(query))


async def add_statement(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    await tx.execute(sa.insert(statements).values(dict(row)))


async def drop_statement(tx: AsyncConnection, run_id: str, merchant: str) -> None:
    """Forget a staged statement, for its restatement. Only before its run is matched."""
    staged = (rows.c.run_id == run_id) & (rows.c.merchant == merchant)
    await tx.execute(sa.delete(rows).where(staged, rows.c.side == Side.THEIRS))
    s = statements.c
    await tx.execute(sa.delete(statements).where(s.run_id == run_id, s.merchant == merchant))


async def add_rows(tx: AsyncConnection, run_id: str, side: Side, made: Sequence[Row]) -> None:
    values = []
    for row in made:
        each = asdict(row) | {"run_id": run_id, "side": side, "status": Status.STAGED}
        each["row_id"] = each.pop("id")
        values.append(each)
    if values:
        await tx.execute(sa.insert(rows), values)


async def find_rows(tx: AsyncConnection, *where: Any) -> list[Row]:
    """Rows by id."""
    query = sa.select(rows).where(*where).order_by(rows.c.row_id)
    return [row_of(row) for row in await tx.execute(query)]


async def find_placed(tx: AsyncConnection, *where: Any) -> list[PlacedRow]:
    """Rows with their places, by merchant, redemption, day."""
    r = rows.c
    query = sa.select(rows).where(*where)
    query = query.order_by(r.merchant, r.ref, r.business_date, r.amount_fen, r.side, r.row_id)
    return [
        PlacedRow(
            row=row_of(row),
            side=Side(row.side),
            status=Status(row.status),
            match_no=row.match_no,
            made_by=row.made_by,
            break_id=row.break_id,
        )
        for row in await tx.execute(query)
    ]


async def find_refs(tx: AsyncConnection, refs: Iterable[str], *where: Any) -> list[Row]:
    """Rows of live runs that name any of some redemptions."""
    wanted, found = sorted(refs), []
    live = sa.select(runs.c.run_id).where(runs.c.state != RunState.SUPERSEDED)
    for start in range(0, len(wanted), CHUNK):
        chunk = rows.c.ref.in_(wanted[start : start + CHUNK])
        found += await find_rows(tx, chunk, rows.c.run_id.in_(live), *where)
    return found


async def place(
    tx: AsyncConnection, run_id: str, side: Side, placed: Sequence[Mapping[str, Any]]
) -> None:
    """Say of rows where matching put them: `id_`, `status`, `match_no`, `made_by`, `break_id`."""
    if not placed:
        return
    r = rows.c
    where = (r.run_id == run_id) & (r.side == side) & (r.row_id == sa.bindparam("id_"))
    names = ("status", "match_no", "made_by", "break_id")
    change = sa.update(rows).where(where).values({name: sa.bindparam(f"{name}_") for name in names})
    await tx.execute(
        change,
        [{"id_": each["id_"]} | {f"{name}_": each.get(name) for name in names} for each in placed],
    )


async def add_breaks(tx: AsyncConnection, made: Sequence[Break]) -> None:
    values = []
    for each in made:
        row = asdict(each)
        row["break_id"] = row.pop("id")
        row["flows"] = [[flow.payer, flow.payee, flow.fen] for flow in each.flows]
        row |= {"ours_ids": list(each.ours_ids), "theirs_ids": list(each.theirs_ids)}
        values.append(row)
    if values:
        await tx.execute(sa.insert(breaks), values)


async def find_breaks(tx: AsyncConnection, *where: Any, lock: bool = False) -> list[Break]:
    """Breaks by merchant, redemption, code."""
    b = breaks.c
    query = sa.select(breaks).where(*where).order_by(b.merchant, b.ref, b.code, b.break_id)
    return [break_of(row) for row in await tx.execute(query.with_for_update() if lock else query)]


async def update_break(tx: AsyncConnection, break_id: str, **values: Any) -> None:
    await tx.execute(sa.update(breaks).where(breaks.c.break_id == break_id).values(values))


async def add_resolution(tx: AsyncConnection, made: Resolution) -> None:
    row = asdict(made)
    row["resolution_id"] = row.pop("id")
    row["flows"] = [[flow.payer, flow.payee, flow.fen] for flow in made.flows]
    await tx.execute(sa.insert(resolutions).values(row))


async def find_resolutions(
    tx: AsyncConnection, *where: Any, lock: bool = False
) -> list[Resolution]:
    """Resolutions, oldest first."""
    query = sa.select(resolutions).where(*where).order_by(resolutions.c.resolution_id)
    found = await tx.execute(query.with_for_update() if lock else query)
    return [resolution_of(row) for row in found]


async def update_resolutions(tx: AsyncConnection, *where: Any, **values: Any) -> None:
    await tx.execute(sa.update(resolutions).where(*where).values(values))


async def matched_elsewhere(
    tx: AsyncConnection, row_ids: Iterable[str], *, run_id: str
) -> frozenset[str]:
    """Which of our rows have been matched in another live run."""
    r, wanted, found = rows.c, sorted(row_ids), set[str]()
    live = sa.select(runs.c.run_id).where(runs.c.state != RunState.SUPERSEDED)
    for start in range(0, len(wanted), CHUNK):
        query = sa.select(r.row_id).where(r.row_id.in_(wanted[start : start + CHUNK]))
        query = query.where(r.side == Side.OURS, r.status == Status.MATCHED, r.run_id != run_id)
        found |= set((await tx.execute(query.where(r.run_id.in_(live)))).scalars())
    return frozenset(found)


async def carried(tx: AsyncConnection, *, before: date) -> list[Row]:
    """Our rows still EXPECTED in the last live run before a day."""
    live = (runs.c.state != RunState.SUPERSEDED) & (runs.c.business_date < before)
    query = sa.select(runs.c.run_id).where(live)
    last = await tx.scalar(query.order_by(runs.c.business_date.desc()).limit(1))
    if last is None:
        return []
    return await find_rows(tx, rows.c.run_id == last, rows.c.status == Status.EXPECTED)


async def totals(tx: AsyncConnection) -> list[tuple[str, str, str, int, int]]:
    """Rows of matched runs: run, side, status, count and sum."""
    r = rows.c
    query = sa.select(r.run_id, r.side, r.status, sa.func.count(), sa.func.sum(r.amount_fen))
    query = query.where(
        r.run_id.in_(sa.select(runs.c.run_id).where(runs.c.matched_at.is_not(None)))
    )
    query = query.group_by(r.run_id, r.side, r.status)
    return [
        (run_id, side, status, int(count), int(fen))
        for run_id, side, status, count, fen in await tx.execute(query)
    ]


async def placements(tx: AsyncConnection) -> list[tuple[str, str, str, int | None, str | None]]:
    """Rows in a match or break: run, side, row, match number, break."""
    r = rows.c
    query = sa.select(r.run_id, r.side, r.row_id, r.match_no, r.break_id)
    query = query.where(r.match_no.is_not(None) | r.break_id.is_not(None))
    return [
        (run_id, side, row_id, match_no, break_id)
        for run_id, side, row_id, match_no, break_id in await tx.execute(query)
    ]
