"""What sagas found on a business day, as breaks of its run.

Such a break has no rows: it explains no difference between the sides, and enters neither hash.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.reconciliation.model import (
    CLOSED_BY_FACT,
    Break,
    BreakState,
    Code,
    Run,
    deadline,
)
from gateway.redemption import service as redemptions
from gateway.redemption.model import Redemption
from gateway.values import fingerprint, new_id, start_of

FULFIL_DAYS = 3  # after its slot, a use that nobody has told is overdue (default)
_DAY = timedelta(days=1)

_WORDS: Mapping[Code, tuple[str, str]] = {
    Code.LATE_HOLD: ("释放后对方才报告保留,已要求撤销", "held after its release; let go"),
    Code.LATE_CONFIRM_CANCELLED: (
        "释放后对方才确认,积分已用完,预订已取消",
        "confirmed after its release, without points; the booking is cancelled",
    ),
    Code.LATE_CONFIRM_UNCOVERED: (
        "释放后对方才确认且已消费;期限后确认由对方承担,期限前由运营方承担",
        "confirmed after its release and consumed; borne by the partner if it confirmed after the "
        "deadline, by the operator if before",
    ),
    Code.FENCE_VIOLATED: ("对方在拦截后仍确认,由对方承担", "confirmed after its fence; its loss"),
    Code.STATUS_DIFF: ("对方的说法与我方状态不符", "the partner says something else than we have"),
    Code.FULFIL_MISSING: (
        f"预约日已过 {FULFIL_DAYS} 天,未收到履约通知",
        f"{FULFIL_DAYS} days after its slot nobody has told its use",
    ),
}
_AT_STAKE = frozenset({Code.LATE_CONFIRM_UNCOVERED, Code.FENCE_VIOLATED})


async def breaks(tx: AsyncConnection, run: Run, *, now: datetime) -> list[Break]:
    """The findings of a run's business day, and the uses that are overdue since that day."""
    day = run.business_date
    found = await redemptions.findings(tx, since=start_of(day), until=start_of(day + _DAY))
    by_id = await redemptions.redemptions_by_id(tx, sorted({row.redemption_id for row in found}))
    made = [
        _break(run, Code(row.code), by_id[row.redemption_id], row.detail, now=now) for row in found
    ]
    unused = await redemptions.overdue(tx, slot_on=day - FULFIL_DAYS * _DAY)
    made += [_break(run, Code.FULFIL_MISSING, each, each.slot or "", now=now) for each in unused]
    return made


def _break(run: Run, code: Code, redemption: Redemption, detail: str, *, now: datetime) -> Break:
    zh, en = _WORDS[code]
    amount_fen = redemption.list_fen if code in _AT_STAKE else 0
    settled = code in CLOSED_BY_FACT
    return Break(
        id=new_id("brk"),
        run_id=run.id,
        key=fingerprint([run.business_date, code, redemption.id]),
        code=code,
        merchant=redemption.merchant_id,
        issuer=redemption.legs[0].issuer,
        ref=redemption.id,
        ours_ids=(),
        theirs_ids=(),
        ours_fen=0,
        theirs_fen=0,
        amount_fen=amount_fen,
        field=None,
        hypothesis_zh=f"{zh}({detail})",
        hypothesis_en=f"{en} ({detail})",
        flows=(),
        state=BreakState.AUTO_RESOLVED if settled else BreakState.OPEN,
        opened_at=now,
        due_at=deadline(now, amount_fen),
        closed_at=now if settled else None,
    )
