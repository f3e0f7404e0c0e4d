"""Batches become fetches: response keys that do not clash, and the text that is sent.

The same groups always give the same text. It has no space that GraphQL does not need.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphql import VariableDefinitionNode, print_ast

from gateway.federation.batching import Batch
from gateway.federation.errors import NoPlan
from gateway.federation.fetches import Builder, Entry, Group, entries_of
from gateway.federation.graph import TYPENAME
from gateway.federation.operation import Operation
from gateway.federation.plan import (
    EntityCall,
    Fetch,
    Path,
    Representation,
    Selected,
    SelectedField,
    SelectedFragment,
)

MAX_SIZE = 100_000
"""Fields and fragments of one request written out: a query that needs more is refused."""

WORTH_A_NAME = 40
"""Selection sets that occur twice get a name from this many characters on."""


class Body:
    """A selection set as it will be sent; equal ones of one type are the same body.

    `parts` are a text and, where there is one, the body that follows it. `selections` are those
    of the first that was found equal in what is sent; `size` counts them written out.
    """

    __slots__ = ("name", "number", "on", "parts", "size", "uses")

    def __init__(self, number: int, on: str, parts: tuple[tuple[str, "Body | None"], ...]) -> None:
        self.number = number
        self.on = on
        self.parts = parts
        self.size: int = sum(1 if inner is None else 1 + inner.size for _, inner in parts)
        self.uses = 0
        self.name = ""

    def text(self) -> str:
        """The body in braces; a space only where two names would run together."""
        made = "{"
        for head, inner in self.parts:
            if made[-1] not in "{})" and head[0] != ".":
                made += " "
            if inner is None:
                made += head
            elif not inner.name:
                made += head + inner.text()
            elif head.startswith("..."):
                made += f"...{inner.name}"
            else:
                made += f"{head}{{...{inner.name}}}"
        return made + "}"

    def length(self) -> int:
        """About how many characters it has, what has a name counted as that."""
        return sum(
            len(head) + (0 if inner is None else 5 if inner.name else inner.length())
            for head, inner in self.parts
        )


Emitted = tuple[tuple[Selected, ...], Body, int]


class Emitter:
    """Writes the fetches of one plan."""

    def __init__(self, operation: Operation) -> None:
        self.definitions: dict[str, VariableDefinitionNode] = {
            one.variable.name.value: one for one in operation.variables
        }
        self.emitted: dict[int, Emitted] = {}
        self.bodies: dict[object, Body] = {}
        self.reads: dict[object, int] = {}

    def fetches(self, batches: Sequence[Batch]) -> tuple[Fetch, ...]:
        """The fetches in order of their numbers."""
        numbers = {one: number for number, one in enumerate(batches)}
        return tuple(_once([self._fetch(one, numbers) for one in batches]))

    def _fetch(self, one: Batch, numbers: Mapping[Batch, int]) -> Fetch:
        used: set[str] = set()
        for cluster in _clusters(one.groups) if one.calls else [one.groups]:
            assign_keys([group.builder for group in cluster], used)
        first = one.groups[0]
        variables = [name for name in self.definitions if name in used]
        declared = [self._declared(name) for name in variables]
        selections: tuple[Selected, ...] = ()
        calls: list[EntityCall] = []
        if not one.calls:
            selections, body, _ = self._selections(first.builder, first.target.name)
            if first.place is not None:
                paths, represented = (first.place.path,), (representation(first),)
                calls, selections = [EntityCall(None, "", paths, represented, selections)], ()
        else:
            calls, parts = self._calls(one.groups)
            declared = [f"${call.variable}:[_Any!]!" for call in calls] + declared
            body = Body(0, "", tuple(parts))
        if body.size > MAX_SIZE:
            raise NoPlan("The operation selects too much to be planned.")
        shared = _name_shared(body)
        head = f"({','.join(declared)})" if declared else ""
        shown = f"{first.kind}{head}" if head or first.kind != "query" else ""
        named = "".join(f"fragment {each.name} on {each.on}{each.text()}" for each in shared)
        return Fetch(
            number=numbers[one],
            service=one.service,
            kind=first.kind,
            text=shown + body.text() + named,
            variables=tuple(variables),
            after=tuple(sorted(numbers[other] for other in one.after)),
            selections=selections,
            entities=tuple(calls),
        )

    def _declared(self, name: str) -> str:
        node = self.definitions[name]
        default = f"={print_ast(node.default_value)}" if node.default_value else ""
        return f"${name}:{print_ast(node.type)}{default}"

    def _calls(
        self, groups: Sequence[Group]
    ) -> tuple[list[EntityCall], list[tuple[str, Body | None]]]:
        """Entity calls; those that ask the same of the same representations are one."""
        found: dict[tuple[object, ...], list[list[Group]]] = {}
        for cluster in _clusters(groups):
            asked = tuple(self._selections(one.builder, "")[2] for one in cluster)
            found.setdefault((asked, tuple(map(representation, cluster))), []).append(cluster)
        calls: list[EntityCall] = []
        parts: list[tuple[str, Body | None]] = []
        for number, same in enumerate(found.values()):
            alias, variable = self._names(number, len(found))
            emitted = [self._selections(one.builder, "") for one in same[0]]
            calls.append(
                EntityCall(
                    alias=alias,
                    variable=variable,
                    paths=tuple(dict.fromkeys(_path(cluster) for cluster in same)),
                    representations=tuple(map(representation, same[0])),
                    selections=tuple(each for one in emitted for each in one[0]),
                )
            )
            shown = alias if alias == "_entities" else f"{alias}:_entities"
            merged = dict.fromkeys(part for one in emitted for part in one[1].parts)
            inside = Body(number, "", tuple(merged))
            parts.append((f"{shown}(representations:${variable})", inside))
        return calls, parts

    def _names(self, number: int, count: int) -> tuple[str, str]:
        """Alias and variable of a call; the variable is none of the client's."""
        alias, variable = ("_entities", "representations") if count == 1 else ("", f"r{number}")
        while variable in self.definitions:
            variable += "_"
        return alias or f"_{number}", variable

    def _selections(self, builder: Builder, on: str) -> Emitted:
        """A selection set, what is sent for it, and a number for both."""
        found = self.emitted.get(id(builder))
        if found is not None:
            return found
        selected: list[Selected] = []
        parts: dict[tuple[str, Body | None], None] = {}
        reads: list[object] = []
        for entry in builder.entries.values():
            selections: tuple[Selected, ...] = ()
            text = entry.name if entry.key == entry.name else f"{entry.key}:{entry.name}"
            if entry.arguments:
                text += f"({entry.text})"
            inner, number = None, -1
            if entry.builder is not None:
                selections, inner, number = self._selections(entry.builder, entry.type.strip("[]!"))
            selected.append(
                SelectedField(entry.name, entry.key, entry.into, entry.arguments, selections)
            )
            parts[text, inner] = None
            reads.append((text, entry.into, number))
        for (name, types), inside in builder.fragments.items():
            selections, inner, number = self._selections(inside, name)
            selected.append(SelectedFragment(name, types, selections))
            parts[f"...on {name}", inner] = None
            reads.append((name, types, number))
        if not selected:
            selected.append(SelectedField(TYPENAME, TYPENAME, TYPENAME))
            parts[TYPENAME, None] = None
        asked = (on, tuple(parts))
        body = self.bodies.get(asked)
        if body is None:
            body = self.bodies[asked] = Body(len(self.bodies), *asked)
        number = self.reads.setdefault((body, tuple(reads)), len(self.reads))
        found = self.emitted[id(builder)] = (tuple(selected), body, number)
        return found


