"""Who asks again with a key is told what the first was told: also a no, and after a conflict."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from gateway.oauth.scopes import Role
from gateway.ports import PriceChanged
from gateway.redemption import effects
from tests.integration.conftest import Coalition

LEGS = [{"programme": "P-LL"}]
WANTED = "redemption { id state }"


async def quoted(member: Any) -> str:
    made = await member.did("requestQuote", "quote { id }", offer="XH-01", legs=LEGS)
    return str(made["quote"]["id"])


def without_words(answer: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(error["code"], error["context"]) for error in answer["errors"]]


@pytest.mark.parametrize("how", ["reject", "not_sent"])
async def test_a_hold_that_was_refused(gateway, coalition: Coalition, how: str) -> None:
    member = await gateway.member("mbr_demo_01")
    coalition.partners["M05"].script["hold"] = [how]
    asked = {"quote": await quoted(member), "idempotencyKey": "one"}
    first = await member.do("holdRedemption", WANTED, **asked)
    assert first["errors"][0]["code"] == ("SOLD_OUT" if how == "reject" else "PARTNER_UNAVAILABLE")
    again = await member.do("holdRedemption", WANTED, **asked)
    assert again == first | {"replayed": True}
    other = await member.do("holdRedemption", WANTED, **asked | {"idempotencyKey": "two"})
    assert other == again  # The quote is used.


@pytest.mark.parametrize("verb", ["hold", "confirm"])
async def test_an_offer_that_was_refused(gateway, coalition: Coalition, verb: str) -> None:
    member = await gateway.member("mbr_demo_01")
    coalition.partners["M05"].script[verb] = ["reject"]
    asked = {"offer": "XH-01", "legs": LEGS, "idempotencyKey": "one"}
    first = await member.do("redeemOffer", WANTED, **asked)
    assert first["errors"]
    assert await member.do("redeemOffer", WANTED, **asked) == first | {"replayed": True}


async def test_a_confirmation_that_was_refused(gateway, coalition: Coalition) -> None:
    member = await gateway.member("mbr_demo_01")
    hold = {"quote": await quoted(member), "idempotencyKey": "hold"}
    held = await member.did("holdRedemption", WANTED, **hold)
    coalition.partners["M05"].script["confirm"] = ["reject"]
    asked = {"redemption": held["redemption"]["id"], "idempotencyKey": "one"}
    first = await member.do("confirmRedemption", WANTED, **asked)
    assert without_words(first) == [("PARTNER_REJECTED", {"merchant": "M05", "reason": "full"})]
    assert await member.do("confirmRedemption", WANTED, **asked) == first | {"replayed": True}
    again = await member.do("holdRedemption", WANTED, **hold)  # It was held: no error.
    assert (again["errors"], again["redemption"]["state"]) == ([], "RELEASED")


async def test_a_cancellation_that_was_refused(gateway, coalition: Coalition) -> None:
    member = await gateway.member("mbr_demo_01")
    done = await member.did("redeemOffer", WANTED, offer="XH-01", legs=LEGS)
    redemption = done["redemption"]["id"]
    offered = await member.did("requestCancellation", "cancelQuote { id }", redemption=redemption)
    asked = {"redemption": redemption, "cancelQuote": offered["cancelQuote"]["id"]}
    coalition.partners["M05"].script["cancel"] = ["reject"]
    first = await member.do("cancelRedemption", WANTED, **asked, idempotencyKey="one")
    assert first["errors"][0]["code"] == "CANCEL_TOO_LATE"
    again = await member.do("cancelRedemption", WANTED, **asked, idempotencyKey="one")
    assert again == first | {"replayed": True}


async def test_what_was_in_doubt_is_found_again_however_it_ended(
    gateway, coalition: Coalition
) -> None:
    member = await gateway.member("mbr_demo_01")
    coalition.partners["M05"].script["hold"] = ["lost_before", "reject"]
    asked = {"quote": await quoted(member), "idempotencyKey": "one"}
    first = await member.do("holdRedemption", WANTED, **asked)
    assert first["redemption"]["state"] == "IN_DOUBT"
    for _ in range(12):
        await coalition.work(seconds=10)
    again = await member.do("holdRedemption", WANTED, **asked)
    assert (again["errors"], again["redemption"]["state"]) == ([], "RELEASED")
    assert again["redemption"]["id"] == first["redemption"]["id"]


async def test_a_new_price_is_asked_once(gateway, coalition: Coalition, monkeypatch) -> None:
    member, partner = await gateway.member("mbr_demo_01"), coalition.partners["M05"]
    asked = {"quote": await quoted(member), "idempotencyKey": "one"}

    async def dearer(*_: object, **__: object) -> None:
        raise PriceChanged(new_list_fen=5_000)

    monkeypatch.setattr(partner, "hold", dearer)
    first = await member.do("holdRedemption", WANTED, **asked)
    assert first["errors"][0]["code"] == "QUOTE_STALE"
    assert first["errors"][0]["context"]["new_quote"]
    calls = len(partner.calls)
    assert await member.do("holdRedemption", WANTED, **asked) == first | {"replayed": True}
    assert len(partner.calls) == calls


def conflicting(done: Callable[..., Any]) -> Callable[..., Any]:
    """As `done`, but another transaction was first the first time."""
    left = [OperationalError("", {}, sqlite3.OperationalError("database is locked"))]

    async def once(*args: Any, **given: Any) -> Any:
        found = await done(*args, **given)
        if left:
            raise left.pop()
        return found

    return once


@pytest.mark.parametrize("step", ["cancel", "hold", "release"])
async def test_a_conflict_loses_no_answer(
    gateway, coalition: Coalition, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The partner's answer is stored again, and the caller is no second one."""
    member, partner = await gateway.member("mbr_demo_01"), coalition.partners["M05"]
    if step == "cancel":
        done = await member.did("redeemOffer", WANTED, offer="XH-01", legs=LEGS)
        asked = {"redemption": done["redemption"]["id"]}
        offered = await member.did("requestCancellation", "cancelQuote { id }", **asked)
        asked["cancelQuote"] = offered["cancelQuote"]["id"]
    else:
        asked = {"quote": await quoted(member)}
        if step == "hold":
            partner.script["hold"] = ["reject"]
        else:
            held = await member.did("holdRedemption", WANTED, **asked)
            asked = {"redemption": held["redemption"]["id"]}
    monkeypatch.setattr(effects, "apply_fact", conflicting(effects.apply_fact))
    answer = await member.do(f"{step}Redemption", WANTED, **asked)
    assert answer["replayed"] is False
    if step == "hold":
        assert [error["code"] for error in answer["errors"]] == ["SOLD_OUT"]
    else:
        ended = {"cancel": "CANCELLED", "release": "RELEASED"}[step]
        assert (answer["errors"], answer["redemption"]["state"]) == ([], ended)
    asks = [verb for verb, _ in partner.calls if verb == {"release": "fence"}.get(step, step)]
    assert len(asks) == 1


async def test_a_window_is_not_cut_before_its_week(gateway) -> None:
    finance = await gateway.staff(Role.FINANCE, "usr_fin_maker")
    closed = await finance.did("closeSettlementWindow", "window { id }")
    assert closed["window"]["id"] == "win_2026W47"  # The running week may end early.
    refused = await finance.refused("closeSettlementWindow")
    assert (refused["code"], refused["field"]) == ("INVALID_INPUT", ["window"])
    assert refused["context"]["window"] == "win_2026W48"
    named = await finance.did("closeSettlementWindow", "window { id }", window="win_2026W48")
    assert named["window"]["id"] == "win_2026W48"
