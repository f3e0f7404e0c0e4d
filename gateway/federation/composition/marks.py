"""Directive applications and descriptions of one element, merged over the subgraphs."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from gateway.federation.composition.features import CARRIED, is_carried
from gateway.federation.composition.merged import Mark, TooLarge, element, frozen, python_value
from gateway.federation.composition.state import State, who_says_what
from gateway.federation.composition.subgraph import Applied
from gateway.federation.composition.values import value_text

BUILT_IN = frozenset({"deprecated", "specifiedBy", "oneOf"})


def merge_marks(state: State, sources: Mapping[int, list[Applied]], where: str) -> list[Mark]:
    """The directives an element carries in the supergraph."""
    found: dict[str, list[tuple[int, Mark]]] = {}
    for index, directives in sources.items():
        for applied in directives:
            mark = _carried_mark(state, index, applied)
            if mark is not None:
                found.setdefault(mark.name, []).append((index, mark))
    if state.composed:
        _add_uncomposed(state, sources, found)
    marks: list[Mark] = []
    for name, given in found.items():
        marks += _merge_one(state, name, given, where)
    return marks


def merges(state: State, index: int, applied: Applied) -> bool:
    """Whether an application is one that merging hands on."""
    return _carried_mark(state, index, applied) is not None


def _add_uncomposed(
    state: State,
    sources: Mapping[int, list[Applied]],
    found: dict[str, list[tuple[int, Mark]]],
) -> None:
    """Where one subgraph composes a directive on an element, the others' applications count."""
    composed = {local for _, local in state.composed}
    for index, directives in sources.items():
        for applied in directives:
            name = applied.name
            if name in composed and name in found and (index, name) not in state.composed:
                found[name].append((index, Mark(name, literal_arguments(applied))))


def _carried_mark(state: State, index: int, applied: Applied) -> Mark | None:
    if is_carried(applied):
        if applied.name == "fromContext":
            return None
        arguments = dict(applied.arguments)
        if applied.name == "context":
            arguments["name"] = f"{state.name(index)}__{arguments.get('name')}"
        return Mark(state.merged.local_names[applied.name], arguments)
    if applied.identity is None and applied.name in BUILT_IN:
        return Mark(applied.name, dict(applied.arguments))
    if (index, applied.name) in state.composed:
        return Mark(applied.name, literal_arguments(applied))
    return None


def literal_arguments(applied: Applied) -> dict[str, Any]:
    """An application's arguments with enum values told from strings."""
    if applied.node is None:
        return dict(applied.arguments)
    return {node.name.value: python_value(node.value) for node in applied.node.arguments or ()}


def _merge_one(state: State, name: str, given: list[tuple[int, Mark]], where: str) -> list[Mark]:
    distinct: dict[Any, list[tuple[int, Mark]]] = {}
    for index, mark in given:
        distinct.setdefault(_identity(state, mark), []).append((index, mark))
    groups = list(distinct.values())
    definition = state.merged.directives.get(name)
    if len(groups) == 1 or (definition is not None and definition.repeatable):
        return [group[0][1] for group in groups]
    canonical = next((key for key, local in state.merged.local_names.items() if local == name), "")
    indices = [index for index, _ in given]
    if canonical in STRATEGIES:
        merged = {
            argument: merge([mark.arguments.get(argument) for _, mark in given])
            for argument, merge in STRATEGIES[canonical].items()
        }
        state.hint(
            "MERGED_NON_REPEATABLE_DIRECTIVE_ARGUMENTS",
            f"@{name} has several arguments on {element(where)}; they are merged",
            indices,
        )
        return [Mark(name, {key: value for key, value in merged.items() if value is not None})]
    best = max(groups, key=len)[0][1]
    words = who_says_what(
        state, {index: f"its arguments are {value_text(mark.arguments)}" for index, mark in given}
    )
    state.hint(
        "INCONSISTENT_NON_REPEATABLE_DIRECTIVE_ARGUMENTS",
        f"@{name} on {element(where)} keeps {value_text(best.arguments)}: {words}",
        indices,
    )
    return [best]


def _identity(state: State, mark: Mark) -> Any:
    definition = state.merged.directives.get(mark.name)
    arguments = dict(mark.arguments)
    if definition is not None:
        for name, argument in definition.arguments.items():
            if argument.has_default:
                arguments.setdefault(name, argument.default)
    elif mark.name == "deprecated":
        arguments.setdefault("reason", "No longer supported")
    return frozen(arguments)


def _largest(values: list[Any]) -> Any:
    numbers = [value for value in values if value is not None]
    return max(numbers) if numbers else None


def _union(values: list[Any]) -> Any:
    lists = [value if isinstance(value, list) else [value] for value in values if value is not None]
    if not lists:
        return None
    return list(dict.fromkeys(item for value in lists for item in value))


def _all(values: list[Any]) -> Any:
    booleans = [value for value in values if value is not None]
    return all(booleans) if booleans else None


def conjunction(values: list[Any]) -> list[list[str]]:
    """AND of conditions that are each an OR of ANDs, without terms that another term implies."""
    given = []
    for value in values:
        terms = sorted({tuple(sorted(set(map(str, term)))) for term in value or ()})
        if terms and terms not in given:
            given.append(terms)
    if len(given) == 1:
        return [list(term) for term in given[0]]
    merged: list[frozenset[str]] = [frozenset()]
    for terms in given:
        if len(merged) * len(terms) > MOST_TERMS:
            raise TooLarge(f"access conditions of more than {MOST_TERMS} terms")
        merged = _minimal([left | frozenset(right) for left in merged for right in terms])
    return [sorted(term) for term in merged]


MOST_TERMS = 2_000
"""Terms of a conjunction before those implied by others go; the check is quadratic in them."""


def _minimal(terms: list[frozenset[str]]) -> list[frozenset[str]]:
    """Shortest first, without those that contain another."""
    kept: list[frozenset[str]] = []
    for term in sorted(dict.fromkeys(terms), key=len):
        if not any(other <= term for other in kept):
            kept.append(term)
    return kept


STRATEGIES: dict[str, dict[str, Callable[[list[Any]], Any]]] = {
    "cost": {"weight": _largest},
    "listSize": {
        "assumedSize": _largest,
        "slicingArguments": _union,
        "sizedFields": _union,
        "requireOneSlicingArgument": _all,
    },
    "requiresScopes": {"scopes": conjunction},
    "policy": {"policies": conjunction},
}
assert set(STRATEGIES) <= set(CARRIED)


def merge_description(state: State, sources: Mapping[int, str | None], where: str) -> str | None:
    """The description most subgraphs give; of equally frequent ones the first."""
    given = {index: text for index, text in sources.items() if text is not None}
    if not given:
        return None
    counts = Counter(given.values())
    filled = [text for text in counts if text]
    if len(counts) == 1 or len(filled) == 1:
        return filled[0] if filled else next(iter(counts))
    best = max(counts, key=lambda text: counts[text])
    state.hint(
        "INCONSISTENT_DESCRIPTION",
        f"Subgraphs describe {element(where)} differently; most say: {best}",
        given,
    )
    return best
