"""Holds on real databases: who gets the points, from which lots, and what a second time does."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.db import Database
from gateway.ledger import invariants as of_ledger
from gateway.ledger.model import HUB, Kind, credit, debit
from gateway.points import invariants as of_points
from gateway.points import service as points
from gateway.points import store
from gateway.points.model import HoldState, LegRequest, Returned
from tests.support import issuers as coalition
from tests.support.issuers import NOW, hold, open_lot

DONE: dict[str, Any] = {"actor": "m1", "now": NOW}
SOON, LATE = datetime(2026, 12, 31, 16, tzinfo=UTC), datetime(2029, 4, 30, 16, tzinfo=UTC)


async def release(tx: AsyncConnection, redemption: str, epoch: int = 1) -> None:
    await points.release(tx, redemption_id=redemption, epoch=epoch, hub_lines={}, **DONE)


async def burn(tx: AsyncConnection, redemption: str, *legs: int, epoch: int = 1) -> None:
    sinks = dict.fromkeys(legs or (1,), "REDEEMED_OWN")
    await points.burn(tx, redemption_id=redemption, epoch=epoch, sinks=sinks, hub_lines={}, **DONE)


async def give_back(
    tx: AsyncConnection, redemption: str, number: int, *, kind: Kind, extend: bool = False
) -> list[Returned]:
    return await points.give_back(
        tx,
        redemption_id=redemption,
        epoch=1,
        kind=kind,
        points={1: number},
        hub_lines={},
        extend=extend,
        **DONE,
    )


async def left(tx: AsyncConnection, programme: str = "P-LL") -> dict[str, tuple[int, int]]:
    """Held and remaining by the lots' references."""
    found = await points.lots(tx, member_id="m1", programme_id=programme)
    return {lot.ref: (lot.held, lot.remaining) for lot in found}


async def broken(tx: AsyncConnection) -> list[object]:
    results = [*await of_ledger.check(tx), *await of_points.check(tx)]
    return [result for result in results if not result.ok]


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The statements sent to the database meanwhile."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    engine = database.engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(engine, "before_cursor_execute", note)


async def test_of_thirty_holds_at_once_just_those_succeed_that_can_be_paid(
    database: Database,
) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        for ref in ("a", "b", "c"):
            await open_lot(tx, "m1", "P-LL", 450, ref=ref)

    async def attempt(number: int) -> str:
        try:
            async with database.transaction() as tx:
                lines = (debit(HUB, "RSV:M04", 9), credit(HUB, "RSV_CONTRA", 9))
                await hold(tx, f"red_{number}", LegRequest(1, "m1", "P-LL", 100, lines))
        except points.InsufficientPoints as short:
            return f"{short.context['available']} of {short.context['needed']}"
        return "held"

    outcomes = Counter(await asyncio.gather(*(attempt(number) for number in range(30))))

    assert outcomes == {"held": 13, "50 of 100": 17}
    async with database.transaction() as tx:
        (wallet,) = await points.wallets(tx, "m1", now=NOW)
        assert (wallet.available, wallet.held) == (50, 1_300)
        assert [result for result in await broken(tx) if result.id != "L6"] == []


