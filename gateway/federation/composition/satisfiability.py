"""Satisfiability: whether everything a client may ask for can be had, wherever it asks from.

From each root type on, a *place* is a type and the nodes at which the object may be seen there.
At every place each field must be had from one of the nodes, or from where entity calls lead from
it. A place whose nodes include those of one already judged need not be judged: it has more ways.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.federation.composition.merged import Merged, MergedField, MergedType, base_name
from gateway.federation.composition.reachability import Reachability
from gateway.federation.composition.samples import sample_arguments
from gateway.federation.composition.subgraph import Kind
from gateway.federation.composition.unreachable import why_not, why_untyped
from gateway.federation.composition.views import ROOTS, as_supergraph
from gateway.federation.errors import CompositionError, Hint
from gateway.federation.graph import Node, QueryGraph
from gateway.federation.supergraph import Supergraph

MAX_ERRORS = 100
"""More unreachable fields than this say nothing new."""

MAX_PLACES = 200_000
"""A supergraph with more places than this is refused: it would take minutes to judge."""

MAX_LABELS = 8
"""With more override labels than this not each of them is tried by itself."""

COMPOSITE = (Kind.OBJECT, Kind.INTERFACE, Kind.UNION)


@dataclass(frozen=True, slots=True)
class Place:
    """A type seen at some nodes; `via` is the field or fragment that led here from `before`."""

    type: MergedType
    nodes: frozenset[Node]
    before: "Place | None"
    via: str


class Clients:
    """What clients may ask for: the supergraph without what is inaccessible."""

    def __init__(self, merged: Merged) -> None:
        self.types = {
            one.name: one
            for one in merged.types.values()
            if one.kind in COMPOSITE and merged.named(one.marks, "inaccessible") is None
        }
        self._merged = merged
        self._fields: dict[str, list[tuple[MergedField, MergedType | None]]] = {}
        self._possible: dict[str, list[MergedType]] = {}
        for one in self.types.values():
            if one.kind is Kind.OBJECT:
                for name in one.interfaces:
                    self._possible.setdefault(name, []).append(one)

    def fields(self, definition: MergedType) -> list[tuple[MergedField, MergedType | None]]:
        """The fields of a type, each with the type it leads to (None: a leaf)."""
        found = self._fields.get(definition.name)
        if found is None:
            found = self._fields[definition.name] = [
                (field, self.types.get(base_name(field.type)))
                for field in definition.fields.values()
                if self._merged.named(field.marks, "inaccessible") is None
            ]
        return found

    def possible(self, definition: MergedType) -> list[MergedType]:
        """The objects of an abstract type."""
        if definition.kind is Kind.UNION:
            return [self.types[name] for name in definition.members if name in self.types]
        return self._possible.get(definition.name, [])


def check_satisfiability(merged: Merged) -> tuple[list[CompositionError], list[Hint]]:
    """Errors for what cannot be had; hints for shared fields whose runtime types differ."""
    errors: dict[str, CompositionError] = {}
    hints: dict[str, Hint] = {}
    supergraph = as_supergraph(merged)
    clients = Clients(merged)
    for labels in _label_sets(supergraph.labels):
        search = _Search(supergraph, clients, merged, labels)
        try:
            search.run()
        except TooManyPlaces:
            text = f"The supergraph has more than {MAX_PLACES} places to be judged."
            return [CompositionError("SATISFIABILITY_ERROR", text)], []
        errors |= {error.message: error for error in search.errors}
        hints |= {hint.message: hint for hint in search.hints}
    return list(errors.values())[:MAX_ERRORS], list(hints.values())[:MAX_ERRORS]


def _label_sets(labels: frozenset[str]) -> Iterator[frozenset[str]]:
    """Which labels may be active: none, all, each alone, all but each."""
    yield frozenset()
    if labels:
        yield labels
    if 1 < len(labels) <= MAX_LABELS:
        for label in sorted(labels):
            yield frozenset((label,))
            yield labels - {label}


class _Search:
    """One walk over all places, under one set of labels."""

    def __init__(
        self, supergraph: Supergraph, clients: Clients, merged: Merged, labels: frozenset[str]
    ) -> None:
        self.supergraph = supergraph
        self.clients = clients
        self.merged = merged
        self.graph = QueryGraph(supergraph, labels)
        self.reach = Reachability(self.graph)
        self.errors: list[CompositionError] = []
        self.hints: list[Hint] = []
        self.seen: dict[str, list[tuple[frozenset[Node], frozenset[Node]]]] = {}
        self.queue: deque[Place] = deque()
        self.places = 0
        self._ends: dict[tuple[object, ...], tuple[bool, frozenset[Node]]] = {}
        self._around: dict[frozenset[Node], frozenset[Node]] = {}
        self._same: dict[frozenset[Node], frozenset[Node]] = {}

    def run(self) -> None:
        for operation, name in ROOTS.items():
            root = self.clients.types.get(name)
            if root is not None:
                self._visit(Place(root, frozenset(self.graph.roots(name)), None, operation))
        while self.queue and len(self.errors) < MAX_ERRORS:
            place = self.queue.popleft()
            if place.type.kind is Kind.OBJECT:
                self._fields(place)
            else:
                self._types(place)

    def _visit(self, place: Place) -> None:
        nodes = place.nodes
        if place.type.name in (ROOTS["query"], ROOTS["mutation"]):
            # A field may lead back to a root, where every subgraph can be asked.
            nodes = frozenset(self.graph.roots(place.type.name))
            place = Place(place.type, nodes, place.before, place.via)
        if place.type.kind is Kind.OBJECT:
            nodes = self._closure(nodes)
        known = self.seen.setdefault(place.type.name, [])
        stuck = self._stuck(place)
        if any(each <= nodes and stuck <= worse for each, worse in known):
            return
        known.append((nodes, stuck))
        self.places += 1
        if self.places > MAX_PLACES:
            raise TooManyPlaces
        self.queue.append(place)

    # -- the fields of an object

    def _fields(self, place: Place) -> None:
        for field, below in self.clients.fields(place.type):
            found, ends = self._leads(place, field.name, leaf=below is None)
            if not found:
                via = field.name + sample_arguments(self.merged, field)
                self.errors.append(
                    CompositionError(
                        "SATISFIABILITY_ERROR",
                        _message(place, via, leaf=below is None)
                        + why_not(self.reach, place.nodes, place.type.name, field.name),
                        tuple(sorted({node.graph for node in place.nodes})),
                    )
                )
            elif below is not None:
                following = Place(
                    below, ends, place, field.name + sample_arguments(self.merged, field)
                )
                if below.kind is not Kind.OBJECT:
                    self._compare(following, f"{place.type.name}.{field.name}")
                self._visit(following)

    def _closure(self, nodes: frozenset[Node]) -> frozenset[Node]:
        found = self._around.get(nodes)
        if found is None:
            every: set[Node] = set()
            for node in nodes:
                every.update(self.reach.closure(node))
            whole = frozenset(every)
            found = self._around[nodes] = self._same.setdefault(whole, whole)
        return found

    def _stuck(self, place: Place) -> frozenset[Node]:
        """The nodes to which no call led and to which none can come back."""
        if place.type.kind is not Kind.OBJECT:
            return frozenset()
        return frozenset(node for node in place.nodes if not self.reach.returns(node))

    def _leads(self, place: Place, name: str, *, leaf: bool) -> tuple[bool, frozenset[Node]]:
        """Whether a field can be had, and where it leads."""
        around, stuck = self._closure(place.nodes), self._stuck(place)
        key = (around, stuck, name)
        known = self._ends.get(key)
        if known is not None:
            return known
        direct = {node.graph for node in stuck}
        ends: set[Node] = set()
        found = False
        for node in around:
            if self.reach.selects(node, name, direct=node.graph in direct):
                found = True
                if leaf:
                    break
                move = self.graph.move(node, name)
                if move is not None and move.child is not None:
                    ends.add(move.child)
        self._ends[key] = result = (found, frozenset(ends))
        return result

    # -- the types of an abstract one

    def _types(self, place: Place) -> None:
        for definition in self.clients.possible(place.type):
            name = definition.name
            if any(node.abstract and name not in node.types for node in place.nodes):
                continue  # a subgraph that has no such object there can be asked instead
            nodes, untyped = self._narrowed(place.nodes, name)
            if nodes:
                self._visit(Place(definition, nodes, place, f"... on {name}"))
            elif untyped:
                self.errors.append(
                    CompositionError(
                        "SATISFIABILITY_ERROR",
                        _message(place, f"... on {name}", leaf=False)
                        + why_untyped(self.reach, untyped),
                        tuple(sorted({node.graph for node in untyped})),
                    )
                )

    def _narrowed(self, nodes: Iterable[Node], name: str) -> tuple[frozenset[Node], list[Node]]:
        """The nodes seen as one object type; interface objects that cannot learn the type."""
        only = frozenset((name,))
        found: set[Node] = set()
        untyped: list[Node] = []
        for node in nodes:
            if name not in node.types:
                continue
            if not node.blind:
                seen = self.graph.narrow(node, name, only)
                found |= {seen} if seen is not None else set()
                continue
            telling = [one for one in self.reach.closure(node) if one.abstract]
            if not telling:
                untyped.append(node)
            for one in telling:
                if name in one.types:
                    seen = self.graph.narrow(one, name, only)
                    blind = self.graph.narrow(node, name, only)
                    found |= {each for each in (seen, blind) if each is not None}
        return frozenset(found), untyped

    # -- shared fields of abstract types

    def _compare(self, place: Place, where: str) -> None:
        """Subgraphs that share a field must be able to return at least one type in common."""
        types: dict[str, frozenset[str]] = {}
        for node in place.nodes:
            if not node.blind:
                types[node.graph] = types.get(node.graph, frozenset()) | node.types
        if len(set(types.values())) < 2:
            return
        listed = "; ".join(
            f'in subgraph "{graph}", {_quoted(found)}' for graph, found in sorted(types.items())
        )
        graphs = tuple(sorted(types))
        common = frozenset.intersection(*types.values())
        code = (
            "INCONSISTENT_RUNTIME_TYPES_FOR_SHAREABLE_RETURN"
            if common
            else "SHAREABLE_HAS_MISMATCHED_RUNTIME_TYPES"
        )
        what = "different" if common else "a non-intersecting set of"
        text = (
            f'{_example(place, leaf=False)}\nShared field "{where}" return type'
            f' "{place.type.name}" has {what} possible runtime types across subgraphs: {listed}.'
        )
        if common:
            self.hints.append(Hint(code, text, graphs))
        else:
            self.errors.append(CompositionError(code, text, graphs))


class TooManyPlaces(Exception):
    """The supergraph has more places than are judged."""


def _quoted(names: Iterable[str]) -> str:
    ordered = [f'"{name}"' for name in sorted(names)]
    return ("types " if len(ordered) != 1 else "type ") + ", ".join(ordered)


# -- the example query


def _message(place: Place, via: str, *, leaf: bool) -> str:
    return (
        f"{_example(Place(place.type, frozenset(), place, via), leaf=leaf)}\n"
        "cannot be satisfied by the subgraphs because:\n"
    )


def _example(place: Place, *, leaf: bool) -> str:
    """The shortest query that leads to a place, as a client would write it."""
    steps: list[str] = []
    current = place
    while current.before is not None:
        steps.append(current.via)
        current = current.before
    steps.reverse()
    lines = ["{" if current.via == "query" else f"{current.via} {{"]
    for depth, step in enumerate(steps, 1):
        opens = depth < len(steps) or not leaf
        lines.append("  " * depth + step + (" {" if opens else ""))
    depth = len(steps)
    if not leaf:
        lines.append("  " * (depth + 1) + "...")
        depth += 1
    lines += ["  " * closing + "}" for closing in range(depth - 1, -1, -1)]
    return "The following supergraph API query:\n" + "\n".join(lines)
