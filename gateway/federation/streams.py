"""A subscription's results as one HTTP answer: parts of multipart/mixed, or server-sent events.

Source: the multipart protocol for subscriptions over HTTP (parts of `{"payload": …}`, `{}` as a
heartbeat); GraphQL over server-sent events, distinct connections mode.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from gateway.federation.negotiation import MULTIPART, Stream
from gateway.federation.requests import Result

HEARTBEAT_SECONDS = 5.0
_PART = b"\r\ncontent-type: application/json\r\n\r\n"
_BOUNDARY = b"\r\n--graphql"  # After each part, so that a client knows at once that it is whole.


def media(kind: Stream) -> str:
    """The content type of a stream."""
    if kind == MULTIPART:
        return 'multipart/mixed;boundary="graphql";subscriptionSpec="1.0"'
    return "text/event-stream; charset=utf-8"


async def encode(kind: Stream, results: AsyncIterator[Result]) -> AsyncIterator[bytes]:
    """The chunks of a stream; a heartbeat where nothing comes for some seconds."""
    multipart = kind == MULTIPART
    if multipart:
        yield _BOUNDARY
    async with aclosing(_beating(results)) as beating:
        async for result in beating:
            if result is None:
                yield _PART + b"{}" + _BOUNDARY if multipart else b":\n\n"
            elif multipart:
                yield _part(result) + _BOUNDARY
            else:
                yield b"event: next\ndata: " + result.body() + b"\n\n"
    yield b"--\r\n" if multipart else b"event: complete\ndata:\n\n"


def _part(result: Result) -> bytes:
    body = result.body()
    if result.data is None:  # Nothing could be started: the stream ends with the reason.
        return _PART + b'{"payload":null,' + body[1:]
    return _PART + b'{"payload":' + body + b"}"


async def _beating(results: AsyncIterator[Result]) -> AsyncGenerator[Result | None, None]:
    """The same results, and None whenever a heartbeat is due."""
    end: Any = object()
    waiting: asyncio.Task[Any] | None = None
    try:
        while True:
            if waiting is None:
                waiting = asyncio.ensure_future(_next(results, end))
            done, _ = await asyncio.wait({waiting}, timeout=HEARTBEAT_SECONDS)
            if not done:
                yield None
                continue
            result = waiting.result()
            waiting = None
            if result is end:
                return
            yield result
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        close = getattr(results, "aclose", None)
        if close is not None:
            await close()


async def _next(results: AsyncIterator[Result], end: Any) -> Any:
    return await anext(results, end)
