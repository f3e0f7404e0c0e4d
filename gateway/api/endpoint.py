"""GraphQL over HTTP: one POST (or GET of a query), limits before work, permissions before effects.

Order: rate of the address → token → rate of who it is → size and encoding → document (read once,
kept) → limits → validation → permission of every root field → execution. What a token may not use
is refused before anything runs.

Source: GraphQL over HTTP (working draft of 2025); security.md §1.10, §1.11.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from graphql import (
    DocumentNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    TokenKind,
    validate,
)
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway import telemetry
from gateway.api.context import Context, Services
from gateway.api.errors import (
    malformed,
    present,
    raise_unavailable,
    top_level,
    unknown_document,
)
from gateway.api.graph import Graph, Known
from gateway.api.graphs import Graphs
from gateway.api.limits import Limits, check, read
from gateway.api.local import Document
from gateway.api.merchant_graphs import shown
from gateway.api.policies import admit, root_fields
from gateway.api.warned import rewarned
from gateway.errors import Denied
from gateway.oauth.guard import ANONYMOUS, Actor
from gateway.telemetry import metrics, tracing
from gateway.values import InvalidInput, legible

log = logging.getLogger(__name__)

BODY_LIMIT = 64 * 1024
BODY_SECONDS = 10.0
ERRORS_SHOWN = 10  # of a document that is not valid
GRAPHQL_JSON = "application/graphql-response+json"
PLAIN_JSON = "application/json"


class Unreadable(Exception):
    """A request that cannot be served; becomes MALFORMED_REQUEST with this status."""

    def __init__(self, detail: str, status: int = 400, *, document: bool = False) -> None:
        self.detail = detail
        self.status = status
        self.document = document  # Under application/json a bad document is answered with 200.
        super().__init__(detail)

    def told(self, *, locale: str, request_id: str) -> list[dict[str, Any]]:
        """The errors of the answer, at least one."""
        return [malformed(self.detail, locale=locale, request_id=request_id)]


class Faulty(Unreadable):
    """A document that is not valid: an error each, with its places."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        self.errors = errors[:ERRORS_SHOWN]
        super().__init__(errors[0].message, document=True)

    def told(self, *, locale: str, request_id: str) -> list[dict[str, Any]]:
        return [present(each, locale=locale, request_id=request_id) for each in self.errors]


class Illegible(Unreadable):
    """A text, number or depth that is not taken, wherever it stands."""

    def __init__(self, where: str, error: InvalidInput) -> None:
        self.where, self.error = where, error
        super().__init__(f"{where}: {error.context['rule']}", document=True)

    def told(self, *, locale: str, request_id: str) -> list[dict[str, Any]]:
        detail = f"{self.where}: {self.error.told(locale)['rule']}"
        return [malformed(detail, locale=locale, request_id=request_id)]


class UnknownDocument(Unreadable):
    """A hash that is none of the client's trusted documents."""

    def told(self, *, locale: str, request_id: str) -> list[dict[str, Any]]:
        return [unknown_document(self.detail, locale=locale, request_id=request_id)]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the client sent: a document, or the SHA-256 of one that it has registered."""

    query: str
    operation_name: str | None
    variables: dict[str, Any]
    get: bool
    document: str | None = None


@dataclass(slots=True)
class Seen:
    """What the metrics say of a request: a root field of the schema, a role, a code."""

    operation: str = "unread"
    role: str = "unknown"
    code: str = "OK"
    refused: list[str] = field(default_factory=list)  # Payloads' codes: an answer may rename them.

    def take(self, body: Mapping[str, Any]) -> None:
        """The top-level errors of an answer, and the first code of all."""
        codes = [error["extensions"]["code"] for error in body.get("errors", ())]
        for code in codes:
            metrics.REFUSALS.labels(code).inc()
        self.code = next(iter([*codes, *self.refused]), self.code)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that may run: on which graph, which document, at what cost."""

    graph: Graph
    document: Known
    kind: OperationType
    cost: int


