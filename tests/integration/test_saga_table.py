"""The failure table of the saga, cell by cell: what happens at each step when something goes wrong.

Row and column of contracts §5.4, and the test that holds the cell. `saga` is test_saga.py, `lies`
test_partner_lies.py, `kill` e2e/test_kill.py, `reviews` test_reviews.py; the rest is here.

step        cell        test
1 quote     no          test_a_quote_that_the_partner_refuses_shows_why
            unknown     lies: test_a_price_that_is_none_is_no_answer
            late        test_an_expired_quote_is_refused
2 points    no          saga: test_points_short_by_one_hold_nothing
            unknown     saga: test_a_quote_is_used_once_whatever_the_key
            crash       kill: test_gateway_killed_in_a_call[hold-*]
            double      saga: test_twenty_clients_race_for_the_points_of_four
3 cover     no          test_a_refused_cover_asks_nobody
4 hold      no          saga: test_a_no_to_the_hold_gives_everything_back
            unknown     saga: test_a_lost_hold_is_in_doubt_until_the_partner_says,
                        test_a_hold_is_sent_again_three_times_and_then_fenced
            crash       kill: test_worker_killed_while_it_sends_a_lost_call_again[hold-*]
            late        test_a_hold_that_comes_after_its_fence_is_let_go
            shorter     test_a_shorter_hold_bounds_the_confirm
5 accept    expired     saga: test_a_hold_nobody_confirms_is_let_go
            price       saga: test_redeeming_at_once_never_accepts_more_than_the_catalog_shows
            twice       test_a_second_confirm_asks_nothing
6 confirm   no          saga: test_a_no_to_the_confirm_gives_everything_back
            unknown     saga: test_a_lost_confirm_neither_voids_nor_burns,
                        test_a_silent_partner_is_fenced_after_the_deadline
            crash       kill: test_gateway_killed_in_a_call[confirm-*]
            double      saga: test_an_asynchronous_confirm_is_decided_by_webhook_once
            contradicts saga: test_a_contradiction_needs_a_person
            key clash   reviews: test_a_key_that_conflicts_needs_a_person_at_once
7 commit    crash       kill: test_gateway_killed_in_a_call[confirm-stored]
8 artefact  late        saga: test_an_asynchronous_confirm_is_decided_by_webhook_once
9 fulfil    early       test_a_use_that_comes_first_implies_the_confirm
            overdue     test_saga_breaks.py: test_a_use_that_nobody_tells_is_a_break
10 cancel   no          test_a_refused_cancellation_leaves_it_committed
            no, again   test_a_cancellation_that_is_asked_again_after_a_no_stays_refused
            unknown     saga: test_a_lost_cancellation_keeps_the_points_burned
            crash       kill: test_gateway_killed_in_a_call[cancel-*]
            race        test_the_partners_versions_decide_between_cancel_and_use
11 fault    partner     saga: test_a_partner_at_fault_pays_for_the_compensation
12 settled  reversal    test_a_reversal_after_settlement_is_a_new_obligation

Late confirmations, contracts §5.5:
1 points are there      saga: test_a_late_confirmation_takes_the_points_again
2 points are spent      test_a_late_confirmation_without_points_is_cancelled
3 refused, as consumed  test_a_late_confirmation_that_was_consumed_is_uncovered
  its end was lost      test_a_late_cancellation_that_nobody_noted_is_not_done_twice
4 after a fence         test_a_confirmation_after_the_fence_is_the_partners
  known since           test_fences.py: test_an_acknowledgement_that_comes_after_the_release_counts

Whatever the table says, a partner that fails often is asked nothing new, and a merchant that is
paused neither; what is past HELD goes its way: the tests at the end.
"""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.catalog.model import OfferSuspended
from gateway.errors import PartnerUnavailable
from gateway.merchants import service as merchants
from gateway.oauth.client import PartnerLine
from gateway.points import service as points
from gateway.points.service import HoldAlreadyResolved, InsufficientPoints
from gateway.ports import CancelTooLate, Fact, HoldExpired, Outcome, QuoteExpired, SoldOut
from gateway.redemption import effects
from gateway.redemption import service as redemptions
from gateway.redemption.model import Redemption, State, Step
from gateway.settings import Settings
from gateway.settlement import service as settlement
from gateway.settlement.service import CoverExceeded
from tests.integration.conftest import Coalition
from tests.support.scripted import ScriptedPartner

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))  # 4,500 of 20,000


async def findings(coalition: Coalition, redemption: Redemption) -> list[str]:
    async with coalition.database.reading() as tx:
        rows = await redemptions.findings(tx, redemption_id=redemption.id)
    return [row.code for row in rows]


