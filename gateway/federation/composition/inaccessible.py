"""`@inaccessible`: what is left without the hidden elements must still be a schema."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.federation.composition.merged import (
    Mark,
    MergedArgument,
    MergedField,
    MergedType,
    Symbol,
    base_name,
    element,
)
from gateway.federation.composition.state import State
from gateway.federation.composition.subgraph import Kind

_CHILDREN = {
    Kind.OBJECT: "fields",
    Kind.INTERFACE: "fields",
    Kind.UNION: "members",
    Kind.ENUM: "values",
    Kind.INPUT: "input fields",
}


def check_inaccessible(state: State) -> None:
    """Report hidden elements that visible ones need."""
    if "inaccessible" in state.merged.local_names:
        _Check(state).run()


class _Check:
    """The rules, with what is hidden looked up by name."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.merged = state.merged
        self.hidden_types = {
            one.name for one in self.merged.types.values() if self.hidden(one.marks)
        }

    def hidden(self, marks: list[Mark]) -> bool:
        return self.merged.named(marks, "inaccessible") is not None

    def run(self) -> None:
        if "Query" in self.hidden_types:
            message = "The root query type is @inaccessible"
            self.state.error("QUERY_ROOT_TYPE_INACCESSIBLE", message)
        prefixes = tuple(f"{link.name}__" for link in self.merged.links)
        for one in self.merged.types.values():
            if prefixes and one.name.startswith(prefixes):
                self._feature(one)
            elif one.name not in self.hidden_types and one.name in self.state.definers:
                self._children(one)
                for field in one.fields.values():
                    self._field(one, field)
                for source in one.input_fields.values():
                    self._input(f"{one.name}.{source.name}", source, "input field")
        composed = {local for _, local in self.state.composed}
        for directive in self.merged.directives.values():
            marks = [argument.marks for argument in directive.arguments.values()]
            if directive.name in composed and any(map(self.hidden, marks)):
                message = f"A spec's directive cannot be @inaccessible: @{directive.name}"
                self.state.error("DISALLOWED_INACCESSIBLE", message)
            for argument in directive.arguments.values():
                self._input(f"@{directive.name}({argument.name}:)", argument, "argument")

    def _feature(self, one: MergedType) -> None:
        items: list[Any] = [one, *one.fields.values(), *one.input_fields.values()]
        items += [*one.values.values()]
        items += [
            argument for field in one.fields.values() for argument in field.arguments.values()
        ]
        if any(self.hidden(item.marks) for item in items):
            message = f"A spec's type cannot be @inaccessible: {element(one.name)}"
            self.state.error("DISALLOWED_INACCESSIBLE", message)
        self.hidden_types.discard(one.name)

    def _children(self, one: MergedType) -> None:
        items: Mapping[str, Any] = one.fields or one.input_fields or one.values
        hidden = [self.hidden(item.marks) for item in items.values()]
        hidden += [member in self.hidden_types for member in one.members]
        if hidden and all(hidden):
            message = f"All {_CHILDREN[one.kind]} of type {element(one.name)} are @inaccessible"
            self.state.error("ONLY_INACCESSIBLE_CHILDREN", message)

    def _references(self, path: str, type_: str) -> None:
        name = base_name(type_)
        if name in self.hidden_types:
            message = f"{element(path)} is visible, its type {element(name)} is @inaccessible"
            self.state.error("REFERENCED_INACCESSIBLE", message)

    def _visible_interface_fields(
        self, one: MergedType, name: str
    ) -> Iterator[tuple[str, MergedField]]:
        for interface_name in one.interfaces:
            interface = self.merged.types.get(interface_name)
            if interface is None or interface_name in self.hidden_types:
                continue
            field = interface.fields.get(name)
            if field is not None and not self.hidden(field.marks):
                yield interface_name, field

    def _field(self, one: MergedType, field: MergedField) -> None:
        path = f"{one.name}.{field.name}"
        above = list(self._visible_interface_fields(one, field.name))
        if self.hidden(field.marks):
            for interface, _ in above:
                self._implements(path, f"{interface}.{field.name}")
            return
        self._references(path, field.type)
        for argument in field.arguments.values():
            where = f"{path}({argument.name}:)"
            self._input(where, argument, "argument")
            for interface, wanted in above:
                theirs = wanted.arguments.get(argument.name)
                if theirs is None:
                    continue
                place = f"{interface}.{field.name}({argument.name}:)"
                if self.hidden(argument.marks) and not self.hidden(theirs.marks):
                    self._implements(where, place)
                hides = self.hidden(theirs.marks) and not self.hidden(argument.marks)
                if hides and _required(argument):
                    message = (
                        f"Argument {element(place)} is @inaccessible but required where it is "
                        f"implemented, by {element(where)}"
                    )
                    self.state.error("REQUIRED_INACCESSIBLE", message)

    def _implements(self, path: str, interface_path: str) -> None:
        message = (
            f"{element(path)} is @inaccessible but implements the visible {element(interface_path)}"
        )
        self.state.error("IMPLEMENTED_BY_INACCESSIBLE", message)

    def _input(self, path: str, source: MergedArgument, what: str) -> None:
        if self.hidden(source.marks):
            if _required(source):
                message = f"The required {what} {element(path)} is @inaccessible"
                self.state.error("REQUIRED_INACCESSIBLE", message)
            return
        self._references(path, source.type)
        if source.has_default:

            def report(used: str) -> None:
                message = f"The default of {element(path)} uses {element(used)}: @inaccessible"
                self.state.error("DEFAULT_VALUE_USES_INACCESSIBLE", message)

            self._default(source.type, source.default, report)

    def _default(self, type_: str, value: Any, report: Callable[[str], None]) -> None:
        definition = self.merged.types.get(base_name(type_))
        if definition is None:
            return
        pending = [(definition, value)]
        while pending:
            one, item = pending.pop()
            if isinstance(item, list):
                pending += [(one, inner) for inner in item]
            elif isinstance(item, Symbol) and one.kind is Kind.ENUM:
                found = one.values.get(item)
                if found is not None and self.hidden(found.marks):
                    report(f"{one.name}.{item}")
            elif isinstance(item, Mapping):
                pending += self._default_fields(one, item, report)

    def _default_fields(
        self, one: MergedType, item: Mapping[str, Any], report: Callable[[str], None]
    ) -> Iterator[tuple[MergedType, Any]]:
        for name, inner in item.items():
            source = one.input_fields.get(name)
            if source is None:
                continue
            if self.hidden(source.marks):
                report(f"{one.name}.{name}")
                continue
            below = self.merged.types.get(base_name(source.type))
            if below is not None:
                yield below, inner


def _required(source: MergedArgument) -> bool:
    return source.type.endswith("!") and not source.has_default
