"""`@inaccessible`."""

from gateway.federation.composition.state import State


def check_inaccessible(state: State) -> None:
    """TODO."""
