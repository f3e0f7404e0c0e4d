"""Ends that a saga must come to, whatever partners say: nothing is lost, stuck, or asked for ever.

Source: contracts §3.1, §5.4 to §5.7, §9 (R8).
"""

from typing import Any

import pytest
import sqlalchemy as sa

from gateway.members import service as members
from gateway.merchants import service as merchants
from gateway.ports import Fact, Outcome
from gateway.redemption import effects
from gateway.redemption import service as redemptions
from gateway.redemption.model import Redemption, State, Step
from gateway.settlement import service as settlement
from gateway.settlement import store as settlement_store
from gateway.values import business_day
from tests.integration.conftest import Coalition

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))  # 4,500 of 20,000


async def told(
    coalition: Coalition, redemption: Redemption, kind: str, version: int, **more: Any
) -> None:
    """A webhook about the booking."""
    event_id = f"{kind}-{version}-{coalition.key()}"
    body = {"id": event_id, "kind": f"booking.{kind}", "op_key": redemption.op_key(Step.CONFIRM)}
    await coalition.redemptions.inbox.receive(
        redemption.merchant_id, event_id, body | {"version": version} | more
    )


async def findings(coalition: Coalition, redemption: Redemption) -> list[str]:
    async with coalition.database.reading() as tx:
        rows = await redemptions.findings(tx, redemption_id=redemption.id)
    return [row.code for row in rows]


async def cancel_in_doubt(coalition: Coalition) -> Redemption:
    """The partner has cancelled; what it answered is lost."""
    done = await coalition.redeemed(*TICKET)
    coalition.partners["M05"].script["cancel"] = ["lost_after"]
    ask = {"member_id": done.member_id, "redemption_id": done.id}
    offered = await coalition.redemptions.cancel_quote(**ask)
    await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key="c")
    return done


# -- nothing is asked for ever without a person looking (R8) --------------------------------------


@pytest.mark.parametrize("step", [Step.HOLD, Step.CONFIRM])
async def test_a_fence_that_is_never_acknowledged_needs_a_person(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    partner = coalition.partners["M05"]

    async def busy(op_key: str) -> Fact:
        return Fact(op_key, Outcome.IN_FLIGHT)

    partner.script[step] = ["lost_before"]
    held = await coalition.held(*TICKET)
    if step is Step.CONFIRM:
        await coalition.confirm(held)
    monkeypatch.setattr(partner, "status", busy)
    monkeypatch.setattr(partner, "fence", busy)
    await coalition.work(hours=2)
    assert (await coalition.get(held)).state is State.IN_DOUBT
    await coalition.work(hours=25)
    assert (await coalition.get(held)).state is State.NEEDS_REVIEW


async def test_a_hold_in_doubt_that_is_called_sold_needs_a_person(coalition: Coalition) -> None:
    """Nobody has confirmed it."""
    coalition.partners["M05"].script["hold"] = ["lost_before"]
    held = await coalition.held(*TICKET)
    op_key = held.op_key(Step.HOLD)
    coalition.partners["M05"].operations[op_key] = Fact(op_key, Outcome.CONFIRMED, 1, "b/1")
    await coalition.work(seconds=5)
    assert (await coalition.get(held)).state is State.IN_DOUBT
    await coalition.work(hours=25)
    assert (await coalition.get(held)).state is State.NEEDS_REVIEW


async def test_a_cancellation_that_is_called_something_else_needs_a_person(
    coalition: Coalition,
) -> None:
    done = await cancel_in_doubt(coalition)
    op_key = done.op_key(Step.CANCEL)
    coalition.partners["M05"].operations[op_key] = Fact(op_key, Outcome.CONFIRMED, 1, "b/1")
    await coalition.work(seconds=5)
    assert (await coalition.get(done)).state is State.IN_DOUBT
    await coalition.work(hours=25)
    assert (await coalition.get(done)).state is State.NEEDS_REVIEW


# -- what comes while a person has it -------------------------------------------------------------


@pytest.mark.parametrize(("decision", "end"), [("KEEP", "FULFILLED"), ("CANCEL", "CANCELLED")])
async def test_a_tie_that_is_told_when_a_person_has_it_already_is_kept_for_them(
    coalition: Coalition, decision: str, end: str
) -> None:
    done = await cancel_in_doubt(coalition)
    coalition.partners["M05"].script["status"] = ["not_sent"] * 50
    await told(coalition, done, "fulfilled", 2)
    await coalition.work(seconds=2)
    await coalition.work(hours=25)
    assert (await coalition.get(done)).state is State.NEEDS_REVIEW

    coalition.partners["M05"].script["status"] = []
    ended = await coalition.redemptions.fence(redemption_id=done.id)
    assert ended.state is State.NEEDS_REVIEW
    assert await findings(coalition, done) == ["STATUS_DIFF"]
    await coalition.decided(done, decision, fault="MEMBER" if decision == "CANCEL" else None)
    await coalition.redemptions.inbox.apply_stored(limit=20)
    assert (await coalition.get(done)).state == end


async def test_a_hold_that_comes_when_a_person_has_it_is_theirs(coalition: Coalition) -> None:
    partner = coalition.partners["M05"]
    partner.script["hold"] = ["lost_before"]
    partner.script["status"] = ["not_sent"] * 50
    held = await coalition.held(*TICKET)
    await coalition.work(seconds=5)
    await coalition.work(hours=25)
    assert (await coalition.get(held)).state is State.NEEDS_REVIEW

    op_key, now = held.op_key(Step.HOLD), coalition.clock.now()
    partner.operations[op_key] = fact = Fact(op_key, Outcome.HELD, 0, hold_ref="h/1")
    async with coalition.database.transaction() as tx:
        await effects.apply_fact(
            tx, fact, source="answer", settings=coalition.redemptions.settings, now=now
        )
    assert (await coalition.get(held)).state is State.NEEDS_REVIEW
    await coalition.decided(held, "RELEASE")
    await coalition.jobs()
    assert (await coalition.get(held)).state is State.RELEASED
    assert ("fence", op_key) in partner.effects


# -- points come back, whatever else is refused ---------------------------------------------------


async def test_a_compensation_that_may_not_be_issued_does_not_hold_the_points_back(
    coalition: Coalition,
) -> None:
    """The issuer has left: it issues nothing more, but what was spent comes back."""
    done = await coalition.redeemed(*TICKET)
    async with coalition.database.transaction() as tx:
        await merchants.leave(tx, id="M04", exited_on=business_day(coalition.clock.now()))
    await told(coalition, done, "cancelled", 2)
    assert (await coalition.get(done)).state is State.CANCELLED
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)
    payload = {"redemption": done.id, "leg": 1}
    assert not await coalition.redemptions.aftermath.compensate_again(payload)


