"""Random operations on points: after any of them, every invariant holds."""

import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.db import Database
from gateway.errors import Refused
from gateway.ledger import invariants as of_ledger
from gateway.ledger import service as ledger
from gateway.ledger.model import Kind
from gateway.points import invariants as of_points
from gateway.points import service as points
from gateway.points.model import LegRequest
from tests.support import issuers as coalition
from tests.support.issuers import NOW

OPERATIONS = 200
EARNING = {
    "P-LL": {"cash_fen": 250_000},
    "P-YT": {"distance_km": 1_178, "fare_class": "经济折扣"},
    "P-YQ": {"nights": 2},
}
PLAN = [*EARNING]


async def operate(tx: AsyncConnection, dice: random.Random, number: int) -> None:
    """One operation, drawn at random, on few members and redemptions so that they meet."""
    now = NOW + timedelta(days=30 * number)
    member, programme = dice.choice(["m1", "m2"]), PLAN[number % 3]
    redemption, step = f"red_{dice.randrange(number // 10 + 1)}", dice.randrange(10)
    of: dict[str, Any] = {"redemption_id": redemption, "epoch": 1, "hub_lines": {}}
    of |= {"actor": "dice", "now": now}
    count = dice.randint(1, 900)
    if step <= 1:
        await points.earn(
            tx,
            programme_id=programme,
            member_id=member,
            ref=f"ord_{number}",
            at=now,
            consumed=dice.random() < 0.5,
            actor="dice",
            live=False,
            now=now,
            **EARNING[programme],
        )
    elif step <= 3:
        legs = [LegRequest(1, member, programme, count)]
        await coalition.hold(tx, redemption, *legs, now=now)
    elif step == 4:
        await points.burn(tx, sinks={1: "REDEEMED_OWN"}, **of)
    elif step == 5:
        await points.release(tx, **of)
    elif step in (6, 8):
        held = await points.held(tx, redemption)
        kind = dice.choice([Kind.REVERSE, Kind.FARE_ADJUST])
        if held and held[0].points - held[0].returned:
            part = dice.randint(1, held[0].points - held[0].returned)
            await points.give_back(tx, kind=kind, points={1: part}, extend=part % 2 == 0, **of)
    elif step == 7:
        earlier = dice.randrange(number + 1)
        issuer = coalition.PROGRAMMES[PLAN[earlier % 3]][0]
        ref = f"ord_{earlier}"
        await points.record_return(tx, issuer=issuer, ref=ref, actor="dice", now=now)
    else:
        await points.mature(tx, now=now, limit=3)
        await points.expire(tx, now=now, limit=3)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.campaign)])
async def test_no_sequence_of_operations_breaks_an_invariant(database: Database, seed: int) -> None:
    dice = random.Random(seed)
    outcomes = {"done": 0, "refused": 0}
    async with database.transaction() as tx:
        await coalition.found(tx)
    for number in range(OPERATIONS):
        try:
            async with database.transaction() as tx:
                await operate(tx, dice, number)
        except Refused:
            outcomes["refused"] += 1
        else:
            outcomes["done"] += 1

    async with database.transaction() as tx:
        await audit.seal(tx, limit=10_000)
        results = [*await of_ledger.check(tx), *await of_points.check(tx)]
        kinds = {journal.kind for _, journal in await ledger.entries(tx, limit=10_000)}
    assert [result for result in results if not result.ok] == []
    assert min(outcomes.values()) > OPERATIONS // 10
    assert kinds >= {Kind.EARN, Kind.HOLD, Kind.COMMIT, Kind.RELEASE, Kind.REVERSE, Kind.CLAW_BACK}
