"""What is read of settlement: which obligations, which rows of a statement, in which order."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, jobs
from gateway.db import Database
from gateway.errors import NotFound
from gateway.merchants import service as merchants
from gateway.settlement import service as settlement
from gateway.settlement.model import LegToReserve, Netting, State, Type, cut_of
from tests.support import issuers as coalition
from tests.support.issuers import NOW

TODAY, W47, W48 = date(2026, 11, 20), "win_2026W47", "win_2026W48"
TOMORROW = NOW + timedelta(days=1)
TERMS: dict[str, Any] = {"settlement_bps": 9_000, "fee_bps": 50, "monthly_cap_fen": 1_000_000}
TERMS |= {"valid_from": date(2026, 1, 1), "valid_until": date(2026, 12, 1), "now": NOW}


@dataclass
class Shop:
    """M04 and M06 issue, M05 and M06 redeem; each sale is of 1,000 fen."""

    tx: AsyncConnection

    async def open(self) -> None:
        await merchants.register(
            self.tx, id="M00", slug="operator", name_zh="运营方", name_en="operator",
            category="operator", cities=[], market="ALL", roles=["operator"], operator={},
            now=NOW, code_hours=72,
        )  # fmt: skip
        for merchant in ("M04", "M05", "M06"):
            await coalition.add_merchant(self.tx, merchant)
            limits = {"collateral_fen": 50_000, "net_debit_cap_fen": 60_000}
            await settlement.set_cover(self.tx, merchant_id=merchant, **limits)
        for issuer, redeemer in (("M04", "M05"), ("M06", "M05"), ("M04", "M06")):
            await settlement.add_agreement(
                self.tx, issuer=issuer, redeemer=redeemer, signed_by=[issuer, redeemer], **TERMS
            )

    async def sell(self, cause: str, issuer: str, redeemer: str, **at: Any) -> None:
        """Reserved, accrued; cleared at an instant, if one is given."""
        agreement = await settlement.agreement_for(
            self.tx, issuer=issuer, redeemer=redeemer, offer_id="x", category="电影", at=NOW
        )
        mine: dict[str, Any] = {"cause_id": cause, "epoch": 1}
        legs = [LegToReserve(1, agreement, "x", 1_000)]
        await settlement.reserve_legs(self.tx, legs=legs, at=NOW, **mine)
        await settlement.accrue(self.tx, at=NOW, **mine)
        if at:
            await settlement.clear(self.tx, cause_id=cause, **at)


@pytest.fixture
async def sold(database: Database) -> Database:
    """Four sales: two of today, one of tomorrow, one not used yet; and a donation's goods."""
    async with database.transaction() as tx:
        shop = Shop(tx)
        await shop.open()
        await shop.sell("red_1", "M04", "M05", at=NOW)
        await shop.sell("red_2", "M06", "M05", at=NOW)
        await shop.sell("red_3", "M04", "M06", at=TOMORROW)
        await shop.sell("red_4", "M04", "M05")
        await settlement.owe_goods(
            tx, donation_id="don_1", issuer="M04", payee="M06", fen=90, at=NOW
        )
        await settlement.correct(
            tx, cause_id="brk_1", payer="M05", payee="M04", fen=7, at=NOW, key="k"
        )
    return database


async def causes(database: Database, **asked: Any) -> list[str]:
    async with database.reading() as tx:
        found = await settlement.obligations(tx, **asked)
    assert [row.id for row in found] == sorted(row.id for row in found)
    return sorted(f"{row.cause_id} {row.type}" for row in found)


def of(*names: str) -> list[str]:
    return sorted(f"{name} {kind}" for name in names for kind in (Type.REDEMPTION, Type.FEE))


