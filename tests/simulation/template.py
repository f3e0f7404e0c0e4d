"""The small coalition of every run: parties, agreements, cover and points, in a template file."""

import copy
from pathlib import Path
from typing import Any
from unittest import mock

from gateway import migrations
from gateway.db import Database
from gateway.demo import seed
from gateway.demo.data import catalog
from gateway.settlement import service as settlement
from tests.simulation.entropy import START

MERCHANTS = ("M01", "M03", "M04", "M05", "M07", "M16")
OFFERS = ("LL-01", "LL-03", "YQ-05", "XH-01", "XH-03", "KX-01", "KX-03")
MEMBERS = ("mbr_a", "mbr_b", "mbr_c")
PROGRAMMES = {"P-HM": "M01", "P-YQ": "M03", "P-LL": "M04", "P-XH": "M05", "P-KX": "M07"}
ENDING = "P-YQ"  # The one programme whose points end.
TENDERS = {  # Whose points each merchant takes.
    "M03": ("P-YQ",),
    "M04": ("P-LL", "P-XH"),
    "M05": ("P-XH", "P-LL", "P-YQ", "P-HM"),
    "M07": ("P-LL", "P-KX", "P-YQ", "P-HM"),
}
LOTS = ((4_000, "2026-03-01", None), (2_500, "2026-06-15", "2026-11-20T12:30:00+08:00"),
        (6_000, "2026-09-01", "2027-01-31T23:59:59+08:00"))  # fmt: skip
COVER = {"M04": 40_000, "M03": 30_000, "M01": 12_000}  # Tight enough to be hit.


def prices() -> dict[str, dict[str, int]]:
    """List prices in fen by merchant and offer."""
    found: dict[str, dict[str, int]] = {}
    for row in catalog()["offers"]:
        if row["id"] in OFFERS:
            found.setdefault(row["merchant"], {})[row["id"]] = row["cash_fen"]
    return found


def _data() -> dict[str, Any]:
    """The demo's data, cut down to the parties of the simulation."""
    data = copy.deepcopy(dict(catalog()))
    data["merchants"] = [row for row in data["merchants"] if row["id"] in MERCHANTS]
    data["programmes"] = [row for row in data["programmes"] if row["id"] in PROGRAMMES]
    for row in data["programmes"]:
        if row["id"] == ENDING:
            row["validity"] = {"kind": "MONTHS", "months": 36}
    data["offers"] = [row for row in data["offers"] if row["id"] in OFFERS]
    data["price_book"] = [
        row for row in data["price_book"]
        if row["offer"] in OFFERS and row["programme"] in PROGRAMMES
    ]  # fmt: skip
    data["agreements"] = [
        row for row in data["agreements"]
        if row["issuer"] in MERCHANTS and row["redeemer"] in MERCHANTS
    ]  # fmt: skip
    data["promotions"] = [row for row in data["promotions"] if row["id"] in ("PR-12", "PR-18")]
    data["calendars"] = {"days": data["calendars"]["days"], "solar_terms": []}
    data["demo_members"] = []
    data["members"] = [_member(name) for name in MEMBERS]
    return data


def _member(name: str) -> dict[str, Any]:
    pairs = [
        {"purpose": "partner_pair", "issuer": issuer, "redeemer": redeemer}
        for redeemer, taken in TENDERS.items()
        for issuer in (PROGRAMMES[programme] for programme in taken)
        if issuer != redeemer
    ]
    lots = {
        programme: [
            {"points": points, "left": points, "earned_on": earned, "basis": "PURCHASE",
             "ref": f"{name}-{programme}-{number}",
             "expires_at": expires if programme == ENDING else None}
            for number, (points, earned, expires) in enumerate(LOTS)
        ]
        for programme in PROGRAMMES
    }  # fmt: skip
    return {"id": name, "name_zh": name, "kind": "person", "city": "上海",
            "consents": [{"purpose": "service"}, *pairs], "lots": lots}  # fmt: skip


async def make(path: Path) -> None:
    """Write the template: a whole database in one file."""
    database = Database(f"sqlite+aiosqlite:///{path}")
    async with database.engine.begin() as connection:
        await connection.run_sync(migrations.create_all)
    with mock.patch.object(seed, "catalog", _data):
        async with database.transaction() as tx:
            await seed.seed_reference(tx, now=START)
            await seed.seed_members(tx, now=START)
            await seed.seed_offers(tx, now=START)
            for merchant, fen in COVER.items():
                await settlement.set_cover(
                    tx, merchant_id=merchant, collateral_fen=fen, net_debit_cap_fen=fen
                )
            await settlement.ensure_window(tx, now=START)
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    await database.close()
