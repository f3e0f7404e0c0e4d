"""An HTTP/1.1 server for one endpoint: little per request, and nothing a slow client can hold.

uvicorn costs about 50 µs of CPU a request before the application runs; this costs about 10, and has
the deadlines for heads and bodies that uvicorn lacks. httptools reads, uvloop writes. Requests of
one connection are answered in order, one at a time. What upgrades to WebSocket is handed on.

Source: RFC 9112; security.md §0.2.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from itertools import islice
from typing import Any, Protocol

import httptools

from gateway.federation.http import Reply

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 0.5
_LOOKED_AT = 64  # connections, to find one idle for long where there are too many
_LINGER_SECONDS = 1.0  # that a refused client has to take its answer
_WAITING_REQUESTS = 16  # of one connection; it is not read from beyond
_HEAD_BYTES = 32 * 1024
_FRAMED = 8  # times its size that a body may take on the line, in chunks
_PHRASES = {one.value: one.phrase for one in HTTPStatus}

Answer = Callable[[bytes, bytes, dict[bytes, bytes], bytes], Awaitable[Reply]]
"""Method, target, headers (lower case), body."""


class Upgraded(Protocol):
    """What a connection becomes after an upgrade."""

    def data_received(self, data: bytes) -> None: ...
    def connection_lost(self, error: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def stop(self) -> None: ...


Upgrade = Callable[[asyncio.Transport, bytes, dict[bytes, bytes]], Upgraded | None]
"""Transport, target, headers; None: there is no such upgrade here."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds a client has, bytes it may send, connections there may be."""

    head: float = 10.0
    body: float = 30.0
    idle: float = 75.0
    write: float = 60.0
    body_bytes: int = 1 << 20
    connections: int = 10_000


@dataclass(slots=True)
class _Message:
    """A request as it comes in."""

    target: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    method: bytes = b""
    body: bytes | list[bytes] = b""
    size: int = 0
    keep: bool = True
    bad: int = 0  # The status it is refused with.


