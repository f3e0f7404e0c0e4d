"""The query graph: what can be selected where, in one subgraph after another.

A `Node` is a type as one subgraph has it, narrowed to the runtime types that can be there. A
`Move` is a field that can be selected on a node. Everything is made when first asked for and kept,
so a graph grows with what is asked of it and answers the second time at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import (
    FieldNode,
    InlineFragmentNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    print_ast,
)

from gateway.federation.plan import INPUT
from gateway.federation.supergraph import GraphField, GraphType, Key, Supergraph, TypeKind

TYPENAME = "__typename"


class Wanted:
    """One field to be planned: a client's, under its response key, or one the plan needs itself.

    `key` is None for the plan's own. `text` is its arguments printed; two with one name and one
    text are the same field. `lists` counts the lists around its type. `sub` is None for leaves.
    """

    __slots__ = ("arguments", "key", "name", "sub", "text", "variables")

    def __init__(
        self,
        key: str | None,
        name: str,
        arguments: tuple[tuple[str, ValueNode], ...],
        sub: "WantedSet | None",
    ) -> None:
        self.key = key
        self.name = name
        self.arguments = arguments
        self.sub = sub
        self.text = ",".join(f"{one}:{print_ast(value)}" for one, value in arguments)
        self.variables = frozenset(variables_in(value for _, value in arguments))

    def __repr__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        text = f"({self.text})" if self.text else ""
        return f"{key}{self.name}{text}{self.sub or ''}"


class WantedOn:
    """Fields to be planned for objects within type `on`."""

    __slots__ = ("on", "sub")

    def __init__(self, on: str, sub: "WantedSet") -> None:
        self.on = on
        self.sub = sub

    def __repr__(self) -> str:
        return f"... on {self.on}{self.sub}"


class WantedSet:
    """What is wanted of one object; equal only to itself, so that it can be a memory's key."""

    __slots__ = ("items", "memory", "parts")

    def __init__(self, items: Sequence[Wanted | WantedOn]) -> None:
        self.items = tuple(items)
        self.memory: dict[Any, Any] = {}
        self.parts: dict[tuple[int, ...], WantedSet] = {}

    def __repr__(self) -> str:
        return "{" + " ".join(map(repr, self.items)) + "}"

    def combined(self, items: Sequence[Wanted | WantedOn]) -> "WantedSet":
        """A set of items found within this one; the same items give the same set."""
        key = tuple(map(id, items))
        if len(items) == len(self.items) and key == tuple(map(id, self.items)):
            return self
        found = self.parts.get(key)
        if found is None:
            found = self.parts[key] = WantedSet(items)
        return found


def variables_in(values: Iterator[ValueNode]) -> Iterator[str]:
    """Names of the variables within values."""
    stack: list[Any] = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, VariableNode):
            yield value.name.value
        else:
            stack.extend(getattr(value, "values", None) or ())
            stack.extend(one.value for one in getattr(value, "fields", None) or ())


@dataclass(slots=True, eq=False)
class Move:
    """A field that node's subgraph can select on it.

    `type` is the subgraph's own, `child` where it leads (None: a leaf). With `requires` it can be
    selected only in an entity call whose representations hold that. `split` says that the field
    is no field of the node's type: it must be selected on each of its object types. `various`
    says that clients see an abstract type there, whatever the subgraph has.
    """

    type: str
    child: "Node | None"
    requires: WantedSet | None = None
    split: bool = False
    various: bool = False


class Node:
    """A type of one subgraph at some place; `types` are the runtime types that can be there.

    `blind` is an interface object: the subgraph does not know the runtime type. `provided` are
    fields that the parent field provides here although they are external.
    """

    __slots__ = (
        "abstract",
        "blind",
        "graph",
        "here",
        "moves",
        "name",
        "narrowed",
        "number",
        "provided",
        "types",
    )

    def __init__(
        self,
        number: int,
        graph: str,
        here: GraphType,
        types: frozenset[str],
        provided: tuple[WantedSet, ...],
    ) -> None:
        self.number = number
        self.graph = graph
        self.here = here
        self.name = here.name
        self.types = types
        self.provided = provided
        self.blind = here.interface_object
        self.abstract = here.kind in (TypeKind.INTERFACE, TypeKind.UNION)
        self.moves: dict[str, Move | None] = {}
        self.narrowed: dict[Any, Node | None] = {}

    def __repr__(self) -> str:
        return f"{self.graph}/{self.name}"


