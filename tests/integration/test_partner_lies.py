"""A partner that says what cannot be true: nobody else is moved, nothing is lost, all holds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import PartnerUnavailable
from gateway.ports import Outcome
from gateway.redemption.model import State
from tests.integration.conftest import Coalition
from tests.support.scripted import ScriptedPartner

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))
OTHER = ("mbr_demo_02", "CW-04", ("P-LL", None))


def lies(partner: ScriptedPartner, verb: str, change: Callable[[Any], Any]) -> None:
    """Change a partner's next answers to a verb."""
    honest = getattr(type(partner), verb)

    async def lie(*asked: Any, **how: Any) -> Any:
        return change(await honest(partner, *asked, **how))

    setattr(partner, verb, lie)


ANSWERS = {
    "no booking": {"booking_ref": None},
    "a version beyond all": {"version": 2**40},
    "a version below all": {"version": -1},
    "NUL": {"artefacts": {"code": "a\x00b"}},
    "half a character": {"booking_ref": "\ud800"},
    "a page of text": {"booking_ref": "x" * 100_000},
    "another's op key": {"op_key": "red_x:confirm:1"},
}


async def test_an_answer_that_cannot_be_kept_is_doubt_which_a_poll_ends(coalition):
    partner = coalition.partners["M05"]
    for kind, fields in ANSWERS.items():
        lies(partner, "confirm", lambda fact, fields=fields: replace(fact, **fields))
        made = await coalition.redeemed(*TICKET)
        assert made.state is State.IN_DOUBT, kind
        del partner.confirm
        await coalition.work(minutes=1)
        assert (await coalition.get(made)).state is State.COMMITTED, kind
        offered = await coalition.redemptions.cancel_quote(
            member_id="mbr_demo_01", redemption_id=made.id
        )
        await coalition.redemptions.cancel(
            member_id="mbr_demo_01",
            redemption_id=made.id,
            cancel_quote_id=offered.id,
            key=coalition.key(),
        )
        assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)


async def test_an_answer_about_anothers_redemption_moves_only_ones_own(coalition):
    other = await coalition.held(*OTHER)
    named = {"op_key": f"{other.id}:confirm:1"}
    lies(coalition.partners["M05"], "confirm", lambda fact: replace(fact, **named))
    assert (await coalition.redeemed(*TICKET)).state is State.IN_DOUBT
    assert (await coalition.get(other)).state is State.HELD


async def test_a_code_given_twice_still_ends_in_two_vouchers(coalition):
    same = {"artefacts": {"code": "SAME"}}
    lies(coalition.partners["M05"], "confirm", lambda fact: replace(fact, **same))
    first, second = await coalition.redeemed(*TICKET), await coalition.redeemed(*TICKET)
    assert {first.state, second.state} == {State.COMMITTED}
    taken, replayed = await coalition.redemptions.verify_voucher(
        merchant_id="M05", code="SAME", holder=None, key="till"
    )
    assert (taken.id, replayed) == (first.id, False)


@pytest.mark.parametrize("list_fen", [-5, 0, 2**70])
async def test_a_price_that_is_none_is_no_answer(coalition: Coalition, list_fen: int) -> None:
    lies(coalition.partners["M05"], "quote", lambda quote: replace(quote, list_fen=list_fen))
    with pytest.raises(PartnerUnavailable):
        await coalition.quote(*TICKET)


async def test_facts_that_contradict_each_other_are_reviewed_once(coalition):
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]
    for number, kind in enumerate(("rejected", "confirmed", "rejected", "confirmed")):
        body = {"id": f"e{number}", "kind": f"booking.{kind}", "op_key": f"{held.id}:confirm:1"}
        await coalition.redemptions.inbox.receive("M05", f"e{number}", body | {"version": 1})
    assert (await coalition.get(held)).state is State.HELD  # Nothing was asked yet.
    lies(partner, "confirm", lambda fact: replace(fact, outcome=Outcome.CONFIRMED, version=1))
    assert (await coalition.confirm(held)).state is State.NEEDS_REVIEW
    body = {"id": "late", "kind": "booking.rejected", "op_key": f"{held.id}:confirm:1"}
    await coalition.redemptions.inbox.receive("M05", "late", body | {"version": 1})
    assert (await coalition.get(held)).state is State.NEEDS_REVIEW


@pytest.mark.parametrize("fare", [-1, 2**60])
async def test_a_fare_that_is_none_changes_nothing(coalition: Coalition, fare: int) -> None:
    made = await coalition.redeemed(*TICKET)
    body = {"id": "f", "kind": "booking.fulfilled", "op_key": f"{made.id}:confirm:1", "version": 9}
    await coalition.redemptions.inbox.receive("M05", "f", body | {"final_fare_fen": fare})
    assert (await coalition.get(made)).state is State.COMMITTED
