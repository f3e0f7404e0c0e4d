"""A fence that a partner acknowledges stands, whenever its acknowledgement comes.

Source: contracts §4.1 `fence`, §5.5 (4).
"""

import pytest

from gateway.errors import PartnerRejected
from gateway.ports import Fact, Outcome
from gateway.redemption import effects, reviews
from gateway.redemption import service as redemptions
from gateway.redemption.model import Redemption, State, Step
from tests.integration.conftest import Coalition
from tests.support.scripted import ScriptedPartner

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))  # 4,500 of 20,000
WHOLE = (20_000, 0)


async def told(coalition: Coalition, redemption: Redemption, kind: str, version: int) -> None:
    """A webhook of the cinema about the booking."""
    event_id = f"{kind}-{version}-{coalition.key()}"
    body = {"id": event_id, "kind": f"booking.{kind}", "op_key": redemption.op_key(Step.CONFIRM)}
    await coalition.redemptions.inbox.receive("M05", event_id, body | {"version": version})


async def outcomes(coalition: Coalition, redemption: Redemption, step: Step) -> list[str]:
    """What the partner has said of a step, in no order."""
    async with coalition.database.reading() as tx:
        found = await reviews.facts(tx, redemption.id)
    return sorted(row.outcome for row in found if row.op_key == redemption.op_key(step))


async def broke_its_fence(coalition: Coalition, redemption: Redemption) -> None:
    """It stays released, the points are back, and the partner bears what it has booked."""
    assert (await coalition.get(redemption)).state is State.RELEASED
    async with coalition.database.reading() as tx:
        found = await redemptions.findings(tx, redemption_id=redemption.id)
    assert [row.code for row in found] == ["FENCE_VIOLATED"]
    assert await coalition.wallet("mbr_demo_01", "P-LL") == WHOLE


def refusing_while_fenced(
    coalition: Coalition, redemption: Redemption, monkeypatch: pytest.MonkeyPatch
) -> ScriptedPartner:
    """The no is told while the fence's acknowledgement is under way."""
    partner = coalition.partners["M05"]
    acknowledge = partner.fence

    async def fence(op_key: str) -> Fact:
        fact = await acknowledge(op_key)
        if op_key == redemption.op_key(Step.CONFIRM):
            await told(coalition, redemption, "rejected", 1)
            assert (await coalition.get(redemption)).state is State.RELEASING
        return fact

    monkeypatch.setattr(partner, "fence", fence)
    return partner


@pytest.mark.parametrize("kind", ["confirmed", "fulfilled"])
async def test_an_acknowledgement_that_comes_after_the_release_counts(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    held = await coalition.held(*TICKET)
    partner = refusing_while_fenced(coalition, held, monkeypatch)
    partner.script["confirm"] = ["pending"]
    await coalition.confirm(held)
    await coalition.work(seconds=300)
    assert (await coalition.get(held)).state is State.RELEASED
    assert await outcomes(coalition, held, Step.CONFIRM) == ["fenced", "rejected"]

    for version in (2, 2, 3):
        await told(coalition, held, kind, version)
        await broke_its_fence(coalition, held)


async def test_an_acknowledgement_after_a_late_confirmation_leaves_it(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the booking was told, nobody knew of the fence: it is taken, once and for all."""
    held = await coalition.held(*TICKET)
    partner = refusing_while_fenced(coalition, held, monkeypatch)
    acknowledge = partner.fence

    async def fence(op_key: str) -> Fact:
        fact = await acknowledge(op_key)
        if op_key == held.op_key(Step.CONFIRM):
            await told(coalition, held, "confirmed", 2)
        return fact

    monkeypatch.setattr(partner, "fence", fence)
    partner.script["confirm"] = ["pending"]
    await coalition.confirm(held)
    await coalition.work(seconds=300)
    await told(coalition, held, "confirmed", 2)
    assert (await coalition.get(held)).state is State.LATE_CONFIRMED
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)


async def test_what_nobody_confirmed_and_is_fenced_is_not_taken(coalition: Coalition) -> None:
    """The member gave it up, the partner let the hold go: no points for what it books then."""
    held = await coalition.held(*TICKET)
    await coalition.redemptions.release(
        member_id=held.member_id, redemption_id=held.id, key=coalition.key()
    )
    assert await outcomes(coalition, held, Step.HOLD) == ["fenced", "held"]
    await told(coalition, held, "confirmed", 1)
    await broke_its_fence(coalition, held)


async def late_hold(coalition: Coalition) -> Redemption:
    """Refused, and held after all: it is to be let go."""
    partner = coalition.partners["M05"]
    partner.script["hold"] = ["reject"]
    with pytest.raises(PartnerRejected):
        await coalition.held(*TICKET)
    (op_key,) = partner.operations
    partner.operations[op_key] = fact = Fact(op_key, Outcome.HELD, 1, hold_ref="h/late")
    settings, now = coalition.redemptions.settings, coalition.clock.now()
    async with coalition.database.transaction() as tx:
        return await effects.apply_fact(tx, fact, source="poll", settings=settings, now=now)


async def test_a_late_hold_that_is_let_go_is_known_to_be_fenced(coalition: Coalition) -> None:
    held = await late_hold(coalition)
    await coalition.jobs()
    assert await outcomes(coalition, held, Step.HOLD) == ["fenced", "held", "rejected"]
    await told(coalition, held, "confirmed", 1)
    async with coalition.database.reading() as tx:
        found = await redemptions.findings(tx, redemption_id=held.id)
    assert sorted(row.code for row in found) == ["FENCE_VIOLATED", "LATE_HOLD"]
    assert await coalition.wallet("mbr_demo_01", "P-LL") == WHOLE


async def test_a_late_hold_that_is_sold_already_is_a_late_confirmation(
    coalition: Coalition,
) -> None:
    held = await late_hold(coalition)
    op_key = held.op_key(Step.HOLD)
    coalition.partners["M05"].operations[op_key] = Fact(op_key, Outcome.CONFIRMED, 2, "b/1")
    await coalition.jobs()
    assert (await coalition.get(held)).state is State.LATE_CONFIRMED
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)


async def test_a_late_hold_that_is_not_let_go_yet_is_asked_again(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await late_hold(coalition)
    partner = coalition.partners["M05"]

    async def busy(op_key: str) -> Fact:
        return Fact(op_key, Outcome.IN_FLIGHT)

    with monkeypatch.context() as patched:
        patched.setattr(partner, "fence", busy)
        await coalition.jobs()
    await coalition.jobs(later=True)
    assert ("fence", held.op_key(Step.HOLD)) in partner.effects
