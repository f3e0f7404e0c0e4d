"""What a partner knows better than a restored database, case by case, on both databases.

The backup is played backwards: the partner goes on behind the gateway's back. The whole disaster,
over HTTP with real processes, is in `tests/e2e/test_recover.py`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from gateway.ports import (
    Fact,
    Outcome,
    Statement,
    StatementLine,
)
from gateway.redemption.model import Redemption, State
from gateway.redemption.recovery import Recovered, Recovery
from tests.integration.conftest import Coalition
from tests.support.scripted import ScriptedPartner

MEMBER, LOST = "mbr_demo_01", "red_00000000000000000000000001"
Behind = Callable[[ScriptedPartner, Redemption], Awaitable[object]]


async def held(coalition: Coalition) -> Redemption:
    quote = await coalition.quote(MEMBER, "XH-01", ("P-LL", None))
    found, _ = await coalition.redemptions.hold(
        member_id=MEMBER, quote_id=quote.id, key=coalition.key()
    )
    assert found.state is State.HELD
    return found


async def recovered(coalition: Coalition) -> dict[str, Recovered]:
    run = Recovery(coalition.redemptions)
    since = coalition.clock.now() - timedelta(minutes=10)
    return {row.redemption_id: row for row in await run.run(since=since, merchants=["M05"])}


async def confirmed(partner: ScriptedPartner, redemption: Redemption) -> None:
    await partner.confirm(
        str(redemption.hold_ref),
        op_key=f"{redemption.id}:confirm:1",
        deadline=partner.now() + timedelta(seconds=60),
        gateway_ref=redemption.id,
    )


async def cancelled_by_the_member(partner: ScriptedPartner, redemption: Redemption) -> None:
    await confirmed(partner, redemption)
    key = f"{redemption.id}:confirm:1"
    booked = partner.operations[key]
    gone = replace(booked, outcome=Outcome.CANCELLED, version=booked.version + 1)
    partner.operations[key] = gone
    partner.operations[f"{redemption.id}:cancel:1"] = replace(
        gone, op_key=f"{redemption.id}:cancel:1"
    )


async def cancelled_by_the_partner(partner: ScriptedPartner, redemption: Redemption) -> None:
    await cancelled_by_the_member(partner, redemption)
    del partner.operations[f"{redemption.id}:cancel:1"]


async def released(partner: ScriptedPartner, redemption: Redemption) -> None:
    await partner.fence(f"{redemption.id}:hold:1")


async def rejected(partner: ScriptedPartner, redemption: Redemption) -> None:
    key = f"{redemption.id}:confirm:1"
    partner.operations[key] = Fact(key, Outcome.REJECTED, 1)


async def nothing(partner: ScriptedPartner, redemption: Redemption) -> None:
    pass


@pytest.mark.parametrize(
    ("behind", "state", "spent"),
    [
        (confirmed, State.COMMITTED, True),
        (cancelled_by_the_member, State.CANCELLED, False),
        (cancelled_by_the_partner, State.CANCELLED, False),
        (released, State.RELEASED, False),
        (rejected, State.RELEASED, False),
        (nothing, State.HELD, False),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_what_is_held_here_follows_the_partner(
    coalition: Coalition, behind: Behind, state: State, spent: bool
) -> None:
    before = await coalition.wallet(MEMBER, "P-LL")
    found = await held(coalition)
    await behind(coalition.partners["M05"], found)
    for _ in range(2):  # Running it again changes nothing.
        row = (await recovered(coalition))[found.id]
        assert (row.known, row.state) == (True, "ENDED"), row
        await coalition.work()
    async with coalition.database.reading() as tx:
        query = sa.text("SELECT state FROM redemptions WHERE id = :id")
        assert await tx.scalar(query, {"id": found.id}) == state
    available, now_held = await coalition.wallet(MEMBER, "P-LL")
    price = found.points if spent or state is State.HELD else 0
    gift = available - (before[0] - price)
    assert gift == 0 or behind is cancelled_by_the_partner  # Its compensation.
    assert gift >= 0
    assert now_held == (found.points if state is State.HELD else 0)


async def test_what_was_committed_and_is_cancelled_there_comes_back(coalition: Coalition) -> None:
    before = await coalition.wallet(MEMBER, "P-LL")
    found = await held(coalition)
    await coalition.redemptions.confirm(
        member_id=MEMBER, redemption_id=found.id, key=coalition.key()
    )
    partner = coalition.partners["M05"]
    booked = partner.operations[f"{found.id}:confirm:1"]
    gone = replace(booked, outcome=Outcome.CANCELLED, version=booked.version + 1)
    partner.operations[f"{found.id}:confirm:1"] = gone
    partner.operations[f"{found.id}:cancel:1"] = replace(gone, op_key=f"{found.id}:cancel:1")
    assert (await recovered(coalition))[found.id].result == "COMMITTED → CANCELLED"
    assert await coalition.wallet(MEMBER, "P-LL") == before


async def test_what_is_not_answered_waits_for_the_next_run(coalition: Coalition) -> None:
    found = await held(coalition)
    partner = coalition.partners["M05"]
    await confirmed(partner, found)
    partner.script["status"] = ["not_sent"]
    row = (await recovered(coalition))[found.id]
    assert (row.state, row.result) == ("FOUND", "waits: PARTNER_UNAVAILABLE")
    row = (await recovered(coalition))[found.id]
    assert (row.state, row.result) == ("ENDED", "HELD → COMMITTED")


async def test_a_confirm_still_being_decided_is_waited_for(coalition: Coalition) -> None:
    found = await held(coalition)
    partner = coalition.partners["M05"]
    partner.script["status"] = ["pending"]
    assert (await recovered(coalition))[found.id].result == "HELD → CONFIRMING"
    await confirmed(partner, found)
    await coalition.work(seconds=30)
    async with coalition.database.reading() as tx:
        query = sa.text("SELECT state FROM redemptions WHERE id = :id")
        assert await tx.scalar(query, {"id": found.id}) == "COMMITTED"


# -- what nobody here knows -----------------------------------------------------------------------


class Stated(ScriptedPartner):
    """A partner without a listing: its statement names what it has booked for us."""

    async def statement(self, day) -> Statement:
        line = StatementLine(1, LOST, f"b/{LOST}:confirm:1", "REDEMPTION", "M04", 4_050, day)
        return Statement(self.code, day, 1, (line,), 1, 4_050)


async def lost(coalition: Coalition, **script: list[str]) -> Stated:
    """A booking of which nobody here knows anything, made yesterday."""
    old = coalition.partners["M05"]
    partner = Stated("M05", old.prices, coalition.clock.now)
    coalition.partners["M05"] = partner
    coalition.redemptions.partners._adapters["M05"] = partner
    reserved = await partner.hold("q", op_key=f"{LOST}:hold:1", ttl_seconds=900, claims=())
    await partner.confirm(
        reserved.hold_ref,
        op_key=f"{LOST}:confirm:1",
        deadline=partner.now() + timedelta(seconds=60),
        gateway_ref=LOST,
    )
    coalition.clock.forward(days=1)
    partner.script.update(script)
    return partner


async def since_yesterday(coalition: Coalition) -> Recovered:
    run = Recovery(coalition.redemptions)
    since = coalition.clock.now() - timedelta(days=1)
    rows = await run.run(since=since, merchants=["M05"])
    (row,) = [row for row in rows if row.redemption_id == LOST]
    assert not row.known
    return row


async def test_an_unknown_booking_is_cancelled_once(coalition: Coalition) -> None:
    partner = await lost(coalition, cancel=["lost_after"])
    assert (await since_yesterday(coalition)).state == "FOUND"
    for _ in range(2):
        assert (await since_yesterday(coalition)).state == "ENDED"
    assert [key for verb, key in partner.effects if verb == "cancel"] == [f"{LOST}:cancel:1"]


async def test_an_unknown_booking_that_stands_is_for_two_people(coalition: Coalition) -> None:
    await lost(coalition, cancel_quote=["reject"])
    row = await since_yesterday(coalition)
    assert (row.state, row.result) == (
        "REVIEW",
        f"MISSING_US: b/{LOST}:confirm:1 stands: CANCEL_TOO_LATE",
    )


async def test_an_unknown_hold_never_takes_effect(coalition: Coalition) -> None:
    partner = await lost(coalition)
    del partner.operations[f"{LOST}:confirm:1"]
    assert (await since_yesterday(coalition)).state == "ENDED"
    for step in ("hold", "confirm"):
        assert partner.operations[f"{LOST}:{step}:1"].outcome is Outcome.FENCED


async def test_a_partner_that_is_not_reached_stops_nobody_else(coalition: Coalition) -> None:
    run = Recovery(coalition.redemptions)
    since = coalition.clock.now() - timedelta(days=1)
    await held(coalition)
    rows = await run.run(since=since, merchants=["M05", "M06"])
    assert set(run.unreached) == {"M05", "M06"}  # Scripted partners have no statement.
    assert [row.state for row in rows] == ["ENDED"]
