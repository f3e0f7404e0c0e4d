"""A request becomes an answer: read, checked and planned once, run every time.

What is computed of a document is kept: it depends on the text, the operation's name, the values of
variables that decide `@skip` and `@include`, and the active override labels; never on another
value. A supergraph has its own memory, so that another one takes its place between two requests
while those that run end on the old.

Small documents are prepared on the event loop, where they take some ten milliseconds at most. Large
ones are prepared one after another on one thread, once for all who wait for the same.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
)

from gateway.federation.caches import Lru
from gateway.federation.documents import Documents, Mismatch, Trusted, Unknown, Untrusted
from gateway.federation.errors import NoPlan, OperationTooLarge
from gateway.federation.limits import Limits, Meter, TooExpensive, check, check_shape, read
from gateway.federation.normalise import condition_variables, find_operation, normalise
from gateway.federation.operation import Operation, OperationKind
from gateway.federation.requests import (
    Labels,
    Request,
    RequestError,
    Result,
    refuse,
    refuse_all,
)
from gateway.federation.validation import rules, validated
from gateway.federation.variables import Uncoercible, Variables

log = logging.getLogger(__name__)

_INLINE_CHARACTERS = 3_000  # A longer document is prepared on the thread.
_WAITING = 64  # More documents than this are not prepared at once.
_PLANS_PER_OPERATION = 64


class Runnable(Protocol):
    """An operation planned and compiled."""

    kind: OperationKind

    def run(self, request: Request, variables: Mapping[str, Any]) -> Awaitable[Result]:
        """Answer a query or a mutation."""

    def subscribe(self, request: Request, variables: Mapping[str, Any]) -> AsyncIterator[Result]:
        """Answer a subscription, event by event."""


class Machinery(Protocol):
    """Plans and compiles the operations of one supergraph; `schema` is what clients see."""

    schema: GraphQLSchema

    @property
    def labelled(self) -> bool:
        """Whether labels of its own differ from request to request."""

    def labels(self, request: Request) -> frozenset[str]:
        """Labels of its own."""

    def prepare(self, operation: Operation, labels: frozenset[str]) -> Runnable:
        """Raises NoPlan where no subgraph can answer."""


@dataclass(frozen=True, slots=True)
class Options:
    """How an engine serves.

    At most `documents` are remembered, of `document_bytes` characters together.
    """

    limits: Limits = field(default_factory=Limits)
    introspection: bool = True
    documents: int = 500
    document_bytes: int = 1 << 20
    trusted: Trusted = field(default_factory=Trusted)
    automatic: bool = True
    labels: Labels | None = None
    untrusted: Callable[[str | None, str], None] | None = None  # Told client and text in mode log.


@dataclass(slots=True)
class Prepared:
    """One operation of a document, checked; `plans` by what was decided of it."""

    kind: OperationKind
    operation: OperationDefinitionNode
    variables: Variables
    conditions: tuple[str, ...]
    cost: int
    paged: bool
    plans: dict[tuple[object, ...], "Runnable | NoPlan"] = field(default_factory=dict)


@dataclass(slots=True)
class _Known:
    """A document seen before: parsed and valid, or why not."""

    document: DocumentNode | None
    refused: RequestError | None = None
    operations: dict[str | None, Prepared | RequestError] = field(default_factory=dict)


class _Graph:
    """One supergraph in service."""

    def __init__(self, machinery: Machinery, options: Options) -> None:
        self.machinery = machinery
        self.schema = machinery.schema
        self.options = options
        self.own_labels = None if machinery.labelled else machinery.labels(Request(None))
        self.rules = rules(introspection=options.introspection)
        self.documents: Lru[str, _Known] = Lru(options.documents, options.document_bytes)

    def read(self, text: str) -> _Known:
        """Parse and validate; the operations are measured before, since validation costs more."""
        try:
            document = read(text, self.options.limits, located=False)
            check_shape(document, schema=self.schema, limits=self.options.limits)
            errors = validated(self.schema, document, self.rules)
            if errors:  # Once more for where they are; what is kept does without.
                located = read(text, self.options.limits)
                errors = validated(self.schema, located, self.rules)
        except TooExpensive as error:
            return _Known(None, too_expensive(error))
        except GraphQLError as error:
            return _Known(None, refuse_all("parse", [error]))
        except RecursionError:
            return _Known(None, refuse("limits", "The document is nested too deeply."))
        if errors:
            return _Known(None, refuse_all("validation", errors))
        return _Known(document)

    def operation(self, known: _Known, name: str | None) -> Prepared:
        """One operation of a valid document."""
        document = known.document
        assert document is not None
        try:
            definition = find_operation(document, name)
        except ValueError as error:
            message = str(error)
            raise refuse("operation", f"{message[:1].upper()}{message[1:]}.") from error
        meter = Meter(self.schema, document, definition, {}, self.options.limits.pricing)
        limits = self.options.limits
        try:
            cost = meter.measure().cost
            if not meter.paged:  # Else the values of variables decide, at each request.
                meter.require_cost(cost, limits)
        except TooExpensive as error:
            raise too_expensive(error) from error
        kind: OperationKind = definition.operation.value
        return Prepared(
            kind,
            definition,
            Variables(self.schema, definition.variable_definitions or ()),
            condition_variables(document, name),
            cost,
            meter.paged,
        )

    def plan(
        self,
        known: _Known,
        name: str | None,
        variables: Mapping[str, Any],
        labels: frozenset[str],
    ) -> "Runnable | NoPlan":
        assert known.document is not None
        try:
            operation = normalise(self.schema, known.document, name, variables)
            return self.machinery.prepare(operation, labels)
        except NoPlan as impossible:
            return impossible
        except OperationTooLarge as error:
            raise refuse("limits", str(error)) from error
        except RecursionError as error:
            raise refuse("limits", "The document is nested too deeply.") from error
        except Exception as error:
            log.exception("an operation cannot be planned")
            raise refuse(
                "operation", "Something went wrong.", code="INTERNAL", status=500
            ) from error


@dataclass(slots=True)
class Ready:
    """A request that may run: what to run, with which values."""

    runnable: "Runnable | NoPlan"
    kind: OperationKind
    variables: Mapping[str, Any]
    cost: int


class Engine:
    """Answers requests over one supergraph at a time.

    Args:
        machinery: Of the first supergraph; `swap` replaces it.
    """

    def __init__(self, machinery: Machinery, options: Options | None = None) -> None:
        self.options = options or Options()
        self._graph = _Graph(machinery, self.options)
        self._documents = Documents(self.options.trusted, automatic=self.options.automatic)
        self._flights: dict[tuple[object, ...], asyncio.Task[Any]] = {}
        self._thread: ThreadPoolExecutor | None = None
        self.version = 0

    @property
    def plain(self) -> bool:
        """Whether what may run depends on the body of a request alone."""
        options = self.options
        differing = options.labels is not None or self._graph.machinery.labelled
        return not differing and not self._documents.strict

    @property
    def schema(self) -> GraphQLSchema:
        """What clients see now."""
        return self._graph.schema

    def swap(self, machinery: Machinery) -> None:
        """Serve another supergraph from the next request on."""
        self._graph = _Graph(machinery, self.options)
        self.version += 1

    def close(self) -> None:
        """Forget what is being prepared."""
        for flight in self._flights.values():
            flight.cancel()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def trust(self, trusted: Trusted) -> None:
        """Take another manifest from the next request on."""
        self._documents = Documents(trusted, automatic=self.options.automatic)

    async def execute(self, request: Request) -> Result:
        """Answer a query or a mutation."""
        try:
            ready = self.warm(request) or await self.ready(request)
            if ready.kind == "subscription":
                raise refuse(
                    "operation", "A subscription is asked for over WebSocket or as multipart/mixed."
                )
        except RequestError as error:
            return error.result()
        return await self.run(request, ready)

    async def run(self, request: Request, ready: Ready) -> Result:
        """Answer what `warm` or `ready` made of a query or a mutation."""
        if isinstance(ready.runnable, NoPlan):
            return _impossible(ready.runnable)
        return await ready.runnable.run(request, ready.variables)

    async def subscribe(self, request: Request) -> AsyncIterator[Result]:
        """Answer a subscription event by event; a query or a mutation is one event.

        The first result has a `stage` if the request was refused; it is the only one then.
        """
        try:
            ready = self.warm(request) or await self.ready(request)
        except RequestError as error:
            yield error.result()
            return
        if isinstance(ready.runnable, NoPlan):
            yield _impossible(ready.runnable)
        elif ready.kind != "subscription":
            yield await ready.runnable.run(request, ready.variables)
        else:
            async for result in ready.runnable.subscribe(request, ready.variables):
                yield result

    def warm(self, request: Request) -> Ready | None:
        """What may run at once; None if anything has to be prepared first.

        Raises:
            RequestError: It is known to be refused.
        """
        graph = self._graph
        text = self._text(request, first=True)
        known = graph.documents.get(text)
        if known is None:
            return None
        if known.refused is not None:
            raise known.refused
        prepared = known.operations.get(request.operation_name)
        if prepared is None:
            return None
        if isinstance(prepared, RequestError):
            raise prepared
        variables = self._values(graph, known, prepared, request)
        found = prepared.plans.get(self._decided(prepared, variables, request))
        if found is None:
            return None
        return Ready(found, prepared.kind, variables, prepared.cost)

    async def ready(self, request: Request) -> Ready:
        """What may run, prepared if need be.

        Raises:
            RequestError: It is refused.
        """
        graph = self._graph
        text = self._text(request)
        known = graph.documents.get(text)
        if known is None:
            known = await self._once((graph, text), len(text), lambda: graph.read(text))
            graph.documents.put(text, known, len(text))
        if known.refused is not None:
            raise known.refused
        name = request.operation_name
        prepared = known.operations.get(name)
        if prepared is None:
            try:
                prepared = graph.operation(known, name)
            except RequestError as error:
                if len(known.operations) < _PLANS_PER_OPERATION:
                    known.operations[name] = error
                raise
            known.operations[name] = prepared
        if isinstance(prepared, RequestError):
            raise prepared
        variables = self._values(graph, known, prepared, request)
        key = self._decided(prepared, variables, request)
        found = prepared.plans.get(key)
        if found is None:
            labels = key[0]  # As they were drawn for the key.
            found = await self._once(
                (graph, text, name, key),
                len(text),
                lambda: graph.plan(known, name, variables, labels),
            )
            if len(prepared.plans) >= _PLANS_PER_OPERATION:
                prepared.plans.pop(next(iter(prepared.plans)))
            prepared.plans[key] = found
        return Ready(found, prepared.kind, variables, prepared.cost)

    def _text(self, request: Request, *, first: bool = False) -> str:
        """The text meant. What is not trusted is told the first time."""
        query = request.query
        if query is not None and request.document is None and not self._documents.strict:
            return query
        try:
            if query is None and request.document is None:
                raise refuse("request", "A query is needed.")
            text, trusted = self._documents.text(request.client, query, request.document)
        except Unknown as error:
            raise refuse("document", "PersistedQueryNotFound") from error
        except Untrusted as error:
            raise refuse(
                "document", "Only trusted documents are answered.", code="DOCUMENT_NOT_TRUSTED"
            ) from error
        except Mismatch as error:
            raise refuse("request", "The hash is not the SHA-256 of the query.") from error
        if first and not trusted and self.options.untrusted is not None:
            self.options.untrusted(request.client, text)
        return text

    def _values(
        self, graph: _Graph, known: _Known, prepared: Prepared, request: Request
    ) -> Mapping[str, Any]:
        if request.read_only and prepared.kind == "mutation":
            message = "A mutation is sent by POST."
            raise RequestError("operation", [{"message": message}], 405, hard=True)
        limits = self.options.limits
        if prepared.paged and limits.cost is not None:
            assert known.document is not None
            try:
                check(
                    known.document,
                    prepared.operation,
                    schema=graph.schema,
                    variables=request.variables,
                    limits=limits,
                )
            except TooExpensive as error:
                raise too_expensive(error) from error
        try:
            return prepared.variables.read(request.variables)
        except Uncoercible as error:
            raise refuse_all("coercion", error.errors) from error

    def _decided(
        self, prepared: Prepared, variables: Mapping[str, Any], request: Request
    ) -> tuple[Any, ...]:
        labels = self._labels(request)
        if not prepared.conditions:
            return (labels,)
        return (labels, *[variables.get(name) for name in prepared.conditions])

    def _labels(self, request: Request) -> frozenset[str]:
        own = self._graph.own_labels
        labels = own if own is not None else self._graph.machinery.labels(request)
        return labels if self.options.labels is None else labels | self.options.labels(request)

    async def _once(self, key: tuple[object, ...], size: int, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once for all who ask for `key` at the same time."""
        flight = self._flights.get(key)
        if flight is None:
            if size <= _INLINE_CHARACTERS and not self._flights:
                return make()
            if len(self._flights) >= _WAITING:
                raise refuse("limits", "Too many new documents at once.", status=503)
            flight = asyncio.get_running_loop().create_task(self._aside(make))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return await asyncio.shield(flight)

    def _aside(self, make: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "prepare")
        thread = self._thread

        async def work() -> Any:
            return await asyncio.get_running_loop().run_in_executor(thread, make)

        return work()


def too_expensive(error: TooExpensive) -> RequestError:
    """The refusal of a request above a limit, with the figures."""
    figures = {"measure": error.measure, "asked": min(error.asked, 2**53), "limit": error.limit}
    message = f"Too much is asked for: {error.measure} is {figures['asked']}, at most {error.limit}"
    drop = f" (without {error.drop} it is {error.without})" if error.measure == "cost" else ""
    one = {"message": f"{message}{drop}.", "extensions": {"code": "QUERY_TOO_EXPENSIVE", **figures}}
    return RequestError("limits", [one])


def _impossible(found: NoPlan) -> Result:
    error: dict[str, Any] = {"message": str(found)}
    if found.path:
        error["path"] = list(found.path)
    error["extensions"] = {"code": "NO_PLAN"}
    return Result(b"null", [error])
