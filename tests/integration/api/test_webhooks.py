"""Partners' webhooks: signed over the raw bytes, stored before they are answered, applied once."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from gateway.oauth import signatures
from gateway.redemption import store
from tests.integration.api.conftest import WEBHOOK_SECRET

LEGS = [{"programme": "P-LL"}]


@pytest.fixture
async def send(gateway):
    """Deliver an event as the cinema does, or with something changed."""

    async def post(body, *, id="evt-1", at=None, secret=WEBHOOK_SECRET, merchant="M05", sent=None):
        raw = json.dumps(body).encode()
        at = at or datetime.now(UTC)
        headers = signatures.sign_event(raw, message_id=id, at=at, secret=secret)
        return await gateway.http.post(
            f"{gateway.base}/events/{merchant}", content=sent or raw, headers=headers
        )

    return post


async def committed(gateway) -> str:
    member = await gateway.member("mbr_demo_01")
    bought = await member.did("redeemOffer", "redemption { id }", offer="XH-01", legs=LEGS)
    return bought["redemption"]["id"]


async def state(gateway, redemption: str) -> str:
    member = await gateway.member("mbr_demo_01")
    text = "query($id: ID!) { redemption(id: $id) { state } }"
    return (await member.data(text, id=redemption))["redemption"]["state"]


def fulfilled(redemption: str) -> dict:
    key = f"{redemption}:confirm:1"
    return {"id": "evt-1", "kind": "booking.fulfilled", "op_key": key, "version": 9}


async def test_an_event_is_applied_and_its_repetition_is_not(gateway, send):
    redemption = await committed(gateway)
    assert (await send(fulfilled(redemption))).status_code == 204
    assert await state(gateway, redemption) == "FULFILLED"
    assert (await send(fulfilled(redemption))).status_code == 204
    async with gateway.runtime.database.reading() as tx:
        stored = (await tx.execute(sa.select(store.events))).all()
    assert len(stored) == 1


async def test_a_wrong_signature_is_refused_and_nothing_is_stored(gateway, send):
    redemption = await committed(gateway)
    event = fulfilled(redemption)
    other = "whsec_" + "YW5vdGhlciBzZWNyZXQgYWx0b2dldGhlcg=="
    changed = json.dumps(event | {"version": 10}).encode()
    old = datetime.now(UTC) - timedelta(minutes=10)
    answers = [
        await send(event, secret=other),
        await send(event, sent=changed),
        await send(event, at=old),
        await send(event, merchant="M07"),
        await send(event, merchant="nobody"),
        await gateway.http.post(f"{gateway.base}/events/M05", content=b"{}"),
    ]
    assert [answer.status_code for answer in answers] == [401] * 6
    assert await state(gateway, redemption) == "COMMITTED"
    async with gateway.runtime.database.reading() as tx:
        assert (await tx.execute(sa.select(store.events))).all() == []


async def test_a_body_that_is_too_long_or_no_json_is_refused(gateway, send):
    long = await send({"pad": "x" * 70_000})
    assert long.status_code == 413
    raw = b"not json"
    headers = signatures.sign_event(
        raw, message_id="e", at=datetime.now(UTC), secret=WEBHOOK_SECRET
    )
    wrong = await gateway.http.post(f"{gateway.base}/events/M05", content=raw, headers=headers)
    assert wrong.status_code == 400


async def test_an_event_nobody_can_use_is_stored_and_answered(gateway, send):
    answer = await send({"id": "x", "kind": "weather.changed"})
    assert answer.status_code == 204
    async with gateway.runtime.database.reading() as tx:
        (stored,) = (await tx.execute(sa.select(store.events))).all()
    assert stored.outcome
