"""Composition: subgraph SDLs into a supergraph SDL, or coded errors. Pure.

The stages, each only where the one before found nothing wrong: every subgraph by itself, merging,
rules on the result, satisfiability.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.federation.composition.loading import load_all
from gateway.federation.composition.merging import merge
from gateway.federation.composition.names import check_names
from gateway.federation.composition.printing import print_supergraph
from gateway.federation.composition.result_rules import check_result
from gateway.federation.composition.satisfiability import check_satisfiability
from gateway.federation.composition.subgraph import Subgraph
from gateway.federation.errors import CompositionError, Hint
from gateway.federation.supergraph import Supergraph


@dataclass(frozen=True, slots=True)
class Composed:
    """A supergraph, and what deserves a look."""

    sdl: str
    hints: tuple[Hint, ...] = ()


class CompositionFailed(Exception):
    """The subgraphs make no supergraph: `errors` are all that the failing stage found."""

    def __init__(self, errors: Sequence[CompositionError], hints: Sequence[Hint] = ()) -> None:
        super().__init__("; ".join(f"{error.code}: {error.message}" for error in errors))
        self.errors = tuple(errors)
        self.hints = tuple(hints)


def compose(subgraphs: Sequence[tuple[str, str, str]]) -> Composed:
    """Compose (name, url, SDL) of each subgraph; raises `CompositionFailed` with coded errors."""
    errors = check_names([name for name, _, _ in subgraphs])
    if not errors:
        loaded, errors = load_all(subgraphs)
    if errors:
        raise CompositionFailed(errors)
    return compose_loaded(loaded)


def compose_loaded(subgraphs: Sequence[Subgraph], *, satisfiable: bool = True) -> Composed:
    """Compose subgraphs that are valid by themselves, as `load_all` gives them.

    `satisfiable=False` leaves the last stage out: every field has its place, not yet its path.
    """
    state = merge(subgraphs)
    if not state.errors:
        check_result(state)
    if state.errors:
        raise CompositionFailed(state.errors, state.hints)
    sdl = print_supergraph(state.merged)
    hints = list(state.hints)
    if satisfiable:
        errors, more = check_satisfiability(Supergraph.parse(sdl, to_answer=False))
        if errors:
            raise CompositionFailed(errors, hints)
        hints += more
    return Composed(sdl, tuple(hints))
