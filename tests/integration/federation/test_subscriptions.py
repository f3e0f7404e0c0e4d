"""Subscriptions: from a subgraph by any protocol, to clients by any, completed by the others."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.federation.client import Wire, ask, connected

ADDED = "subscription($n: Int) { offerAdded(count: $n) { name reviews } }"
EVENTS = [
    {"data": {"offerAdded": {"name": "New", "reviews": ["reviews on 7"]}}},
    {"data": {"offerAdded": {"name": "New", "reviews": ["reviews on 8"]}}},
]
BY_SOCKET = "subgraphs: {offers: {events: websocket, events_url: 'SOCKETS'}}"
BY_HTTP = "subgraphs: {offers: {events: http}}"
ANY: Any = ["graphql-transport-ws"]


@contextlib.asynccontextmanager
async def conversation(port: int, init: Any = None, **more: Any) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://127.0.0.1:{port}/graphql", subprotocols=ANY, **more) as socket:
        await say(socket, type="connection_init", **({"payload": init} if init else {}))
        assert await heard(socket) == {"type": "connection_ack"}
        yield socket


async def say(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def heard(socket: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(socket.recv(), 10))


async def subscribe(socket: ClientConnection, query: str, name: str = "a", **payload: Any) -> None:
    await say(socket, id=name, type="subscribe", payload={"query": query, **payload})


async def parts(wire: Wire) -> list[Any]:
    """What the parts of a stream carry, heartbeats left out."""
    body = b""
    while chunk := await asyncio.wait_for(wire.chunk(), 10):
        body += chunk
    found = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in body.split(b"--graphql")[1:-1]]
    return [one for one in found if one]


@pytest.mark.parametrize("upstream", ["socket", "multipart", "events", "refused socket"])
async def test_events_of_every_kind_of_subgraph_are_completed(start, graphs, upstream):
    graphs.more.set()
    graphs.protocol = "text/event-stream" if upstream == "events" else "multipart/mixed"
    written = BY_SOCKET.replace("SOCKETS", graphs.sockets) if upstream == "socket" else BY_HTTP
    if upstream == "refused socket":  # `auto`: the address takes no WebSocket, then it is HTTP.
        written = ""
    async with start(written) as router, conversation(router.port) as socket:
        for _ in range(2):
            await subscribe(socket, ADDED, variables={"n": 2})
            assert [await heard(socket) for _ in range(3)] == [
                *({"id": "a", "type": "next", "payload": event} for event in EVENTS),
                {"id": "a", "type": "complete"},
            ]
        assert len(graphs.asked("reviews")) == 4


async def test_a_stream_of_parts_and_a_stream_of_events(start, graphs):
    graphs.more.set()
    async with start(BY_HTTP) as router, connected(router.port) as wire:
        wire.post({"query": ADDED}, accept='multipart/mixed;subscriptionSpec="1.0"')
        status, headers = await wire.head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        assert await parts(wire) == [{"payload": event} for event in EVENTS]
        wire.post({"query": ADDED}, accept="text/event-stream")
        assert (await wire.head())[1]["content-type"].startswith("text/event-stream")
        body = b""
        while chunk := await wire.chunk():
            body += chunk
        data = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
        assert [json.loads(line) for line in data] == EVENTS


@pytest.mark.parametrize("written", [BY_SOCKET, BY_HTTP])
async def test_who_goes_ends_the_subgraphs_stream(start, graphs, written):
    async with start(written.replace("SOCKETS", graphs.sockets)) as router:
        async with conversation(router.port) as socket:
            await subscribe(socket, ADDED)
            assert (await heard(socket))["payload"] == EVENTS[0]
            await say(socket, id="a", type="complete")
            await asyncio.wait_for(graphs.closed.wait(), 10)
            graphs.closed.clear()
            await subscribe(socket, ADDED)
            assert (await heard(socket))["payload"] == EVENTS[0]
        await asyncio.wait_for(graphs.closed.wait(), 10)
        graphs.closed.clear()
        async with connected(router.port) as wire:
            wire.post({"query": ADDED}, accept="multipart/mixed")
            await wire.head()
            await wire.chunk()
        await asyncio.wait_for(graphs.closed.wait(), 10)


async def test_queries_and_mutations_go_over_the_socket_too(start, graphs):
    async with start() as router, conversation(router.port) as socket:
        await subscribe(socket, "{ stars }", "q")
        assert await heard(socket) == {"id": "q", "type": "next", "payload": {"data": {"stars": 5}}}
        assert await heard(socket) == {"id": "q", "type": "complete"}


async def test_what_is_refused_is_an_error_and_the_socket_goes_on(start, graphs):
    async with start() as router, conversation(router.port) as socket:
        for query in ("{", "{ unknown }", "subscription { offerAdded { id } broken { id } }"):
            await subscribe(socket, query)
            message = await heard(socket)
            assert (message["id"], message["type"]) == ("a", "error")
            assert message["payload"][0]["message"]
        await say(socket, type="ping", payload={"x": 1})
        assert await heard(socket) == {"type": "pong", "payload": {"x": 1}}


@pytest.mark.parametrize("written", [BY_SOCKET, BY_HTTP])
async def test_a_subgraphs_refusal_reaches_the_client(start, graphs, written):
    written = written.replace("SOCKETS", graphs.sockets)
    async with start(written) as router, conversation(router.port) as socket:
        await subscribe(socket, "subscription { refused { id } }")
        payload = (await heard(socket))["payload"]
        errors = payload["errors"] if isinstance(payload, dict) else payload
        assert errors[0]["message"] == "not for you"


async def test_a_stream_that_breaks_off_is_an_error(start, graphs):
    written = BY_SOCKET.replace("SOCKETS", graphs.sockets)
    async with start(written) as router, conversation(router.port) as socket:
        await subscribe(socket, "subscription { broken { id } }")
        assert (await heard(socket))["type"] == "next"
        assert (await heard(socket))["type"] == "next"
        message = await heard(socket)
        assert message["type"] == "error"
        assert message["payload"][0]["extensions"]["service"] == "offers"


async def test_a_subgraph_that_is_not_there_is_an_error(start, graphs):
    async with (
        start("subgraphs: {offers: {events_url: 'ws://127.0.0.1:9/'}}") as router,
        conversation(router.port) as socket,
    ):
        await subscribe(socket, ADDED)
        message = await heard(socket)
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == (
            "error",
            "SUBGRAPH_UNREACHABLE",
        )


async def test_headers_of_the_rules_go_along_from_the_upgrade_or_the_first_message(start, graphs):
    graphs.more.set()
    written = BY_SOCKET.replace("SOCKETS", graphs.sockets) + "\nforward_headers: [authorization]"
    async with start(written) as router:
        said = {"Authorization": "Bearer b", "other": "x", "bad": "a\r\nb: c"}
        async with conversation(router.port, said) as socket:
            await subscribe(socket, ADDED)
            await heard(socket)
        more = {"additional_headers": {"Authorization": "Bearer c", "cookie": "s=1"}}
        async with conversation(router.port, **more) as socket:
            await subscribe(socket, ADDED)
            await heard(socket)
    assert graphs.said == [{"authorization": "Bearer b"}, {"authorization": "Bearer c"}]


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["x"], 4400), (["[]"], 4400), (['{"type":"what"}'], 4400), ([b"{}"], 4400),
        (['{"type":"connection_init","payload":3}'], 4400),
        (['{"type":"connection_init"}'] * 2, 4429),
        (['{"id":"1","type":"subscribe","payload":{"query":"{ stars }"}}'], 4401),
        (['{"type":"connection_init"}', '{"type":"subscribe","payload":{}}'], 4400),
        (['{"type":"connection_init"}', '{"id":"","type":"subscribe","payload":{}}'], 4400),
        (['{"type":"connection_init"}', '{"type":"complete"}'], 4400),
        (
            ['{"type":"connection_init"}']
            + ['{"id":"1","type":"subscribe","payload":{"query":"{ wait }"}}'] * 2,
            4409,
        ),
    ],
)  # fmt: skip
async def test_who_does_not_keep_to_the_protocol_is_closed(start, messages, code):
    async with (
        start() as router,
        connect(f"ws://127.0.0.1:{router.port}/graphql", subprotocols=ANY) as socket,
    ):
        for message in messages:
            await socket.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await asyncio.wait_for(socket.recv(), 10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code


async def test_other_protocols_places_and_origins_are_refused(start):
    async with start("origins: ['https://friend.test']") as router:
        base = f"ws://127.0.0.1:{router.port}"
        async with connect(f"{base}/graphql") as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4406
        for path, origin in (("/other", None), ("/graphql", "https://other.test")):
            with pytest.raises(InvalidStatus):
                async with connect(f"{base}{path}", subprotocols=ANY, origin=origin):
                    pass
        for origin in ("https://friend.test", f"http://127.0.0.1:{router.port}"):
            async with conversation(router.port, origin=origin):
                pass


async def test_a_subgraphs_redirect_is_not_followed(start, graphs):
    lines = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.close()

    async def redirecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        port = other.sockets[0].getsockname()[1]
        writer.write(
            f"HTTP/1.1 302 Found\r\nlocation: ws://127.0.0.1:{port}/\r\n"
            "content-length: 0\r\n\r\n".encode()
        )
        writer.close()

    async with (
        await asyncio.start_server(elsewhere, "127.0.0.1", 0) as other,
        await asyncio.start_server(redirecting, "127.0.0.1", 0) as server,
    ):
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        written = BY_SOCKET.replace("SOCKETS", url)
        async with start(written) as router, conversation(router.port) as socket:
            await subscribe(socket, ADDED)
            message = await heard(socket)
    assert message["type"] == "error"
    assert message["payload"][0]["extensions"]["code"] == "SUBGRAPH_UNREACHABLE"
    assert lines == []


async def test_who_reads_nothing_is_not_written_to_for_ever(start):
    async with start() as router, conversation(router.port) as socket:
        socket.transport.pause_reading()
        ping = json.dumps({"type": "ping", "payload": {"a": "x" * 900_000}})
        with pytest.raises(ConnectionClosed):
            for _ in range(100):
                await asyncio.wait_for(socket.send(ping), 10)


async def test_stopping_completes_subscriptions(start, graphs):
    async with start(BY_HTTP) as router, conversation(router.port) as socket:
        await subscribe(socket, ADDED)
        assert (await heard(socket))["type"] == "next"
        assert (await heard(socket))["type"] == "next"
        router.stopping.set()
        assert await heard(socket) == {"id": "a", "type": "complete"}
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


async def test_a_subscription_by_plain_post_is_told_where_to_ask(start):
    async with start() as router:
        answer = await ask(router.port, ADDED)
        assert "WebSocket" in answer["errors"][0]["message"]
