"""The server itself: framing, deadlines, and clients that are slow, rude or many."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.federation.http import Reply
from gateway.federation.serving import Patience, Server
from tests.integration.federation.client import Wire, connected

SHORT = Patience(head=0.6, body=0.6, idle=0.6, write=1.0, body_bytes=100_000, connections=20)


class Echo:
    """Answers with what it was sent; `gate` holds answers back."""

    def __init__(self) -> None:
        self.gate: asyncio.Event | None = None
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def answer(self, method, target, headers, body) -> Reply:
        self.asked.set()
        try:
            if target == b"/wait" and self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if target == b"/fail":
            raise ValueError("a bug")
        if target == b"/stream":
            return Reply(200, "text/plain", b"", (), self.stream())
        return Reply(200, "text/plain", method + b" " + target + b" " + body)

    async def stream(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0)
        finally:
            self.cancelled.set()


@contextlib.asynccontextmanager
async def serving(patience: Patience = SHORT) -> AsyncIterator[tuple[Echo, Server, int]]:
    echo = Echo()
    server = Server(echo.answer, patience)
    port = await server.listen("127.0.0.1", 0)
    try:
        yield echo, server, port
    finally:
        await server.stop(0.1)


GET = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"


async def test_one_connection_answers_many_requests_in_order():
    async with serving() as (_, _, port), connected(port) as wire:
        for number in range(3):
            wire.send(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number)
            assert (await wire.answer())[2] == b"GET /%d " % number
        wire.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % n for n in range(100)))
        assert [(await wire.answer())[2] for _ in range(100)] == [
            b"GET /%d " % n for n in range(100)
        ]


async def test_a_body_comes_in_any_pieces():
    head = b"POST /p HTTP/1.1\r\nhost: x\r\n"
    async with serving() as (_, _, port), connected(port) as wire:
        for byte in head + b"content-length: 5\r\n\r\nhello":
            wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await wire.answer())[2] == b"POST /p hello"
        wire.send(head + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert (await wire.answer())[2] == b"POST /p abcde"
        wire.send(head + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b"ok")
        assert (await wire.answer())[2] == b"POST /p ok"


async def test_connections_end_as_asked():
    async with serving() as (_, _, port):
        async with connected(port) as wire:
            wire.send(b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            status, headers, _ = await wire.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await wire.ended() == b""
        async with connected(port) as wire:
            wire.send(b"GET /a HTTP/1.0\r\n\r\n")
            assert (await wire.answer())[0] == 200
            assert await wire.ended() == b""
        async with connected(port) as wire:
            wire.send(b"HEAD /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert (await wire.ended()).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"NONSENSE\r\n\r\n",
        b"GET /a HTTP/9.9\r\n\r\n",
        b"GET /a HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
        b"POST /a HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_http_is_400_and_the_end(raw):
    async with serving() as (_, _, port), connected(port) as wire:
        wire.send(raw)
        assert (await wire.answer())[0] == 400
        assert await wire.ended() == b""


async def test_a_large_body_is_413_before_it_is_read():
    head = b"POST /p HTTP/1.1\r\nhost: x\r\n"
    async with serving() as (echo, _, port):
        async with connected(port) as wire:
            wire.send(head + b"content-length: 100001\r\n\r\n")
            assert (await wire.answer())[0] == 413
        async with connected(port) as wire:
            wire.send(
                head + b"transfer-encoding: chunked\r\n\r\n" + b"8000\r\n" + b"x" * 32_768 + b"\r\n"
            )
            wire.send((b"8000\r\n" + b"x" * 32_768 + b"\r\n") * 4)
            assert (await wire.answer())[0] == 413
        assert not echo.asked.is_set()


async def test_a_large_head_is_431():
    async with serving() as (_, _, port), connected(port) as wire:
        wire.send(b"GET /a HTTP/1.1\r\nhost: x\r\n" + b"x: " + b"y" * 60_000)
        assert b" 431 " in await wire.ended()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /a HTT",
        b"GET /a HTTP/1.1\r\nx: y\r\n",
        b"POST /a HTTP/1.1\r\ncontent-length: 9\r\n\r\nx",
    ],
)
async def test_slow_heads_and_bodies_are_408(raw):
    async with serving() as (_, _, port), connected(port) as wire:
        wire.send(raw)
        assert (await wire.answer())[0] == 408
        assert await wire.ended() == b""


async def test_a_head_that_drips_is_late_all_the_same():
    async with serving() as (_, _, port), connected(port) as wire:

        async def drip() -> None:
            wire.send(b"GET /a HTTP/1.1\r\n")
            while True:
                wire.send(b"x: y\r\n")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        assert (await wire.answer())[0] == 408
        dripping.cancel()


async def test_idle_connections_are_closed_and_busy_ones_are_not():
    async with serving() as (echo, _, port), connected(port) as idle, connected(port) as busy:
        echo.gate = asyncio.Event()
        busy.send(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        idle.send(GET)
        await idle.answer()
        assert await idle.ended() == b""
        echo.gate.set()
        assert (await busy.answer())[2] == b"GET /wait "


async def test_whoever_is_idle_longest_makes_room():
    async with serving() as (_, server, port), contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(port)) for _ in range(20)]
        for wire in wires:
            wire.send(GET)
            await wire.answer()
        late: Wire = await stack.enter_async_context(connected(port))
        late.send(GET)
        assert (await late.answer())[0] == 200
        assert len(server.connections) == 20


async def test_a_bug_is_500_and_tells_nothing(caplog):
    async with serving() as (_, _, port), connected(port) as wire:
        wire.send(b"GET /fail HTTP/1.1\r\nhost: x\r\n\r\n")
        status, _, body = await wire.answer()
        assert (status, b"bug" in body) == (500, False)
        assert "a bug" in caplog.text
        wire.send(GET)
        assert (await wire.answer())[0] == 200


async def test_who_goes_cancels_what_was_asked():
    async with serving() as (echo, _, port):
        echo.gate = asyncio.Event()
        async with connected(port) as wire:
            wire.send(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
            await echo.asked.wait()
        await asyncio.wait_for(echo.cancelled.wait(), 5)


async def test_who_does_not_read_is_not_written_to_for_ever():
    async with serving() as (echo, server, port), connected(port) as wire:
        wire.send(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.wait_for(echo.cancelled.wait(), 20)
        assert not server.connections


async def test_an_upgrade_to_something_else_is_not_heard():
    upgrade = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    async with serving() as (_, _, port), connected(port) as wire:
        wire.send(b"POST /p HTTP/1.1\r\nhost: x\r\n" + upgrade + b"content-length: 2\r\n\r\nok")
        assert (await wire.answer())[2] == b"POST /p ok"
        wire.send(GET)
        assert (await wire.answer())[0] == 200
        wire.send(
            b"GET /s HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        assert (await wire.answer())[0] == 400


async def test_trailers_are_no_headers():
    seen = []

    async def answer(method, target, headers, body) -> Reply:
        seen.append(dict(headers))
        return Reply(200, "text/plain", body)

    server = Server(answer, SHORT)
    port = await server.listen("127.0.0.1", 0)
    head = b"POST /p HTTP/1.1\r\nhost: x\r\nx-user: a\r\ntransfer-encoding: chunked\r\n\r\n"
    async with connected(port) as wire:
        wire.send(head + b"2\r\nhi\r\n0\r\nx-user: b\r\nx-more: c\r\n\r\n")
        assert (await wire.answer())[2] == b"hi"
        wire.send(GET)
        assert (await wire.answer())[0] == 200
    assert seen == [
        {b"host": b"x", b"x-user": b"a", b"transfer-encoding": b"chunked"},
        {b"host": b"x"},
    ]
    async with connected(port) as wire:
        wire.send(head + b"0\r\n" + b"x-user: b\r\n" * 100_000)
        assert b" 413 " in await wire.ended()
    await server.stop(0.1)


async def test_what_came_before_nonsense_is_answered():
    async with serving() as (echo, _, port), connected(port) as wire:
        wire.send(GET * 2 + b"\x00nonsense\r\n\r\n" + GET)
        assert [(await wire.answer())[0] for _ in range(3)] == [200, 200, 400]
        assert await wire.ended() == b""
    async with serving() as (echo, _, port), connected(port) as wire:
        echo.gate = asyncio.Event()
        wire.send(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\nGET /late HTT")
        await asyncio.sleep(2.2)  # The second is late while the first is still answered.
        echo.gate.set()
        assert [(await wire.answer())[0] for _ in range(2)] == [200, 408]
        assert await wire.ended() == b""
