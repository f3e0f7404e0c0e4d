"""A gateway that is a subgraph itself: `_service` and `_entities` over the whole composed graph.

The representations are an answer that is there already: a virtual subgraph `$in` gives them as
`Query._entities`, with the fields of those keys that they hold, and the planner goes on from there
as from any subgraph. What keys they hold is part of what a plan depends on; it comes as labels.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from graphql import (
    ConstDirectiveNode,
    DocumentNode,
    FieldNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    ObjectTypeDefinitionNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    extend_schema,
    get_named_type,
    parse,
    print_ast,
    print_schema,
    value_from_ast_untyped,
)

from gateway.federation.errors import NoPlan
from gateway.federation.operation import Field, Operation
from gateway.federation.plan import INPUT
from gateway.federation.requests import Request
from gateway.federation.services import Answer, SubgraphRequest
from gateway.federation.supergraph import (
    Graph,
    GraphField,
    GraphType,
    Key,
    MergedType,
    Supergraph,
    TypeKind,
)

_ENTITIES, _SERVICE = "_entities", "_service"
_LABEL = f"{INPUT} "
_LINK = 'extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key"])'
_DOCUMENTS = 1_000

Keys = Mapping[str, Mapping[str, SelectionSetNode]]
"""Type's name -> key as text -> its fields."""


class Entities:
    """What a supergraph offers as a subgraph. Pure."""

    def __init__(self, supergraph: Supergraph) -> None:
        self.supergraph = supergraph
        self.keys: Keys = _keys(supergraph)
        self.schema = _extended(supergraph.api_schema, self.keys)
        self.sdl = _sdl(supergraph.api_schema, self.keys)
        self.service = Representations(self.keys, self.sdl)

    def labels(self, request: Request) -> frozenset[str]:
        """Which keys the representations among a request's variables hold."""
        held: dict[str, set[str]] = {}
        for value in request.variables.values():
            if isinstance(value, list):
                self._hold(value, held)
        return _labelled(held)

    def concerns(self, operation: Operation) -> bool:
        """Whether an operation asks for what only a subgraph has."""
        return operation.kind == "query" and any(
            isinstance(one, Field) and one.name in (_ENTITIES, _SERVICE)
            for one in operation.selections
        )

    def written(self, operation: Operation) -> frozenset[str]:
        """The same of representations written into the operation."""
        held: dict[str, set[str]] = {}
        for one in operation.selections:
            if isinstance(one, Field) and one.name == _ENTITIES:
                for _, value in one.arguments:
                    written = _value(value, {})
                    if isinstance(written, list):
                        self._hold(written, held)
        return _labelled(held)

    def view(self, labels: Iterable[str]) -> Supergraph:
        """The supergraph with `$in`, where representations hold the keys that labels name.

        Of a type that no label names there is none, so it may hold all.

        Raises:
            NoPlan: Representations of one type have no key in common.
        """
        held = {name: list(keys.values()) for name, keys in self.keys.items()}
        for name, keys in _named(labels).items():
            if not keys:
                told = f"Representations of {name} that come together need a key in common."
                raise NoPlan(told, (_ENTITIES,))
            held[name] = [self.keys[name][key] for key in sorted(keys)]
        query = self.supergraph.roots["query"]
        view = _input_view(self.supergraph, query, held)
        types = dict(self.supergraph.types)
        types[query] = dataclasses.replace(
            types[query],
            fields={**types[query].fields, _ENTITIES: "[_Entity]!", _SERVICE: "_Service!"},
        )
        possible = frozenset(self.keys)
        types["_Entity"] = MergedType("_Entity", TypeKind.UNION, possible=possible)
        types["_Service"] = MergedType("_Service", TypeKind.OBJECT, {"sdl": "String!"})
        return dataclasses.replace(
            self.supergraph,
            graphs={**self.supergraph.graphs, INPUT: Graph(INPUT, "", INPUT)},
            views={**self.supergraph.views, INPUT: view},
            types=types,
            api_schema=self.schema,
        )

    def _hold(self, representations: list[Any], held: dict[str, set[str]]) -> None:
        """Note the keys that every representation of a type holds."""
        for one in representations:
            name = one.get("__typename") if isinstance(one, dict) else None
            if not isinstance(name, str) or name not in self.keys:
                continue
            own = {text for text, fields in self.keys[name].items() if _holds(fields, one)}
            if own:  # Without any it is no entity and answered with null.
                held[name] = held[name] & own if name in held else own


