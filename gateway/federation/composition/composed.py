"""`@composeDirective`: custom directives that subgraphs hand on to the supergraph."""

from gateway.federation.composition.state import State


def merge_composed(state: State) -> None:
    """TODO."""
