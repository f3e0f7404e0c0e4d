"""Services over HTTP: what counts as an answer, and every way in which none comes."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from gateway.federation.services import ServiceFailure, SubgraphRequest
from gateway.federation.transport import ACCEPT, Transport, TransportOptions, read_answer

GOOD = b'{"data":{"a":1}}'
GRAPHQL = "application/graphql-response+json"


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    named = {"content-type": "application/json", "content-length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


class Server:
    """Answers every request with the same bytes, in pieces; keeps heads and bodies."""

    def __init__(self, *pieces: bytes | float) -> None:
        self.pieces = pieces
        self.requests: list[tuple[str, bytes]] = []
        self.connections = 0
        self.tasks: list[Any] = []
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.tasks.append(asyncio.current_task())
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = await reader.readexactly(int(lines["content-length"]))
                self.requests.append((head, body))
                self.asked.set()
                for piece in self.pieces:
                    if isinstance(piece, bytes):
                        writer.write(piece)
                        await writer.drain()
                    elif piece < 0:
                        writer.transport.abort()
                        return
                    else:
                        await asyncio.wait_for(reader.read(1), piece)
                        return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            self.gone.set()
            writer.transport.abort()


@asynccontextmanager
async def serving(*pieces: bytes | float) -> AsyncIterator[Server]:
    server = Server(*pieces)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/graphql"
    try:
        yield server
    finally:
        listening.close()
        for task in server.tasks:
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)
        await asyncio.sleep(0)


def request(**more: Any) -> SubgraphRequest:
    return SubgraphRequest("shops", "query", "query($a:Int){a(n:$a)}", {"a": 1}, **more)


async def failure(url: str, options: TransportOptions | None = None, **more: Any) -> str:
    """The code with which a fetch fails."""
    async with Transport(options) as transport:
        with pytest.raises(ServiceFailure) as failed:
            await transport.service(url).fetch(request(**more))
    return failed.value.code


async def test_a_request_says_what_it_is_and_forwards_headers() -> None:
    async with serving(response(GOOD)) as server, Transport() as transport:
        answer = await transport.service(server.url).fetch(
            request(headers=(("authorization", "Bearer x"), ("x-member", "m1")))
        )
    assert answer.data == {"a": 1}
    ((head, body),) = server.requests
    lines = head.lower().split("\r\n")
    assert lines[0] == "post /graphql http/1.1"
    assert "content-type: application/json" in lines
    assert f"accept: {ACCEPT}" in lines
    assert "authorization: bearer x" in lines
    assert "x-member: m1" in lines
    assert orjson.loads(body) == {"query": "query($a:Int){a(n:$a)}", "variables": {"a": 1}}


async def test_connections_are_kept_and_as_many_as_requests() -> None:
    async with serving(response(GOOD)) as server, Transport() as transport:
        service = transport.service(server.url)
        await asyncio.gather(*(service.fetch(request()) for _ in range(20)))
        many = server.connections
        for _ in range(20):
            await service.fetch(request())
    assert many <= 20
    assert server.connections == many


async def test_a_body_of_pieces_or_compressed_is_read() -> None:
    chunked = response(b"", transfer_encoding="chunked", content_length="")
    pieces = (chunked, b"8\r\n" + GOOD[:8] + b"\r\n", b"8\r\n" + GOOD[8:] + b"\r\n", b"0\r\n\r\n")
    packed = response(gzip.compress(GOOD), content_encoding="gzip")
    for sent in (pieces, (packed,)):
        async with serving(*sent) as server, Transport() as transport:
            assert (await transport.service(server.url).fetch(request())).data == {"a": 1}


@pytest.mark.parametrize(
    "sent",
    [
        (response(b"[" + b"1," * 600 + b"1]"),),
        (
            response(b"", transfer_encoding="chunked", content_length=""),
            b"400\r\n" + b"x" * 1024 + b"\r\n",
            60.0,
        ),
        (response(gzip.compress(b" " * 5_000_000), content_encoding="gzip"),),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000, 60.0),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000, 60.0),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000, 60.0),
        (
            response(b"", transfer_encoding="chunked", content_length=""),
            b"0\r\n" + b"x: y\r\n" * 50_000,
            60.0,
        ),
    ],
    ids=["declared", "chunked", "compressed", "a header", "headers", "others before", "trailers"],
)
async def test_an_answer_above_the_limit_is_not_read(sent: tuple[bytes | float, ...]) -> None:
    async with serving(*sent) as server:
        code = await failure(server.url, TransportOptions(response_bytes=1000))
    assert code == "SUBGRAPH_TOO_LARGE"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ((60.0,), "SUBGRAPH_TIMEOUT"),
        ((response(GOOD)[:-3], 60.0), "SUBGRAPH_TIMEOUT"),
        ((-1.0,), "SUBGRAPH_UNREACHABLE"),
        ((response(GOOD)[:-3], -1.0), "SUBGRAPH_UNREACHABLE"),
        ((b"nonsense\r\n\r\n",), "SUBGRAPH_UNREACHABLE"),
        ((response(b"", "302 Found", location="http://127.0.0.1:1/"),), "SUBGRAPH_HTTP_ERROR"),
    ],
)
async def test_no_answer_has_a_code(sent: tuple[bytes | float, ...], code: str) -> None:
    async with serving(*sent) as server:
        assert await failure(server.url, TransportOptions(timeout=0.2)) == code


async def test_nobody_listening_is_unreachable() -> None:
    async with serving() as server:
        pass
    assert await failure(server.url) == "SUBGRAPH_UNREACHABLE"


async def test_the_deadline_of_the_request_is_kept() -> None:
    now = asyncio.get_running_loop().time()
    async with serving(60.0) as server:
        assert await failure(server.url, deadline=now + 0.1) == "SUBGRAPH_TIMEOUT"
        assert await failure(server.url, deadline=now) == "SUBGRAPH_TIMEOUT"


async def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    """A mutation may have been done: it is not sent twice."""
    async with serving(response(GOOD), -1.0) as server, Transport() as transport:
        service = transport.service(server.url)
        for _ in range(3):
            assert (await service.fetch(request())).data == {"a": 1}
            await server.gone.wait()


async def test_who_finds_no_connection_free_waits_in_line() -> None:
    options = TransportOptions(connections=2)
    async with serving(response(GOOD)) as server, Transport(options) as transport:
        service = transport.service(server.url)
        answers = await asyncio.gather(*(service.fetch(request()) for _ in range(9)))
    assert len(answers) == 9
    assert server.connections == 2


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\0b", "a\r"])
async def test_a_header_cannot_become_two(value: str) -> None:
    async with serving(response(GOOD)) as server:
        code = await failure(server.url, headers=(("x-a", value),))
    assert code == "SUBGRAPH_FAILED"
    assert server.requests == []


@pytest.mark.parametrize("url", ["", "ftp://a/", "http://", "/graphql", "http://a/b c"])
async def test_what_is_no_address_is_unreachable(url: str) -> None:
    assert await failure(url) == "SUBGRAPH_UNREACHABLE"


async def test_a_cancelled_fetch_closes_its_connection() -> None:
    async with serving(60.0) as server, Transport() as transport:
        task = asyncio.create_task(transport.service(server.url).fetch(request()))
        await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await server.gone.wait()


ERRORS = b'{"errors":[{"message":"no"}]}'
Check = Callable[..., Any]


@pytest.mark.parametrize(
    ("status", "media", "body", "data", "errors"),
    [
        (200, "application/json; charset=utf-8", GOOD, {"a": 1}, 0),
        (200, "text/plain", GOOD, {"a": 1}, 0),
        (400, GRAPHQL, ERRORS, None, 1),
        (500, "application/json", ERRORS, None, 1),
        (500, "application/json", GOOD, {"a": 1}, 0),
        (200, GRAPHQL, b'{"data":null,"errors":[{"message":"no"}]}', None, 1),
    ],
)
def test_a_graphql_response_is_an_answer_whatever_its_status(
    status: int, media: str, body: bytes, data: Any, errors: int
) -> None:
    answer = read_answer(status, media, body)
    assert answer.data == data
    assert len(answer.errors) == errors


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b"<html>", "SUBGRAPH_MALFORMED"),
        (200, b"", "SUBGRAPH_MALFORMED"),
        (200, b"[]", "SUBGRAPH_MALFORMED"),
        (200, b"{}", "SUBGRAPH_MALFORMED"),
        (200, b'{"data":1}', "SUBGRAPH_MALFORMED"),
        (502, b"<html>", "SUBGRAPH_HTTP_ERROR"),
        (401, b'{"error":"denied"}', "SUBGRAPH_HTTP_ERROR"),
        (500, b'{"errors":["x"]}', "SUBGRAPH_HTTP_ERROR"),
        (500, b'{"data":null}', "SUBGRAPH_HTTP_ERROR"),
    ],
)
def test_what_is_no_graphql_response_is_none(status: int, body: bytes, code: str) -> None:
    with pytest.raises(ServiceFailure) as failed:
        read_answer(status, "application/json", body)
    assert failed.value.code == code


def test_an_answer_of_too_many_objects_is_not_read() -> None:
    body = b'{"data":{"a":[' + b"[]," * 1_000_000 + b"[]]}}"
    with pytest.raises(ServiceFailure) as failed:
        read_answer(200, "application/json", body)
    assert failed.value.code == "SUBGRAPH_TOO_LARGE"


def test_so_many_errors_of_an_answer_are_looked_at() -> None:
    body = b'{"data":null,"errors":[' + b"{}," * 5_000 + b"{}]}"
    assert len(read_answer(200, "application/json", body).errors) == 1_000