class Representations:
    """The service `$in`: its answers are what it is given."""

    def __init__(self, keys: Keys, sdl: str) -> None:
        self._keys = keys
        self._sdl = sdl

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """The representations as entities; one that holds no key of its type is null."""
        data: dict[str, Any] = {}
        for field in _fields(_parsed(request.text), "Query"):
            key = field.alias.value if field.alias else field.name.value
            if field.name.value == _SERVICE:
                data[key] = _selected(field.selection_set, {"sdl": self._sdl}, "_Service")
            elif field.name.value == _ENTITIES:
                given = _value((field.arguments or ())[0].value, request.variables)
                data[key] = [self._entity(field, one) for one in given]
            else:
                data[key] = "Query"
        return Answer(data)

    def _entity(self, field: FieldNode, given: Any) -> Any:
        name = given.get("__typename") if isinstance(given, dict) else None
        if not isinstance(name, str) or name not in self._keys:
            return None
        if not any(_holds(fields, given) for fields in self._keys[name].values()):
            return None
        return _selected(field.selection_set, given, name)


def _keys(supergraph: Supergraph) -> Keys:
    """Keys of object types by which some subgraph resolves, and that clients may see."""
    found: dict[str, dict[str, SelectionSetNode]] = {}
    for view in supergraph.views.values():
        for name, here in view.items():
            visible = supergraph.api_schema.get_type(name)
            if here.interface_object or not isinstance(visible, GraphQLObjectType):
                continue
            for key in here.keys:
                if key.resolvable and _visible(key, visible):
                    found.setdefault(name, {})[_text(key.fields)] = key.fields
    return found


def _visible(key: Key, kind: GraphQLObjectType) -> bool:
    stack: list[tuple[SelectionSetNode, Any]] = [(key.fields, kind)]
    while stack:
        selected, parent = stack.pop()
        for node in selected.selections:
            if not isinstance(node, FieldNode) or node.name.value not in parent.fields:
                return _is_typename(node)
            inner = get_named_type(parent.fields[node.name.value].type)
            if node.selection_set is not None:
                if not isinstance(inner, GraphQLObjectType):
                    return False
                stack.append((node.selection_set, inner))
    return True


def _is_typename(node: Any) -> bool:
    """Whether a selection is `__typename`, which every object has."""
    return isinstance(node, FieldNode) and node.name.value == "__typename"


def _text(fields: SelectionSetNode) -> str:
    return " ".join(print_ast(fields)[1:-1].split())


def _input_view(
    supergraph: Supergraph, query: str, held: Mapping[str, list[SelectionSetNode]]
) -> dict[str, GraphType]:
    """The types as `$in` has them."""
    view = {
        query: GraphType(
            query,
            TypeKind.OBJECT,
            fields={
                _ENTITIES: GraphField(_ENTITIES, "[_Entity]!"),
                _SERVICE: GraphField(_SERVICE, "_Service!"),
            },
        ),
        "_Service": GraphType(
            "_Service", TypeKind.OBJECT, fields={"sdl": GraphField("sdl", "String!")}
        ),
        "_Entity": GraphType("_Entity", TypeKind.UNION, possible=frozenset(held)),
    }
    for name, sets in held.items():
        for fields in sets:
            _add(supergraph, view, name, fields)
    return view


def _add(
    supergraph: Supergraph, view: dict[str, GraphType], name: str, selected: SelectionSetNode
) -> None:
    here = view.setdefault(name, GraphType(name, TypeKind.OBJECT))
    for node in selected.selections:
        if not isinstance(node, FieldNode) or _is_typename(node):
            continue
        field = GraphField(node.name.value, supergraph.types[name].fields[node.name.value])
        here.fields[field.name] = field
        if node.selection_set is not None:
            _add(supergraph, view, field.named, node.selection_set)


