"""The database the figures are measured on: the demo coalition, a rich member, no tight limits."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from datetime import date, datetime
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import migrations
from gateway.db import Database
from gateway.demo import seed
from gateway.demo.data import catalog
from gateway.members import service as members
from gateway.points import service as points
from gateway.settings import Settings
from gateway.settlement import service as settlement
from gateway.values import SHANGHAI
from tests.integration.conftest import Coalition, StillClock

NOW = datetime(2026, 11, 20, 9, tzinfo=SHANGHAI)
MEMBER = "mbr_bench"
ISSUERS = {"M02": "P-CA", "M03": "P-YQ", "M04": "P-LL"}
PLENTY = 10**12


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@contextlib.asynccontextmanager
async def opened(address: str) -> AsyncIterator[Database]:
    """The gateway's way to a database."""
    database = Database(address)
    try:
        yield database
    finally:
        await database.close()


def copy(path: Path, name: str) -> Path:
    """Another file with the same content, beside it."""
    return Path(shutil.copyfile(path, path.with_name(f"{name}.db")))


def make(path: Path) -> None:
    """Create and fill the file; it is one file again afterwards, to be copied."""
    asyncio.run(fill(url(path)))


async def fill(address: str) -> None:
    """Create all tables of an empty database, and fill them."""
    database = Database(address)
    try:
        await fill_open(database)
    finally:
        await database.close()


async def fill_open(database: Database) -> None:
    """Tables and content for an empty database."""
    async with database.engine.begin() as connection:
        await connection.run_sync(migrations.create_all)
    async with database.transaction() as tx:
        await seed.seed_reference(tx, now=NOW)
        await seed.seed_members(tx, now=NOW)
        await seed.seed_offers(tx, now=NOW)
        for issuer in ISSUERS:
            await settlement.set_cover(
                tx, merchant_id=issuer, collateral_fen=PLENTY, net_debit_cap_fen=PLENTY
            )
            for row in catalog()["merchants"]:
                if row["id"] != issuer:
                    await agreement(tx, issuer, row["id"])
        await member(tx, MEMBER)


async def agreement(tx: AsyncConnection, issuer: str, redeemer: str) -> None:
    """Accepted everywhere, without a limit that a benchmark meets."""
    await settlement.add_agreement(
        tx,
        agreement_id=f"agr_bench_{issuer}_{redeemer}",
        version=99,
        issuer=issuer,
        redeemer=redeemer,
        settlement_bps=9_000,
        fee_bps=50,
        monthly_cap_fen=PLENTY,
        valid_from=date(2026, 1, 1),
        valid_until=date(2027, 1, 1),
        signed_by=(issuer, redeemer),
        now=NOW,
    )


async def member(tx: AsyncConnection, member_id: str) -> None:
    """A rich member that has consented to everything."""
    pairs = [
        {"purpose": "partner_pair", "issuer": issuer, "redeemer": row["id"]}
        for issuer in ISSUERS
        for row in catalog()["merchants"]
        if row["id"] != issuer
    ]
    await members.register(
        tx,
        member_id=member_id,
        name_zh="测",
        city="上海",
        consents=[{"purpose": "service"}, *pairs],
        now=NOW,
    )
    for programme_id in ISSUERS.values():
        for number in range(3):
            await points.open_lot(
                tx,
                member_id=member_id,
                programme_id=programme_id,
                points=10**10,
                earned_on=date(2026, 1, 1 + number),
                basis="PURCHASE",
                ref=f"{member_id}-{programme_id}-{number}",
                expires_at=None,
                now=NOW,
            )


def coalition(database: Database) -> Coalition:
    """Services and instant partners in this process on such a database."""
    return Coalition(database, StillClock(NOW), Settings())
