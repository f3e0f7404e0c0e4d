"""What one redemption goes through changes no other; what is locked, and what is not read again.

Locks are looked for in the statements: SQLite has one writer and none of them in its text.
"""

from typing import Any

import pytest

from gateway.catalog.pricing import LegInput
from gateway.redemption import donations, reviews
from gateway.redemption.model import Redemption, State, Step
from tests.integration.conftest import MORNING, Coalition
from tests.integration.ways import MEMBER, TICKET, Ways
from tests.support.chronicle import Chronicle
from tests.support.statements import Statements

LOCKED = "lock redemptions"


async def bystanders(coalition: Coalition) -> list[Redemption]:
    """At another merchant: one bought, one held, one that people decide about."""
    partner = coalition.partners["M02"]
    legs = (("P-CA", None),)
    bought = await coalition.redeemed("mbr_demo_18", "CA-04", *legs)
    held = await coalition.held("mbr_demo_18", "CA-04", *legs)
    partner.script["confirm"] = ["conflict"]
    stuck = await coalition.redeemed("mbr_demo_18", "CA-04", *legs)
    body = {"id": "other", "kind": "booking.fulfilled", "version": 2}
    body |= {"op_key": stuck.op_key(Step.CONFIRM)}
    await coalition.redemptions.inbox.receive("M02", "other", body)
    async with coalition.database.transaction() as tx:
        for outcome in ("RELEASE", "RELEASE"):  # The first is withdrawn.
            await reviews.propose(
                tx, redemption_id=stuck.id, outcome=outcome, note="n", evidence=None, fault=None,
                actor="three", now=MORNING,
            )  # fmt: skip
    return [bought, held, stuck]


@pytest.mark.parametrize(
    "name",
    [
        "a_cancellation_lost",
        "a_conflict_decided_as_let_go",
        "a_contradiction_after_another",
        "a_ride_cancelled_by_the_partner",
        "confirmed_late",
        "taken_at_the_till",
        "used_for_less",
        "used_while_it_is_cancelled",
    ],
)
async def test_what_one_goes_through_changes_no_other(coalition: Coalition, name: str) -> None:
    others = await bystanders(coalition)

    async def all_kept() -> list[list[str]]:
        async with coalition.database.reading() as tx:
            return [await Chronicle(MORNING).kept(tx, each) for each in others]

    before = await all_kept()
    assert [any(line.startswith("heard") for line in lines) for lines in before] == [
        False, False, True
    ]  # fmt: skip
    await getattr(Ways(coalition), name)()
    assert await all_kept() == before


