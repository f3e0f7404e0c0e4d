"""What a partner tells out of order: the last thing it knew stands, whenever it is told.

Source: contracts §4.3 (4), §5.5.
"""

import pytest

from gateway.errors import PartnerRejected
from gateway.ports import Fact, Outcome
from gateway.redemption import service as redemptions
from gateway.redemption.model import Redemption, State, Step
from tests.integration.conftest import Coalition

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))  # 4,500 of 20,000
WHOLE = (20_000, 0)


async def refused(coalition: Coalition) -> Redemption:
    """Released after a no to the confirm."""
    held = await coalition.held(*TICKET)
    coalition.partners["M05"].script["confirm"] = ["reject"]
    with pytest.raises(PartnerRejected):
        await coalition.confirm(held)
    assert (await coalition.get(held)).state is State.RELEASED
    return held


async def ends(coalition: Coalition, redemption: Redemption, state: State) -> None:
    """It is in that state, the points are back, nobody has to look, and all holds."""
    assert (await coalition.get(redemption)).state is state
    assert await coalition.wallet("mbr_demo_01", "P-LL") == WHOLE
    async with coalition.database.reading() as tx:
        assert await redemptions.findings(tx, redemption_id=redemption.id) == []
    assert await coalition.broken() == []


async def test_a_confirmation_older_than_a_cancellation_a_poll_told_is_not_taken(
    coalition: Coalition,
) -> None:
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]
    partner.script["confirm"] = ["lost_after"]
    await coalition.confirm(held)
    op_key = held.op_key(Step.CONFIRM)
    partner.operations[op_key] = Fact(op_key, Outcome.CANCELLED, 2, f"b/{op_key}")
    await coalition.work(seconds=2)
    await ends(coalition, held, State.RELEASED)

    await coalition.told(held, "confirmed", 1)
    await ends(coalition, held, State.RELEASED)


async def test_a_confirmation_older_than_a_cancellation_that_was_told_is_not_taken(
    coalition: Coalition,
) -> None:
    held = await refused(coalition)
    await coalition.told(held, "cancelled", 3)  # It had taken it after all, and cancelled.
    await coalition.told(held, "confirmed", 2)
    await ends(coalition, held, State.RELEASED)


async def test_a_use_older_than_a_cancellation_takes_no_points(coalition: Coalition) -> None:
    held = await refused(coalition)
    await coalition.told(held, "cancelled", 4)
    await coalition.told(held, "fulfilled", 3)
    await ends(coalition, held, State.RELEASED)


async def test_a_confirmation_newer_than_a_cancellation_is_taken(coalition: Coalition) -> None:
    held = await refused(coalition)
    await coalition.told(held, "cancelled", 2)
    await coalition.told(held, "confirmed", 3)
    late = await coalition.get(held)
    assert (late.state, late.fact_version) == (State.LATE_CONFIRMED, 3)
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)


async def test_a_fence_that_answers_with_an_older_booking_ends_the_release(
    coalition: Coalition,
) -> None:
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]
    partner.script["confirm"] = ["pending"]
    await coalition.confirm(held)
    await coalition.told(held, "rejected", 1)
    await coalition.told(held, "cancelled", 3)
    assert (await coalition.get(held)).state is State.RELEASING
    hold_key = held.op_key(Step.HOLD)
    partner.operations[hold_key] = Fact(hold_key, Outcome.CONFIRMED, 2, "b/old")
    await coalition.work(seconds=1)
    await ends(coalition, held, State.RELEASED)


async def test_a_late_booking_that_the_partner_cancels_itself_is_covered(
    coalition: Coalition,
) -> None:
    """It cannot be cancelled a second time, and nobody has to pay for it."""
    late = await refused(coalition)
    for _ in range(4):
        await coalition.redeemed(*TICKET)
    await coalition.told(late, "confirmed", 2)
    partner, op_key = coalition.partners["M05"], late.op_key(Step.CONFIRM)
    partner.operations[op_key] = Fact(op_key, Outcome.CANCELLED, 3, f"b/{op_key}")
    await coalition.told(late, "cancelled", 3)
    partner.script["cancel_quote"] = ["reject"]
    await coalition.jobs()
    async with coalition.database.reading() as tx:
        (found,) = await redemptions.findings(tx, redemption_id=late.id)
    assert found.code == "LATE_CONFIRM_CANCELLED"
    assert (await coalition.get(late)).state is State.RELEASED


@pytest.mark.parametrize(
    ("kind", "end", "wallet"),
    [("cancelled", State.CANCELLED, 20_450), ("fulfilled", State.FULFILLED, 15_500)],
)
async def test_what_happens_to_a_booking_while_a_person_looks_is_not_lost(
    coalition: Coalition, kind: str, end: State, wallet: int
) -> None:
    """In doubt for too long: what is cancelled or used was confirmed, as in doubt itself."""
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]
    partner.script["confirm"] = ["lost_after"]
    partner.script["status"] = ["not_sent"] * 50
    await coalition.confirm(held)
    await coalition.work(seconds=5)
    await coalition.work(hours=25)
    assert (await coalition.get(held)).state is State.NEEDS_REVIEW

    await coalition.told(held, kind, 2)
    await coalition.told(held, "confirmed", 1)
    assert (await coalition.get(held)).state is end
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (wallet, 0)
    assert await coalition.broken() == []


@pytest.mark.parametrize(("kind", "end"), [("cancelled", "CANCELLED"), ("fulfilled", "FULFILLED")])
@pytest.mark.parametrize("decision", ["COMMIT", "KEEP"])
async def test_what_is_told_while_people_decide_waits_for_them(
    coalition: Coalition, decision: str, kind: str, end: str
) -> None:
    made = await coalition.held(*TICKET)
    if decision == "COMMIT":
        coalition.partners["M05"].script["confirm"] = ["conflict"]
        await coalition.confirm(made)
    else:
        await coalition.confirm(made)
        await coalition.told(made, "rejected", 1)
    assert (await coalition.get(made)).state is State.NEEDS_REVIEW
    await coalition.told(made, kind, 2)
    assert (await coalition.get(made)).state is State.NEEDS_REVIEW

    await coalition.decided(made, decision, evidence="b/1" if decision == "COMMIT" else None)
    await coalition.redemptions.inbox.apply_stored(limit=20)
    assert (await coalition.get(made)).state == end
    assert await coalition.broken() == []
