"""Tables of redemptions, their legs, the outbox of partner calls, facts, events and vouchers."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import batch, db
from gateway.batch import Ask
from gateway.db import Instant, Json, insert_missing, metadata
from gateway.redemption.model import CallState, Fault, Leg, Redemption, State, Step
from gateway.telemetry import tracing
from gateway.values import new_id

_states = ", ".join(f"'{state}'" for state in State)

redemptions = sa.Table(
    "redemptions",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("member_id", sa.String, nullable=False),
    sa.Column("quote_id", sa.String, nullable=False, unique=True),  # a quote is used once
    sa.Column("merchant_id", sa.String, nullable=False),
    sa.Column("offer_id", sa.String, nullable=False),
    sa.Column("slot", sa.String),
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("list_fen", sa.BigInteger, nullable=False),
    sa.Column("cash_fen", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("category", sa.String, nullable=False),
    sa.Column("pricing", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("doubt", sa.String),
    sa.Column("reason", sa.String),
    sa.Column("fault", sa.String),
    sa.Column("partner_quote_id", sa.String),
    sa.Column("hold_ref", sa.String),
    sa.Column("booking_ref", sa.String),
    sa.Column("fact_version", sa.Integer, nullable=False),
    sa.Column("partner_hold_until", Instant),
    sa.Column("points_hold_until", Instant, nullable=False),
    sa.Column("deadline", Instant),
    sa.Column("cancel_until", Instant),
    sa.Column("doubt_since", Instant),
    sa.Column("due_at", Instant),  # business time; null: nothing to do
    sa.Column("polls", sa.Integer, nullable=False),
    sa.Column("resends", sa.Integer, nullable=False),
    sa.Column("fenced", sa.Boolean, nullable=False),
    sa.Column("auto_confirm", sa.Boolean, nullable=False),
    sa.Column("final_fare_fen", sa.BigInteger),
    sa.Column("cancel_quote_id", sa.String),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("committed_at", Instant),
    sa.Column("fulfilled_at", Instant),
    sa.Column("released_at", Instant),
    sa.Column("cancelled_at", Instant),
    sa.Column("retry_of", sa.String),
    sa.Column("told", sa.Integer, nullable=False, server_default="0"),
    sa.Column("leased_until", Instant),  # system time
    sa.CheckConstraint(f"state IN ({_states})", name="state"),
    sa.CheckConstraint("list_fen >= 0 AND cash_fen >= 0 AND cash_fen <= list_fen", name="amounts"),
    sa.CheckConstraint("(state = 'IN_DOUBT') = (doubt IS NOT NULL)", name="doubt"),
    sa.CheckConstraint("state <> 'COMMITTED' OR committed_at IS NOT NULL", name="committed"),
    sa.Index("ix_redemptions_due", "state", "due_at"),
    sa.Index("ix_redemptions_member", "member_id", "created_at"),
)

legs = sa.Table(
    "redemption_legs",
    metadata,
    sa.Column("redemption_id", sa.ForeignKey("redemptions.id"), primary_key=True),
    sa.Column("leg_no", sa.Integer, primary_key=True),
    sa.Column("programme_id", sa.String, nullable=False),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("points", sa.BigInteger, nullable=False),
    sa.Column("face_fen", sa.BigInteger, nullable=False),
    sa.Column("rate_num", sa.BigInteger, nullable=False),
    sa.Column("rate_den", sa.BigInteger, nullable=False),
    sa.Column("own", sa.Boolean, nullable=False),
    sa.Column("agreement_id", sa.String),
    sa.Column("settlement_fen", sa.BigInteger, nullable=False),
    sa.Column("fee_fen", sa.BigInteger, nullable=False),
    sa.Column("returned_points", sa.BigInteger, nullable=False),
    sa.CheckConstraint("points > 0 AND face_fen >= 0", name="amounts"),
    sa.CheckConstraint("returned_points >= 0 AND returned_points <= points", name="returned"),
    sa.CheckConstraint("own = (agreement_id IS NULL)", name="agreement"),
)

calls = sa.Table(
    "partner_calls",
    metadata,
    sa.Column("op_key", sa.String, primary_key=True),
    sa.Column("verb", sa.String, primary_key=True),  # hold, confirm, cancel, fence
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("redemption_id", sa.ForeignKey("redemptions.id"), nullable=False, index=True),
    sa.Column("body_hash", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("queued_at", Instant, nullable=False),
    sa.Column("answered_at", Instant),
    sa.Column("detail", sa.String),
    sa.Column("traceparent", sa.String),  # of who queued it
)

facts = sa.Table(
    "partner_facts",
    metadata,
    sa.Column("op_key", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("outcome", sa.String, primary_key=True),
    sa.Column("redemption_id", sa.ForeignKey("redemptions.id"), nullable=False, index=True),
    sa.Column("source", sa.String, nullable=False),  # answer, webhook, poll, fence, statement
    sa.Column("booking_ref", sa.String),
    sa.Column("body", Json, nullable=False),
    sa.Column("recorded_at", Instant, nullable=False),
    sa.Column("fact_id", sa.String, index=True),  # null: written by 0001
    info={"append_only": True, "sealed": "fact_id"},
)

NOT_APPLIED = sa.text("applied_at IS NULL")
SET_ASIDE = sa.text("(outcome LIKE 'failed: %' OR outcome LIKE 'set aside: %')")

events = sa.Table(
    "partner_events",
    metadata,
    sa.Column("merchant_id", sa.String, primary_key=True),
    sa.Column("event_id", sa.String, primary_key=True),
    sa.Column("body", Json, nullable=False),
    sa.Column("received_at", Instant, nullable=False),
    sa.Column("applied_at", Instant),
    sa.Column("outcome", sa.String),  # applied; postponed; ignored, set aside or failed: why
    sa.Column("use_version", sa.Integer),  # of a use that was postponed
    sa.Column("tries", sa.Integer),  # that failed
    sa.Column("due_at", Instant),  # the next try after one that failed
    sa.Column("redemption_id", sa.String, index=True),
    sa.Index(
        "ix_partner_events_waiting",
        "received_at",
        sqlite_where=NOT_APPLIED,
        postgresql_where=NOT_APPLIED,
    ),
    sa.Index(
        "ix_partner_events_set_aside",
        "applied_at",
        sqlite_where=SET_ASIDE,
        postgresql_where=SET_ASIDE,
    ),
)

vouchers = sa.Table(
    "vouchers",
    metadata,
    sa.Column("voucher_id", sa.String, primary_key=True),
    sa.Column("redemption_id", sa.ForeignKey("redemptions.id"), nullable=False, unique=True),
    sa.Column("merchant_id", sa.String, nullable=False),
    sa.Column("code", sa.String, nullable=False),
    sa.Column("holder", sa.String, nullable=False),  # member id: a voucher is named
    sa.Column("artefacts", Json, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("last_on", sa.Date),
    sa.Column("used_at", Instant),
    sa.CheckConstraint("state IN ('ISSUED', 'USED', 'VOID')", name="state"),
    sa.UniqueConstraint("merchant_id", "code"),
)

cancel_quotes = sa.Table(
    "cancel_quotes",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("redemption_id", sa.ForeignKey("redemptions.id"), nullable=False, index=True),
    sa.Column("partner_id", sa.String, nullable=False),
    sa.Column("refundable", sa.Boolean, nullable=False),
    sa.Column("fee_fen", sa.BigInteger, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("until", Instant),
)

donations = sa.Table(
    "donations",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("member_id", sa.String, nullable=False, index=True),
    sa.Column("beneficiary", sa.String, nullable=False),
    sa.Column("programme_id", sa.String, nullable=False),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("points", sa.BigInteger, nullable=False),
    sa.Column("face_fen", sa.BigInteger, nullable=False),
    sa.Column("match_fen", sa.BigInteger, nullable=False),
    sa.Column("match_promotion", sa.String),
    sa.Column("match_period", sa.String),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("donated_at", Instant, nullable=False),
    sa.Column("reversed_at", Instant),
    sa.CheckConstraint("points > 0 AND face_fen >= 0 AND match_fen >= 0", name="amounts"),
    sa.CheckConstraint("state IN ('DONE', 'REVERSED')", name="state"),
)

hosted = sa.Table(
    "hosted_operations",
    metadata,
    sa.Column("op_key", sa.String, primary_key=True),
    sa.Column("merchant_id", sa.String, nullable=False),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("quote_id", sa.String),
    sa.Column("hold_ref", sa.String),
    sa.Column("code", sa.String),
    sa.Column("expires_at", Instant),
    sa.Column("recorded_at", Instant, nullable=False),
)

findings = sa.Table(
    "saga_findings",
    metadata,
    sa.Column("redemption_id", sa.ForeignKey("redemptions.id"), primary_key=True),
    sa.Column("code", sa.String, primary_key=True),  # a break code of contracts §7.4
    sa.Column("detail", sa.String, nullable=False),
    sa.Column("found_at", Instant, nullable=False),
)

reviews = sa.Table(
    "redemption_reviews",
    metadata,
    sa.Column("redemption_id", sa.ForeignKey("redemptions.id"), primary_key=True),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("came_from", sa.String, nullable=False),  # the state before
    sa.Column("step", sa.String, nullable=False),  # hold, confirm, cancel: the last one asked
    sa.Column("opened_at", Instant, nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("owner", sa.String),
)

review_resolutions = sa.Table(
    "redemption_review_resolutions",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("redemption_id", sa.ForeignKey("redemptions.id"), nullable=False, index=True),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("fault", sa.String),
    sa.Column("evidence", sa.String),  # the partner's booking
    sa.Column("note", sa.String, nullable=False),
    sa.Column("amount_fen", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("proposed_by", sa.String, nullable=False),
    sa.Column("proposed_at", Instant, nullable=False),
    sa.Column("approved_by", sa.String),
    sa.Column("approved_at", Instant),
    sa.CheckConstraint("outcome IN ('COMMIT', 'RELEASE', 'CANCEL', 'KEEP')", name="outcome"),
    sa.CheckConstraint("state IN ('PROPOSED', 'APPROVED', 'WITHDRAWN')", name="state"),
    sa.CheckConstraint("approved_by IS NULL OR approved_by <> proposed_by", name="four_eyes"),
    sa.CheckConstraint("(state = 'APPROVED') = (approved_by IS NOT NULL)", name="approved"),
)

_leg_names = [item.name for item in fields(Leg)]

# Statements of the hot path, built once; the values come with each execution.
_INSERT = sa.insert(redemptions)
_INSERT_LEGS = sa.insert(legs)
_FIND = sa.select(redemptions).where(redemptions.c.id == sa.bindparam("redemption"))
_LOCK = _FIND.with_for_update()
_UPDATE = sa.update(redemptions).where(redemptions.c.id == sa.bindparam("redemption"))
_LEGS = (
    sa.select(legs)
    .where(legs.c.redemption_id.in_(sa.bindparam("redemptions", expanding=True)))
    .order_by(legs.c.leg_no)
)
_LEGS_OF_ONE = (
    sa.select(legs)
    .where(legs.c.redemption_id == sa.bindparam("redemption"))
    .order_by(legs.c.leg_no)
)
_USED_QUOTE = sa.select(redemptions.c.id).where(redemptions.c.quote_id == sa.bindparam("quote"))
_UPDATE_SEEN = _UPDATE.where(
    redemptions.c.state == sa.bindparam("seen_state"),
    redemptions.c.epoch == sa.bindparam("seen_epoch"),
    ~sa.exists().where(facts.c.op_key == sa.bindparam("of_op_key")),
)
_QUEUE_CALL = sa.insert(calls)
_LAST_ATTEMPT = sa.select(sa.func.max(calls.c.attempt)).where(
    calls.c.op_key == sa.bindparam("key"), calls.c.verb == sa.bindparam("of_verb")
)
_ANSWER_CALL = sa.update(calls).where(
    calls.c.op_key == sa.bindparam("key"),
    calls.c.verb == sa.bindparam("of_verb"),
    calls.c.attempt == sa.bindparam("of_attempt"),
)
_FACTS = sa.select(facts).where(facts.c.op_key == sa.bindparam("key")).order_by(facts.c.version)


async def insert(tx: AsyncConnection, redemption: Redemption, *, leased_until: datetime) -> None:
    """A new redemption with its legs."""
    row = {item.name: getattr(redemption, item.name) for item in fields(Redemption)}
    del row["legs"]
    await db.write(tx, _INSERT, [row | {"leased_until": leased_until}])
    rows = [
        {"redemption_id": redemption.id} | {name: getattr(leg, name) for name in _leg_names}
        for leg in redemption.legs
    ]
    await db.write(tx, _INSERT_LEGS, rows)


def ask(redemption_id: str, *, lock: bool = False) -> tuple[Ask, Ask]:
    """One redemption and its legs, for `found`; `lock` keeps others out until the end."""
    given = {"redemption": redemption_id}
    return Ask(_LOCK if lock else _FIND, given), Ask(_LEGS_OF_ONE, given)


def found(rows: Sequence[sa.Row[Any]], of_legs: Sequence[sa.Row[Any]]) -> Redemption | None:
    """The redemption out of the rows of `ask`."""
    return _redemption(rows[0], tuple(_leg(row._mapping) for row in of_legs)) if rows else None


async def find(tx: AsyncConnection, redemption_id: str, *, lock: bool = False) -> Redemption | None:
    """One redemption with its legs in order; `lock` keeps others out until the end."""
    return found(*await db.read(tx, *ask(redemption_id, lock=lock)))


def ask_used(quote_id: str) -> Ask:
    """The id of the redemption a quote was used for."""
    return Ask(_USED_QUOTE, {"quote": quote_id})


async def find_many(tx: AsyncConnection, ids: Sequence[str]) -> dict[str, Redemption]:
    """Redemptions by id."""
    rows = list(await tx.execute(sa.select(redemptions).where(redemptions.c.id.in_(ids))))
    return {item.id: item for item in await _with_legs(tx, rows)}


async def unfulfilled(tx: AsyncConnection, *, words: str) -> list[Redemption]:
    """Committed redemptions whose slot names some words, oldest first."""
    r = redemptions.c
    states = [str(State.COMMITTED), str(State.LATE_CONFIRMED)]
    query = sa.select(redemptions).where(
        r.state.in_(states), r.slot.contains(words, autoescape=True)
    )
    return await _with_legs(tx, list(await tx.execute(query.order_by(r.created_at, r.id))))


async def page(
    tx: AsyncConnection,
    *,
    member_id: str | None,
    merchant_id: str | None,
    states: Sequence[str] | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Redemption]:
    """Redemptions, newest first, after a (created_at, id)."""
    query = sa.select(redemptions)
    if member_id is not None:
        query = query.where(redemptions.c.member_id == member_id)
    if merchant_id is not None:
        query = query.where(redemptions.c.merchant_id == merchant_id)
    if states is not None:
        query = query.where(redemptions.c.state.in_(states))
    if after is not None:
        at, last = after
        older = sa.and_(redemptions.c.created_at == at, redemptions.c.id < last)
        query = query.where(sa.or_(redemptions.c.created_at < at, older))
    query = query.order_by(redemptions.c.created_at.desc(), redemptions.c.id.desc()).limit(limit)
    return await _with_legs(tx, list(await tx.execute(query)))


async def _with_legs(tx: AsyncConnection, rows: Sequence[sa.Row[Any]]) -> list[Redemption]:
    ids = [row.id for row in rows]
    by_id: dict[str, list[Leg]] = {}
    for row in (await tx.execute(_LEGS, {"redemptions": ids})).mappings() if ids else ():
        by_id.setdefault(row["redemption_id"], []).append(_leg(row))
    return [_redemption(row, tuple(by_id[row.id])) for row in rows]


def _leg(row: Any) -> Leg:
    return Leg(**{name: row[name] for name in _leg_names})


def _redemption(row: sa.Row[Any], of_legs: tuple[Leg, ...]) -> Redemption:
    values = dict(row._mapping)
    del values["leased_until"]
    values["state"] = State(values["state"])
    values["doubt"] = Step(values["doubt"]) if values["doubt"] else None
    values["fault"] = Fault(values["fault"]) if values["fault"] else None
    return Redemption(**values, legs=of_legs)


async def update(
    tx: AsyncConnection, redemption_id: str, values: Mapping[str, Any], *, keep_lease: bool = False
) -> None:
    """Change columns of one redemption, with the transaction's next batch.

    Its lease ends with the change.
    """
    given = dict(values) if keep_lease else dict(values) | {"leased_until": None}
    await db.write(tx, _UPDATE, [{"redemption": redemption_id, **given}], by=("redemption",))


async def update_seen(
    tx: AsyncConnection, redemption: Redemption, values: Mapping[str, Any], *, op_key: str
) -> None:
    """Change columns of a redemption that was read without a lock, if it is as it was.

    Raises:
        Raced: With the batch: it has moved, or something is known about the op key.
    """
    seen = {"seen_state": redemption.state, "seen_epoch": redemption.epoch, "of_op_key": op_key}
    row = {"redemption": redemption.id, **values, **seen}
    await db.write(tx, _UPDATE_SEEN, [row], by=("redemption",), expect=1)


_ADD_RETURNED = (
    sa.update(legs)
    .where(
        legs.c.redemption_id == sa.bindparam("redemption"),
        legs.c.leg_no == sa.bindparam("of_leg"),
    )
    .values(returned_points=legs.c.returned_points + sa.bindparam("by", type_=sa.BigInteger))
)


async def add_returned(tx: AsyncConnection, redemption_id: str, points: Mapping[int, int]) -> None:
    """Count points given back, by leg."""
    rows = [
        {"redemption": redemption_id, "of_leg": leg_no, "by": count}
        for leg_no, count in sorted(points.items())
    ]
    await db.write(tx, _ADD_RETURNED, rows, by=("redemption", "of_leg"), expect=len(rows))


async def queue_call(
    tx: AsyncConnection,
    *,
    redemption_id: str,
    op_key: str,
    verb: str,
    body_hash: str,
    now: datetime,
    first: bool = False,
) -> int:
    """Write the outbox row of a call before its bytes leave (R5).

    Args:
        first: The redemption's state says that this verb was never tried.

    Returns:
        The attempt, from 1.
    """
    last = None if first else await tx.scalar(_LAST_ATTEMPT, {"key": op_key, "of_verb": verb})
    attempt = (last or 0) + 1
    row = {"op_key": op_key, "verb": verb, "attempt": attempt, "redemption_id": redemption_id}
    row |= {"body_hash": body_hash, "state": str(CallState.PENDING), "queued_at": now}
    row["traceparent"] = tracing.header()
    await db.write(tx, _QUEUE_CALL, [row])
    return attempt


async def answer_call(
    tx: AsyncConnection,
    *,
    op_key: str,
    verb: str,
    attempt: int,
    state: CallState,
    detail: str | None,
    now: datetime,
) -> None:
    """Record how a call ended."""
    values = {"state": str(state), "answered_at": now, "detail": detail}
    mine = {"key": op_key, "of_verb": verb, "of_attempt": attempt}
    await db.write(tx, _ANSWER_CALL, [values | mine], by=("key", "of_verb", "of_attempt"))


async def may_have_acted(tx: AsyncConnection, *, op_key: str, verb: str, but: int = 0) -> bool:
    """Whether an attempt other than `but` may have reached the partner; answered ones count."""
    harmless = [str(CallState.NOT_SENT), str(CallState.REJECTED)]
    mine = (calls.c.op_key == op_key) & (calls.c.verb == verb) & (calls.c.attempt != but)
    query = sa.select(sa.func.count()).where(mine, calls.c.state.not_in(harmless))
    return bool(await tx.scalar(query))


async def call_log(tx: AsyncConnection, redemption_id: str) -> list[sa.Row[Any]]:
    """Every call of a redemption, oldest first."""
    query = sa.select(calls).where(calls.c.redemption_id == redemption_id)
    return list(
        await tx.execute(query.order_by(calls.c.queued_at, calls.c.op_key, calls.c.attempt))
    )


def ask_facts(op_key: str) -> Ask:
    """What is known about an op key, by version."""
    return Ask(_FACTS, {"key": op_key})


async def add_fact(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Store a fact, if it is new, with the transaction's next batch."""
    await db.write(tx, insert_missing(tx, facts), [{"fact_id": new_id("fct"), **row}])


