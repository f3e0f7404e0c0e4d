"""GraphQL over HTTP: one POST (or GET of a query), limits before work, permissions before effects.

Order: rate of the address → token → rate of who it is → size and encoding → document (read once,
kept) → limits → validation → permission of every root field → execution. What a token may not use
is refused before anything runs.

Source: GraphQL over HTTP (working draft of 2025); security.md §1.10, §1.11.
"""

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    TokenKind,
    specified_rules,
    validate,
)
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from strawberry.extensions import SchemaExtension
from strawberry.federation import Schema

from gateway import telemetry
from gateway.api.context import Context, Services
from gateway.api.errors import malformed, present, raise_unavailable, top_level
from gateway.api.limits import Limits, check, read
from gateway.api.policies import admit, root_fields
from gateway.errors import Denied
from gateway.oauth.guard import ANONYMOUS, Actor
from gateway.telemetry import metrics, tracing
from gateway.values import InvalidInput, legible

log = logging.getLogger(__name__)

BODY_LIMIT = 64 * 1024
BODY_SECONDS = 10.0
DOCUMENTS_KEPT = 512
GRAPHQL_JSON = "application/graphql-response+json"
PLAIN_JSON = "application/json"


class Unreadable(Exception):
    """A request that cannot be served; becomes MALFORMED_REQUEST with this status."""

    def __init__(self, detail: str, status: int = 400, *, document: bool = False) -> None:
        self.detail = detail
        self.status = status
        self.document = document  # Under application/json a bad document is answered with 200.
        super().__init__(detail)


class Prepared(SchemaExtension):
    """Hand the parsed and validated document to the executor."""

    def on_parse(self) -> Iterator[None]:
        self.execution_context.graphql_document = self.execution_context.context.document
        yield

    def on_validate(self) -> Iterator[None]:
        self.execution_context.pre_execution_errors = []
        yield


@dataclass(frozen=True, slots=True)
class Asked:
    """What the client sent."""

    query: str
    operation_name: str | None
    variables: dict[str, Any]
    get: bool


@dataclass(slots=True)
class Known:
    """A document seen before: parsed, and validated once it passed the limits."""

    document: DocumentNode
    errors: list[GraphQLError] | None = None


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