def _once(fetches: Sequence[Fetch]) -> Sequence[Fetch]:
    """The root type asked the same again at several places is asked once for all of them."""
    again = {one.number for one in fetches if one.entities and one.entities[0].alias is None}
    if len(again) < 2:
        return fetches
    kept: list[Fetch] = []
    numbers: list[int] = []
    for fetch in fetches:
        after = tuple(sorted({numbers[other] for other in fetch.after}))
        same = None
        if fetch.number in again:
            same = next((one for one in kept if _same(one, fetch, after)), None)
        if same is None:
            numbers.append(len(kept))
            kept.append(replace(fetch, number=len(kept), after=after))
            continue
        numbers.append(same.number)
        paths = same.entities[0].paths + fetch.entities[0].paths
        kept[same.number] = replace(same, entities=(replace(same.entities[0], paths=paths),))
    return kept


def _same(one: Fetch, other: Fetch, after: tuple[int, ...]) -> bool:
    """Whether two fetches ask and read the same of the same objects, at whatever places."""
    return (one.service, one.text, one.after) == (other.service, other.text, after) and [
        replace(call, paths=()) for call in one.entities
    ] == [replace(call, paths=()) for call in other.entities]


def _name_shared(body: Body) -> list[Body]:
    """Give names to long bodies that occur more than once in a request; these, in order."""
    seen: list[Body] = []
    stack = [body]
    while stack:
        one = stack.pop()
        for _, inner in reversed(one.parts):
            if inner is not None:
                if inner.uses == 0:
                    seen.append(inner)
                    stack.append(inner)
                inner.uses += 1
    shared: list[Body] = []
    for one in sorted(seen, key=lambda each: each.number):
        one.name = ""
        if one.uses > 1 and one.on and one.length() >= WORTH_A_NAME:
            one.name = _letters(len(shared))
            shared.append(one)
        one.uses = 0
    return shared


