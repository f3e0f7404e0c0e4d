"""Subscriptions to subgraphs: graphql-transport-ws, or a stream of parts or events over HTTP.

Source: the graphql-transport-ws protocol of the graphql-ws project; the multipart protocol for
subscriptions over HTTP; GraphQL over server-sent events.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Literal, cast
from urllib.parse import urlsplit, urlunsplit

import orjson
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from gateway.federation.services import Answer, ServiceFailure, SubgraphRequest

Protocol = Literal["auto", "websocket", "http"]

_PROTOCOL = "graphql-transport-ws"
_ACCEPT = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0, text/event-stream;q=0.9'
_EVENT_BYTES = 8 << 20
_START_SECONDS = 10.0


class _Direct(connect):
    """A WebSocket at the address itself: redirects are not followed, nobody else is told."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@functools.cache
def streaming_client() -> Client:
    """The client of all streams over HTTP: no limit of time, its connections are not kept."""
    return (
        ClientBuilder()
        .http1_only()
        .no_proxy()
        .follow_redirects(False)
        .pool_max_idle_per_host(0)
        .connect_timeout(timedelta(seconds=_START_SECONDS))
        .build()
    )


class Source:
    """Where a subgraph's events come from.

    Args:
        url: The subgraph's, of either scheme.
        client: For streams over HTTP.
        protocol: `auto` tries a WebSocket first and remembers when it is refused.
    """

    def __init__(self, url: str, client: Client, *, protocol: Protocol = "auto") -> None:
        self._url = url
        self._client = client
        self._protocol = protocol

    async def subscribe(self, request: SubgraphRequest) -> AsyncGenerator[Answer, None]:
        """The subgraph's events, until it or the taker ends.

        Raises:
            ServiceFailure: It cannot be reached, or breaks off.
        """
        if self._protocol != "http":
            try:
                socket = await self._open(request)
            except ServiceFailure:
                raise
            except (InvalidHandshake, InvalidURI) as error:
                if self._protocol == "websocket":
                    raise _unreachable(error) from error
                self._protocol = "http"
            except (OSError, TimeoutError) as error:
                raise _unreachable(error) from error
            else:
                async with aclosing(_over_socket(socket, request)) as events:
                    async for answer in events:
                        yield answer
                return
        async with aclosing(self._over_http(request)) as events:
            async for answer in events:
                yield answer

    async def _open(self, request: SubgraphRequest) -> ClientConnection:
        scheme, *rest = urlsplit(self._url)
        other = {"http": "ws", "https": "wss"}.get(scheme, scheme)
        headers = [(name, value) for name, value in request.headers if name != "origin"]
        return await _Direct(
            urlunsplit((other, *rest)),
            subprotocols=[cast(Subprotocol, _PROTOCOL)],
            additional_headers=headers,
            compression=None,
            proxy=None,
            open_timeout=_START_SECONDS,
            max_size=_EVENT_BYTES,
            max_queue=64,
        )

    async def _over_http(self, request: SubgraphRequest) -> AsyncGenerator[Answer, None]:
        sent = (
            self._client.post(self._url)
            .header("content-type", "application/json")
            .header("accept", _ACCEPT)
            .body_bytes(request.body)
            .streamed_read_buffer_limit(0)  # Else it waits for more than the first event.
        )
        for name, value in request.headers:
            sent = sent.header(name, value)
        try:
            async with sent.build_streamed() as response:
                kind = response.get_header("content-type") or ""
                chunks = _chunks(response.body_reader)
                async for answer in _streamed(kind, response.status, chunks):
                    yield answer
        except PyreqwestError as error:
            raise _unreachable(error) from error


async def _over_socket(
    socket: ClientConnection, request: SubgraphRequest
) -> AsyncGenerator[Answer, None]:
    """Events of one operation on a socket of its own."""
    try:
        said = dict(request.headers)
        await socket.send(orjson.dumps({"type": "connection_init", "payload": said}).decode())
        async with asyncio.timeout(_START_SECONDS):
            while True:
                message = _message(await socket.recv())
                if message["type"] == "connection_ack":
                    break
                await _pong(socket, message)
        payload = {"query": request.text, "variables": request.variables}
        start = {"id": "1", "type": "subscribe", "payload": payload}
        await socket.send(orjson.dumps(start).decode())
        while True:
            message = _message(await socket.recv())
            match message["type"]:
                case "next":
                    yield Answer.of(message.get("payload"))
                case "error":
                    errors = message.get("payload")
                    yield Answer(None, errors if isinstance(errors, list) else [])
                    return
                case "complete":
                    return
                case _:
                    await _pong(socket, message)
    except ConnectionClosed as error:
        raise ServiceFailure("SUBGRAPH_FAILED", "the subscription broke off") from error
    except TimeoutError as error:
        raise ServiceFailure("SUBGRAPH_TIMEOUT", "the subscription was not started") from error
    finally:
        await socket.close()


