"""A webhook that cannot be applied: set aside or kept, seen by operators, in no other's way."""

import asyncio
import string
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from gateway.db import system_now
from gateway.operations import checks, figures
from gateway.operations.checks import Verdict
from gateway.ports import PartnerEvent
from gateway.redemption import effects, event_rows, store
from gateway.redemption.event_rows import Aside
from gateway.redemption.model import MAX_VERSION, Redemption, State, Step
from gateway.telemetry import metrics
from tests.integration.conftest import MORNING, Coalition
from tests.integration.ways import TICKET

DIGITS = string.ascii_letters + string.digits
LONG = "".join(DIGITS[number * number * 7 % 61 + number % 2] for number in range(9_000))
KINDS = ("confirmed", "rejected", "fulfilled", "no_show", "cancelled")


def body(done: Redemption, kind: str = "fulfilled", **more: Any) -> dict[str, Any]:
    told = {"kind": f"booking.{kind}", "op_key": done.op_key(Step.CONFIRM), "version": 9}
    return told | more


async def receive(coalition: Coalition, event_id: str, told: dict[str, Any]) -> bool:
    return await coalition.redemptions.inbox.receive("M05", event_id, {"id": event_id} | told)


async def row(coalition: Coalition, event_id: str) -> sa.Row[Any]:
    async with coalition.database.reading() as tx:
        query = sa.select(store.events).where(store.events.c.event_id == event_id)
        return (await tx.execute(query)).one()


# -- what is outside its bounds -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2**70),
        ("version", MAX_VERSION + 1),
        ("version", -1),
        ("version", True),
        ("version", "9"),
        ("op_key", LONG),
        ("op_key", "red:confirm:\x01"),
        ("op_key", ["red"]),
        ("final_fare_fen", 2**80),
        ("final_fare_fen", -1),
        ("final_fare_fen", "abc"),
        ("final_fare_fen", 1.5),
        ("booking_ref", {"a": 1}),
        ("booking_ref", LONG),
        ("reason", 5),
        ("reason", "x" * 3_000),
        ("artefacts", {"code": 5}),
        ("artefacts", {LONG: "x"}),
        ("artefacts", ["code"]),
        ("event_id", LONG),
        ("event_id", None),
        ("occurred_at", datetime(2026, 11, 20)),  # noqa: DTZ001
        ("occurred_at", "now"),
    ],
)
async def test_a_webhook_outside_its_bounds_is_set_aside_and_stops_no_other(
    coalition: Coalition, field: str, value: Any
) -> None:
    done = await coalition.redeemed(*TICKET)
    partner = coalition.partners["M05"]
    read = partner.event

    def event(told: Mapping[str, Any]) -> PartnerEvent:
        made = read(told)
        return replace(made, **{field: value}) if told["id"] != "good" else made

    partner.event = event  # type: ignore[method-assign,assignment]
    for kind in KINDS:
        assert await receive(coalition, kind, body(done, kind))
    assert (await coalition.get(done)).state is State.COMMITTED
    assert await receive(coalition, "good", body(done))
    assert (await coalition.get(done)).state is State.FULFILLED
    for kind in KINDS:
        kept = await row(coalition, kind)
        assert kept.outcome.startswith(f"set aside: {field}: ")
        assert len(kept.outcome) < 200
        assert (kept.applied_at, kept.use_version) == (MORNING, None)


async def test_an_instant_that_no_calendar_has_is_set_aside(coalition: Coalition) -> None:
    def event(_: Mapping[str, Any]) -> PartnerEvent:
        raise OverflowError("date value out of range")

    coalition.partners["M05"].event = event  # type: ignore[method-assign,assignment]
    assert await receive(coalition, "e1", {})
    assert (await row(coalition, "e1")).outcome == "set aside: date value out of range"


