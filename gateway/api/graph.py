"""The one graph as this process answers it: our schema alone, or with merchants' subgraphs.

A `Graph` is made whole for one version and never changes; another takes its place between two
requests. A document that selects nothing of a merchant's is our schema's own and runs as it
always did; any other is planned, and our schema is one of those asked, in this process.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    NamedTypeNode,
    NoSchemaIntrospectionCustomRule,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    parse,
    specified_rules,
    visit,
)

from gateway.api import local as local_answers
from gateway.api.context import Context
from gateway.api.errors import present, top_level
from gateway.api.limits import QueryTooExpensive
from gateway.api.local import Document, Local
from gateway.api.policies import admit
from gateway.errors import Denied
from gateway.federation.caches import Lru
from gateway.federation.engine import Engine, Options
from gateway.federation.limits import Limits, TooExpensive
from gateway.federation.machinery import Planned
from gateway.federation.requests import Request, Result
from gateway.federation.services import Answer, Service, SubgraphRequest
from gateway.federation.sharing import Flights
from gateway.federation.supergraph import Supergraph
from gateway.subgraphs.model import OURS

DOCUMENTS_KEPT = 512
DOCUMENT_CHARACTERS = 1 << 19
"""Of all documents kept: parsed they take some hundred bytes for each."""
ENTITIES_ASKED = 1_000
"""Objects of ours that one fetch of a plan names: a merchant's answer may name any number."""
_FETCHES_KEPT = 1_024
_ALREADY_CHECKED = Limits(
    tokens=100_000, depth=None, aliases=None, directives=None, duplicates=None, operations=None
)


@dataclass(slots=True)
class Known:
    """A document seen before: parsed, and validated once it passed the limits.

    `merchants` says that it selects something of a merchant's subgraph.
    """

    local: Document
    merchants: bool = False
    uses: int = 0
    errors: list[GraphQLError] | None = None


class Graph:
    """One version of the one graph.

    Args:
        local: Our own schema.
        supergraph: What it composes to with merchants'; None: our own alone.
        services: The merchants' subgraphs, by merchant.
        activation: Which change made it live.
    """

    def __init__(
        self,
        local: Local,
        *,
        supergraph: Supergraph | None = None,
        services: Mapping[str, Service] | None = None,
        introspection: bool,
        activation: int = 0,
    ) -> None:
        self.local = local
        self.activation = activation
        self.members = frozenset(services or ())
        self.documents: Lru[str, Known] = Lru(DOCUMENTS_KEPT, DOCUMENT_CHARACTERS)
        hidden = () if introspection else (NoSchemaIntrospectionCustomRule,)
        self.rules = (*specified_rules, *hidden)
        self.schema: GraphQLSchema = local.core
        self.queries: frozenset[str] = frozenset()
        self._engine: Engine | None = None
        self._supergraph = supergraph
        if supergraph is not None:
            own: dict[str, Service] = {OURS: InProcess(local)}
            planned = Planned(
                supergraph,
                own | dict(services or {}),
                flights=Flights(),
                seconds=None,  # Ours take the time they take, for an effect is not broken off.
                entities=True,
                reenter=False,  # Only the operation's own root fields are admitted.
            )
            self.schema = planned.schema
            self.queries = _fields(self.schema.query_type) - _fields(local.core.query_type)
            options = Options(limits=_ALREADY_CHECKED, introspection=introspection)
            self._engine = Engine(planned, options)

    def selects_merchants(self, known: Known) -> bool:
        """Whether a valid document selects anything that our own schema has not."""
        document = known.local.node
        if self._engine is None:
            return False
        finder = _Finder(self.local.core, TypeInfo(self.schema))
        visit(document, TypeInfoVisitor(finder.info, finder))
        return finder.found

    def owner(self, kind: str, name: str) -> str | None:
        """The subgraph that answers for a field: ours, a merchant's, or none."""
        views = self._supergraph.views if self._supergraph else {}
        return next(
            (
                graph
                for graph, view in views.items()
                if kind in view
                and name in view[kind].fields
                and not view[kind].fields[name].external
            ),
            None,
        )

    async def answer(
        self, asked: str, name: str | None, variables: Mapping[str, Any], context: Context
    ) -> Result:
        """Answer a document with merchants' fields; it was checked by this graph's rules."""
        assert self._engine is not None, "only a merchant's field makes it one of these"
        request = Request(asked, variables, name, state=context, identity=context.request_id)
        return await self._engine.execute(request)

    async def events(
        self, asked: str, name: str | None, variables: Mapping[str, Any], context: Context
    ) -> AsyncIterator[Result]:
        """Answer a subscription with merchants' fields, event by event."""
        assert self._engine is not None, "only a merchant's field makes it one of these"
        request = Request(asked, variables, name, state=context, identity=context.request_id)
        async for result in self._engine.subscribe(request):
            yield result


