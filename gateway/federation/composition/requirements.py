"""What `@requires` and `@fromContext` select, seen on the merged schema: arguments and access."""

from collections.abc import Iterator
from dataclasses import dataclass

from graphql import FieldNode, InlineFragmentNode, SelectionSetNode

from gateway.federation.composition.auth import ACCESS
from gateway.federation.composition.contexts import split_context
from gateway.federation.composition.merged import Mark, MergedType, TooLarge, base_name, element
from gateway.federation.composition.state import State, fed_directive
from gateway.federation.composition.subgraph import Applied, OutputField
from gateway.federation.composition.usage import parse_set

MOST_COMPARED = 1_000_000
"""Pairs of terms of two conditions that are compared."""

Condition = frozenset[frozenset[str]]  # any of these sets of scopes or policies


@dataclass(frozen=True, slots=True)
class _Needed:
    """One selection that a field's value depends on."""

    index: int
    owner: str  # type and field that need it
    name: str
    parent: str
    selection: SelectionSetNode
    directive: str


def check_requirements(state: State) -> None:
    """Report arguments that cannot be given and access that is not asked for."""
    protected = any(name in state.merged.local_names for name in ACCESS)
    for needed in _all_needed(state):
        if needed.directive == "requires":
            _check_arguments(state, needed)
        if protected:
            _check_access(state, needed)


def _all_needed(state: State) -> Iterator[_Needed]:
    for index, subgraph in enumerate(state.subgraphs):
        setters: dict[str, list[str]] = {}
        for definition in subgraph.types.values():
            for applied in definition.directives:
                if applied.name == "context" and applied.identity is not None:
                    name = str(applied.arguments.get("name"))
                    setters.setdefault(name, []).append(definition.name)
        for definition in subgraph.types.values():
            if definition.name not in state.merged.types:
                continue
            for source in definition.fields.values():
                yield from _needed_by(index, definition.name, source, setters)


def _needed_by(
    index: int, owner: str, source: OutputField, setters: dict[str, list[str]]
) -> Iterator[_Needed]:
    requires = fed_directive(source.directives, "requires")
    selection = _selection(requires, "fields")
    if selection is not None:
        yield _Needed(index, owner, source.name, owner, selection, "requires")
    for argument in source.arguments.values():
        applied = fed_directive(argument.directives, "fromContext")
        if applied is None:
            continue
        name, text = split_context(str(applied.arguments.get("field") or ""))
        chosen = parse_set(f"{{{text}}}" if text.lstrip().startswith("...") else text)
        if chosen is not None:
            for setter in setters.get(name, ()):
                yield _Needed(index, owner, source.name, setter, chosen, "fromContext")


def _selection(applied: Applied | None, argument: str) -> SelectionSetNode | None:
    text = applied.arguments.get(argument) if applied else None
    return parse_set(text) if isinstance(text, str) else None


def _selected(
    state: State, parent: str, selection: SelectionSetNode
) -> Iterator[tuple[MergedType, FieldNode | None]]:
    """Every field selected, with its parent; None for a condition on that type."""
    pending = [(parent, selection)]
    while pending:
        name, current = pending.pop()
        one = state.merged.types.get(name)
        if one is None:
            continue
        for node in current.selections:
            if isinstance(node, InlineFragmentNode):
                condition = node.type_condition.name.value if node.type_condition else name
                if condition != name and condition in state.merged.types:
                    yield state.merged.types[condition], None
                pending.append((condition, node.selection_set))
            elif isinstance(node, FieldNode) and node.name.value in one.fields:
                yield one, node
                if node.selection_set:
                    inner = base_name(one.fields[node.name.value].type)
                    pending.append((inner, node.selection_set))


def _check_arguments(state: State, needed: _Needed) -> None:
    where = element(f"{needed.owner}.{needed.name}")
    for one, node in _selected(state, needed.parent, needed.selection):
        if node is None:
            continue
        field = one.fields[node.name.value]
        given = {argument.name.value for argument in node.arguments or ()}
        path = element(f"{one.name}.{field.name}")
        for name in sorted(given - field.arguments.keys()):
            message = (
                f'@requires of {where} gives argument "{name}" of {path}, not in all subgraphs'
            )
            state.error("REQUIRES_INVALID_FIELDS", message, [needed.index])
        for argument in field.arguments.values():
            mandatory = argument.type.endswith("!") and not argument.has_default
            if mandatory and argument.name not in given:
                message = f'@requires of {where} lacks argument "{argument.name}" of {path}'
                state.error("REQUIRES_INVALID_FIELDS", message, [needed.index])


def _check_access(state: State, needed: _Needed) -> None:
    owner = state.merged.types[needed.owner]
    field = owner.fields.get(needed.name)
    own = [owner.marks] + ([field.marks] if field else [])
    setter = state.merged.types.get(needed.parent, owner)
    if not all(_covers(state, own, [setter.marks], name) for name in ACCESS):
        _report_access(state, needed, setter.name)
        return
    for one, node in _selected(state, needed.parent, needed.selection):
        if node is None:
            wanted, what = [one.marks], one.name
        else:
            selected = one.fields[node.name.value]
            result = state.merged.types.get(base_name(selected.type))
            wanted = [selected.marks] + ([result.marks] if result else [])
            what = f"{one.name}.{selected.name}"
        if not all(_covers(state, own, wanted, name) for name in ACCESS):
            _report_access(state, needed, what)
            return


def _report_access(state: State, needed: _Needed, what: str) -> None:
    state.error(
        "MISSING_TRANSITIVE_AUTH_REQUIREMENTS",
        f"{element(f'{needed.owner}.{needed.name}')} does not ask for the access that "
        f"{element(what)}, in its @{needed.directive}, asks for",
        [needed.index],
    )


def _covers(state: State, own: list[list[Mark]], wanted: list[list[Mark]], name: str) -> bool:
    have = [mark for marks in own if (mark := state.merged.named(marks, name)) is not None]
    need = [mark for marks in wanted if (mark := state.merged.named(marks, name)) is not None]
    argument = ACCESS[name]
    if argument is None:
        return bool(have) or not need
    terms = [_terms(mark, argument) for mark in have]
    return all(any(_implies(mine, _terms(mark, argument)) for mine in terms) for mark in need)


def _terms(mark: Mark, argument: str) -> Condition:
    value = mark.arguments.get(argument) or []
    return frozenset(frozenset(map(str, term)) for term in value)


def _implies(mine: Condition, theirs: Condition) -> bool:
    """Whether every way to satisfy one satisfies the other."""
    if len(mine) * len(theirs) > MOST_COMPARED:
        raise TooLarge("access conditions too large to compare")
    return not theirs or all(any(other <= term for other in theirs) for term in mine)