class Server:
    """Accepts connections and hands their requests to `answer`."""

    def __init__(
        self, answer: Answer, patience: Patience | None = None, upgrade: Upgrade | None = None
    ) -> None:
        self.answer = answer
        self.upgrade = upgrade
        self.patience = patience or Patience()
        self.connections: set[Connection] = set()
        self.stopping = False
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.now = self.loop.time()
        self.date = _date()
        self._listening: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()

    async def listen(self, host: str, port: int) -> int:
        """Listen; returns the port, which is a free one if `port` is 0."""
        self._listening = await self.loop.create_server(
            lambda: Connection(self), host, port, backlog=2048
        )
        self._sweeper = self.loop.create_task(self._sweep())
        return int(self._listening.sockets[0].getsockname()[1])

    async def stop(self, seconds: float) -> bool:
        """Accept nothing more, let requests end, and say whether all did within `seconds`."""
        self.stopping = True
        if self._listening is not None:
            self._listening.close()
        for connection in list(self.connections):
            connection.retire()
        self._empty.clear()
        ended = True
        if self.connections:
            try:
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
            except TimeoutError:
                ended = False
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        return ended

    def came(self, connection: "Connection") -> None:
        self.connections.add(connection)
        if len(self.connections) > self.patience.connections:
            some = islice(self.connections, _LOOKED_AT)
            idle = [one for one in some if one.idle and one is not connection]
            (min(idle, key=_since) if idle else connection).abort()

    def went(self, connection: "Connection") -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    async def _sweep(self) -> None:
        """End connections whose client is late. One clock for all costs requests nothing."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.now, self.date = self.loop.time(), _date()
            for connection in list(self.connections):
                connection.check(self.now)


def _date() -> bytes:
    return f"date: {formatdate(usegmt=True)}\r\n".encode()


def _since(connection: "Connection") -> float:
    return connection.since


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transport: Any = None
        self.parser = httptools.HttpRequestParser(self)
        self.message = _Message()
        self.waiting: deque[_Message] = deque()
        self.task: asyncio.Task[None] | None = None
        self.upgraded: Upgraded | None = None
        self.phase = "idle"  # idle, head, body; while a request is answered: work
        self.since = server.now
        self.head_bytes = 0
        self.writable: asyncio.Event | None = None
        self.closing = False
        self.body_bytes = 0
        self.deaf = False  # It is refused once what came before is answered; no more is read.

    @property
    def idle(self) -> bool:
        return self.task is None and self.upgraded is None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.came(self)
        if self.server.stopping:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self.server.went(self)
        if self.upgraded is not None:
            self.upgraded.connection_lost(exc)
        if self.writable is not None:
            self.writable.set()
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        if self.upgraded is not None:
            self.upgraded.data_received(data)
            return
        if self.closing or self.deaf:
            return
        if self.phase in ("idle", "head"):
            self.head_bytes += len(data)
        else:
            self.body_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
            return
        except (httptools.HttpParserError, ValueError):
            self._refuse(400)
            return
        if self.phase == "head" and self.head_bytes > _HEAD_BYTES:
            self._refuse(431)
        elif self.phase == "body" and self.body_bytes > _FRAMED * self.server.patience.body_bytes:
            self._refuse(413)  # Most of it is framing, or trailers.
        elif self.phase == "idle" and data and self.task is None:
            self._enter("head")

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self.upgraded is not None:
            self.upgraded.pause_writing()
            return
        self.writable = asyncio.Event()
        self.since = self.server.now

    def resume_writing(self) -> None:
        if self.upgraded is not None:
            self.upgraded.resume_writing()
            return
        if self.writable is not None:
            self.writable.set()
            self.writable = None

    # What the parser calls.

    def on_message_begin(self) -> None:
        self.message = _Message()
        self._enter("head")

    def on_url(self, url: bytes) -> None:
        self.message.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase == "head":  # After a body they are trailers, and nobody's headers.
            self.message.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        message = self.message
        message.method = self.parser.get_method()
        message.keep = self.parser.should_keep_alive()
        headers = message.headers
        self.head_bytes = self.body_bytes = 0
        self._enter("body")
        declared = headers.get(b"content-length")
        if declared is not None and int(declared) > self.server.patience.body_bytes:
            self._too_large()
        elif headers.get(b"expect", b"").lower() == b"100-continue" and self.idle:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        message = self.message
        message.size += len(body)
        if message.size > self.server.patience.body_bytes:
            self._too_large()
        if message.bad:
            return
        if not message.body:
            message.body = body
        elif isinstance(message.body, bytes):
            message.body = [message.body, body]
        else:
            message.body.append(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self.phase = "idle"
        self.waiting.append(self.message)
        if self.task is None:
            self._begin()
        elif len(self.waiting) >= _WAITING_REQUESTS:
            self.transport.pause_reading()

    def _too_large(self) -> None:
        """Refuse a body before it is read, or after the answers that are due before."""
        self.message.bad = 413
        if self.task is None and not self.waiting:
            self._refuse(413)

    # Answering.

    def _begin(self) -> None:
        self.task = self.server.loop.create_task(self._work())

    async def _work(self) -> None:
        """Answer what waits, in order."""
        try:
            while self.waiting and not self.closing:
                if not await self._respond(self.waiting.popleft()):
                    return
        except asyncio.CancelledError:
            if not self.closing:
                self.abort()
        finally:
            self.task = None
            self.since = self.server.now
            if not self.closing and not self.transport.is_closing():
                self.transport.resume_reading()
                if self.server.stopping and self.phase == "idle":
                    self.transport.close()

    async def _respond(self, message: _Message) -> bool:
        """Answer one request; returns whether the connection goes on."""
        if message.bad:
            self._refuse(message.bad)
            return False
        body = message.body
        if not isinstance(body, bytes):
            body = b"".join(body)
        try:
            reply = await self.server.answer(message.method, message.target, message.headers, body)
        except Exception:
            log.exception("a request failed")
            reply = _FAILED
        keep = message.keep and not self.server.stopping
        if reply.stream is not None:
            await self._stream(reply, keep=keep)
        else:
            bare = message.method == b"HEAD"
            self.transport.write(_whole(reply, self.server.date, keep=keep, head=bare))
        if not keep:
            self.closing = True
            self.transport.close()
        elif self.writable is not None:
            await self.writable.wait()
        return keep

    async def _stream(self, reply: Reply, *, keep: bool) -> None:
        """Send a reply chunk by chunk; a client that does not read stops its source."""
        assert reply.stream is not None
        async with contextlib.AsyncExitStack() as stack:
            close = getattr(reply.stream, "aclose", None)
            if close is not None:
                stack.push_async_callback(close)
            length = b"transfer-encoding: chunked\r\n" + self.server.date
            self.transport.write(_head(reply, length, keep=keep))
            async for chunk in reply.stream:
                self.transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                if self.writable is not None:
                    await self.writable.wait()
                if self.closing:
                    return
            self.transport.write(b"0\r\n\r\n")

    def _refuse(self, status: int) -> None:
        """Answer what cannot be read, after what came before it, and end the connection."""
        if self.closing:
            return
        if self.task is not None and self.task is not asyncio.current_task():
            if not self.deaf:
                self.deaf = True
                self.waiting.append(_Message(bad=status))
            return
        self.closing = True
        self.since = self.server.now
        self.transport.write(_whole(_plain(status), self.server.date, keep=False))
        if self.transport.can_write_eof():
            self.transport.write_eof()  # The client may be sending still, and reads afterwards.
        self.server.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _upgrade(self, rest: bytes) -> None:
        """Become what the client wants; other protocols than WebSocket are not heard of."""
        message = self.message
        if message.method == b"CONNECT":
            self._refuse(405)
            return
        if not _to_websocket(message):
            self.parser = httptools.HttpRequestParser(self)
            self.data_received(_without_upgrade(message) + rest)
            return
        upgrade = self.server.upgrade
        if upgrade is None or self.task is not None:
            self._refuse(400)
            return
        upgraded = upgrade(self.transport, message.target, message.headers)
        if upgraded is None:
            self._refuse(404)
            return
        self.upgraded = upgraded
        if rest:
            upgraded.data_received(rest)

    # Ending.

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self.since = self.server.now

    def check(self, now: float) -> None:
        """End the connection if its client is late."""
        if self.upgraded is not None or self.closing:
            return
        patience, spent = self.server.patience, now - self.since
        if self.writable is not None:
            if spent > patience.write:
                self.abort()
        elif self.phase == "head":
            if spent > patience.head:
                self._refuse(408)
        elif self.phase == "body":
            if spent > patience.body:
                self._refuse(408)
        elif self.phase == "idle" and self.task is None and spent > patience.idle:
            self.abort()

    def retire(self) -> None:
        """Close once what has begun is answered."""
        if self.upgraded is not None:
            self.upgraded.stop()
        elif self.task is None and self.phase == "idle":
            self.transport.close()

    def abort(self) -> None:
        self.closing = True
        self.transport.abort()


def _to_websocket(message: _Message) -> bool:
    return message.method == b"GET" and message.headers.get(b"upgrade", b"").lower() == b"websocket"


def _without_upgrade(message: _Message) -> bytes:
    """The head of a request as if it had not asked to become something else."""
    kept = [
        b"%b: %b" % (name, value)
        for name, value in message.headers.items()
        if name not in (b"upgrade", b"connection", b"http2-settings", b"expect")
    ]
    return b"\r\n".join([b"%b %b HTTP/1.1" % (message.method, message.target), *kept, b"", b""])


_HEADS: dict[tuple[int, str, bool], bytes] = {}


def _whole(reply: Reply, date: bytes, *, keep: bool, head: bool = False) -> bytes:
    body = reply.body
    start = _head(reply, b"content-length: %d\r\n%b" % (len(body), date), keep=keep)
    return start if head else start + body


def _head(reply: Reply, length: bytes, *, keep: bool) -> bytes:
    key = (reply.status, reply.media, keep)
    start = _HEADS.get(key)
    if start is None:
        phrase = _PHRASES.get(reply.status, "")
        lines = [f"HTTP/1.1 {reply.status} {phrase}", f"content-type: {_typed(reply.media)}"]
        lines += ["vary: accept"] + ([] if keep else ["connection: close"])
        start = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
        if len(_HEADS) < 256:
            _HEADS[key] = start
    if not reply.headers:
        return start + length + b"\r\n"
    more = "".join(f"{name}: {value}\r\n" for name, value in reply.headers).encode("latin-1")
    return start + more + length + b"\r\n"


def _typed(media: str) -> str:
    return media if ";" in media else f"{media}; charset=utf-8"


def _plain(status: int) -> Reply:
    text = _PHRASES.get(status, "")
    return Reply(status, "application/json", b'{"errors":[{"message":"%b"}]}' % text.encode())


_FAILED = _plain(500)