async def _pong(socket: ClientConnection, message: Mapping[str, Any]) -> None:
    if message["type"] == "ping":
        await socket.send('{"type":"pong"}')


def _message(text: str | bytes) -> dict[str, Any]:
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ServiceFailure("SUBGRAPH_MALFORMED", "a message is no JSON") from error
    if not isinstance(read, dict) or not isinstance(read.get("type"), str):
        raise ServiceFailure("SUBGRAPH_MALFORMED", "a message has no type")
    return read


async def _chunks(reader: Any) -> AsyncIterator[bytes]:
    while (chunk := await reader.read_chunk()) is not None:
        yield bytes(chunk)


async def _streamed(kind: str, status: int, chunks: AsyncIterator[bytes]) -> AsyncIterator[Answer]:
    """The answers within a response body."""
    media = kind.partition(";")[0].strip().lower()
    decoder: Decoder
    if media == "multipart/mixed":
        decoder = Parts(_boundary(kind))
    elif media == "text/event-stream":
        decoder = Events()
    elif media in ("application/json", "application/graphql-response+json"):
        decoder = Whole()
    else:
        raise ServiceFailure("SUBGRAPH_HTTP_ERROR", f"the subgraph answered {status}, no stream")
    async for chunk in chunks:
        for answer in decoder.feed(chunk):
            yield answer
        if decoder.done:
            return
    for answer in decoder.end():
        yield answer


class Decoder:
    """Finds GraphQL responses in a stream of bytes. `done` once the stream says it has ended."""

    def __init__(self) -> None:
        self.kept = b""
        self.done = False

    def feed(self, chunk: bytes) -> Iterator[Answer]:
        """The answers that are complete with these bytes."""
        self.kept += chunk
        if len(self.kept) > _EVENT_BYTES:
            raise ServiceFailure("SUBGRAPH_TOO_LARGE", "an event is too large")
        return iter(())

    def end(self) -> Iterator[Answer]:
        """What is left when the stream ends."""
        return iter(())


class Whole(Decoder):
    """One response, not a stream: an operation that was refused."""

    def end(self) -> Iterator[Answer]:
        yield Answer.of(_json(self.kept))


class Events(Decoder):
    """Server-sent events: `next` with a response, `complete`."""

    def feed(self, chunk: bytes) -> Iterator[Answer]:
        super().feed(chunk)
        *events, self.kept = self.kept.replace(b"\r\n", b"\n").split(b"\n\n")
        for event in events:
            name, data = b"message", []
            for line in event.split(b"\n"):
                key, _, value = line.partition(b":")
                if key == b"event":
                    name = value.strip()
                elif key == b"data":
                    data.append(value.removeprefix(b" "))
            if name == b"complete":
                self.done = True
                return
            if data and b"".join(data).strip():
                yield Answer.of(_json(b"\n".join(data)))


class Parts(Decoder):
    """Parts of multipart/mixed: `{"payload": response}`, or `{}` as a heartbeat."""

    def __init__(self, boundary: bytes) -> None:
        super().__init__()
        self._boundary = b"--" + boundary

    def feed(self, chunk: bytes) -> Iterator[Answer]:
        super().feed(chunk)
        while not self.done:
            found = self._next()
            if found is None:
                return
            if not found:
                continue
            read = _json(found)
            if not isinstance(read, dict):
                raise ServiceFailure("SUBGRAPH_MALFORMED", "a part is no object")
            if read.get("errors") and not read.get("payload"):
                yield Answer(None, read["errors"])
                self.done = True
            elif read.get("payload") is not None:
                yield Answer.of(read["payload"])

    def _next(self) -> bytes | None:
        """The body of the next complete part; None: none yet."""
        start = self.kept.find(self._boundary)
        if start < 0:
            return None
        after = start + len(self._boundary)
        if self.kept[after : after + 2] == b"--":
            self.done = True
            return None
        head = self.kept.find(b"\r\n\r\n", after)
        stop = self.kept.find(self._boundary, after)
        if head < 0:
            return None
        if stop < 0:
            # A part may be complete before the boundary that ends it has come.
            body = self.kept[head + 4 :].strip()
            if not _complete(body):
                return None
            self.kept = self._boundary[:0]
            return body
        body = self.kept[head + 4 : stop].strip()
        self.kept = self.kept[stop:]
        return body


def _complete(body: bytes) -> bool:
    if not body.endswith(b"}"):
        return False
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def _boundary(kind: str) -> bytes:
    for parameter in kind.split(";")[1:]:
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "boundary":
            return value.strip().strip('"').encode("latin-1")
    return b"-"


def _json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ServiceFailure("SUBGRAPH_MALFORMED", "an event is no JSON") from error


def _unreachable(error: Exception) -> ServiceFailure:
    return ServiceFailure("SUBGRAPH_UNREACHABLE", f"no subscription: {type(error).__name__}")
