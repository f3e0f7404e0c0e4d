"""Fields of objects and interfaces: arguments, types, who resolves them, their `join__field`s."""

from collections.abc import Mapping
from typing import Any

from gateway.federation.composition.contexts import context_arguments, contextual
from gateway.federation.composition.joined import join_marks
from gateway.federation.composition.marks import merge_description, merge_marks, merges
from gateway.federation.composition.merged import (
    Mark,
    MergedArgument,
    MergedField,
    MergedType,
    Symbol,
    default_value,
    element,
    frozen,
    type_text,
)
from gateway.federation.composition.overrides import (
    Overrides,
    abstracting_fields,
    resolve_overrides,
)
from gateway.federation.composition.references import (
    is_subtype,
    merge_default,
    merge_type,
    required,
    type_texts,
)
from gateway.federation.composition.state import (
    State,
    fed_directive,
    present_and_absent,
    subgraph_words,
    who_says_what,
)
from gateway.federation.composition.subgraph import Argument, Kind, OutputField

Sources = Mapping[int, OutputField]


def merge_field(state: State, parent: MergedType, name: str, sources: Sources) -> MergedField:
    """One field over the subgraphs that declare it."""
    where = f"{parent.name}.{name}"
    overrides = resolve_overrides(state, parent, name, sources)
    resolving = {index: source for index, source in sources.items() if not source.external}
    external = {index: source for index, source in sources.items() if source.external}
    if not resolving and not _abstracted(state, parent, name):
        names = subgraph_words(state.names(external))
        state.error(
            "EXTERNAL_MISSING_ON_BASE",
            f"{element(where)} is @external wherever it is declared: {names}",
            external,
        )
    else:
        _check_marks(state, where, external)
    base = resolving or external
    merged = MergedField(name, "")
    merged.description = merge_description(
        state, {index: source.description for index, source in base.items()}, where
    )
    merged.marks = merge_marks(
        state, {index: source.directives for index, source in base.items()}, where
    )
    merged.marks += join_marks(state, {i: source.directives for i, source in base.items()})
    merged.arguments = merge_arguments(
        state, {index: source.arguments for index, source in base.items()}, where
    )
    says = {index: type_text(source.type) for index, source in base.items()}
    merged.type, same = merge_type(state, says, where, "field", output=True)
    if resolving and external:
        _check_external(state, where, merged, external)
    if parent.kind is Kind.OBJECT and resolving:
        check_sharing(state, parent, name, sources, overrides)
    everywhere = same and all(type_text(source.type) == merged.type for source in external.values())
    merged.marks = _join_marks(state, parent, sources, overrides, everywhere) + merged.marks
    return merged


def _check_marks(state: State, where: str, external: Sources) -> None:
    for index, source in external.items():
        for applied in source.directives:
            if merges(state, index, applied):
                message = f"@{applied.name} cannot stand on {element(where)}, which is @external"
                state.error("MERGED_DIRECTIVE_APPLICATION_ON_EXTERNAL", message, [index])


def _abstracted(state: State, parent: MergedType, name: str) -> bool:
    return any(
        abstracting_fields(state, parent, name, index) for index in range(len(state.subgraphs))
    )


def merge_arguments(
    state: State, sources: Mapping[int, Mapping[str, Argument]], where: str
) -> dict[str, MergedArgument]:
    """The arguments all subgraphs have; one required in some must be in all."""
    names: dict[str, dict[int, Argument]] = {}
    for index, arguments in sources.items():
        for name, argument in arguments.items():
            if not contextual(argument):
                names.setdefault(name, {})[index] = argument
    merged: dict[str, MergedArgument] = {}
    for name, given in names.items():
        path = f"{where}({name}:)"
        absent = [i for i, arguments in sources.items() if name not in arguments]
        from_context = [
            i for i, arguments in sources.items() if name in arguments and i not in given
        ]
        if from_context:
            _report_contextual(state, path, given)
            continue
        if absent:
            _report_missing(state, path, given, absent, sources)
            continue
        into = MergedArgument(name, "")
        into.description = merge_description(
            state, {index: source.description for index, source in given.items()}, path
        )
        into.marks = merge_marks(
            state, {index: source.directives for index, source in given.items()}, path
        )
        into.type, _ = merge_type(state, type_texts(given), path, "argument", output=False)
        merge_default(state, given, into, path, "FIELD_ARGUMENT_DEFAULT_MISMATCH")
        merged[name] = into
    return merged


def _report_contextual(state: State, path: str, given: Mapping[int, Argument]) -> None:
    needing = [index for index, argument in given.items() if required(argument)]
    code = "CONTEXTUAL_ARGUMENT_NOT_CONTEXTUAL_IN_ALL_SUBGRAPHS"
    if needing:
        message = f"Argument {element(path)} is @fromContext somewhere but required elsewhere"
        state.error(code, message, needing)
    else:
        message = f"Argument {element(path)} is left out: it is @fromContext somewhere"
        state.hint(code, message, given)


def _report_missing(
    state: State,
    path: str,
    given: Mapping[int, Argument],
    absent: list[int],
    sources: Mapping[int, Any],
) -> None:
    needing = [index for index, argument in given.items() if required(argument)]
    if needing:
        words = (
            f"it is required in {subgraph_words(state.names(needing))} and missing in "
            f"{subgraph_words(state.names(absent))}"
        )
        message = f"A required argument must be in every subgraph: {element(path)}: {words}"
        state.error("REQUIRED_ARGUMENT_MISSING_IN_SOME_SUBGRAPH", message, needing)
    else:
        words = present_and_absent(state, given, sources, "declared")
        message = f"Argument {element(path)} is left out of the supergraph: {words}"
        state.hint("INCONSISTENT_ARGUMENT_PRESENCE", message, given)


