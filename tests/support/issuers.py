"""A small coalition for tests: merchants, programmes, budgets, members and their lots."""

from datetime import UTC, date, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.compliance import service as compliance
from gateway.ledger import service as ledger
from gateway.ledger.model import Journal
from gateway.members import service as members
from gateway.merchants import service as merchants
from gateway.points import service as points
from gateway.points.model import LegRequest, Lot
from gateway.values import Rate

NOW = datetime(2026, 11, 20, 2, tzinfo=UTC)
LATER = NOW + timedelta(minutes=30)
STATED = {"accrual_zh": "每消费1元积1分", "validity_zh": "终身有效", "limits_zh": "不可转让"}
BY_AMOUNT = {"kind": "per_amount", "points": 1, "per_fen": 100}
BY_NIGHT = {"kind": "per_night", "tiers": {"普通": 1000, "银卡": 1200, "金卡": 1500}}
BY_DISTANCE = {"kind": "per_distance", "factor_pct": {"公务": 150, "经济全价": 100, "经济折扣": 50}}

PROGRAMMES = {  # id: issuer, rate, months, earn
    "P-HM": ("M01", Rate(1, 1), None, BY_AMOUNT),
    "P-CA": ("M02", Rate(10, 1), None, BY_AMOUNT),
    "P-YQ": ("M03", Rate(5, 3), None, BY_NIGHT),
    "P-LL": ("M04", Rate(1, 1), None, BY_AMOUNT),
    "P-CW": ("M06", Rate(1, 1), None, BY_AMOUNT),
    "P-YT": ("M11", Rate(15, 2), 36, BY_DISTANCE),
}


async def add_merchant(tx: AsyncConnection, id: str) -> None:
    await merchants.register(
        tx,
        id=id,
        slug=id.lower(),
        name_zh=id,
        name_en=id,
        category="test",
        cities=["上海"],
        market="ALL",
        roles=["issuer", "redeemer"],
        now=NOW,
        code_hours=72,
    )


async def add_member(tx: AsyncConnection, member_id: str, **more: object) -> None:
    await members.register(
        tx,
        name_zh=member_id,
        city="上海",
        consents=[{"purpose": "service"}],
        now=NOW - timedelta(days=1),
        member_id=member_id,
        **more,
    )


async def publish(tx: AsyncConnection, programme_id: str, **changes: object) -> None:
    issuer, rate, months, earn = PROGRAMMES[programme_id]
    given = {"name_zh": programme_id, "unit_zh": "分", "rate": rate, "earn": earn}
    given |= {"months": months, "disclosure": STATED, "compensation_bps": 100, "now": NOW}
    given |= {"programme_id": programme_id, "issuer": issuer}
    await points.publish_policy(tx, **(given | changes))


async def approve_budget(
    tx: AsyncConnection, issuer: str, fen: int, bps: int = 100, year: int = 2026
) -> None:
    budget = await compliance.propose_budget(
        tx, issuer=issuer, year=year, budget_fen=fen, compensation_bps=bps, actor="a", now=NOW
    )
    await compliance.approve_budget(tx, budget_id=budget.id, actor="b", limit_fen=10**12, now=NOW)


async def open_lot(
    tx: AsyncConnection,
    member_id: str,
    programme_id: str,
    number: int,
    *,
    ref: str = "open",
    earned_on: date = date(2026, 6, 1),
    expires_at: datetime | None = None,
) -> Lot:
    return await points.open_lot(
        tx,
        member_id=member_id,
        programme_id=programme_id,
        points=number,
        earned_on=earned_on,
        basis="PURCHASE",
        ref=ref,
        expires_at=expires_at,
        now=NOW,
    )


async def found(tx: AsyncConnection) -> None:
    """Found the coalition: six programmes with budgets of ¥120,000, members m1 to m4."""
    for programme_id, (issuer, *_) in PROGRAMMES.items():
        await add_merchant(tx, issuer)
        await publish(tx, programme_id)
        await approve_budget(tx, issuer, 12_000_000)
    await add_merchant(tx, "M05")
    for number in range(1, 5):
        await add_member(tx, f"m{number}")


async def hold(
    tx: AsyncConnection,
    redemption_id: str,
    *legs: LegRequest,
    epoch: int = 1,
    now: datetime = NOW,
) -> None:
    await points.hold(
        tx, redemption_id=redemption_id, epoch=epoch, legs=legs, expires_at=LATER, actor="m1",
        now=now,
    )  # fmt: skip


async def open_books(tx: AsyncConnection, *tables: str) -> None:
    """Take the append-only triggers off tables, where there are any: to tamper with them."""
    for table in tables:
        if tx.dialect.name == "postgresql":
            await tx.exec_driver_sql(f"DROP TRIGGER IF EXISTS {table}_append_only ON {table}")
        else:
            for verb in ("update", "delete"):
                await tx.exec_driver_sql(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")


async def posted(tx: AsyncConnection) -> list[tuple[str, str]]:
    """Kinds and lines of all journals, oldest first, as `Dr M:m1:AVAIL 5,000` by book."""
    found = await ledger.entries(tx, limit=1_000)
    return [(journal.kind.value, printed(journal)) for _, journal in reversed(found)]


def printed(journal: Journal) -> str:
    books: dict[str, list[str]] = {}
    for line in journal.lines:
        side = "Dr" if line.amount > 0 else "Cr"
        books.setdefault(line.book, []).append(f"{side} {line.account} {abs(line.amount):,}")
    return " · ".join(f"{book} {', '.join(lines)}" for book, lines in books.items())
