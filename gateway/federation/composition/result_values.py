"""Constants in the merged schema, which may have lost what they name: defaults, arguments."""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.federation.composition.merged import (
    Mark,
    Merged,
    MergedArgument,
    MergedDirective,
    MergedType,
    Symbol,
    element,
)
from gateway.federation.composition.state import State
from gateway.federation.composition.subgraph import Kind
from gateway.federation.composition.values import value_text

_BUILT_IN: Mapping[str, tuple[type, ...]] = {
    "Int": (int,),
    "Float": (int, float),
    "String": (str,),
    "ID": (str, int),
    "Boolean": (bool,),
}


def accepts(merged: Merged, type_: str, value: Any) -> bool:
    """Whether a constant fits a type."""
    if type_.endswith("!"):
        return value is not None and accepts(merged, type_[:-1], value)
    if value is None:
        return True
    if type_.startswith("["):
        items = value if isinstance(value, list) else [value]
        return all(accepts(merged, type_[1:-1], item) for item in items)
    definition = merged.types.get(type_)
    return _built_in(type_, value) if definition is None else _named(merged, definition, value)


def _built_in(name: str, value: Any) -> bool:
    if name not in _BUILT_IN:
        return True
    if isinstance(value, Symbol) or (isinstance(value, bool) and name != "Boolean"):
        return False
    return isinstance(value, _BUILT_IN[name])


def _named(merged: Merged, definition: MergedType, value: Any) -> bool:
    if definition.kind is Kind.ENUM:
        return isinstance(value, str) and value in definition.values
    if definition.kind is not Kind.INPUT:
        return True
    fields = definition.input_fields
    if not isinstance(value, Mapping) or any(name not in fields for name in value):
        return False
    return all(
        accepts(merged, source.type, value[name])
        if name in value
        else source.has_default or not source.type.endswith("!")
        for name, source in fields.items()
    )


def check_values(state: State) -> None:
    """Report defaults and arguments of composed directives that no longer fit."""
    merged = state.merged
    for path, source in _inputs(merged):
        if source.has_default and not accepts(merged, source.type, source.default):
            text = value_text(source.default)
            message = f"The default {text} of {element(path)} is no value of type {source.type}"
            state.error("INVALID_GRAPHQL", message)
    composed = {local for _, local in state.composed}
    if composed:
        for path, location, marks in _marked(merged):
            for mark in marks:
                if mark.name in composed:
                    definition = merged.directives[mark.name]
                    _check_mark(state, mark, definition, path, location)


def _inputs(merged: Merged) -> Iterator[tuple[str, MergedArgument]]:
    for one in merged.types.values():
        for source in one.input_fields.values():
            yield f"{one.name}.{source.name}", source
        for field in one.fields.values():
            for source in field.arguments.values():
                yield f"{one.name}.{field.name}({source.name}:)", source
    for directive in merged.directives.values():
        for source in directive.arguments.values():
            yield f"@{directive.name}({source.name}:)", source


def _marked(merged: Merged) -> Iterator[tuple[str, str, list[Mark]]]:
    """Every element with the location its directives stand in."""
    yield "schema", "SCHEMA", merged.marks
    for one in merged.types.values():
        yield one.name, one.kind.value, one.marks
        for source in one.input_fields.values():
            yield f"{one.name}.{source.name}", "INPUT_FIELD_DEFINITION", source.marks
        for value in one.values.values():
            yield f"{one.name}.{value.name}", "ENUM_VALUE", value.marks
        for field in one.fields.values():
            path = f"{one.name}.{field.name}"
            yield path, "FIELD_DEFINITION", field.marks
            for source in field.arguments.values():
                yield f"{path}({source.name}:)", "ARGUMENT_DEFINITION", source.marks


def _check_mark(
    state: State, mark: Mark, definition: MergedDirective, path: str, location: str
) -> None:
    where = f'"@{mark.name}" on {element(path)}'
    if location not in definition.locations:
        state.error("INVALID_GRAPHQL", f"{where}: it may not stand on {location}")
    for name, value in mark.arguments.items():
        argument = definition.arguments.get(name)
        if argument is None:
            state.error("INVALID_GRAPHQL", f'{where}: it has no argument "{name}"')
        elif not accepts(state.merged, argument.type, value):
            text = value_text(value)
            message = f'{where}: {text} is no value of type {argument.type}, for "{name}"'
            state.error("INVALID_GRAPHQL", message)
    for argument in definition.arguments.values():
        needed = argument.type.endswith("!") and not argument.has_default
        if needed and argument.name not in mark.arguments:
            state.error("INVALID_GRAPHQL", f'{where}: it lacks argument "{argument.name}"')
