"""HTTP/1.1 with as little work a request as possible: what is measured is the gateway, not this.

One request at a time on a connection, both sides with Content-Length, kept open.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit


class Lost(Exception):
    """The connection ended before the answer did."""


class _Message(asyncio.Protocol):
    """Cuts what arrives into messages: head and body."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._end_of_head = -1
        self._length = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            if self._end_of_head < 0:
                self._end_of_head = self._buffer.find(b"\r\n\r\n")
                if self._end_of_head < 0:
                    return
                self._length = _length(bytes(self._buffer[: self._end_of_head]))
            end = self._end_of_head + 4 + self._length
            if len(self._buffer) < end:
                return
            head = bytes(self._buffer[: self._end_of_head])
            body = bytes(self._buffer[self._end_of_head + 4 : end])
            del self._buffer[:end]
            self._end_of_head = -1
            self.received(head, body)

    def received(self, head: bytes, body: bytes) -> None:
        raise NotImplementedError


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    return int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


class _Asking(_Message):
    def __init__(self) -> None:
        super().__init__()
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.closing = False

    def received(self, head: bytes, body: bytes) -> None:
        self.closing = b"connection: close" in head.lower()
        if self.answer and not self.answer.done():
            self.answer.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        if self.answer and not self.answer.done():
            self.answer.set_exception(Lost(str(exc) if exc else "closed"))


class Connection:
    """A client's one connection; made anew when the server has closed it between requests.

    Args:
        url: Where to post to.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._host, self._port = parts.hostname, parts.port or 80
        self._head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Content-Type: application/json\r\nAccept: application/json\r\n"
        )
        self._protocol: _Asking | None = None

    async def post(self, token: str, document: Any) -> tuple[int, Any]:
        """Send JSON; the status and the answer read as JSON.

        Raises:
            Lost: Sent, and no whole answer.
            OSError: Not connected; nothing was sent.
        """
        body = json.dumps(document).encode()
        head = f"{self._head}Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        protocol = await self._connected()
        assert protocol.transport
        protocol.answer = asyncio.get_running_loop().create_future()
        protocol.transport.write(head.encode() + body)
        try:
            status, answer = await protocol.answer
        except asyncio.CancelledError:
            self.close()
            raise
        return status, json.loads(answer)

    async def _connected(self) -> _Asking:
        if self._protocol is None or self._protocol.closing:
            self.close()
            loop = asyncio.get_running_loop()
            _, self._protocol = await loop.create_connection(_Asking, self._host, self._port)
        return self._protocol

    def close(self) -> None:
        if self._protocol and self._protocol.transport:
            self._protocol.transport.close()
        self._protocol = None


Handler = Callable[[bytes, bytes], tuple[int, bytes]]


class Answering(_Message):
    """A server's connection: `handler` makes status and JSON of head and body, at once."""

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self._handler = handler

    def received(self, head: bytes, body: bytes) -> None:
        assert self.transport
        status, answer = self._handler(head, body)
        start = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\n" % status
        self.transport.write(start + b"Content-Length: %d\r\n\r\n" % len(answer) + answer)
