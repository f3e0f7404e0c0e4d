"""Path search: from the nodes an object is seen at, how what is wanted of it can be had.

`Paths.reach` tells which other nodes entity calls lead to. `Paths.solve` picks for every wanted
field the subgraphs it is taken from, so that the whole costs least. Both are remembered per nodes
and fields: the keys' and requirements' for good, a client's as long as its operation.

Composition asks the same questions: `Paths.solve(nodes, WantedSet([...])).missing` is None where
a field can be had from these nodes, and else the response path that fails.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from gateway.federation.graph import (
    TYPENAME,
    Move,
    Node,
    QueryGraph,
    Wanted,
    WantedOn,
    WantedSet,
)
from gateway.federation.solutions import (
    APART,
    HOP,
    IMPOSSIBLE,
    LOST,
    Again,
    Hop,
    Narrow,
    Nodes,
    Pick,
    Reach,
    Solution,
)
from gateway.federation.supergraph import TypeKind

MAX_COMBINATIONS = 128
MAX_UNSURE = 20_000


@dataclass(slots=True, eq=False)
class _Option:
    needs: frozenset[Hop]
    cost: int
    sources: tuple[tuple[Node, Move], ...]
    child: Solution | None
    uses: frozenset[Node]


_NONE: frozenset[Hop] = frozenset()


class Paths:
    """The path search over one query graph."""

    def __init__(self, graph: QueryGraph) -> None:
        self.graph = graph
        self._reach: dict[Nodes, dict[Node, Reach]] = {}
        self._busy: dict[tuple[object, ...], int] = {}
        self._low = IMPOSSIBLE
        self._unsure = 0

    # -- what is remembered

    def solve(self, nodes: Nodes, wanted: WantedSet) -> Solution:
        """The cheapest way found to have all of `wanted` from an object seen at `nodes`."""
        found = wanted.memory.get(nodes)
        if isinstance(found, Solution):
            return found
        key = (nodes, wanted)
        if key in self._busy:
            self._low = min(self._low, self._busy[key])
            return Solution(nodes).fail(())
        outer, depth = self._enter(key)
        solution = _Solving(self, nodes, wanted).solve()
        if self._leave(key, outer, depth):
            wanted.memory[nodes] = solution
        return solution

    def solve_root(self, name: str, wanted: WantedSet) -> Solution:
        """The same for a root type, where every subgraph that has it can be asked."""
        roots = {one: Reach(HOP, HOP, _NONE, frozenset()) for one in self.graph.roots(name)}
        return _Solving(self, (), wanted, roots).solve()

    def reach(self, nodes: Nodes) -> dict[Node, Reach]:
        """The nodes that entity calls lead to from an object seen at `nodes`, cheapest first."""
        found = self._reach.get(nodes)
        if found is not None:
            return found
        key = (nodes,)
        if key in self._busy:
            self._low = min(self._low, self._busy[key])
            return {}
        outer, depth = self._enter(key)
        reached = self._search(nodes)
        if self._leave(key, outer, depth):
            self._reach[nodes] = reached
        return reached

    def _enter(self, key: tuple[object, ...]) -> tuple[int, int]:
        outer, depth = self._low, len(self._busy)
        self._busy[key] = depth
        self._low = IMPOSSIBLE
        return outer, depth

    def _leave(self, key: tuple[object, ...], outer: int, depth: int) -> bool:
        """Whether the result may be kept: it did not lean on a question still open above it."""
        del self._busy[key]
        sure = self._low >= depth
        if not sure:
            self._unsure += 1
        self._low = min(outer, IMPOSSIBLE if sure else self._low)
        return sure or self._unsure > MAX_UNSURE

    # -- entity calls

    def _search(self, nodes: Nodes) -> dict[Node, Reach]:
        types = common_types(nodes)
        held = {(one.graph, one.name) for one in nodes}
        targets = [
            one
            for one in dict.fromkeys(
                target for node in nodes for target in self.graph.targets(node, types)
            )
            if (one.graph, one.name) not in held
        ]
        reached = self._roots_again(nodes, types)
        changed = bool(targets)
        while changed:
            changed = False
            for target in targets:
                best = self.call(nodes, target, reached)
                known = reached.get(target)
                if best is not None and (known is None or best.total < known.total):
                    reached[target] = best
                    changed = True
        return dict(sorted(reached.items(), key=lambda one: one[1].total))

    def _roots_again(self, nodes: Nodes, types: frozenset[str]) -> dict[Node, Reach]:
        """Where a field has led back to the root type any subgraph that has it can be asked."""
        held, here = {one.graph for one in nodes}, frozenset(nodes[:1])
        return {
            one: Reach(HOP, HOP, _NONE, here)
            for one in self.graph.again(types)
            if one.graph not in held
        }

    def call(self, nodes: Nodes, target: Node, reached: dict[Node, Reach]) -> Reach | None:
        """The cheapest key for an entity call to `target`, from `nodes` or what is reached."""
        best: Reach | None = None
        for _, key in self.graph.keys(target, again=target in nodes):
            one = self._by_key(nodes, target, key, reached)
            if one is not None and (best is None or one.total < best.total):
                best = one
        return best

    def _by_key(
        self, nodes: Nodes, target: Node, key: WantedSet, reached: dict[Node, Reach]
    ) -> Reach | None:
        own, extra = HOP, 0
        needs: frozenset[Hop] = _NONE
        uses: frozenset[Node] = frozenset()
        for item in key.items:
            if isinstance(item, WantedOn):
                return None
            if item.name == TYPENAME:
                continue
            found = self._supply(nodes, target, item, reached)
            if found is None:
                return None
            cost, source, how = found
            own += 1 + cost
            if how is not None and source not in needs:
                extra = max(extra, how.total)
                needs |= how.needs | {source}
                uses |= how.uses
            elif how is None:
                uses |= {source}
        return Reach(own, own + extra, needs, uses)

    def _supply(
        self, nodes: Nodes, target: Node, item: Wanted, reached: dict[Node, Reach]
    ) -> tuple[int, Node, Reach | None] | None:
        """Where a key's field comes from: cost below it, the node, how that was reached."""
        best: tuple[int, Node, Reach | None] | None = None
        lowest = IMPOSSIBLE
        for source, how in (
            *((one, None) for one in nodes),
            *((one, how) for one, how in reached.items() if one is not target),
        ):
            move = self.graph.move(source, item.name)
            if move is None or move.requires is not None:
                continue
            if how is not None and target in how.needs:
                continue
            below = self._below((move.child,), item.sub) if move.child and item.sub else 0
            cost = below + (how.total if how else 0)
            if cost < lowest:
                lowest, best = cost, (below, source, how)
        return best

    def _below(self, nodes: Nodes, wanted: WantedSet) -> int:
        return self.solve(nodes, wanted).cost