ALL = sorted([*of("red_1", "red_2", "red_3", "red_4"), "don_1 DONATION_GOODS", "brk_1 ADJUSTMENT"])


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ALL),
        ({"merchant": "M06"}, [*of("red_2"), "red_3 REDEMPTION", "don_1 DONATION_GOODS"]),
        ({"merchant": "HUB_FEE"}, [f"red_{number} FEE" for number in (1, 2, 3, 4)]),
        ({"cause_id": "red_2"}, of("red_2")),
        ({"cause_ids": ["red_2", "red_3"]}, of("red_2", "red_3")),
        ({"cause_ids": []}, []),
        ({"types": [Type.DONATION_GOODS, Type.ADJUSTMENT]}, [ALL[0], "don_1 DONATION_GOODS"]),
        ({"states": [State.ACCRUED]}, of("red_4")),
        ({"day": TODAY}, [*of("red_1", "red_2"), "don_1 DONATION_GOODS", "brk_1 ADJUSTMENT"]),
        ({"day": date(2026, 11, 21)}, of("red_3")),
        ({"window_id": W47, "types": [Type.FEE]}, [f"red_{number} FEE" for number in (1, 2, 3)]),
        ({"window_id": W48}, []),
        ({"settlement_id": "set_2026W47"}, []),
    ],
)
async def test_obligations_are_found_by_what_they_are(
    sold: Database, asked: dict[str, Any], found: list[str]
) -> None:
    assert await causes(sold, **asked) == sorted(found)


async def test_obligations_are_read_page_by_page(sold: Database) -> None:
    seen: list[str] = []
    async with sold.reading() as tx:
        whole = [row.id for row in await settlement.obligations(tx)]
        while True:
            after = seen[-1] if seen else None
            page = await settlement.obligations(tx, after=after, limit=4)
            assert len(page) <= 4
            seen += [row.id for row in page]
            if len(page) < 4:
                break
    assert seen == whole


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"merchant": None}, ["red_1", "red_2", "red_3"]),
        ({"merchant": "M05"}, ["red_1", "red_2"]),
        ({"merchant": "M06"}, ["red_3"]),
        ({"merchant": "M04"}, []),
        ({"merchant": None, "day": TODAY}, ["red_1", "red_2"]),
        ({"merchant": "M05", "day": date(2026, 11, 21)}, []),
        ({"merchant": None, "cause_ids": ["red_2", "red_4", "don_1"]}, ["red_2"]),
        ({"merchant": None, "cause_ids": []}, []),
    ],
)
async def test_a_statement_lists_what_a_redeemers_own_books_know(
    sold: Database, asked: dict[str, Any], found: list[str]
) -> None:
    async with sold.reading() as tx:
        rows = await settlement.statement_rows(tx, **asked)
    assert {row.type for row in rows} <= {Type.REDEMPTION}
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert sorted(row.cause_id for row in rows) == found


async def test_a_reversal_is_on_the_statement_of_its_own_day(sold: Database) -> None:
    async with sold.transaction() as tx:
        await settlement.reverse(tx, cause_id="red_1", epoch=1, fault="REDEEMER", at=TOMORROW)
        await db.flush(tx)
        rows = await settlement.statement_rows(tx, merchant="M05", day=date(2026, 11, 21))
    assert [(row.cause_id, row.type, row.amount_fen) for row in rows] == [
        ("red_1", Type.REVERSAL, 900)
    ]


@pytest.mark.parametrize(
    ("at", "found"),
    [
        (NOW, [("M04", "M05"), ("M06", "M05")]),
        (NOW + timedelta(days=10), [("M04", "M05"), ("M06", "M05")]),
        (NOW + timedelta(days=11), []),
        (NOW - timedelta(days=366), []),
    ],
)
async def test_the_agreements_towards_a_redeemer_are_those_in_force(
    sold: Database, at: Any, found: list[tuple[str, str]]
) -> None:
    async with sold.transaction() as tx:
        await settlement.propose_agreement(
            tx, proposer="M05", issuer="M00", redeemer="M05", **TERMS
        )
        (rows,) = await db.read(tx, settlement.ask_towards(["M05"], at=at))
    assert [(each.issuer, each.redeemer) for each in settlement.towards(rows)] == found


