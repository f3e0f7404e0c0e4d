"""Types by kind: what each subgraph declares, put together."""

from collections.abc import Mapping
from typing import Any

from gateway.federation.composition.fields import merge_field
from gateway.federation.composition.joined import join_marks
from gateway.federation.composition.marks import merge_description, merge_marks
from gateway.federation.composition.merged import (
    Mark,
    MergedArgument,
    MergedType,
    MergedValue,
    Symbol,
    element,
)
from gateway.federation.composition.references import (
    merge_default,
    merge_type,
    required,
    type_texts,
)
from gateway.federation.composition.state import (
    State,
    fed_directive,
    is_interface_object,
    present_and_absent,
    subgraph_words,
)
from gateway.federation.composition.subgraph import (
    Applied,
    Argument,
    EnumValue,
    Kind,
    OutputField,
    TypeDefinition,
)

Definers = Mapping[int, TypeDefinition]


def merge_head(state: State, merged: MergedType, definers: Definers) -> None:
    """Description, `join__type`s, directives; interfaces and members, which later steps need."""
    merged.description = merge_description(
        state, {i: definition.description for i, definition in definers.items()}, merged.name
    )
    merged.marks = [
        mark
        for index, definition in definers.items()
        for mark in _join_types(state, index, definition)
    ] + merge_marks(
        state, {i: definition.directives for i, definition in definers.items()}, merged.name
    )
    for index, definition in definers.items():
        graph = Symbol(state.graph(index))
        for interface in definition.interfaces:
            if interface not in merged.interfaces:
                merged.interfaces.append(interface)
            merged.marks.append(Mark("join__implements", {"graph": graph, "interface": interface}))
    if merged.kind in (Kind.OBJECT, Kind.INTERFACE):
        merged.marks += join_marks(
            state, {i: definition.directives for i, definition in definers.items()}
        )
    _merge_members(state, merged, definers)


def _join_types(state: State, index: int, definition: TypeDefinition) -> list[Mark]:
    base: dict[str, Any] = {"graph": Symbol(state.graph(index))}
    stands_in = {"isInterfaceObject": True} if is_interface_object(definition) else {}
    marks = []
    for applied in definition.directives:
        if applied.name == "key" and applied.identity is not None:
            arguments = {**base, "key": applied.arguments.get("fields")}
            if applied.extended or fed_directive(definition.directives, "extends"):
                arguments["extension"] = True
            if applied.arguments.get("resolvable") is False:
                arguments["resolvable"] = False
            marks.append(Mark("join__type", {**arguments, **stands_in}))
    return marks or [Mark("join__type", {**base, **stands_in})]


def _merge_members(state: State, merged: MergedType, definers: Definers) -> None:
    members: dict[str, list[int]] = {}
    for index, definition in definers.items():
        for member in definition.members:
            members.setdefault(member, []).append(index)
    for member, indices in members.items():
        merged.members.append(member)
        for index in indices:
            arguments = {"graph": Symbol(state.graph(index)), "member": member}
            merged.marks.append(Mark("join__unionMember", arguments))
        if len(indices) < len(definers):
            words = present_and_absent(state, indices, definers, "a member")
            message = f"{element(member)} is not in every {element(merged.name)}: {words}"
            state.hint("INCONSISTENT_UNION_MEMBER", message, indices)


def merge_fields(state: State, merged: MergedType, definers: Definers) -> None:
    """The fields of an object or interface: the union of all subgraphs'."""
    sources: dict[str, dict[int, OutputField]] = {}
    for index, definition in definers.items():
        for name, source in definition.fields.items():
            sources.setdefault(name, {})[index] = source
    for name, given in sources.items():
        merged.fields[name] = merge_field(state, merged, name, given)
    _hint_inconsistent(state, merged, definers, sources)


def _hint_inconsistent(
    state: State,
    merged: MergedType,
    definers: Definers,
    sources: Mapping[str, Mapping[int, OutputField]],
) -> None:
    keyed = [i for i, definition in definers.items() if fed_directive(definition.directives, "key")]
    if keyed:
        if merged.kind is Kind.OBJECT and len(keyed) < len(definers):
            words = present_and_absent(state, keyed, definers, "an entity")
            message = f"{element(merged.name)} has a @key in some subgraphs only: {words}"
            state.hint("INCONSISTENT_ENTITY", message, keyed)
        return
    if merged.name in ("Query", "Mutation", "Subscription") or len(definers) < 2:
        return
    word = "OBJECT" if merged.kind is Kind.OBJECT else "INTERFACE"
    for name, given in sources.items():
        if len(given) < len(definers):
            words = present_and_absent(state, given, definers, "declared")
            message = f"{element(f'{merged.name}.{name}')} of a value type: {words}"
            state.hint(f"INCONSISTENT_{word}_VALUE_TYPE_FIELD", message, given)


def merge_inputs(state: State, merged: MergedType, definers: Definers) -> None:
    """The fields of an input object: those all subgraphs have."""
    sources: dict[str, dict[int, Argument]] = {}
    for index, definition in definers.items():
        for name, source in definition.input_fields.items():
            sources.setdefault(name, {})[index] = source
    for name, given in sources.items():
        path = f"{merged.name}.{name}"
        into = _merge_input_field(state, merged, name, given)
        hidden = state.merged.named(into.marks, "inaccessible") is not None
        if hidden or len(given) == len(definers):
            merged.input_fields[name] = into
            continue
        needing = [index for index, source in given.items() if required(source)]
        words = present_and_absent(state, given, definers, "declared")
        if needing:
            message = f"A required input field must be in every subgraph: {element(path)}: {words}"
            state.error("REQUIRED_INPUT_FIELD_MISSING_IN_SOME_SUBGRAPH", message, needing)
        else:
            message = f"Input field {element(path)} is left out of the supergraph: {words}"
            state.hint("INCONSISTENT_INPUT_OBJECT_FIELD", message, given)
    if sources and not merged.input_fields:
        message = f"No field of input {element(merged.name)} is in all subgraphs that define it"
        state.error("EMPTY_MERGED_INPUT_TYPE", message, definers)


