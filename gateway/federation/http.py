"""GraphQL over HTTP: what came becomes a request, the result becomes an answer. No server here.

POST of application/json, or GET of a query. A request that cannot be read is answered with 4xx. One
that fails before it runs has no `data`, and 4xx under application/graphql-response+json, 200 under
application/json. Batches are refused. A page of another site cannot make a browser ask: POST
needs a content type that no form can send, GET is refused to what a browser says is no script's.

Source: GraphQL over HTTP (working draft of 2025).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson

from gateway.federation import streams
from gateway.federation.caches import Lru
from gateway.federation.engine import Engine, Ready
from gateway.federation.negotiation import (
    GRAPHQL_JSON,
    PLAIN_JSON,
    Accepted,
    accepted,
)
from gateway.federation.requests import Request, RequestError, Result, refuse

Headers = Mapping[bytes, bytes]
"""Names in lower case. Of a header sent twice the last."""

_BODIES = 2_000
_BODIES_BYTES = 2 << 20
_BODY_KEPT = 16_384
_KINDS_KEPT = 256
_NEVER_FORWARDED = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(slots=True)
class Reply:
    """An HTTP answer: `body`, or `stream` in chunks."""

    status: int
    media: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    stream: AsyncIterator[bytes] | None = None


@dataclass(slots=True)
class Asked:
    """What a body said, as it was read; `ready` is what the engine (of `version`) made of it."""

    query: str | None
    operation_name: str | None
    variables: Mapping[str, Any]
    document: str | None
    ready: Ready | None = None
    version: int = -1


@dataclass(frozen=True, slots=True)
class Rules:
    """Which of the client's headers go to subgraphs, and which one names the client."""

    forward: tuple[str, ...] = ()
    client: str = "graphql-client-name"

    def __post_init__(self) -> None:
        for name in self.forward:
            if name.lower() in _NEVER_FORWARDED:
                raise ValueError(f"the header {name} belongs to one connection: not forwarded")


class Endpoint:
    """Answers HTTP requests with an engine.

    Args:
        state: What the services of one request are given, made of its headers.
        body_bytes: The largest body.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        rules: Rules | None = None,
        state: Callable[[Headers], Any] | None = None,
        body_bytes: int = 1 << 20,
    ) -> None:
        self.engine = engine
        self.body_bytes = body_bytes
        rules = rules or Rules()
        self._forward = tuple((name.lower(), name.lower().encode()) for name in rules.forward)
        self._client = rules.client.lower().encode()
        self._state = state
        self._bodies: Lru[bytes, Asked] = Lru(_BODIES, _BODIES_BYTES)
        self._version = engine.version
        self._mutations: set[asyncio.Task[Result]] = set()
        self._accepted: dict[bytes, Accepted] = {}
        self._json: set[bytes] = {b"application/json"}
        self._reusable = engine.plain

    async def answer(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> Reply:
        """The answer to one request; `target` is the URL's path and query."""
        accept = self._accept(headers.get(b"accept", b""))
        try:
            if accept.answer is None and accept.stream is None:
                raise refuse("request", f"Accept {GRAPHQL_JSON} or {PLAIN_JSON}.", status=406)
            if method == b"POST":
                asked = self._posted(headers, body)
                read_only = False
            elif method == b"GET":
                asked = _got(target, headers)
                read_only = True
            else:
                raise refuse("request", "Send POST or GET.", status=405)
            request = self.request(asked, headers, read_only=read_only)
            ready = self._ready(asked) or self.engine.warm(request)
            if ready is None:
                ready = await self.engine.ready(request)
            if self._reusable:
                asked.ready, asked.version = ready, self._version
            if ready.kind == "subscription":
                return self._stream(request, accept)
            if accept.answer is None:
                raise refuse("request", f"Accept {GRAPHQL_JSON} or {PLAIN_JSON}.", status=406)
        except RequestError as error:
            return refusal(error, accept.answer or GRAPHQL_JSON)
        if ready.kind == "mutation":
            result = await self._whole(request, ready)
        else:
            result = await self.engine.run(request, ready)
        return Reply(200, accept.answer, result.body())

    def request(self, asked: Asked, headers: Headers, *, read_only: bool = False) -> Request:
        """The engine's request for what was asked with these headers."""
        forwarded = self.forwarded(headers) if self._forward else ()
        client = headers.get(self._client)
        return Request(
            asked.query,
            asked.variables,
            asked.operation_name,
            asked.document,
            client.decode("latin-1") if client is not None else None,
            forwarded,
            self._state(headers) if self._state is not None else None,
            read_only=read_only,
        )

    def forwarded(self, headers: Headers) -> tuple[tuple[str, str], ...]:
        """Those of the client's headers that subgraphs are sent, in the order of the rules."""
        return tuple(
            (name, headers[raw].decode("latin-1")) for name, raw in self._forward if raw in headers
        )

    async def _whole(self, request: Request, ready: Ready) -> Result:
        """A mutation's result; it runs to its end even if its client goes."""
        task = asyncio.create_task(self.engine.run(request, ready))
        self._mutations.add(task)
        task.add_done_callback(self._mutations.discard)
        return await asyncio.shield(task)

    async def finish(self) -> None:
        """Wait for mutations whose clients have gone."""
        await asyncio.gather(*self._mutations, return_exceptions=True)

    def _accept(self, header: bytes) -> Accepted:
        found = self._accepted.get(header)
        if found is None:
            found = accepted(header.decode("latin-1"))
            if len(self._accepted) < _KINDS_KEPT and len(header) < _KINDS_KEPT:
                self._accepted[header] = found
        return found

    def _ready(self, asked: Asked) -> Ready | None:
        return asked.ready if asked.version == self.engine.version else None

    def _posted(self, headers: Headers, body: bytes) -> Asked:
        """What a body says. The same bytes are read once."""
        kind = headers.get(b"content-type", b"")
        if kind not in self._json:
            if not _is_json(kind):
                raise refuse("request", "Send application/json in UTF-8.", status=415)
            if len(self._json) < _KINDS_KEPT and len(kind) < _KINDS_KEPT:
                self._json.add(kind)
        if self._version != self.engine.version:
            self._bodies.clear()
            self._version = self.engine.version
            self._reusable = self.engine.plain
        asked = self._bodies.get(body)
        if asked is None:
            try:
                read = orjson.loads(body)
            except orjson.JSONDecodeError as error:
                raise refuse("request", "The body is no JSON in UTF-8.") from error
            asked = asked_of(read)
            if len(body) <= _BODY_KEPT:
                self._bodies.put(body, asked, len(body))
        return asked

    def _stream(self, request: Request, accept: Accepted) -> Reply:
        if accept.stream is None:
            raise refuse(
                "operation",
                "A subscription is asked for over WebSocket, or accepts multipart/mixed"
                " or text/event-stream.",
            )
        results = self.engine.subscribe(request)
        return Reply(
            200,
            streams.media(accept.stream),
            b"",
            (("cache-control", "no-store"),),
            streams.encode(accept.stream, results),
        )