async def released_after_no_answer(coalition: Coalition) -> Redemption:
    """Confirm pending, then refused by webhook: released, without a fence of the confirm."""
    held = await coalition.held(*TICKET)
    coalition.partners["M05"].script["confirm"] = ["pending"]
    await coalition.confirm(held)
    await coalition.told(held, "rejected", 1)
    await coalition.redemptions.work()
    assert (await coalition.get(held)).state is State.RELEASED
    return held


async def spend_everything(coalition: Coalition) -> None:
    for _ in range(4):
        await coalition.redeemed(*TICKET)


def test_every_test_that_the_table_names_is_there() -> None:
    named = set(re.findall(r"test_\w+", (__doc__ or "").replace(".py", " ")))
    here = [path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("*.py")]
    files = {path.stem for path in Path(__file__).parents[1].rglob("test_*.py")}
    defined = set(re.findall(r"def (test_\w+)", "".join(here)))
    assert named - files - defined == set()


# -- rows 1 to 5 ----------------------------------------------------------------------------------


async def test_a_quote_that_the_partner_refuses_shows_why(coalition: Coalition) -> None:
    coalition.partners["M05"].script["quote"] = ["reject"]
    with pytest.raises(SoldOut):
        await coalition.quote(*TICKET)


async def test_an_expired_quote_is_refused(coalition: Coalition) -> None:
    quote = await coalition.quote(*TICKET)
    coalition.clock.forward(minutes=6)
    with pytest.raises(QuoteExpired):
        await coalition.redemptions.hold(member_id="mbr_demo_01", quote_id=quote.id, key="k")
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)


async def test_a_refused_cover_asks_nobody(coalition: Coalition) -> None:
    quote = await coalition.quote(*TICKET)
    async with coalition.database.transaction() as tx:
        await settlement.set_cover(tx, merchant_id="M04", collateral_fen=0, net_debit_cap_fen=0)
    with pytest.raises(CoverExceeded):
        await coalition.redemptions.hold(member_id="mbr_demo_01", quote_id=quote.id, key="k")
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)
    assert [verb for verb, _ in coalition.partners["M05"].calls] == ["live", "quote"]


async def test_a_hold_is_sent_again_three_times_and_then_fenced(coalition: Coalition) -> None:
    partner = coalition.partners["M05"]
    partner.script["hold"] = ["lost_before"] * 9
    held = await coalition.held(*TICKET)
    for _ in range(6):
        await coalition.work(seconds=70)
    verbs = [verb for verb, key in partner.calls if key == held.op_key(Step.HOLD)]
    assert [verbs.count(verb) for verb in ("hold", "fence")] == [4, 1]
    assert (await coalition.get(held)).state is State.RELEASED
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)


async def test_a_hold_that_comes_after_its_fence_is_let_go(coalition: Coalition) -> None:
    partner = coalition.partners["M05"]
    partner.script["hold"] = ["lost_before"] * 9
    held = await coalition.held(*TICKET)
    for _ in range(6):
        await coalition.work(seconds=70)
    assert (await coalition.get(held)).state is State.RELEASED

    op_key, now = held.op_key(Step.HOLD), coalition.clock.now()
    late = Fact(op_key, Outcome.HELD, hold_ref="h/late")
    partner.operations[op_key] = late
    async with coalition.database.transaction() as tx:
        for _ in range(2):
            await effects.apply_fact(tx, late, source="poll", settings=Settings(), now=now)
    assert await findings(coalition, held) == ["LATE_HOLD"]
    await coalition.jobs()
    assert partner.operations[op_key] == Fact(op_key, Outcome.FENCED)
    assert (await coalition.get(held)).state is State.RELEASED


async def test_a_shorter_hold_bounds_the_confirm(coalition: Coalition) -> None:
    coalition.partners["M05"].script["hold"] = ["short", "short"]
    held = await coalition.held(*TICKET)
    assert (held.hold_until - coalition.clock.now()).total_seconds() == 120
    coalition.clock.forward(seconds=30)
    coalition.partners["M05"].script["confirm"] = ["pending"]
    asked = await coalition.confirm(held)
    assert asked.deadline
    assert (asked.deadline - coalition.clock.now()).total_seconds() == 30  # less the skew

    other = await coalition.held(*TICKET)
    coalition.clock.forward(seconds=60)
    with pytest.raises(HoldExpired):
        await coalition.confirm(other)
    await coalition.work(seconds=61)
    assert (await coalition.get(other)).state is State.RELEASED


