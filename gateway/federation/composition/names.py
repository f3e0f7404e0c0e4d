"""Names of subgraphs: what they may be called, and what `join__Graph` calls them."""

import re
from collections.abc import Sequence

from gateway.federation.composition.subgraph import Subgraph
from gateway.federation.errors import CompositionError


def check_names(names: Sequence[str]) -> list[CompositionError]:
    """Names that cannot stand: none, the reserved one, the same twice."""
    errors = []
    for place, name in enumerate(names):
        if name == "_" or not name:
            message = f'A subgraph cannot be called "{name}"'
            errors.append(CompositionError("INVALID_SUBGRAPH_NAME", message, (name,)))
        elif name in names[:place]:
            message = f'Two subgraphs are called "{name}"'
            errors.append(CompositionError("INVALID_SUBGRAPH_NAME", message, (name,)))
    return errors


def graph_names(subgraphs: Sequence[Subgraph]) -> dict[str, tuple[str, str]]:
    """The values of `join__Graph`: names in capitals, only letters, digits and `_`, distinct.

    A name that ends like a number added to tell names apart gets a `_` more.
    """
    wanted: dict[str, list[Subgraph]] = {}
    for subgraph in subgraphs:
        name = re.sub(r"[^A-Za-z0-9_]", "_", subgraph.name).upper()
        if name[:1].isdigit():
            name = f"_{name}"
        if re.search(r"_\d+$", name):
            name = f"{name}_"
        wanted.setdefault(name, []).append(subgraph)
    names: dict[str, tuple[str, str]] = {}
    for name, sharing in wanted.items():
        for number, subgraph in enumerate(sharing, 1):
            own = name if len(sharing) == 1 else f"{name}_{number}"
            names[subgraph.name] = (own, subgraph.url)
    return {subgraph.name: names[subgraph.name] for subgraph in subgraphs}
