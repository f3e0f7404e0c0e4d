"""Definitions of executable directives: those every subgraph defines, where all allow them."""

from gateway.federation.composition.fields import merge_arguments
from gateway.federation.composition.marks import merge_description
from gateway.federation.composition.merged import MergedDirective, element
from gateway.federation.composition.state import State, present_and_absent, who_says_what
from gateway.federation.composition.subgraph import DirectiveDefinition

EXECUTABLE = (
    "QUERY",
    "MUTATION",
    "SUBSCRIPTION",
    "FIELD",
    "FRAGMENT_DEFINITION",
    "FRAGMENT_SPREAD",
    "INLINE_FRAGMENT",
    "VARIABLE_DEFINITION",
)


def merge_executable(state: State) -> None:
    """Merge the directives that clients may write in operations."""
    found: dict[str, dict[int, DirectiveDefinition]] = {}
    for index, subgraph in enumerate(state.subgraphs):
        for name, definition in subgraph.directives.items():
            if any(location in EXECUTABLE for location in definition.locations):
                found.setdefault(name, {})[index] = definition
    for name, sources in found.items():
        if name not in state.merged.directives:
            _merge_one(state, name, sources)


def _merge_one(state: State, name: str, sources: dict[int, DirectiveDefinition]) -> None:
    where = f"@{name}"
    if len(sources) < len(state.subgraphs):
        words = present_and_absent(state, sources, range(len(state.subgraphs)), "defined")
        message = f"Directive {element(where)} is left out of the supergraph: {words}"
        state.hint("INCONSISTENT_EXECUTABLE_DIRECTIVE_PRESENCE", message, sources)
        return
    allowed = {
        index: [place for place in definition.locations if place in EXECUTABLE]
        for index, definition in sources.items()
    }
    locations = [
        place
        for place in next(iter(allowed.values()))
        if all(place in places for places in allowed.values())
    ]
    words = who_says_what(state, {i: f"on {' | '.join(p)}" for i, p in allowed.items()})
    if not locations:
        message = f"Directive {element(where)} has no location common to all subgraphs: {words}"
        state.hint("NO_EXECUTABLE_DIRECTIVE_INTERSECTION", message, sources)
        return
    if any(len(places) > len(locations) for places in allowed.values()):
        message = f"Directive {element(where)} keeps the locations all subgraphs have: {words}"
        state.hint("INCONSISTENT_EXECUTABLE_DIRECTIVE_LOCATIONS", message, sources)
    repeatable = all(definition.repeatable for definition in sources.values())
    if not repeatable and any(definition.repeatable for definition in sources.values()):
        message = f"Directive {element(where)} is repeatable in some subgraphs only: it is not"
        state.hint("INCONSISTENT_EXECUTABLE_DIRECTIVE_REPEATABLE", message, sources)
    state.merged.directives[name] = MergedDirective(
        name,
        merge_arguments(
            state, {index: definition.arguments for index, definition in sources.items()}, where
        ),
        locations,
        repeatable,
        merge_description(state, {i: one.description for i, one in sources.items()}, where),
    )
