"""The demo day, fed to the settlement room directly: what the saga does, without points."""

import json
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

import gateway
from gateway.db import Database
from gateway.ledger import service as ledger
from gateway.ledger.model import Journal, Kind, Line
from gateway.merchants import service as merchants
from gateway.settlement import service as settlement

DATA = Path(gateway.__file__).parent / "demo" / "data"
CATALOG = json.loads((DATA / "catalog.json").read_text())
DAY = json.loads((DATA / "demo_day.json").read_text())
EXPECTED = DAY["expected"]
CATEGORY = {offer["id"]: offer["category"] for offer in CATALOG["offers"]}
SEEDED = datetime.fromisoformat("2026-11-16T00:00:00+08:00")
CUT = datetime.fromisoformat("2026-11-21T00:00:00+08:00")


async def seed(tx: AsyncConnection) -> None:
    """Merchants, cover and agreements of the catalog."""
    for merchant in CATALOG["merchants"]:
        names = ("id", "slug", "name_zh", "name_en", "category", "cities", "market", "roles")
        account = merchant.get("settlement_account")
        await merchants.register(
            tx,
            **{name: merchant[name] for name in names},
            settlement_account=account,
            now=SEEDED,
            code_hours=72,
        )
        if merchant.get("cover"):
            await settlement.set_cover(tx, merchant_id=merchant["id"], **merchant["cover"])
    for row in CATALOG["agreements"]:
        await settlement.add_agreement(tx, **agreement_terms(row), now=SEEDED)
    await settlement.ensure_window(tx, now=SEEDED)


def agreement_terms(row: Mapping[str, Any]) -> dict[str, Any]:
    """An agreement of the catalog as `add_agreement` takes it."""
    same = ("issuer", "redeemer", "settlement_bps", "fee_bps", "monthly_cap_fen", "kind", "version")
    terms = {name: row[name] for name in same} | {"agreement_id": row["id"]}
    terms |= {name: date.fromisoformat(row[name]) for name in ("valid_from", "valid_until")}
    terms |= {"offers": row["scope"]["offers"], "categories": row["scope"]["categories"]}
    terms |= {"payee": row.get("payee"), "signed_by": row["signed_by"]}
    return terms | {"opening_used": row.get("opening_used_fen")}


async def post(
    tx: AsyncConnection,
    cause_id: str,
    kind: Kind,
    lines: Mapping[int, tuple[Line, ...]],
    at: datetime,
) -> None:
    """The HUB side of a redemption's journals."""
    journals = [
        Journal(
            kind=kind,
            op_key=f"{cause_id}:{kind}:1:{leg_no}",
            lines=each,
            effective_at=at,
            actor="test",
            cause_id=cause_id,
        )
        for leg_no, each in lines.items()
        if each
    ]
    if journals:
        await ledger.post(tx, journals, now=at)


async def hold(tx: AsyncConnection, redemption: Mapping[str, Any], at: datetime) -> None:
    lines = {}
    for leg_no, leg in enumerate(redemption["legs"], 1):
        if leg["own"]:
            continue
        agreement = await settlement.agreement_for(
            tx,
            issuer=leg["issuer"],
            redeemer=redemption["redeemer"],
            offer_id=redemption["offer"],
            category=CATEGORY[redemption["offer"]],
            at=at,
        )
        assert agreement.id == leg["agreement"]
        lines[leg_no] = await settlement.reserve(
            tx,
            cause_id=redemption["id"],
            epoch=1,
            leg_no=leg_no,
            agreement=agreement,
            offer_id=redemption["offer"],
            face_fen=leg["face_fen"],
            at=at,
        )
    await post(tx, redemption["id"], Kind.HOLD, lines, at)


async def commit(tx: AsyncConnection, cause_id: str, at: datetime) -> None:
    lines = await settlement.accrue(tx, cause_id=cause_id, epoch=1, at=at)
    await post(tx, cause_id, Kind.COMMIT, lines, at)


async def play(database: Database) -> None:
    """Every redemption of the day: held, committed, then fulfilled or cancelled."""
    for redemption in DAY["redemptions"]:
        at = datetime.fromisoformat(redemption["committed_at"])
        async with database.transaction() as tx:
            await hold(tx, redemption, at)
        async with database.transaction() as tx:
            await commit(tx, redemption["id"], at)
        async with database.transaction() as tx:
            if redemption["state"] == "CANCELLED":
                ask = {"cause_id": redemption["id"], "epoch": 1, "fault": "MEMBER", "at": at}
                lines = await settlement.reverse(tx, **ask)
                await post(tx, redemption["id"], Kind.REVERSE, lines, at)
            elif redemption["state"] == "FULFILLED":
                await settlement.clear(tx, cause_id=redemption["id"], at=at)
