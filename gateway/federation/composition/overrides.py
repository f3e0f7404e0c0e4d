"""`@override`: which subgraph's field is replaced, and whether it may be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.federation.composition.merged import MergedType, element
from gateway.federation.composition.state import State, fed_directive, is_interface_object
from gateway.federation.composition.subgraph import Applied, Kind, OutputField, TypeDefinition

_LABEL = re.compile(r"[a-zA-Z][a-zA-Z0-9_\-:./]*")
_PERCENT = re.compile(r"percent\((\d{1,2}(\.\d{1,8})?|100)\)")


@dataclass(slots=True)
class Overrides:
    """What overriding does to one field, by subgraph."""

    used: set[int] = field(default_factory=set)  # replaced, but its own subgraph still needs it
    unused: set[int] = field(default_factory=set)  # replaced
    labels: dict[int, str] = field(default_factory=dict)
    unknown: dict[int, str] = field(default_factory=dict)  # `from` names no subgraph

    def replaced(self, index: int) -> bool:
        """Whether the subgraph's field is overridden."""
        return index in self.used or index in self.unused


def override_of(source: OutputField) -> Applied | None:
    """The `@override` on a field."""
    return fed_directive(source.directives, "override")


def abstracting_fields(
    state: State, parent: MergedType, name: str, index: int
) -> list[tuple[str, OutputField]]:
    """Fields by which a subgraph resolves an object's field without knowing the object.

    They are the fields of its interface objects for the object's interfaces, as
    (interface, field).
    """
    if parent.kind is not Kind.OBJECT or index in state.definers[parent.name]:
        return []
    found = []
    for interface in parent.interfaces:
        if interface in state.interface_objects:
            definition = state.definers[interface].get(index)
            if definition is not None and definition.kind is Kind.OBJECT:
                source = definition.fields.get(name)
                if source is not None:
                    found.append((interface, source))
    return found


def resolve_overrides(
    state: State, parent: MergedType, name: str, sources: Mapping[int, OutputField]
) -> Overrides:
    """Check every `@override` on a field and say what each does."""
    found = Overrides()
    overriding = {
        index: applied
        for index, source in sources.items()
        if (applied := override_of(source)) is not None
    }
    if not overriding:
        return found
    where = f"{parent.name}.{name}"
    by_name = {subgraph.name: index for index, subgraph in enumerate(state.subgraphs)}
    for index, applied in overriding.items():
        definition = state.definers[parent.name][index]
        if not _may_override(state, definition, where, index):
            continue
        source_name = applied.arguments.get("from")
        source_index = by_name.get(source_name) if isinstance(source_name, str) else None
        if source_index is None:
            found.unknown[index] = str(source_name)
            message = f'{element(where)} overrides subgraph "{source_name}", which does not exist'
            state.hint("FROM_SUBGRAPH_DOES_NOT_EXIST", message, [index])
        elif source_index == index:
            message = f'{element(where)} overrides its own subgraph, "{source_name}"'
            state.error("OVERRIDE_FROM_SELF_ERROR", message, [index])
        elif source_index in overriding:
            message = (
                f'{element(where)} in subgraph "{state.name(index)}" overrides a field that is '
                f'itself an @override, in subgraph "{source_name}"'
            )
            state.error("OVERRIDE_SOURCE_HAS_OVERRIDE", message, [index, source_index])
        else:
            step = _Step(parent, name, index, source_index, applied)
            _override(state, step, sources, found)
    return found


def _may_override(state: State, definition: TypeDefinition, where: str, index: int) -> bool:
    if definition.kind is Kind.INTERFACE:
        message = f"{element(where)} is a field of an interface: @override cannot stand there"
        state.error("OVERRIDE_ON_INTERFACE", message, [index])
        return False
    if is_interface_object(definition):
        message = (
            f"{element(where)} is a field of an @interfaceObject: @override cannot stand there"
        )
        state.error("OVERRIDE_COLLISION_WITH_ANOTHER_DIRECTIVE", message, [index])
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Step:
    """One `@override` of a field that may stand: from `source_index` to `index`."""

    parent: MergedType
    name: str
    index: int
    source_index: int
    applied: Applied

    @property
    def where(self) -> str:
        return f"{self.parent.name}.{self.name}"


def _override(
    state: State, step: _Step, sources: Mapping[int, OutputField], found: Overrides
) -> None:
    index, source_index, where = step.index, step.source_index, step.where
    replaced = sources.get(source_index)
    if replaced is None:
        if abstracting_fields(state, step.parent, step.name, source_index):
            state.error(
                "OVERRIDE_COLLISION_WITH_ANOTHER_DIRECTIVE",
                f"{element(where)} overrides a field that its source resolves through an "
                "@interfaceObject: that is not supported",
                [index, source_index],
            )
        else:
            message = f"@override on {element(where)} can go: its source has no such field"
            state.hint("OVERRIDE_DIRECTIVE_CAN_BE_REMOVED", message, [index])
        return
    conflict = next(
        (
            (place, directive)
            for place, source, directive in (
                (source_index, replaced, "requires"),
                (source_index, replaced, "provides"),
            )
            if fed_directive(source.directives, directive)
        ),
        (index, "external") if sources[index].external else None,
    )
    if conflict is not None:
        message = (
            f'@override on {element(where)} in subgraph "{state.name(index)}" collides with '
            f'@{conflict[1]} on it in subgraph "{state.name(conflict[0])}"'
        )
        state.error("OVERRIDE_COLLISION_WITH_ANOTHER_DIRECTIVE", message, [index, source_index])
    elif replaced.external:
        message = f"@override on {element(where)} can go: its source does not resolve the field"
        state.hint("OVERRIDE_DIRECTIVE_CAN_BE_REMOVED", message, [index])
    else:
        _replace(state, step, found)


def _replace(state: State, step: _Step, found: Overrides) -> None:
    index, source_index, where = step.index, step.source_index, step.where
    needed = (step.parent.name, step.name) in state.usages[source_index].used
    (found.used if needed else found.unused).add(source_index)
    label = step.applied.arguments.get("label")
    if label is None or label == "":
        words = " (its own subgraph still needs it: mark it @external)" if needed else ""
        message = f'{element(where)} in subgraph "{state.name(source_index)}" is overridden{words}'
        state.hint("OVERRIDDEN_FIELD_CAN_BE_REMOVED", message, [source_index])
    elif isinstance(label, str) and (_LABEL.fullmatch(label) or _PERCENT.fullmatch(label)):
        found.labels[index] = found.labels[source_index] = label
        message = f'{element(where)} is migrating away from "{state.name(source_index)}"'
        state.hint("OVERRIDE_MIGRATION_IN_PROGRESS", message, [source_index])
    else:
        state.error(
            "OVERRIDE_LABEL_INVALID",
            f'The @override label "{label}" on {element(where)} is neither a name (a letter, then '
            "letters, digits and any of _-:./) nor percent(x) with x from 0 to 100",
            [index],
        )