async def test_holds_of_many_members_on_the_same_cover_do_not_deadlock(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        for member in ("m1", "m2", "m3", "m4"):
            await open_lot(tx, member, "P-LL", 1_000)
            await open_lot(tx, member, "P-CW", 1_000)

    async def attempt(number: int) -> None:
        member = f"m{number % 4 + 1}"
        legs = [
            LegRequest(
                leg_no,
                member,
                programme,
                10,
                (debit(HUB, f"RSV:{issuer}", 9), credit(HUB, "RSV_CONTRA", 9)),
            )
            for leg_no, (programme, issuer) in enumerate(
                [("P-LL", "M04"), ("P-CW", "M06")][:: 1 if number % 2 else -1], 1
            )
        ]
        async with database.transaction() as tx:
            await hold(tx, f"red_{number}", *legs)

    await asyncio.gather(*(attempt(number) for number in range(40)))

    async with database.transaction() as tx:
        assert await of_points.check(tx)
        wallets = await points.wallets(tx, "m1", now=NOW)
        assert [(wallet.programme_id, wallet.held) for wallet in wallets] == [
            ("P-CW", 100),
            ("P-LL", 100),
        ]


async def test_a_hold_of_one_leg_takes_two_statements(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        for ref in ("a", "b", "c"):
            await open_lot(tx, "m1", "P-LL", 100, ref=ref)
        await hold(tx, "red_0", LegRequest(1, "m1", "P-LL", 10))
        await db.flush(tx)
        with statements(database) as seen:
            await hold(tx, "red_1", LegRequest(1, "m1", "P-LL", 250))
            await db.flush(tx)
        assert len(seen) == 2
        with statements(database) as seen:
            await burn(tx, "red_1")
            await db.flush(tx)
        assert len(seen) == 2
        with statements(database) as seen:
            await release(tx, "red_0")
            await db.flush(tx)
        assert len(seen) == 2


async def test_points_are_taken_by_end_then_age(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        for ref, day, end in (
            ("late", date(2026, 1, 1), LATE),
            ("soon", date(2026, 5, 1), SOON),
            ("soon_older", date(2026, 4, 1), SOON),
            ("over", date(2023, 1, 1), NOW),
        ):
            await open_lot(tx, "m1", "P-YT", 100, ref=ref, earned_on=day, expires_at=end)
        await hold(tx, "red_1", LegRequest(1, "m1", "P-YT", 210))

        assert await left(tx, "P-YT") == {
            "over": (0, 100),
            "late": (10, 100),
            "soon_older": (100, 100),
            "soon": (100, 100),
        }
        assert await points.available(tx, member_id="m1", issuer="M11", now=NOW) == 90


async def test_held_points_do_not_end_while_they_are_held(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await open_lot(tx, "m1", "P-YT", 400, expires_at=SOON)
        await hold(tx, "red_1", LegRequest(1, "m1", "P-YT", 300))

        assert await points.expire(tx, now=SOON, limit=10) == 1
        assert await left(tx, "P-YT") == {"open": (300, 300)}
        await release(tx, "red_1")
        assert await points.available(tx, member_id="m1", issuer="M11", now=SOON) == 0
        assert await points.expire(tx, now=SOON, limit=10) == 1
        assert await left(tx, "P-YT") == {"open": (0, 0)}


async def test_if_a_leg_lacks_points_nothing_is_held(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await open_lot(tx, "m1", "P-LL", 1_300)
        await open_lot(tx, "m1", "P-CW", 299)
    legs = LegRequest(1, "m1", "P-LL", 1_300), LegRequest(2, "m1", "P-CW", 300)

    with pytest.raises(points.InsufficientPoints) as short:
        async with database.transaction() as tx:
            await hold(tx, "red_1", *legs)

    assert short.value.context == {
        "programme": "P-CW",
        "needed": 300,
        "available": 299,
        "missing": 1,
    }
    async with database.transaction() as tx:
        assert await points.held(tx, "red_1") == []
        assert await points.available(tx, member_id="m1", issuer="M04", now=NOW) == 1_300


async def test_a_hold_is_made_once_and_resolved_once(database: Database) -> None:
    leg = LegRequest(1, "m1", "P-LL", 80)
    async with database.transaction() as tx:
        await coalition.found(tx)
        await open_lot(tx, "m1", "P-LL", 100)
        for _ in range(2):
            await hold(tx, "red_1", leg)
        assert await left(tx) == {"open": (80, 100)}

        for _ in range(2):
            await release(tx, "red_1")
        assert await left(tx) == {"open": (0, 100)}
        with pytest.raises(points.HoldAlreadyResolved):
            await burn(tx, "red_1")

        await hold(tx, "red_2", leg)
        for _ in range(2):
            await burn(tx, "red_2")
        assert await left(tx) == {"open": (0, 20)}
        with pytest.raises(points.HoldAlreadyResolved):
            await release(tx, "red_2")


async def test_a_late_confirmation_holds_the_same_lots_again(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await open_lot(tx, "m1", "P-YT", 100, ref="ended", expires_at=SOON)
        await open_lot(tx, "m1", "P-YT", 100, ref="other", expires_at=LATE)
        await hold(tx, "red_1", LegRequest(1, "m1", "P-YT", 70))
        await release(tx, "red_1")
        again: dict[str, Any] = {"redemption_id": "red_1", "epoch": 2, "from_epoch": 1}
        again |= {"hub_lines": {}, "expires_at": LATE, "actor": "m1", "now": SOON}

        (held,) = await points.rehold(tx, **again)

        assert (held.epoch, held.points, held.state) == (2, 70, HoldState.HELD)
        assert await left(tx, "P-YT") == {"ended": (70, 100), "other": (0, 100)}
        await burn(tx, "red_1", epoch=2)
        assert await left(tx, "P-YT") == {"ended": (0, 30), "other": (0, 100)}
        assert len(await points.held(tx, "red_1")) == 2


async def test_points_come_back_to_the_lot_allocated_last_first(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        for ref, day in (("a", date(2026, 1, 1)), ("b", date(2026, 2, 1)), ("c", date(2026, 3, 1))):
            await open_lot(tx, "m1", "P-LL", 100, ref=ref, earned_on=day)
        await hold(tx, "red_1", LegRequest(1, "m1", "P-LL", 250))
        await burn(tx, "red_1")

        fare = await give_back(tx, "red_1", 120, kind=Kind.FARE_ADJUST)
        assert [back.points for back in fare] == [70, 50]
        assert await left(tx) == {"a": (0, 0), "b": (0, 70), "c": (0, 100)}
        assert await give_back(tx, "red_1", 120, kind=Kind.FARE_ADJUST) == fare

        rest = await give_back(tx, "red_1", 130, kind=Kind.REVERSE)
        assert [back.points for back in rest] == [100, 30]
        assert await left(tx) == {"a": (0, 100), "b": (0, 100), "c": (0, 100)}
        (held,) = await points.held(tx, "red_1")
        assert (held.points, held.returned) == (250, 250)


async def test_a_redemption_shows_the_purchases_behind_it(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await open_lot(tx, "m1", "P-LL", 100, ref="a", earned_on=date(2026, 1, 1))
        await open_lot(tx, "m1", "P-LL", 100, ref="b", earned_on=date(2026, 2, 1))
        await hold(tx, "red_1", LegRequest(1, "m1", "P-LL", 150))
        assert await points.look_through(tx, "red_1") == []
        await burn(tx, "red_1")
        await give_back(tx, "red_1", 20, kind=Kind.FARE_ADJUST)

        found = await points.look_through(tx, "red_1")
        assert [(leg_no, lot.ref, n) for leg_no, lot, n in found] == [(1, "a", 100), (1, "b", 30)]
        told = await points.history(tx, member_id="m1", programme_id="P-LL", limit=3)
        assert sorted((one.kind, one.held, one.remaining) for one in told) == [
            ("COMMIT", -100, -100),
            ("COMMIT", -50, -50),
            ("FARE_ADJUST", 0, 20),
        ]


PLANTED = {
    "L3": sa.update(store.lots).values(remaining=1),
    "L4": sa.update(store.movements).where(store.movements.c.kind == "HOLD").values(held_delta=7),
    "L5": sa.update(store.lots).values(remaining=1),
    "K4": sa.update(store.lots).where(store.lots.c.ref == "ord").values(ref=""),
    "R6": sa.update(store.holds).values(points=9),
}


@pytest.mark.parametrize("id", PLANTED)
async def test_a_planted_violation_is_found(database: Database, id: str) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await open_lot(tx, "m1", "P-LL", 100)
        give: dict[str, Any] = {"basis": "ADJUSTMENT", "ref": "ord", "slice": None, "op_key": "a1"}
        await points.issue(
            tx, programme_id="P-LL", member_id="m1", points=5, kind=Kind.ADJUST, **DONE, **give
        )
        await hold(tx, "red_1", LegRequest(1, "m1", "P-LL", 1))
        assert all(result.ok for result in await of_points.check(tx))
        await coalition.open_books(tx, "points_lot_movements")
        await tx.execute(PLANTED[id])
        failed = [result.id for result in await of_points.check(tx) if not result.ok]
    assert id in failed


async def test_a_fault_of_others_gives_returned_points_ninety_days(database: Database) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await open_lot(tx, "m1", "P-YT", 400, ref="old", expires_at=SOON)
        await open_lot(tx, "m1", "P-YT", 12_000, ref="new", expires_at=LATE)
        await hold(tx, "red_1", LegRequest(1, "m1", "P-YT", 12_000))
        await burn(tx, "red_1")

        for _ in range(2):  # However often the event arrives.
            back = await give_back(tx, "red_1", 12_000, kind=Kind.REVERSE, extend=True)
            assert [(one.points, one.expires_at) for one in back] == [
                (400, NOW + timedelta(days=90)),
                (11_600, LATE),
            ]
        ends = {lot.ref: lot.expires_at for lot in await points.lots(tx, member_id="m1")}
        assert ends == {"old": NOW + timedelta(days=90), "new": LATE}


@pytest.mark.parametrize(
    "change",
    [{"held": 101}, {"remaining": -1}, {"remaining": 101}, {"held": -1}],
    ids=str,
)
async def test_the_database_refuses_a_lot_that_cannot_be(
    database: Database, change: dict[str, int]
) -> None:
    async with database.transaction() as tx:
        await coalition.found(tx)
        await open_lot(tx, "m1", "P-LL", 100)
    with pytest.raises(DBAPIError, match="ck_points_lots"):
        async with database.transaction() as tx:
            await tx.execute(sa.update(store.lots).values(change))
