"""Composition: subgraph SDLs into a supergraph SDL, or coded errors. Pure.

The stages, each only where the one before found nothing wrong: every subgraph by itself, merging,
rules on the result, satisfiability.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from gateway.federation.composition.loading import load_all
from gateway.federation.composition.merged import TooLarge
from gateway.federation.composition.merging import merge
from gateway.federation.composition.names import check_names
from gateway.federation.composition.printing import print_supergraph
from gateway.federation.composition.result_rules import check_result
from gateway.federation.composition.satisfiability import check_satisfiability
from gateway.federation.composition.subgraph import Subgraph
from gateway.federation.errors import CompositionError, Hint


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
    """Compose (name, URL, SDL) of each subgraph; the order of the subgraphs does not matter.

    Raises:
        CompositionFailed: with the coded errors of one stage. The codes are Apollo's; one more,
            COMPOSITION_TOO_LARGE, stands for limits of ours.
    """
    errors = check_names([name for name, _, _ in subgraphs])
    if errors:
        raise CompositionFailed(errors)
    with _uncollected():
        loaded, errors = load_all(subgraphs)
        if errors:
            raise CompositionFailed(errors)
        return compose_loaded(loaded)


_composing = 0
_lock = Lock()


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: it would walk millions of living nodes again and again.

    Composition leaves next to no cycles, and its input is bounded, so nothing piles up. Where the
    process collects on its own terms (collection is off already) nothing is changed.
    """
    global _composing, _resume  # noqa: PLW0603 - the collector is the process's, so is this.
    with _lock:
        if _composing == 0:
            _resume = gc.isenabled()
            gc.disable()
        _composing += 1
    try:
        yield
    finally:
        with _lock:
            _composing -= 1
            if _composing == 0 and _resume:
                gc.enable()


_resume = False


def compose_loaded(subgraphs: Sequence[Subgraph], *, satisfiable: bool = True) -> Composed:
    """Compose subgraphs that are valid by themselves, as `load_all` gives them.

    `satisfiable=False` leaves the last stage out: every field has its place, not yet its path.
    """
    try:
        state = merge(subgraphs)
        if not state.errors:
            check_result(state)
    except TooLarge as error:
        limit = CompositionError("COMPOSITION_TOO_LARGE", f"The supergraph would need {error}")
        raise CompositionFailed([limit]) from error
    if state.errors:
        raise CompositionFailed(state.errors, state.hints)
    sdl = print_supergraph(state.merged)
    hints = list(state.hints)
    if satisfiable:
        errors, more = check_satisfiability(state.merged)
        if errors:
            raise CompositionFailed(errors, hints)
        hints += more
    return Composed(sdl, tuple(hints))
