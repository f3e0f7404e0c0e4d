"""The schema clients see: a supergraph without join, links and whatever is inaccessible."""

from collections.abc import Sequence
from dataclasses import replace

from graphql import (
    ConstDirectiveNode,
    DefinitionNode,
    DirectiveDefinitionNode,
    DirectiveLocation,
    DocumentNode,
    EnumTypeDefinitionNode,
    FieldDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    InputObjectTypeDefinitionNode,
    InterfaceTypeDefinitionNode,
    ObjectTypeDefinitionNode,
    SchemaDefinitionNode,
    TypeDefinitionNode,
    UnionTypeDefinitionNode,
    build_ast_schema,
    specified_directives,
    validate_schema,
)

from gateway.federation.errors import InvalidSupergraph
from gateway.federation.links import SPECS, Feature

_BUILT_IN = frozenset(one.name for one in specified_directives)
_EXECUTABLE = frozenset(
    one.name
    for one in (
        DirectiveLocation.QUERY,
        DirectiveLocation.MUTATION,
        DirectiveLocation.SUBSCRIPTION,
        DirectiveLocation.FIELD,
        DirectiveLocation.FRAGMENT_DEFINITION,
        DirectiveLocation.FRAGMENT_SPREAD,
        DirectiveLocation.INLINE_FRAGMENT,
        DirectiveLocation.VARIABLE_DEFINITION,
    )
)

HIDDEN = "inaccessible"
"""An enum's extension that names its inaccessible values: subgraphs may answer them."""


def api_schema(
    document: DocumentNode, linked: tuple[Feature, ...], *, valid: bool = True
) -> GraphQLSchema:
    """Build the clients' schema from a supergraph and the specs it links.

    Args:
        valid: Whether it must be a valid schema; it must be one to validate documents.

    Raises:
        InvalidSupergraph: what remains is no schema.
    """
    remover = _Remover(document, linked)
    kept = remover.remove()
    try:
        made = build_ast_schema(DocumentNode(definitions=tuple(kept)), assume_valid_sdl=True)
        errors = validate_schema(made) if valid else []
    except (GraphQLError, TypeError, ValueError, KeyError, RecursionError) as error:
        raise InvalidSupergraph(f"The supergraph is no valid schema: {error}") from error
    if errors:
        raise InvalidSupergraph(f"The supergraph is no valid schema: {errors[0].message}")
    for name, values in remover.values.items():
        if (enum := made.get_type(name)) is not None:
            enum.extensions[HIDDEN] = values
    return made


class _Remover:
    """Leaves out machinery and what is inaccessible; copies only what it changes."""

    def __init__(self, document: DocumentNode, linked: tuple[Feature, ...]) -> None:
        self.document = document
        self.linked = linked
        self.values: dict[str, frozenset[str]] = {}  # what is hidden of an enum
        self.hidden = {
            one.directive("inaccessible")
            for one in linked
            if one.identity == SPECS + "inaccessible"
        }
        self.gone = {
            one.name.value
            for one in document.definitions
            if isinstance(one, TypeDefinitionNode)
            and (self._hides(one.directives) or self._machinery(one.name.value))
        }

    def remove(self) -> list[DefinitionNode]:
        kept: list[DefinitionNode] = []
        for one in self.document.definitions:
            if isinstance(one, SchemaDefinitionNode):
                roots = tuple(
                    root for root in one.operation_types if root.type.name.value not in self.gone
                )
                kept.append(replace(one, directives=(), operation_types=roots))
            elif isinstance(one, DirectiveDefinitionNode):
                if (directive := self._directive(one)) is not None:
                    kept.append(directive)
            elif isinstance(one, TypeDefinitionNode) and one.name.value not in self.gone:
                kept.append(self._type(one))
        return kept

    def _machinery(self, name: str) -> bool:
        return any(one.defines_type(name) for one in self.linked)

    def _hides(self, directives: Sequence[ConstDirectiveNode] | None) -> bool:
        return any(one.name.value in self.hidden for one in directives or ())

    def _directive(self, node: DirectiveDefinitionNode) -> DirectiveDefinitionNode | None:
        name = node.name.value
        if name in _BUILT_IN or any(one.defines_directive(name) for one in self.linked):
            return None
        locations = tuple(one for one in node.locations if one.value in _EXECUTABLE)
        if not locations:
            return None
        shown = tuple(one for one in node.arguments or () if not self._hides(one.directives))
        return replace(node, locations=locations, arguments=shown)

    def _type(self, node: TypeDefinitionNode) -> TypeDefinitionNode:
        if isinstance(node, ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode):
            return replace(
                node,
                interfaces=tuple(
                    one for one in node.interfaces or () if one.name.value not in self.gone
                ),
                fields=tuple(
                    self._field(one) for one in node.fields or () if not self._hides(one.directives)
                ),
            )
        if isinstance(node, UnionTypeDefinitionNode):
            shown = tuple(one for one in node.types or () if one.name.value not in self.gone)
            return replace(node, types=shown)
        if isinstance(node, EnumTypeDefinitionNode):
            values = tuple(one for one in node.values or () if not self._hides(one.directives))
            shown_names = {one.name.value for one in values}
            every = {one.name.value for one in node.values or ()}
            if every != shown_names:
                self.values[node.name.value] = frozenset(every - shown_names)
            return replace(node, values=values)
        if isinstance(node, InputObjectTypeDefinitionNode):
            inputs = tuple(one for one in node.fields or () if not self._hides(one.directives))
            return replace(node, fields=inputs)
        return node

    def _field(self, node: FieldDefinitionNode) -> FieldDefinitionNode:
        if not any(self._hides(one.directives) for one in node.arguments or ()):
            return node
        shown = tuple(one for one in node.arguments or () if not self._hides(one.directives))
        return replace(node, arguments=shown)
