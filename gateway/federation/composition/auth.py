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
    for interface in merged.types.values():
        if interface.kind is not Kind.INTERFACE:
            continue
        objects = [
            merged.types[name]
            for name in sorted(state.subtypes.get(interface.name, ()))
            if merged.types[name].kind is Kind.OBJECT
        ]
        interface.marks += _combined(merged, [one.marks for one in objects])
        for field in interface.fields.values():
            implementing = [
                one.fields[field.name].marks for one in objects if field.name in one.fields
            ]
            field.marks += _combined(merged, implementing)


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
