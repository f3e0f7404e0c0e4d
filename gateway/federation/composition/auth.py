"""Access requirements: an interface asks for all that its implementations ask for."""

from gateway.federation.composition.marks import conjunction
from gateway.federation.composition.merged import Mark, Merged
from gateway.federation.composition.state import State
from gateway.federation.composition.subgraph import Kind

ACCESS = {"authenticated": None, "requiresScopes": "scopes", "policy": "policies"}


def spread_access(state: State) -> None:
    """Put the requirements of objects and their fields on the interfaces they implement."""
    merged = state.merged
    if not any(name in merged.local_names for name in ACCESS):
        return
    _from_interface_objects(state)
    for interface in merged.types.values():
        if interface.kind is not Kind.INTERFACE:
            continue
        objects = [
            merged.types[name]
            for name in sorted(state.subtypes.get(interface.name, ()))
            if merged.types[name].kind is Kind.OBJECT
        ]
        objects_marks = [one.marks for one in objects]
        _replace(merged, interface.marks, _combined(merged, [interface.marks, *objects_marks]))
        for field in interface.fields.values():
            implementing = [
                one.fields[field.name].marks for one in objects if field.name in one.fields
            ]
            _replace(merged, field.marks, _combined(merged, [field.marks, *implementing]))


def _from_interface_objects(state: State) -> None:
    """What a field of an interface object asks for holds for that field of all implementations."""
    merged = state.merged
    own = {
        name: {field.name: list(field.marks) for field in merged.types[name].fields.values()}
        for name in state.interface_objects
    }
    for name, fields in own.items():
        for implementer in sorted(state.subtypes.get(name, ())):
            target = merged.types[implementer]
            if target.kind is Kind.OBJECT:
                for field in target.fields.values():
                    above = fields.get(field.name, [])
                    _replace(merged, field.marks, _combined(merged, [field.marks, above]))


def _replace(merged: Merged, marks: list[Mark], access: list[Mark]) -> None:
    names = {merged.local_names[name] for name in ACCESS if name in merged.local_names}
    marks[:] = [mark for mark in marks if mark.name not in names] + access


def _combined(merged: Merged, sources: list[list[Mark]]) -> list[Mark]:
    marks = []
    for name, argument in ACCESS.items():
        given = [mark for marks_ in sources if (mark := merged.named(marks_, name)) is not None]
        if given:
            arguments = (
                {argument: conjunction([mark.arguments.get(argument) for mark in given])}
                if argument
                else {}
            )
            marks.append(Mark(merged.local_names[name], arguments))
    return marks
