"""A merchant sets up its webhooks and asks for its events through GraphQL."""

import pytest

from gateway.oauth.scopes import Role
from tests.support.gateway import Client
from tests.support.receiver import receiving

LEGS = [{"programme": "P-LL"}]
WEBHOOK = "webhook { id url types state } secret"
EVENTS = """query($filter: EventsFilter, $first: Int, $after: String) {
  events(filter: $filter, first: $first, after: $after) {
    edges { node { id type object sequence data cursor } }
    pageInfo { hasNextPage endCursor } } }"""


@pytest.fixture
async def receiver():
    async with receiving() as made:
        yield made


@pytest.fixture
async def cinema(gateway) -> Client:
    return await gateway.merchant("M05")


async def bought(gateway) -> str:
    member = await gateway.member("mbr_demo_01")
    made = await member.did("redeemOffer", "redemption { id }", offer="XH-01", legs=LEGS)
    return made["redemption"]["id"]


async def drain(gateway) -> None:
    while await gateway.runtime.webhooks.turn():
        pass


async def test_a_secret_is_shown_once_and_signs_what_comes(gateway, cinema, receiver):
    asked = {"url": receiver.url, "types": ["redemption.*"], "idempotencyKey": "hook-1"}
    made = await cinema.did("registerWebhook", WEBHOOK, **asked)
    assert made["webhook"]["state"] == "ACTIVE"
    assert made["secret"].startswith("whsec_")
    again = await cinema.did("registerWebhook", WEBHOOK, **asked)
    assert again == {"webhook": made["webhook"], "secret": None, "replayed": True, "errors": []}
    receiver.secrets.append(made["secret"])
    redemption = await bought(gateway)
    await drain(gateway)
    assert receiver.order(redemption) == [1, 2, 3]
    text = "{ webhooks { id deliveries { state status attempts event { id } } } }"
    (shown,) = (await cinema.data(text))["webhooks"]
    assert {each["state"] for each in shown["deliveries"]} == {"DELIVERED"}
    assert shown["deliveries"][0]["event"]["id"] == f"evt_{redemption}_3"


async def test_another_merchant_sees_and_changes_none_of_it(gateway, cinema, receiver):
    asked = {"url": receiver.url, "types": ["redemption.*"]}
    made = await cinema.did("registerWebhook", WEBHOOK, **asked)
    redemption = await bought(gateway)
    await drain(gateway)
    other = await gateway.merchant("M06")
    assert await other.data("{ webhooks { id } }") == {"webhooks": []}
    assert (await other.data(EVENTS))["events"]["edges"] == []
    hook = made["webhook"]["id"]
    refused = await other.refused("registerWebhook", **asked, webhook=hook, rotateSecret=True)
    assert refused["code"] == "NOT_FOUND"
    theirs = {"events": [f"evt_{redemption}_1"]}
    assert (await other.refused("resendEvents", **theirs))["code"] == "NOT_FOUND"
    none = {"events": ["evt_red_none_1"]}
    assert (await other.refused("resendEvents", **none))["code"] == "NOT_FOUND"
    issuer = await gateway.merchant("M04")  # Its points were spent: it is concerned.
    assert len((await issuer.data(EVENTS))["events"]["edges"]) == 3


async def test_each_merchant_knows_the_member_by_its_own_name(gateway, cinema):
    await bought(gateway)
    await drain(gateway)
    names = set()
    for merchant in (cinema, await gateway.merchant("M04")):
        page = await merchant.data(EVENTS, first=1)
        names.add(page["events"]["edges"][0]["node"]["data"]["member"])
        assert "mbr_" not in str(page)
    assert len(names) == 2


