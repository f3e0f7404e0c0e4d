"""A recovery in full: what each partner is asked, what is noted of its answers, and their ends."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from gateway.audit.store import entries
from gateway.errors import PartnerRejected
from gateway.ports import (
    CancelQuote,
    Capability,
    Claim,
    Fact,
    Operation,
    OperationsPage,
    Outcome,
    Statement,
    StatementLine,
    Told,
)
from gateway.redemption import recovery_rows
from gateway.redemption.model import Fault, Redemption, State, Step
from gateway.redemption.recovery import Recovered, Recovery
from tests.integration.conftest import MORNING, Coalition
from tests.support.chronicle import Asked, Chronicle, plain
from tests.support.scripted import ScriptedPartner

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))
LOST = "red_00000000000000000000000001"
BEFORE = MORNING - timedelta(minutes=10)


class Listing:
    """A partner that lists what it knows, one operation a page."""

    capabilities = Capability.ALL | Capability.OPERATIONS

    def __init__(self, *given: Any) -> None:
        self.inner = ScriptedPartner(*given)
        self.telling: tuple[Told, ...] = ()
        self.listed: tuple[Operation, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def operations(self, since: datetime, cursor: str | None) -> OperationsPage:
        self.calls.append(("operations", f"{since.isoformat()} {cursor}"))
        place = int(cursor or 0)
        page = self.listed[place : place + 1]
        events = self.telling if place == 0 else ()
        return OperationsPage(page, events, str(place + 1), more=place + 1 < len(self.listed))


def played_by(coalition: Coalition, kind: Any) -> Any:
    old = coalition.partners["M05"]
    partner = kind("M05", old.prices, coalition.clock.now)
    coalition.partners["M05"] = partner
    coalition.redemptions.partners._adapters["M05"] = partner
    return partner


async def run(coalition: Coalition, since: datetime = BEFORE) -> dict[str, Recovered]:
    recovery = Recovery(coalition.redemptions)
    return {row.redemption_id: row for row in await recovery.run(since=since, merchants=["M05"])}


async def noted(coalition: Coalition, redemption_id: str) -> Any:
    async with coalition.database.reading() as tx:
        rows = await recovery_rows.list_recoveries(tx)
    return next(row for row in rows if row.redemption_id == redemption_id)


async def audited(coalition: Coalition) -> list[Any]:
    e = entries.c
    query = sa.select(e.subject, e.actor, e.body).where(e.kind == "redemption.recovered")
    async with coalition.database.reading() as tx:
        return [tuple(row) for row in await tx.execute(query.order_by(e.entry_id))]


async def test_a_listing_partner_is_asked_page_by_page(coalition: Coalition) -> None:
    partner = played_by(coalition, Listing)
    held = await coalition.held(*TICKET)
    op_key = f"{LOST}:hold:1"
    partner.inner.operations[op_key] = Fact(
        op_key, Outcome.HELD, hold_ref="h/9", expires_at=MORNING
    )
    unknown = Operation(MORNING, partner.inner.operations[op_key])
    notice = Fact("ins_1:notice", Outcome.CONFIRMED, 1, "b")
    elsewhere = Fact("nobody:hold:1", Outcome.HELD, hold_ref="h")
    partner.listed = (unknown, Operation(MORNING, notice), Operation(MORNING, elsewhere))
    webhook = {"id": "e1", "kind": "booking.confirmed", "op_key": held.op_key(Step.CONFIRM)}
    partner.telling = (Told("e1", webhook | {"version": 1}),)
    rows = await run(coalition)
    asked = [key for verb, key in partner.calls if verb == "operations"]
    assert asked == [f"{BEFORE.isoformat()} {cursor}" for cursor in (None, "1", "2")]
    assert rows[LOST] == Recovered(
        LOST, "M05", False, "ENDED", "hold let go: nothing can take effect any more"
    )
    assert rows[held.id] == Recovered(held.id, "M05", True, "ENDED", "HELD → HELD")
    assert set(rows) == {LOST, held.id}
    found = await noted(coalition, LOST)
    assert (found.found_at, found.ended_at) == (MORNING, MORNING)
    (seen,) = found.evidence
    assert seen["at"] == MORNING.isoformat()
    assert seen["fact"] == {
        "op_key": op_key, "outcome": "held", "version": 0, "booking_ref": None, "reason": None,
        "hold_ref": "h/9", "expires_at": MORNING.isoformat(), "artefacts": [], "context": {},
    }  # fmt: skip
    assert partner.inner.operations[op_key].outcome is Outcome.FENCED
    # The webhook was taken again, and came too early to mean anything.
    async with coalition.database.reading() as tx:
        again = await Chronicle(MORNING).kept(tx, held)
    assert any("finding STATUS_DIFF" in line for line in again)
    said = {"state": "ENDED", "merchant": "M05"}
    assert sorted(await audited(coalition)) == sorted([
        (LOST, "gateway", said | {"result": rows[LOST].result}),
        (held.id, "gateway", said | {"result": "HELD → HELD"}),
    ], key=lambda row: row[0])  # fmt: skip
    await run(coalition)
    assert len(await audited(coalition)) == 2  # What is the same is not told again.


async def test_what_a_partner_has_confirmed_meanwhile_is_burned(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]
    booked = await partner.confirm(
        str(held.hold_ref), op_key=held.op_key(Step.CONFIRM), deadline=MORNING + timedelta(1),
        gateway_ref=held.id,
    )  # fmt: skip
    coalition.clock.forward(seconds=30)
    asked = Asked(partner)
    assert (await run(coalition))[held.id].result == "HELD → COMMITTED"
    assert [plain(line, held) for line in asked.lines] == ["status red:confirm:1"]
    done = await coalition.get(held)
    assert (done.booking_ref, done.fact_version, done.deadline, done.committed_at) == (
        booked.booking_ref, 1, coalition.clock.now(), coalition.clock.now()
    )  # fmt: skip
    async with coalition.database.reading() as tx:
        kept = await Chronicle(MORNING).kept(tx, held)
    assert [line for line in kept if line.startswith(("call confirm", "fact red:confirm"))] == [
        "call confirm 1 red:confirm:1 of ? PENDING +30s to ",
        "fact red:confirm:1 confirmed v1 recovery b/red:confirm:1 "
        "artefacts={'code': 'C0000001'} +30s",
    ]
    found = await noted(coalition, held.id)
    assert (found.known, found.evidence, found.found_at) == (True, [], coalition.clock.now())


async def test_a_lost_hold_that_was_confirmed_is_burned(coalition: Coalition) -> None:
    partner = coalition.partners["M05"]
    partner.script["hold"] = ["lost_after"]
    doubtful = await coalition.held(*TICKET)
    assert (doubtful.state, doubtful.hold_ref) == (State.IN_DOUBT, None)
    op_key = doubtful.op_key(Step.CONFIRM)
    partner.operations[op_key] = Fact(op_key, Outcome.CONFIRMED, 3, "b/9", hold_ref="h/9")
    assert (await run(coalition))[doubtful.id].result == "IN_DOUBT → COMMITTED"
    done = await coalition.get(doubtful)
    assert (done.hold_ref, done.booking_ref, done.fact_version) == ("h/9", "b/9", 3)
    assert done.partner_hold_until == done.points_hold_until
    partner.script["hold"] = ["lost_after"]
    nameless = await coalition.held(*TICKET)
    op_key = nameless.op_key(Step.CONFIRM)
    partner.operations[op_key] = Fact(op_key, Outcome.CONFIRMED, 3, "b/8")
    await run(coalition)
    assert (await coalition.get(nameless)).hold_ref == "recovered"


async def test_a_hold_that_is_gone_there_is_let_go_here(coalition: Coalition) -> None:
    for outcome, state in ((Outcome.FENCED, "RELEASED"), (Outcome.HELD, "HELD")):
        held = await coalition.held(*TICKET)
        op_key = held.op_key(Step.HOLD)
        fact = Fact(op_key, outcome, hold_ref="h")
        coalition.partners["M05"].operations[op_key] = fact
        assert (await run(coalition))[held.id].result == f"HELD → {state}"
        ended = await coalition.get(held)
        assert ended.reason == (None if state == "HELD" else "RECOVERED")
    refused = await coalition.held(*TICKET)
    op_key = refused.op_key(Step.CONFIRM)
    coalition.partners["M05"].operations[op_key] = Fact(op_key, Outcome.REJECTED, 1)
    assert (await run(coalition))[refused.id].result == "HELD → RELEASING"  # It still holds it.


async def test_what_was_released_and_is_confirmed_there_is_late(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    hold = held.op_key(Step.HOLD)  # It has let the hold go before, so it fences none.
    coalition.partners["M05"].operations[hold] = Fact(hold, Outcome.REJECTED)
    await coalition.redemptions.release(member_id=held.member_id, redemption_id=held.id, key="r")
    op_key = held.op_key(Step.CONFIRM)
    coalition.partners["M05"].operations[op_key] = Fact(op_key, Outcome.CONFIRMED, 1, "b/9")
    async with coalition.database.transaction() as tx:
        row = {"redemption_id": held.id, "merchant_id": "M05", "known": True}
        await recovery_rows.add_recovery(tx, row | {"evidence": [], "found_at": MORNING})
    assert (await run(coalition))[held.id].result == "RELEASED → LATE_CONFIRMED"
    late = await coalition.get(held)
    assert (late.epoch, late.booking_ref) == (2, "b/9")
    gone = Fact(op_key, Outcome.CANCELLED, 2, "b/9")
    coalition.partners["M05"].operations[op_key] = gone
    assert (await run(coalition))[held.id].result == "LATE_CONFIRMED → CANCELLED"
    ended = await coalition.get(held)
    assert (ended.fault, ended.fact_version) == (Fault.REDEEMER, 2)


async def test_what_may_have_changed_is_asked_for(coalition: Coalition) -> None:
    """On its way, or committed and still cancellable; nothing that has ended."""
    committed = await coalition.redeemed(*TICKET)
    held = await coalition.held(*TICKET)
    other = await coalition.redeemed("mbr_demo_18", "CA-01", ("P-CA", None))
    used = await coalition.redeemed(*TICKET)
    asked: dict[str, Any] = {"merchant_id": "M05", "redemption_id": used.id}
    await coalition.redemptions.record_fulfilment(**asked, final_fare_fen=None, key="f")

    async def undecided(since: datetime) -> set[str]:
        async with coalition.database.reading() as tx:
            return set(await recovery_rows.undecided(tx, "M05", since=since))

    assert await undecided(MORNING) == {committed.id, held.id}
    r = recovery_rows.redemptions
    async with coalition.database.transaction() as tx:
        mine = sa.update(r).where(r.c.id == committed.id)
        await tx.execute(mine.values(cancel_until=MORNING))
    assert await undecided(MORNING) == {committed.id, held.id}
    assert await undecided(MORNING + timedelta(seconds=1)) == {held.id}
    assert other.id not in await run(coalition)


class Stated(ScriptedPartner):
    """A partner without a listing: its statement names what it has booked for us."""

    refundable = True

    async def statement(self, day: date) -> Statement:
        self.calls.append(("statement", day.isoformat()))
        lines = tuple(
            StatementLine(number, ref, f"b/{number}", "REDEMPTION", "M04", 4_050, day)
            for number, ref in enumerate((LOST, None, "don_1", LOST), 1)
        )
        return Statement(self.code, day, 1, lines, 4, 16_200)

    async def cancel_quote(self, booking_ref: str) -> CancelQuote:
        return replace(await super().cancel_quote(booking_ref), refundable=self.refundable)


async def test_the_statements_of_finished_days_are_read(coalition: Coalition) -> None:
    partner = played_by(coalition, Stated)
    asked = Asked(partner)
    op_key = f"{LOST}:confirm:1"
    partner.operations[op_key] = partner.booked(op_key)
    rows = await run(coalition, since=MORNING - timedelta(days=2))
    days = [day for verb, day in partner.calls if verb == "statement"]
    assert days == ["2026-11-18", "2026-11-19"]  # Today's is not finished.
    assert set(rows) == {LOST}
    result = f"b/{op_key} cancelled, at the gateway's fault"
    assert rows[LOST] == Recovered(LOST, "M05", False, "ENDED", result)
    assert asked.lines == [
        f"status {op_key}",
        f"cancel_quote b/{op_key}",
        f"cancel cq/b/{op_key}, op_key={LOST}:cancel:1",
    ]


async def test_a_booking_that_gives_nothing_back_is_for_people(coalition: Coalition) -> None:
    partner = played_by(coalition, Stated)
    partner.refundable = False
    op_key = f"{LOST}:confirm:1"
    partner.operations[op_key] = partner.booked(op_key)
    row = (await run(coalition, since=MORNING - timedelta(days=1)))[LOST]
    assert (row.state, row.result) == ("REVIEW", f"MISSING_US: b/{op_key} gives nothing back")
    partner.operations[op_key] = replace(partner.operations[op_key], outcome=Outcome.CANCELLED)
    row = (await run(coalition, since=MORNING - timedelta(days=1)))[LOST]
    assert (row.state, row.result) == ("ENDED", f"b/{op_key} was cancelled already")
    assert [body["result"] for _, _, body in await audited(coalition)] == [
        f"MISSING_US: b/{op_key} gives nothing back", f"b/{op_key} was cancelled already"
    ]  # fmt: skip


async def test_a_hold_that_turns_out_to_be_sold_is_cancelled(coalition: Coalition) -> None:
    partner = played_by(coalition, Stated)
    hold_key = f"{LOST}:hold:1"
    partner.operations[hold_key] = Fact(hold_key, Outcome.CONFIRMED, 1, "b/7")
    row = (await run(coalition, since=MORNING - timedelta(days=1)))[LOST]
    assert row.result == "b/7 cancelled, at the gateway's fault"
    assert partner.operations[f"{LOST}:confirm:1"].outcome is Outcome.FENCED


async def test_why_something_waits_is_said(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    partner = coalition.partners["M05"]

    async def ends(error: Exception | None) -> tuple[str, str, Any]:
        async def status(op_key: str) -> Fact:
            if error:
                raise error
            return Fact("another", Outcome.NOT_FOUND)

        partner.status = status
        row = (await run(coalition))[held.id]
        return row.state, row.result, (await noted(coalition, held.id)).ended_at

    refused = PartnerRejected(merchant="M05", reason="no")
    assert await ends(refused) == ("FOUND", f"waits: {refused}", None)
    broken = RuntimeError("x" * 600)
    assert await ends(broken) == ("FOUND", f"waits: {broken!r}"[:500], None)
    state, result, _ = await ends(None)
    assert (state, result.startswith("waits: Incredible")) == ("FOUND", True)
    assert await audited(coalition) == []


async def test_progress_is_told(coalition: Coalition) -> None:
    held = await coalition.held(*TICKET)
    seen: list[tuple[str, int, int]] = []
    recovery = Recovery(
        coalition.redemptions, progress=lambda what, done, total: seen.append((what, done, total))
    )
    await recovery.run(since=BEFORE, merchants=["M05", "M02"])
    assert seen == [
        ("asking partners", 0, 2), ("asking partners", 1, 2), ("ending what was lost", 0, 1)
    ]  # fmt: skip
    assert (await coalition.get(held)).state is State.HELD


async def test_another_merchants_redemption_is_none_of_its_business(coalition: Coalition) -> None:
    done: Redemption = await coalition.redeemed("mbr_demo_18", "CA-01", ("P-CA", None))
    partner = played_by(coalition, Listing)
    fact = Fact(done.op_key(Step.CONFIRM), Outcome.CANCELLED, 9, "b")
    claims = (Claim("M02", 5),)
    partner.listed = (Operation(MORNING, fact, claims=claims), Operation(MORNING, fact))
    told = "claimed, but it is M02's: nothing done"
    assert await run(coalition) == {done.id: Recovered(done.id, "M05", True, "ENDED", told)}
    assert (await coalition.get(done)).state is State.COMMITTED
    assert [verb for verb, _ in partner.calls if verb != "operations"] == []


async def test_a_claim_of_another_is_no_end_of_what_stands_at_the_merchant(
    coalition: Coalition,
) -> None:
    """Both name what we have lost; it is booked at M05, whatever M02 says, and whoever is first."""
    owner = played_by(coalition, Listing)
    other = Listing("M02", coalition.partners["M02"].prices, coalition.clock.now)
    coalition.redemptions.partners._adapters["M02"] = other
    op_key = f"{LOST}:confirm:1"
    owner.inner.operations[op_key] = booked = owner.inner.booked(op_key)
    owner.listed = other.listed = (Operation(MORNING, booked),)
    told = "hold let go: nothing can take effect any more"
    given_back = f"{booked.booking_ref} cancelled, at the gateway's fault"
    already = f"{booked.booking_ref} was cancelled already"

    async def ended(*merchants: str) -> list[Recovered]:
        return await Recovery(coalition.redemptions).run(since=BEFORE, merchants=merchants)

    theirs = Recovered(LOST, "M02", False, "ENDED", told)
    assert await ended("M02") == [theirs]  # It ends here: the run is broken off.
    assert "cancel" not in {verb for verb, _ in owner.calls}
    mine = Recovered(LOST, "M05", False, "ENDED", given_back)
    assert await ended("M02", "M05") == [theirs, mine]
    assert [key for verb, key in owner.calls if verb == "cancel"] == [f"{LOST}:cancel:1"]
    assert "cancel" not in {verb for verb, _ in other.calls}
    owner.inner.operations[op_key] = replace(booked, outcome=Outcome.CANCELLED)
    assert await ended("M05", "M02") == [theirs, replace(mine, result=already)]
    said = [(body["merchant"], body["result"]) for _, _, body in await audited(coalition)]
    assert said == [("M02", told), ("M05", given_back), ("M05", already)]
