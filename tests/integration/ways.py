"""Ways a redemption can go: what its partner says, what people do, how time passes."""

import contextlib
from typing import Any

import pytest

from gateway.catalog.pricing import LegInput
from gateway.errors import PartnerRejected, PartnerUnavailable
from gateway.ports import CancelTooLate, Fact, Outcome
from gateway.redemption.model import Redemption, State, Step
from tests.integration.conftest import Coalition

MEMBER = "mbr_demo_01"
TICKET = (MEMBER, "XH-01", ("P-LL", None))


class Ways:
    """Each method is a way; what it returns is compared."""

    def __init__(self, coalition: Coalition) -> None:
        self.coalition = coalition
        self.redemptions = coalition.redemptions
        self.partner = coalition.partners["M05"]
        self.told = 0

    def script(self, **words: str) -> None:
        """What the cinema does next: `confirm="lost_before reject"`."""
        for verb, said in words.items():
            self.partner.script[verb] = said.split()

    async def tell(self, redemption: Redemption, kind: str, version: int, **more: Any) -> None:
        self.told += 1
        body = {"id": f"e{self.told}", "kind": f"booking.{kind}", "version": version}
        body |= {"op_key": redemption.op_key(Step.CONFIRM)} | more
        merchant = redemption.merchant_id
        await self.redemptions.inbox.receive(merchant, f"e{self.told}", body)

    async def cancel(self, redemption: Redemption) -> None:
        ask = {"member_id": MEMBER, "redemption_id": redemption.id}
        offered = await self.redemptions.cancel_quote(**ask)
        await self.redemptions.cancel(**ask, cancel_quote_id=offered.id, key="c")

    async def refused(self) -> Redemption:
        """A confirm that the partner refuses: released."""
        held = await self.coalition.held(*TICKET)
        self.script(confirm="reject")
        with pytest.raises(PartnerRejected):
            await self.coalition.confirm(held)
        return held

    async def spend(self) -> None:
        for _ in range(4):
            await self.coalition.redeemed(*TICKET)

    # -- to the end ---------------------------------------------------------------------------

    async def bought_and_used(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.coalition.clock.forward(seconds=30)
        await self.tell(done, "fulfilled", 2)
        return done

    async def bought_at_once(self) -> Redemption:
        asked: dict[str, Any] = {"member_id": MEMBER, "offer_id": "XH-01", "slot": None}
        asked |= {"quantity": 1, "bill_fen": None, "cash_fen": None}
        done, _ = await self.redemptions.redeem(**asked, legs=[LegInput("P-LL", None)], key="k")
        return done

    async def bought_with_own_points(self) -> Redemption:
        return await self.coalition.redeemed("mbr_demo_18", "CA-01", ("P-CA", None))

    async def used_for_less(self) -> Redemption:
        done = await self.coalition.redeemed(
            "mbr_demo_07", "KX-03", ("P-LL", 8_000), ("P-KX", None)
        )
        self.coalition.clock.forward(seconds=30)
        await self.tell(done, "fulfilled", 2, final_fare_fen=7_500)
        return done

    async def taken_at_the_till(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.coalition.clock.forward(seconds=30)
        taken: dict[str, Any] = {"merchant_id": "M05", "code": "C0000001", "holder": None}
        await self.redemptions.verify_voucher(**taken, key="v")
        return done

    async def decided_later(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        self.script(confirm="pending", status="pending")
        await self.coalition.confirm(held)
        await self.coalition.work(seconds=2)
        await self.tell(held, "confirmed", 3, artefacts={"code": "K1"})
        return held

    async def used_before_it_was_confirmed(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        self.script(confirm="pending")
        await self.coalition.confirm(held)
        await self.tell(held, "fulfilled", 2)
        return held

    async def a_short_hold(self) -> Redemption:
        self.script(hold="short")
        return await self.coalition.held(*TICKET)

    # -- answers that are lost ----------------------------------------------------------------

    async def a_confirm_lost_before(self) -> Redemption:
        self.script(confirm="lost_before")
        done = await self.coalition.redeemed(*TICKET)
        await self.coalition.work(seconds=2)
        return done

    async def a_confirm_lost_after(self) -> Redemption:
        self.script(confirm="lost_after")
        done = await self.coalition.redeemed(*TICKET)
        await self.coalition.work(seconds=2)
        return done

    async def a_confirm_in_doubt(self) -> Redemption:
        self.script(confirm="lost_before")
        return await self.coalition.redeemed(*TICKET)

    async def a_confirm_fenced(self) -> Redemption:
        self.script(confirm="lost_before", status="not_sent not_sent", fence="lost_after")
        held = await self.coalition.redeemed(*TICKET)
        for _ in range(9):
            await self.coalition.work(seconds=100)
        return held

    async def a_hold_lost_after(self) -> Redemption:
        self.script(hold="lost_after")
        held = await self.coalition.held(*TICKET)
        await self.coalition.work(seconds=2)
        return held

    async def a_hold_lost_for_good(self) -> Redemption:
        self.script(hold=" ".join(["lost_before"] * 9))
        held = await self.coalition.held(*TICKET)
        for _ in range(9):
            await self.coalition.work(seconds=100)
        return held

    async def a_hold_that_comes_late(self) -> Redemption:
        self.script(hold="lost_before", status="not_sent")
        held = await self.coalition.held(*TICKET)
        op_key = held.op_key(Step.HOLD)
        self.partner.operations[op_key] = Fact(op_key, Outcome.REJECTED, reason="full")
        await self.coalition.work(seconds=20)
        await self.coalition.work(seconds=20)
        self.partner.operations[op_key] = Fact(op_key, Outcome.HELD, hold_ref="h/9")
        await self.redemptions.saga._apply(self.partner.operations[op_key], source="poll")
        return held

    async def doubt_that_is_too_old(self) -> Redemption:
        self.script(confirm="lost_before", status=" ".join(["not_sent"] * 99))
        held = await self.coalition.redeemed(*TICKET)
        self.script(status="", fence="")
        self.partner.script["status"] = ["not_sent"] * 99
        for _ in range(2):
            await self.coalition.work(days=2)
        self.partner.script["status"] = []
        await self.redemptions.fence(redemption_id=held.id)
        return held

    async def never_sent(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        self.script(confirm="not_sent")
        with pytest.raises(PartnerUnavailable) as refusal:
            await self.coalition.confirm(held)
        assert refusal.value.context == {"merchant": "M05", "retry_after_seconds": 30}
        return held

    # -- let go -------------------------------------------------------------------------------

    async def a_confirm_refused(self) -> Redemption:
        return await self.refused()

    async def a_hold_that_runs_out(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        await self.coalition.work(hours=1)
        return held

    async def a_hold_given_up(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        self.script(fence="lost_before")
        await self.redemptions.release(member_id=MEMBER, redemption_id=held.id, key="r")
        await self.coalition.work(seconds=5)
        return held

    async def confirmed_late(self) -> Redemption:
        held = await self.refused()
        self.coalition.clock.forward(seconds=30)
        await self.tell(held, "confirmed", 2)
        return held

    async def confirmed_too_late(self) -> Redemption:
        held = await self.refused()
        await self.spend()
        op_key = held.op_key(Step.CONFIRM)
        self.partner.operations[op_key] = Fact(op_key, Outcome.CONFIRMED, 2, "b/9")
        await self.tell(held, "confirmed", 2)
        await self.tell(held, "confirmed", 3)
        await self.coalition.jobs()
        return held

    async def confirmed_after_its_fence(self) -> Redemption:
        held = await self.a_confirm_fenced()
        await self.tell(held, "confirmed", 2)
        return held

    async def used_after_its_release(self) -> Redemption:
        held = await self.refused()
        await self.tell(held, "fulfilled", 2)
        return held

    # -- cancelled ----------------------------------------------------------------------------

    async def cancelled_by_the_member(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.coalition.clock.forward(seconds=30)
        await self.cancel(done)
        return done

    async def a_cancellation_refused(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.script(cancel="reject")
        with pytest.raises(CancelTooLate):
            await self.cancel(done)
        return done

    async def a_cancellation_never_sent(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.script(cancel="not_sent")
        with pytest.raises(PartnerUnavailable):
            await self.cancel(done)
        return done

    async def a_cancellation_lost(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.script(cancel="lost_before")
        await self.cancel(done)
        await self.coalition.work(seconds=2)
        return done

    async def cancelled_by_the_partner(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.coalition.clock.forward(seconds=30)
        await self.tell(done, "cancelled", 2)
        await self.tell(done, "fulfilled", 1)
        return done

    async def used_while_it_is_cancelled(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.script(cancel="lost_before reject")
        await self.cancel(done)
        await self.tell(done, "fulfilled", 5)
        with contextlib.suppress(CancelTooLate):
            await self.coalition.work(seconds=2)
        await self.coalition.work(seconds=2)
        return done

    async def cancelled_and_used_at_once(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.script(cancel="lost_after")
        await self.cancel(done)
        await self.tell(done, "fulfilled", 2)
        await self.coalition.work(seconds=2)
        return done

    async def used_after_it_was_cancelled(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        await self.tell(done, "cancelled", 2)
        await self.tell(done, "fulfilled", 5)
        return done

    async def cancelled_after_it_was_used(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        await self.tell(done, "fulfilled", 2)
        await self.tell(done, "cancelled", 5)
        return done

    async def used_and_cancelled_of_one_version(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        await self.tell(done, "fulfilled", 2)
        await self.tell(done, "cancelled", 2)
        return done

    async def confirmed_while_it_is_let_go(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        self.script(confirm="reject", fence="lost_before")
        with pytest.raises(PartnerRejected):
            await self.coalition.confirm(held)
        self.coalition.clock.forward(seconds=5)
        await self.tell(held, "confirmed", 2)
        return held

    async def a_cancellation_decided_later(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.script(cancel="lost_after", status="pending")
        await self.cancel(done)
        await self.coalition.work(seconds=2)
        assert (await self.coalition.get(done)).state is State.IN_DOUBT
        await self.coalition.work(seconds=5)
        return done

    # -- what else may come ----------------------------------------------------------------------

    async def nobody_came(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.coalition.clock.forward(seconds=30)
        await self.tell(done, "no_show", 2)
        await self.tell(done, "no_show", 2)
        return done

    async def own_points_cancelled_by_the_partner(self) -> Redemption:
        done = await self.coalition.redeemed("mbr_demo_18", "CA-01", ("P-CA", None))
        self.coalition.clock.forward(seconds=30)
        await self.tell(done, "cancelled", 2)
        return done

    async def a_ride_cancelled_by_the_partner(self) -> Redemption:
        legs = (("P-LL", 8_000), ("P-KX", None))
        done = await self.coalition.redeemed("mbr_demo_07", "KX-03", *legs)
        self.coalition.clock.forward(seconds=30)
        await self.tell(done, "cancelled", 2)
        return done

    async def refused_later(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        self.script(confirm="pending")
        await self.coalition.confirm(held)
        self.coalition.clock.forward(seconds=1)
        await self.tell(held, "rejected", 2)
        await self.coalition.work(seconds=1)
        return held

    async def never_decided(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        self.script(confirm="pending", status=" ".join(["pending"] * 5))
        await self.coalition.confirm(held)
        for _ in range(5):
            await self.coalition.work(seconds=30)
        return held

    async def a_late_hold_that_is_let_go(self) -> Redemption:
        held = await self.a_hold_that_comes_late()
        await self.coalition.jobs()
        return held

    async def a_hold_that_was_refused_after_all(self) -> Redemption:
        self.script(hold="lost_before")
        held = await self.coalition.held(*TICKET)
        op_key = held.op_key(Step.HOLD)
        self.partner.operations[op_key] = Fact(op_key, Outcome.REJECTED, reason="full")
        await self.coalition.work(seconds=20)
        return held

    async def a_confirm_that_is_not_let_in(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        self.script(confirm="throttled")
        with pytest.raises(PartnerUnavailable) as refusal:
            await self.coalition.confirm(held)
        assert refusal.value.context == {"merchant": "M05", "retry_after_seconds": 90}
        return held

    async def a_question_that_is_not_let_in(self) -> Redemption:
        self.script(confirm="lost_after", status="throttled throttled")
        held = await self.coalition.redeemed(*TICKET)
        for _ in range(3):
            await self.coalition.work(seconds=5)
        return held

    async def a_fence_that_finds_it_sold(self) -> Redemption:
        self.script(confirm="lost_after", status=" ".join(["not_sent"] * 3))
        held = await self.coalition.redeemed(*TICKET)
        await self.coalition.work(seconds=2)
        await self.redemptions.fence(redemption_id=held.id)
        return held

    async def a_fence_without_an_answer(self) -> Redemption:
        self.script(confirm="lost_before", fence="lost_before")
        held = await self.coalition.redeemed(*TICKET)
        await self.redemptions.fence(redemption_id=held.id)
        return held

    async def confirmed_by_the_worker(self) -> Redemption:
        return await self.left_held(seconds=3)

    async def too_late_for_the_worker(self) -> Redemption:
        return await self.left_held(hours=2)

    async def left_held(self, **by: float) -> Redemption:
        """Wanted confirmed at once; the process ended after the hold."""
        quote = await self.coalition.quote(*TICKET)
        given = {"member_id": MEMBER, "quote_id": quote.id, "auto_confirm": True}
        held, _ = await self.redemptions.hold(**given, key="h")
        await self.coalition.work(**by)
        return held

    async def a_cancellation_under_way(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.script(cancel="pending", status="pending")
        await self.cancel(done)
        await self.coalition.work(seconds=2)
        self.script(status="lost_before")
        await self.coalition.work(seconds=5)
        return done

    async def a_cancellation_nobody_answers_about(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.script(cancel="lost_before", status="not_sent lost_before throttled")
        await self.cancel(done)
        for _ in range(3):
            await self.coalition.work(seconds=5)
        return done

    async def a_cancellation_an_operator_asks_about(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.script(cancel="lost_after", status="not_sent")
        await self.cancel(done)
        for _ in range(2):
            await self.redemptions.fence(redemption_id=done.id)
        return done

    async def a_cancellation_too_long_in_doubt(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.script(cancel="lost_after", status="not_sent not_sent")
        await self.cancel(done)
        await self.coalition.work(seconds=2)
        await self.coalition.work(hours=25)
        await self.tell(done, "fulfilled", 1)
        await self.redemptions.fence(redemption_id=done.id)
        return done

    async def used_twice_in_other_words(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        await self.tell(done, "fulfilled", 2)
        await self.tell(done, "no_show", 3)
        await self.tell(done, "fulfilled", 1)
        await self.tell(done, "confirmed", 9)
        await self.tell(done, "rejected", 9)
        return done

    async def cancelled_and_confirmed_after_its_release(self) -> Redemption:
        held = await self.refused()
        await self.tell(held, "cancelled", 4)
        await self.tell(held, "confirmed", 3)
        await self.tell(held, "fulfilled", 3)
        return held

    async def cancelled_while_it_is_let_go(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        self.script(confirm="reject", fence="lost_before")
        with pytest.raises(PartnerRejected):
            await self.coalition.confirm(held)
        await self.tell(held, "cancelled", 4)
        await self.tell(held, "confirmed", 3)
        return held

    async def confirmed_before_it_was_asked(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        await self.tell(held, "confirmed", 1)
        await self.tell(held, "cancelled", 1)
        return held

    # -- people decide ------------------------------------------------------------------------

    async def conflicting(self) -> Redemption:
        held = await self.coalition.held(*TICKET)
        self.script(confirm="conflict")
        await self.coalition.confirm(held)
        return held

    async def a_conflict_decided_as_bought(self) -> Redemption:
        held = await self.conflicting()
        self.coalition.clock.forward(seconds=30)
        await self.coalition.decided(held, "COMMIT", evidence="b/7")
        return held

    async def a_conflict_decided_as_let_go(self) -> Redemption:
        held = await self.conflicting()
        self.coalition.clock.forward(seconds=30)
        await self.coalition.decided(held, "RELEASE")
        await self.coalition.work(seconds=1)
        return held

    async def a_lost_hold_decided_as_let_go(self) -> Redemption:
        self.script(hold="conflict")
        held = await self.coalition.held(*TICKET)
        await self.coalition.decided(held, "RELEASE")
        return held

    async def a_contradiction(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        await self.tell(done, "rejected", 1)
        return done

    async def a_contradiction_decided_as_cancelled(self) -> Redemption:
        done = await self.a_contradiction()
        self.coalition.clock.forward(seconds=30)
        await self.coalition.decided(done, "CANCEL", fault="REDEEMER")
        return done

    async def a_contradiction_decided_as_it_is(self) -> Redemption:
        done = await self.a_contradiction()
        self.coalition.clock.forward(seconds=30)
        await self.coalition.decided(done, "KEEP")
        return done

    async def a_contradiction_after_another(self) -> Redemption:
        done = await self.a_contradiction_decided_as_it_is()
        self.coalition.clock.forward(seconds=30)
        await self.tell(done, "rejected", 1)
        return done

    async def a_lost_hold_decided_as_bought(self) -> Redemption:
        self.script(hold="conflict")
        held = await self.coalition.held(*TICKET)
        self.coalition.clock.forward(seconds=30)
        await self.coalition.decided(held, "COMMIT", evidence="b/7")
        return held

    async def released(self) -> Redemption:
        """Refused, and then confirmed in the same version."""
        held = await self.coalition.held(*TICKET)
        self.script(confirm="pending")
        await self.coalition.confirm(held)
        await self.tell(held, "rejected", 1)
        await self.coalition.work(seconds=1)
        await self.tell(held, "confirmed", 1)
        return held

    async def a_release_decided_as_bought(self) -> Redemption:
        held = await self.released()
        await self.coalition.decided(held, "COMMIT", evidence="b/7")
        return held

    async def a_release_decided_as_let_go(self) -> Redemption:
        held = await self.released()
        await self.coalition.decided(held, "RELEASE")
        await self.coalition.work(seconds=1)
        return held

    async def a_conflicting_cancellation(self) -> Redemption:
        done = await self.coalition.redeemed(*TICKET)
        self.script(cancel="conflict")
        await self.cancel(done)
        await self.tell(done, "fulfilled", 2)
        return done

    async def a_conflicting_cancellation_decided_as_done(self) -> Redemption:
        done = await self.a_conflicting_cancellation()
        self.coalition.clock.forward(seconds=30)
        await self.coalition.decided(done, "CANCEL", fault="MEMBER")
        return done

    async def a_conflicting_cancellation_decided_as_not_done(self) -> Redemption:
        done = await self.a_conflicting_cancellation()
        self.coalition.clock.forward(seconds=30)
        await self.coalition.decided(done, "KEEP")
        await self.coalition.work(seconds=1)
        return done

    async def a_tie_decided_as_used(self) -> Redemption:
        done = await self.used_and_cancelled_of_one_version()
        await self.coalition.decided(done, "KEEP")
        return done
