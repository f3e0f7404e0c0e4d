"""Events and outgoing webhooks: once per change, in order per object, signed, retried, replayed."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import httpx2
import pytest
import sqlalchemy as sa

from gateway.events import service as events
from gateway.events import store
from gateway.events.model import DeliveryState, EndpointState
from gateway.events.webhooks import Webhooks, client
from gateway.members.model import pseudonym
from gateway.oauth.keys import Vault
from gateway.redemption.model import State
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


def sender(coalition, **changes):
    """A sender of its own, as another worker has it."""
    import contextlib

    settings = replace(coalition.redemptions.settings, **changes)

    @contextlib.asynccontextmanager
    async def opened():
        wire = httpx2.AsyncHTTPTransport(trust_env=False)
        async with client(transport=wire, timeout=5.0) as http:
            yield Webhooks(coalition.database, http, settings, vault=VAULT, secret=SECRET)

    return opened()


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
    while await hooks.turn():
        pass
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
        while await hooks.turn():
            pass
        assert receiver.order(other.id) == [1, 2, 3]
        assert receiver.order(one.id) == [1]
        await make_all_due(coalition)
    while await hooks.turn():
        pass
    assert receiver.order(one.id) == [1, 2, 3]
    ids = [event["id"] for event in receiver.calls if event["sequence"] == 2]
    assert ids.count(f"evt_{one.id}_2") == 4


async def test_given_up_after_the_last_try_and_replayed_under_the_same_id(
    coalition, hooks, receiver
):
    await listen(coalition, receiver)
    made = await coalition.redeemed("mbr_demo_01", "XH-01", LEGS)
    receiver.answers = lambda event, attempt: 500 if event["sequence"] == 1 else 204
    for _ in range(11):
        await make_all_due(coalition)
        await hooks.turn()
    while await hooks.turn():
        pass
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
    while await hooks.turn():
        pass
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
    while await hooks.turn():
        pass
    assert receiver.order(made.id) == [1, 2, 3]