async def add_finding(
    tx: AsyncConnection, *, redemption_id: str, code: str, detail: str, now: datetime
) -> None:
    """Note something about a saga that finance must see as a break."""
    row = {"redemption_id": redemption_id, "code": code, "detail": detail, "found_at": now}
    await db.write(tx, insert_missing(tx, findings), [row])


async def list_findings(tx: AsyncConnection, *where: sa.ColumnElement[bool]) -> list[sa.Row[Any]]:
    """Findings with merchant and list price of their redemption, oldest first."""
    r = redemptions.c
    query = sa.select(findings, r.merchant_id, r.list_fen).join_from(findings, redemptions)
    order = (findings.c.found_at, findings.c.redemption_id, findings.c.code)
    return list(await tx.execute(query.where(*where).order_by(*order)))


async def reopen_events(tx: AsyncConnection, redemption_id: str) -> None:
    """Apply a redemption's postponed webhooks after all."""
    mine = (events.c.redemption_id == redemption_id) & (events.c.outcome == "postponed")
    await tx.execute(sa.update(events).where(mine).values(applied_at=None, outcome=None))


async def postponed_use(tx: AsyncConnection, redemption_id: str) -> int | None:
    """The highest version of a use that was told while a cancellation was under way."""
    mine = (events.c.redemption_id == redemption_id) & (events.c.outcome == "postponed")
    highest = sa.select(sa.func.max(events.c.use_version)).where(mine)
    found: int | None = await tx.scalar(highest)
    return found


