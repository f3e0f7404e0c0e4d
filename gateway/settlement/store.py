"""Tables of the settlement room and its SQL. Caps and cover are single conditional updates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import date, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Ask, among, padded, values_of
from gateway.db import Instant, Json, metadata
from gateway.settlement.model import (
    Agreement,
    AgreementKind,
    Cover,
    Flow,
    LegParty,
    LegState,
    Netting,
    Obligation,
    Role,
    Settlement,
    SettlementLeg,
    SettlementState,
    State,
    Type,
    Window,
    WindowState,
)

WINDOW_LOCK = 4_701  # advisory lock: postings share it, the cut takes it alone

agreements = sa.Table(
    "settlement_agreements",
    metadata,
    sa.Column("agreement_id", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("redeemer", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("settlement_bps", sa.Integer, nullable=False),
    sa.Column("fee_bps", sa.Integer, nullable=False),
    sa.Column("monthly_cap_fen", sa.BigInteger, nullable=False),
    sa.Column("valid_from", sa.Date, nullable=False),
    sa.Column("valid_until", sa.Date, nullable=False),  # the first day without it
    sa.Column("offers", Json),  # null: any
    sa.Column("categories", Json),
    sa.Column("payee", sa.String),  # of a donation: who delivers the goods
    sa.Column("signed_by", Json, nullable=False),
    sa.Column("signed_at", Instant),  # null until every party has signed
    sa.Column("proposed_at", Instant, nullable=False),
    sa.CheckConstraint("kind IN ('redemption', 'donation')", name="kind"),
    sa.CheckConstraint("settlement_bps BETWEEN 1 AND 10000", name="settlement_bps"),
    sa.CheckConstraint("fee_bps BETWEEN 0 AND 10000", name="fee_bps"),
    sa.CheckConstraint("monthly_cap_fen >= 0", name="cap"),
    sa.CheckConstraint("valid_from < valid_until", name="term"),
    sa.CheckConstraint("issuer <> redeemer", name="parties"),
    sa.Index("ix_settlement_agreements_pair", "issuer", "redeemer"),
)

usage = sa.Table(
    "settlement_agreement_usage",
    metadata,
    sa.Column("agreement_id", sa.String, primary_key=True),
    sa.Column("month", sa.String, primary_key=True),  # of commitment, as in 2026-11
    sa.Column("used_fen", sa.BigInteger, nullable=False),
    sa.CheckConstraint("used_fen >= 0", name="used"),
)

cover = sa.Table(
    "settlement_cover",
    metadata,
    sa.Column("merchant_id", sa.String, primary_key=True),
    sa.Column("collateral_fen", sa.BigInteger, nullable=False),
    sa.Column("net_debit_cap_fen", sa.BigInteger, nullable=False),
    sa.Column("reserved_fen", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("debit_fen", sa.BigInteger, nullable=False, server_default="0"),  # owed, not settled
    sa.Column("credit_fen", sa.BigInteger, nullable=False, server_default="0"),  # clearable
    sa.CheckConstraint("reserved_fen >= 0", name="reserved"),
    sa.CheckConstraint("debit_fen >= 0", name="debit"),
    sa.CheckConstraint("credit_fen >= 0", name="credit"),
)

reservations = sa.Table(
    "settlement_reservations",
    metadata,
    sa.Column("cause_id", sa.String, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("leg_no", sa.Integer, primary_key=True),
    sa.Column("agreement_id", sa.String, nullable=False),
    sa.Column("agreement_version", sa.Integer, nullable=False),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("redeemer", sa.String, nullable=False),
    sa.Column("offer_id", sa.String),
    sa.Column("face_fen", sa.BigInteger, nullable=False),
    sa.Column("settlement_fen", sa.BigInteger, nullable=False),
    sa.Column("fee_fen", sa.BigInteger, nullable=False),
    sa.Column("usage_month", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reserved_at", Instant, nullable=False),
    sa.CheckConstraint("state IN ('RESERVED', 'POSTED', 'RELEASED')", name="state"),
)

windows = sa.Table(
    "settlement_windows",
    metadata,
    sa.Column("window_id", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("open_slot", sa.Integer, unique=True),  # 1 while open: there is one at most
    sa.Column("opened_at", Instant, nullable=False),
    sa.Column("cuts_at", Instant, nullable=False),
    sa.Column("closed_at", Instant),
    sa.Column("net_hash", sa.String),
    sa.Column("count", sa.Integer),
    sa.Column("sum_fen", sa.BigInteger),
    sa.CheckConstraint("(state = 'OPEN') = (open_slot IS NOT NULL)", name="open_slot"),
)

obligations = sa.Table(
    "settlement_obligations",
    metadata,
    sa.Column("obligation_id", sa.String, primary_key=True),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("origin_key", sa.String, unique=True),  # one claim per leg, type and epoch
    sa.Column("cause_id", sa.String, nullable=False, index=True),  # red_, don_, brk_
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("leg_no", sa.Integer, nullable=False),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("redeemer", sa.String, nullable=False),
    sa.Column("payer", sa.String, nullable=False),
    sa.Column("payee", sa.String, nullable=False),
    sa.Column("amount_fen", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("accrued_at", Instant, nullable=False),
    sa.Column("face_fen", sa.BigInteger),
    sa.Column("offer_id", sa.String),
    sa.Column("agreement_id", sa.String),
    sa.Column("agreement_version", sa.Integer),
    sa.Column("usage_month", sa.String),
    sa.Column("corrects_id", sa.ForeignKey("settlement_obligations.obligation_id")),
    sa.Column("cleared_at", Instant),
    sa.Column("business_date", sa.Date, index=True),
    sa.Column("window_id", sa.String, index=True),
    sa.Column("settlement_id", sa.String, index=True),
    sa.CheckConstraint("amount_fen > 0", name="amount"),
    sa.CheckConstraint("payer <> payee", name="parties"),
    sa.CheckConstraint("type <> 'REVERSAL' OR corrects_id IS NOT NULL", name="corrects"),
    sa.CheckConstraint("(state = 'ACCRUED') = (window_id IS NULL)", name="window"),
    sa.CheckConstraint("(window_id IS NULL) = (business_date IS NULL)", name="business_date"),
    sa.CheckConstraint(
        "(settlement_id IS NOT NULL) = (state IN ('IN_SETTLEMENT', 'SETTLED'))", name="settlement"
    ),
    sa.CheckConstraint(
        "state IN ('ACCRUED', 'IN_WINDOW', 'IN_SETTLEMENT', 'SETTLED')", name="state"
    ),
)

settlements = sa.Table(
    "settlement_settlements",
    metadata,
    sa.Column("settlement_id", sa.String, primary_key=True),
    sa.Column("window_id", sa.String, nullable=False, index=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("net_hash", sa.String, nullable=False),
    sa.Column("total_fen", sa.BigInteger, nullable=False),
    sa.Column("proposed_by", sa.String, nullable=False),
    sa.Column("proposed_at", Instant, nullable=False),
    sa.Column("approved_by", sa.String),
    sa.Column("approved_at", Instant),
    sa.Column("bank_csv", sa.Text),
    sa.Column("bank_csv_sha256", sa.String),
    sa.CheckConstraint("approved_by IS NULL OR approved_by <> proposed_by", name="four_eyes"),
)

legs = sa.Table(
    "settlement_legs",
    metadata,
    sa.Column("leg_id", sa.String, primary_key=True),
    sa.Column(
        "settlement_id", sa.ForeignKey("settlement_settlements.settlement_id"), nullable=False
    ),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("end_to_end_id", sa.String(35), nullable=False, unique=True),
    sa.Column("payer", sa.String, nullable=False),
    sa.Column("payee", sa.String, nullable=False),
    sa.Column("amount_fen", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("booked_at", Instant),
    sa.CheckConstraint("amount_fen > 0", name="amount"),
    sa.CheckConstraint("payer <> payee", name="parties"),
    sa.UniqueConstraint("settlement_id", "seq"),
)

leg_parties = sa.Table(
    "settlement_leg_parties",
    metadata,
    sa.Column("leg_id", sa.ForeignKey("settlement_legs.leg_id"), primary_key=True),
    sa.Column("role", sa.String, primary_key=True),
    sa.Column("merchant_id", sa.String, nullable=False, index=True),
    sa.Column("receipt_ref", sa.String),
    sa.Column("noticed_at", Instant),
    sa.Column("ack_client_id", sa.String),
    sa.Column("ack_signature", sa.Text),
    sa.Column("acknowledged_at", Instant),
    sa.CheckConstraint("role IN ('DEBTOR', 'CREDITOR')", name="role"),
)


def agreement_of(row: Any) -> Agreement:
    values = dict(row._mapping)
    values["id"] = values.pop("agreement_id")
    values["kind"] = AgreementKind(values["kind"])
    values["signed_by"] = tuple(values["signed_by"])
    for scope in ("offers", "categories"):
        values[scope] = None if values[scope] is None else tuple(values[scope])
    del values["proposed_at"]
    return Agreement(**values)


def obligation_of(row: Any) -> Obligation:
    values = {item.name: getattr(row, item.name) for item in fields(Obligation)[1:]}
    values |= {"type": Type(row.type), "state": State(row.state)}
    return Obligation(id=row.obligation_id, **values)


def obligation_row(obligation: Obligation, origin_key: str | None) -> dict[str, Any]:
    values = asdict(obligation)
    values["obligation_id"] = values.pop("id")
    return values | {"origin_key": origin_key}


def window_of(row: Any) -> Window:
    values = dict(row._mapping)
    values["id"] = values.pop("window_id")
    del values["open_slot"]
    return Window(**values | {"state": WindowState(row.state)})


async def add_agreement(tx: AsyncConnection, agreement: Agreement, *, now: datetime) -> None:
    row = asdict(agreement) | {"proposed_at": now, "signed_by": sorted(agreement.signed_by)}
    row["agreement_id"] = row.pop("id")
    for scope in ("offers", "categories"):
        row[scope] = None if row[scope] is None else list(row[scope])
    await tx.execute(sa.insert(agreements).values(row))


async def find_agreements(tx: AsyncConnection, *where: Any, lock: bool = False) -> list[Agreement]:
    """Agreements, oldest version first."""
    query = sa.select(agreements).where(*where)
    query = query.order_by(agreements.c.agreement_id, agreements.c.version)
    if lock:
        query = query.with_for_update()
    return [agreement_of(row) for row in await tx.execute(query)]


_PAIR = (
    sa.select(agreements)
    .where(
        agreements.c.issuer == sa.bindparam("of_issuer"),
        agreements.c.redeemer == sa.bindparam("of_redeemer"),
        agreements.c.signed_at.is_not(None),
    )
    .order_by(agreements.c.agreement_id, agreements.c.version)
)


@cache
def _towards(count: int) -> sa.Select[Any]:
    a = agreements.c
    in_force = a.signed_at.is_not(None), a.valid_from <= _ON, a.valid_until > _ON
    return sa.select(agreements).where(among(a.redeemer, "redeemer", count), *in_force)


_ON = sa.bindparam("in_force_on", type_=sa.Date)


def ask_towards(redeemers: Sequence[str], day: date) -> Ask:
    """Signed agreements in force on a day that redeemers are in."""
    ids = padded(redeemers)
    return Ask(_towards(len(ids)), values_of("redeemer", ids) | {"in_force_on": day})


def ask_pair(issuer: str, redeemer: str) -> Ask:
    """Signed agreements between two, oldest version first."""
    return Ask(_PAIR, {"of_issuer": issuer, "of_redeemer": redeemer})


@cache
def _between(issuers: Any, redeemer: Any) -> sa.Select[Any]:
    a = agreements.c
    query = sa.select(agreements).where(a.issuer.in_(issuers), a.redeemer == redeemer)
    return query.where(a.signed_at.is_not(None)).order_by(a.agreement_id, a.version)


@cache
def _used_between(issuers: Any, redeemer: Any) -> sa.Select[Any]:
    a = agreements.c
    mine = sa.select(a.agreement_id).where(a.issuer.in_(issuers), a.redeemer == redeemer)
    query = sa.select(usage).where(usage.c.month == sa.bindparam("in_month"))
    return query.where(usage.c.agreement_id.in_(mine))


@cache
def _covers(issuers: Any) -> sa.Select[Any]:
    return sa.select(cover).where(cover.c.merchant_id.in_(issuers))


def ask_room(
    issuers: Any, redeemer: Any, values: Mapping[str, Any], *, month: str
) -> tuple[Ask, Ask, Ask]:
    """Signed agreements between issuers and a redeemer, what is used of them, and cover."""
    return (
        Ask(_between(issuers, redeemer), values),
        Ask(_used_between(issuers, redeemer), {"in_month": month} | dict(values)),
        Ask(_covers(issuers), values),
    )


async def sign(
    tx: AsyncConnection, agreement: Agreement, *, signed_by: Iterable[str], signed_at: Any
) -> None:
    a = agreements.c
    where = (a.agreement_id == agreement.id) & (a.version == agreement.version)
    values = {"signed_by": sorted(signed_by), "signed_at": signed_at}
    await tx.execute(sa.update(agreements).where(where).values(values))


async def set_usage(tx: AsyncConnection, agreement_id: str, used: Mapping[str, int]) -> None:
    rows = [
        {"agreement_id": agreement_id, "month": month, "used_fen": fen}
        for month, fen in sorted(used.items())
    ]
    if rows:
        await tx.execute(db.insert_missing(tx, usage).values(rows))


async def used(tx: AsyncConnection, agreement_id: str, month: str) -> int:
    """Fen used of an agreement's month."""
    where = (usage.c.agreement_id == agreement_id) & (usage.c.month == month)
    return int(await tx.scalar(sa.select(usage.c.used_fen).where(where)) or 0)


