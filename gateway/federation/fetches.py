"""From chosen paths to fetches: who is asked what, which fetch waits for which.

A `Place` is a place of the merged tree, perhaps narrowed to some runtime types. An `Arrival` is a
subgraph's view of the objects there: a selection in some `Group`, which becomes one fetch or one
entity call of a batch. What keys and requirements need is selected beside what the client wants;
where the client selects it anyway, that is used.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from graphql import ValueNode

from gateway.federation.errors import NoPlan
from gateway.federation.graph import TYPENAME, Move, Node, QueryGraph, Wanted, WantedSet
from gateway.federation.operation import OperationKind
from gateway.federation.paths import Paths
from gateway.federation.plan import Input, Path, Step
from gateway.federation.solutions import IMPOSSIBLE, Narrow, Pick, Solution

MAX_ENTRIES = 20_000
"""Selected fields of one plan: a query that needs more is refused."""


@dataclass(slots=True, eq=False)
class Entry:
    """A field selected in a subgraph; `into` is its key in the merged tree."""

    name: str
    into: str | None
    text: str
    arguments: tuple[tuple[str, ValueNode], ...]
    variables: frozenset[str]
    type: str
    key: str = ""
    builder: "Builder | None" = None


class Builder:
    """A selection set of a subgraph's operation while it grows."""

    __slots__ = ("entries", "fragments")

    def __init__(self) -> None:
        self.entries: dict[tuple[str | None, str, str], Entry] = {}
        self.fragments: dict[tuple[str, frozenset[str]], Builder] = {}

    def fragment(self, on: str, types: frozenset[str]) -> "Builder":
        """The selections within `... on on`, for objects of `types`."""
        found = self.fragments.get((on, types))
        if found is None:
            found = self.fragments[on, types] = Builder()
        return found


@dataclass(slots=True, eq=False)
class Group:
    """A fetch that may still be batched with others; `place` is None for a root fetch.

    With `again` it asks the root type anew, where a field has led back to it.
    `needed` are inputs of the key, `required` those that fields require and that their subgraph
    takes for never null. While all its fields require something (it is not `plain`), an object
    without these is not asked for.
    """

    service: str
    kind: OperationKind
    place: "Place | None"
    target: Node
    typename: str | None = None
    inputs: tuple[Input, ...] = ()
    needed: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    plain: bool = False
    again: bool = False
    after: set["Group"] = field(default_factory=set)
    builder: Builder = field(default_factory=Builder)


class Waiting(Protocol):
    """What is sent after others have answered."""

    @property
    def after(self) -> Iterable[Any]: ...


def waits_for(one: Waiting, other: Waiting) -> bool:
    """Whether one is the other or needs its answer, directly or not."""
    seen: set[Waiting] = set()
    stack = [one]
    while stack:
        each = stack.pop()
        if each is other:
            return True
        if each not in seen:
            seen.add(each)
            stack.extend(each.after)
    return False


@dataclass(slots=True, eq=False)
class Arrival:
    """Where a subgraph's fields for the objects of a place are selected."""

    node: Node
    group: Group
    parent: "Arrival | None" = None
    made: Builder | None = None
    entity: bool = False

    @property
    def builder(self) -> Builder:
        """The selection set, made when something is selected in it."""
        if self.made is None:
            assert self.parent is not None
            self.made = self.parent.builder.fragment(self.node.name, self.node.types)
        return self.made


class Place:
    """A place of the merged tree; `base` is the place that this one narrows to `types`."""

    __slots__ = (
        "arrivals",
        "base",
        "calls",
        "children",
        "known",
        "on",
        "path",
        "selected",
        "types",
    )

    def __init__(self, path: Path, base: "Place | None" = None) -> None:
        self.path = path
        self.base = base
        self.on = ""
        self.types: frozenset[str] | None = None
        self.arrivals: dict[Node, Arrival] = {}
        self.calls: dict[Node, list[Group]] = {}
        self.children: dict[tuple[str, str, str], Place] = {}
        self.selected: dict[tuple[str, str, Group], tuple[str, Place | None]] = {}
        self.known: Group | None = None

    def lookup(self, name: str, text: str, group: Group) -> tuple[str, "Place | None"] | None:
        """Under which key a group already selects a field for all objects of this place."""
        place: Place | None = self
        while place is not None:
            found = place.selected.get((name, text, group))
            if found is not None:
                return found
            place = place.base
        return None


