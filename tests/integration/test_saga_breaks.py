"""What sagas found becomes breaks of that business day's run."""

from datetime import date, timedelta

from gateway.reconciliation import service as reconciliation
from gateway.reconciliation.model import Break, Run
from gateway.redemption.model import Redemption, State
from tests.integration.conftest import Coalition

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))  # 4,500 of 20,000
TODAY = date(2026, 11, 20)


async def matched(coalition: Coalition, day: date = TODAY) -> tuple[Run, list[Break]]:
    now = coalition.clock.now()
    async with coalition.database.transaction() as tx:
        run = await reconciliation.start_run(tx, day=day, actor="one", now=now)
        run = await reconciliation.match_run(tx, run_id=run.id, now=now)
        return run, await reconciliation.breaks(tx, run_id=run.id)


async def late_and_spent(coalition: Coalition) -> Redemption:
    """Confirmed after its release, when the points were spent."""
    held = await coalition.held(*TICKET)
    coalition.partners["M05"].script["confirm"] = ["pending"]
    await coalition.confirm(held)
    await coalition.told(held, "rejected", 1)
    await coalition.redemptions.work()
    for _ in range(4):
        await coalition.redeemed(*TICKET)
    await coalition.told(held, "confirmed", 2)
    return held


async def test_a_cancelled_late_confirmation_is_a_break_that_is_closed(
    coalition: Coalition,
) -> None:
    late = await late_and_spent(coalition)
    await coalition.jobs()
    run, (found,) = await matched(coalition)
    assert (found.code, found.ref, found.state) == (
        "LATE_CONFIRM_CANCELLED",
        late.id,
        "AUTO_RESOLVED",
    )
    assert (run.break_count, run.break_fen) == (1, 0)
    async with coalition.database.transaction() as tx:
        signed = await reconciliation.sign_off_run(
            tx, run_id=run.id, actor="two", now=coalition.clock.now()
        )
    assert signed.state == "LOCKED"


async def test_an_uncovered_one_is_decided_once_and_for_all(coalition: Coalition) -> None:
    late = await late_and_spent(coalition)
    coalition.partners["M05"].script["cancel_quote"] = ["reject"]
    await coalition.jobs()
    run, (found,) = await matched(coalition)
    assert (found.code, found.ref, found.amount_fen) == ("LATE_CONFIRM_UNCOVERED", late.id, 4_500)
    assert [(each.merchant, each.breaks) for each in run.merchants] == [("M05", 1)]
    now = coalition.clock.now()
    async with coalition.database.transaction() as tx:
        made = await reconciliation.propose_resolution(
            tx, break_id=found.id, action="ACCEPT_OURS", note="theirs", actor="one", now=now
        )
        await reconciliation.approve_resolution(
            tx, resolution_id=made.id, actor="two", limit_fen=4_500, now=now
        )
    again, (still,) = await matched(coalition)
    assert (again.supersedes, still.state) == (run.id, "AUTO_RESOLVED")
    assert again.result_hash == run.result_hash


async def test_findings_belong_to_the_day_they_were_found(coalition: Coalition) -> None:
    late = await late_and_spent(coalition)
    coalition.clock.forward(days=1)
    await coalition.jobs()
    assert (await matched(coalition))[1] == []
    (found,) = (await matched(coalition, TODAY + timedelta(days=1)))[1]
    assert found.ref == late.id


async def test_a_use_that_nobody_tells_is_a_break(coalition: Coalition) -> None:
    quote = await coalition.quote(*TICKET, slot="hall-1 2026-11-21T19:30")
    ask = {"member_id": "mbr_demo_01", "quote_id": quote.id}
    held, _ = await coalition.redemptions.hold(**ask, key="h")
    await coalition.confirm(held)
    coalition.clock.forward(days=5)
    for day, codes in ((23, []), (24, ["FULFIL_MISSING"]), (25, [])):
        _, found = await matched(coalition, date(2026, 11, day))
        assert [each.code for each in found] == codes
    await coalition.told(held, "fulfilled", 2)
    assert (await coalition.get(held)).state is State.FULFILLED
    assert (await matched(coalition, date(2026, 11, 24)))[1] == []