def _says(here: GraphType, types: frozenset[str]) -> bool:
    """Whether a fragment on the type reaches all objects of `types`."""
    if here.kind is TypeKind.OBJECT:
        return not here.interface_object
    return types <= here.possible


class QueryGraph:
    """Nodes and moves of one supergraph, under one set of active override labels.

    `reenter`: whether a field that leads back to `Query` leads to all subgraphs.
    """

    def __init__(
        self,
        supergraph: Supergraph,
        labels: frozenset[str] = frozenset(),
        *,
        reenter: bool = True,
    ) -> None:
        self.supergraph = supergraph
        self.reenter = reenter
        self.labels = labels
        self.nodes: dict[tuple[Any, ...], Node] = {}
        self.sets: dict[int, tuple[SelectionSetNode, WantedSet]] = {}
        self.targets_of: dict[Any, tuple[Node, ...]] = {}
        self.alike: dict[tuple[str, ...], object] = {}
        self.taken = self._taken()

    def _taken(self) -> frozenset[tuple[str, str, str]]:
        """(subgraph, type, field) for fields another subgraph has taken over, now."""
        taken: set[tuple[str, str, str]] = set()
        for graph, view in self.supergraph.views.items():
            for here in view.values():
                for one in here.fields.values():
                    if one.override is None:
                        continue
                    active = one.label is None or one.label in self.labels
                    loser = one.override if active else graph
                    taken.add((loser, here.name, one.name))
        return frozenset(taken)

    # -- nodes

    def node(
        self,
        graph: str,
        name: str,
        types: frozenset[str] | None = None,
        provided: tuple[WantedSet, ...] = (),
    ) -> Node:
        """The node of a type in a subgraph, by default with all runtime types it has there."""
        here = self.supergraph.views[graph][name]
        if types is None:
            if here.interface_object:
                types = self.supergraph.types[name].possible
            elif here.kind in (TypeKind.INTERFACE, TypeKind.UNION):
                types = here.possible
            else:
                types = frozenset((name,))
        key = (graph, name, types, provided)
        found = self.nodes.get(key)
        if found is None:
            found = self.nodes[key] = Node(len(self.nodes), graph, here, types, provided)
        return found

    def possible(self, name: str) -> frozenset[str]:
        """The object types of a supergraph's type."""
        merged = self.supergraph.types.get(name)
        if merged is None:
            return frozenset()
        return frozenset((name,)) if merged.kind is TypeKind.OBJECT else merged.possible

    def narrow(self, node: Node, on: str, types: frozenset[str]) -> Node | None:
        """The node of the same object seen as `on`, where only `types` can be.

        None where its subgraph cannot say `... on on` for all of these types.
        """
        key = (on, types)
        if key in node.narrowed:
            return node.narrowed[key]
        found: Node | None = None
        view = self.supergraph.views[node.graph]
        here = view.get(on)
        if node.blind:
            found = self.node(node.graph, node.name, types, node.provided)
        elif on == node.name or (here is not None and _says(here, types)):
            found = self.node(node.graph, on, types, node.provided)
        node.narrowed[key] = found
        return found

    # -- moves

    def move(self, node: Node, name: str) -> Move | None:
        """How the node's subgraph selects a field there, or None."""
        try:
            return node.moves[name]
        except KeyError:
            found = node.moves[name] = self._move(node, name)
            return found

    def _move(self, node: Node, name: str) -> Move | None:
        if name == TYPENAME:
            return None if node.blind else Move("String!", None)
        if not node.abstract:
            return self._object_move(node, name)
        each: list[Move] = []
        for one in sorted(node.types):
            narrowed = self.narrow(node, one, frozenset((one,)))
            move = self.move(narrowed, name) if narrowed is not None else None
            if move is None or move.requires is not None:
                return None
            each.append(move)
        declared = node.here.fields.get(name)
        if declared is not None and not declared.external:
            return self._to(node, declared)
        if each and all(one.type == each[0].type and one.child is each[0].child for one in each):
            return Move(each[0].type, each[0].child, split=True, various=each[0].various)
        return None

    def _object_move(self, node: Node, name: str) -> Move | None:
        known = node.here.fields.get(name)
        if self._provides(node, name):
            if known is None:
                merged = self.supergraph.types[node.name].fields.get(name)
                known = GraphField(name, merged) if merged is not None else None
            if known is not None:
                return self._to(node, known)
        if known is None or known.external or known.always_replaced:
            return None
        if (node.graph, node.name, name) in self.taken:
            return None
        return self._to(node, known)

    def _to(self, node: Node, known: GraphField) -> Move:
        view = self.supergraph.views[node.graph]
        here = view.get(known.named)
        if here is None or here.kind is TypeKind.LEAF:
            child = None
        else:
            provided = list(self._provided_below(node, known.name))
            if known.provides is not None:
                provided.append(self.wanted(known.provides))
            child = self.node(node.graph, known.named, None, tuple(dict.fromkeys(provided)))
        requires = self.wanted(known.requires) if known.requires is not None else None
        if requires is not None and self._provides(node, known.name):
            requires = None
        return Move(known.type, child, requires, various=self._various(node.name, known.name))

    def _various(self, name: str, field: str) -> bool:
        """Whether the supergraph's field is of an abstract type."""
        merged = self.supergraph.types.get(name)
        written = merged.fields.get(field) if merged is not None else None
        leads = self.supergraph.types.get(written.strip("[]!")) if written else None
        return leads is not None and leads.kind in (TypeKind.INTERFACE, TypeKind.UNION)

    def _provides(self, node: Node, name: str) -> bool:
        return any(one.name == name for one in self._provided_fields(node))

    def _provided_below(self, node: Node, name: str) -> Iterator[WantedSet]:
        for one in self._provided_fields(node):
            if one.name == name and one.sub is not None:
                yield one.sub

    def _provided_fields(self, node: Node) -> Iterator[Wanted]:
        stack = [item for one in node.provided for item in one.items]
        while stack:
            item = stack.pop()
            if isinstance(item, Wanted):
                yield item
            elif node.types <= self.possible(item.on):
                stack.extend(item.sub.items)

    # -- hops

    def targets(self, node: Node, types: frozenset[str]) -> tuple[Node, ...]:
        """Where an entity call may lead from an object seen at `node`, of runtime `types`."""
        key = (types, node.name if len(types) != 1 or node.blind else None)
        found = self.targets_of.get(key)
        if found is None:
            found = self.targets_of[key] = tuple(self._targets(node, types))
        return found

    def _targets(self, node: Node, types: frozenset[str]) -> Iterator[Node]:
        names = set()
        merged = self.supergraph.types.get(node.name)
        if merged is not None and merged.kind is not TypeKind.OBJECT:
            names.add(node.name)
        if len(types) == 1 and not node.blind:
            (only,) = types
            names = {only} | self.supergraph.types[only].interfaces
        for graph, view in self.supergraph.views.items():
            for name in sorted(names):
                here = view.get(name)
                if here is None:
                    continue
                if here.kind is not TypeKind.OBJECT and (
                    not types <= here.possible or (len(types) == 1 and not node.blind)
                ):
                    continue  # Of one object type, that type itself is the better target.
                target = self.node(graph, name, types)
                if any(self.keys(target)) and not (node.blind and self._shared_keys(target)):
                    yield target

    def _shared_keys(self, node: Node) -> Sequence[Key]:
        """The keys that all object types of an abstract type have, where it has none itself."""
        if not node.abstract or not node.types or any(one.resolvable for one in node.here.keys):
            return ()
        view = self.supergraph.views[node.graph]
        first, *others = sorted(node.types)
        texts = [
            {one.text for one in view[other].keys if one.resolvable}
            for other in others
            if other in view
        ]
        return [
            one
            for one in (view[first].keys if first in view else ())
            if one.resolvable and all(one.text in each for each in texts)
        ]

    def likeness(self, name: str, fields: Iterable[str]) -> object:
        """What object types have in common that can be planned for as one."""
        key = (name, *fields)
        found = self.alike.get(key)
        if found is None:
            made: list[object] = []
            for graph, view in self.supergraph.views.items():
                if name not in view:
                    continue
                node = self.node(graph, name)
                moves = [self.move(node, one) for one in fields]
                keys = frozenset(one.text for one in view[name].keys if one.resolvable)
                shown = tuple(
                    (move.type, move.child, move.requires) if move else None for move in moves
                )
                made.append((graph, keys, view[name].interfaces, shown))
            found = self.alike[key] = tuple(made)
        return found

    def again(self, types: frozenset[str]) -> Iterator[Node]:
        """Where any subgraph may be asked anew: the nodes of `Query`, for objects of that type."""
        name = self.supergraph.roots.get("query")
        if self.reenter and name is not None and types == {name}:
            yield from (one for one in self.roots(name) if one.graph != INPUT)

    def roots(self, name: str) -> Iterator[Node]:
        """The root type's nodes."""
        for graph, view in self.supergraph.views.items():
            if name in view:
                yield self.node(graph, name)

    def keys(self, node: Node, again: bool = False) -> Iterator[tuple[Key, WantedSet]]:
        """The keys by which an entity call finds the node's objects.

        To ask a subgraph `again` for an object that came from it, a key is enough that it declares
        not to be resolvable: it is not asked to find anything.
        """
        keys = [one for one in node.here.keys if one.resolvable] or self._shared_keys(node)
        for one in keys or (node.here.keys if again else ()):
            wanted = self.wanted(one.fields)
            if any(isinstance(item, WantedOn) for item in wanted.items):
                wanted = wanted.combined(list(self._of_all(wanted.items, node.types)))
            yield one, wanted

    def _of_all(
        self, items: Iterable[Wanted | WantedOn], types: frozenset[str]
    ) -> Iterator[Wanted | WantedOn]:
        """A key without fragments that hold for all objects of `types`, or for none of them."""
        for item in items:
            possible = types if isinstance(item, Wanted) else self.possible(item.on)
            if isinstance(item, Wanted) or (types & possible and not types <= possible):
                yield item
            elif types <= possible:
                yield from self._of_all(item.sub.items, types)

    # -- sets of fields

    def wanted(self, selected: SelectionSetNode) -> WantedSet:
        """A key, `requires` or `provides` as something to be planned; the same for the same."""
        found = self.sets.get(id(selected))
        if found is None:
            wanted = self._wanted(selected)
            own = [one for one in wanted.items if getattr(one, "name", None) != TYPENAME]
            found = self.sets[id(selected)] = (selected, wanted.combined(own))
        return found[1]

    def _wanted(self, selected: SelectionSetNode) -> WantedSet:
        items: list[Wanted | WantedOn] = []
        for one in selected.selections:
            if isinstance(one, FieldNode):
                arguments = tuple((each.name.value, each.value) for each in one.arguments or ())
                sub = self._wanted(one.selection_set) if one.selection_set else None
                items.append(Wanted(None, one.name.value, arguments, sub))
            elif isinstance(one, InlineFragmentNode):
                sub = self._wanted(one.selection_set)
                if one.type_condition is None:
                    items.extend(sub.items)
                else:
                    items.append(WantedOn(one.type_condition.name.value, sub))
        return WantedSet(items)
