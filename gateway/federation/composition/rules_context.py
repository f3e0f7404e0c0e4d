"""Rules on `@context` and `@fromContext`.

Composition accepts both where other tools do. The planner sets no contextual arguments: a
supergraph whose fields have them is refused by name where it is read, not here.
"""

import re
from collections.abc import Iterator

from graphql import FieldNode, InlineFragmentNode, NonNullTypeNode, SelectionSetNode, TypeNode

from gateway.federation.composition import fieldsets
from gateway.federation.composition.fieldsets import FieldSetRefused
from gateway.federation.composition.reading import is_federation
from gateway.federation.composition.rules_usage import applied_named, fields_of
from gateway.federation.composition.subgraph import (
    Applied,
    Argument,
    Kind,
    OutputField,
    Subgraph,
    TypeDefinition,
)
from gateway.federation.composition.types import base, is_list, possible_types, text
from gateway.federation.errors import CompositionError

Errors = Iterator[CompositionError]
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_REFERENCE = re.compile(
    r"\s*\$([A-Za-z][A-Za-z0-9_]*)(?![A-Za-z0-9_])\s*(\S.*)", re.ASCII | re.DOTALL
)


def contexts(subgraph: Subgraph) -> Errors:
    """All rules of this module."""
    found: dict[str, list[str]] = {}
    for definition in subgraph.types.values():
        for applied in definition.directives:
            if is_federation(applied, "context"):
                name = str(applied.arguments.get("name", ""))
                yield from _context_name(name)
                found.setdefault(name, []).append(definition.name)
    for directive in subgraph.directives.values():
        for argument in directive.arguments.values():
            if applied_named(argument.directives, "fromContext"):
                yield _not_set(
                    "@fromContext argument cannot be used on a directive definition"
                    f' "@{directive.name}({argument.name}:)".'
                )
    for definition, field, where in fields_of(subgraph):
        for argument in field.arguments.values():
            taken = applied_named(argument.directives, "fromContext")
            if taken is not None:
                at = f"{where}({argument.name}:)"
                yield from _argument(subgraph, (definition, field, argument), at, taken, found)


def _not_set(message: str) -> CompositionError:
    return CompositionError("CONTEXT_NOT_SET", message)


def _context_name(name: str) -> Errors:
    if "_" in name:
        yield CompositionError(
            "CONTEXT_NAME_INVALID", f'Context name "{name}" may not contain an underscore.'
        )
    elif not _NAME.fullmatch(name):
        yield CompositionError(
            "CONTEXT_NAME_INVALID",
            f'Context name "{name}" is invalid. It should have only alphanumeric characters.',
        )


def _argument(
    subgraph: Subgraph,
    place: tuple[TypeDefinition, OutputField, Argument],
    at: str,
    taken: Applied,
    found: dict[str, list[str]],
) -> Errors:
    """One contextual argument: where it may stand, and what it selects from which context."""
    definition, field, argument = place
    if definition.kind is not Kind.OBJECT:
        yield _not_set(
            f'@fromContext argument cannot be used on a field of an abstract type "{at}".'
        )
        return
    for name in definition.interfaces:
        interface = subgraph.types.get(name)
        if interface is not None and field.name in interface.fields:
            yield _not_set(
                "@fromContext argument cannot be used on a field implementing an interface field"
                f' "{name}.{field.name}".'
            )
    if argument.default is not None:
        yield _not_set(f'@fromContext arguments may not have a default value: "{at}".')
    written = taken.arguments.get("field")
    match = _REFERENCE.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        yield CompositionError(
            "NO_CONTEXT_IN_SELECTION",
            f'@fromContext argument does not reference a context "{written}".',
        )
    elif match[1] not in found:
        yield _not_set(f'Context "{match[1]}" is used at location "{at}" but is never set.')
    else:
        reasons = [_selection(subgraph, name, match[2], argument) for name in found[match[1]]]
        for reason in reasons:
            if reason:
                yield CompositionError(
                    "CONTEXT_INVALID_SELECTION",
                    f'Context "{match[1]}" is used in "{at}" but the selection is invalid:'
                    f" {reason}",
                )
                break
    yield from _resolvable_key(definition)


def _resolvable_key(definition: TypeDefinition) -> Errors:
    if not any(
        is_federation(applied, "key") and applied.arguments.get("resolvable") is not False
        for applied in definition.directives
    ):
        yield CompositionError(
            "CONTEXT_NO_RESOLVABLE_KEY",
            f'Object "{definition.name}" has no resolvable key'
            " but has a field with a contextual argument.",
        )


def _selection(subgraph: Subgraph, on: str, written: str, argument: Argument) -> str:
    """Why a selection cannot be taken of a type that sets the context; empty when it can."""
    try:
        selection = fieldsets.parse_field_set(written)
    except FieldSetRefused as problem:
        return str(problem)
    found = _inside(subgraph, on, selection)
    if found is None:
        return f'no type condition matches the location "{on}"'
    for parent, inner in found:
        reason = _single(subgraph, parent, inner, argument)
        if reason:
            return reason
    return ""


def _inside(
    subgraph: Subgraph, on: str, selection: SelectionSetNode
) -> list[tuple[str, SelectionSetNode]] | None:
    """The selections that hold on a type: itself, or those of its fragments that may match."""
    fragments = [node for node in selection.selections if isinstance(node, InlineFragmentNode)]
    if not fragments:
        return [(on, selection)]
    own = possible_types(subgraph.types, on)
    matching = []
    for node in fragments:
        condition = node.type_condition.name.value if node.type_condition else on
        if possible_types(subgraph.types, condition) & own:
            matching.append((condition, node.selection_set))
    return matching or None


def _single(
    subgraph: Subgraph, parent: str, selection: SelectionSetNode, argument: Argument
) -> str:
    """One field, one field in it, and so on, of the argument's type."""
    lists = 0
    while True:
        if len(selection.selections) != 1:
            return "multiple selections are made"
        node = selection.selections[0]
        if not isinstance(node, FieldNode):
            return "fragments are only allowed at its top"
        if node.alias is not None:
            return "aliases are not allowed in the selection"
        if node.directives:
            return "directives are not allowed in the selection"
        definition = subgraph.types.get(parent)
        field = definition.fields.get(node.name.value) if definition is not None else None
        if field is None:
            return f'Cannot query field "{node.name.value}" on type "{parent}".'
        if node.selection_set is None:
            break
        lists += is_list(field.type)
        parent, selection = base(field.type), node.selection_set
    return _fits(field.type, lists, argument.type)


def _fits(found: TypeNode, lists: int, wanted: TypeNode) -> str:
    """The selected type is the argument's; null may always come, so the argument is nullable."""
    selected = text(found).removesuffix("!")
    selected = "[" * lists + selected + "]" * lists
    if isinstance(wanted, NonNullTypeNode) or selected.replace("!", "") != text(wanted).replace(
        "!", ""
    ):
        return (
            f'the type of the selection "{selected}" does not match the expected type'
            f' "{text(wanted)}"'
        )
    return ""
