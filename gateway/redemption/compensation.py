"""What a redeemer at fault gives on top of the points that come back."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, telemetry
from gateway.compliance import service as compliance
from gateway.errors import Refused
from gateway.jobs import enqueue
from gateway.ledger.model import Kind, Line
from gateway.points import service as points
from gateway.points.model import Programme, compensation
from gateway.promotions import service as promotions
from gateway.redemption import telling
from gateway.redemption.model import Leg, Redemption
from gateway.settlement import service as settlement
from gateway.values import half_up

log = telemetry.log(__name__)


async def compensate(
    tx: AsyncConnection, redemption: Redemption, leg: Leg, *, now: datetime
) -> bool:
    """Issue a leg's compensation out of the issuer's slice COMP; it waits while it may not be.

    The redeemer owes a foreign issuer the declared value. Source: contracts §5.6.

    Returns:
        Whether it was issued now; else a job tries again.
    """
    op_key = f"{redemption.id}:compensate:{redemption.epoch}:{leg.leg_no}"
    if await points.issued(tx, op_key):
        return True
    rule = await promotions.compensation_rule(tx, merchant_id=redemption.merchant_id, at=now)
    if rule is None:
        return True
    programme = await points.programme(tx, leg.programme_id)
    count = compensation(leg.points, rule.pct, rule.min_points)
    if count == 0:
        return True
    value_fen = programme.rate.floor(count)
    if await compliance.budget_left(tx, leg.issuer, "COMP") < value_fen:
        return await _later(tx, redemption, leg)
    try:
        async with tx.begin_nested():
            await _issue(tx, redemption, leg, programme, count, op_key=op_key, now=now)
            await db.flush(tx)
    except Refused as refusal:  # What the points cost comes back all the same.
        log.warning("compensation waits", redemption=redemption.id, code=refusal.code)
        return await _later(tx, redemption, leg)
    await telling.compensated(tx, redemption, leg, count, now=now)
    return True


async def _later(tx: AsyncConnection, redemption: Redemption, leg: Leg) -> bool:
    payload = {"redemption": redemption.id, "leg": leg.leg_no}
    key = f"{redemption.id}:{leg.leg_no}"
    await enqueue(tx, name="compensate", key=key, payload=payload)
    return False


async def _issue(
    tx: AsyncConnection,
    redemption: Redemption,
    leg: Leg,
    programme: Programme,
    count: int,
    *,
    op_key: str,
    now: datetime,
) -> None:
    hub_lines: tuple[Line, ...] = ()
    if not leg.own:
        owed_fen = half_up(count * programme.rate.num, programme.rate.den)
        hub_lines = await settlement.compensate(
            tx,
            cause_id=redemption.id,
            epoch=redemption.epoch,
            leg_no=leg.leg_no,
            issuer=leg.issuer,
            redeemer=redemption.merchant_id,
            fen=owed_fen,
            at=now,
        )
    await points.issue(
        tx,
        programme_id=leg.programme_id,
        member_id=redemption.member_id,
        points=count,
        basis="COMPENSATION",
        ref=f"{redemption.id}:{leg.leg_no}",
        slice="COMP",
        kind=Kind.COMPENSATE,
        op_key=op_key,
        hub_lines=hub_lines,
        actor=redemption.merchant_id,
        now=now,
    )
