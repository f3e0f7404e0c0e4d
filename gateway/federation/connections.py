"""HTTP/1.1 connections to services, kept alive: one request at a time on each, no pipelining.

A request that is given up, by its time or by its sender, takes its connection along: the service
sees the line go and need not finish what nobody waits for.
"""

import asyncio
import ssl
import zlib
from collections import deque
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from gateway.federation.services import ServiceFailure

_HEAD_BYTES = 64 * 1024
_FRAMED = 8  # times its size that a body may take on the line, in chunks


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go; `secure` with TLS, for `name` if it is not the host's."""

    host: str
    port: int
    secure: bool
    name: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response, its body read and decoded."""

    status: int
    media: str
    body: bytes
    retry_after: str = ""


class Stale(Exception):
    """A kept connection was closed by the other side before it answered anything."""


class Connection(asyncio.Protocol):
    """One connection. `ask` has one request answered; `idle_since` is on the loop's clock."""

    def __init__(self, pool: "Pool", origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self.pool = pool
        self.origin = origin
        self.loop = loop
        self.idle_since = 0.0
        self.used = False
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._limit = 0
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._media = ""
        self._encoding = b""
        self._retry_after = ""
        self._sized = False
        self._started = False
        self._headed = False
        self._read = 0
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, data: bytes, limit: int, until: float) -> Reply:
        """Send a request and read its answer, at most `limit` bytes of it.

        Raises:
            ServiceFailure: No answer came, or a larger one.
            Stale: The connection, kept from before, was gone.
        """
        assert self._transport is not None and self._waiter is None
        self._limit = limit
        waiter: asyncio.Future[Reply] = self.loop.create_future()
        self._waiter = waiter
        timer = self.loop.call_at(until, self._expire)
        self._transport.write(data)
        try:
            return await waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            timer.cancel()
            self._waiter = None

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _expire(self) -> None:
        self._fail(ServiceFailure("SUBGRAPH_TIMEOUT", "no answer in time"))

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.abort()

    def _unreachable(self) -> None:
        self._fail(ServiceFailure("SUBGRAPH_UNREACHABLE", "the connection broke"))

    # The event loop's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Read on; what comes unasked ends the connection."""
        if self._waiter is None or self._waiter.done():
            self.abort()
            return
        self._started = True
        self._read += len(data)
        try:
            self._parser.feed_data(data)
            if self._read > _HEAD_BYTES + (_FRAMED * self._limit if self._headed else 0):
                raise self._too_large()  # Most of it is headers, framing or trailers.
        except ServiceFailure as failure:
            self._fail(failure)
        except httptools.HttpParserError as error:
            # What a callback raises comes wrapped.
            known = error.__context__
            if isinstance(known, ServiceFailure):
                self._fail(known)
            else:
                self._unreachable()

    def connection_lost(self, exc: Exception | None) -> None:
        """The line has gone: the end of an answer without a length, or of the request."""
        self.pool.lost(self)
        if self._waiter is None or self._waiter.done():
            return
        if exc is None and self._parts and not self._sized:
            self._complete()
        elif self.used and not self._started:
            self._waiter.set_exception(Stale())
        else:
            self._unreachable()

    # The parser's calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note what matters of a header."""
        match name.lower():
            case b"content-type":
                self._media = value.decode("latin-1")
            case b"content-encoding":
                self._encoding = value.strip().lower()
            case b"retry-after":
                self._retry_after = value.decode("latin-1")
            case b"content-length":
                self._sized = True
                if int(value) > self._limit:
                    raise self._too_large()
            case b"transfer-encoding":
                self._sized = True

    def on_headers_complete(self) -> None:
        """The body comes; but for an answer that only tells that another follows."""
        self._headed = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        """Keep a piece."""
        self._size += len(body)
        if self._size > self._limit:
            raise self._too_large()
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it only told that another follows."""
        if self._parser.get_status_code() >= 200:
            self._complete()

    def _complete(self) -> None:
        waiter, parser = self._waiter, self._parser
        if waiter is None or waiter.done():
            self.abort()  # More than was asked for.
            return
        try:
            body = b"".join(self._parts)
            if self._encoding not in (b"", b"identity"):
                body = self._unpacked(body)
        except ServiceFailure as failure:
            self._fail(failure)
            return
        status = parser.get_status_code()
        waiter.set_result(Reply(status, self._media, body, self._retry_after))
        if not parser.should_keep_alive() or not self._sized:
            self.abort()
        self.used = True
        self._begin()

    def _unpacked(self, body: bytes) -> bytes:
        if self._encoding not in (b"gzip", b"x-gzip"):
            raise ServiceFailure("SUBGRAPH_MALFORMED", "the answer has an unknown encoding")
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            made = unpack.decompress(body, self._limit + 1)
        except zlib.error as error:
            raise ServiceFailure("SUBGRAPH_MALFORMED", "the answer is no gzip") from error
        if len(made) > self._limit:
            raise self._too_large()
        return made

    def _too_large(self) -> ServiceFailure:
        return ServiceFailure("SUBGRAPH_TOO_LARGE", f"the answer is above {self._limit} bytes")


class Pool:
    """Connections by origin, at most `most` to each; who finds none free waits in line.

    Args:
        tls: Whose certificates are good; None: whom the system trusts.
    """

    def __init__(
        self,
        *,
        most: int,
        connect_timeout: float,
        idle_timeout: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._most = most
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: dict[Origin, int] = {}
        self._line: dict[Origin, deque[asyncio.Future[None]]] = {}
        self._all: set[Connection] = set()
        self._tls = tls

    async def take(self, origin: Origin, until: float, *, fresh: bool = False) -> Connection:
        """A connection for one request; raises ServiceFailure if there is none in time."""
        loop = asyncio.get_running_loop()
        idle = self._idle.setdefault(origin, [])
        while True:
            while idle and not fresh:
                kept = idle.pop()
                if kept.usable and loop.time() - kept.idle_since < self._idle_timeout:
                    return kept
                kept.abort()
            if self._open.get(origin, 0) < self._most:
                return await self._connect(origin, until, loop)
            await self._wait(origin, until, loop)

    def give(self, connection: Connection) -> None:
        """Give a connection back after its request."""
        if connection.usable:
            connection.idle_since = connection.loop.time()
            self._idle.setdefault(connection.origin, []).append(connection)
            self._next(connection.origin)

    def lost(self, connection: Connection) -> None:
        """A connection has gone."""
        if connection not in self._all:
            return
        self._all.discard(connection)
        self._open[connection.origin] -= 1
        idle = self._idle.get(connection.origin, [])
        if connection in idle:
            idle.remove(connection)
        self._next(connection.origin)

    def close(self) -> None:
        """Close all."""
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()

    def _next(self, origin: Origin) -> None:
        line = self._line.get(origin)
        while line:
            waiting = line.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    async def _wait(self, origin: Origin, until: float, loop: asyncio.AbstractEventLoop) -> None:
        waiting = loop.create_future()
        self._line.setdefault(origin, deque()).append(waiting)
        try:
            async with asyncio.timeout_at(until):
                await waiting
        except BaseException as error:
            if waiting.done() and not waiting.cancelled():
                self._next(origin)  # The turn is somebody else's.
            if isinstance(error, TimeoutError):
                message = "no connection was free in time"
                raise ServiceFailure("SUBGRAPH_TIMEOUT", message) from error
            raise

    async def _connect(
        self, origin: Origin, until: float, loop: asyncio.AbstractEventLoop
    ) -> Connection:
        self._open[origin] = self._open.get(origin, 0) + 1
        secure: dict[str, Any] = {}
        if origin.secure:
            secure = {"ssl": self._context(), "server_hostname": origin.name or origin.host}
        try:
            async with asyncio.timeout_at(min(until, loop.time() + self._connect_timeout)):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, origin, loop), origin.host, origin.port, **secure
                )
        except BaseException as error:
            self._open[origin] -= 1
            self._next(origin)
            if isinstance(error, TimeoutError):
                raise ServiceFailure("SUBGRAPH_TIMEOUT", "no connection in time") from error
            if isinstance(error, OSError):
                raise ServiceFailure("SUBGRAPH_UNREACHABLE", "no connection") from error
            raise
        self._all.add(connection)
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


def split(url: str) -> tuple[Origin, str, str]:
    """Origin, `Host` header and target of an address; ValueError if it is no HTTP address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"no HTTP address: {url}")
    secure = parts.scheme == "https"
    origin = Origin(parts.hostname, parts.port or (443 if secure else 80), secure)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return origin, parts.netloc.rpartition("@")[2], target
