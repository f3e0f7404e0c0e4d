"""A document as types: definitions and extensions of one name brought together.

Nothing is judged here but what the model cannot hold: two definitions of one name, a field twice.
Directives get their canonical names; the machinery of federation and link stays out of `types`
and is kept in `machinery` for the checks of what a subgraph defines itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    ConstDirectiveNode,
    ConstValueNode,
    DefinitionNode,
    DirectiveDefinitionNode,
    DocumentNode,
    EnumTypeDefinitionNode,
    EnumTypeExtensionNode,
    EnumValueNode,
    FieldDefinitionNode,
    InputObjectTypeDefinitionNode,
    InputObjectTypeExtensionNode,
    InputValueDefinitionNode,
    InterfaceTypeDefinitionNode,
    InterfaceTypeExtensionNode,
    ObjectTypeDefinitionNode,
    ObjectTypeExtensionNode,
    ScalarTypeDefinitionNode,
    ScalarTypeExtensionNode,
    SchemaDefinitionNode,
    SchemaExtensionNode,
    StringValueNode,
    TypeDefinitionNode,
    TypeExtensionNode,
    TypeNode,
    UnionTypeDefinitionNode,
    UnionTypeExtensionNode,
    value_from_ast_untyped,
)

from gateway.federation.composition import specs
from gateway.federation.composition.links import Names
from gateway.federation.composition.subgraph import (
    Applied,
    Argument,
    DirectiveDefinition,
    EnumValue,
    Kind,
    OutputField,
    TypeDefinition,
)
from gateway.federation.composition.types import BUILT_IN_SCALARS, base
from gateway.federation.errors import CompositionError

KINDS: dict[str, Kind] = {
    "object": Kind.OBJECT,
    "interface": Kind.INTERFACE,
    "union": Kind.UNION,
    "enum": Kind.ENUM,
    "input_object": Kind.INPUT,
    "scalar": Kind.SCALAR,
}
ROOTS = {"query": "Query", "mutation": "Mutation", "subscription": "Subscription"}
_FIELDED = (
    ObjectTypeDefinitionNode,
    ObjectTypeExtensionNode,
    InterfaceTypeDefinitionNode,
    InterfaceTypeExtensionNode,
)
_UNIONS = (UnionTypeDefinitionNode, UnionTypeExtensionNode)
_ENUMS = (EnumTypeDefinitionNode, EnumTypeExtensionNode)
_INPUTS = (InputObjectTypeDefinitionNode, InputObjectTypeExtensionNode)
_SCALARS = (ScalarTypeDefinitionNode, ScalarTypeExtensionNode)


def invalid(message: str) -> CompositionError:
    """A document that is no GraphQL."""
    return CompositionError("INVALID_GRAPHQL", message)


@dataclass(slots=True)
class Reading:
    """What a document declares, before it is judged."""

    names: Names
    types: dict[str, TypeDefinition] = field(default_factory=dict)
    directives: dict[str, DirectiveDefinition] = field(default_factory=dict)
    machinery: dict[str, TypeDefinition] = field(default_factory=dict)
    machinery_directives: dict[str, DirectiveDefinition] = field(default_factory=dict)
    schema_directives: list[Applied] = field(default_factory=list)
    roots: dict[str, str] = field(default_factory=dict)
    description: str | None = None
    errors: list[CompositionError] = field(default_factory=list)
    declarations: int = 0
    defined: set[str] = field(default_factory=set)


def read(document: DocumentNode, names: Names) -> Reading:
    """All definitions of a document. The order of types is that of their first mention."""
    reading = Reading(names)
    reserved = _machinery_names(names)
    for node in document.definitions:
        if isinstance(node, SchemaDefinitionNode | SchemaExtensionNode):
            _read_schema(reading, node)
        elif isinstance(node, DirectiveDefinitionNode):
            _read_directive(reading, node)
        elif isinstance(node, TypeDefinitionNode | TypeExtensionNode):
            _read_type(reading, node, reserved)
        else:
            reading.errors.append(invalid("A schema document holds no operations or fragments"))
    _finish(reading, document)
    return reading


def _finish(reading: Reading, document: DocumentNode) -> None:
    """Root types by their default names; what is not the subgraph's own is taken away."""
    explicit = _explicit(document)
    for root, name in ROOTS.items():
        found = reading.types.get(name)
        if not explicit and found is not None and found.kind is Kind.OBJECT:
            reading.roots[root] = name
    for definition in reading.types.values():
        spread_external(definition)
    for name in BUILT_IN_SCALARS & set(reading.types):
        if reading.types[name].kind is Kind.SCALAR:
            reading.machinery[name] = reading.types.pop(name)
    query = reading.types.get(reading.roots.get("query", ""))
    if query is not None:
        for name in specs.OPERATION_FIELDS:
            query.fields.pop(name, None)


