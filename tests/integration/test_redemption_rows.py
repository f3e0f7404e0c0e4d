"""The order in which lists of redemptions come, the worker's leases, traces, and what reviews
refuse."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from gateway import db
from gateway.catalog.pricing import LegInput
from gateway.errors import NotFound
from gateway.points.service import HoldAlreadyResolved
from gateway.ports import Fact, Outcome, past_held
from gateway.redemption import (
    donations,
    effects,
    figures,
    queue,
    recovery_rows,
    review_rows,
    reviews,
    store,
)
from gateway.redemption import service as redemptions
from gateway.redemption.model import Fault, Redemption, State, Step
from gateway.telemetry import tracing
from gateway.values import InvalidInput, fingerprint
from tests.integration.conftest import MORNING, Coalition

MEMBER = "mbr_demo_01"
TICKET = (MEMBER, "XH-01", ("P-LL", None))
OWN = ("mbr_demo_18", "CA-04", ("P-CA", None))
SECOND = timedelta(seconds=1)


# -- lists ----------------------------------------------------------------------------------------


async def test_what_partners_said_comes_in_the_order_it_was_said(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    said = [("b", 2, 0), ("a", 3, 1), ("b", 1, 0), ("a", 2, 0), ("c", 1, -1)]
    async with coalition.database.transaction() as tx:
        for op_key, version, after in said:
            row = {"op_key": op_key, "version": version, "outcome": "held", "source": "webhook"}
            row |= {"redemption_id": done.id, "booking_ref": None, "body": {}}
            await store.add_fact(tx, row | {"recorded_at": MORNING + (10 + after) * SECOND})
    async with coalition.database.reading() as tx:
        found = [(row.op_key, row.version) for row in await reviews.facts(tx, done.id)]
    assert found[2:] == [("c", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 3)]


async def test_calls_come_in_the_order_they_were_queued(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    asked = [("b", 2, 0), ("b", 1, 0), ("a", 9, 1), ("a", 1, 0), ("c", 1, -1)]
    c = store.calls.c
    async with coalition.database.transaction() as tx:
        for op_key, attempt, after in asked:
            row = {"op_key": op_key, "verb": "hold", "attempt": attempt, "body_hash": "h"}
            row |= {"redemption_id": done.id, "state": "PENDING"}
            row["queued_at"] = MORNING + (10 + after) * SECOND
            await tx.execute(sa.insert(store.calls).values(**row))
        mine = sa.update(store.calls).where(c.op_key == "c", c.redemption_id == done.id)
        await tx.execute(mine.values(answered_at=MORNING))
    async with coalition.database.reading() as tx:
        found = [(row.op_key, row.attempt) for row in await redemptions.calls(tx, done.id)]
    assert found[2:] == [("c", 1), ("a", 1), ("b", 1), ("b", 2), ("a", 9)]


async def test_decisions_and_reviews_come_in_order(coalition: Coalition) -> None:
    partner, stuck = coalition.partners["M05"], []
    for after in (5, 0):
        partner.script["confirm"] = ["conflict"]
        coalition.clock.instant = MORNING + after * SECOND
        stuck.append(await coalition.redeemed(*TICKET))
    async with coalition.database.transaction() as tx:
        for name, after in (("rvw_3", 0), ("rvw_1", 0), ("rvw_2", 0), ("rvw_0", 1)):
            row = {"id": name, "redemption_id": stuck[0].id, "outcome": "RELEASE", "note": "n"}
            row |= {"amount_fen": 1, "state": "WITHDRAWN", "proposed_by": "one"}
            await review_rows.add_resolution(tx, row | {"proposed_at": MORNING + after * SECOND})
        found = [each.id for each in await reviews.resolutions(tx, redemption_id=stuck[0].id)]
        assert found == ["rvw_1", "rvw_2", "rvw_3", "rvw_0"]
        assert await reviews.resolutions(tx, redemption_id=stuck[1].id) == []
        (one,) = await reviews.resolutions(tx, resolution_id="rvw_2")
        assert (one.id, one.redemption_id, one.fault) == ("rvw_2", stuck[0].id, None)
        open_ = [each.redemption.id for each in await reviews.reviews(tx)]
        assert open_ == [stuck[1].id, stuck[0].id]  # What is due first.
        for given in ({"merchant_id": "M02"}, {"reason": "CONTRADICTION"}, {"owner": "one"}):
            assert await reviews.reviews(tx, **given) == []
        (mine,) = await reviews.reviews(tx, redemption_id=stuck[0].id, merchant_id="M05")
        assert (mine.redemption, mine.reason, mine.came_from, mine.step, mine.owner) == (
            stuck[0], "KEY_CONFLICT", State.CONFIRMING, Step.CONFIRM, None,
        )  # fmt: skip
        assert await reviews.reviews(tx, closed=True) == []


async def test_what_was_found_after_a_restore_is_noted_once_in_order(coalition: Coalition) -> None:
    row = {"merchant_id": "M05", "known": False, "evidence": [], "found_at": MORNING}
    async with coalition.database.transaction() as tx:
        for name in ("red_3", "red_1", "red_2"):
            await recovery_rows.add_recovery(tx, row | {"redemption_id": name})
        await recovery_rows.set_recovery(
            tx, "red_2", "M05", state="ENDED", result="over", ended_at=MORNING
        )
        await recovery_rows.set_recovery(tx, "red_2", "M01", result="it is mine")
        await recovery_rows.add_recovery(tx, row | {"redemption_id": "red_2"})
        found = await recovery_rows.list_recoveries(tx)
        assert [(each.redemption_id, each.state, each.result) for each in found] == [
            ("red_1", "FOUND", "found"), ("red_2", "ENDED", "over"), ("red_3", "FOUND", "found"),
        ]  # fmt: skip
        waiting = await recovery_rows.list_recoveries(tx, "FOUND")
        assert [each.redemption_id for each in waiting] == ["red_1", "red_3"]
        assert await recovery_rows.recovery_result(tx, "red_2", "M05") == "over"
        assert await recovery_rows.recovery_result(tx, "red_9", "M05") is None


async def doubtful(coalition: Coalition, after: float, merchant: str, *order: Any) -> Redemption:
    coalition.clock.instant = MORNING + after * SECOND
    coalition.partners[merchant].script["confirm"] = ["lost_before"]
    return await coalition.redeemed(*order)


async def test_doubt_is_counted_by_merchant_whatever_its_order(coalition: Coalition) -> None:
    for after in (30, 0, 20):
        await doubtful(coalition, after, "M05", *TICKET)
    await doubtful(coalition, 10, "M02", *OWN)
    async with coalition.database.reading() as tx:
        ages = await queue.doubt_ages(tx, now=MORNING + 40 * SECOND)
    assert ages == {
        "M02": queue.DoubtAge(1, 30 * SECOND, 30 * SECOND),
        "M05": queue.DoubtAge(3, 40 * SECOND, 40 * SECOND),
    }
    assert list(ages) == ["M02", "M05"]


async def test_one_in_a_hundred_may_be_older(coalition: Coalition) -> None:
    one = await doubtful(coalition, 0, "M05", *TICKET)
    async with coalition.database.reading() as tx:
        (row,) = (await tx.execute(sa.select(store.redemptions))).mappings().all()
    made = [
        dict(row) | {"id": f"red_{n:03}", "quote_id": None, "doubt_since": MORNING + n * SECOND}
        for n in range(1, 200)
    ]
    async with coalition.database.transaction() as tx:
        for each in made:
            each["quote_id"] = one.quote_id + each["id"]
        await tx.execute(sa.insert(store.redemptions), made)
        (age,) = (await queue.doubt_ages(tx, now=MORNING + 200 * SECOND)).values()
        assert age == queue.DoubtAge(200, 200 * SECOND, 198 * SECOND)  # Two of 200 are older.
        named = await figures.stuck(
            tx, now=MORNING, system_now=MORNING + timedelta(days=999), patience=SECOND
        )
        assert named["leased"] == []
        await tx.execute(sa.update(store.redemptions).values(state="NEEDS_REVIEW", doubt=None))
        named = await figures.stuck(tx, now=MORNING, system_now=MORNING, patience=SECOND)
        assert named["review"] == sorted([one.id, *(each["id"] for each in made)])[:20]
        await tx.execute(sa.delete(store.redemptions).where(store.redemptions.c.id != one.id))
        back = sa.update(store.redemptions).where(store.redemptions.c.id == one.id)
        await tx.execute(back.values(state="IN_DOUBT", doubt="confirm"))


# -- the worker's leases --------------------------------------------------------------------------


async def leases(coalition: Coalition) -> dict[str, datetime | None]:
    r = store.redemptions.c
    async with coalition.database.reading() as tx:
        rows = await tx.execute(sa.select(r.id, r.leased_until))
        return {row.id: row.leased_until for row in rows}


async def test_what_nobody_drives_any_more_is_handed_back(coalition: Coalition) -> None:
    saga = coalition.redemptions
    mine = await doubtful(coalition, 0, "M05", *TICKET)
    other = await doubtful(coalition, 0, "M02", *OWN)
    coalition.clock.forward(seconds=5)
    assert set(await saga.lease(limit=9)) == {(mine.id, "M05"), (other.id, "M02")}
    assert all((await leases(coalition)).values())
    await saga.hand_back([])
    assert all((await leases(coalition)).values())
    await saga.hand_back({mine.id})
    left = await leases(coalition)
    assert (left[mine.id], bool(left[other.id])) == (None, True)
    saga.saga.under_way.add(other.id)
    await saga.abandon()
    assert set((await leases(coalition)).values()) == {None}


async def test_a_worker_takes_as_much_as_it_is_told(coalition: Coalition) -> None:
    first = await doubtful(coalition, 0, "M05", *TICKET)
    second = await doubtful(coalition, 1, "M02", *OWN)
    coalition.clock.forward(seconds=5)
    saga = coalition.redemptions
    assert await saga.lease(limit=9, full=["M05"]) == [(second.id, "M02")]
    await saga.hand_back([second.id])
    assert await saga.work(limit=1) == 1
    assert (await coalition.get(first)).state is State.COMMITTED
    assert (await coalition.get(second)).state is State.IN_DOUBT
    body = {"kind": "booking.fulfilled", "version": 2, "op_key": first.op_key(Step.CONFIRM)}
    async with coalition.database.transaction() as tx:
        for name in ("e1", "e2"):
            row = {"merchant_id": "M05", "event_id": name, "body": body | {"id": name}}
            await store.add_event(tx, row | {"received_at": MORNING})
    assert await saga.work(limit=1) == 2
    assert await saga.inbox.apply_stored(limit=9) == 1
    assert await saga.work() == 0


async def test_what_breaks_stays_leased_for_a_while(coalition: Coalition) -> None:
    held = await doubtful(coalition, 0, "M05", *TICKET)
    other = await doubtful(coalition, 0, "M02", *OWN)

    async def broken(op_key: str) -> Fact:
        raise RuntimeError(op_key)

    coalition.partners["M05"].status = broken
    coalition.clock.forward(seconds=5)
    assert await coalition.redemptions.work() == 2
    assert (await coalition.get(other)).state is State.COMMITTED
    assert (await coalition.get(held)).state is State.IN_DOUBT
    left = await leases(coalition)
    assert left[held.id]
    assert left[other.id] is None


async def test_a_call_is_under_way_until_its_answer_is_stored(coalition: Coalition) -> None:
    saga, partner = coalition.redemptions.saga, coalition.partners["M05"]
    held = await coalition.held(*TICKET)
    confirm, seen = partner.confirm, []

    async def watched(*args: Any, **more: Any) -> Fact:
        seen.append((set(saga.under_way), past_held.get()))
        fact = await confirm(*args, **more)
        raise RuntimeError(fact.op_key)

    partner.confirm = watched
    done = await coalition.confirm(held)
    assert (done.state, done.doubt) == (State.IN_DOUBT, Step.CONFIRM)  # A bug says nothing.
    assert seen == [({held.id}, True)]
    assert saga.under_way == set()
    assert past_held.get() is False
    async with coalition.database.reading() as tx:
        (call,) = [row for row in await redemptions.calls(tx, held.id) if row.verb == "confirm"]
    assert (call.state, call.detail) == ("UNKNOWN", repr(RuntimeError(held.op_key(Step.CONFIRM))))


# -- traces ---------------------------------------------------------------------------------------


async def test_the_worker_goes_on_in_the_members_trace(coalition: Coalition, exported: Any) -> None:
    with tracing.entering(None, "another"):
        await doubtful(coalition, 0, "M02", *OWN)
    with tracing.entering(None, "request") as request:
        held = await doubtful(coalition, 9, "M05", *TICKET)
    mine = request.get_span_context().trace_id
    async with coalition.database.reading() as tx:
        trace = tracing.read(await figures.trace_of(tx, held.id))
    assert trace is not None
    assert trace.trace_id == f"{mine:032x}"
    exported.clear()
    await coalition.redemptions.drive(held.id)
    found = [each for each in exported.get_finished_spans() if each.context.trace_id == mine]
    by_name = {each.name: each for each in found}
    assert {"saga IN_DOUBT", "saga confirm"} <= set(by_name)
    assert by_name["saga IN_DOUBT"].kind.name == "CONSUMER"
    asked = dict(by_name["saga confirm"].attributes)
    assert asked == {"redemption": held.id, "step": "confirm"}


# -- what reviews refuse --------------------------------------------------------------------------


async def stuck_at_confirm(coalition: Coalition) -> Redemption:
    coalition.partners["M05"].script["confirm"] = ["conflict"]
    return await coalition.redeemed(*TICKET)


def proposing(redemption_id: str, outcome: str, **more: Any) -> dict[str, Any]:
    given = {"evidence": None, "fault": None, "note": "n", "actor": "one", "now": MORNING}
    return given | {"redemption_id": redemption_id, "outcome": outcome} | more


@pytest.mark.parametrize(
    ("outcome", "more", "field", "values"),
    [
        ("KEEP", {}, "outcome", ("COMMIT", "RELEASE")),
        ("COMMIT", {}, "evidence", None),
        ("COMMIT", {"evidence": "  "}, "evidence", None),
        ("RELEASE", {"evidence": "b"}, "evidence", None),
        ("RELEASE", {"fault": "MEMBER"}, "fault", [*Fault]),
        ("RELEASE", {"note": "\t"}, "note", None),
    ],
)
async def test_what_does_not_fit_is_named(
    coalition: Coalition, outcome: str, more: dict[str, Any], field: str, values: Any
) -> None:
    stuck = await stuck_at_confirm(coalition)
    async with coalition.database.transaction() as tx:
        with pytest.raises(InvalidInput) as refusal:
            await reviews.propose(tx, **proposing(stuck.id, outcome, **more))
    assert refusal.value.field == (field,)
    said = refusal.value.context.get("values")
    assert (set(said) if said else None) == (set(values) if values else None)


async def test_a_decision_needs_what_it_is_about(coalition: Coalition) -> None:
    stuck, done = await stuck_at_confirm(coalition), await coalition.redeemed(*TICKET)
    deciding: dict[str, Any] = {"actor": "two", "limit_fen": 10**9, "now": MORNING}
    deciding["settings"] = coalition.redemptions.settings

    async def refused(expected: type[Exception], doing: Any) -> dict[str, Any]:
        with pytest.raises(expected) as refusal:
            await doing
        return dict(refusal.value.context)

    async with coalition.database.transaction() as tx:
        unknown = reviews.propose(tx, **proposing("red_9", "RELEASE"))
        assert await refused(NotFound, unknown) == {"id": "red_9"}
        settled = reviews.propose(tx, **proposing(done.id, "KEEP"))
        said = await refused(HoldAlreadyResolved, settled)
        assert said == {"hold": done.id, "state": "COMMITTED"}
        unknown = reviews.approve(tx, resolution_id="rvw_9", **deciding)
        assert await refused(NotFound, unknown) == {"id": "rvw_9"}
        first = await reviews.propose(tx, **proposing(stuck.id, "RELEASE"))
        second = await reviews.propose(tx, **proposing(stuck.id, "RELEASE", actor="three"))
        (review,) = await reviews.reviews(tx, redemption_id=stuck.id)
        assert (review.owner, second.amount_fen, second.state) == ("one", 4_500, "PROPOSED")
        withdrawn = reviews.approve(tx, resolution_id=first.id, **deciding)
        assert await refused(NotFound, withdrawn) == {"id": first.id}
    async with coalition.database.transaction() as tx:
        done_with = await reviews.approve(tx, resolution_id=second.id, **deciding)
    assert (done_with.state, done_with.approved_by) == ("APPROVED", "two")
    async with coalition.database.transaction() as tx:  # Withdrawn stays so when it is over.
        withdrawn = reviews.approve(tx, resolution_id=first.id, **deciding)
        assert await refused(NotFound, withdrawn) == {"id": first.id}
        assert await reviews.approve(tx, resolution_id=second.id, **deciding) == done_with


async def test_a_fact_about_nothing_is_refused(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    later = f"{held.id}:confirm:2"  # Of an epoch that has not come.
    async with coalition.database.transaction() as tx:
        for op_key in ("nothing", "red_9:confirm:1", later):
            with pytest.raises(NotFound) as refusal:
                await effects.apply_fact(
                    tx, Fact(op_key, Outcome.CONFIRMED, 1, "b"), source="poll",
                    settings=coalition.redemptions.settings, now=MORNING,
                )  # fmt: skip
            assert refusal.value.context == {"id": op_key}
        await db.flush(tx)
    assert (await coalition.get(held)).state is State.HELD


# -- keys -----------------------------------------------------------------------------------------


async def test_what_a_key_was_used_for_is_known_to_later_releases(coalition: Coalition) -> None:
    """A client may ask again after an upgrade: scope and fingerprint stay as they are."""
    saga, quote = coalition.redemptions, await coalition.quote(*TICKET)
    ids: dict[str, Any] = {"member_id": MEMBER}
    held, _ = await saga.hold(**ids, quote_id=quote.id, key="h")
    given_up = await coalition.held(*TICKET)
    await saga.release(**ids, redemption_id=given_up.id, key="r")
    mine = ids | {"redemption_id": held.id}
    await saga.confirm(**mine, key="c")
    legs = [LegInput("P-LL", None)]
    asked: dict[str, Any] = ids | {"offer_id": "XH-01", "slot": None, "quantity": 1}
    at_once, _ = await saga.redeem(**asked, bill_fen=None, legs=legs, cash_fen=0, key="o")
    offered = await saga.cancel_quote(**mine)
    await saga.cancel(**mine, cancel_quote_id=offered.id, key="x")
    till: dict[str, Any] = {"merchant_id": "M05", "holder": None}
    code = coalition.partners["M05"].operations[at_once.op_key(Step.CONFIRM)].artefacts["code"]
    await saga.verify_voucher(**till, code=code, key="v")
    used = {"merchant_id": "M05", "redemption_id": at_once.id, "final_fare_fen": None}
    await saga.record_fulfilment(**used, key="f")
    async with coalition.database.transaction() as tx:
        gift = {"beneficiary": "M16", "programme_id": "P-LL", "points_given": 100}
        given, _ = await donations.donate(tx, **ids, **gift, key="d", now=MORNING)
        await donations.reverse(tx, **ids, donation_id=given.id, key="u", now=MORNING)
    expected = {
        (f"{MEMBER}:holdRedemption", "h"): ({"quote": quote.id}, held.id),
        (f"{MEMBER}:releaseRedemption", "r"): ({"redemption": given_up.id}, given_up.id),
        (f"{MEMBER}:confirmRedemption", "c"): ({"redemption": held.id}, held.id),
        (f"{MEMBER}:redeemOffer", "o"): (
            {"offer": "XH-01", "slot": None, "quantity": 1, "bill_fen": None,
             "legs": [["P-LL", None]], "cash_fen": 0},
            at_once.id,
        ),
        (f"{MEMBER}:cancelRedemption", "x"): (
            {"redemption": held.id, "cancel_quote": offered.id}, held.id
        ),
        ("M05:verifyVoucher", "v"): ({"code": code, "holder": None}, at_once.id),
        ("M05:recordFulfilment", "f"): (
            {"redemption": at_once.id, "final_fare_fen": None}, at_once.id
        ),
        (f"{MEMBER}:donatePoints", "d"): (
            {"beneficiary": "M16", "programme": "P-LL", "points": 100}, given.id
        ),
        (f"{MEMBER}:reverseDonation", "u"): ({"donation": given.id}, given.id),
    }  # fmt: skip
    async with coalition.database.reading() as tx:
        rows = list(await tx.execute(sa.select(db.idempotency_keys)))
    found = {(row.scope, row.key): (row.fingerprint, row.object_id) for row in rows}
    for place, (words, object_id) in expected.items():
        assert found[place] == (fingerprint(words), object_id), place
