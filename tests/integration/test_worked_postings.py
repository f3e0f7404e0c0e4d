"""The worked postings of the ledger's contract that concern points: E1 to E15, E18."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.compliance import service as compliance
from gateway.compliance.model import budget_lines
from gateway.db import Database
from gateway.ledger import invariants as of_ledger
from gateway.ledger.model import HUB, Journal, Kind, Line, credit, debit
from gateway.points import invariants as of_points
from gateway.points import service as points
from gateway.points.model import LegRequest, compensation
from tests.support import issuers as coalition
from tests.support.issuers import NOW, hold, open_lot

DONE = {"actor": "gateway", "now": NOW}


def reserved(issuer: str, fen: int) -> tuple[Line, ...]:
    return (debit(HUB, f"RSV:{issuer}", fen), credit(HUB, "RSV_CONTRA", fen))


def owing(issuer: str, redeemer: str, settlement: int, fee: int) -> tuple[Line, ...]:
    total = settlement + fee
    return (
        debit(HUB, "RSV_CONTRA", total),
        credit(HUB, f"RSV:{issuer}", total),
        debit(HUB, f"POS:{issuer}", total),
        credit(HUB, f"POS:{redeemer}", settlement),
        credit(HUB, "POS:HUB_FEE", fee),
    )


async def burn(tx: AsyncConnection, redemption: str, sink: str, *lines: Line) -> None:
    await points.burn(
        tx, redemption_id=redemption, epoch=1, sinks={1: sink}, hub_lines={1: lines}, **DONE
    )


async def give_back(
    tx: AsyncConnection, redemption: str, number: int, *lines: Line, kind: Kind = Kind.REVERSE
) -> None:
    await points.give_back(
        tx,
        redemption_id=redemption,
        epoch=1,
        kind=kind,
        points={1: number},
        hub_lines={1: lines},
        extend=True,
        **DONE,
    )


async def compensate(
    tx: AsyncConnection, programme: str, number: int, ref: str, *lines: Line
) -> None:
    await points.issue(
        tx,
        programme_id=programme,
        member_id="m1",
        points=number,
        basis="COMPENSATION",
        ref=ref,
        slice="COMP",
        kind=Kind.COMPENSATE,
        op_key=f"{ref}:compensate",
        hub_lines=lines,
        **DONE,
    )


async def earn(tx: AsyncConnection, number: int, *, consumed: bool, ref: str = "ord") -> None:
    await points.earn(
        tx, programme_id="P-CA", member_id="m1", ref=ref, cash_fen=number * 100, at=NOW,
        consumed=consumed, live=False, **DONE,
    )  # fmt: skip


async def e1_a_purchase_matures(tx: AsyncConnection) -> None:
    await earn(tx, 1_000, consumed=False)
    assert await points.mature(tx, now=NOW + timedelta(days=7, seconds=-1), limit=10) == 0
    assert await points.mature(tx, now=NOW + timedelta(days=7), limit=10) == 1


async def e2_an_own_redemption(tx: AsyncConnection) -> None:
    await open_lot(tx, "m1", "P-CA", 5_000)
    await hold(tx, "red_1", LegRequest(1, "m1", "P-CA", 5_000))
    await burn(tx, "red_1", "REDEEMED_OWN")


async def e3_and_e6_a_ticket_cancelled_by_the_cinema(tx: AsyncConnection) -> None:
    await open_lot(tx, "m1", "P-LL", 4_500)
    await hold(tx, "red_1", LegRequest(1, "m1", "P-LL", 4_500, reserved("M04", 4_070)))
    await burn(tx, "red_1", "REDEEMED_X:M05", *owing("M04", "M05", 4_050, 20))
    back = (debit(HUB, "POS:M05", 4_070), credit(HUB, "POS:M04", 4_070))
    await give_back(tx, "red_1", 4_500, *back)
    extra = compensation(4_500, 10, 0)
    await compensate(
        tx, "P-LL", extra, "red_1", debit(HUB, "POS:M05", 450), credit(HUB, "POS:M04", 450)
    )


async def e4_two_legs(tx: AsyncConnection) -> None:
    await open_lot(tx, "m1", "P-LL", 1_300)
    await open_lot(tx, "m1", "P-CW", 300)
    first = LegRequest(1, "m1", "P-LL", 1_300, reserved("M04", 1_176))
    await hold(tx, "red_1", first, LegRequest(2, "m1", "P-CW", 300))
    await points.burn(
        tx,
        redemption_id="red_1",
        epoch=1,
        sinks={1: "REDEEMED_X:M06", 2: "REDEEMED_OWN"},
        hub_lines={1: owing("M04", "M06", 1_170, 6)},
        **DONE,
    )


async def e7_a_flight_cancelled(tx: AsyncConnection) -> None:
    end = datetime(2029, 4, 30, 16, tzinfo=UTC)
    await open_lot(tx, "m1", "P-YT", 12_000, expires_at=end)
    await hold(tx, "red_1", LegRequest(1, "m1", "P-YT", 12_000))
    await burn(tx, "red_1", "REDEEMED_OWN")
    await give_back(tx, "red_1", 12_000)
    await compensate(tx, "P-YT", compensation(12_000, 20, 500), "red_1")


async def e8_miles_end(tx: AsyncConnection) -> None:
    await open_lot(tx, "m1", "P-YT", 400, earned_on=date(2023, 10, 8), expires_at=NOW)
    assert await points.expire(tx, now=NOW - timedelta(seconds=1), limit=10) == 0
    assert await points.expire(tx, now=NOW, limit=10) == 1
    assert await points.expire(tx, now=NOW, limit=10) == 0


async def e10_gifts(tx: AsyncConnection) -> None:
    await compliance.add_slice(tx, issuer="M01", slice="PR-12", fen=5_000, now=NOW)
    await open_lot(tx, "m1", "P-HM", 1_000)
    await open_lot(tx, "m1", "P-CA", 100)
    match = budget_lines("M01", 1_000, "PR-12")
    gift = {"member_id": "m1", "beneficiary": "M16", **DONE}
    await points.donate(
        tx, donation_id="don_1", programme_id="P-HM", points=1_000, budget_lines=match, **gift
    )
    other = Journal(Kind.MATCH, "don_2:match", match, NOW, "gateway", "don_2")
    goods = (debit(HUB, "POS:M02", 1_000), credit(HUB, "POS:M01", 1_000))
    await points.donate(
        tx, donation_id="don_2", programme_id="P-CA", points=100, hub_lines=goods, extra=[other],
        **gift,
    )  # fmt: skip


async def e13_goodwill(tx: AsyncConnection) -> None:
    await points.issue(
        tx,
        programme_id="P-LL",
        member_id="m2",
        points=200,
        basis="ADJUSTMENT",
        ref="cas_1",
        slice=None,
        kind=Kind.ADJUST,
        op_key="adj_1",
        actor="usr_fin_maker",
        approver="usr_fin_checker",
        now=NOW,
    )


async def e14_a_return_makes_a_debt(tx: AsyncConnection) -> None:
    await earn(tx, 3_000, consumed=True)
    await hold(tx, "red_1", LegRequest(1, "m1", "P-CA", 2_100))
    await burn(tx, "red_1", "REDEEMED_OWN")
    back = await points.record_return(tx, issuer="M02", ref="ord", **DONE)
    assert (back.points, back.from_available, back.owed) == (3_000, 900, 2_100)
    await earn(tx, 2_500, consumed=True, ref="next")


async def e15_a_draw(tx: AsyncConnection) -> None:
    await compliance.add_slice(tx, issuer="M01", slice="PR-10", fen=3_000, now=NOW)
    await open_lot(tx, "m1", "P-HM", 100)
    await points.spend(
        tx,
        kind=Kind.DRAW_ENTRY,
        op_key="drw_1:entry",
        cause_id="drw_1",
        member_id="m1",
        programme_id="P-HM",
        points=100,
        sink="GAME_SPENT",
        effective_at=NOW,
        **DONE,
    )
    await points.issue(
        tx,
        programme_id="P-HM",
        member_id="m1",
        points=1_000,
        basis="DRAW_PRIZE",
        ref="drw_1",
        slice="PR-10",
        kind=Kind.DRAW_PRIZE,
        op_key="drw_1:prize",
        **DONE,
    )


async def e18_a_lower_fare(tx: AsyncConnection) -> None:
    await open_lot(tx, "m1", "P-LL", 12_000)
    await hold(tx, "red_1", LegRequest(1, "m1", "P-LL", 12_000, reserved("M04", 10_854)))
    await burn(tx, "red_1", "REDEEMED_X:M07", *owing("M04", "M07", 10_800, 54))
    less = (
        debit(HUB, "POS:M07", 2_025),
        debit(HUB, "POS:HUB_FEE", 10),
        credit(HUB, "POS:M04", 2_035),
    )
    await give_back(tx, "red_1", 2_250, *less, kind=Kind.FARE_ADJUST)


WORKED: dict[Callable[[AsyncConnection], Awaitable[None]], list[tuple[str, str]]] = {
    e1_a_purchase_matures: [
        (
            "EARN",
            "PTS:M02 Dr ISSUED 1,000, Cr M:m1:PENDING 1,000"
            " · BUDGET:M02 Dr BUDGET_AVAIL 10,000, Cr BUDGET_USED 10,000",
        ),
        ("MATURE", "PTS:M02 Dr M:m1:PENDING 1,000, Cr M:m1:AVAIL 1,000"),
    ],
    e2_an_own_redemption: [
        ("HOLD", "PTS:M02 Dr M:m1:AVAIL 5,000, Cr M:m1:HELD 5,000"),
        ("COMMIT", "PTS:M02 Dr M:m1:HELD 5,000, Cr REDEEMED_OWN 5,000"),
    ],
    e3_and_e6_a_ticket_cancelled_by_the_cinema: [
        (
            "HOLD",
            "PTS:M04 Dr M:m1:AVAIL 4,500, Cr M:m1:HELD 4,500"
            " · HUB Dr RSV:M04 4,070, Cr RSV_CONTRA 4,070",
        ),
        (
            "COMMIT",
            "PTS:M04 Dr M:m1:HELD 4,500, Cr REDEEMED_X:M05 4,500"
            " · HUB Dr RSV_CONTRA 4,070, Cr RSV:M04 4,070, Dr POS:M04 4,070,"
            " Cr POS:M05 4,050, Cr POS:HUB_FEE 20",
        ),
        (
            "REVERSE",
            "PTS:M04 Dr REDEEMED_X:M05 4,500, Cr M:m1:AVAIL 4,500"
            " · HUB Dr POS:M05 4,070, Cr POS:M04 4,070",
        ),
        (
            "COMPENSATE",
            "PTS:M04 Dr ISSUED 450, Cr M:m1:AVAIL 450"
            " · BUDGET:M04 Dr BUDGET_AVAIL:COMP 450, Cr BUDGET_USED 450"
            " · HUB Dr POS:M05 450, Cr POS:M04 450",
        ),
    ],
    e4_two_legs: [
        (
            "HOLD",
            "PTS:M04 Dr M:m1:AVAIL 1,300, Cr M:m1:HELD 1,300"
            " · HUB Dr RSV:M04 1,176, Cr RSV_CONTRA 1,176",
        ),
        ("HOLD", "PTS:M06 Dr M:m1:AVAIL 300, Cr M:m1:HELD 300"),
        (
            "COMMIT",
            "PTS:M04 Dr M:m1:HELD 1,300, Cr REDEEMED_X:M06 1,300"
            " · HUB Dr RSV_CONTRA 1,176, Cr RSV:M04 1,176, Dr POS:M04 1,176,"
            " Cr POS:M06 1,170, Cr POS:HUB_FEE 6",
        ),
        ("COMMIT", "PTS:M06 Dr M:m1:HELD 300, Cr REDEEMED_OWN 300"),
    ],
    e7_a_flight_cancelled: [
        ("HOLD", "PTS:M11 Dr M:m1:AVAIL 12,000, Cr M:m1:HELD 12,000"),
        ("COMMIT", "PTS:M11 Dr M:m1:HELD 12,000, Cr REDEEMED_OWN 12,000"),
        ("REVERSE", "PTS:M11 Dr REDEEMED_OWN 12,000, Cr M:m1:AVAIL 12,000"),
        (
            "COMPENSATE",
            "PTS:M11 Dr ISSUED 2,400, Cr M:m1:AVAIL 2,400"
            " · BUDGET:M11 Dr BUDGET_AVAIL:COMP 18,000, Cr BUDGET_USED 18,000",
        ),
    ],
    e8_miles_end: [("EXPIRE", "PTS:M11 Dr M:m1:AVAIL 400, Cr EXPIRED 400")],
    e10_gifts: [
        (
            "DONATE",
            "PTS:M01 Dr M:m1:AVAIL 1,000, Cr DONATED:M16 1,000"
            " · BUDGET:M01 Dr BUDGET_AVAIL:PR-12 1,000, Cr BUDGET_USED 1,000",
        ),
        (
            "DONATE",
            "PTS:M02 Dr M:m1:AVAIL 100, Cr DONATED:M16 100"
            " · HUB Dr POS:M02 1,000, Cr POS:M01 1,000",
        ),
        ("MATCH", "BUDGET:M01 Dr BUDGET_AVAIL:PR-12 1,000, Cr BUDGET_USED 1,000"),
    ],
    e13_goodwill: [
        (
            "ADJUST",
            "PTS:M04 Dr ISSUED 200, Cr M:m2:AVAIL 200"
            " · BUDGET:M04 Dr BUDGET_AVAIL 200, Cr BUDGET_USED 200",
        ),
    ],
    e14_a_return_makes_a_debt: [
        (
            "EARN",
            "PTS:M02 Dr ISSUED 3,000, Cr M:m1:AVAIL 3,000"
            " · BUDGET:M02 Dr BUDGET_AVAIL 30,000, Cr BUDGET_USED 30,000",
        ),
        ("HOLD", "PTS:M02 Dr M:m1:AVAIL 2,100, Cr M:m1:HELD 2,100"),
        ("COMMIT", "PTS:M02 Dr M:m1:HELD 2,100, Cr REDEEMED_OWN 2,100"),
        (
            "CLAW_BACK",
            "PTS:M02 Dr M:m1:AVAIL 900, Dr M:m1:OWED 2,100, Cr ISSUED 3,000"
            " · BUDGET:M02 Dr BUDGET_USED 30,000, Cr BUDGET_AVAIL 30,000",
        ),
        (
            "EARN",
            "PTS:M02 Dr ISSUED 2,500, Cr M:m1:OWED 2,100, Cr M:m1:AVAIL 400"
            " · BUDGET:M02 Dr BUDGET_AVAIL 25,000, Cr BUDGET_USED 25,000",
        ),
    ],
    e15_a_draw: [
        ("DRAW_ENTRY", "PTS:M01 Dr M:m1:AVAIL 100, Cr GAME_SPENT 100"),
        (
            "DRAW_PRIZE",
            "PTS:M01 Dr ISSUED 1,000, Cr M:m1:AVAIL 1,000"
            " · BUDGET:M01 Dr BUDGET_AVAIL:PR-10 1,000, Cr BUDGET_USED 1,000",
        ),
    ],
    e18_a_lower_fare: [
        (
            "HOLD",
            "PTS:M04 Dr M:m1:AVAIL 12,000, Cr M:m1:HELD 12,000"
            " · HUB Dr RSV:M04 10,854, Cr RSV_CONTRA 10,854",
        ),
        (
            "COMMIT",
            "PTS:M04 Dr M:m1:HELD 12,000, Cr REDEEMED_X:M07 12,000"
            " · HUB Dr RSV_CONTRA 10,854, Cr RSV:M04 10,854, Dr POS:M04 10,854,"
            " Cr POS:M07 10,800, Cr POS:HUB_FEE 54",
        ),
        (
            "FARE_ADJUST",
            "PTS:M04 Dr REDEEMED_X:M07 2,250, Cr M:m1:AVAIL 2,250"
            " · HUB Dr POS:M07 2,025, Dr POS:HUB_FEE 10, Cr POS:M04 2,035",
        ),
    ],
}


@pytest.mark.parametrize("event", WORKED, ids=lambda event: event.__name__)
async def test_an_event_posts_what_the_contract_says(
    database: Database, event: Callable[[AsyncConnection], Awaitable[None]]
) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await event(tx)

    async with database.transaction() as tx:
        await audit.seal(tx, limit=1_000)
        journals = await coalition.posted(tx)
        broken = [result for result in await of_ledger.check(tx) if not result.ok]
        broken += [result for result in await of_points.check(tx) if not result.ok]

    told = [journal for journal in journals if journal[0] not in ("OPENING", "BUDGET")]
    assert sorted(told) == sorted(WORKED[event])
    assert broken == []