async def test_a_second_confirm_asks_nothing(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    assert (await coalition.confirm(done)).state is State.COMMITTED
    verbs = [verb for verb, _ in coalition.partners["M05"].calls]
    assert verbs.count("confirm") == 1


# -- rows 9 to 12 ---------------------------------------------------------------------------------


async def test_a_use_that_comes_first_implies_the_confirm(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    coalition.partners["M05"].script["confirm"] = ["lost_after"]
    await coalition.confirm(held)
    await coalition.told(held, "fulfilled", 2)
    done = await coalition.get(held)
    assert (done.state, done.committed_at) == (State.FULFILLED, coalition.clock.now())
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)


async def test_a_refused_cancellation_leaves_it_committed(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    ask = {"member_id": "mbr_demo_01", "redemption_id": done.id}
    offered = await coalition.redemptions.cancel_quote(**ask)
    coalition.partners["M05"].script["cancel"] = ["reject"]
    with pytest.raises(CancelTooLate):
        await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key="c")
    assert (await coalition.get(done)).state is State.COMMITTED
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)


async def test_a_cancellation_that_is_asked_again_after_a_no_stays_refused(
    coalition: Coalition,
) -> None:
    done = await coalition.redeemed(*TICKET)
    partner, op_key = coalition.partners["M05"], done.op_key(Step.CANCEL)
    ask = {"member_id": "mbr_demo_01", "redemption_id": done.id}
    partner.script["cancel"] = ["reject", "conflict"]  # Another body under the same key.
    partner.operations[op_key] = Fact(op_key, Outcome.REJECTED)
    for key in ("first", "second"):
        offered = await coalition.redemptions.cancel_quote(**ask)
        with contextlib.suppress(CancelTooLate):
            await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key=key)
    await coalition.work(seconds=2)
    assert (await coalition.get(done)).state is State.COMMITTED
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)


@pytest.mark.parametrize(
    ("used", "state"),
    [(1, State.CANCELLED), (2, State.NEEDS_REVIEW), (3, State.FULFILLED)],
)
async def test_the_partners_versions_decide_between_cancel_and_use(
    coalition: Coalition, used: int, state: State
) -> None:
    done = await coalition.redeemed(*TICKET)  # The cancellation's version will be 2.
    ask = {"member_id": "mbr_demo_01", "redemption_id": done.id}
    offered = await coalition.redemptions.cancel_quote(**ask)
    coalition.partners["M05"].script["cancel"] = ["lost_after"]
    await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key="c")
    await coalition.told(done, "fulfilled", used)
    assert (await coalition.get(done)).state is State.IN_DOUBT
    await coalition.work(seconds=2)
    assert (await coalition.get(done)).state is state
    back = 20_000 if state is State.CANCELLED else 15_500
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (back, 0)


@pytest.mark.parametrize(
    ("version", "state", "found"),
    [
        (1, State.FULFILLED, []),
        (2, State.NEEDS_REVIEW, ["STATUS_DIFF"]),
        (3, State.FULFILLED, ["STATUS_DIFF"]),
    ],
)
async def test_a_cancellation_after_the_use_is_for_people(
    coalition: Coalition, version: int, state: State, found: list[str]
) -> None:
    done = await coalition.redeemed(*TICKET)
    await coalition.told(done, "fulfilled", 2)
    await coalition.told(done, "cancelled", version)
    assert (await coalition.get(done)).state is state
    assert await findings(coalition, done) == found