def _fields(found: GraphQLObjectType | None) -> frozenset[str]:
    return frozenset(found.fields) if found else frozenset()


class _Finder(Visitor):
    """Looks for fields, types and introspection that our own schema does not answer."""

    def __init__(self, ours: GraphQLSchema, info: TypeInfo) -> None:
        super().__init__()
        self.ours = ours
        self.info = info
        self.found = False

    def enter_field(self, node: FieldNode, *_: object) -> object:
        name = node.name.value
        if name in ("__schema", "__type", "_service"):
            self.found = True  # Ours alone would say other than the graph has.
        elif not name.startswith("__"):
            parent = self.info.get_parent_type()
            known: Any = self.ours.type_map.get(parent.name) if parent else None
            self.found = self.found or known is None or name not in getattr(known, "fields", ())
        return self.BREAK if self.found else None

    def enter_named_type(self, node: NamedTypeNode, *_: object) -> object:
        self.found = self.found or node.name.value not in self.ours.type_map
        return self.BREAK if self.found else None


@dataclass(slots=True)
class InProcess:
    """Our own schema as a subgraph: asked in this process, for the caller of the request."""

    local: Local
    documents: Lru[str, Document] = field(
        default_factory=lambda: Lru(_FETCHES_KEPT, DOCUMENT_CHARACTERS)
    )

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """Run a fetch of a plan with the request's own context; errors are worded as ever."""
        context: Context = request.state
        if denied := _denied(request, context):
            return Answer(None, [denied])
        document, variables = self._document(request.text), _named_by_id(request.variables)
        return _worded(await self.local.answer(document, None, variables, context), context)

    async def subscribe(self, request: SubgraphRequest) -> AsyncIterator[Answer]:
        """Our events; what a merchant may know of the caller is looked up anew for each."""
        context: Context = request.state
        events = self.local.events(self._document(request.text), None, request.variables, context)
        async with contextlib.aclosing(events):
            async for event in events:
                context.known_at.clear()
                yield _worded(event, context)

    def _document(self, text: str) -> Document:
        document = self.documents.get(text)
        if document is None:
            document = Document(text, parse(text))
            self.documents.put(text, document, len(text))
        return document


def _worded(found: local_answers.Answer, context: Context) -> Answer:
    """Our schema's answer, its errors as every caller reads them."""
    facts = {"locale": context.locale, "request_id": context.request_id}
    return Answer(found.data, [present(each, **facts) for each in found.errors])


def _representations(variables: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The variables that are representations: no input of a client has a `__typename`."""
    for name, value in variables.items():
        if isinstance(value, list) and value and all(map(_is_reference, value)):
            yield name, value


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and "__typename" in value


def _named_by_id(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Variables in which one bad reference of a merchant's costs nobody else's their answers."""
    named = {
        name: [one | {"id": _id(one.get("id"))} for one in given]
        for name, given in _representations(variables)
    }
    return {**variables, **named} if named else variables


def _id(given: Any) -> str:
    """An ID as a text; what is none names nothing."""
    number = isinstance(given, int) and not isinstance(given, bool)
    return str(given) if number or isinstance(given, str) else ""


def _denied(request: SubgraphRequest, context: Context) -> dict[str, Any] | None:
    """Why a caller may not ask for entities, as one who names `_entities` is told."""
    if request.kind != "query" or "_entities(" not in request.text:
        return None
    try:
        admit(context.actor, "Query", "_entities")
        count = sum(len(given) for _, given in _representations(request.variables))
        if count > ENTITIES_ASKED:
            over = {"asked": count, "limit": ENTITIES_ASKED}
            drop = TooExpensive("entities", **over, drop="_entities", without=0)
            raise QueryTooExpensive(drop)
    except Denied as denied:
        return top_level(denied, locale=context.locale, request_id=context.request_id)
    return None
