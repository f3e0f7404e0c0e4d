"""Events and outgoing webhooks: once per change, in order per object, signed, retried, replayed."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from gateway.db import Database
from gateway.errors import NotFound
from gateway.events import desk, store, webhooks
from gateway.events import service as events
from gateway.events.model import DeliveryState, EndpointState
from gateway.events.service import Change
from gateway.events.webhooks import Webhooks, client
from gateway.members.model import pseudonym
from gateway.oauth.keys import Vault
from gateway.redemption.model import State
from gateway.runtime import webhook_client
from gateway.settings import Settings
from gateway.settlement import service as agreements
from tests.integration.conftest import MORNING, Coalition
from tests.support.receiver import Receiver, receiving

VAULT = Vault(bytes(32))
SECRET = b"secret"
LEGS = ("P-LL", None)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
async def hooks(coalition: Coalition) -> AsyncIterator[Webhooks]:
    async with sender(coalition) as made:
        yield made


@contextlib.asynccontextmanager
async def sender(
    coalition: Coalition, database: Database | None = None, **changes: Any
) -> AsyncIterator[Webhooks]:
    """A sender of its own, as another worker has it."""
    settings = replace(coalition.redemptions.settings, **changes)
    wire = httpx2.AsyncHTTPTransport(trust_env=False)
    async with client(transport=wire, timeout=5.0) as http:
        yield Webhooks(database or coalition.database, http, settings, vault=VAULT, secret=SECRET)


async def drain(hooks: Webhooks) -> None:
    """Until nothing more can be sent now."""
    while await hooks.turn():
        pass


async def listen(coalition, receiver, merchant="M05", types=("redemption.*",)):
    """Register the receiver as a merchant's endpoint."""
    async with coalition.database.transaction() as tx:
        made, secret = await events.register(
            tx,
            merchant_id=merchant,
            url=receiver.url,
            types=types,
            vault=VAULT,
            sandbox=True,
            now=MORNING,
        )
    receiver.secrets.append(secret)
    return made


async def log_of(coalition, object_id):
    async with coalition.database.reading() as tx:
        return await store.of_objects(tx, [object_id])


async def all_deliveries(coalition):
    async with coalition.database.reading() as tx:
        return await store.find_deliveries(tx)


async def make_all_due(coalition):
    """As if the pauses between tries had passed."""
    async with coalition.database.transaction() as tx:
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        waiting = store.deliveries.c.state == "DUE"
        await tx.execute(sa.update(store.deliveries).where(waiting).values(due_at=long_ago))


async def test_every_state_change_is_one_event(coalition):
    made = await coalition.redeemed("mbr_demo_01", "XH-01", LEGS)
    assert made.state is State.COMMITTED
    found = await log_of(coalition, made.id)
    assert [event.type for event in found] == [
        "redemption.held",
        "redemption.confirming",
        "redemption.committed",
    ]
    assert [event.seq for event in found] == [1, 2, 3]
    assert {event.merchants for event in found} == {("M04", "M05")}
    assert {event.member_id for event in found} == {"mbr_demo_01"}
    assert found[-1].data == {"state": "COMMITTED", "merchant": "M05", "offer": "XH-01"}
    assert found[-1].id == f"evt_{made.id}_3"


async def test_a_merchant_is_told_of_its_own_in_order_and_signed(coalition, hooks, receiver):
    await listen(coalition, receiver)
    made = await coalition.redeemed("mbr_demo_01", "XH-01", LEGS)
    await coalition.redeemed("mbr_demo_01", "LL-01", LEGS)  # Another merchant's.
    await drain(hooks)
    assert [event["type"] for event in receiver.taken] == [
        "redemption.held",
        "redemption.confirming",
        "redemption.committed",
    ]
    first, *_ = receiver.taken
    assert first["object"] == made.id
    assert first["data"]["member"] == pseudonym(SECRET, "M05", "mbr_demo_01")
    assert "mbr_demo_01" not in str(receiver.taken)
    assert receiver.refused == 0
    assert {each.state for each in await all_deliveries(coalition)} == {DeliveryState.DELIVERED}


