"""What can be had at all from where an object is, whatever it costs.

The planner looks for the cheapest way over the same query graph; composition only asks whether
there is one, for every field of every type, so it asks more cheaply, in three steps. A node is
reached *at once* when a key leads to it that the nodes on the way have themselves. It may be
reached *somehow* when the key can be put together from all that is reached: facts proven bottom-up,
where what is being proven counts as not proven yet, until none is added. Between the two decides
the *strict* search of other composers: a key that leads to a subgraph is not put together with help
of that subgraph, and no way uses one key twice. It is bounded; beyond the bound "somehow" will do.
"""

from collections.abc import Iterable

from gateway.federation.graph import TYPENAME, Node, QueryGraph, Wanted, WantedOn, WantedSet

MAX_STRICT = 50_000
"""Keys the strict search may try for one supergraph."""

Fact = tuple[Node, str | None]
"""(node, field): that a field's requirements can be met; (node, None): where calls lead to."""


class Reachability:
    """Reach over one query graph; everything found is kept."""

    def __init__(self, graph: QueryGraph) -> None:
        self.graph = graph
        self.loose = _Loose(graph)
        self.tried = 0
        self._closures: dict[tuple[Node, frozenset[str]], tuple[Node, ...]] = {}
        self._led: dict[tuple[Node, frozenset[str]], tuple[Node, ...]] = {}
        self._usable: dict[tuple[Node, str, frozenset[str]], bool] = {}
        self._texts: dict[WantedSet, frozenset[str]] = {}
        self._busy: set[object] = set()

    def closure(self, node: Node, without: frozenset[str] = frozenset()) -> tuple[Node, ...]:
        """The node and all that entity calls lead to, subgraphs `without` left out."""
        key = (node, without)
        known = self._closures.get(key)
        if known is not None:
            return known
        if key in self._busy:
            return (node,)
        at_once = self._led.get(key) or self._at_once(node, without)
        targets = sum(1 for one in self._targets(node) if one.graph not in without)
        if len(at_once) == targets + 1 or all(
            one in at_once or one.graph in without for one in self.loose.closure(node)
        ):
            found = tuple(at_once)
            self._share(node, found, without)
        else:
            self._busy.add(key)
            found = self._strict(node, without)
            self._busy.discard(key)
        self._closures[key] = found
        return found

    def _share(self, node: Node, found: tuple[Node, ...], without: frozenset[str]) -> None:
        """Nodes reached that lead back at once reach the same."""
        targets = self.graph.targets(node, node.types)
        for other in found:
            key = (other, without)
            if other is node or key in self._led:
                continue
            same = self.graph.targets(other, other.types) is targets
            if same and node in targets and self._led_to((other,), node):
                self._led[key] = found

    def selects(self, node: Node, name: str, without: frozenset[str] = frozenset()) -> bool:
        """Whether a field can be selected at the node, its requirements met from there."""
        move = self.graph.move(node, name)
        if move is None or move.requires is None:
            return move is not None
        key = (node, name, without)
        known = self._usable.get(key)
        if known is not None:
            return known
        if key in self._busy or not self.loose.usable(node, name):
            return False
        self._busy.add(key)
        found = self._all(node, move.requires, without)
        self._busy.discard(key)
        self._usable[key] = found
        return found

    # -- at once

    def _at_once(self, node: Node, without: frozenset[str]) -> tuple[Node, ...]:
        found: dict[Node, None] = {node: None}
        open_ = [one for one in self._targets(node) if one.graph not in without]
        while open_:
            still = [one for one in open_ if not self._led_to(found, one)]
            if len(still) == len(open_):
                break
            left = set(still)
            found.update((one, None) for one in open_ if one not in left)
            open_ = still
        return tuple(found)

    def _targets(self, node: Node) -> Iterable[Node]:
        return (
            one
            for one in self.graph.targets(node, node.types)
            if (one.graph, one.name) != (node.graph, node.name)
        )

    def _led_to(self, sources: Iterable[Node], target: Node) -> bool:
        return any(
            self._local(source, key) for _, key in self.graph.keys(target) for source in sources
        )

    def _local(self, node: Node, wanted: WantedSet) -> bool:
        """Whether a node has all of a key itself."""
        for item in wanted.items:
            if isinstance(item, WantedOn):
                return False
            if item.name == TYPENAME:
                continue
            move = self.graph.move(node, item.name)
            if move is None or move.requires is not None:
                return False
            if item.sub and move.child and not self._local(move.child, item.sub):
                return False
        return True

    # -- strictly

    def _strict(self, node: Node, without: frozenset[str]) -> tuple[Node, ...]:
        found: dict[Node, frozenset[frozenset[str]]] = {node: frozenset()}
        possible = [
            one for one in self.loose.closure(node) if one is not node and one.graph not in without
        ]
        tails = [node]
        for tail in tails:
            for target in possible:
                if target in found or target.graph == tail.graph:
                    continue
                used = self._by_key(tail, target, found[tail], without)
                if used is not None:
                    found[target] = found[tail] | {used}
                    tails.append(target)
        return tuple(found)

    def _by_key(
        self, tail: Node, target: Node, used: frozenset[frozenset[str]], without: frozenset[str]
    ) -> frozenset[str] | None:
        """A key not used before by which a call leads to the target, None without one."""
        for _, key in self.graph.keys(target):
            text = self._text(key)
            if text in used:
                continue
            self.tried += 1
            if self.tried > MAX_STRICT or self._all(tail, key, without | {target.graph}):
                return text
        return None

    def _text(self, wanted: WantedSet) -> frozenset[str]:
        """What a key selects, whatever its order."""
        found = self._texts.get(wanted)
        if found is None:
            found = self._texts[wanted] = frozenset(_lines(wanted, ""))
        return found

    def _all(self, node: Node, wanted: WantedSet, without: frozenset[str]) -> bool:
        return all(self._one(node, item, without) for item in wanted.items)

    def _one(self, node: Node, item: Wanted | WantedOn, without: frozenset[str]) -> bool:
        if isinstance(item, WantedOn):
            seen = (
                self.graph.narrow(node, name, frozenset((name,)))
                for name in sorted(node.types & self.graph.possible(item.on))
            )
            return all(one is not None and self._all(one, item.sub, without) for one in seen)
        for source in self.closure(node, without):
            if self._gives(source, item, without):
                return True
        if not node.abstract or not node.types:
            return False
        each = [self.graph.narrow(node, one, frozenset((one,))) for one in sorted(node.types)]
        return all(one is not None and self._one(one, item, without) for one in each)

    def _gives(self, node: Node, item: Wanted, without: frozenset[str]) -> bool:
        if item.name == TYPENAME:
            return True
        if not self.selects(node, item.name, without):
            return False
        move = self.graph.move(node, item.name)
        child = move.child if move is not None else None
        return item.sub is None or child is None or self._all(child, item.sub, without)


