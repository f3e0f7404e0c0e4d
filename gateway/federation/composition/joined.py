"""`join__directive`: directives kept with the graphs they stand in, not merged.

They are those of the connect spec and `@cacheTag`.
"""

from collections.abc import Mapping
from typing import Any

from gateway.federation.composition.features import every_application
from gateway.federation.composition.links import value
from gateway.federation.composition.marks import literal_arguments
from gateway.federation.composition.merged import Mark, Symbol, frozen
from gateway.federation.composition.state import APOLLO, State
from gateway.federation.composition.subgraph import Applied, Link

_CONNECT = f"{APOLLO}connect"
_FEDERATION = f"{APOLLO}federation"


def join_marks(state: State, sources: Mapping[int, list[Applied]]) -> list[Mark]:
    """The `join__directive`s of one element."""
    found: dict[Any, tuple[str, dict[str, Any], list[Symbol]]] = {}
    for index, directives in sources.items():
        for applied in directives:
            if applied.identity == _CONNECT:
                name = applied.node.name.value if applied.node is not None else applied.name
            elif applied.identity == _FEDERATION and applied.name == "cacheTag":
                name = "federation__cacheTag"
            elif applied.identity == f"{APOLLO}link" and applied.name == "link":
                if applied.node is None or not _connects(value(applied.node, "url")):
                    continue
                name = "link"
            else:
                continue
            arguments = literal_arguments(applied)
            entry = found.setdefault((name, frozen(arguments)), (name, arguments, []))
            entry[2].append(Symbol(state.graph(index)))
    return [
        Mark("join__directive", {"graphs": graphs, "name": name, "args": arguments})
        for name, arguments, graphs in found.values()
    ]


def _connects(url: object) -> bool:
    return isinstance(url, str) and url.startswith(f"{_CONNECT}/")


def add_joined_links(state: State) -> None:
    """Link the specs of what `join__directive` keeps."""
    if any(link.identity == _CONNECT for one in state.subgraphs for link in one.links):
        state.merged.links.append(Link(_CONNECT, "connect", (0, 3), "connect", purpose="EXECUTION"))
    if any(
        applied.name == "cacheTag" and applied.identity == _FEDERATION
        for subgraph in state.subgraphs
        for applied in every_application(subgraph)
    ):
        state.merged.links.append(
            Link(f"{APOLLO}cacheTag", "cacheTag", (0, 1), "cacheTag", purpose="EXECUTION")
        )