async def test_a_retry_holds_back_what_follows_of_its_object_only(coalition, hooks, receiver):
    await listen(coalition, receiver)
    one = await coalition.redeemed("mbr_demo_01", "XH-01", LEGS)
    other = await coalition.redeemed("mbr_demo_01", "XH-01", LEGS)

    def answers(event, attempt):
        return 503 if (event["object"], event["sequence"]) == (one.id, 2) and attempt < 4 else 204

    receiver.answers = answers
    for _ in range(3):
        await drain(hooks)
        assert receiver.order(other.id) == [1, 2, 3]
        assert receiver.order(one.id) == [1]
        await make_all_due(coalition)
    await drain(hooks)
    assert receiver.order(one.id) == [1, 2, 3]
    ids = [event["id"] for event in receiver.calls if event["sequence"] == 2]
    assert ids.count(f"evt_{one.id}_2") == 4


async def test_who_asks_to_be_left_alone_is(coalition, hooks, receiver):
    await listen(coalition, receiver)
    await coalition.held("mbr_demo_01", "XH-01", LEGS)
    receiver.answers, receiver.more = lambda event, attempt: 503, {"retry-after": "1800"}
    await hooks.turn()
    (tried,) = await all_deliveries(coalition)
    wait = tried.due_at - tried.sent_at
    assert timedelta(minutes=30) <= wait < timedelta(minutes=31)


async def test_a_dead_letter_is_rehearsed_as_the_page_says(coalition, hooks, receiver):
    """One failed try, the row's count set to the last, sent again by hand: given up at once."""
    await listen(coalition, receiver)
    made = await coalition.redeemed("mbr_demo_01", "XH-01", LEGS)
    receiver.answers = lambda event, attempt: 500 if event["sequence"] == 1 else 204
    await hooks.turn()
    first = next(each for each in await all_deliveries(coalition) if each.event.seq == 1)
    assert (first.state, first.attempts) == (DeliveryState.DUE, 1)
    async with coalition.database.transaction() as tx:
        mine = store.deliveries.c.number == first.number
        await tx.execute(sa.update(store.deliveries).where(mine).values(attempts=10))
    count, why = await desk.resend(coalition.database, [f"evt_{made.id}_1", f"evt_{made.id}_2"])
    assert count == 1
    assert [line.partition(": ")[2] for line in why] == [
        "earlier ones of its object go first (1); resend those, too"
    ]
    await hooks.turn()
    by_seq = {each.event.seq: each for each in await all_deliveries(coalition)}
    assert by_seq[1].state is DeliveryState.DEAD


async def test_given_up_after_the_last_try_and_replayed_under_the_same_id(
    coalition, hooks, receiver
):
    await listen(coalition, receiver)
    made = await coalition.redeemed("mbr_demo_01", "XH-01", LEGS)
    receiver.answers = lambda event, attempt: 500 if event["sequence"] == 1 else 204
    for _ in range(11):
        await make_all_due(coalition)
        await hooks.turn()
    await drain(hooks)
    by_seq = {each.event.seq: each for each in await all_deliveries(coalition)}
    assert by_seq[1].state is DeliveryState.DEAD
    assert by_seq[1].status == 500
    assert receiver.order(made.id) == [2, 3]
    assert len([event for event in receiver.calls if event["sequence"] == 1]) == 11

    receiver.answers = lambda event, attempt: 204
    async with coalition.database.transaction() as tx:
        count = await events.resend(
            tx, merchant_id="M05", failed_since=MORNING, system_now=datetime.now(UTC)
        )
    assert count == 1
    await hooks.turn()
    assert receiver.order(made.id) == [2, 3, 1]
    assert receiver.taken[-1]["id"] == f"evt_{made.id}_1"


async def test_gone_stops_the_endpoint_until_it_is_wanted_again(coalition, hooks, receiver):
    endpoint = await listen(coalition, receiver)
    made = await coalition.redeemed("mbr_demo_01", "XH-01", LEGS)
    receiver.answers = lambda event, attempt: 410
    await drain(hooks)
    await make_all_due(coalition)
    assert await hooks.turn() == 0
    assert len(receiver.calls) == 1
    async with coalition.database.transaction() as tx:
        assert (await events.endpoint(tx, endpoint.id)).state is EndpointState.GONE
        await events.change(
            tx,
            endpoint_id=endpoint.id,
            merchant_id="M05",
            url=receiver.url,
            types=["redemption.*"],
            active=True,
            rotate=False,
            vault=VAULT,
            sandbox=True,
            system_now=datetime.now(UTC),
        )
    receiver.answers = lambda event, attempt: 204
    await drain(hooks)
    assert receiver.order(made.id) == [1, 2, 3]


