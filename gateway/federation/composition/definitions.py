"""A subgraph's own definitions of what federation and link define: they must agree with the specs.

Subgraph libraries print such definitions in many shapes; what is checked is what can matter:
arguments, their types and defaults, locations, repeatability.
"""

from collections.abc import Iterable, Mapping

from graphql import (
    DirectiveDefinitionNode,
    InputValueDefinitionNode,
    ListTypeNode,
    NonNullTypeNode,
    TypeNode,
    print_ast,
)

from gateway.federation.composition import specs
from gateway.federation.composition.links import Names
from gateway.federation.composition.reading import Reading, spec_definition
from gateway.federation.composition.subgraph import DirectiveDefinition, Kind
from gateway.federation.composition.types import BUILT_IN_SCALARS, base, text
from gateway.federation.errors import CompositionError


def check_definitions(reading: Reading) -> Iterable[CompositionError]:
    """DIRECTIVE_DEFINITION_INVALID and TYPE_DEFINITION_INVALID.

    A document that links the link spec itself may define more of `@link` than the spec has.
    """
    names = reading.names
    free = names.link_directive in reading.machinery_directives and any(
        link.identity == specs.LINK for link in names.links
    )
    for name, found in reading.machinery_directives.items():
        wanted = spec_definition(names, name)
        assert wanted is not None
        for reason in _differences(names, found, wanted):
            if free and name == names.link_directive and reason.startswith(_UNKNOWN):
                continue
            yield CompositionError(
                "DIRECTIVE_DEFINITION_INVALID",
                f'Invalid definition for directive "@{name}": {reason}',
            )
    yield from _check_types(reading, free=free)


_UNKNOWN = "unknown/unsupported argument"


def _check_types(reading: Reading, *, free: bool) -> Iterable[CompositionError]:
    purpose = reading.names.link_type("Purpose")
    for name, found in reading.machinery.items():
        if name in specs.OPERATION_TYPES:
            continue
        wanted = Kind.ENUM if name == purpose else Kind.SCALAR
        if found.kind is not wanted:
            yield CompositionError(
                "TYPE_DEFINITION_INVALID",
                f"Invalid definition for type {name}: it should be {wanted.value}"
                f" but is {found.kind.value}",
            )
        elif name == purpose and not free and set(found.values) != set(specs.PURPOSES):
            yield CompositionError(
                "TYPE_DEFINITION_INVALID",
                f"Invalid definition for type {name}: expected the values"
                f" {', '.join(specs.PURPOSES)} but found {', '.join(found.values)}",
            )


def _differences(
    names: Names, found: DirectiveDefinition, wanted: DirectiveDefinitionNode
) -> Iterable[str]:
    """Each way in which a definition disagrees with the spec's."""
    expected = {argument.name.value: argument for argument in wanted.arguments or ()}
    yield from _argument_differences(names, found, expected)
    if found.repeatable and not wanted.repeatable:
        yield f'"@{found.name}" should not be repeatable'
    locations = [location.value for location in wanted.locations]
    if not set(found.locations) <= set(locations):
        yield (
            f'"@{found.name}" should have locations {", ".join(locations)},'
            f" but found {', '.join(found.locations)}"
        )


def _argument_differences(
    names: Names,
    found: DirectiveDefinition,
    expected: Mapping[str, InputValueDefinitionNode],
) -> Iterable[str]:
    for name, argument in expected.items():
        given = found.arguments.get(name)
        if given is None:
            if isinstance(argument.type, NonNullTypeNode) and argument.default_value is None:
                yield f'missing required argument "{name}"'
            continue
        wanted = _localised(names, argument.type)
        if not _agrees(names, given.type, argument.type):
            yield (
                f'argument "{name}" should have type "{wanted}" but found type "{text(given.type)}"'
            )
        elif argument.default_value is not None:
            default = print_ast(argument.default_value)
            other = "null" if given.default is None else print_ast(given.default)
            if default != other:
                yield f'argument "{name}" should have default value {default} but found {other}'
    for name in found.arguments:
        if name not in expected:
            yield f'{_UNKNOWN} "{name}"'


def _local_type(names: Names, name: str) -> str:
    """What a type of a spec's definition is called in the document."""
    if name in BUILT_IN_SCALARS:
        return name
    return names.link_type(name) if name in specs.LINK_TYPES else names.type(name)


def _localised(names: Names, node: TypeNode) -> str:
    name = base(node)
    return text(node).replace(name, _local_type(names, name))


def _agrees(names: Names, found: TypeNode, wanted: TypeNode) -> bool:
    """Whether a type is the spec's, stricter, or plain strings for one of its scalars.

    Version 1's own libraries declare `fields` nullable, and as lists of strings.
    """
    lenient = names.federation is None
    expected = _local_type(names, base(wanted))
    if base(wanted) == "FieldSet" and base(found) == "String":
        return text(found) in {"String!", "[String!]!"} or (lenient and text(found) == "String")
    if base(wanted) == "FieldSet" and lenient and isinstance(wanted, NonNullTypeNode):
        wanted = wanted.type
    while True:
        if isinstance(found, NonNullTypeNode) and not isinstance(wanted, NonNullTypeNode):
            found = found.type
            continue
        if type(found) is not type(wanted):
            return False
        if not isinstance(found, NonNullTypeNode | ListTypeNode):
            break
        assert isinstance(wanted, NonNullTypeNode | ListTypeNode)
        found, wanted = found.type, wanted.type
    scalar = base(wanted) not in BUILT_IN_SCALARS and base(wanted) != "Purpose"
    return base(found) == expected or (scalar and base(found) == "String")
