"""Services over HTTP.

One client for all services keeps its connections alive and as many as there are requests at once:
a pool smaller than that makes requests wait in line. Redirects are not followed and no proxy of
the environment is used, so that a service is asked at its own address or not at all.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import orjson
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import (
    ConnectError,
    ConnectTimeoutError,
    PoolTimeoutError,
    PyreqwestError,
    ReadTimeoutError,
    RequestTimeoutError,
    WriteTimeoutError,
)
from pyreqwest.response import Response

from gateway.federation.services import Answer, ServiceFailure, SubgraphRequest

ACCEPT = "application/graphql-response+json, application/json;q=0.9"
_TIMEOUTS = (
    ConnectTimeoutError,
    PoolTimeoutError,
    ReadTimeoutError,
    RequestTimeoutError,
    WriteTimeoutError,
)
_OWN = (("content-type", "application/json"), ("accept", ACCEPT))


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Times in seconds; `response_bytes` is the most that is read of one answer."""

    timeout: float = 30.0
    connect_timeout: float = 5.0
    idle_timeout: float = 60.0
    connections: int = 1_000
    response_bytes: int = 32 << 20
    user_agent: str = "coalition-gateway"


class Transport:
    """The HTTP client of a gateway; used as an async context manager.

    Redirects are not followed: an address is checked once, by whoever configures it.
    """

    def __init__(self, options: TransportOptions | None = None) -> None:
        self.options = options or TransportOptions()
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        options = self.options
        self._client = (
            ClientBuilder()
            .http1_only()
            .http1_lower_case_headers()
            .no_proxy()
            .follow_redirects(False)
            .referer(False)
            .user_agent(options.user_agent)
            .timeout(timedelta(seconds=options.timeout))
            .connect_timeout(timedelta(seconds=options.connect_timeout))
            .pool_idle_timeout(timedelta(seconds=options.idle_timeout))
            .pool_max_idle_per_host(options.connections)
            .tcp_nodelay(True)
            .build()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    def service(self, url: str) -> "HttpService":
        """The service at an address."""
        return HttpService(self, url)

    async def post(self, url: str, request: SubgraphRequest) -> tuple[int, str, bytes]:
        """Status, media type and body of the answer; raises `ServiceFailure`."""
        assert self._client is not None, "the transport is not open"
        builder = self._client.post(url).headers([*_OWN, *request.headers])
        if request.deadline is not None:
            left = request.deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise ServiceFailure("SUBGRAPH_TIMEOUT", "no answer in time")
            if left < self.options.timeout:
                builder = builder.timeout(timedelta(seconds=left))
        sent = builder.body_bytes(request.body).build_streamed()
        try:
            async with sent as response:
                body = await self._read(response)
                return response.status, response.get_header("content-type") or "", body
        except _TIMEOUTS as error:
            raise ServiceFailure("SUBGRAPH_TIMEOUT", "no answer in time") from error
        except ConnectError as error:
            raise ServiceFailure("SUBGRAPH_UNREACHABLE", "no connection") from error
        except PyreqwestError as error:
            raise ServiceFailure("SUBGRAPH_UNREACHABLE", "the connection broke") from error

    async def _read(self, response: Response) -> bytes:
        limit = self.options.response_bytes
        declared = response.get_header("content-length")
        if declared is not None and declared.isdecimal():
            if int(declared) > limit:
                raise ServiceFailure("SUBGRAPH_TOO_LARGE", f"the answer is above {limit} bytes")
            return (await response.bytes()).to_bytes()
        parts: list[bytes] = []
        size = 0
        while (part := await response.body_reader.read_chunk()) is not None:
            size += len(part)
            if size > limit:
                raise ServiceFailure("SUBGRAPH_TOO_LARGE", f"the answer is above {limit} bytes")
            parts.append(part.to_bytes())
        return b"".join(parts)


class HttpService:
    """A subgraph served over HTTP."""

    def __init__(self, transport: Transport, url: str) -> None:
        self._transport = transport
        self.url = url

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """Ask it. A GraphQL response counts as one whatever its status; raises ServiceFailure."""
        status, media, body = await self._transport.post(self.url, request)
        return read_answer(status, media, body)


def read_answer(status: int, media: str, body: bytes) -> Answer:
    """The GraphQL response in an HTTP response.

    With a status other than 200 the body has to look like GraphQL's; else the status is told.
    """
    kind = media.partition(";")[0].strip().lower()
    try:
        parsed = orjson.loads(body)
        if status != 200 and not (isinstance(parsed, dict) and _is_graphql(parsed, kind)):
            raise ServiceFailure("SUBGRAPH_HTTP_ERROR", f"answered with HTTP status {status}")
        return Answer.of(parsed)
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