def common_types(nodes: Sequence[Node]) -> frozenset[str]:
    """The runtime types an object can have that is seen at all of `nodes`."""
    types = nodes[0].types
    for one in nodes[1:]:
        types &= one.types
    return types


class _Solving:
    """One question to `Paths.solve`: what is wanted of one object."""

    def __init__(
        self,
        paths: Paths,
        nodes: Nodes,
        wanted: WantedSet,
        roots: dict[Node, Reach] | None = None,
    ) -> None:
        self.paths = paths
        self.roots = roots
        self.graph = paths.graph
        self.nodes = nodes
        self.wanted = wanted
        self.types = common_types(nodes) if nodes else frozenset[str]()
        self.sighted = [one for one in nodes if not one.blind]
        self.solution = Solution(nodes)
        self.parts: list[WantedOn] = []
        self.pending: list[tuple[Wanted, list[_Option]]] = []
        self.spread: list[Wanted] = []

    def solve(self) -> Solution:
        for item in self._fields(self.wanted.items):
            if not self._take(item):
                options = self._options(item)
                if options:
                    self.pending.append((item, options))
                elif self.roots is None and (len(self.types) > 1 or not self.sighted):
                    self.spread.append(item)
                else:
                    return self._fail(item)
        if self.pending:
            self._assign()
        if self.parts or self.spread:
            self._narrow()
        return self.solution

    def _fields(self, items: Iterable[Wanted | WantedOn]) -> Iterator[Wanted]:
        """The fields for every object here; what is for some only becomes `parts`."""
        for item in items:
            if isinstance(item, Wanted):
                yield item
                continue
            cover = self.types & self.graph.possible(item.on)
            if cover == self.types and not self._sharper(item.on):
                yield from self._fields(item.sub.items)
            elif cover:
                self.parts.append(item)
            elif any(one.here.kind is TypeKind.INTERFACE for one in self.nodes):
                self.solution.cost += LOST

    def _sharper(self, on: str) -> bool:
        """Whether an object type tells more of its fields than the abstract type we are at."""
        return on in self.types and any(one.abstract for one in self.sighted)

    def _fail(self, item: Wanted) -> Solution:
        key = item.key or item.name
        deepest: tuple[str, ...] = ()
        for node in (*self.nodes, *self._reach()):
            move = self.graph.move(node, item.name)
            if move is not None and move.child is not None and item.sub is not None:
                missing = self.paths.solve((move.child,), item.sub).missing or ()
                deepest = max(deepest, missing, key=len)
        return self.solution.fail((key, *deepest))

    def _add(self, pick: Pick, cost: int, uses: Iterable[Node]) -> None:
        self.solution.picks.append(pick)
        self.solution.cost += cost
        self.solution.size += 1 + (pick.child.size if pick.child is not None else 0)
        self.solution.uses = self.solution.uses.union(uses)

    # -- fields that are here

    def _take(self, item: Wanted) -> bool:
        """Pick a field that a node here has, if all below it needs no request."""
        for node in self.nodes:
            move = self.graph.move(node, item.name)
            if move is None or move.requires is not None:
                continue
            if move.child is None or item.sub is None:
                self._add(Pick(item, ((node, move),), None), 1, (node,))
                return True
            child = self.paths.solve((move.child,), item.sub)
            if child.cost < HOP:
                self._add(Pick(item, ((node, move),), child), 1 + child.cost, (node,))
                return True
        return False

    # -- fields to choose a way for

    def _options(self, item: Wanted) -> list[_Option]:
        moves: list[tuple[Node, Move, frozenset[Hop], frozenset[Node]]] = []
        for node in self.nodes:
            move = self.graph.move(node, item.name)
            if move is not None:
                moves.append((node, move, _NONE, frozenset((node,))))
        for node, how in self._reach().items():
            move = self.graph.move(node, item.name)
            if move is not None:
                moves.append((node, move, how.needs | {node}, how.uses))
        options = [one for each in moves for one in self._option(item, *each)]
        if len(moves) > 1 and item.sub is not None:
            options.extend(self._split(item, moves))
        return options

    def _reach(self) -> dict[Node, Reach]:
        return self.roots if self.roots is not None else self.paths.reach(self.nodes)

    def _option(
        self,
        item: Wanted,
        node: Node,
        move: Move,
        needs: frozenset[Hop],
        uses: frozenset[Node],
    ) -> Iterator[_Option]:
        cost = 1
        child: Solution | None = None
        if move.child is not None and item.sub is not None:
            child = self.paths.solve((move.child,), item.sub)
            cost += child.cost
        if cost >= IMPOSSIBLE:
            return
        if needs:
            cost += 1 + (child.size if child is not None else 0)
        if move.requires is not None:
            if self.roots is not None:
                return
            required = self.paths.solve(self.nodes, move.requires)
            if required.cost >= IMPOSSIBLE:
                return
            hops = required.hops
            cost += max(0, required.cost - HOP * len(hops))
            uses |= required.uses
            if node in self.nodes:
                found = self.paths.call(self.nodes, node, self._reach())
                if found is None:
                    return
                needs |= found.needs | {Again(node)}
            elif node in hops:
                needs |= {Again(node)}
            needs |= hops
        yield _Option(needs, cost, ((node, move),), child, uses)

    def _split(
        self,
        item: Wanted,
        moves: list[tuple[Node, Move, frozenset[Hop], frozenset[Node]]],
    ) -> Iterator[_Option]:
        """Take parts of a field's object from several subgraphs."""
        assert item.sub is not None
        ways = {
            one[1].child: one
            for one in reversed(moves)
            if one[1].child is not None and one[1].requires is None
        }
        if len(ways) < 2:
            return
        children = tuple(reversed([one for one in ways if one is not None]))
        solution = self.paths.solve(children, item.sub)
        if solution.cost >= IMPOSSIBLE:
            return
        used = tuple(one for one in children if one in solution.uses)
        if 0 < len(used) < len(children):
            again = self.paths.solve(used, item.sub)
            if again.cost <= solution.cost:
                solution, children = again, used
        needs, uses = _NONE, frozenset[Node]()
        for one in children:
            needs |= ways[one][2]
            uses |= ways[one][3]
        sources = tuple((ways[one][0], ways[one][1]) for one in children)
        yield _Option(needs, solution.cost + APART * len(sources), sources, solution, uses)

    def _assign(self) -> None:
        """One option for each pending field, so that all hops together cost least."""
        groups: dict[tuple[tuple[frozenset[Hop], int], ...], list[int]] = {}
        for index, (_, options) in enumerate(self.pending):
            base = min(one.cost for one in options)
            signature = tuple((one.needs, one.cost - base) for one in options)
            groups.setdefault(signature, []).append(index)
        signatures = sorted(groups, key=len)
        chosen = self._choose(signatures)
        hops: frozenset[Hop] = _NONE
        picked: dict[int, _Option] = {}
        for signature, which in zip(signatures, chosen, strict=True):
            hops |= signature[which][0]
            for index in groups[signature]:
                picked[index] = self.pending[index][1][which]
        for index, (item, _) in enumerate(self.pending):
            option = picked[index]
            self._add(Pick(item, option.sources, option.child), option.cost, option.uses)
        self.solution.hops |= hops
        self.solution.cost += self._cost(hops)

    def _choose(self, signatures: list[tuple[tuple[frozenset[Hop], int], ...]]) -> Sequence[int]:
        count = 1
        for one in signatures:
            count *= len(one)
        if count == 1:
            return [0] * len(signatures)
        if count <= MAX_COMBINATIONS:
            return min(
                product(*(range(len(one)) for one in signatures)),
                key=lambda each: self._total(signatures, each),
            )
        chosen: list[int] = []
        for _ in range(2):
            for index, signature in enumerate(signatures):
                rest = [
                    (signatures[other], which)
                    for other, which in enumerate(chosen)
                    if other != index
                ]
                active = _NONE.union(*(each[which][0] for each, which in rest))
                best = min(
                    range(len(signature)),
                    key=lambda one: self._cost(signature[one][0] - active) + signature[one][1],
                )
                if index < len(chosen):
                    chosen[index] = best
                else:
                    chosen.append(best)
        return chosen

    def _total(
        self,
        signatures: list[tuple[tuple[frozenset[Hop], int], ...]],
        chosen: Sequence[int],
    ) -> int:
        hops: frozenset[Hop] = _NONE
        total = 0
        for signature, which in zip(signatures, chosen, strict=True):
            hops |= signature[which][0]
            total += signature[which][1]
        return total + self._cost(hops)

    def _cost(self, hops: Iterable[Hop]) -> int:
        reach = self._reach()
        total = 0
        for one in hops:
            known = reach.get(one) if isinstance(one, Node) else None
            total += known.own if known is not None else HOP
        return total

    # -- what only some of the objects here have

    def _narrow(self) -> None:
        """Solve what is wanted of some runtime types, where the runtime type is known."""
        if len(self.sighted) > 1 and not self._one_knows_all():
            self.solution.fail(self._first())
            return
        if self.sighted:
            self._narrow_from(self.nodes)
            return
        best: Solution | None = None
        failed: tuple[str, ...] = ()
        before = self.solution
        for node, how in self._reach().items():
            if node.blind:
                continue
            hops = how.needs | {node}
            tried = Solution(
                self.nodes,
                before.cost + self._cost(hops - before.hops),
                before.size,
                list(before.picks),
                [],
                before.hops | hops,
                before.uses | how.uses,
            )
            self.solution = tried
            self._narrow_from((*self.nodes, node))
            if tried.cost >= IMPOSSIBLE:
                failed = tried.missing or ()
            elif best is None or tried.cost < best.cost:
                best = tried
        self.solution = best if best is not None else before.fail(failed or self._first())

    def _one_knows_all(self) -> bool:
        """Whether one view alone leads to the interface's own leaves, for every type.

        Where an object is taken apart, an interface's field is not put together of what one
        subgraph has for one type and another for another: none of them has the field.
        """
        leaves = [one for one in self.spread if one.sub is None]
        if not leaves:
            return True
        wanted = self.wanted.combined(leaves)
        return any(all(self._had(node, one, wanted) for one in self.types) for node in self.sighted)

    def _had(self, node: Node, name: str, wanted: WantedSet) -> bool:
        narrowed = self.graph.narrow(node, name, frozenset((name,)))
        return narrowed is not None and self.paths.solve((narrowed,), wanted).missing is None

    def _first(self) -> tuple[str, ...]:
        for item in self.spread:
            return (item.key or item.name,)
        return ()

    def _narrow_from(self, base: Nodes) -> None:
        types = common_types(base)
        if not self.spread:
            for part in self.parts:
                cover = types & self.graph.possible(part.on)
                if cover and not self._narrow_to(base, part.on, cover, part.sub):
                    for one in sorted(cover):
                        self._narrow_to(base, one, frozenset((one,)), part.sub)
            return
        for items, group in self._alike(types):
            wanted = self.wanted.combined(items)
            together = frozenset(group)
            if 1 < len(group) < len(types) and self._narrow_like(base, together, wanted):
                continue
            for one in group:
                self._narrow_to(base, one, frozenset((one,)), wanted)

    def _alike(self, types: frozenset[str]) -> Iterable[tuple[list[Wanted | WantedOn], list[str]]]:
        """Object types of which the same is wanted, and that have it in the same way."""
        alike: dict[object, tuple[list[Wanted | WantedOn], list[str]]] = {}
        names = [one.name for one in self.spread]
        for one in sorted(types):
            items: list[Wanted | WantedOn] = list(self.spread)
            for part in self.parts:
                if one in self.graph.possible(part.on):
                    items.extend(part.sub.items)
            key = (tuple(map(id, items)), self.graph.likeness(one, names))
            alike.setdefault(key, (items, []))[1].append(one)
        return alike.values()

    def _narrow_like(self, base: Nodes, types: frozenset[str], wanted: WantedSet) -> bool:
        """Solve `wanted` for object types that are alike, all at once."""
        name = next(one.name for one in base if not one.blind)
        return self._narrow_to(base, name, types, wanted)

    def _narrow_to(self, base: Nodes, on: str, types: frozenset[str], wanted: WantedSet) -> bool:
        """Solve `wanted` for objects of `types`; False where it must be done type by type."""
        pairs = [(one, self.graph.narrow(one, on, types)) for one in base]
        nodes = tuple(seen for _, seen in pairs if seen is not None)
        if not any(not one.blind for one in nodes):
            return types == {on}
        solution = self.paths.solve(nodes, wanted)
        if solution.cost >= IMPOSSIBLE:
            if len(types) > 1:
                return False
            self.solution.fail(solution.missing or ())
            return True
        kept = tuple(one for one, seen in pairs if seen is not None)
        self.solution.narrows.append(Narrow(types, kept, nodes, solution))
        self.solution.cost += solution.cost
        self.solution.size += solution.size
        uses = (one for one, seen in pairs if seen in solution.uses and one in self.nodes)
        self.solution.uses = self.solution.uses.union(uses)
        return True