def _extended(schema: GraphQLSchema, keys: Keys) -> GraphQLSchema:
    """The API schema with what every subgraph has."""
    query = schema.query_type
    assert query is not None, "every supergraph has a Query"
    union = f"union _Entity = {' | '.join(sorted(keys))}\n" if keys else ""
    entities = f"{_ENTITIES}(representations: [_Any!]!): [_Entity]!" if keys else ""
    text = f"""
scalar _Any
type _Service {{ sdl: String! }}
{union}extend type {query.name} {{ {_SERVICE}: _Service! {entities} }}
"""
    return extend_schema(schema, parse(text), assume_valid=True)


def _sdl(schema: GraphQLSchema, keys: Keys) -> str:
    """The API schema as a subgraph's, with its keys."""
    document = parse(print_schema(schema), no_location=True)
    definitions: list[Any] = []
    for node in document.definitions:
        if isinstance(node, ObjectTypeDefinitionNode) and node.name.value in keys:
            directives = tuple(_key_directive(text) for text in keys[node.name.value])
            node = dataclasses.replace(  # noqa: PLW2901 - the same with its keys
                node, directives=(*(node.directives or ()), *directives)
            )
        definitions.append(node)
    return f"{_LINK}\n\n{print_ast(DocumentNode(definitions=tuple(definitions)))}\n"


def _key_directive(text: str) -> ConstDirectiveNode:
    document = parse(f'type T @key(fields: "{text}")', no_location=True)
    node = document.definitions[0]
    assert isinstance(node, ObjectTypeDefinitionNode)
    assert node.directives
    return node.directives[0]


def _labelled(held: Mapping[str, set[str]]) -> frozenset[str]:
    """A label for each type and key; one without a key where there is none in common."""
    return frozenset(f"{_LABEL}{name} {key}" for name, keys in held.items() for key in keys or {""})


def _named(labels: Iterable[str]) -> dict[str, set[str]]:
    """The keys that labels name, by type."""
    found: dict[str, set[str]] = {}
    for label in labels:
        if label.startswith(_LABEL):
            name, _, key = label.removeprefix(_LABEL).partition(" ")
            found.setdefault(name, set()).update({key} - {""})
    return found


def in_common(one: Iterable[str], other: Iterable[str]) -> frozenset[str]:
    """Labels of the keys that both have, and of the types that only one has."""
    first, second = _named(one), _named(other)
    return _labelled(
        {
            name: first.get(name, second.get(name, set()))
            & second.get(name, first.get(name, set()))
            for name in first.keys() | second.keys()
        }
    )


def _holds(selected: SelectionSetNode, given: Any) -> bool:
    """Whether a representation has a value for every field of a key."""
    for node in selected.selections:
        if not isinstance(node, FieldNode) or _is_typename(node):
            continue
        value = given.get(node.name.value)
        if value is None:
            return False
        if node.selection_set is not None:
            inner = value if isinstance(value, list) else [value]
            if not all(isinstance(o, dict) and _holds(node.selection_set, o) for o in inner):
                return False
    return True


def _value(node: ValueNode, variables: Mapping[str, Any]) -> Any:
    try:
        return value_from_ast_untyped(node, dict(variables))
    except RecursionError:
        return None


@lru_cache(_DOCUMENTS)
def _parsed(text: str) -> SelectionSetNode:
    definition = parse(text, no_location=True).definitions[0]
    assert isinstance(definition, OperationDefinitionNode)
    return definition.selection_set


def _fields(selected: SelectionSetNode, name: str) -> Iterator[FieldNode]:
    """The fields selected for an object of type `name`."""
    for node in selected.selections:
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            condition = node.type_condition
            if condition is None or condition.name.value in (name, "_Entity"):
                yield from _fields(node.selection_set, name)


def _selected(selected: SelectionSetNode | None, given: Any, name: str | None) -> Any:
    """What a selection takes of a representation."""
    if isinstance(given, list):
        return [_selected(selected, one, name) for one in given]
    if selected is None or not isinstance(given, dict):
        return given
    kind = given.get("__typename", name)
    found: dict[str, Any] = {}
    for node in _fields(selected, kind or ""):
        key = node.alias.value if node.alias else node.name.value
        if _is_typename(node):
            found[key] = kind
        else:
            found[key] = _selected(node.selection_set, given.get(node.name.value), None)
    return found