class Endpoint:
    """Serves one schema.

    Args:
        services: What every request shares.
        limits: What one request may ask.
    """

    def __init__(self, schema: Schema, services: Services, limits: Limits | None = None) -> None:
        self.schema = schema
        self.services = services
        self.limits = limits or Limits()
        self._core = schema._schema
        self._documents: OrderedDict[str, Known] = OrderedDict()
        hidden = () if services.settings.sandbox else (NoSchemaIntrospectionCustomRule,)
        self._rules = (*specified_rules, *hidden)

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
        try:
            if kind is None:
                kind = GRAPHQL_JSON
                raise Unreadable(f"accept {GRAPHQL_JSON} or {PLAIN_JSON}", 406)
            status, body = await self._serve(request, locale, request_id, seen)
        except Unreadable as error:
            status = 200 if error.document and kind == PLAIN_JSON else error.status
            body = {"errors": [malformed(error.detail, locale=locale, request_id=request_id)]}
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
        if status >= 400 or "data" not in body:
            log.info("request %s refused: %s", request_id, body["errors"][0]["extensions"]["code"])
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        media = f"{kind}; charset=utf-8"
        return Response(text, status, headers=headers, media_type=media)

    async def _serve(
        self, request: Request, locale: str, request_id: str, seen: "Seen"
    ) -> tuple[int, dict[str, Any]]:
        rates = self.services.rates
        rates.admit_address(request.client.host if request.client else "")
        actor = await self._authenticate(request)
        seen.role = actor.role
        rates.admit(actor)
        asked = await _read_request(request)
        document, kind, cost = self.prepare(actor, asked, seen)
        if kind is OperationType.SUBSCRIPTION:
            raise Unreadable("a subscription is sent over a WebSocket", document=True)
        context = Context(self.services, actor, locale, request_id, document)
        seen.refused = context.refused
        try:
            with tracing.span(f"graphql {seen.operation}", role=actor.role, cost=cost):
                result = await self.schema.execute(
                    asked.query,
                    variable_values=asked.variables,
                    context_value=context,
                    operation_name=asked.operation_name,
                )
        finally:
            await context.end_reads()
        if result.errors:
            raise_unavailable(result.errors)
        body: dict[str, Any] = {}
        if result.errors:
            body["errors"] = [
                present(error, locale=locale, request_id=request_id) for error in result.errors
            ]
        if result.data is None and all(error.path is None for error in result.errors or ()):
            raise _Coercion(body)  # The variables cannot be read: nothing has run.
        body["data"] = result.data
        used = {"requested": cost, "limit": self.limits.cost}
        body["extensions"] = {"requestId": request_id, "cost": used}
        return 200, body

    def prepare(
        self, actor: Actor, asked: Asked, seen: "Seen"
    ) -> tuple[DocumentNode, OperationType, int]:
        """Read and measure what is asked, and check that the caller may.

        Returns:
            The document, what kind of operation it is, and its cost.

        Raises:
            Unreadable: It is no valid document.
            Denied: It is too expensive, or not for this caller.
        """
        document, operation, cost = self._prepare(asked)
        kind: OperationType = operation.operation
        if asked.get and kind is not OperationType.QUERY:
            raise Unreadable("a mutation is sent by POST", 405)
        if kind is not OperationType.MUTATION:  # A mutation's input is checked by itself.
            _require_legible(asked.variables, "variables")
        names = sorted(root_fields(document, operation))
        seen.operation = names[0] if len(names) == 1 else "several"
        metrics.GRAPHQL_COST.labels(actor.role).observe(cost)
        for name in names:
            if name not in ("__typename", "__schema", "__type"):
                admit(actor, kind.value.title(), name)
        self.services.rates.require_effects(actor, names)
        return document, kind, cost

    async def _authenticate(self, request: Request) -> Actor:
        given = request.headers.get("authorization")
        return ANONYMOUS if given is None else await self.services.guard.authenticate(given)

    def _prepare(self, asked: Asked) -> tuple[DocumentNode, OperationDefinitionNode, int]:
        """Read, measure and validate a document; each text is read and validated once."""
        known = self._documents.get(asked.query)
        if known is None:
            try:
                known = Known(read(asked.query, self.limits))
            except GraphQLError as error:
                raise Unreadable(error.message, document=True) from error
            for text in _texts(known.document):
                _require_legible(text, "document")
            self._documents[asked.query] = known
            if len(self._documents) > DOCUMENTS_KEPT:
                self._documents.popitem(last=False)
        operation = _operation(known.document, asked.operation_name)
        try:
            cost = check(
                known.document,
                operation,
                schema=self._core,
                variables=asked.variables,
                limits=self.limits,
            )
        except RecursionError as error:
            raise Unreadable("nested too deeply", document=True) from error
        if known.errors is None:
            known.errors = validate(
                self._core, known.document, self._rules, max_errors=10, hide_suggestions=True
            )
        if known.errors:
            raise Unreadable("; ".join(error.message for error in known.errors[:3]), document=True)
        return known.document, operation, cost


class _Coercion(Unreadable):
    def __init__(self, body: Mapping[str, Any]) -> None:
        first = body["errors"][0]["extensions"]["context"]["detail"] if body else "no answer"
        super().__init__(first, document=True)


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
        raise Unreadable(f"{where}: {error.context['rule']}", document=True) from error


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
    return Asked(
        given["query"],
        given.get("operationName") or None,
        given.get("variables") or {},
        request.method == "GET",
    )


_PARAMETERS: tuple[tuple[str, Any, str], ...] = (
    ("query", str, "a text"),
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