async def test_the_newest_version_towards_a_redeemer_comes_first(sold: Database) -> None:
    async with sold.transaction() as tx:
        both = {"issuer": "M04", "redeemer": "M05", "signed_by": ["M04", "M05"]}
        await settlement.add_agreement(tx, **both, **TERMS)
        (rows,) = await db.read(tx, settlement.ask_towards(["M05", "M06"], at=NOW))
    found = [(each.issuer, each.redeemer, each.version) for each in settlement.towards(rows)]
    assert found == [("M04", "M05", 2), ("M04", "M05", 1), ("M04", "M06", 1), ("M06", "M05", 1)]


async def test_a_window_that_is_not_ready_says_so_by_name(sold: Database) -> None:
    async with sold.transaction() as tx:
        done = ["NETTED", "PUBLISHED"]  # What is done already is answered, not refused.
        for step, needed in (
            (settlement.net_window, ["CLOSED", *done]),
            (settlement.publish_window, done),
        ):
            with pytest.raises(settlement.WindowNotOpen) as early:
                await step(tx, window_id=W47, now=NOW)
            assert early.value.context == {"window": W47, "state": "OPEN", "needed": needed}
            with pytest.raises(NotFound) as unknown:
                await step(tx, window_id=W48, now=NOW)
            assert unknown.value.context == {"id": W48}


async def test_a_notice_goes_to_each_side_of_each_payment(sold: Database) -> None:
    cut = cut_of(W47)
    async with sold.transaction() as tx:
        for step in (settlement.close_window, settlement.net_window, settlement.publish_window):
            await step(tx, window_id=W47, now=cut)
        draft = await settlement.propose_settlement(tx, window_id=W47, actor="a", now=cut)
        approval: dict[str, Any] = {"actor": "b", "limit_fen": 10**9, "now": cut}
        await settlement.approve_settlement(
            tx, settlement_id=draft.id, net_hash=draft.net_hash, **approval
        )
        queued = await tx.execute(sa.select(jobs.jobs).where(jobs.jobs.c.lane != "M00"))
        found = {(row.payload["leg_id"], row.payload["merchant"]) for row in queued}
        legs = await settlement.legs(tx, settlement_id=draft.id)
        sides = {(leg.id, side) for leg in legs for side in (leg.payer, leg.payee)}
        assert found == {(leg, side) for leg, side in sides if side != "HUB_FEE"}


async def test_an_agreements_versions_are_read_oldest_first(sold: Database) -> None:
    """One may allow nothing in a month: it says so, and every sale under it is refused."""
    async with sold.transaction() as tx:
        given = TERMS | {"issuer": "M04", "redeemer": "M05", "signed_by": ["M04", "M05"]}
        for version in (3, 2):
            await settlement.add_agreement(tx, **given | {"monthly_cap_fen": 0}, version=version)
        found = await settlement.agreements(tx, agreement_ids=["agr_M04_M05"])
        assert [(each.version, each.monthly_cap_fen) for each in found] == [
            (1, 1_000_000), (2, 0), (3, 0)
        ]  # fmt: skip
        refused: dict[str, Any] = {"settlement_fen": 1, "fee_fen": 0, "at": NOW}
        with pytest.raises(settlement.AgreementCap):
            await settlement.check_room(tx, agreement=found[1], **refused)


async def test_settlements_are_read_oldest_first(sold: Database) -> None:
    cut = cut_of(W47)
    async with sold.transaction() as tx:
        await settlement.close_window(tx, window_id=W47, now=cut)
        await settlement.net_window(tx, window_id=W47, now=cut)
        await settlement.publish_window(tx, window_id=W47, now=cut)
        made = []
        for late, model in ((2, Netting.GROSS), (1, Netting.BILATERAL_NET)):
            at = cut + timedelta(hours=late)
            draft = await settlement.propose_settlement(
                tx, window_id=W47, actor="a", now=at, model=model
            )
            made.append(draft.id)
        found = await settlement.settlements(tx, window_id=W47)
        assert [each.id for each in found] == [made[1], made[0]]
        assert [each.id for each in await settlement.settlements(tx)] == [made[1], made[0]]
        assert await settlement.settlements(tx, window_id=W48) == []
        assert [each.id for each in await settlement.windows(tx)] == [W47, W48]