async def test_two_workers_keep_the_order_and_never_send_at_once(coalition, receiver):
    """Every third call fails, and two processes send."""
    await listen(coalition, receiver, types=["agreement.*"])
    chance = random.Random(7)
    receiver.seconds = 0.01
    receiver.answers = lambda event, attempt: 503 if chance.random() < 0.33 else 204
    objects = [f"agr_{number}" for number in range(12)]
    for _ in range(4):
        changes = [Change("agreement.proposed", name, {"M05"}, {}) for name in objects]
        async with coalition.database.transaction() as tx:
            await events.record(tx, *changes, now=MORNING)
    second = Database(coalition.database.url)
    stop = asyncio.Event()
    try:
        async with (
            sender(coalition, worker_poll_seconds=0.01, lease_seconds=60) as one,
            sender(coalition, second, worker_poll_seconds=0.01, lease_seconds=60) as two,
        ):
            running = [asyncio.create_task(each.run(stop)) for each in (one, two)]
            async with asyncio.timeout(240):
                while len(receiver.taken) < 48:
                    await make_all_due(coalition)
                    await asyncio.sleep(0.02)
            stop.set()
            await asyncio.gather(*running)
    finally:
        await second.close()
    assert [receiver.order(name) for name in objects] == [[1, 2, 3, 4]] * 12
    assert set(receiver.most_inside.values()) == {1}
    assert len(receiver.calls) > 48
    assert receiver.refused == 0


async def test_a_worker_that_dies_while_sending_leaves_it_to_another(coalition, hooks, receiver):
    await listen(coalition, receiver)
    made = await coalition.redeemed("mbr_demo_01", "XH-01", LEGS)
    receiver.gate = asyncio.Event()
    async with sender(coalition, lease_seconds=600) as dying:
        task = asyncio.create_task(dying.turn())
        while not receiver.calls:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    receiver.gate.set()
    assert await hooks.turn() == 0  # Another has it on lease, dead or not.
    async with coalition.database.transaction() as tx:
        over = datetime.now(UTC) - timedelta(seconds=1)
        await tx.execute(sa.update(store.deliveries).values(leased_until=over))
    await drain(hooks)
    assert receiver.order(made.id)[-3:] == [1, 2, 3]
    assert {each.state for each in await all_deliveries(coalition)} == {DeliveryState.DELIVERED}


async def test_both_secrets_sign_while_they_rotate(coalition, hooks, receiver):
    endpoint = await listen(coalition, receiver)
    (old,) = receiver.secrets
    async with coalition.database.transaction() as tx:
        now = datetime.now(UTC)
        asked = {"url": receiver.url, "types": ["redemption.*"], "active": True, "rotate": True}
        asked |= {"endpoint_id": endpoint.id, "vault": VAULT, "sandbox": True}
        _, new = await events.change(tx, merchant_id="M05", system_now=now, **asked)
        with pytest.raises(NotFound):
            await events.change(tx, merchant_id="M04", system_now=now, **asked)
    assert new != old
    await coalition.held("mbr_demo_01", "XH-01", LEGS)
    await drain(hooks)
    assert len(receiver.taken) == 1  # The old one still fits.
    assert len(receiver.headers[0]["webhook-signature"].split()) == 2

    receiver.secrets[:] = [new]
    await coalition.held("mbr_demo_01", "XH-01", LEGS)
    await drain(hooks)
    assert len(receiver.taken) == 2
    async with coalition.database.transaction() as tx:
        over = datetime.now(UTC) - timedelta(seconds=1)
        await store.update_endpoint(tx, endpoint.id, previous_until=over)
    receiver.secrets[:] = [old]
    await coalition.held("mbr_demo_01", "XH-01", LEGS)
    await drain(hooks)
    assert receiver.refused == 1  # A day later the old one is of no use.
    async with coalition.database.reading() as tx:
        stored = str((await tx.execute(sa.select(store.endpoints))).all())
    assert old not in stored
    assert new not in stored