async def set_cover(
    tx: AsyncConnection, merchant_id: str, *, collateral_fen: int, net_debit_cap_fen: int
) -> None:
    limits = {"collateral_fen": collateral_fen, "net_debit_cap_fen": net_debit_cap_fen}
    await tx.execute(db.insert_missing(tx, cover).values({"merchant_id": merchant_id, **limits}))
    await tx.execute(sa.update(cover).where(cover.c.merchant_id == merchant_id).values(limits))


async def find_cover(tx: AsyncConnection, merchant_id: str) -> Cover | None:
    row = (await tx.execute(sa.select(cover).where(cover.c.merchant_id == merchant_id))).first()
    return Cover(**row._mapping) if row else None


_INSERT_RESERVATIONS = sa.insert(reservations)
_INSERT_OBLIGATIONS = sa.insert(obligations)


async def insert_reservations(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    await db.write(tx, _INSERT_RESERVATIONS, rows)


_RESERVED = (
    (reservations.c.cause_id == sa.bindparam("cause"))
    & (reservations.c.epoch == sa.bindparam("of_epoch"))
    & (reservations.c.state == "RESERVED")
)
_ASK_RESERVED = sa.select(reservations).where(_RESERVED).order_by(reservations.c.leg_no)
_TAKE_RESERVATIONS = sa.update(reservations).where(_RESERVED).values(state=sa.bindparam("to"))


def ask_reserved(cause_id: str, epoch: int) -> Ask:
    """What is reserved for a cause's epoch, in leg order."""
    return Ask(_ASK_RESERVED, {"cause": cause_id, "of_epoch": epoch})


async def take_reservations(
    tx: AsyncConnection,
    *,
    cause_id: str,
    epoch: int,
    state: str,
    known: Sequence[Any] | None = None,
) -> Sequence[Any]:
    """Move what is reserved for a cause's epoch to `state`; rows in leg order.

    Args:
        known: The rows of `ask_reserved`, if they are at hand.

    Raises:
        Raced: With the batch: they were moved meanwhile.
    """
    if known is None:
        (known,) = await db.read(tx, ask_reserved(cause_id, epoch))
    if known:
        mine = {"cause": cause_id, "of_epoch": epoch, "to": state}
        await db.write(tx, _TAKE_RESERVATIONS, [mine], by=("cause", "of_epoch"), expect=len(known))
    return known


async def find_obligations(
    tx: AsyncConnection, *where: Any, limit: int | None = None, lock: bool = False
) -> list[Obligation]:
    """Obligations by id, which is by time."""
    query = sa.select(obligations).where(*where).order_by(obligations.c.obligation_id).limit(limit)
    if lock:
        query = query.with_for_update()
    return [obligation_of(row) for row in await tx.execute(query)]


async def insert_obligations(
    tx: AsyncConnection, rows: Sequence[tuple[Obligation, str | None]]
) -> None:
    await db.write(tx, _INSERT_OBLIGATIONS, [obligation_row(*row) for row in rows])


async def open_window(tx: AsyncConnection) -> Window | None:
    """The open window, under the lock that postings share."""
    await db.lock_shared(tx, WINDOW_LOCK)
    row = (await tx.execute(sa.select(windows).where(windows.c.open_slot == 1))).first()
    return window_of(row) if row else None


async def add_window(tx: AsyncConnection, window: Window) -> None:
    """Open a window, unless one of that id exists."""
    row = {
        "window_id": window.id,
        "state": window.state,
        "open_slot": 1,
        "opened_at": window.opened_at,
        "cuts_at": window.cuts_at,
    }
    await tx.execute(db.insert_missing(tx, windows).values(row))


async def find_window(tx: AsyncConnection, window_id: str, *, lock: bool = False) -> Window | None:
    query = sa.select(windows).where(windows.c.window_id == window_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return window_of(row) if row else None


async def update_window(tx: AsyncConnection, window_id: str, **values: Any) -> None:
    where = windows.c.window_id == window_id
    await tx.execute(sa.update(windows).where(where).values(values))


async def clear(
    tx: AsyncConnection, *, cause_id: str, window_id: str, at: datetime, day: date
) -> list[Obligation]:
    """Put a cause's accrued obligations into the window; returns those moved."""
    o = obligations.c
    values = {
        "state": State.IN_WINDOW,
        "window_id": window_id,
        "cleared_at": at,
        "business_date": day,
    }
    where = (o.cause_id == cause_id) & (o.state == State.ACCRUED)
    moved = sa.update(obligations).where(where).values(values).returning(obligations)
    return [obligation_of(row) for row in await tx.execute(moved)]


async def flows(tx: AsyncConnection, *where: Any) -> list[Flow]:
    """Obligations summed per payer and payee, in that order."""
    o = obligations.c
    query = sa.select(o.payer, o.payee, sa.func.sum(o.amount_fen)).where(*where)
    query = query.group_by(o.payer, o.payee).order_by(o.payer, o.payee)
    return [Flow(payer, payee, int(fen)) for payer, payee, fen in await tx.execute(query)]


async def amounts(tx: AsyncConnection, window_id: str) -> list[tuple[str, int]]:
    """Ids and amounts of a window's obligations."""
    o = obligations.c
    query = sa.select(o.obligation_id, o.amount_fen).where(o.window_id == window_id)
    return [(row.obligation_id, row.amount_fen) for row in await tx.execute(query)]


async def move_obligations(tx: AsyncConnection, *where: Any, **values: Any) -> None:
    """Change obligations' state and settlement."""
    await tx.execute(sa.update(obligations).where(*where).values(values))


async def find_windows(tx: AsyncConnection) -> list[Window]:
    """All windows, oldest first."""
    query = sa.select(windows).order_by(windows.c.window_id)
    return [window_of(row) for row in await tx.execute(query)]


def settlement_of(row: Any) -> Settlement:
    values = dict(row._mapping)
    values["id"] = values.pop("settlement_id")
    del values["bank_csv"]
    values |= {"model": Netting(row.model), "state": SettlementState(row.state)}
    return Settlement(**values)


async def find_settlements(
    tx: AsyncConnection, *where: Any, lock: bool = False
) -> list[Settlement]:
    """Settlements, oldest first."""
    query = sa.select(settlements).where(*where)
    query = query.order_by(settlements.c.proposed_at, settlements.c.settlement_id)
    rows = await tx.execute(query.with_for_update() if lock else query)
    return [settlement_of(row) for row in rows]


async def lock_settlement(tx: AsyncConnection, settlement_id: str) -> Settlement | None:
    """One settlement, locked after its window; none if there is none."""
    mine = settlements.c.settlement_id == settlement_id
    window_id = await tx.scalar(sa.select(settlements.c.window_id).where(mine))
    if window_id is None:
        return None
    await find_window(tx, window_id, lock=True)
    return (await find_settlements(tx, mine, lock=True))[0]


async def add_settlement(tx: AsyncConnection, settlement: Settlement) -> None:
    row = asdict(settlement)
    row["settlement_id"] = row.pop("id")
    await tx.execute(sa.insert(settlements).values(row))


async def update_settlement(tx: AsyncConnection, settlement_id: str, **values: Any) -> None:
    where = settlements.c.settlement_id == settlement_id
    await tx.execute(sa.update(settlements).where(where).values(values))


async def read_bank_csv(tx: AsyncConnection, settlement_id: str) -> str | None:
    where = settlements.c.settlement_id == settlement_id
    text: str | None = await tx.scalar(sa.select(settlements.c.bank_csv).where(where))
    return text


async def add_legs(tx: AsyncConnection, made: Sequence[SettlementLeg]) -> None:
    rows = []
    for leg in made:
        row = asdict(leg)
        row["leg_id"] = row.pop("id")
        del row["parties"]
        rows.append(row)
    if rows:
        await tx.execute(sa.insert(legs), rows)


async def add_parties(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        await tx.execute(sa.insert(leg_parties), list(rows))


async def find_legs(tx: AsyncConnection, *where: Any) -> list[SettlementLeg]:
    """Legs with their parties, by settlement and sequence."""
    query = sa.select(legs).where(*where).order_by(legs.c.settlement_id, legs.c.seq)
    rows = list(await tx.execute(query))
    sides = sa.select(leg_parties).where(leg_parties.c.leg_id.in_([row.leg_id for row in rows]))
    parties: dict[str, list[LegParty]] = {row.leg_id: [] for row in rows}
    for side in await tx.execute(sides.order_by(leg_parties.c.role.desc())):
        values = dict(side._mapping)
        parties[values.pop("leg_id")].append(LegParty(**values | {"role": Role(side.role)}))
    made = []
    for row in rows:
        values = dict(row._mapping) | {"state": LegState(row.state)}
        values["id"] = values.pop("leg_id")
        made.append(SettlementLeg(**values, parties=tuple(parties[row.leg_id])))
    return made


async def update_legs(tx: AsyncConnection, *where: Any, **values: Any) -> int:
    """Change legs; returns how many."""
    return (await tx.execute(sa.update(legs).where(*where).values(values))).rowcount


async def update_party(
    tx: AsyncConnection, leg_id: str, *, roles: Sequence[Role], **values: Any
) -> None:
    where = (leg_parties.c.leg_id == leg_id) & leg_parties.c.role.in_(roles)
    await tx.execute(sa.update(leg_parties).where(where).values(values))