class Endpoint:
    """Serves the one graph, whichever version of it is live.

    Args:
        services: What every request shares.
        limits: What one request may ask.
    """

    def __init__(self, graphs: Graphs, services: Services, limits: Limits | None = None) -> None:
        self.graphs = graphs
        self.schema = graphs.schema
        self.services = services
        self.limits = limits or Limits()

    async def answer(self, request: Request) -> Response:
        """Serve one request; its id is in every log line it causes."""
        with telemetry.request() as request_id:
            seen = Seen()
            began = time.perf_counter()
            response = await self._answer(request, request_id, seen)
            metrics.GRAPHQL.labels(seen.operation, seen.role, seen.code).inc()
            metrics.GRAPHQL_SECONDS.labels(seen.operation).observe(time.perf_counter() - began)
            return response

    async def _answer(self, request: Request, request_id: str, seen: "Seen") -> Response:
        locale = locale_of(request.headers.get("accept-language", ""))
        kind = answer_type(request.headers.get("accept", ""))
        headers = {"x-request-id": request_id, "cache-control": "no-store", "vary": "accept"}
        data: bytes | None = None
        try:
            if kind is None:
                kind = GRAPHQL_JSON
                raise Unreadable(f"accept {GRAPHQL_JSON} or {PLAIN_JSON}", 406)
            status, body, data = await self._serve(request, locale, request_id, seen)
        except Unreadable as error:
            status = 200 if error.document and kind == PLAIN_JSON else error.status
            body = {"errors": error.told(locale=locale, request_id=request_id)}
            if status == 405:
                headers["allow"] = "POST"
        except Denied as denied:
            status = denied.status
            body = {"errors": [top_level(denied, locale=locale, request_id=request_id)]}
            if status == 401:
                headers["www-authenticate"] = 'Bearer error="invalid_token"'
            elif status == 429:
                headers["retry-after"] = str(denied.context["retry_after_seconds"])
            elif denied.code == "SCOPE_MISSING":
                scope = denied.context.get("scope")
                headers["www-authenticate"] = f'Bearer error="insufficient_scope", scope="{scope}"'
        seen.take(body)
        if data is None:
            log.info("request %s refused: %s", request_id, body["errors"][0]["extensions"]["code"])
        media = f"{kind}; charset=utf-8"
        return Response(_text(body, data), status, headers=headers, media_type=media)

    async def _serve(
        self, request: Request, locale: str, request_id: str, seen: "Seen"
    ) -> tuple[int, dict[str, Any], bytes]:
        rates = self.services.rates
        rates.admit_address(request.client.host if request.client else "")
        actor = await self._authenticate(request)
        seen.role = actor.role
        rates.admit(actor)
        asked = await self._registered(actor, await _read_request(request))
        found = self.prepare(actor, asked, seen)
        if found.kind is OperationType.SUBSCRIPTION:
            raise Unreadable("a subscription is sent over a WebSocket", document=True)
        context = Context(self.services, actor, locale, request_id)
        seen.refused = context.refused
        run = self._federated if found.document.merchants else self._local
        try:
            with tracing.span(f"graphql {seen.operation}", role=actor.role, cost=found.cost):
                data, errors = await run(found, asked, context)
        finally:
            await context.end_reads()
        if data is None:
            raise _Coercion(errors)  # The variables cannot be read: nothing has run.
        body: dict[str, Any] = {"errors": errors} if errors else {}
        used = {"requested": found.cost, "limit": self.limits.cost}
        body["extensions"] = {"requestId": request_id, "cost": used}
        return 200, body, data

    async def _registered(self, actor: Actor, asked: Asked) -> Asked:
        """What is asked, with the text of the client's document if its hash was sent."""
        if asked.document is None:
            return asked
        text = await self.graphs.document(actor.client_id, asked.document)
        if text is None:
            raise UnknownDocument(asked.document)
        return replace(asked, query=text)

    async def _local(
        self, found: Prepared, asked: Asked, context: Context
    ) -> tuple[bytes | None, list[Any]]:
        """Our own schema's answer; no data: nothing has run."""
        result = await found.graph.local.answer(
            found.document.local, asked.operation_name, asked.variables, context
        )
        if result.errors:
            raise_unavailable(result.errors)
        errors = [
            present(error, locale=context.locale, request_id=context.request_id)
            for error in result.errors
        ]
        if result.data is None and all(error.path is None for error in result.errors):
            return None, errors
        return dumped(result.data), errors

    async def _federated(
        self, found: Prepared, asked: Asked, context: Context
    ) -> tuple[bytes | None, list[Any]]:
        """The answer of ours and of merchants' subgraphs; no data: nothing has run."""
        graph, node = found.graph, found.document.local
        result = await graph.answer(node.text, asked.operation_name, asked.variables, context)
        if result.data is None:
            facts = {"locale": context.locale, "request_id": context.request_id}
            return None, [
                malformed(str(each["message"]), **facts, **_places(each)) for each in result.errors
            ]
        errors = [await shown(each, context, graph) for each in result.errors]
        data = result.data
        if context.warnings and "warnings" in node.text:
            data = rewarned(
                data,
                schema=graph.schema,
                document=node.node,
                name=asked.operation_name,
                variables=asked.variables,
                warnings=context.warnings,
            )
        return data, errors

    def prepare(self, actor: Actor, asked: Asked, seen: "Seen") -> Prepared:
        """Read and measure what is asked, and check that the caller may.

        Raises:
            Unreadable: It is no valid document.
            Denied: It is too expensive, or not for this caller.
        """
        graph = self.graphs.current
        known, operation, cost = self._prepare(graph, asked)
        kind: OperationType = operation.operation
        if asked.get and kind is not OperationType.QUERY:
            raise Unreadable("a mutation is sent by POST", 405)
        if kind is not OperationType.MUTATION:  # A mutation's input is checked by itself.
            _require_legible(asked.variables, "variables")
        names = sorted(root_fields(known.local.node, operation))
        seen.operation = names[0] if len(names) == 1 else "several"
        if seen.operation in graph.queries:
            seen.operation = "merchants"  # A label takes no names that are given from outside.
        metrics.GRAPHQL_COST.labels(actor.role).observe(cost)
        for name in names:
            if name not in ("__typename", "__schema", "__type"):
                admit(actor, kind.value.title(), name, merchants=graph.queries)
        self.services.rates.require_effects(actor, names)
        if known.merchants:
            known.uses += 1
            if known.uses > 1:  # What is sent once is seldom a program's.
                self.graphs.note(actor, asked.query)
        return Prepared(graph, known, kind, cost)

    async def _authenticate(self, request: Request) -> Actor:
        given = request.headers.get("authorization")
        return ANONYMOUS if given is None else await self.services.guard.authenticate(given)

    def _prepare(self, graph: Graph, asked: Asked) -> tuple[Known, OperationDefinitionNode, int]:
        """Read, measure and validate a document; each text is read and validated once."""
        known = graph.documents.get(asked.query)
        if known is None:
            try:
                known = Known(Document(asked.query, read(asked.query, self.limits)))
            except GraphQLError as error:
                raise Faulty([error]) from error
            for text in _texts(known.local.node):
                _require_legible(text, "document")
            graph.documents.put(asked.query, known, len(asked.query))
        node = known.local.node
        operation = _operation(node, asked.operation_name)
        try:
            cost = check(
                node, operation, schema=graph.schema, variables=asked.variables, limits=self.limits
            )
        except RecursionError as error:
            raise Unreadable("nested too deeply", document=True) from error
        if known.errors is None:
            errors = validate(
                graph.schema, node, graph.rules, max_errors=ERRORS_SHOWN, hide_suggestions=True
            )
            known.merchants = not errors and graph.selects_merchants(known)
            known.errors = errors
        if known.errors:
            raise Faulty(known.errors)
        return known, operation, cost