async def add_voucher(tx: AsyncConnection, row: Mapping[str, Any]) -> bool:
    """Store a voucher; False when the redemption has one, or the code is taken."""
    return bool((await tx.execute(insert_missing(tx, vouchers), row)).rowcount)


async def write_voucher(
    tx: AsyncConnection, row: Mapping[str, Any], *, missed: batch.Missed
) -> None:
    """Store a voucher with the transaction's next batch; `missed` as `add_voucher`'s False."""
    await db.write(tx, insert_missing(tx, vouchers), [row], expect=1, missed=missed)


async def voucher_of(tx: AsyncConnection, redemption_ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    """Vouchers by redemption."""
    query = sa.select(vouchers).where(vouchers.c.redemption_id.in_(redemption_ids))
    return {row.redemption_id: row for row in await tx.execute(query)}


async def voucher_by_code(tx: AsyncConnection, merchant_id: str, code: str) -> sa.Row[Any] | None:
    """A merchant's voucher by its code; it stays as it is while its redemption is locked."""
    mine = (vouchers.c.merchant_id == merchant_id) & (vouchers.c.code == code)
    return (await tx.execute(sa.select(vouchers).where(mine))).one_or_none()


_SET_VOUCHER = sa.update(vouchers).where(vouchers.c.redemption_id == sa.bindparam("redemption"))


async def set_voucher(
    tx: AsyncConnection, redemption_id: str, *, state: str, used_at: datetime | None
) -> None:
    """Mark a redemption's voucher used or void."""
    row = {"redemption": redemption_id, "state": state, "used_at": used_at}
    await db.write(tx, _SET_VOUCHER, [row], by=("redemption",))


async def add_cancel_quote(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Store what a cancellation would give back."""
    await tx.execute(sa.insert(cancel_quotes).values(**row))


async def find_cancel_quote(tx: AsyncConnection, cancel_quote_id: str) -> sa.Row[Any] | None:
    query = sa.select(cancel_quotes).where(cancel_quotes.c.id == cancel_quote_id)
    return (await tx.execute(query)).one_or_none()


async def add_donation(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    await tx.execute(sa.insert(donations).values(**row))


async def find_donation(
    tx: AsyncConnection, donation_id: str, *, lock: bool = False
) -> sa.Row[Any] | None:
    query = sa.select(donations).where(donations.c.id == donation_id)
    return (await tx.execute(query.with_for_update() if lock else query)).one_or_none()


async def set_donation_reversed(tx: AsyncConnection, donation_id: str, *, now: datetime) -> None:
    values = {"state": "REVERSED", "reversed_at": now}
    await tx.execute(sa.update(donations).where(donations.c.id == donation_id).values(values))