@pytest.mark.parametrize("change", ["ended", "other terms"])
async def test_a_late_confirmation_without_its_agreement_is_cancelled(
    coalition: Coalition, change: str
) -> None:
    held = await coalition.held(*TICKET)
    coalition.partners["M05"].script["confirm"] = ["pending"]
    await coalition.confirm(held)
    await told(coalition, held, "rejected", 1)
    await coalition.redemptions.work()
    a, today = settlement_store.agreements, business_day(coalition.clock.now())
    values = {"valid_until": today} if change == "ended" else {"settlement_bps": 8_000}
    async with coalition.database.transaction() as tx:
        mine = (a.c.issuer == "M04") & (a.c.redeemer == "M05")
        await tx.execute(sa.update(a).where(mine).values(values))

    await told(coalition, held, "confirmed", 2)
    await coalition.jobs()
    assert (await coalition.get(held)).state is State.RELEASED
    assert await findings(coalition, held) == ["LATE_CONFIRM_CANCELLED"]
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)


# -- a fare that is lower by less than a point ----------------------------------------------------


async def test_a_fare_lower_by_less_than_a_point_is_owed_less(coalition: Coalition) -> None:
    """12,000 fen are 7,200 points of 5/3 fen, and so are 11,999: only what is owed changes."""
    async with coalition.database.transaction() as tx:
        pair = {"purpose": "partner_pair", "issuer": "M03", "redeemer": "M07"}
        await members.grant_consent(tx, member_id="mbr_demo_19", now=coalition.clock.now(), **pair)
    done = await coalition.redeemed("mbr_demo_19", "KX-03", ("P-YQ", None))
    before = await coalition.wallet("mbr_demo_19", "P-YQ")
    await told(coalition, done, "fulfilled", 2, final_fare_fen=done.list_fen - 1)
    assert (await coalition.get(done)).state is State.FULFILLED
    assert await coalition.wallet("mbr_demo_19", "P-YQ") == before
    async with coalition.database.reading() as tx:
        rows = await settlement.obligations(tx, cause_id=done.id)
    assert [(row.type, row.amount_fen) for row in rows if row.type == "REVERSAL"] == [
        ("REVERSAL", 1)
    ]
    assert await coalition.broken() == []


# -- a key that is known --------------------------------------------------------------------------


async def test_a_release_that_is_asked_again_tells_what_became_of_it(coalition: Coalition) -> None:
    """Also when the partner had sold it after all."""
    held = await coalition.held(*TICKET)
    partner, op_key = coalition.partners["M05"], held.op_key(Step.HOLD)
    asked = {"member_id": held.member_id, "redemption_id": held.id, "key": "r"}
    partner.operations[op_key] = Fact(op_key, Outcome.CONFIRMED, 1, "b/1")
    released, _ = await coalition.redemptions.release(**asked)
    assert released.state is State.LATE_CONFIRMED
    again, replayed = await coalition.redemptions.release(**asked)
    assert (again.state, replayed) == (State.LATE_CONFIRMED, True)