async def test_a_reversal_after_settlement_is_a_new_obligation(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    await coalition.told(done, "fulfilled", 2)
    async with coalition.database.reading() as tx:
        before = {o.id: o for o in await settlement.obligations(tx, cause_id=done.id)}
    coalition.clock.forward(days=8)
    await coalition.chores()
    async with coalition.database.reading() as tx:
        cut = {o.id: o.window_id for o in await settlement.obligations(tx, cause_id=done.id)}
    await coalition.told(done, "cancelled", 2)  # A tie: two people cancel it after all.
    await coalition.decided(done, "CANCEL", fault="REDEEMER")
    async with coalition.database.reading() as tx:
        after = {o.id: o for o in await settlement.obligations(tx, cause_id=done.id)}
    assert {id_: after[id_].amount_fen for id_ in before} == {
        id_: each.amount_fen for id_, each in before.items()
    }
    assert {id_: after[id_].window_id for id_ in before} == cut  # Nothing is reopened.
    made = [each for id_, each in after.items() if id_ not in before]
    assert {each.window_id for each in made}.isdisjoint(cut.values())
    assert (await coalition.wallet("mbr_demo_01", "P-LL"))[1] == 0


# -- late confirmations ---------------------------------------------------------------------------


async def test_a_late_confirmation_without_points_is_cancelled(coalition: Coalition) -> None:
    late = await released_after_no_answer(coalition)
    await spend_everything(coalition)
    with pytest.raises(InsufficientPoints):
        await coalition.held(*TICKET)
    await coalition.told(late, "confirmed", 2)
    assert (await coalition.get(late)).state is State.RELEASED
    await coalition.jobs()
    assert await findings(coalition, late) == ["LATE_CONFIRM_CANCELLED"]
    assert ("cancel", late.op_key(Step.CANCEL)) in coalition.partners["M05"].effects


async def test_a_booking_that_is_to_be_cancelled_is_not_taken_after_all(
    coalition: Coalition,
) -> None:
    """It is told again when there are points again: no member pays for what is cancelled."""
    late = await released_after_no_answer(coalition)
    await spend_everything(coalition)
    await coalition.told(late, "confirmed", 2)
    await coalition.given(late.member_id, 1_000_000)
    before = await coalition.wallet(late.member_id, "P-LL")
    await coalition.told(late, "confirmed", 2)
    await coalition.jobs()
    await coalition.told(late, "confirmed", 2)
    assert (await coalition.get(late)).state is State.RELEASED
    assert await findings(coalition, late) == ["LATE_CONFIRM_CANCELLED"]
    assert await coalition.wallet(late.member_id, "P-LL") == before


async def test_a_late_confirmation_that_was_consumed_is_uncovered(coalition: Coalition) -> None:
    late = await released_after_no_answer(coalition)
    await spend_everything(coalition)
    await coalition.told(late, "confirmed", 2)
    coalition.partners["M05"].script["cancel_quote"] = ["not_sent", "reject"]
    await coalition.jobs()
    assert await findings(coalition, late) == []  # Not asked yet: tried again, for ever.
    await coalition.jobs(later=True)
    assert await findings(coalition, late) == ["LATE_CONFIRM_UNCOVERED"]
    assert (await coalition.wallet("mbr_demo_01", "P-LL"))[0] >= 0


async def test_a_late_cancellation_that_nobody_noted_is_not_done_twice(
    coalition: Coalition,
) -> None:
    late = await released_after_no_answer(coalition)
    await spend_everything(coalition)
    await coalition.told(late, "confirmed", 2)
    partner = coalition.partners["M05"]
    partner.script["cancel"] = ["lost_after"]
    await coalition.jobs()
    assert await findings(coalition, late) == []
    partner.script["cancel_quote"] = ["reject"]  # It is cancelled: there is nothing to quote.
    await coalition.jobs(later=True)
    assert await findings(coalition, late) == ["LATE_CONFIRM_CANCELLED"]


async def test_a_compensation_that_waited_is_issued_once(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    await coalition.told(done, "cancelled", 2)
    after = await coalition.wallet("mbr_demo_01", "P-LL")
    assert after == (20_450, 0)
    payload = {"redemption": done.id, "leg": 1}
    for _ in range(2):  # A worker whose lease has run out, and the one that took over.
        assert await coalition.redemptions.aftermath.compensate_again(payload)
    assert await coalition.wallet("mbr_demo_01", "P-LL") == after
    async with coalition.database.reading() as tx:
        rows = await settlement.obligations(tx, cause_id=done.id)
    assert [row.type for row in rows].count("COMPENSATION") == 1


async def test_a_confirmation_after_the_fence_is_the_partners(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    coalition.partners["M05"].script["confirm"] = ["lost_before"]
    coalition.partners["M05"].script["status"] = ["not_sent"] * 2
    await coalition.confirm(held)
    await coalition.work(seconds=2)
    await coalition.work(seconds=20)
    await coalition.work(seconds=300)
    assert (await coalition.get(held)).fenced
    await coalition.told(held, "confirmed", 2)
    assert (await coalition.get(held)).state is State.RELEASED
    assert await findings(coalition, held) == ["FENCE_VIOLATED"]
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)


# -- the breaker, and a paused merchant -----------------------------------------------------------


class Lined(ScriptedPartner):
    """A scripted partner behind a real line with its breaker; `up` says whether it answers."""

    up = True

    @classmethod
    def around(cls, partner: ScriptedPartner) -> "Lined":
        made = cls(partner.code, partner.prices, partner.now)
        made.__dict__ |= partner.__dict__
        wire = httpx2.MockTransport(made._answer)
        made.line = PartnerLine(wire, clock=None, timeout=5, concurrency=4)
        for verb in (
            "live",
            "quote",
            "hold",
            "confirm",
            "status",
            "fence",
            "cancel_quote",
            "cancel",
        ):
            setattr(made, verb, made._through(getattr(made, verb), verb))
        return made

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if not self.up:
            raise httpx2.ConnectError("down", request=request)
        return httpx2.Response(200)

    def _through(self, act: Callable[..., Any], verb: str) -> Callable[..., Any]:
        async def sent(*given: Any, **named: Any) -> Any:
            request = httpx2.Request("POST", f"http://partner.test/{verb}")
            try:
                await self.line.handle_async_request(request)
            except httpx2.ConnectError as error:
                raise PartnerUnavailable(merchant=self.code, reason=str(error)) from error
            return await act(*given, **named)

        return sent


async def opened(coalition: Coalition) -> Lined:
    """The cinema, up again, behind a breaker that ten failures have opened."""
    lined = Lined.around(coalition.partners["M05"])
    coalition.partners["M05"] = lined
    lined.up = False
    for _ in range(10):
        with pytest.raises(PartnerUnavailable):
            await coalition.quote(*TICKET)
    lined.up = True
    assert lined.line.breaker.open
    return lined


async def test_an_open_breaker_stops_quotes_and_holds_at_once(coalition: Coalition) -> None:
    quote = await coalition.quote(*TICKET)
    lined = await opened(coalition)
    before = len(lined.calls)
    with pytest.raises(PartnerUnavailable):
        await coalition.quote(*TICKET)
    with pytest.raises(PartnerUnavailable):
        await coalition.redemptions.hold(member_id="mbr_demo_01", quote_id=quote.id, key="k")
    assert len(lined.calls) == before
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)


async def test_an_open_breaker_lets_a_confirm_through(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    await opened(coalition)
    assert (await coalition.confirm(held)).state is State.COMMITTED


@pytest.mark.parametrize("step", ["hold", "confirm"])
async def test_an_open_breaker_lets_polls_and_fences_through(
    coalition: Coalition, step: str
) -> None:
    partner = coalition.partners["M05"]
    partner.script[step] = ["lost_before"]
    doubtful = await (coalition.held(*TICKET) if step == "hold" else coalition.redeemed(*TICKET))
    assert doubtful.state is State.IN_DOUBT
    lined = await opened(coalition)
    await coalition.work(minutes=28)
    assert (await coalition.get(doubtful)).state is State.RELEASED
    assert [verb for verb, _ in lined.calls if verb == "status"]
    assert ("fence", doubtful.op_key(Step.HOLD)) in lined.effects


async def test_an_open_breaker_lets_a_cancellation_through(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    await opened(coalition)
    ask = {"member_id": "mbr_demo_01", "redemption_id": done.id}
    offered = await coalition.redemptions.cancel_quote(**ask)
    cancelled, _ = await coalition.redemptions.cancel(**ask, cancel_quote_id=offered.id, key="c")
    assert cancelled.state is State.CANCELLED


async def test_a_paused_merchant_takes_nothing_new_and_ends_what_it_has(
    coalition: Coalition,
) -> None:
    quote = await coalition.quote(*TICKET)
    held = await coalition.held(*TICKET)
    doubtful = await coalition.held(*TICKET)
    coalition.partners["M05"].script["confirm"] = ["lost_before"]
    await coalition.confirm(doubtful)
    async with coalition.database.transaction() as tx:
        await merchants.pause(tx, id="M05", paused=True)

    with pytest.raises(OfferSuspended):
        await coalition.quote(*TICKET)
    with pytest.raises(OfferSuspended):
        await coalition.redemptions.hold(member_id="mbr_demo_01", quote_id=quote.id, key="k")
    assert (await coalition.confirm(held)).state is State.COMMITTED
    await coalition.work(seconds=3)
    assert (await coalition.get(doubtful)).state is State.COMMITTED
    async with coalition.database.transaction() as tx:
        await merchants.pause(tx, id="M05", paused=False)
    made, _ = await coalition.redemptions.hold(member_id="mbr_demo_01", quote_id=quote.id, key="k")
    assert made.state is State.HELD


async def test_what_is_released_cannot_be_confirmed(coalition: Coalition) -> None:
    late = await released_after_no_answer(coalition)
    with pytest.raises(HoldAlreadyResolved):
        await coalition.confirm(late)
    async with coalition.database.reading() as tx:
        holds = await points.held(tx, late.id)
    assert {hold.state for hold in holds} == {"VOIDED"}
