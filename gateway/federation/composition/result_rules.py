"""Rules on the merged schema as a whole: interfaces are implemented, nothing hidden is missed."""

from gateway.federation.composition.inaccessible import check_inaccessible
from gateway.federation.composition.merged import MergedType, element
from gateway.federation.composition.references import is_subtype
from gateway.federation.composition.requirements import check_requirements
from gateway.federation.composition.result_values import check_values
from gateway.federation.composition.state import State
from gateway.federation.composition.subgraph import Kind


def check_result(state: State) -> None:
    """Report what makes the merged schema no schema; each step only where the last found none."""
    _check_implementations(state)
    check_requirements(state)
    for step in (_check_validity, check_inaccessible):
        if state.errors:
            return
        step(state)


def _check_implementations(state: State) -> None:
    types = state.merged.types
    for one in types.values():
        for name in one.interfaces:
            interface = types.get(name)
            if interface is None or interface.kind is not Kind.INTERFACE:
                continue
            for field in interface.fields:
                if field not in one.fields:
                    message = (
                        f"Interface field {element(f'{name}.{field}')} is missing on type "
                        f"{element(one.name)}, which implements the interface"
                    )
                    state.error("INTERFACE_FIELD_NO_IMPLEM", message)


def _check_validity(state: State) -> None:
    types = state.merged.types
    for index, subgraph in enumerate(state.subgraphs):
        if state.graph(index).startswith("__"):
            message = f'Subgraph "{subgraph.name}": a name cannot start with "__"'
            state.error("INVALID_GRAPHQL", message, [index])
    for one in types.values():
        for name in one.interfaces:
            interface = types.get(name)
            if interface is not None and interface.kind is Kind.INTERFACE:
                _check_implements(state, one, interface)
    _check_input_cycles(state)
    check_values(state)


def _check_input_cycles(state: State) -> None:
    """Input objects that need themselves: no value of theirs could be written."""
    needs = {
        one.name: [
            source.type[:-1]
            for source in one.input_fields.values()
            if source.type.endswith("!") and not source.type.startswith("[")
        ]
        for one in state.merged.types.values()
        if one.kind is Kind.INPUT
    }
    needed_by: dict[str, list[str]] = {}
    open_needs = {}
    for name, targets in needs.items():
        own = {target for target in targets if target in needs}
        open_needs[name] = len(own)
        for target in own:
            needed_by.setdefault(target, []).append(name)
    ready = [name for name, count in open_needs.items() if not count]
    while ready:  # an input object is possible once all it needs are
        for name in needed_by.get(ready.pop(), ()):
            open_needs[name] -= 1
            if not open_needs[name]:
                ready.append(name)
    for name, count in open_needs.items():
        if count:
            message = f"Input object {element(name)} needs itself through non-null fields"
            state.error("INVALID_GRAPHQL", message)


def _check_implements(state: State, one: MergedType, interface: MergedType) -> None:
    for parent in interface.interfaces:
        if parent not in one.interfaces and parent != one.name:
            message = (
                f"Type {element(one.name)} implements {element(interface.name)}, so it must "
                f"implement {element(parent)}"
            )
            state.error("INVALID_GRAPHQL", message)
    for name, wanted in interface.fields.items():
        found = one.fields[name]
        where = f"{one.name}.{name}"
        if not is_subtype(state, found.type, wanted.type):
            message = (
                f"{element(where)} has type {found.type}, which is not the interface's "
                f"{wanted.type} ({element(interface.name)})"
            )
            state.error("INVALID_GRAPHQL", message)
        for argument in wanted.arguments.values():
            own = found.arguments.get(argument.name)
            path = element(f"{where}({argument.name}:)")
            if own is None:
                message = f"Argument {path} is missing: {element(interface.name)} has it"
                state.error("INVALID_GRAPHQL", message)
            elif own.type != argument.type:
                message = f"Argument {path} has type {own.type}, the interface {argument.type}"
                state.error("INVALID_GRAPHQL", message)
        for own in found.arguments.values():
            if own.name not in wanted.arguments and own.type.endswith("!") and not own.has_default:
                path = element(f"{where}({own.name}:)")
                message = f"Argument {path} is required but not of {element(interface.name)}"
                state.error("INVALID_GRAPHQL", message)