async def test_the_greatest_version_is_taken(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    await receive(coalition, "e1", body(done, version=MAX_VERSION))
    assert (await coalition.get(done)).fact_version == MAX_VERSION


# -- what breaks ----------------------------------------------------------------------------------


async def test_a_webhook_that_breaks_is_tried_again_then_set_aside(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, inbox = await coalition.redeemed(*TICKET), coalition.redemptions.inbox
    tries = []

    async def fulfil(*_: Any, **__: Any) -> Redemption:
        tries.append(coalition.clock.now() - MORNING)
        raise OverflowError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(effects, "fulfil", fulfil)
        assert await receive(coalition, "e1", body(done))
        assert await receive(coalition, "e2", body(done, "cancelled", version=0))
        assert (await row(coalition, "e2")).outcome == "ignored: version 0 is not after 1"
        for _ in range(60):
            coalition.clock.forward(seconds=1)
            await inbox.apply_stored(limit=50)
    assert tries == [timedelta(seconds=each) for each in (0, 1, 3, 7, 15)]
    kept = await row(coalition, "e1")
    assert kept.outcome == "failed: OverflowError('a bug')"
    assert (kept.applied_at - MORNING, kept.body["id"]) == (timedelta(seconds=15), "e1")


async def test_a_note_of_what_became_of_it_that_fails_stops_no_other(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = await coalition.redeemed(*TICKET)
    close = event_rows.close_event

    async def close_event(tx: Any, **row: Any) -> None:
        if row["event_id"] == "e1":
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        await close(tx, **row)

    monkeypatch.setattr(event_rows, "close_event", close_event)
    assert await receive(coalition, "e1", body(done, version=0))
    assert await receive(coalition, "e2", body(done))
    assert (await coalition.get(done)).state is State.FULFILLED
    assert (await row(coalition, "e1")).applied_at is None


# -- what the database has not time for ------------------------------------------------------------


class Said(Exception):
    """What a driver says, by its code."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@pytest.mark.parametrize("code", ["57014", "53200", "55P03", "23505", "40P01", "08006"])
async def test_a_webhook_the_database_could_not_apply_is_applied_later(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    done = await coalition.redeemed(*TICKET)

    async def fulfil(*_: Any, **__: Any) -> Redemption:
        raise DBAPIError("UPDATE", {}, Said(code))

    with monkeypatch.context() as patched:
        patched.setattr(effects, "fulfil", fulfil)
        assert await receive(coalition, "e1", body(done))
        for _ in range(20):
            coalition.clock.forward(seconds=60)
            await coalition.redemptions.inbox.apply_stored(limit=50)
    assert (await row(coalition, "e1")).applied_at is None
    coalition.clock.forward(seconds=60)
    assert await coalition.redemptions.inbox.apply_stored(limit=50) == 1
    assert (await coalition.get(done)).state is State.FULFILLED
    assert (await row(coalition, "e1")).outcome == "applied"


async def test_a_webhook_whose_statement_is_cancelled_is_applied_later(
    coalition: Coalition,
) -> None:
    if coalition.database.file:
        pytest.skip("nobody cancels a statement there")
    done = await coalition.redeemed(*TICKET)
    async with coalition.database.transaction() as tx:
        await store.find(tx, done.id, lock=True)
        waiting = asyncio.create_task(receive(coalition, "e1", body(done)))
        cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
        cancel += " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        for _ in range(100):
            await asyncio.sleep(0.05)
            async with coalition.database.reading() as other:
                if await other.scalar(sa.text(cancel)):
                    break
        assert await waiting
    assert (await row(coalition, "e1")).applied_at is None
    assert not await receive(coalition, "e1", body(done))
    coalition.clock.forward(seconds=1)
    await coalition.redemptions.inbox.apply_stored(limit=50)
    assert (await coalition.get(done)).state is State.FULFILLED


# -- who learns of it -----------------------------------------------------------------------------


async def test_operators_see_what_was_set_aside_for_a_week(coalition: Coalition) -> None:
    done = await coalition.redeemed(*TICKET)
    await receive(coalition, "e1", body(done, version=2**70))
    await receive(coalition, "e2", body(done, version=0))  # Stale: nothing to look at.

    async def told() -> tuple[Aside, float]:
        now = coalition.clock.now()
        async with coalition.database.reading() as tx:
            await figures.read(tx, now=now, at=system_now())
            metric = metrics.EVENTS_ASIDE._value.get()
            return await event_rows.set_aside(tx, since=now - event_rows.REMEMBERED), metric

    assert await told() == (Aside(1, ("M05 e1",)), 1.0)
    coalition.clock.forward(days=8)
    assert await told() == (Aside(0, ()), 0.0)


@pytest.mark.parametrize(
    ("waiting", "oldest", "aside", "verdicts"),
    [
        (0, 0, Aside(0, ()), (Verdict.OK, Verdict.OK)),
        (3, 2, Aside(0, ()), (Verdict.OK, Verdict.OK)),
        (3, 601, Aside(1, ("M05 e1",)), (Verdict.FAIL, Verdict.WARN)),
    ],
)
def test_the_doctor_tells_of_webhooks(
    waiting: int, oldest: int, aside: Aside, verdicts: tuple[Verdict, Verdict]
) -> None:
    found = checks.inbox(waiting, timedelta(seconds=oldest), aside.count, aside.named)
    assert (found[0].verdict, found[1].verdict) == verdicts