Supply = tuple[list[Input], set[Group]]


class Fetches:
    """Builds the groups of one plan from solutions."""

    def __init__(self, graph: QueryGraph, paths: Paths) -> None:
        self.graph = graph
        self.paths = paths
        self.groups: list[Group] = []
        self.calling: set[tuple[Place, Node]] = set()
        self.count = 0

    def root(self, kind: OperationKind, solution: Solution) -> None:
        """Add the fetches for a solution at a root type."""
        self.commit(Place(()), solution, kind)

    # -- solutions

    def commit(self, place: Place, solution: Solution, kind: OperationKind | None = None) -> Supply:
        """Select all a solution picks; gives it as inputs, and the groups that supply it."""
        inputs: list[Input] = []
        groups: set[Group] = set()
        later: list[Pick] = []
        for pick in solution.picks:
            here = all(
                node in place.arrivals and move.requires is None for node, move in pick.sources
            )
            if here:
                self._pick(place, pick, inputs, groups)
            else:
                later.append(pick)
        later.sort(key=lambda one: any(move.requires is not None for _, move in one.sources))
        for pick in later:
            if kind is not None:
                self._enter(place, pick, kind)
            self._pick(place, pick, inputs, groups)
        for narrow in solution.narrows:
            self._narrow(place, narrow, inputs, groups)
        return inputs, groups

    def _enter(self, place: Place, pick: Pick, kind: OperationKind) -> None:
        for node, _ in pick.sources:
            if node not in place.arrivals:
                group = Group(node.graph, kind, None, node)
                self.groups.append(group)
                place.arrivals[node] = Arrival(node, group, None, group.builder)

    def _pick(self, place: Place, pick: Pick, inputs: list[Input], groups: set[Group]) -> None:
        wanted = pick.wanted
        arrivals = self._arrivals(place, pick)
        groups.update(arrival.group for arrival, _ in arrivals)
        if wanted.name == TYPENAME:
            self._entry(arrivals[0][0], wanted, TYPENAME, arrivals[0][1])
            inputs.append(Input(TYPENAME, TYPENAME))
            return
        if any(move.split for _, move in arrivals):
            groups.add(self.typename(place))
        into, child = self._key(place, wanted, arrivals[0][0].group)
        if child is None and pick.child is not None:
            child = self._child(place, wanted, into, arrivals[0][1])
        for arrival, move in arrivals:
            entry = self._entry(arrival, wanted, into, move)
            if child is not None and move.child is not None and entry.builder is not None:
                child.arrivals.setdefault(
                    move.child, Arrival(move.child, arrival.group, None, entry.builder)
                )
            place.selected.setdefault((wanted.name, wanted.text, arrival.group), (into, child))
        below: list[Input] = []
        if child is not None and pick.child is not None:
            if any(_untold(move) for _, move in arrivals):
                groups.add(self.typename(child))
                below.append(Input(TYPENAME, TYPENAME))
            supply, suppliers = self.commit(child, pick.child)
            below.extend(one for one in supply if one.name != TYPENAME or not below)
            if wanted.key is None:
                groups |= suppliers
        inputs.append(Input(wanted.name, into, None, tuple(below)))

    def _arrivals(self, place: Place, pick: Pick) -> list[tuple[Arrival, Move]]:
        """Where a field is selected; by entity calls, where nobody is there yet."""
        arrivals: list[tuple[Arrival, Move]] = []
        for node, move in pick.sources:
            if move.requires is not None:
                arrival = self._required(place, node, move.requires)
            else:
                arrival = self.arrive(place, node)
                if arrival.entity:
                    arrival.group.plain = True
            arrivals.append((arrival, move))
        return arrivals

    def _key(self, place: Place, wanted: Wanted, group: Group) -> tuple[str, Place | None]:
        """The merged key of a field, and the place below it if there is one already."""
        if wanted.key is not None:
            return wanted.key, place.children.get((wanted.key, wanted.name, wanted.text))
        found = place.lookup(wanted.name, wanted.text, group)
        if found is not None:
            return found
        into = f"${wanted.name}({wanted.text})" if wanted.text else f"${wanted.name}"
        return into, place.children.get((into, wanted.name, wanted.text))

    def _child(self, place: Place, wanted: Wanted, into: str, move: Move) -> Place:
        child = Place((*place.path, Step(into, move.type.count("["))))
        place.children[into, wanted.name, wanted.text] = child
        return child

    def _entry(self, arrival: Arrival, wanted: Wanted, into: str, move: Move) -> Entry:
        """Select a field; one that its type does not declare, on each of the object types."""
        if move.split:
            shared: Entry | None = None
            for one in sorted(arrival.node.types):
                builder = arrival.builder.fragment(one, frozenset((one,)))
                shared = self._select(builder, wanted, into, move, shared)
            assert shared is not None
            return shared
        return self._select(arrival.builder, wanted, into, move, None)

    def _select(
        self, builder: Builder, wanted: Wanted, into: str, move: Move, shared: Entry | None
    ) -> Entry:
        key = (into, wanted.name, wanted.text)
        entry = builder.entries.get(key)
        if entry is None:
            self.count += 1
            if self.count > MAX_ENTRIES:
                raise NoPlan("The operation selects too much to be planned.")
            inner = shared.builder if shared else Builder() if move.child else None
            entry = Entry(
                wanted.name,
                into,
                wanted.text,
                wanted.arguments,
                wanted.variables,
                move.type,
                TYPENAME if wanted.name == TYPENAME else wanted.key or wanted.name,
                inner,
            )
            builder.entries[key] = entry
        return entry

    def _narrow(
        self, place: Place, narrow: Narrow, inputs: list[Input], groups: set[Group]
    ) -> None:
        *above, last = place.path
        below = Place((*above, replace(last, types=narrow.types)), place)
        below.types = narrow.types
        below.on = next(one.name for one in narrow.nodes if not one.blind)
        for base, node in zip(narrow.base, narrow.nodes, strict=True):
            arrival = self.arrive(place, base)
            below.arrivals[node] = (
                arrival if base is node else Arrival(node, arrival.group, arrival, None)
            )
        groups.add(self.typename(place))
        supply, suppliers = self.commit(below, narrow.solution)
        groups |= suppliers
        inputs.extend(
            replace(one, types=narrow.types if one.types is None else one.types & narrow.types)
            for one in supply
        )

    def typename(self, place: Place) -> Group:
        """Have the runtime type known at a place; gives the group that tells it."""
        while place.base is not None:
            place = place.base
        if place.known is None:
            arrival = next((one for one in place.arrivals.values() if not one.node.blind), None)
            if arrival is None:
                arrival = self._sighted(place)
            wanted = Wanted(None, TYPENAME, (), None)
            self._select(arrival.builder, wanted, TYPENAME, Move("String!", None), None)
            place.known = arrival.group
        return place.known

    def _sighted(self, place: Place) -> Arrival:
        """Call an entity for no more than its runtime type."""
        for node in self.paths.reach(tuple(place.arrivals)):
            if not node.blind:
                return self.arrive(place, node)
        raise NoPlan("No subgraph can tell an object's type.", response_path(place.path))

    # -- entity calls

    def arrive(self, place: Place, node: Node) -> Arrival:
        """The arrival of a node at a place; by an entity call, if there is none yet."""
        found = place.arrivals.get(node)
        if found is not None:
            return found
        if place.base is not None and place.types is not None:
            for base, arrival in place.base.arrivals.items():
                if self.graph.narrow(base, place.on, place.types) is node:
                    found = Arrival(node, arrival.group, arrival, None)
                    place.arrivals[node] = found
                    return found
        if (place, node) in self.calling:
            raise NoPlan(f"Keys of {node.name} lead in a circle.", response_path(place.path))
        self.calling.add((place, node))
        group = self._call(place, node)
        self.calling.discard((place, node))
        found = place.arrivals[node] = self._within(place, group)
        return found

    def _within(self, place: Place, group: Group) -> Arrival:
        if group.again:
            return Arrival(group.target, group, None, group.builder, entity=True)
        types = place.types or group.target.types
        builder = group.builder.fragment(group.target.name, types)
        return Arrival(group.target, group, None, builder, entity=True)

    def _call(self, place: Place, node: Node) -> Group:
        group = Group(node.graph, "query", place, node)
        if node in self.graph.again(node.types):
            group.again = True
            group.after |= {one.group for one in place.arrivals.values() if not one.entity}
        else:
            inputs, groups = self._by_key(place, node)
            group.inputs = tuple(inputs)
            group.needed = frozenset(one.name for one in inputs)
            group.after |= groups
        self._represent(place, group)
        self.groups.append(group)
        place.calls.setdefault(node, []).append(group)
        return group

    def _represent(self, place: Place, group: Group) -> None:
        """Settle the `__typename` of the representations, and know the objects' own if needed."""
        node = group.target
        seen = [one for one in place.arrivals if not one.blind]
        if node.blind or not seen or not node.abstract:
            group.typename = node.name
        if place.types is not None or (node.abstract and seen):
            group.after.add(self.typename(place))

    def _by_key(self, place: Place, node: Node) -> Supply:
        """Select the key that costs least from where we are."""
        active = tuple(place.arrivals)
        best: Solution | None = None
        for _, key in self.graph.keys(node, again=node in place.arrivals):
            one = self.paths.solve(active, key)
            if best is None or one.cost < best.cost:
                best = one
        if best is None or best.cost >= IMPOSSIBLE:
            raise NoPlan(f"No key leads to {node.name} in {node.graph}.", response_path(place.path))
        inputs, groups = self.commit(place, best)
        return [one for one in inputs if one.name != TYPENAME], groups

    def _required(self, place: Place, node: Node, requires: WantedSet) -> Arrival:
        """An arrival by an entity call whose representations hold what a field requires."""
        solution = self.paths.solve(tuple(place.arrivals), requires)
        if solution.cost >= IMPOSSIBLE:
            raise NoPlan(f"What {node.name} requires cannot be had.", response_path(place.path))
        inputs, groups = self.commit(place, solution)
        called: Group | None = None
        for group in place.calls.get(node, ()):
            merged = merge_inputs(group.inputs, inputs)
            if merged is not None and not any(waits_for(one, group) for one in groups):
                called = group
                break
        else:
            called = self._call(place, node)
            merged = merge_inputs(called.inputs, inputs)
        if merged is None:
            raise NoPlan(f"A key of {node.name} is required otherwise.", response_path(place.path))
        called.inputs = merged
        called.after |= groups
        called.required |= {
            one.name
            for one in inputs
            if (known := node.here.fields.get(one.name)) is not None and known.type.endswith("!")
        }
        arrival = self._within(place, called)
        place.arrivals.setdefault(node, arrival)
        return arrival