async def test_no_answer_in_time_is_a_failure_and_a_long_one_is_cut(coalition, receiver):
    await listen(coalition, receiver)
    await coalition.held("mbr_demo_01", "XH-01", LEGS)
    receiver.gate = asyncio.Event()
    async with sender(coalition, webhook_timeout_seconds=0.1) as hooks:
        await hooks.turn()
    receiver.gate.set()
    (tried,) = await all_deliveries(coalition)
    assert (tried.state, tried.status, tried.answer) == ("DUE", None, "no answer in time")
    receiver.content, receiver.answers = "x" * 1_000_000, lambda event, attempt: 200
    await make_all_due(coalition)
    async with sender(coalition) as hooks:
        await hooks.turn()
    (tried,) = await all_deliveries(coalition)
    assert (tried.state, tried.answer) == ("DELIVERED", "x" * 500)


async def test_outside_the_sandbox_nothing_is_sent_to_an_inner_address(coalition, receiver):
    made = await coalition.held("mbr_demo_01", "XH-01", LEGS)
    (event,) = await log_of(coalition, made.id)
    live = Settings(mode="live")
    async with webhook_client(live) as http:
        hooks = Webhooks(coalition.database, http, live, vault=VAULT, secret=SECRET)
        for url in (receiver.url, receiver.url.replace("http:", "https:"), "https://localhost/"):
            keys = [events.new_secret()]
            said = await hooks.send(event, merchant_id="M05", url=url, keys=keys)
            assert said.status is None
            assert "ConnectError" in said.text
    assert receiver.calls == []


async def test_an_event_committed_late_is_still_routed(coalition, monkeypatch):
    """PostgreSQL's numbers become visible out of order: a gap is waited for, then given up."""
    database = coalition.database
    hidden = Change("agreement.proposed", "agr_late", {"M04"}, {})
    seen = Change("agreement.proposed", "agr_soon", {"M04"}, {})
    if "sqlite" in database.url:
        pytest.skip("SQLite has one writer: numbers become visible in order")
    async with sender(coalition) as hooks:
        async with database.transaction() as tx:
            await events.record(tx, hidden, now=MORNING)
            async with database.transaction() as other:
                await events.record(other, seen, now=MORNING)
            assert await hooks.route() == 1
            assert await hooks.route() == 0
        assert await hooks.route() == 1
        async with database.reading() as tx:
            found = await events.feed_after(tx, 0, limit=9)
            assert [event.object_id for _, _, event in found] == ["agr_soon", "agr_late"]
            assert (await store.head(tx))[0] == max(event.number for _, _, event in found)
        with contextlib.suppress(ZeroDivisionError):
            async with database.transaction() as tx:
                await events.record(tx, hidden, now=MORNING)
                raise ZeroDivisionError
        async with database.transaction() as tx:
            await events.record(tx, seen, now=MORNING)
        await hooks.route()
        async with database.reading() as tx:
            low, _ = await store.head(tx)
        monkeypatch.setattr(webhooks, "_GAP", timedelta(0))
        async with database.transaction() as tx:
            await events.record(tx, seen, now=MORNING)
        await hooks.route()
        async with database.reading() as tx:
            assert (await store.head(tx))[0] == low + 3


async def test_settlements_and_agreements_are_told_to_their_parties(coalition, hooks):
    async with coalition.database.reading() as tx:
        assert await events.events_of(tx, "M04", limit=9) == []
    async with coalition.database.transaction() as tx:
        await agreements.propose_agreement(
            tx,
            proposer="M04",
            issuer="M04",
            redeemer="M05",
            settlement_bps=9_000,
            fee_bps=0,
            monthly_cap_fen=1,
            valid_from=MORNING.date(),
            valid_until=MORNING.date() + timedelta(days=9),
            now=MORNING,
        )
        await agreements.sign_agreement(
            tx, agreement_id="agr_M04_M05", merchant_id="M05", now=MORNING
        )
    await hooks.route()
    async with coalition.database.reading() as tx:
        for merchant in ("M04", "M05"):
            found = await events.events_of(tx, merchant, types=["agreement.*"], limit=9)
            assert [event.type for _, event in found] == ["agreement.signed", "agreement.proposed"]
        assert await events.events_of(tx, "M06", types=["agreement.*"], limit=9) == []


async def test_events_refuse_to_be_changed(coalition):
    await coalition.held("mbr_demo_01", "XH-01", LEGS)
    for statement in (sa.delete(store.events), sa.update(store.events).values(seq=9)):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            async with coalition.database.transaction() as tx:
                await tx.execute(statement)