async def test_who_changes_what_locks_it_first(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga = coalition.redemptions
    done = [await coalition.redeemed(*TICKET) for _ in range(3)]
    held = await coalition.held("mbr_demo_02", "XH-01", ("P-LL", None))
    coalition.partners["M05"].script["confirm"] = ["conflict"]
    stuck = await coalition.confirm(held)
    given = {"evidence": None, "fault": None, "note": "n", "actor": "one", "now": MORNING}
    async with coalition.database.transaction() as tx:
        proposal = await reviews.propose(tx, redemption_id=stuck.id, outcome="RELEASE", **given)
    gift: dict[str, Any] = {"member_id": "mbr_demo_20", "programme_id": "P-HM"}
    gift |= {"beneficiary": "M16", "points_given": 100, "key": "g", "now": MORNING}
    async with coalition.database.transaction() as tx:
        given_away, _ = await donations.donate(tx, **gift)
    offered = await saga.cancel_quote(member_id=MEMBER, redemption_id=done[1].id)

    async def locks(doing: Any) -> set[str]:
        with monkeypatch.context() as patched:
            statements = Statements(patched)
            await doing
        assert statements.unlocked("redemptions") == []
        return {word for words in statements.words() for word in words if word.startswith("lock")}

    till: dict[str, Any] = {"merchant_id": "M05", "code": "C0000001", "holder": None}
    assert await locks(saga.verify_voucher(**till, key="t")) == {LOCKED}
    asked: dict[str, Any] = {"member_id": MEMBER, "redemption_id": done[1].id}
    cancelling = saga.cancel(**asked, cancel_quote_id=offered.id, key="c")
    assert LOCKED in await locks(cancelling)
    used: dict[str, Any] = {"merchant_id": "M05", "redemption_id": done[2].id}
    assert LOCKED in await locks(saga.record_fulfilment(**used, final_fare_fen=None, key="f"))

    async def approved() -> None:
        async with coalition.database.transaction() as tx:
            await reviews.approve(
                tx, resolution_id=proposal.id, actor="two", limit_fen=10**9,
                settings=saga.settings, now=MORNING,
            )  # fmt: skip

    async def taken_back() -> None:
        async with coalition.database.transaction() as tx:
            await donations.reverse(
                tx, member_id="mbr_demo_20", donation_id=given_away.id, key="r", now=MORNING
            )

    assert await locks(approved()) >= {LOCKED, "lock redemption_review_resolutions"}
    assert "lock donations" in await locks(taken_back())
    assert await locks(saga.lease(limit=1)) == {"lock what is free of redemptions"}
    assert await locks(saga.inbox.apply_stored(limit=1)) == {"lock what is free of partner_events"}


BASIS = [
    "select idempotency_keys", "select redemptions", "select merchants", "select points_lots",
    "select settlement_agreements",
]  # fmt: skip


def asked_for(words: list[str]) -> list[str]:
    """What a transaction reads, with or without a lock."""
    return [word for word in words if word.startswith(("select", "lock"))]


async def test_what_is_at_hand_is_not_read_again(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of nearly every redemption: four transactions, and only the first reads."""
    await coalition.redeemed(*TICKET)  # The month's first use of an agreement reads more.
    quote = await coalition.quote(*TICKET)
    seen = Statements(monkeypatch)
    held, _ = await coalition.redemptions.hold(member_id=MEMBER, quote_id=quote.id, key="h")
    await coalition.redemptions.confirm(member_id=MEMBER, redemption_id=held.id, key="c")
    assert [asked_for(words) for words in seen.words()] == [
        BASIS, [], [], []
    ]  # fmt: skip


async def test_what_is_redeemed_at_once_is_read_for_once(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    await coalition.redeemed(*TICKET)
    asked: dict[str, Any] = {"member_id": MEMBER, "offer_id": "XH-01", "slot": None}
    asked |= {"quantity": 1, "bill_fen": None, "cash_fen": None}
    seen = Statements(monkeypatch)
    await coalition.redemptions.redeem(**asked, legs=[LegInput("P-LL", None)], key="k")
    *_, hold, confirming, committed = [asked_for(words) for words in seen.words()]
    assert hold == BASIS
    assert confirming == committed == []
    assert len(seen.words()) == 4  # The quote's basis, the hold, HELD and CONFIRMING, COMMITTED.


async def test_another_process_confirms_what_it_finds(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is at hand there: it is read, and still nothing waits for a lock."""
    await coalition.redeemed(*TICKET)
    quote = await coalition.quote(*TICKET)
    saga = coalition.redemptions
    saga._quotes.clear()
    seen = Statements(monkeypatch)
    held, replayed = await saga.hold(member_id=MEMBER, quote_id=quote.id, key="h")
    assert (held.state, replayed) == (State.HELD, False)
    saga._left.clear()
    done, _ = await saga.confirm(member_id=MEMBER, redemption_id=held.id, key="c")
    assert done.state is State.COMMITTED
    words = [asked_for(each) for each in seen.words()]
    assert words[0] == [*BASIS[:2], "select catalog_quotes", *BASIS[2:]]
    assert words[2] == [
        "select redemptions", "select redemption_legs", "select idempotency_keys",
        "select settlement_reservations",
    ]  # fmt: skip
    assert words[1] == words[3] == []
    assert await saga.hold(member_id=MEMBER, quote_id=quote.id, key="h") == (done, True)
    assert await saga.hold(member_id=MEMBER, quote_id=quote.id, key="i") == (done, True)
    assert await saga.confirm(member_id=MEMBER, redemption_id=held.id, key="c") == (done, True)
    assert await saga.confirm(member_id=MEMBER, redemption_id=held.id, key="d") == (done, False)
