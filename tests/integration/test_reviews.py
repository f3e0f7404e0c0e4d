"""The inbox of redemptions that need a person: who may decide what, and what it does."""

from typing import Any

import pytest

from gateway.compliance.model import FourEyesRequired
from gateway.errors import NotFound
from gateway.points.service import HoldAlreadyResolved
from gateway.redemption import reviews
from gateway.redemption.model import Fault, Redemption, State, Step
from gateway.settings import Settings
from gateway.values import InvalidInput
from tests.integration.conftest import Coalition

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))  # 4,500 of 20,000
MAKER, CHECKER = "usr_operator", "usr_operator_checker"


async def propose(coalition: Coalition, redemption: Redemption, outcome: str, **more: Any) -> str:
    asked = {"evidence": None, "fault": None, "note": "asked by phone"} | more
    async with coalition.database.transaction() as tx:
        made = await reviews.propose(
            tx,
            redemption_id=redemption.id,
            outcome=outcome,
            actor=MAKER,
            now=coalition.clock.now(),
            **asked,
        )
    return made.id


async def approve(
    coalition: Coalition, resolution: str, *, actor: str = CHECKER, limit_fen: int = 10**9
) -> reviews.Resolution:
    async with coalition.database.transaction() as tx:
        return await reviews.approve(
            tx,
            resolution_id=resolution,
            actor=actor,
            limit_fen=limit_fen,
            settings=Settings(),
            now=coalition.clock.now(),
        )


async def decide(
    coalition: Coalition, redemption: Redemption, outcome: str, **more: Any
) -> Redemption:
    await approve(coalition, await propose(coalition, redemption, outcome, **more))
    return await coalition.get(redemption)


async def inbox(coalition: Coalition, **asked: Any) -> list[reviews.Review]:
    async with coalition.database.reading() as tx:
        return await reviews.reviews(tx, **asked)


async def conflicting(coalition: Coalition, step: str) -> Redemption:
    """A redemption whose partner knows the step's key with another body."""
    coalition.partners["M05"].script[step] = ["conflict"]
    if step == "hold":
        return await coalition.held(*TICKET)
    if step == "confirm":
        return await coalition.redeemed(*TICKET)
    done = await coalition.redeemed(*TICKET)
    ask = {"member_id": "mbr_demo_01", "redemption_id": done.id}
    offered = await coalition.redemptions.cancel_quote(**ask)
    made, _ = await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key="c")
    return made


@pytest.mark.parametrize("step", ["hold", "confirm", "cancel"])
async def test_a_key_that_conflicts_needs_a_person_at_once(coalition: Coalition, step: str) -> None:
    stuck = await conflicting(coalition, step)
    assert (stuck.state, stuck.reason) == (State.NEEDS_REVIEW, "KEY_CONFLICT")
    (found,) = await inbox(coalition)
    assert (found.redemption.id, found.step) == (stuck.id, Step(step))
    assert (found.due_at - found.opened_at).total_seconds() == 86_400
    before = len(coalition.partners["M05"].calls)
    await coalition.work(minutes=30)
    assert len(coalition.partners["M05"].calls) == before  # Stopped.


async def test_two_people_commit_with_the_partners_booking(coalition: Coalition) -> None:
    stuck = await conflicting(coalition, "confirm")
    done = await decide(coalition, stuck, "COMMIT", evidence="BK-7")
    assert (done.state, done.booking_ref) == (State.COMMITTED, "BK-7")
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)
    assert await inbox(coalition) == []
    (closed,) = await inbox(coalition, closed=True)
    assert closed.outcomes == ()


async def test_two_people_release_and_the_partner_is_told(coalition: Coalition) -> None:
    stuck = await conflicting(coalition, "confirm")
    assert (await decide(coalition, stuck, "RELEASE")).state is State.RELEASING
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)
    await coalition.work(seconds=1)
    assert (await coalition.get(stuck)).state is State.RELEASED
    assert ("fence", stuck.op_key(Step.HOLD)) in coalition.partners["M05"].effects


async def test_a_hold_never_heard_of_is_let_go_all_the_same(coalition: Coalition) -> None:
    stuck = await conflicting(coalition, "hold")
    assert (await decide(coalition, stuck, "RELEASE")).state is State.RELEASED
    payload = {"redemption": stuck.id, "op_key": stuck.op_key(Step.HOLD)}
    await coalition.redemptions.aftermath.let_go(payload)
    assert ("fence", stuck.op_key(Step.HOLD)) in coalition.partners["M05"].effects


@pytest.mark.parametrize(
    ("outcome", "more", "state", "points"),
    [
        ("CANCEL", {"fault": "MEMBER"}, State.CANCELLED, 20_000),
        ("CANCEL", {"fault": "REDEEMER"}, State.CANCELLED, 20_450),
        ("KEEP", {}, State.COMMITTED, 15_500),
    ],
)
async def test_two_people_settle_a_cancellation(
    coalition: Coalition, outcome: str, more: dict[str, Any], state: State, points: int
) -> None:
    stuck = await conflicting(coalition, "cancel")
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)
    done = await decide(coalition, stuck, outcome, **more)
    assert (done.state, done.fault) == (state, Fault(more["fault"]) if more else None)
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (points, 0)