def _explicit(document: DocumentNode) -> bool:
    """Whether the document names its root types itself."""
    return any(
        isinstance(node, SchemaDefinitionNode | SchemaExtensionNode) and node.operation_types
        for node in document.definitions
    )


def _machinery_names(names: Names) -> frozenset[str]:
    """Names of types that belong to federation and link, not to the subgraph."""
    found = {names.type(scalar) for scalar in specs.federation_scalars(specs.NEWEST)}
    found |= {names.link_type(name) for name in specs.LINK_TYPES}
    for link in names.links:
        _, _, scalars = specs.own_spec(link.identity)
        found |= {names.local(link, scalar) for scalar in scalars}
    return frozenset(found | set(specs.OPERATION_TYPES))


def _read_schema(reading: Reading, node: SchemaDefinitionNode | SchemaExtensionNode) -> None:
    extended = isinstance(node, SchemaExtensionNode)
    reading.schema_directives += applications(reading.names, node.directives, extended=extended)
    if isinstance(node, SchemaDefinitionNode) and node.description is not None:
        reading.description = node.description.value
    for operation in node.operation_types or ():
        reading.roots[operation.operation.value] = operation.type.name.value


def _read_directive(reading: Reading, node: DirectiveDefinitionNode) -> None:
    name = node.name.value
    definition = DirectiveDefinition(
        name=name,
        arguments=_arguments(reading, f"@{name}", node.arguments or ()),
        locations=[location.value for location in node.locations],
        repeatable=node.repeatable,
        description=_text(node.description),
    )
    if name in reading.directives or name in reading.machinery_directives:
        reading.errors.append(invalid(f'There can be only one directive named "@{name}"'))
    if spec_definition(reading.names, name) is not None:
        reading.machinery_directives[name] = definition
    else:
        reading.directives[name] = definition


def spec_definition(names: Names, local: str) -> DirectiveDefinitionNode | None:
    """The definition that a spec we know gives the directive called `local` here, if any."""
    identity, canonical = names.resolve(local)
    if identity == specs.FEDERATION:
        if names.federation is None and canonical in _OWN_IN_ONE:
            return specs.federation_directives(specs.NEWEST).get(canonical)
        return specs.federation_directives(names.version).get(canonical)
    if identity == specs.LINK or (identity is None and local == names.link_directive):
        return specs.link_directive()
    if identity is not None:
        return specs.own_spec(identity)[1].get(canonical)
    return None


_ONE = frozenset(specs.federation_directives(specs.VERSION_ONE))
_OWN_IN_ONE = frozenset(
    {"shareable", "inaccessible", "override", "composeDirective", "interfaceObject"}
)
"""Directives of version 2 that a document of version 1 has when it defines them itself."""


def built_in(names: Names, local: str) -> bool:
    """Whether a directive of a spec may be used without the document defining it."""
    identity, canonical = names.resolve(local)
    if identity == specs.FEDERATION and names.federation is None:
        return canonical in _ONE
    return True


def applications(
    names: Names, nodes: Iterable[ConstDirectiveNode] | None, *, extended: bool = False
) -> list[Applied]:
    """Directives as they are applied, under their canonical names."""
    found = []
    for node in nodes or ():
        local = node.name.value
        name, identity = local, None
        if spec_definition(names, local) is not None:
            identity, name = names.resolve(local)
            identity = identity or specs.LINK
        elif names.resolve(local)[0] != specs.FEDERATION:
            identity = names.resolve(local)[0]
        arguments = {
            given.name.value: value_from_ast_untyped(given.value) for given in node.arguments or ()
        }
        found.append(Applied(name, arguments, identity, extended=extended, node=node))
    return found


def _text(node: StringValueNode | None) -> str | None:
    return None if node is None else node.value