def refusal(error: RequestError, media: str) -> Reply:
    """The answer to a request that does not run."""
    status = 200 if media == PLAIN_JSON and not error.hard and error.status == 400 else error.status
    headers: tuple[tuple[str, str], ...] = ()
    if status == 405:
        headers = (("allow", "POST" if error.stage == "operation" else "GET, POST"),)
    elif status == 503:
        headers = (("retry-after", "1"),)
    return Reply(status, media, error.result().body(), headers)


_FIELDS: tuple[tuple[str, type, str], ...] = (
    ("query", str, "a text"),
    ("operationName", str, "a text"),
    ("variables", dict, "an object"),
    ("extensions", dict, "an object"),
    ("documentId", str, "a text"),
)


def asked_of(read: Any) -> Asked:
    """What a JSON value asks for; raises RequestError if it is no request."""
    if not isinstance(read, dict):
        one = "Send one JSON object; batches are not served."
        raise refuse("request", one if isinstance(read, list) else "Send a JSON object.")
    for name, kind, wanted in _FIELDS:
        value = read.get(name)
        if value is not None and not isinstance(value, kind):
            raise refuse("request", f"{name}: {wanted} is needed.")
    document = read.get("documentId")
    extensions = read.get("extensions")
    if extensions and document is None:
        document = _persisted(extensions.get("persistedQuery"))
    query = read.get("query")
    if query is None and document is None:
        raise refuse("request", "A query is needed.")
    return Asked(query, read.get("operationName") or None, read.get("variables") or {}, document)


def _persisted(extension: Any) -> str | None:
    if extension is None:
        return None
    name = extension.get("sha256Hash") if isinstance(extension, dict) else None
    if not isinstance(name, str):
        raise refuse("request", "persistedQuery: sha256Hash is needed.")
    return name


def _got(target: bytes, headers: Headers) -> Asked:
    """What the URL of a GET says."""
    site, mode = headers.get(b"sec-fetch-site"), headers.get(b"sec-fetch-mode")
    if site not in (None, b"same-origin", b"none") and mode != b"cors":
        raise refuse("request", "Another site's page may not ask.", code="CSRF", status=403)
    text = target.partition(b"?")[2].decode("latin-1")
    try:
        given: dict[str, Any] = dict(
            parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=20)
        )
    except ValueError as error:
        raise refuse("request", "The URL's query is not readable.") from error
    for name in ("variables", "extensions"):
        if name in given:
            try:
                given[name] = orjson.loads(given[name]) if given[name] else None
            except orjson.JSONDecodeError as error:
                raise refuse("request", f"{name}: no JSON.") from error
    return asked_of(given)


def _is_json(header: bytes) -> bool:
    kind, *parameters = header.decode("latin-1").lower().split(";")
    if kind.strip() != PLAIN_JSON:
        return False
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8"):
            return False
    return True
