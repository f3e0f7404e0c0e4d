"""What path search answers with: which way each wanted field is had, and what that costs."""

from dataclasses import dataclass, field

from gateway.federation.graph import Move, Node, Wanted

HOP = 1_000_000
"""The cost of a request. Of choices with as many requests the one wins that has fewer fields
behind requests, then the one that selects fewer fields."""

LOST = HOP // 10
"""The cost of a fragment that no object can be of here; a subgraph that has the type is better."""

APART = HOP // 40
"""The cost of each part of an object that is taken apart; one subgraph's answer is surer."""

IMPOSSIBLE = 1_000_000_000_000_000

Nodes = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Again:
    """A further entity call to the subgraph of a node where the object already is."""

    node: Node


Hop = Node | Again


@dataclass(slots=True, eq=False)
class Reach:
    """That an entity call leads to a node: its own cost, all hops it needs, nodes it starts at."""

    own: int
    total: int
    needs: frozenset[Hop]
    uses: frozenset[Node]


@dataclass(slots=True, eq=False)
class Pick:
    """Where a field is taken from: nodes of the place (or hops from it), and what follows."""

    wanted: Wanted
    sources: tuple[tuple[Node, Move], ...]
    child: "Solution | None"


@dataclass(slots=True, eq=False)
class Narrow:
    """What is taken only of objects of `types`; `nodes` are `base` seen as these."""

    types: frozenset[str]
    base: Nodes
    nodes: Nodes
    solution: "Solution"


@dataclass(slots=True, eq=False)
class Solution:
    """How what is wanted is had. `cost` and `size` (fields) count all below; `missing` is a path
    that fails."""

    nodes: Nodes
    cost: int = 0
    size: int = 0
    picks: list[Pick] = field(default_factory=list)
    narrows: list[Narrow] = field(default_factory=list)
    hops: frozenset[Hop] = frozenset()
    uses: frozenset[Node] = frozenset()
    missing: tuple[str, ...] | None = None

    def fail(self, path: tuple[str, ...]) -> "Solution":
        self.cost = IMPOSSIBLE
        self.missing = path
        return self
