"""The data of a federation: one graph of plain objects that every subgraph sees a part of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class PerGraph:
    """A value that subgraphs see differently. `truth` is what the whole graph says it is."""

    truth: Any
    graphs: Mapping[str, Any]


@dataclass
class World:
    """All objects there are, and the roots.

    An object is a dict of its fields and `__typename`. A field's value may be a function of the
    field's arguments, a `PerGraph`, or an exception to be raised. `@absent` names the subgraphs
    that do not know the object as an entity.
    """

    objects: list[Record] = field(default_factory=list)
    query: Record = field(default_factory=lambda: {"__typename": "Query"})
    mutation: Record = field(default_factory=lambda: {"__typename": "Mutation"})
    subscription: Record = field(default_factory=lambda: {"__typename": "Subscription"})

    def add(self, typename: str, **fields: Any) -> Record:
        """A new object of a type."""
        record = {"__typename": typename, **fields}
        self.objects.append(record)
        return record

    def of(self, *typenames: str) -> list[Record]:
        """All objects of some object types, in the order they were added."""
        return [record for record in self.objects if record["__typename"] in typenames]

    def finder(self, *typenames: str, by: str = "id") -> Callable[..., Record | None]:
        """A root field that finds an object by the argument that is named like its key."""

        def find(**arguments: Any) -> Record | None:
            wanted = arguments[by]
            return next((o for o in self.of(*typenames) if o.get(by) == wanted), None)

        return find


def value(record: Record, name: str, arguments: Mapping[str, Any], graph: str | None) -> Any:
    """The value of an object's field as a subgraph sees it; as it is, for no subgraph.

    Raises whatever exception the field holds, KeyError for a field the object lacks.
    """
    found = record[name]
    if isinstance(found, PerGraph):
        found = found.truth if graph is None else found.graphs.get(graph, found.truth)
    if callable(found):
        found = found(**arguments)
    if isinstance(found, Exception):
        raise found
    return found


class CalledInstead:
    """Makes values that one subgraph must never be asked for: it has them no more."""

    def __init__(self, graph: str) -> None:
        self._graph = graph

    def __call__(self, truth: Any) -> PerGraph:
        """The value for all others."""
        return PerGraph(truth, {self._graph: MustNotBeAsked(f"{self._graph} lost this field")})


class MustNotBeAsked(Exception):
    """A field was asked of a subgraph that has it no more."""
