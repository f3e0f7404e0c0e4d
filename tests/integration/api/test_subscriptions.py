"""Subscriptions over real sockets: in order, resumable, one's own, and no longer than the token."""

import asyncio
import contextlib
import time

import pytest

from gateway.oauth.scopes import Role
from tests.support.gateway import running
from tests.support.subscriber import FEED, REDEMPTION, socket, subscribed

LEGS = [{"programme": "P-LL"}]


async def held(member) -> str:
    quote = await member.did("requestQuote", "quote { id }", offer="XH-01", legs=LEGS)
    made = await member.did("holdRedemption", "redemption { id }", quote=quote["quote"]["id"])
    return made["redemption"]["id"]


async def confirm(member, redemption: str) -> None:
    await member.did("confirmRedemption", "redemption { state }", redemption=redemption)


@pytest.fixture
async def member(gateway):
    return await gateway.member("mbr_demo_01")


async def test_changes_come_in_order_as_they_happen(gateway, member):
    redemption = await held(member)
    async with subscribed(gateway.base, member.token) as client:
        await client.follow(REDEMPTION, id=redemption)
        assert (await client.next())["type"] == "redemption.held"
        await confirm(member, redemption)
        found = [await client.next(), await client.next()]
        assert [each["sequence"] for each in found] == [2, 3]
        assert found[-1]["state"] == "COMMITTED"
        assert found[-1]["redemption"] == {"id": redemption, "state": "COMMITTED"}
        merchant = await gateway.merchant("M05")
        await merchant.did("recordFulfilment", "redemption { state }", redemption=redemption)
        assert (await client.next())["state"] == "FULFILLED"
        assert (await client.hear())["type"] == "complete"


async def test_after_a_break_exactly_what_was_missed_comes(gateway, member):
    redemption = await held(member)
    async with subscribed(gateway.base, member.token) as client:
        await client.follow(REDEMPTION, id=redemption)
        seen = (await client.next())["sequence"]
    await confirm(member, redemption)
    async with subscribed(gateway.base, member.token) as client:
        await client.follow(REDEMPTION, id=redemption, after=seen)
        assert [(await client.next())["sequence"] for _ in range(2)] == [2, 3]
        await client.say(type="ping")
        assert await client.hear() == {"type": "pong"}


async def test_anothers_redemption_is_as_none(gateway, member):
    redemption = await held(member)
    other = await gateway.member("mbr_demo_02")
    async with subscribed(gateway.base, other.token) as client:
        for name in (redemption, "red_none"):
            followed = await client.follow(REDEMPTION, id=name)
            assert await client.hear() == {"type": "complete", "id": followed}


async def test_a_socket_ends_with_its_token(gateway, member):
    redemption = await held(member)
    token = await gateway.token(Role.MEMBER, member="mbr_demo_01", seconds=2)
    async with subscribed(gateway.base, token) as client:
        await client.follow(REDEMPTION, id=redemption)
        assert (await client.next())["sequence"] == 1
        assert await client.closed_with() == 4401


async def test_who_may_not_gets_no_event(gateway, member):
    merchant = await gateway.merchant("M05")
    weak = await gateway.token(Role.MEMBER, member="mbr_demo_01", scope="catalog:read")
    for token, code in ((merchant.token, "ROLE_FORBIDDEN"), (weak, "SCOPE_MISSING")):
        async with subscribed(gateway.base, token) as client:
            await client.follow(REDEMPTION, id="red_x")
            refused = await client.hear()
            assert refused["type"] == "error"
            assert refused["payload"][0]["extensions"]["code"] == code


async def test_without_a_token_the_socket_is_refused(gateway):
    async with socket(gateway.base) as client:
        await client.say(type="connection_init")
        assert await client.closed_with() == 4403
    async with socket(gateway.base) as client:
        await client.say(type="subscribe", id="1", payload={"query": REDEMPTION})
        assert await client.closed_with() == 4401
    async with socket(gateway.base, protocol="graphql-ws") as client:
        assert await client.closed_with() == 4406


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"type": 3}', '{"type":"nonsense"}', '{"type":"subscribe","id":"1"}']
)
async def test_what_is_no_message_ends_the_socket(gateway, member, text):
    async with subscribed(gateway.base, member.token) as client:
        await client.socket.send(text)
        assert await client.closed_with() == 4400


async def test_the_limits_of_graphql_hold_and_only_subscriptions_are_served(gateway, member):
    deep = "subscription { redemptionUpdated(id: 1) { redemption { merchant" + " { x" * 20
    many = " ".join(f"a{n}: sequence" for n in range(31))
    asked = {
        "query { coalition { nameZh } }": "MALFORMED_REQUEST",
        deep + " }" * 23: "QUERY_TOO_EXPENSIVE",
        f"subscription {{ redemptionUpdated(id: 1) {{ {many} }} }}": "QUERY_TOO_EXPENSIVE",
        "subscription { redemptionUpdated(id: 1, after: -1) { id } }": "MALFORMED_REQUEST",
        "subscription { nothing }": "MALFORMED_REQUEST",
    }
    async with subscribed(gateway.base, member.token) as client:
        for query, code in asked.items():
            await client.follow(query)
            refused = await client.hear()
            assert refused["type"] == "error", refused
            assert refused["payload"][0]["extensions"]["code"] == code, query
    over_http = await member.ask("subscription { redemptionUpdated(id: 1) { id } }")
    assert over_http.codes == ["MALFORMED_REQUEST"]


async def test_a_merchant_follows_its_feed_from_a_cursor(gateway, member):
    merchant = await gateway.merchant("M05")
    redemption = await held(member)
    await gateway.runtime.webhooks.route()
    page = await merchant.data("{ events(first: 1) { edges { cursor node { type object } } } }")
    (edge,) = page["events"]["edges"]
    assert edge["node"] == {"type": "redemption.held", "object": redemption}
    async with subscribed(gateway.base, merchant.token) as client:
        await client.follow(FEED, after=edge["cursor"])
        await confirm(member, redemption)
        await gateway.runtime.webhooks.route()
        found = [await client.next("partnerEvents") for _ in range(2)]
    assert [each["type"] for each in found] == ["redemption.confirming", "redemption.committed"]
    assert found[0]["data"]["member"].startswith("pm_")


async def test_many_followers_cost_one_look(gateway, member):
    redemption = await held(member)
    async with subscribed(gateway.base, member.token) as client:
        for _ in range(20):
            await client.follow(REDEMPTION, id=redemption)
        assert [(await client.next())["sequence"] for _ in range(20)] == [1] * 20
        await client.follow(REDEMPTION, id=redemption)
        assert (await client.hear())["type"] == "error"  # The 21st.
        began, looks = time.monotonic(), 0
        with gateway.counting() as statements:
            while looks < 2:
                await asyncio.sleep(0.05)
                looks = sum("max(events.seq)" in each for each in statements)
        poll = gateway.runtime.settings.events_poll_seconds
        assert looks <= (time.monotonic() - began) / poll + 2


async def test_a_server_that_stops_says_so_and_waits_for_nobody(coalition, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        serving = running(
            coalition.database, tmp_path, clock=coalition.clock, partners=coalition.partners
        )
        gateway = await stack.enter_async_context(serving)
        member = await gateway.member("mbr_demo_01")
        redemption = await held(member)
        async with subscribed(gateway.base, member.token) as client:
            await client.follow(REDEMPTION, id=redemption)
            assert (await client.next())["sequence"] == 1
            async with asyncio.timeout(120):
                await stack.aclose()
            assert await client.closed_with() == 1012
