"""One graphql-core schema over a federation's data: the oracle for answers.

It is made from the supergraph's text by leaving out what a client may not see, by code that has
nothing in common with the gateway's.
"""

from collections.abc import Mapping
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLAbstractType,
    GraphQLResolveInfo,
    GraphQLSchema,
    build_ast_schema,
    execute,
    get_named_type,
    is_abstract_type,
    parse,
    validate,
)
from graphql.language import DirectiveDefinitionNode, EnumTypeDefinitionNode, SchemaDefinitionNode

from tests.federation.harness.world import Record, World, value


def api_schema(supergraph: str) -> GraphQLSchema:
    """What clients see of a supergraph."""
    kept: list[Any] = []
    definitions = parse(supergraph).definitions
    hidden = {node.name.value for node in definitions if getattr(node, "name", 0) and _hidden(node)}
    for node in definitions:
        if isinstance(node, DirectiveDefinitionNode | SchemaDefinitionNode) or _hidden(node):
            continue
        if not node.name.value.startswith(("join__", "link__", "core__")):
            kept.append(_visible(node, hidden))
    return build_ast_schema(DocumentNode(definitions=tuple(kept)), assume_valid_sdl=True)


def _hidden(node: Any) -> bool:
    return any(d.name.value == "inaccessible" for d in node.directives or ())


def _visible(node: Any, hidden: set[str]) -> Any:
    """A definition without its hidden parts and without the supergraph's directives."""
    changed = {key: getattr(node, key) for key in node.keys if key != "loc"}
    changed["directives"] = tuple(
        d for d in node.directives or () if d.name.value in {"deprecated", "specifiedBy"}
    )
    for part in ("fields", "values", "arguments"):
        if changed.get(part):
            changed[part] = tuple(
                _visible(child, hidden) for child in changed[part] if not _hidden(child)
            )
    for part in ("types", "interfaces"):
        if changed.get(part):
            changed[part] = tuple(n for n in changed[part] if n.name.value not in hidden)
    return type(node)(**changed)


class Monolith:
    """Answers any operation from the data, all at once."""

    def __init__(self, supergraph: str, world: World) -> None:
        self.schema = api_schema(supergraph)
        self._world = world
        for type_ in self.schema.type_map.values():
            if is_abstract_type(type_):
                type_.resolve_type = _typename
        for name, values in _hidden_values(supergraph).items():
            if name in self.schema.type_map:
                self.schema.type_map[name].extensions["hidden"] = values

    def possible(self, typename: str) -> set[str]:
        """The object types an object of a type may have."""
        type_ = self.schema.type_map.get(typename)
        if type_ is None or not is_abstract_type(type_):
            return {typename}
        return {possible.name for possible in self.schema.get_possible_types(type_)}

    def answer(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        operation: str | None = None,
        *,
        valid: bool = False,
    ) -> dict[str, Any]:
        """`data` and `errors` of an operation; only `errors` where it is not valid."""
        document = parse(query)
        wrong = [] if valid else validate(self.schema, document)
        if wrong:
            return {"errors": [error.formatted for error in wrong]}
        result = execute(
            self.schema,
            document,
            root_value=self._root(document, operation),
            variable_values=dict(variables or {}),
            operation_name=operation,
            field_resolver=_resolve,
        )
        return dict(result.formatted)

    def _root(self, document: DocumentNode, operation: str | None) -> Record:
        for node in document.definitions:
            named = getattr(node, "name", None)
            if getattr(node, "operation", None) and operation in {None, named and named.value}:
                return getattr(self._world, node.operation.value)
        return self._world.query


def _typename(record: Record, info: GraphQLResolveInfo, type_: GraphQLAbstractType) -> str:
    return record["__typename"]


def _resolve(record: Record, info: GraphQLResolveInfo, **arguments: Any) -> Any:
    found = value(record, info.field_name, arguments, None)
    hidden = get_named_type(info.return_type).extensions.get("hidden")
    return _shown(found, hidden) if hidden else found


def _shown(found: Any, hidden: frozenset[str]) -> Any:
    """An enum's value, or a list of them; one that is hidden is nothing."""
    if isinstance(found, list | tuple):
        return [_shown(one, hidden) for one in found]
    return None if found in hidden else found


def _hidden_values(supergraph: str) -> dict[str, frozenset[str]]:
    return {
        node.name.value: frozenset(one.name.value for one in node.values or () if _hidden(one))
        for node in parse(supergraph).definitions
        if isinstance(node, EnumTypeDefinitionNode)
    }
