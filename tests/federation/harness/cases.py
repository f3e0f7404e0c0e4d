"""What a federation is: its subgraphs, its data, and the questions asked of it."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.federation.composition import compose
from tests.federation.harness.world import World

SUPERGRAPHS = Path(__file__).parents[1] / "supergraphs"

_IMPORTS = (
    '"@key", "@requires", "@provides", "@external", "@shareable", "@override", "@inaccessible",'
    ' "@interfaceObject", "@extends", "@tag"'
)
V2 = f'extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: [{_IMPORTS}])\n'
V27 = V2.replace("v2.3", "v2.7")

MONOLITH = object()
"""The expected data is whatever one schema over the same data answers."""


@dataclass(frozen=True)
class Case:
    """One operation: what it must answer and how many subgraph requests it may take.

    `data` beside MONOLITH is written out. `errors`: whether there are any; `paths` their paths.
    `refused`: the operation is not valid, no subgraph may be asked. `monolith`: whether the
    answer also equals the monolith's. `labels` are active labels of progressive override.
    """

    name: str
    query: str
    data: Any = MONOLITH
    requests: int = 1
    variables: Mapping[str, Any] = field(default_factory=dict)
    errors: bool = False
    paths: tuple[tuple[str | int, ...], ...] = ()
    refused: bool = False
    monolith: bool = True
    operation: str | None = None
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Federation:
    """Subgraphs by name, a factory of their common data, and cases."""

    name: str
    subgraphs: Mapping[str, str]
    world: Callable[[], World]
    cases: tuple[Case, ...]
    random: bool = True  # fit for random queries: they all have plans, and no errors
    by_hand: str = ""  # why its supergraph is kept as text and not composed

    @property
    def supergraph(self) -> str:
        """The SDL of the supergraph: our composition's, or a text where that would refuse."""
        if self.by_hand:
            return (SUPERGRAPHS / f"{self.name}.graphql").read_text("utf-8")
        return _composed(tuple(self.subgraphs.items()))


@functools.cache
def _composed(subgraphs: tuple[tuple[str, str], ...]) -> str:
    return compose([(name, f"http://{name}.test/graphql", sdl) for name, sdl in subgraphs]).sdl
