"""Cancelled and used at once: what each order of versions comes to, and what finance is told."""

import pytest

from gateway import db
from gateway.ports import Fact, Outcome
from gateway.redemption import event_rows, races, reviews, store
from gateway.redemption.model import Redemption, State, Step
from gateway.redemption.races import Verdict
from tests.integration.conftest import Coalition

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))


async def findings(coalition: Coalition, redemption: Redemption) -> list[tuple[object, ...]]:
    async with coalition.database.reading() as tx:
        found = await store.list_findings(tx)
    return [
        (row.code, row.detail, row.found_at) for row in found if row.redemption_id == redemption.id
    ]


@pytest.mark.parametrize(
    ("used", "version", "verdict", "detail"),
    [
        (None, 3, Verdict.CANCELLED, None),
        (2, 3, Verdict.CANCELLED, None),
        (3, 3, Verdict.TIE, "cancelled, v3, and used, v3"),
        (0, 3, Verdict.USED, None),
        (4, 3, Verdict.USED, None),
        (4, 0, Verdict.TIE, "cancelled, v0, and used, v4"),
    ],
)
async def test_the_partners_versions_say_which_came_last(
    coalition: Coalition, used: int | None, version: int, verdict: Verdict, detail: str | None
) -> None:
    done, now = await coalition.redeemed(*TICKET), coalition.clock.now()
    fact = Fact(done.op_key(Step.CANCEL), Outcome.CANCELLED, version)
    async with coalition.database.transaction() as tx:
        if used is not None:
            row = {"merchant_id": "M05", "event_id": "e", "body": {}, "received_at": now}
            assert await event_rows.add_event(tx, row)
            await event_rows.close_event(
                tx, merchant_id="M05", event_id="e", outcome="postponed", redemption_id=done.id,
                now=now, use_version=used,
            )  # fmt: skip
        assert await races.cancelled_or_used(tx, done, fact, waiting=True, now=now) is verdict
    assert await findings(coalition, done) == ([("STATUS_DIFF", detail, now)] if detail else [])


async def test_a_cancellation_nobody_waits_for_is_told_to_finance(coalition: Coalition) -> None:
    committed, now = await coalition.redeemed(*TICKET), coalition.clock.now()
    held = await coalition.held(*TICKET)
    for redemption, verdict in ((committed, Verdict.CANCELLED), (held, Verdict.NEITHER)):
        fact = Fact(redemption.op_key(Step.CANCEL), Outcome.CANCELLED, 3)
        async with coalition.database.transaction() as tx:
            said = await races.cancelled_or_used(tx, redemption, fact, waiting=False, now=now)
        assert said is verdict
        detail = f"cancelled, v3, while {redemption.state}"
        assert await findings(coalition, redemption) == [("STATUS_DIFF", detail, now)]
    async with coalition.database.transaction() as tx:
        assert not await races.refused(tx, committed.op_key(Step.CONFIRM))
    assert await coalition.confirm(held)


@pytest.mark.parametrize(
    ("after", "verdict"), [(-1, Verdict.NEITHER), (0, Verdict.TIE), (1, Verdict.NEITHER)]
)
async def test_the_other_thing_told_later_is_told_to_finance(
    coalition: Coalition, after: int, verdict: Verdict
) -> None:
    done, now = await coalition.redeemed(*TICKET), coalition.clock.now()
    version = done.fact_version + after
    async with coalition.database.transaction() as tx:
        said = await races.told_after(tx, done, what="used", version=version, now=now)
    assert said is verdict
    detail = f"used, v{version}, after COMMITTED, v{done.fact_version}"
    told = [("STATUS_DIFF", detail, now)] if after >= 0 else []
    assert await findings(coalition, done) == told


async def test_a_decision_is_about_one_redemption(coalition: Coalition) -> None:
    partner = coalition.partners["M05"]
    partner.script["confirm"] = ["conflict", "conflict"]
    stuck = [await coalition.redeemed(*TICKET) for _ in range(2)]
    assert {one.state for one in stuck} == {State.NEEDS_REVIEW}
    given = {"outcome": "COMMIT", "note": "n", "fault": None, "actor": "one"}
    now = coalition.clock.now()
    async with coalition.database.transaction() as tx:
        first, second = [
            await reviews.propose(
                tx, redemption_id=one.id, evidence=f"BK-{number}", now=now, **given
            )
            for number, one in enumerate(stuck)
        ]
        await reviews.approve(
            tx, resolution_id=first.id, actor="two", limit_fen=10**9,
            settings=coalition.redemptions.settings, now=now,
        )  # fmt: skip
        await db.flush(tx)
        (decided,) = await reviews.resolutions(tx, resolution_id=first.id)
        (waiting,) = await reviews.resolutions(tx, resolution_id=second.id)
    assert (decided.state, waiting) == ("APPROVED", second)
    assert (await coalition.get(stuck[0])).state is State.COMMITTED
    assert (await coalition.get(stuck[1])).state is State.NEEDS_REVIEW


@pytest.mark.parametrize(
    ("kind", "after", "state"),
    [
        ("cancelled", -1, State.COMMITTED),
        ("cancelled", 0, State.COMMITTED),
        ("cancelled", 1, State.CANCELLED),
        ("fulfilled", -1, State.COMMITTED),
        ("fulfilled", 0, State.FULFILLED),  # Asked about after its use, it was told with this.
        ("fulfilled", 1, State.FULFILLED),
    ],
)
async def test_an_old_version_of_a_booking_changes_nothing(
    coalition: Coalition, kind: str, after: int, state: State
) -> None:
    done = await coalition.redeemed(*TICKET)
    await coalition.told(done, kind, done.fact_version + after)
    assert (await coalition.get(done)).state is state
