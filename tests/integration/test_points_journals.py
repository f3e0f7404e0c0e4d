"""Every word of what points services write: journals, movements, and whom they name."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Raced
from gateway.compliance import service as compliance
from gateway.compliance.model import budget_lines
from gateway.compliance.service import BudgetExceeded
from gateway.db import Database
from gateway.errors import AlreadyRegistered, NotFound
from gateway.ledger import service as ledger
from gateway.ledger.model import BUDGET, HUB, Journal, Kind, credit, debit
from gateway.points import service as points
from gateway.points.model import EarningState, Hold, HoldState, LegRequest, Return, Returned
from tests.support import issuers as coalition
from tests.support.issuers import LATER, NOW, open_lot, printed

HUB_LINES = (debit(HUB, "RSV:M04", 9), credit(HUB, "RSV_CONTRA", 9))
THEN = NOW + timedelta(hours=1)
RED: dict[str, Any] = {"redemption_id": "red_1", "epoch": 1, "actor": "m1", "now": THEN}


async def journal(tx: AsyncConnection, kind: Kind, cause: str) -> Journal:
    """The only one of a kind and cause."""
    await db.flush(tx)
    found = [made for _, made in await ledger.entries(tx, cause_id=cause, limit=100)]
    (made,) = [made for made in found if made.kind is kind]
    return made


def head(journal: Journal) -> tuple[Any, ...]:
    return (
        journal.kind, journal.op_key, journal.actor, journal.approver, journal.cause_id,
        journal.effective_at,
    )  # fmt: skip


async def taken(tx: AsyncConnection, *legs: LegRequest) -> list[Any]:
    """`take` out of lots that were just read."""
    wallets = {(leg.member_id, leg.programme_id) for leg in legs}
    (free,) = await db.read(tx, points.ask_free(wallets))
    return await points.take(tx, legs=legs, free=free, expires_at=LATER, **RED)


async def test_taking_is_holding_without_reading(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        lots = [await open_lot(tx, "m1", "P-LL", 50, ref=ref) for ref in ("a", "b")]
        (one,) = await taken(tx, LegRequest(2, "m1", "P-LL", 70, HUB_LINES))
        (read,) = await db.read(tx, points.ask_taken("red_1", 1))
        assert points.taken(read) == [one]
        assert sorted(n for _, n in one.lots) == [20, 50]
        assert replace(one.hold, id="hld") == Hold(
            "hld", "red_1", 1, 2, "m1", "P-LL", "M04", 70, 0, HoldState.HELD, LATER
        )
        assert await points.held(tx, "red_1") == [one.hold]
        made = await journal(tx, Kind.HOLD, "red_1")
        assert head(made) == (Kind.HOLD, "red_1:hold:1:2", "m1", None, "red_1", THEN)
        assert printed(made) == (
            "PTS:M04 Dr M:m1:AVAIL 70, Cr M:m1:HELD 70 · HUB Dr RSV:M04 9, Cr RSV_CONTRA 9"
        )
        found = {lot.id: lot.held for lot in await points.lots(tx, member_id="m1")}
        assert found == {lot.id: dict(one.lots).get(lot.id, 0) for lot in lots}
        rest = {"hub_lines": {2: HUB_LINES}, "known": [one]}
        await points.release(tx, **RED, **rest)
        released = await journal(tx, Kind.RELEASE, "red_1")
        assert printed(released).startswith("PTS:M04 Dr M:m1:HELD 70")
        assert [hold.state for hold in await points.held(tx, "red_1")] == [HoldState.VOIDED]


async def test_a_lot_that_changed_since_it_was_read_is_not_taken(database: Database) -> None:
    leg = LegRequest(1, "m1", "P-LL", 30)
    async with database.transaction() as tx:
        await coalition.found(tx)
        await open_lot(tx, "m1", "P-LL", 50)
        (free,) = await db.read(tx, points.ask_free([("m1", "P-LL")]))
        await taken(tx, leg)
    with pytest.raises(Raced):
        async with database.transaction() as tx:
            again = RED | {"redemption_id": "red_2"}
            await points.take(tx, legs=[leg], free=free, expires_at=LATER, **again)
    async with database.transaction() as tx:
        with pytest.raises(points.InsufficientPoints) as refusal:
            await taken(tx, replace(leg, leg_no=3, points=31))
        assert refusal.value.field == ("legs", "2", "points")
        said = {"programme": "P-LL", "needed": 31, "available": 20, "missing": 11}
        assert refusal.value.context == said


async def test_what_is_given_back_late_is_told_with_its_new_end(database: Database) -> None:
    ends = datetime(2026, 12, 1, 16, tzinfo=UTC)
    async with database.transaction() as tx:
        await coalition.found(tx)
        lot = await open_lot(tx, "m1", "P-YT", 50, expires_at=ends)
        await coalition.hold(tx, "red_1", LegRequest(1, "m1", "P-YT", 40))
        await points.burn(tx, sinks={1: "REDEEMED_OWN"}, hub_lines={1: HUB_LINES}, **RED)
        burned = await journal(tx, Kind.COMMIT, "red_1")
        assert head(burned) == (Kind.COMMIT, "red_1:commit:1:1", "m1", None, "red_1", THEN)
        assert printed(burned).startswith("PTS:M11 Dr M:m1:HELD 40, Cr REDEEMED_OWN 40 · HUB")
        back = {"kind": Kind.REVERSE, "points": {1: 40}, "hub_lines": {1: HUB_LINES}}
        for _ in range(2):
            (given,) = await points.give_back(tx, extend=True, **back, **RED)
            assert given.expires_at is not None
            assert given == Returned(1, lot.id, 40, given.expires_at)
            assert given.expires_at > THEN + timedelta(days=89)
        (now,) = await points.lots(tx, member_id="m1")
        assert (now.remaining, now.expires_at) == (50, given.expires_at)
        reversed_ = await journal(tx, Kind.REVERSE, "red_1")
        assert head(reversed_) == (Kind.REVERSE, "red_1:reverse:1:1", "m1", None, "red_1", THEN)
        assert printed(reversed_).startswith("PTS:M11 Dr REDEEMED_OWN 40, Cr M:m1:AVAIL 40 · HUB")


async def test_what_was_given_back_without_a_new_end_keeps_the_lots(database: Database) -> None:
    ends = datetime(2026, 12, 1, 16, tzinfo=UTC)
    async with database.transaction() as tx:
        await coalition.found(tx)
        lot = await open_lot(tx, "m1", "P-YT", 50, expires_at=ends)
        await coalition.hold(tx, "red_1", LegRequest(1, "m1", "P-YT", 40))
        await points.burn(tx, sinks={1: "REDEEMED_OWN"}, hub_lines={}, **RED)
        back = {"kind": Kind.FARE_ADJUST, "points": {1: 15, 2: 0}, "hub_lines": {}}
        for _ in range(2):
            given = await points.give_back(tx, extend=False, **back, **RED)
            assert given == [Returned(1, lot.id, 15, ends)]
        nothing = await points.give_back(
            tx, extend=False, **RED, **back | {"kind": Kind.REVERSE, "points": {}}
        )
        assert nothing == []
        (hold,) = await points.held(tx, "red_1")
        assert hold.returned == 15


async def test_points_issued_name_who_approved_them(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        lot = await points.issue(
            tx, programme_id="P-YT", member_id="m1", points=8, basis="ADJUSTMENT", ref="case_1",
            slice=None, kind=Kind.ADJUST, op_key="adjust:1", hub_lines=HUB_LINES, actor="a",
            approver="b", now=THEN,
        )  # fmt: skip
        made = await journal(tx, Kind.ADJUST, "case_1")
        assert head(made) == (Kind.ADJUST, "adjust:1", "a", "b", "case_1", THEN)
        books = printed(made).split(" · ")
        assert books[0] == "PTS:M11 Dr ISSUED 8, Cr M:m1:AVAIL 8"
        assert books[1].startswith(f"{BUDGET}M11 ")
        assert books[2] == "HUB Dr RSV:M04 9, Cr RSV_CONTRA 9"
        assert (lot.earned_on, lot.basis, lot.ref) == (date(2026, 11, 20), "ADJUSTMENT", "case_1")
        assert lot.expires_at == datetime(2029, 11, 30, 16, tzinfo=UTC)
        assert await points.lots(tx, member_id="m1") == [lot]
        (decision,) = await compliance.decisions(tx, subject="m1", limit=9)
        assert decision["context"] == {"issuer": "M11", "basis": "ADJUSTMENT", "ref": "case_1"}
        assert await points.issued(tx, "adjust:1")
        assert not await points.issued(tx, "adjust:2")


async def test_a_loaded_redemption_spends_loaded_points(database: Database) -> None:
    then = datetime(2026, 7, 1, tzinfo=UTC)
    spent: dict[str, Any] = {"member_id": "m1", "programme_id": "P-LL", "ref": "old_1"}
    spent |= {"points": 60, "effective_at": then, "now": NOW}
    async with database.transaction() as tx:
        await coalition.found(tx)
        lot = await open_lot(tx, "m1", "P-LL", 100)
        opened = await journal(tx, Kind.OPENING, lot.id)
        assert head(opened) == (
            Kind.OPENING, "open:P-LL:m1:open", "gateway", None, lot.id,
            datetime(2026, 5, 31, 16, tzinfo=UTC),
        )  # fmt: skip
        assert await open_lot(tx, "m1", "P-LL", 100) == lot
        for _ in range(2):
            await points.spend_opening(tx, **spent)
        made = await journal(tx, Kind.COMMIT, "old_1")
        assert head(made) == (Kind.COMMIT, "spent:P-LL:m1:old_1", "gateway", None, "old_1", then)
        assert printed(made) == "PTS:M04 Dr M:m1:AVAIL 60, Cr REDEEMED_OWN 60"
        (left,) = await points.lots(tx, member_id="m1")
        assert left.remaining == 40
        with pytest.raises(points.InsufficientPoints) as refusal:
            await points.spend_opening(tx, **spent | {"ref": "old_2"})
        assert refusal.value.field == ("points",)
        said = {"programme": "P-LL", "needed": 60, "available": 40, "missing": 20}
        assert refusal.value.context == said


async def test_a_gift_is_journaled_and_undone_with_its_lines(database: Database) -> None:
    gift: dict[str, Any] = {"donation_id": "don_1", "beneficiary": "M16", "actor": "m1"}
    gift |= {"now": THEN, "hub_lines": HUB_LINES}
    async with database.transaction() as tx:
        await coalition.found(tx)
        lots = [await open_lot(tx, "m1", "P-HM", 60, ref=ref) for ref in ("a", "b")]
        took = await points.donate(tx, member_id="m1", programme_id="P-HM", points=100, **gift)
        again = await points.donate(tx, member_id="m1", programme_id="P-HM", points=100, **gift)
        assert took == again
        assert {lot_id for lot_id, _ in took} == {lot.id for lot in lots}
        made = await journal(tx, Kind.DONATE, "don_1")
        assert head(made) == (Kind.DONATE, "don_1:donate", "m1", None, "don_1", THEN)
        assert printed(made) == (
            "PTS:M01 Dr M:m1:AVAIL 100, Cr DONATED:M16 100 · HUB Dr RSV:M04 9, Cr RSV_CONTRA 9"
        )
        await points.undonate(tx, **gift)
        undone = await journal(tx, Kind.REVERSE, "don_1")
        assert head(undone) == (Kind.REVERSE, "don_1:undonate", "m1", None, "don_1", THEN)
        assert printed(undone).startswith("PTS:M01 Dr DONATED:M16 100, Cr M:m1:AVAIL 100 · HUB")


async def test_a_match_beyond_its_slice_is_refused(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await compliance.add_slice(tx, issuer="M01", slice="PR-12", fen=500, now=NOW)
        await open_lot(tx, "m1", "P-HM", 60)
    with pytest.raises(BudgetExceeded) as over:
        async with database.transaction() as tx:
            await points.donate(
                tx, donation_id="don_1", member_id="m1", programme_id="P-HM", points=10,
                beneficiary="M16", budget_lines=budget_lines("M01", 501, "PR-12"),
                actor="m1", now=NOW,
            )  # fmt: skip
    said = {"issuer": "M01", "slice": "PR-12", "budget_fen": 500, "left_fen": 500}
    assert over.value.context.items() >= said.items()


EARN: dict[str, Any] = {"programme_id": "P-CA", "member_id": "m1", "cash_fen": 10_000, "at": NOW}
EARN |= {"actor": "M02", "live": False, "now": THEN, "consumed": True}


async def test_an_earning_pays_what_is_owed_first(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        first = await points.earn(tx, ref="ord_1", **EARN)
        assert (first.points, first.state, first.paid_debt) == (100, EarningState.MATURED, 0)
        made = await journal(tx, Kind.EARN, first.id)
        assert head(made) == (Kind.EARN, f"{first.id}:earn", "M02", None, first.id, NOW)
        with pytest.raises(AlreadyRegistered) as refusal:
            await points.earn(tx, ref="ord_1", **EARN)
        assert (refusal.value.field, refusal.value.context) == (("ref",), {"id": "ord_1"})
        await coalition.hold(tx, "red_1", LegRequest(1, "m1", "P-CA", 70))
        back: dict[str, Any] = {"issuer": "M02", "ref": "ord_1", "actor": "M02", "now": THEN}
        with pytest.raises(NotFound) as unknown:
            await points.record_return(tx, **back | {"ref": "ord_9"})
        assert (unknown.value.field, unknown.value.context) == (("ref",), {"id": "ord_9"})
        returned = await points.record_return(tx, **back)
        assert returned == Return(first.id, "ord_1", 100, 0, 30, 70)
        made = await journal(tx, Kind.CLAW_BACK, first.id)
        assert head(made) == (
            Kind.CLAW_BACK, f"{first.id}:return:1", "M02", None, first.id, THEN
        )  # fmt: skip
        assert printed(made).startswith("PTS:M02 Dr M:m1:AVAIL 30, Dr M:m1:OWED 70, Cr ISSUED 100")
        assert await points.record_return(tx, **back) == Return(first.id, "ord_1", 0, 0, 0, 0)
        second = await points.earn(tx, ref="ord_2", **EARN)
        assert (second.points, second.paid_debt) == (100, 70)
        assert await points.earning(tx, second.id) == replace(second, paid_debt=0)
        made = await journal(tx, Kind.EARN, second.id)
        assert printed(made).startswith("PTS:M02 Dr ISSUED 100, Cr M:m1:OWED 70, Cr M:m1:AVAIL 30")


async def test_pending_points_become_a_lot_of_the_purchases_day(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        made = await points.earn(tx, ref="ord_1", **EARN | {"consumed": False})
        due = NOW + timedelta(days=7)
        assert (made.state, made.mature_at, made.lot_id) == (EarningState.PENDING, due, None)
        posted = await journal(tx, Kind.EARN, made.id)
        assert printed(posted).startswith("PTS:M02 Dr ISSUED 100, Cr M:m1:PENDING 100")
        assert await points.mature(tx, now=due - timedelta(seconds=1), limit=9) == 0
        assert await points.mature(tx, now=due, limit=9) == 1
        posted = await journal(tx, Kind.MATURE, made.id)
        assert head(posted) == (Kind.MATURE, f"{made.id}:mature", "gateway", None, made.id, due)
        assert printed(posted) == "PTS:M02 Dr M:m1:PENDING 100, Cr M:m1:AVAIL 100"
        (lot,) = await points.lots(tx, member_id="m1")
        assert (lot.points, lot.held, lot.remaining, lot.ref) == (100, 0, 100, "ord_1")
        assert (lot.basis, lot.earned_on) == ("PURCHASE", date(2026, 11, 20))
        assert await points.earning(tx, made.id) == replace(
            made, state=EarningState.MATURED, lot_id=lot.id
        )


async def test_a_lot_that_has_ended_expires_on_its_day(database: Database) -> None:
    ends = datetime(2026, 12, 1, 16, tzinfo=UTC)
    async with database.transaction() as tx:
        await coalition.found(tx)
        lot = await open_lot(tx, "m1", "P-YT", 50, expires_at=ends)
        assert await points.expire(tx, now=ends - timedelta(seconds=1), limit=9) == 0
        late = ends + timedelta(days=2)
        assert await points.expire(tx, now=late, limit=9) == 1
        assert await points.expire(tx, now=late, limit=9) == 0
        made = await journal(tx, Kind.EXPIRE, lot.id)
        assert (made.kind, made.actor, made.cause_id, made.effective_at) == (
            Kind.EXPIRE, "gateway", lot.id, ends
        )  # fmt: skip
        assert made.op_key.startswith(f"{lot.id}:expire:exp_")
        assert printed(made) == "PTS:M11 Dr M:m1:AVAIL 50, Cr EXPIRED 50"


async def test_points_that_have_ended_are_not_spent(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await open_lot(tx, "m1", "P-YT", 50, expires_at=NOW)
        gift = {"donation_id": "don_1", "member_id": "m1", "programme_id": "P-YT", "points": 1}
        gift |= {"beneficiary": "M16", "actor": "m1"}
        with pytest.raises(points.InsufficientPoints) as refusal:
            await points.donate(tx, **gift, now=NOW)
        assert refusal.value.context["available"] == 0
        assert len(await points.donate(tx, **gift, now=NOW - timedelta(seconds=1))) == 1


async def test_a_released_epoch_is_held_again_with_its_lines(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        lots = [
            await open_lot(tx, "m1", "P-LL", 50, ref=ref, earned_on=date(2026, 1, day))
            for day, ref in ((2, "a"), (1, "b"))
        ]
        await coalition.hold(tx, "red_1", LegRequest(1, "m1", "P-LL", 50))
        await points.release(tx, hub_lines={}, **RED)
        await points.rehold(
            tx, from_epoch=1, hub_lines={1: HUB_LINES}, expires_at=LATER, **RED | {"epoch": 2}
        )
        await db.flush(tx)
        found = await ledger.entries(tx, cause_id="red_1", limit=9)
        (made,) = [made for _, made in found if made.op_key == "red_1:hold:2:1"]
        assert printed(made).endswith("HUB Dr RSV:M04 9, Cr RSV_CONTRA 9")
        held = {lot.id: lot.held for lot in await points.lots(tx, member_id="m1")}
        assert held == {lots[0].id: 0, lots[1].id: 50}
