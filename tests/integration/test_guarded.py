"""Slow clients are dropped in time, and a crowd of them does not keep others from being served."""

import asyncio
import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from gateway import guarded
from gateway.settings import Settings
from tests.support.serving import bound

ROOT = Path(__file__).parents[2]
QUICK = replace(Settings(), request_head_seconds=0.3, request_body_seconds=0.3)
HEAD = b"GET / HTTP/1.1\r\nhost: x\r\n"
SERVER = """
import resource, socket, sys, uvicorn
from dataclasses import replace
from gateway import guarded
from gateway.settings import Settings
resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
config = guarded.config(app, replace(Settings(), request_head_seconds=60), lifespan="off")
uvicorn.Server(config).run([listening])
"""


async def _echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _talk(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[int, guarded.Crowd]]:
    """A guarded server in this loop: its port and its connections."""
    routes = [Route("/", _echo, methods=["GET", "POST"]), WebSocketRoute("/talk", _talk)]
    listening, port = bound()
    config = guarded.config(Starlette(routes=routes), settings, lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.005)
        assert not task.done(), task.exception()
    try:
        yield port, config.http_protocol_class.crowd
    finally:
        server.should_exit = True
        await task


async def _sent(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """All that comes back for these bytes, until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            return await reader.read()
        return b""  # Cut off while it still sent.
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([], "nothing at all"),
        ([HEAD], "half a head"),
        ([HEAD, *[b"x: y\r\n"] * 50], "a head that goes on and on"),
        ([b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n", b"123"], "half a body"),
        (
            [b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n", *[b"1"] * 50],
            "a body by the byte",
        ),
        ([HEAD + b"\r\n", HEAD], "half a second head"),
    ],
)
async def test_who_does_not_finish_in_time_is_dropped(parts: list[bytes], why: str) -> None:
    async with serving(QUICK) as (port, crowd):
        try:
            async with asyncio.timeout(60):
                answer = await _sent(port, *parts, pause=0.05 if len(parts) > 9 else 0)
        except TimeoutError:
            pytest.fail(why)
        assert b"408" in answer or b"200 OK" in answer or not answer
        while crowd.count:
            await asyncio.sleep(0.01)
        assert (crowd.here, crowd.idle) == ({}, {})


async def test_an_honest_client_keeps_its_connection() -> None:
    patient = replace(Settings(), request_head_seconds=1.0, request_body_seconds=9)
    async with (
        serving(patient) as (port, crowd),
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        for _ in range(2):
            assert (await http.post("/", content=b"x" * 100_000)).text == "100000"
            await asyncio.sleep(1.2)  # Longer than a head may take: between requests it may idle.
        assert crowd.count == 1


async def test_a_head_too_long_is_refused() -> None:
    async with serving(replace(QUICK, request_head_bytes=1024)) as (port, _):
        answer = await _sent(port, HEAD, b"x: " + b"y" * 4000)
        assert b" 400 " in answer, answer


async def test_one_address_has_so_many_connections() -> None:
    async with (
        serving(replace(QUICK, request_head_seconds=9, connections_per_address=3)) as (
            port,
            crowd,
        ),
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
        while crowd.count < 3:
            await asyncio.sleep(0.01)
        assert b" 503 " in await _sent(port)
        assert crowd.count == 3


async def test_the_longest_idle_makes_room() -> None:
    async with serving(replace(QUICK, request_head_seconds=9, connections=2)) as (port, crowd):
        reader, first = await asyncio.open_connection("127.0.0.1", port)
        _, second = await asyncio.open_connection("127.0.0.1", port)
        while crowd.count < 2:
            await asyncio.sleep(0.01)
        assert b"200 OK" in await _sent(port, HEAD + b"connection: close\r\n\r\n")
        assert b" 503 " in await reader.read()
        first.close()
        second.close()


async def test_a_websocket_is_counted_until_it_ends() -> None:
    async with serving(QUICK) as (port, crowd):
        async with connect(f"ws://127.0.0.1:{port}/talk") as socket:
            await socket.send("one")
            assert await socket.recv() == "one"
            await asyncio.sleep(0.5)  # Its deadlines are its own.
            await socket.send("two")
            assert await socket.recv() == "two"
            assert crowd.count == 1
        while crowd.count:
            await asyncio.sleep(0.01)
        assert crowd.here == {}


@contextlib.contextmanager
def _small_server() -> Iterator[int]:
    """A guarded server that may open 160 files; its port."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        yield int(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
        assert not re.search("out of system resource|Traceback", said), said


async def test_four_hundred_slow_clients_do_not_keep_others_out() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1024), hard))
    with _small_server() as port:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(400):
                with contextlib.suppress(ConnectionError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    stack.callback(writer.close)
                    writer.write(HEAD)
            for _ in range(20):
                async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
                    assert (await http.get(f"http://127.0.0.1:{port}/")).text == "here"
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