def _check_external(state: State, where: str, merged: MergedField, external: Sources) -> None:
    wrong_type = {
        index: f'type "{type_text(source.type)}"'
        for index, source in external.items()
        if type_text(source.type) != merged.type
    }
    if wrong_type:
        state.error(
            "EXTERNAL_TYPE_MISMATCH",
            f'{element(where)} has type "{merged.type}" but, where @external, '
            + who_says_what(state, wrong_type),
            wrong_type,
        )
    for argument in merged.arguments.values():
        _check_external_argument(state, where, argument, external)


def _check_external_argument(
    state: State, where: str, merged: MergedArgument, external: Sources
) -> None:
    path = f"{where}({merged.name}:)"
    absent = [i for i, source in external.items() if merged.name not in source.arguments]
    if absent:
        state.error(
            "EXTERNAL_ARGUMENT_MISSING",
            f"Argument {element(path)} is missing where the field is @external: "
            + subgraph_words(state.names(absent)),
            absent,
        )
    given = {
        index: source.arguments[merged.name]
        for index, source in external.items()
        if merged.name in source.arguments
    }
    wrong_type = {
        index: f'type "{text}"'
        for index, text in type_texts(given).items()
        if not is_subtype(state, merged.type, text)
    }
    if wrong_type:
        state.error(
            "EXTERNAL_ARGUMENT_TYPE_MISMATCH",
            f'Argument {element(path)} has type "{merged.type}" but, where its field is @external, '
            + who_says_what(state, wrong_type),
            wrong_type,
        )
    expected = (frozen(merged.default), merged.has_default)
    wrong_default = [
        index
        for index, source in given.items()
        if (frozen((value := default_value(source.default))[0]), value[1]) != expected
    ]
    if wrong_default:
        state.error(
            "EXTERNAL_ARGUMENT_DEFAULT_MISMATCH",
            f"Argument {element(path)} has another default where its field is @external: "
            + subgraph_words(state.names(wrong_default)),
            wrong_default,
        )


def check_sharing(
    state: State, parent: MergedType, name: str, sources: Sources, overrides: Overrides
) -> None:
    """A field resolved in several subgraphs must be shareable in all of them."""
    where = f"{parent.name}.{name}"
    if parent.name == "Subscription":
        for index, source in sources.items():
            if fed_directive(source.directives, "shareable"):
                message = f"{element(where)} cannot be @shareable: it is a root subscription field"
                state.error("INVALID_FIELD_SHARING", message, [index])
    if len(sources) == 1 and not state.interface_objects:
        return
    shareable, alone = _resolvers(state, parent, name, sources, overrides)
    if alone and len(shareable) + len(alone) > 1:
        unknown = "".join(
            f' (its @override in "{state.name(index)}" names no subgraph: "{text}")'
            for index, text in overrides.unknown.items()
        )
        state.error(
            "INVALID_FIELD_SHARING",
            f"{element(where)} is resolved in "
            f"{subgraph_words(state.names(sorted(shareable + alone)))} but not @shareable in "
            f"{subgraph_words(state.names(alone))}{unknown}",
            alone,
        )


def _resolvers(
    state: State, parent: MergedType, name: str, sources: Sources, overrides: Overrides
) -> tuple[list[int], list[int]]:
    """The subgraphs that resolve a field: (where it may be shared, where it may not)."""
    shareable: list[int] = []
    alone: list[int] = []
    for index in state.relevant(parent):
        found = [(parent.name, sources[index])] if index in sources else []
        if not found:
            found = abstracting_fields(state, parent, name, index)
        elif overrides.replaced(index):
            continue
        for owner, source in found:
            if not state.usages[index].fully_external(owner, source):
                (shareable if source.shareable or source.external else alone).append(index)
    return shareable, alone


def _join_marks(
    state: State, parent: MergedType, sources: Sources, overrides: Overrides, same: bool
) -> list[Mark]:
    if not _needs_join(state, parent, sources, overrides, same):
        return []
    return [
        Mark("join__field", _join_arguments(state, index, source, overrides, same=same))
        for index, source in sources.items()
        if index not in overrides.unused or index in overrides.labels
    ]


def _join_arguments(
    state: State, index: int, source: OutputField, overrides: Overrides, *, same: bool
) -> dict[str, Any]:
    arguments: dict[str, Any] = {"graph": Symbol(state.graph(index))}
    for name, given in (("requires", "fields"), ("provides", "fields"), ("override", "from")):
        applied = fed_directive(source.directives, name)
        if applied is not None:
            arguments[name] = applied.arguments.get(given)
    if not same:
        arguments["type"] = type_text(source.type)
    if source.external:
        arguments["external"] = True
    if index in overrides.used:
        arguments["usedOverridden"] = True
    if index in overrides.labels:
        arguments["overrideLabel"] = overrides.labels[index]
    contexts = context_arguments(state, index, source)
    if contexts:
        arguments["contextArguments"] = contexts
    return arguments


def _needs_join(
    state: State, parent: MergedType, sources: Sources, overrides: Overrides, same: bool
) -> bool:
    if not same or overrides.used or overrides.labels:
        return True
    for index in state.definers[parent.name]:
        source = sources.get(index)
        if source is None or index in overrides.unused:
            return True
        if source.external or any(
            fed_directive(source.directives, name) for name in ("requires", "provides")
        ):
            return True
        if any(contextual(argument) for argument in source.arguments.values()):
            return True
    return False