def _merge_input_field(
    state: State, parent: MergedType, name: str, given: Mapping[int, Argument]
) -> MergedArgument:
    path = f"{parent.name}.{name}"
    into = MergedArgument(name, "")
    into.description = merge_description(
        state, {index: source.description for index, source in given.items()}, path
    )
    into.marks = merge_marks(
        state, {index: source.directives for index, source in given.items()}, path
    )
    texts = type_texts(given)
    into.type, same = merge_type(state, texts, path, "field", output=False)
    merge_default(state, given, into, path, "INPUT_FIELD_DEFAULT_MISMATCH")
    if not same or len(given) < len(state.definers[parent.name]):
        joins = []
        for index in given:
            arguments: dict[str, Any] = {"graph": Symbol(state.graph(index))}
            if not same:
                arguments["type"] = texts[index]
            joins.append(Mark("join__field", arguments))
        into.marks = joins + into.marks
    return into


def merge_values(state: State, merged: MergedType, definers: Definers) -> None:
    """The values of an enum: all where it is only output, common ones where only input."""
    use = state.enum_uses.get(merged.name)
    inputs, outputs = (use.inputs, use.outputs) if use else (None, None)
    if use is None:
        message = f"Enum {element(merged.name)} is not used; all its values are kept"
        state.hint("UNUSED_ENUM_TYPE", message, definers)
    sources: dict[str, dict[int, EnumValue]] = {}
    for index, definition in definers.items():
        for name, value in definition.values.items():
            sources.setdefault(name, {})[index] = value
    for name, given in sources.items():
        into = _merge_value(state, merged, name, given)
        hidden = state.merged.named(into.marks, "inaccessible") is not None
        if len(given) < len(definers) and _missing(
            state, merged, name, given, (inputs, outputs, hidden)
        ):
            continue
        merged.values[name] = into
    if not merged.values:
        message = f"No value of enum {element(merged.name)} is in all subgraphs that define it"
        state.error("EMPTY_MERGED_ENUM_TYPE", message, definers)


def _merge_value(
    state: State, parent: MergedType, name: str, given: Mapping[int, EnumValue]
) -> MergedValue:
    path = f"{parent.name}.{name}"
    into = MergedValue(name)
    into.description = merge_description(
        state, {index: source.description for index, source in given.items()}, path
    )
    directives: dict[int, list[Applied]] = {i: source.directives for i, source in given.items()}
    into.marks = [Mark("join__enumValue", {"graph": Symbol(state.graph(i))}) for i in given]
    into.marks += merge_marks(state, directives, path)
    return into


def _missing(
    state: State,
    merged: MergedType,
    name: str,
    given: Mapping[int, EnumValue],
    use: tuple[str | None, str | None, bool],
) -> bool:
    """Report a value some subgraphs lack; whether it is left out."""
    inputs, outputs, hidden = use
    words = present_and_absent(state, given, state.definers[merged.name], "defined")
    path = f"{merged.name}.{name}"
    if inputs and outputs:
        if not hidden:
            state.error(
                "ENUM_VALUE_MISMATCH",
                f"Enum {element(merged.name)} is an input type (of {element(inputs)}) and an "
                f"output type (of {element(outputs)}), so all subgraphs must define "
                f"{element(path)}: {words}",
                given,
            )
        return False
    if inputs and not hidden:
        message = f"Enum value {element(path)} is left out of the supergraph: {words}"
        state.hint("INCONSISTENT_ENUM_VALUE_FOR_INPUT_ENUM", message, given)
        return True
    if not inputs:
        message = f"Enum value {element(path)} is not in every subgraph: {words}"
        state.hint("INCONSISTENT_ENUM_VALUE_FOR_OUTPUT_ENUM", message, given)
    return False


def check_interface_objects(state: State, merged: MergedType, definers: Definers) -> None:
    """What `@interfaceObject` and keys on interfaces ask of the subgraphs of an interface."""
    standing = [i for i, definition in definers.items() if definition.kind is Kind.OBJECT]
    implementers = state.subtypes.get(merged.name, set())
    for index, definition in definers.items():
        own = state.subgraphs[index].types
        if index in standing:
            defined = sorted(name for name in implementers if name in own)
            if defined:
                state.error(
                    "INTERFACE_OBJECT_USAGE_ERROR",
                    f"{element(merged.name)} is an @interfaceObject in "
                    f"{subgraph_words(state.names([index]))}, which must not define its "
                    f"implementations: {', '.join(map(element, defined))}",
                    [index],
                )
            continue
        keys = [
            applied
            for applied in definition.directives
            if applied.name == "key" and applied.arguments.get("resolvable") is not False
        ]
        absent = sorted(
            name
            for name in implementers
            if state.merged.types[name].kind is Kind.OBJECT
            and (name not in own or merged.name not in own[name].interfaces)
        )
        if keys and absent:
            state.error(
                "INTERFACE_KEY_MISSING_IMPLEMENTATION_TYPE",
                f"Interface {element(merged.name)} has a resolvable @key in "
                f"{subgraph_words(state.names([index]))}, which must define all its "
                f"implementations but lacks {', '.join(map(element, absent))}",
                [index],
            )