def _untold(move: Move) -> bool:
    """Whether objects there may be of several types, and the subgraph can say of which."""
    child = move.child
    return child is not None and not child.blind and (child.abstract or move.various)


def merge_inputs(known: tuple[Input, ...], more: Iterable[Input]) -> tuple[Input, ...] | None:
    """Both as the fields of one representation; None where one name would mean two things."""
    merged = list(known)
    for one in more:
        same = [i for i, each in enumerate(merged) if each.name == one.name]
        index = next((i for i in same if merged[i].types == one.types), None)
        if index is None:
            if any(_overlap(merged[i].types, one.types) for i in same):
                return None
            merged.append(one)
            continue
        other = merged[index]
        if other.key != one.key:
            return None
        inner = merge_inputs(other.inputs, one.inputs)
        if inner is None:
            return None
        merged[index] = replace(other, inputs=inner)
    return tuple(merged)


def _overlap(one: frozenset[str] | None, other: frozenset[str] | None) -> bool:
    return one is None or other is None or bool(one & other)


def response_path(path: Path) -> tuple[str, ...]:
    """A place as the keys that lead to it."""
    return tuple(one.key for one in path)


def entries_of(builder: Builder) -> Iterator[Entry]:
    """All fields of a selection set, within fragments too."""
    yield from builder.entries.values()
    for inner in builder.fragments.values():
        yield from entries_of(inner)
