"""An operation becomes a plan: paths are chosen, fetches made of them, calls batched."""

from dataclasses import replace

from graphql import get_named_type, is_composite_type

from gateway.federation.batching import batch
from gateway.federation.emitting import Emitter
from gateway.federation.errors import NoPlan
from gateway.federation.fetches import Fetches, Group
from gateway.federation.graph import TYPENAME, QueryGraph, Wanted, WantedOn, WantedSet
from gateway.federation.operation import Field, Operation, Selection
from gateway.federation.paths import Paths
from gateway.federation.plan import Plan
from gateway.federation.solutions import IMPOSSIBLE
from gateway.federation.supergraph import Supergraph

MAX_LABEL_SETS = 32
_LOCAL = frozenset({TYPENAME, "__schema", "__type"})


class Planner:
    """Plans operations on one supergraph; what it learns of paths it keeps.

    Where not all of `Query` is for everybody, who checks an operation's root fields must see them
    all: without `reenter` a field that leads back to `Query` leads to no other subgraph.
    """

    def __init__(self, supergraph: Supergraph, *, reenter: bool = True) -> None:
        self.supergraph = supergraph
        self._reenter = reenter
        self._searches: dict[frozenset[str], Paths] = {}

    def plan(self, operation: Operation, labels: frozenset[str] = frozenset()) -> Plan:
        """Plan an operation; `labels` are the override labels active for it.

        Raises:
            NoPlan: no subgraphs together can answer it.
        """
        paths = self._paths(labels & self.supergraph.labels)
        fetches = Fetches(paths.graph, paths)
        wanted = _Reading().wanted(
            tuple(
                one
                for one in operation.selections
                if not (isinstance(one, Field) and one.name in _LOCAL)
            )
        )
        if operation.kind == "mutation":
            _in_order(paths, fetches, operation, wanted)
        elif wanted.items:
            _solve(paths, fetches, operation, wanted)
        return Plan(operation, Emitter(operation).fetches(batch(fetches.groups)))

    def _paths(self, labels: frozenset[str]) -> Paths:
        found = self._searches.get(labels)
        if found is None:
            if len(self._searches) >= MAX_LABEL_SETS:
                self._searches.pop(next(iter(self._searches)))
            found = self._searches[labels] = Paths(
                QueryGraph(self.supergraph, labels, reenter=self._reenter)
            )
        return found


def _solve(paths: Paths, fetches: Fetches, operation: Operation, wanted: WantedSet) -> None:
    solution = paths.solve_root(operation.root, wanted)
    if solution.cost >= IMPOSSIBLE:
        path = solution.missing or ()
        raise NoPlan(f"No subgraph can answer {'.'.join(path)} from where it is.", path)
    fetches.root(operation.kind, solution)


def _in_order(paths: Paths, fetches: Fetches, operation: Operation, wanted: WantedSet) -> None:
    """One root field after the other; neighbours of one subgraph in one request if they can be."""
    before: set[Group] = set()
    for item in wanted.items:
        known = len(fetches.groups)
        _solve(paths, fetches, operation, WantedSet([item]))
        added = fetches.groups[known:]
        root = added[0]
        last = fetches.groups[known - 1] if known else None
        if last is not None and last.place is None and last.service == root.service:
            last.builder.entries.update(root.builder.entries)
            for one in added[1:]:
                one.after = {last if other is root else other for other in one.after}
            fetches.groups.remove(root)
        else:
            root.after |= before
        before = set(fetches.groups)


class _Reading:
    """Reads an operation's selections; levels it shares are shared in what is read.

    A field that is there twice, for the order of keys, is wanted once.
    """

    def __init__(self) -> None:
        self.read: dict[int, tuple[tuple[Selection, ...], WantedSet]] = {}

    def wanted(self, selections: tuple[Selection, ...]) -> WantedSet:
        found = self.read.get(id(selections))
        if found is None:
            items = [self._one(one) for one in _together(selections)]
            found = self.read[id(selections)] = (selections, WantedSet(items))
        return found[1]

    def _one(self, one: Selection) -> Wanted | WantedOn:
        if isinstance(one, Field):
            leaf = not one.selections and not _composite(one)
            sub = None if leaf else self.wanted(one.selections)
            return Wanted(one.key, one.name, one.arguments, sub)
        return WantedOn(one.on, self.wanted(one.selections))


def _together(selections: tuple[Selection, ...]) -> tuple[Selection, ...]:
    keys = [one.key for one in selections if isinstance(one, Field)]
    if len(set(keys)) == len(keys):
        return selections
    made: dict[object, Selection] = {}
    for one in selections:
        place = one.key if isinstance(one, Field) else id(one)
        known = made.get(place)
        if isinstance(known, Field) and isinstance(one, Field):
            made[place] = replace(known, selections=known.selections + one.selections)
        else:
            made[place] = one
    return tuple(made.values())


def _composite(one: Field) -> bool:
    return is_composite_type(get_named_type(one.type))