def dumped(data: Any) -> bytes:
    """An answer's data as JSON."""
    try:
        return orjson.dumps(data)
    except TypeError:  # A number of more than 64 bits, in what a partner says freely.
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _text(body: Mapping[str, Any], data: bytes | None) -> bytes:
    """The response's body: errors, data, extensions."""
    shown = {"errors": body["errors"]} if "errors" in body else {}
    parts = [dumped(shown)[1:-1]] if shown else []
    if data is not None:
        parts.append(b'"data":' + data)
    if "extensions" in body:
        parts.append(b'"extensions":' + dumped(body["extensions"]))
    return b"{" + b",".join(parts) + b"}"


class _Coercion(Unreadable):
    """Variables that cannot be read: what was said of each."""

    def __init__(self, errors: Sequence[dict[str, Any]]) -> None:
        self.errors = errors[:ERRORS_SHOWN]
        super().__init__("no answer", document=True)

    def told(self, *, locale: str, request_id: str) -> list[dict[str, Any]]:
        return [*self.errors] or super().told(locale=locale, request_id=request_id)


def _places(error: Mapping[str, Any]) -> dict[str, Any]:
    return {"locations": error["locations"]} if error.get("locations") else {}


def _texts(document: DocumentNode) -> Iterator[str]:
    """The texts written into a document."""
    token = document.loc.start_token if document.loc else None
    while token is not None:
        if token.kind in (TokenKind.STRING, TokenKind.BLOCK_STRING):
            yield token.value or ""
        token = token.next


