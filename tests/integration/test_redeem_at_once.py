"""Quote, hold and confirm in one request: what is asked of the partner, and what is left after."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from gateway import db
from gateway.catalog.pricing import LegInput
from gateway.errors import OutcomeUnknown
from gateway.ports import Fact, HoldExpired, Outcome, PriceChanged, past_held
from gateway.redemption import store
from gateway.redemption.model import State, Step
from gateway.redemption.redeeming import _require_shown_price
from tests.integration.conftest import Coalition

MEMBER, PROGRAMME = "mbr_demo_01", "P-LL"
ASKED: dict[str, Any] = {"member_id": MEMBER, "offer_id": "XH-01", "slot": None, "quantity": 1}
ASKED |= {"bill_fen": None, "legs": [LegInput(PROGRAMME, None)], "cash_fen": None}


async def redeem(coalition: Coalition, key: str = "k", **more: Any) -> Any:
    return await coalition.redemptions.redeem(**ASKED | more, key=key)


async def test_what_is_redeemed_at_once_is_committed_once(coalition: Coalition) -> None:
    done, replayed = await redeem(coalition)
    assert (done.state, replayed) == (State.COMMITTED, False)
    partner = coalition.partners["M05"]
    assert [verb for verb, _ in partner.effects] == ["hold", "confirm"]
    assert [key for verb, key in partner.calls if verb in ("hold", "confirm")] == [
        done.op_key(Step.HOLD), done.op_key(Step.CONFIRM)
    ]  # fmt: skip
    assert await coalition.wallet(MEMBER, PROGRAMME) == (15_500, 0)
    again, replayed = await redeem(coalition)
    assert (again, replayed) == (done, True)
    assert len(partner.effects) == 2
    found = await coalition.get(done)
    settings = coalition.redemptions.settings
    assert found.deadline == coalition.clock.now() + timedelta(
        seconds=settings.confirm_deadline_seconds
    )


async def test_a_hold_that_is_too_short_to_confirm_is_not_confirmed(coalition: Coalition) -> None:
    settings = coalition.redemptions.settings
    coalition.redemptions.saga.settings = replace(settings, clock_skew_seconds=120)
    coalition.partners["M05"].script["hold"] = ["short"]
    with pytest.raises(HoldExpired) as refusal:
        await redeem(coalition)
    assert refusal.value.context == {"expired_at": "2026-11-20T01:02:00+00:00"}
    assert "confirm" not in [verb for verb, _ in coalition.partners["M05"].effects]


@pytest.mark.parametrize("verb", ["hold", "confirm"])
async def test_an_answer_that_is_lost_is_asked_for(coalition: Coalition, verb: str) -> None:
    coalition.partners["M05"].script[verb] = ["lost_after"]
    made, _ = await redeem(coalition)
    assert made.state is State.IN_DOUBT
    again, replayed = await redeem(coalition)
    assert (again.id, replayed) == (made.id, True)
    await coalition.work(minutes=2)
    assert (await coalition.get(made)).state is State.COMMITTED


@pytest.mark.parametrize(
    ("shown_fen", "pricing", "refused"),
    [(4_500, "fixed", False), (4_499, "fixed", True), (4_499, "estimate", False)],
)
async def test_a_price_above_the_one_shown_is_refused(
    coalition: Coalition, shown_fen: int, pricing: str, refused: bool
) -> None:
    quote = await coalition.quote(MEMBER, "XH-01", (PROGRAMME, None))
    dearer = replace(quote, shown_fen=shown_fen, pricing=pricing)
    if not refused:
        _require_shown_price(dearer)
        return
    with pytest.raises(PriceChanged) as change:
        _require_shown_price(dearer)
    said = {"old_points": 4_499, "new_points": 4_500, "new_quote": quote.id}
    assert change.value.context.items() >= said.items()


class Watched:
    """A partner that notes whether it is asked past what holds its calls back."""

    def __init__(self, inner: Any, fact: Fact | None = None) -> None:
        self.inner, self.fact = inner, fact
        self.seen: list[tuple[str, bool]] = []

    def __getattr__(self, verb: str) -> Any:
        async def call(*args: Any, **more: Any) -> Any:
            self.seen.append((verb, past_held.get()))
            if self.fact:
                return self.fact
            return await getattr(self.inner, verb)(*args, **more)

        return call


async def test_letting_go_asks_past_what_is_held_back(coalition: Coalition) -> None:
    held = await coalition.held(MEMBER, "XH-01", (PROGRAMME, None))
    watched = Watched(coalition.partners["M05"])
    aftermath = coalition.redemptions.aftermath
    aftermath.partners = {"M05": watched}
    op_key = held.op_key(Step.HOLD)
    before = past_held.get()
    await aftermath.let_go({"redemption": held.id, "op_key": op_key})
    assert watched.seen == [("fence", True)]
    assert past_held.get() == before


async def test_what_a_fence_reports_as_sold_is_applied(coalition: Coalition) -> None:
    coalition.partners["M05"].script["confirm"] = ["lost_before"]
    released = await coalition.redeemed(MEMBER, "XH-01", (PROGRAMME, None))
    await coalition.work(hours=1)
    assert (await coalition.get(released)).state is State.RELEASED
    op_key = released.op_key(Step.CONFIRM)
    sold = Fact(op_key, Outcome.CONFIRMED, 1, "b/9", artefacts={"code": "C1"})
    aftermath = coalition.redemptions.aftermath
    aftermath.partners = {"M05": Watched(None, sold)}
    await aftermath.let_go({"redemption": released.id, "op_key": op_key})
    late = await coalition.get(released)
    assert (late.state, late.booking_ref) == (State.LATE_CONFIRMED, "b/9")
    async with coalition.database.reading() as tx:
        (found,) = await db.read(tx, store.ask_facts(op_key))
    assert "fence" in {fact.source for fact in found if fact.outcome == Outcome.CONFIRMED}
    with pytest.raises(OutcomeUnknown):
        aftermath.partners = {"M05": Watched(None, replace(sold, op_key="other"))}
        await aftermath.let_go({"redemption": released.id, "op_key": op_key})


async def test_a_bill_is_redeemed_at_once(coalition: Coalition) -> None:
    repair = {"member_id": "mbr_wanglei", "offer_id": "CA-07", "bill_fen": 40_000}
    done, _ = await redeem(coalition, **repair, legs=[LegInput("P-CA", 2_000)])
    assert (done.state, done.list_fen, done.cash_fen) == (State.COMMITTED, 40_000, 20_000)


@pytest.mark.campaign
async def test_points_of_thousands_of_small_lots_are_spent(coalition: Coalition) -> None:
    """As of a member who has earned a point at a time, for years."""
    await coalition.given(MEMBER, 1, lots=4_600, earned_on=date(2020, 1, 1))  # Oldest first.
    before, _ = await coalition.wallet(MEMBER, PROGRAMME)
    done, _ = await redeem(coalition)
    assert done.state is State.COMMITTED
    assert await coalition.wallet(MEMBER, PROGRAMME) == (before - 4_500, 0)