def _letters(number: int) -> str:
    """a, b, …, z, aa, ab, …"""
    name = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("a") + rest) + name
    return name


def _clusters(groups: Sequence[Group]) -> list[list[Group]]:
    """Calls for different object types at one place; the others alone."""
    clusters: list[list[Group]] = []
    open_: dict[object, list[Group]] = {}
    for group in groups:
        place = group.place
        assert place is not None
        if place.types is None or group.target.blind or group.target.abstract:
            clusters.append([group])
            continue
        where = replace(place.path[-1], types=None)
        cluster = open_.get((place.path[:-1], where))
        if cluster is None or any(one.target.name == group.target.name for one in cluster):
            cluster = open_[place.path[:-1], where] = []
            clusters.append(cluster)
        cluster.append(group)
    return clusters


def _path(cluster: Sequence[Group]) -> Path:
    """The path to the objects of a cluster: that of its place, for all its types."""
    paths = [one.place.path for one in cluster if one.place is not None]
    if len(paths) == 1:
        return paths[0]
    types = frozenset[str]().union(*(path[-1].types or () for path in paths))
    return (*paths[0][:-1], replace(paths[0][-1], types=types))


def representation(group: Group) -> Representation:
    """How the objects of a group's place are represented."""
    place = group.place
    types = place.types if place is not None else None
    needed = group.needed if group.plain else group.needed | group.required
    return Representation(types, group.typename, group.inputs, needed)


def assign_keys(builders: Sequence[Builder], used: set[str]) -> None:
    """Give fields that one answer cannot hold under one key different ones.

    `builders` are selection sets that meet at one response path. Names of variables are added to
    `used`.
    """
    taken: dict[str, tuple[str, str, str]] = {}
    below: dict[str, list[Builder]] = {}
    waiting: list[Entry] = []
    entries = list(dict.fromkeys(one for builder in builders for one in entries_of(builder)))
    for entry in entries:
        used |= entry.variables
        if taken.setdefault(entry.key, _shape(entry)) != _shape(entry):
            waiting.append(entry)
    for entry in waiting:
        number, shape, key = 0, _shape(entry), entry.key
        while taken.setdefault(key, shape) != shape:
            number += 1
            key = f"{entry.key}_{number}"
        entry.key = key
    for entry in entries:
        if entry.builder is not None:
            below.setdefault(entry.key, []).append(entry.builder)
    for each in below.values():
        assign_keys(list(dict.fromkeys(each)), used)


def _shape(entry: Entry) -> tuple[str, str, str]:
    """What two fields of one response key must have in common."""
    if entry.builder is None:
        return entry.name, entry.text, entry.type
    named = entry.type.strip("[]!")
    return entry.name, entry.text, entry.type.replace(named, "")
