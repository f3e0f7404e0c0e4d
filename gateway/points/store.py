"""Tables of points and all their SQL. Lot movements are append-only."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
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