def _read_type(
    reading: Reading, node: TypeDefinitionNode | TypeExtensionNode, reserved: frozenset[str]
) -> None:
    """A definition or an extension, brought together with what its name has already."""
    name = node.name.value
    extension = isinstance(node, TypeExtensionNode)
    kind = KINDS[node.kind.removesuffix("_definition").removesuffix("_extension")[:-5]]
    types = reading.machinery if name in reserved else reading.types
    known = types.get(name)
    if known is None:
        known = types[name] = TypeDefinition(name=name, kind=kind, extension=True)
    elif not extension and name in reading.defined:
        reading.errors.append(invalid(f'There can be only one type named "{name}"'))
        return
    elif known.kind is not kind:
        reading.errors.append(
            invalid(f'"{name}" is {known.kind.value} in one place and {kind.value} in another')
        )
        return
    if not extension:
        reading.defined.add(name)
        known.extension = False
        known.description = _text(getattr(node, "description", None))
    applied = applications(reading.names, node.directives, extended=extension)
    reading.declarations += 1
    for each in applied:
        each.declaration = reading.declarations
    if any(is_federation(each, "extends") for each in applied):
        extension = True
        for each in applied:
            each.extended = True
    known.directives += applied
    _read_members(reading, known, node, extension=extension)
    _spread(known, node, applied)


def is_federation(applied: Applied, name: str) -> bool:
    """Whether a directive is federation's of that canonical name."""
    return applied.name == name and applied.identity is not None


def _spread(known: TypeDefinition, node: DefinitionNode, applied: Sequence[Applied]) -> None:
    """`@shareable` on a declaration holds for the fields in it; see `spread_external`."""
    if isinstance(node, _FIELDED) and any(is_federation(each, "shareable") for each in applied):
        for declared in node.fields or ():
            known.fields[declared.name.value].shareable = True


def spread_external(definition: TypeDefinition) -> None:
    """`@external` on a type, wherever it stands, holds for all its fields."""
    if any(is_federation(each, "external") for each in definition.directives):
        for output in definition.fields.values():
            output.external = True


def _read_members(
    reading: Reading, known: TypeDefinition, node: DefinitionNode, *, extension: bool
) -> None:
    name = known.name
    if isinstance(node, _FIELDED):
        known.interfaces += _once(reading, name, known.interfaces, node.interfaces or ())
        for declared in node.fields or ():
            output = _output_field(reading, name, declared, extended=extension)
            if output.name in known.fields:
                reading.errors.append(invalid(f"Field {name}.{output.name} is declared twice"))
            known.fields[output.name] = output
    elif isinstance(node, _UNIONS):
        known.members += _once(reading, name, known.members, node.types or ())
    elif isinstance(node, _ENUMS):
        for declared_value in node.values or ():
            text = declared_value.name.value
            known.values[text] = EnumValue(
                name=text,
                description=_text(declared_value.description),
                directives=applications(reading.names, declared_value.directives),
            )
    elif isinstance(node, _INPUTS):
        known.input_fields.update(
            _arguments(reading, name, node.fields or (), known=known.input_fields)
        )
    else:
        assert isinstance(node, _SCALARS)


def _once(reading: Reading, owner: str, known: list[str], nodes: Sequence[Any]) -> list[str]:
    """Names of members or interfaces; each may be given once."""
    found: list[str] = []
    for node in nodes:
        name = node.name.value
        if name in found or name in known:
            reading.errors.append(invalid(f'Type "{owner}" names "{name}" more than once'))
        found.append(name)
    return found


def _output_field(
    reading: Reading, owner: str, node: FieldDefinitionNode, *, extended: bool
) -> OutputField:
    name = node.name.value
    applied = applications(reading.names, node.directives, extended=extended)
    return OutputField(
        name=name,
        type=node.type,
        arguments=_arguments(reading, f"{owner}.{name}", node.arguments or ()),
        description=_text(node.description),
        directives=applied,
        extended=extended,
        external=any(is_federation(each, "external") for each in applied),
        shareable=any(is_federation(each, "shareable") for each in applied),
    )


def _arguments(
    reading: Reading,
    owner: str,
    nodes: Sequence[InputValueDefinitionNode],
    known: dict[str, Argument] | None = None,
) -> dict[str, Argument]:
    found: dict[str, Argument] = {}
    for node in nodes:
        name = node.name.value
        if name in found or (known is not None and name in known):
            reading.errors.append(invalid(f"{owner} declares {name} twice"))
        default: ConstValueNode | None = node.default_value
        node_type: TypeNode = node.type
        if isinstance(default, EnumValueNode) and base(node_type) in {"String", "ID"}:
            default = StringValueNode(value=default.value)  # A text that lacks its quotes.
        found[name] = Argument(
            name=name,
            type=node_type,
            default=default,
            description=_text(node.description),
            directives=applications(reading.names, node.directives),
        )
    return found