async def test_events_come_page_by_page_and_by_filter(gateway, cinema):
    redemption = await bought(gateway)
    await drain(gateway)
    page = (await cinema.data(EVENTS, first=2))["events"]
    rest = (await cinema.data(EVENTS, first=2, after=page["pageInfo"]["endCursor"]))["events"]
    found = [edge["node"] for edge in page["edges"] + rest["edges"]]
    assert [node["sequence"] for node in found] == [3, 2, 1]
    assert (page["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
    for asked, count in (
        ({"types": ["redemption.committed"]}, 1),
        ({"types": ["settlement.*"]}, 0),
        ({"object": redemption}, 3),
        ({"object": "red_none"}, 0),
        ({"since": "2026-11-20T08:00:00+08:00"}, 3),
        ({"since": "2026-11-21T08:00:00+08:00"}, 0),
    ):
        found = (await cinema.data(EVENTS, filter=asked))["events"]["edges"]
        assert len(found) == count, asked
    for wrong in ({"types": ["weather.*"]}, {"since": "2026-11-20T08:00:00"}):
        assert (await cinema.ask(EVENTS, filter=wrong)).codes == ["MALFORMED_REQUEST"]
    assert (await cinema.ask(EVENTS, after="x")).codes == ["MALFORMED_REQUEST"]


async def test_what_failed_is_sent_again_when_asked(gateway, cinema, receiver):
    asked = {"url": receiver.url, "types": ["redemption.committed"]}
    made = await cinema.did("registerWebhook", WEBHOOK, **asked)
    receiver.secrets.append(made["secret"])
    redemption = await bought(gateway)
    await drain(gateway)
    again = {"events": [f"evt_{redemption}_3"], "idempotencyKey": "again-1"}
    assert (await cinema.did("resendEvents", "count", **again))["count"] == 1
    assert (await cinema.did("resendEvents", "count", **again))["replayed"]
    await drain(gateway)
    assert [event["id"] for event in receiver.taken] == [f"evt_{redemption}_3"] * 2
    never = {"events": [f"evt_{redemption}_1"]}  # Of a type the endpoint did not ask for.
    assert (await cinema.did("resendEvents", "count", **never))["count"] == 1
    await drain(gateway)
    assert receiver.taken[-1]["sequence"] == 1
    since = {"failedSince": "2026-11-20T00:00:00+08:00"}
    assert (await cinema.did("resendEvents", "count", **since))["count"] == 0
    for wrong in ({}, again | since, {"events": []}):
        given = wrong | {"idempotencyKey": f"wrong-{len(str(wrong))}"}
        assert (await cinema.refused("resendEvents", **given))["code"] == "INVALID_INPUT"


@pytest.mark.parametrize(
    ("url", "types"),
    [
        ("http://10.0.0.1/in", ["redemption.*"]),
        ("https://169.254.169.254/latest", ["redemption.*"]),
        ("http://hooks.example.cn/in", ["redemption.*"]),
        ("https://hooks.example.cn/in", []),
        ("https://hooks.example.cn/in", ["*"]),
        ("https://hooks.example.cn/in", ["weather.changed"]),
    ],
)
async def test_a_wrong_address_or_type_is_refused(cinema, url, types):
    refused = await cinema.refused("registerWebhook", url=url, types=types)
    assert refused["code"] == "INVALID_INPUT"


async def test_a_paused_endpoint_gets_what_waited_and_nothing_of_the_pause(
    gateway, cinema, receiver
):
    asked = {"url": receiver.url, "types": ["redemption.committed"]}
    made = await cinema.did("registerWebhook", WEBHOOK, **asked)
    receiver.secrets.append(made["secret"])
    first = await bought(gateway)
    await gateway.runtime.webhooks.route()
    asked |= {"webhook": made["webhook"]["id"]}
    paused = await cinema.did("registerWebhook", WEBHOOK, **asked, active=False)
    assert (paused["webhook"]["state"], paused["secret"]) == ("PAUSED", None)
    await bought(gateway)
    await drain(gateway)
    assert receiver.calls == []
    await cinema.did("registerWebhook", WEBHOOK, **asked)
    await drain(gateway)
    assert [event["object"] for event in receiver.taken] == [first]


async def test_a_merchant_has_twenty_endpoints_at_most(cinema):
    asked = {"url": "https://hooks.example.cn/in", "types": ["redemption.*"]}
    for _ in range(20):
        await cinema.did("registerWebhook", WEBHOOK, **asked)
    assert (await cinema.refused("registerWebhook", **asked))["code"] == "INVALID_INPUT"


async def test_scopes_of_webhooks_and_events_are_apart(gateway):
    token = await gateway.token(Role.PARTNER, merchant="M05", scope="statement:read")
    reader = Client(gateway, token)
    assert (await reader.data(EVENTS))["events"]["edges"] == []
    assert (await reader.ask("{ webhooks { id } }")).codes == ["SCOPE_MISSING"]
