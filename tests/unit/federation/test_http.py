"""GraphQL over HTTP: media types, statuses, what is refused and how. Without a server."""

import asyncio
import json
from urllib.parse import urlencode

import pytest

from gateway.federation.documents import digest
from gateway.federation.engine import Engine
from gateway.federation.http import Endpoint, Reply, Rules
from tests.unit.federation.stub import Stub

GRAPHQL, PLAIN = "application/graphql-response+json", "application/json"


@pytest.fixture
def stub():
    return Stub()


@pytest.fixture
def endpoint(stub):
    return Endpoint(Engine(stub), rules=Rules(("Authorization", "x-tenant"), "x-client"))


async def post(endpoint: Endpoint, body, accept: str | None = PLAIN, **headers: str) -> Reply:
    given = {"content-type": PLAIN} | ({"accept": accept} if accept else {})
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    raw = {name.encode(): value.encode() for name, value in given.items() if value}
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await endpoint.answer(b"POST", b"/graphql", raw, sent)


async def get(endpoint: Endpoint, accept: str = PLAIN, headers=None, **parameters) -> Reply:
    raw = {b"accept": accept.encode()} | {
        k.encode(): v.encode() for k, v in (headers or {}).items()
    }
    return await endpoint.answer(b"GET", b"/graphql?" + urlencode(parameters).encode(), raw, b"")


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, PLAIN),
        ("*/*", PLAIN),
        (PLAIN, PLAIN),
        (GRAPHQL, GRAPHQL),
        (f"{PLAIN};q=.5,{GRAPHQL}", GRAPHQL),
    ],
)
async def test_a_query_is_answered_in_the_type_asked_for(endpoint, accept, media):
    reply = await post(endpoint, {"query": "{ n }"}, accept)
    assert (reply.status, reply.media, reply.body) == (200, media, b'{"data":{"n":1}}')


@pytest.mark.parametrize(
    "query",
    ["{", "{ unknown }", "query A { n } query B { n }", "query($c: Colour!) { colour(c: $c) }"],
)
async def test_before_it_runs_a_failure_is_400_or_200_by_type_and_has_no_data(endpoint, query):
    for accept, status in ((GRAPHQL, 400), (PLAIN, 200), ("*/*", 200)):
        reply = await post(endpoint, {"query": query}, accept)
        assert reply.status == status
        assert set(json.loads(reply.body)) == {"errors"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff\xfe", b'"text"', b"null", b'{"query": "{ n }", "x": NaN}',
        b'{"a": "\\ud800"}',
        {}, {"query": None}, {"query": 1}, {"query": ["{ n }"]}, {"query": {}}, {"query": True},
        {"query": "{ n }", "variables": 1}, {"query": "{ n }", "variables": []},
        {"query": "{ n }", "variables": "{}"}, {"query": "{ n }", "operationName": 1},
        {"query": "{ n }", "operationName": {}}, {"query": "{ n }", "extensions": []},
        {"query": "{ n }", "extensions": "x"}, {"query": "{ n }", "documentId": 3},
        {"extensions": {"persistedQuery": {"version": 1}}}, {"extensions": {"persistedQuery": "x"}},
        [{"query": "{ n }"}], [],
    ],
)  # fmt: skip
async def test_what_is_no_request_is_400_in_either_type(endpoint, body):
    for accept in (GRAPHQL, PLAIN):
        reply = await post(endpoint, body, accept)
        assert reply.status == 400
        assert set(json.loads(reply.body)) == {"errors"}


async def test_nulls_are_as_good_as_nothing(endpoint):
    body = {"query": "{ n }", "variables": None, "operationName": None, "extensions": None}
    assert (await post(endpoint, body)).body == b'{"data":{"n":1}}'


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200), ("application/json; charset=utf-8", 200),
        ('Application/JSON;charset="UTF-8"', 200), ("application/json;charset=utf-16", 415),
        ("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("", 415),
        ("multipart/form-data; boundary=x", 415), ("application/graphql", 415),
    ],
)  # fmt: skip
async def test_only_json_is_read(endpoint, kind, status):
    assert (await post(endpoint, {"query": "{ n }"}, content_type=kind)).status == status


@pytest.mark.parametrize("method", [b"PUT", b"HEAD", b"DELETE", b"OPTIONS"])
async def test_other_methods_are_refused(endpoint, method):
    reply = await endpoint.answer(method, b"/graphql", {}, b"")
    assert (reply.status, reply.headers) == (405, (("allow", "GET, POST"),))


async def test_unacceptable_is_406(endpoint, stub):
    assert (await post(endpoint, {"query": "{ n }"}, "text/html")).status == 406
    assert (await post(endpoint, {"query": "{ n }"}, "text/event-stream")).status == 406
    assert stub.requests == []


