"""`__schema` and `__type` of an operation, answered from the API schema by graphql-core."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    GraphQLSchema,
    InlineFragmentNode,
    NamedTypeNode,
    NameNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
    execute_sync,
)

from gateway.federation.caches import Lru
from gateway.federation.operation import Field, Operation, Selection

_REMEMBERED = 32
_LARGE = 16 * 1024  # bytes, as JSON
_RECENT: Lru[tuple[object, tuple[object, ...]], dict[str, Any]] = Lru(8)
"""Large answers of all documents."""


class Introspection:
    """The root fields of one operation that tell of the schema; what they said is kept."""

    def __init__(self, schema: GraphQLSchema, operation: Operation) -> None:
        self._schema = schema
        fields = [
            one
            for one in operation.selections
            if isinstance(one, Field) and one.name in ("__schema", "__type")
        ]
        self.keys = tuple(one.key for one in fields)
        self._used = sorted(_variables(fields))
        self._document = _document(operation, fields) if fields else None
        self._known: dict[tuple[object, ...], dict[str, Any]] = {}

    def answer(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The fields' values by response key."""
        if self._document is None:
            return {}
        key = tuple(variables.get(name) for name in self._used)
        found = self._known.get(key) or _RECENT.get((self, key))
        if found is None:
            values = {name: variables[name] for name in self._used if name in variables}
            result = execute_sync(self._schema, self._document, variable_values=values)
            found = result.data or dict.fromkeys(self.keys)
            self._keep(key, found)
        return found

    def _keep(self, key: tuple[object, ...], found: dict[str, Any]) -> None:
        """Remember an answer; of large ones few, for every document may have its own."""
        if len(orjson.dumps(found)) > _LARGE:
            _RECENT.put((self, key), found)
            return
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = found


def _document(operation: Operation, fields: Sequence[Field]) -> DocumentNode:
    used = _variables(fields)
    definition = OperationDefinitionNode(
        operation=OperationType.QUERY,
        variable_definitions=tuple(
            one for one in operation.variables if one.variable.name.value in used
        ),
        selection_set=SelectionSetNode(selections=tuple(map(_node, fields))),
    )
    return DocumentNode(definitions=(definition,))


def _variables(selections: Sequence[Selection]) -> set[str]:
    """Names of the variables that are arguments in them; no argument there takes an object."""
    used: set[str] = set()
    for one in selections:
        if isinstance(one, Field):
            used.update(
                value.name.value for _, value in one.arguments if isinstance(value, VariableNode)
            )
        used |= _variables(one.selections)
    return used


def _node(one: Selection) -> SelectionNode:
    inside = (
        SelectionSetNode(selections=tuple(map(_node, one.selections))) if one.selections else None
    )
    if not isinstance(one, Field):
        assert inside is not None
        return InlineFragmentNode(
            type_condition=NamedTypeNode(name=NameNode(value=one.on)), selection_set=inside
        )
    return FieldNode(
        name=NameNode(value=one.name),
        alias=NameNode(value=one.key) if one.key != one.name else None,
        arguments=tuple(
            ArgumentNode(name=NameNode(value=name), value=value) for name, value in one.arguments
        ),
        selection_set=inside,
    )