@pytest.mark.parametrize(("outcome", "state"), [("KEEP", "FULFILLED"), ("CANCEL", "CANCELLED")])
async def test_what_was_used_can_be_kept_or_cancelled(
    coalition: Coalition, outcome: str, state: str
) -> None:
    done = await coalition.redeemed(*TICKET)
    op_key = done.op_key(Step.CONFIRM)
    for number, kind in enumerate(("fulfilled", "cancelled")):
        body = {"id": f"e{number}", "kind": f"booking.{kind}", "op_key": op_key, "version": 2}
        await coalition.redemptions.inbox.receive("M05", f"e{number}", body)
    assert (await coalition.get(done)).state is State.NEEDS_REVIEW  # The same version: a tie.
    fault = "GATEWAY" if outcome == "CANCEL" else None
    assert (await decide(coalition, done, outcome, fault=fault)).state == state
    burned = outcome == "KEEP"
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500 if burned else 20_000, 0)


@pytest.mark.parametrize(
    ("outcome", "more", "state"),
    [("COMMIT", {"evidence": "BK-9"}, "LATE_CONFIRMED"), ("RELEASE", {}, "RELEASED")],
)
async def test_what_was_released_is_late_or_stays_released(
    coalition: Coalition, outcome: str, more: dict[str, Any], state: str
) -> None:
    held = await coalition.held(*TICKET)
    coalition.partners["M05"].script["confirm"] = ["pending"]
    await coalition.confirm(held)
    op_key = held.op_key(Step.CONFIRM)
    for number, kind in enumerate(("rejected", "confirmed")):
        body = {"id": f"e{number}", "kind": f"booking.{kind}", "op_key": op_key, "version": 1}
        await coalition.redemptions.inbox.receive("M05", f"e{number}", body)
        await coalition.redemptions.work()
    assert (await coalition.get(held)).state is State.NEEDS_REVIEW
    await decide(coalition, held, outcome, **more)
    await coalition.work(seconds=1)
    assert (await coalition.get(held)).state == state
    burned = outcome == "COMMIT"
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500 if burned else 20_000, 0)


async def test_another_person_with_a_limit_approves(coalition: Coalition) -> None:
    stuck = await conflicting(coalition, "confirm")
    resolution = await propose(coalition, stuck, "RELEASE")
    for who, limit_fen in ((MAKER, 10**9), (CHECKER, 4_499)):
        with pytest.raises(FourEyesRequired):
            await approve(coalition, resolution, actor=who, limit_fen=limit_fen)
    assert (await coalition.get(stuck)).state is State.NEEDS_REVIEW
    assert (await approve(coalition, resolution, limit_fen=4_500)).approved_by == CHECKER
    assert (await approve(coalition, resolution)).approved_by == CHECKER  # Once is enough.


async def test_a_new_proposal_takes_the_place_of_the_old_one(coalition: Coalition) -> None:
    stuck = await conflicting(coalition, "confirm")
    first = await propose(coalition, stuck, "RELEASE")
    second = await propose(coalition, stuck, "COMMIT", evidence="BK-1")
    with pytest.raises(NotFound):
        await approve(coalition, first)
    assert (await approve(coalition, second)).evidence == "BK-1"


async def test_what_a_fact_has_settled_cannot_be_approved(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]
    partner.script["confirm"] = ["lost_after"]
    partner.script["status"] = ["not_sent"] * 50
    await coalition.confirm(held)
    await coalition.work(seconds=5)
    await coalition.work(hours=25)
    resolution = await propose(coalition, held, "RELEASE")
    await coalition.redemptions.fence(redemption_id=held.id)  # It had confirmed.
    with pytest.raises(HoldAlreadyResolved):
        await approve(coalition, resolution)
    assert (await coalition.get(held)).state is State.COMMITTED


@pytest.mark.parametrize(
    ("outcome", "more"),
    [
        ("KEEP", {}),
        ("CANCEL", {"fault": "MEMBER"}),
        ("COMMIT", {}),
        ("RELEASE", {"evidence": "BK-1"}),
        ("RELEASE", {"fault": "MEMBER"}),
        ("RELEASE", {"note": " "}),
    ],
)
async def test_only_what_fits_is_proposed(
    coalition: Coalition, outcome: str, more: dict[str, Any]
) -> None:
    stuck = await conflicting(coalition, "confirm")
    with pytest.raises(InvalidInput):
        await propose(coalition, stuck, outcome, **more)


async def test_a_cancellation_in_doubt_for_a_day_is_asked_again(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    partner = coalition.partners["M05"]
    ask = {"member_id": "mbr_demo_01", "redemption_id": done.id}
    offered = await coalition.redemptions.cancel_quote(**ask)
    partner.script["cancel"] = ["lost_after"]
    partner.script["status"] = ["not_sent"] * 3
    await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key="c")
    await coalition.work(seconds=2)
    await coalition.work(hours=25)
    stuck = await coalition.get(done)
    assert stuck.state is State.NEEDS_REVIEW
    body = {"id": "e", "kind": "booking.confirmed", "op_key": done.op_key(Step.CONFIRM)}
    await coalition.redemptions.inbox.receive("M05", "e", body | {"version": 1})
    assert (await coalition.get(done)).state is State.NEEDS_REVIEW  # Old news settles nothing.
    partner.script["status"] = []
    settled = await coalition.redemptions.fence(redemption_id=done.id)
    assert settled.state is State.CANCELLED