async def test_get_reads_queries_and_no_mutation(endpoint, stub):
    query = "query($name: String) { hello(name: $name) }"
    reply = await get(endpoint, query=query, variables='{"name": "你"}', extensions="{}")
    assert json.loads(reply.body) == {"data": {"hello": "hello 你"}}
    for accept in (PLAIN, GRAPHQL):
        reply = await get(endpoint, accept, query="mutation { add }")
        assert (reply.status, reply.headers) == (405, (("allow", "POST"),))
    assert stub.added == 0
    for bad in ({"query": "{ n }", "variables": "{"}, {"query": "{ n }", "variables": "[]"}, {}):
        assert (await get(endpoint, **bad)).status == 400
    assert (await endpoint.answer(b"GET", b"/graphql?query=%ff", {}, b"")).status == 400
    assert (await endpoint.answer(b"GET", b"/graphql?" + b"a=1&" * 50, {}, b"")).status == 400


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        (None, None, 200), ("none", "navigate", 200), ("same-origin", "cors", 200),
        ("cross-site", "cors", 200), (None, "cors", 200), ("same-site", "navigate", 403),
        ("cross-site", "no-cors", 403), ("cross-site", "navigate", 403), ("cross-site", None, 403),
    ],
)  # fmt: skip
async def test_another_sites_page_cannot_ask_by_get(endpoint, site, mode, status):
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
    given = {name: value for name, value in headers.items() if value}
    assert (await get(endpoint, headers=given, query="{ n }")).status == status


async def test_only_named_headers_reach_subgraphs(endpoint, stub):
    await post(endpoint, {"query": "{ n }"}, authorization="Bearer x", cookie="s=1", x_client="app")
    await post(endpoint, {"query": "{ n }"})
    first, second = stub.requests
    assert (first.headers, first.client) == ((("authorization", "Bearer x"),), "app")
    assert (second.headers, second.client) == ((), None)


@pytest.mark.parametrize("name", ["Host", "connection", "Content-Length", "transfer-encoding"])
def test_headers_of_one_connection_cannot_be_forwarded(name):
    with pytest.raises(ValueError, match="one connection"):
        Rules((name,))


async def test_the_same_body_is_read_once_and_answered_every_time(endpoint, stub):
    body = json.dumps({"query": "{ n }"}).encode()
    for _ in range(3):
        assert (await post(endpoint, body)).body == b'{"data":{"n":1}}'
    assert (len(stub.prepared), len(stub.requests)) == (1, 3)


async def test_a_new_supergraph_is_asked_by_bodies_seen_before(stub):
    endpoint = Endpoint(Engine(stub))
    body = json.dumps({"query": "{ hello }"}).encode()
    assert b'"hello"' in (await post(endpoint, body)).body
    endpoint.engine.swap(Stub("servus"))
    assert b"servus" in (await post(endpoint, body)).body


async def test_documents_by_hash(endpoint):
    name = digest("{ n }")
    extension = {"persistedQuery": {"version": 1, "sha256Hash": name}}
    unknown = await post(endpoint, {"extensions": extension})
    assert json.loads(unknown.body)["errors"][0]["message"] == "PersistedQueryNotFound"
    assert (await post(endpoint, {"documentId": name}, GRAPHQL)).status == 400
    await post(endpoint, {"query": "{ n }", "extensions": extension})
    for asked in ({"extensions": extension}, {"documentId": f"sha256:{name}"}):
        assert (await post(endpoint, asked)).body == b'{"data":{"n":1}}'
    assert (await get(endpoint, extensions=json.dumps(extension))).body == b'{"data":{"n":1}}'
    wrong = {"query": "{ hello }", "extensions": extension}
    assert (await post(endpoint, wrong)).status == 400


async def test_a_mutation_ends_though_its_client_goes(endpoint, stub):
    stub.gate = asyncio.Event()
    task = asyncio.create_task(post(endpoint, {"query": "mutation { add }"}))
    await stub.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stub.gate.set()
    await endpoint.finish()
    assert stub.added == 1


async def test_a_query_ends_with_its_client(endpoint, stub):
    stub.gate = asyncio.Event()
    task = asyncio.create_task(post(endpoint, {"query": "{ n }"}))
    await stub.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def chunks(reply: Reply) -> bytes:
    assert reply.stream is not None
    return b"".join([chunk async for chunk in reply.stream])


async def test_a_subscription_is_a_stream_of_parts_or_events(endpoint):
    asked = {"query": "subscription { count(to: 2) }"}
    parts = await post(endpoint, asked, f'multipart/mixed;subscriptionSpec="1.0", {PLAIN}')
    assert parts.media.startswith("multipart/mixed;boundary=")
    found = (await chunks(parts)).split(b"--graphql")
    assert [json.loads(p.partition(b"\r\n\r\n")[2]) for p in found[1:-1]] == [
        {"payload": {"data": {"count": n}}} for n in range(3)
    ]
    assert found[-1] == b"--\r\n"
    events = await chunks(await post(endpoint, asked, "text/event-stream"))
    assert events.count(b"event: next\ndata: {") == 3
    assert events.endswith(b"event: complete\ndata:\n\n")
    refused = await post(endpoint, asked)
    assert (refused.status, refused.stream) == (200, None)
    assert "WebSocket" in json.loads(refused.body)["errors"][0]["message"]


async def test_a_query_accepted_as_stream_or_json_is_json(endpoint):
    reply = await post(endpoint, {"query": "{ n }"}, f"multipart/mixed, {PLAIN}")
    assert (reply.media, reply.body) == (PLAIN, b'{"data":{"n":1}}')