def _require_legible(value: object, where: str) -> None:
    try:
        legible(value, where)
    except InvalidInput as error:
        raise Illegible(where, error) from error


def _operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    operations = [
        definition
        for definition in document.definitions
        if isinstance(definition, OperationDefinitionNode)
        and (name is None or (definition.name and definition.name.value == name))
    ]
    if len(operations) != 1:
        raise Unreadable("name one operation of the document", document=True)
    return operations[0]


async def _read_request(request: Request) -> Asked:
    """Read query, operation name and variables from the body, or from the URL of a GET.

    Raises:
        Unreadable: Neither, or not of these types.
    """
    if request.method == "GET":
        given: Any = dict(request.query_params)
        for name in ("variables", "extensions"):
            if name in given:
                given[name] = _parse(given[name])
    else:
        given = await _json_of(request)
    if not isinstance(given, dict):
        raise Unreadable("send one JSON object; batches are not served")
    for name, kind, wanted in _PARAMETERS:
        if not isinstance(given.get(name), kind):
            raise Unreadable(f"{name}: {wanted} is needed")
    document = None
    if given.get("query") is None:
        persisted = (given.get("extensions") or {}).get("persistedQuery")
        document = persisted.get("sha256Hash") if isinstance(persisted, dict) else None
        if not isinstance(document, str) or not _HASH.fullmatch(document):
            raise Unreadable("query: a text is needed")
    return Asked(
        given.get("query") or "",
        given.get("operationName") or None,
        given.get("variables") or {},
        request.method == "GET",
        document,
    )


_HASH = re.compile(r"[0-9a-f]{64}")
_PARAMETERS: tuple[tuple[str, Any, str], ...] = (
    ("query", str | None, "a text"),
    ("operationName", str | None, "a text"),
    ("variables", dict | None, "an object"),
    ("extensions", dict | None, "an object"),
)


async def _json_of(request: Request) -> Any:
    kind, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    other_charset = "charset" in parameters and "utf-8" not in parameters
    if kind.strip() != PLAIN_JSON or other_charset:
        raise Unreadable("send application/json in UTF-8", 415)
    body = await body_of(request, BODY_LIMIT)
    try:
        return _parse(body.decode())
    except UnicodeDecodeError as error:
        raise Unreadable("the body is not UTF-8") from error


def _parse(text: str) -> Any:
    try:
        read = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Unreadable("this is not JSON") from error
    if not _is_text(read):
        raise Unreadable("no Unicode text, or no finite number")
    return read


def _is_text(read: object) -> bool:
    """Whether it has neither half of a surrogate pair nor a number beyond all numbers."""
    try:
        json.dumps(read, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


async def body_of(request: Request, limit: int) -> bytes:
    """The raw body, if it is not longer than `limit` bytes.

    Raises:
        Unreadable: It is longer (413), or the client has gone.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > limit:
        raise Unreadable(f"at most {limit} bytes", 413)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise Unreadable(f"at most {limit} bytes", 413)
    except TimeoutError as error:
        raise Unreadable("the body is too slow", 408) from error
    except ClientDisconnect as error:
        raise Unreadable("the body is incomplete") from error
    return bytes(body)


def locale_of(accept_language: str) -> str:
    """`zh` or `en`, whichever the caller prefers; Chinese first."""
    best, weight = "zh", 0.0
    for part in accept_language.split(","):
        tag, _, rest = part.strip().lower().partition(";")
        try:
            given = float(rest.strip().removeprefix("q=")) if rest.strip() else 1.0
        except ValueError:
            given = 0.0
        language = tag.split("-")[0]
        if language in ("zh", "en") and given > weight:
            best, weight = language, given
    return best


def answer_type(accept: str) -> str | None:
    """The media type to answer with; None if the client takes neither."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    if GRAPHQL_JSON in kinds:
        return GRAPHQL_JSON
    if not kinds or {PLAIN_JSON, "*/*", "application/*"} & set(kinds):
        return PLAIN_JSON
    return None