def _lines(wanted: WantedSet, before: str) -> Iterable[str]:
    for item in wanted.items:
        if isinstance(item, WantedOn):
            yield from _lines(item.sub, f"{before}...{item.on} ")
        elif item.sub is None:
            yield f"{before}{item.name}({item.text})"
        else:
            yield from _lines(item.sub, f"{before}{item.name}({item.text}) ")


class _Loose:
    """What may be had somehow: the least set of facts that follow from one another."""

    def __init__(self, graph: QueryGraph) -> None:
        self.graph = graph
        self._reach: dict[Node, dict[Node, None]] = {}
        self._met: set[Fact] = set()
        self._held: set[tuple[Node, WantedSet]] = set()
        self._settled: set[Fact] = set()
        self._touched: dict[Fact, None] = {}
        self._leaned = False
        self._grew = False

    def closure(self, node: Node) -> Iterable[Node]:
        """The node and all nodes that entity calls may lead to from an object seen at it."""
        self._prove((node, None))
        return tuple(self._reach[node])

    def usable(self, node: Node, name: str) -> bool:
        """Whether the requirements of a field of the node may be met from there."""
        fact = (node, name)
        self._prove(fact)
        return fact in self._met

    def _prove(self, fact: Fact) -> None:
        if fact in self._settled:
            return
        if fact in self._touched:
            self._leaned = True
            return
        outermost = not self._touched
        self._touched[fact] = None
        self._expand(fact)
        if not outermost:
            return
        while self._leaned and self._grew:
            self._grew = False
            for each in tuple(self._touched):
                self._expand(each)
        self._settled |= self._touched.keys()
        self._touched = {}
        self._leaned = self._grew = False

    def _expand(self, fact: Fact) -> None:
        node, name = fact
        if name is None:
            self._extend(node)
        elif fact not in self._met:
            move = self.graph.move(node, name)
            if move is not None and move.requires is not None and self._all(node, move.requires):
                self._met.add(fact)
                self._grew = True

    def _extend(self, node: Node) -> None:
        """Add the nodes to which a key leads that can be had from those already reached."""
        reached = self._reach.setdefault(node, {node: None})
        open_ = [
            target
            for target in self.graph.targets(node, node.types)
            if target not in reached and (target.graph, target.name) != (node.graph, node.name)
        ]
        while open_:
            still = []
            for target in open_:
                if any(self._key(reached, key) for _, key in self.graph.keys(target)):
                    reached[target] = None
                    self._grew = True
                else:
                    still.append(target)
            if len(still) == len(open_):
                return
            open_ = still

    def _key(self, reached: Iterable[Node], key: WantedSet) -> bool:
        sources = tuple(reached)
        return all(
            self._on(sources[0], item)
            if isinstance(item, WantedOn)
            else any(self._gives(source, item) for source in sources)
            for item in key.items
        )

    def _all(self, node: Node, wanted: WantedSet) -> bool:
        if (node, wanted) in self._held:
            return True
        held = all(self._one(node, item) for item in wanted.items)
        if held:
            self._held.add((node, wanted))
        return held

    def _gives(self, node: Node, item: Wanted) -> bool:
        """Whether the node itself has a field with all that is wanted below it."""
        if item.name == TYPENAME:
            return True
        move = self.graph.move(node, item.name)
        if move is None or (move.requires is not None and not self.usable(node, item.name)):
            return False
        return item.sub is None or move.child is None or self._all(move.child, item.sub)

    def _one(self, node: Node, item: Wanted | WantedOn) -> bool:
        if isinstance(item, WantedOn):
            return self._on(node, item)
        if any(self._gives(other, item) for other in self._known(node)):
            return True
        if not node.abstract or not node.types:
            return False
        seen = [self.graph.narrow(node, one, frozenset((one,))) for one in sorted(node.types)]
        return all(one is not None and self._one(one, item) for one in seen)

    def _known(self, node: Node) -> Iterable[Node]:
        self._prove((node, None))
        return tuple(self._reach.get(node, (node,)))

    def _on(self, node: Node, item: WantedOn) -> bool:
        """Whether a fragment's fields can be had of all objects it is for."""
        for name in sorted(node.types & self.graph.possible(item.on)):
            seen = self.graph.narrow(node, name, frozenset((name,)))
            if seen is None or not self._all(seen, item.sub):
                return False
        return True
