"""Services over HTTP.

One client for all services keeps its connections alive, and as many as there are requests at once:
a pool smaller than that makes requests wait in line. Redirects are not followed and no proxy of
the environment is used, so that a service is asked at its own address or not at all.
"""

import asyncio
from dataclasses import dataclass
from typing import Self

import orjson

from gateway.federation.connections import Origin, Pool, Reply, Stale, split
from gateway.federation.services import Answer, Headers, ServiceFailure, SubgraphRequest

_MOST_OBJECTS = 1_000_000  # Objects and lists of one answer: each takes some hundred bytes.
ACCEPT = "application/graphql-response+json, application/json;q=0.9"


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Times in seconds; `connections` are to one origin.

    `response_bytes` is the most that is read of one answer, and the most it may unpack to.
    """

    timeout: float = 30.0
    connect_timeout: float = 5.0
    idle_timeout: float = 60.0
    connections: int = 1_000
    response_bytes: int = 32 << 20
    user_agent: str = "coalition-gateway"


class Transport:
    """The HTTP client of a gateway; used as an async context manager."""

    def __init__(self, options: TransportOptions | None = None) -> None:
        self.options = options or TransportOptions()
        self._pool: Pool | None = None
        self._heads: dict[str, tuple[Origin, bytes]] = {}

    async def __aenter__(self) -> Self:
        self._pool = Pool(
            most=self.options.connections,
            connect_timeout=self.options.connect_timeout,
            idle_timeout=self.options.idle_timeout,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
            await asyncio.sleep(0)  # Sockets are closed in the loop's next turn.

    def service(self, url: str) -> "HttpService":
        """The service at an address."""
        return HttpService(self, url)

    async def post(self, url: str, request: SubgraphRequest) -> Reply:
        """The answer; raises `ServiceFailure`.

        A query on a kept connection that was closed just then is sent once more, on a new one.
        """
        assert self._pool is not None, "the transport is not open"
        try:
            origin, head = self._head(url)
        except ValueError as error:
            raise ServiceFailure("SUBGRAPH_UNREACHABLE", "it has no HTTP address") from error
        until = asyncio.get_running_loop().time() + self.options.timeout
        if request.deadline is not None:
            until = min(until, request.deadline)
        body = request.body
        data = b"%s%scontent-length: %d\r\n\r\n%s" % (
            head,
            _lines(request.headers) if request.headers else b"",
            len(body),
            body,
        )
        connection = await self._pool.take(origin, until)
        try:
            return await connection.ask(data, self.options.response_bytes, until)
        except Stale as error:
            if request.kind != "query":
                raise ServiceFailure("SUBGRAPH_UNREACHABLE", "the connection broke") from error
        finally:
            self._pool.give(connection)
        connection = await self._pool.take(origin, until, fresh=True)
        try:
            return await connection.ask(data, self.options.response_bytes, until)
        finally:
            self._pool.give(connection)

    def _head(self, url: str) -> tuple[Origin, bytes]:
        """Where an address is, and how each request to it begins."""
        found = self._heads.get(url)
        if found is None:
            origin, host, target = split(url)
            lines = (
                ("host", host),
                ("content-type", "application/json"),
                ("accept", ACCEPT),
                ("accept-encoding", "gzip"),
                ("user-agent", self.options.user_agent),
            )
            start = f"POST {target} HTTP/1.1\r\n"
            if " " in target or not start.isascii() or start.count("\n") != 1:
                raise ValueError(f"no HTTP address: {url}")
            found = self._heads[url] = (origin, start.encode() + _lines(lines))
        return found


def _lines(headers: Headers) -> bytes:
    """Header lines; raises `ServiceFailure` for one that would be more than a line."""
    text = "".join(f"{name}: {value}\r\n" for name, value in headers)
    if text.count("\n") != len(headers) or text.count("\r") != len(headers) or "\0" in text:
        raise ServiceFailure("SUBGRAPH_FAILED", "a header cannot be forwarded")
    return text.encode("latin-1", "replace")


class HttpService:
    """A subgraph served over HTTP."""

    def __init__(self, transport: Transport, url: str) -> None:
        self._transport = transport
        self.url = url

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """Ask it. A GraphQL response counts as one whatever its status; raises ServiceFailure."""
        reply = await self._transport.post(self.url, request)
        return read_answer(reply.status, reply.media, reply.body)


def read_answer(status: int, media: str, body: bytes) -> Answer:
    """The GraphQL response in an HTTP response.

    With a status other than 200 the body has to look like GraphQL's; else the status is told.
    """
    kind = media.partition(";")[0].strip().lower()
    if len(body) > _MOST_OBJECTS and body.count(b"{") + body.count(b"[") > _MOST_OBJECTS:
        raise ServiceFailure("SUBGRAPH_TOO_LARGE", f"the answer has over {_MOST_OBJECTS} objects")
    try:
        parsed = orjson.loads(body)
        if status != 200 and not (isinstance(parsed, dict) and _is_graphql(parsed, kind)):
            raise ServiceFailure("SUBGRAPH_HTTP_ERROR", f"answered with HTTP status {status}")
        return Answer.of(parsed, len(body))
    except orjson.JSONDecodeError as error:
        if status != 200:
            message = f"answered with HTTP status {status}"
            raise ServiceFailure("SUBGRAPH_HTTP_ERROR", message) from error
        raise ServiceFailure("SUBGRAPH_MALFORMED", "the answer is no JSON") from error


def _is_graphql(parsed: dict[str, object], kind: str) -> bool:
    if kind == "application/graphql-response+json":
        return True
    errors = parsed.get("errors")
    return isinstance(parsed.get("data"), dict) or (
        isinstance(errors, list)
        and bool(errors)
        and all(isinstance(one, dict) and "message" in one for one in errors)
    )
