"""`join__directive`: directives kept with the graphs they stand in, not merged: `@cacheTag`."""

from collections.abc import Mapping
from typing import Any

from gateway.federation.composition.features import every_application
from gateway.federation.composition.marks import literal_arguments
from gateway.federation.composition.merged import Mark, Symbol, frozen
from gateway.federation.composition.state import APOLLO, State
from gateway.federation.composition.subgraph import Applied, Link


def join_marks(state: State, sources: Mapping[int, list[Applied]]) -> list[Mark]:
    """The `join__directive`s of one element: one for all graphs that say the same."""
    found: dict[Any, tuple[dict[str, Any], list[Symbol]]] = {}
    for index, directives in sources.items():
        for applied in directives:
            if _is_kept(applied):
                arguments = literal_arguments(applied)
                entry = found.setdefault(frozen(arguments), (arguments, []))
                entry[1].append(Symbol(state.graph(index)))
    name = "federation__cacheTag"
    return [
        Mark("join__directive", {"graphs": graphs, "name": name, "args": arguments})
        for arguments, graphs in found.values()
    ]


def add_joined_links(state: State) -> None:
    """Link the spec of what `join__directive` keeps."""
    if any(
        _is_kept(applied) for subgraph in state.subgraphs for applied in every_application(subgraph)
    ):
        link = Link(f"{APOLLO}cacheTag", "cacheTag", (0, 1), "cacheTag", purpose="EXECUTION")
        state.merged.links.append(link)


def _is_kept(applied: Applied) -> bool:
    return applied.name == "cacheTag" and applied.identity == f"{APOLLO}federation"
