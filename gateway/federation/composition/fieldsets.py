"""Field sets: the selections written in `@key`, `@requires` and `@provides`."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLSyntaxError,
    InlineFragmentNode,
    NonNullTypeNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    parse,
    print_ast,
)

from gateway.federation.composition.subgraph import Kind, OutputField, TypeDefinition
from gateway.federation.composition.types import COMPOSITE_KINDS, Types, accepts, base, text

MAX_TOKENS = 20_000
MAX_DEPTH = 100


class FieldSetRefused(ValueError):
    """A field set that cannot be read."""


@lru_cache(maxsize=4096)
def parse_field_set(written: str) -> SelectionSetNode:
    """A field set as a selection set; its own braces are optional. Raises FieldSetRefused."""
    wrapped = written if written.lstrip().startswith("{") else f"{{{written}}}"
    try:
        document = parse(wrapped, no_location=True, max_tokens=MAX_TOKENS)
    except GraphQLSyntaxError as problem:
        raise FieldSetRefused(problem.message) from None
    except RecursionError:
        raise FieldSetRefused("The field set is nested too deeply") from None
    if len(document.definitions) != 1:
        raise FieldSetRefused("A field set is one selection set")
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    if not operation.selection_set.selections:
        raise FieldSetRefused('Syntax Error: Expected Name, found "}".')
    return operation.selection_set


@dataclass(frozen=True, slots=True)
class Selected:
    """A field of a field set where it was found.

    `above` holds the fields it is nested in, from the top. `leaf` means it selects nothing.
    """

    parent: TypeDefinition
    field: OutputField | None
    node: FieldNode
    above: tuple[OutputField, ...]

    @property
    def leaf(self) -> bool:
        """Whether nothing is selected below."""
        return self.node.selection_set is None

    @property
    def coordinate(self) -> str:
        """`Type.field`."""
        return f"{self.parent.name}.{self.node.name.value}"


INVALID = "INVALID_FIELDS"
DIRECTIVE = "DIRECTIVE_IN_FIELDS_ARG"


class Problem(NamedTuple):
    """What is wrong with a field set: the end of an error code, and a message.

    `late` problems are told only where there is no other.
    """

    code: str
    message: str
    late: bool = False


Walked = Selected | Problem


def walk(
    types: Types,
    parent: str,
    selection: SelectionSetNode,
    directives: frozenset[str] | None = None,
) -> Iterator[Walked]:
    """Every field that a field set selects on a type, and what makes it no field set.

    Fragments on types that the subgraph does not have are read as if they had no type.
    `directives` are the names of those defined; None takes all for defined.
    """
    yield from _walk(_Walk(types, directives), parent, selection, (), 0)


@dataclass(frozen=True, slots=True)
class _Walk:
    types: Types
    directives: frozenset[str] | None


def _walk(
    on: _Walk, parent: str, selection: SelectionSetNode, above: tuple[OutputField, ...], depth: int
) -> Iterator[Walked]:
    if depth > MAX_DEPTH:
        yield Problem(INVALID, f"It is nested more than {MAX_DEPTH} levels deep")
        return
    for node in selection.selections:
        yield from _directives(on, node)
        if isinstance(node, FragmentSpreadNode):
            name = node.name.value
            yield Problem(
                INVALID, f'Cannot find fragment name "{name}" (no fragments were provided)'
            )
        elif isinstance(node, InlineFragmentNode):
            condition = node.type_condition.name.value if node.type_condition else parent
            condition = condition if condition in on.types else parent
            yield from _walk(on, condition, node.selection_set, above, depth + 1)
        elif isinstance(node, FieldNode):
            yield from _field(on, on.types[parent], node, above, depth)


def _field(
    on: _Walk,
    parent: TypeDefinition,
    node: FieldNode,
    above: tuple[OutputField, ...],
    depth: int,
) -> Iterator[Walked]:
    name = node.name.value
    field = parent.fields.get(name)
    if field is None and (name != "__typename" or parent.kind not in COMPOSITE_KINDS):
        yield Problem(INVALID, f'Cannot query field "{name}" on type "{parent.name}"')
        return
    yield Selected(parent, field, node, above)
    if node.alias is not None:
        yield Problem(
            INVALID, f'Cannot use alias "{node.alias.value}": aliases are not supported here'
        )
    if field is None:
        return
    where = f"{parent.name}.{name}"
    yield from _arguments(on.types, where, field, node)
    below = on.types.get(base(field.type))
    composite = below is not None and below.kind in COMPOSITE_KINDS
    if node.selection_set is not None and composite and node.selection_set.selections:
        yield from _walk(on, base(field.type), node.selection_set, (*above, field), depth + 1)
    elif node.selection_set is not None and not composite:
        yield Problem(
            INVALID, f'Field "{where}" of type {text(field.type)} has no fields to select'
        )
    elif composite:
        yield Problem(
            INVALID,
            f'Invalid empty selection set for field "{where}" of non-leaf type {text(field.type)}',
        )


def _directives(on: _Walk, node: SelectionNode) -> Iterator[Problem]:
    for directive in node.directives or ():
        if on.directives is not None and directive.name.value not in on.directives:
            yield Problem(INVALID, f'Unknown directive "@{directive.name.value}"')
        else:
            yield Problem(
                DIRECTIVE,
                f"cannot have directive applications but found {print_ast(directive)}",
            )


def _arguments(types: Types, where: str, field: OutputField, node: FieldNode) -> Iterator[Problem]:
    given = {argument.name.value: argument.value for argument in node.arguments or ()}
    for name, value in given.items():
        declared = field.arguments.get(name)
        if declared is None:
            yield Problem(INVALID, f'Unknown argument "{name}": "{where}" has none of that name')
        elif not accepts(types, declared.type, value):  # type: ignore[arg-type]  # Parsed as constant.
            yield Problem(
                INVALID,
                f"Invalid value {print_ast(value)} for argument"
                f' "{where}({name}:)" of type {text(declared.type)}',
            )
    for declared in field.arguments.values():
        required = isinstance(declared.type, NonNullTypeNode) and declared.default is None
        if required and declared.name not in given:
            yield Problem(
                INVALID,
                f'Missing mandatory value for argument "{declared.name}" of field "{where}"',
                late=True,
            )


def same_fields(one: str, other: str) -> bool:
    """Whether two field sets select the same, whatever the order and the spaces."""
    try:
        return _normal(parse_field_set(one)) == _normal(parse_field_set(other))
    except FieldSetRefused:
        return False


def _normal(selection: SelectionSetNode | None) -> frozenset[object]:
    found: set[object] = set()
    for node in selection.selections if selection is not None else ():
        if isinstance(node, FieldNode):
            arguments = frozenset(print_ast(argument) for argument in node.arguments or ())
            found.add((node.name.value, arguments, _normal(node.selection_set)))
        elif isinstance(node, InlineFragmentNode):
            on = node.type_condition.name.value if node.type_condition else ""
            found.add((f"... on {on}", frozenset(), _normal(node.selection_set)))
    return frozenset(found)


def key_fields(types: Types, definition: TypeDefinition) -> Iterator[Selected]:
    """Every field that a type's keys select, of the type and of those below it."""
    for applied in definition.directives:
        if applied.name != "key" or applied.identity is None:
            continue
        yield from selected(types, definition.name, applied.arguments.get("fields"))


def selected(types: Types, parent: str, written: object) -> Iterator[Selected]:
    """The fields a field set selects, as far as it can be read."""
    if not isinstance(written, str) or parent not in types:
        return
    if types[parent].kind not in {Kind.OBJECT, Kind.INTERFACE, Kind.UNION}:
        return
    try:
        selection = parse_field_set(written)
    except FieldSetRefused:
        return
    for found in walk(types, parent, selection):
        if isinstance(found, Selected):
            yield found
        elif found.code == INVALID and not found.late:
            return
