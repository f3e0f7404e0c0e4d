"""Batches become fetches: response keys that do not clash, and the text that is sent.

The same groups always give the same text. It has no space that GraphQL does not need.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphql import VariableDefinitionNode, print_ast

from gateway.federation.batching import Batch
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


class Emitter:
    """Writes the fetches of one plan."""

    def __init__(self, operation: Operation) -> None:
        self.definitions: dict[str, VariableDefinitionNode] = {
            one.variable.name.value: one for one in operation.variables
        }
        self.printed: dict[int, str] = {}
        self.emitted: dict[int, tuple[tuple[Selected, ...], str]] = {}

    def fetches(self, batches: Sequence[Batch]) -> tuple[Fetch, ...]:
        """The fetches in order of their numbers."""
        numbers = {one: number for number, one in enumerate(batches)}
        return tuple(self._fetch(one, numbers) for one in batches)

    def _fetch(self, one: Batch, numbers: Mapping[Batch, int]) -> Fetch:
        used: set[str] = set()
        for cluster in _clusters(one.groups) if one.groups[0].place else [one.groups]:
            assign_keys([group.builder for group in cluster], used)
        first = one.groups[0]
        variables = [name for name in self.definitions if name in used]
        declared = [self._declared(name) for name in variables]
        selections: tuple[Selected, ...] = ()
        calls: list[EntityCall] = []
        if first.place is None:
            selections, body = self._selections(first.builder)
        else:
            calls, texts = self._calls(one.groups)
            declared = [f"${call.variable}:[_Any!]!" for call in calls] + declared
            body = "{" + " ".join(texts) + "}"
        head = f"({','.join(declared)})" if declared else ""
        text = f"{first.kind}{head}{body}" if head or first.kind != "query" else body
        return Fetch(
            number=numbers[one],
            service=one.service,
            kind=first.kind,
            text=text,
            variables=tuple(variables),
            after=tuple(sorted(numbers[other] for other in one.after)),
            selections=selections,
            entities=tuple(calls),
        )

    def _declared(self, name: str) -> str:
        node = self.definitions[name]
        default = f"={print_ast(node.default_value)}" if node.default_value else ""
        return f"${name}:{print_ast(node.type)}{default}"

    def _calls(self, groups: Sequence[Group]) -> tuple[list[EntityCall], list[str]]:
        """Entity calls; those that ask the same of the same representations are one."""
        found: dict[tuple[object, ...], list[list[Group]]] = {}
        for cluster in _clusters(groups):
            asked = [self._selections(one.builder) for one in cluster]
            key = (
                tuple((text, repr(selections)) for selections, text in asked),
                tuple(map(representation, cluster)),
            )
            found.setdefault(key, []).append(cluster)
        calls: list[EntityCall] = []
        texts: list[str] = []
        for number, same in enumerate(found.values()):
            alias, variable = self._names(number, len(found))
            asked = [self._selections(one.builder) for one in same[0]]
            calls.append(
                EntityCall(
                    alias=alias,
                    variable=variable,
                    paths=tuple(dict.fromkeys(_path(cluster) for cluster in same)),
                    representations=tuple(map(representation, same[0])),
                    selections=tuple(each for selections, _ in asked for each in selections),
                )
            )
            shown = alias if alias == "_entities" else f"{alias}:_entities"
            body = "".join(text[1:-1] for _, text in asked)
            texts.append(f"{shown}(representations:${variable}){{{body}}}")
        return calls, texts

    def _names(self, number: int, count: int) -> tuple[str, str]:
        """Alias and variable of a call; the variable is none of the client's."""
        alias, variable = ("_entities", "representations") if count == 1 else ("", f"r{number}")
        while variable in self.definitions:
            variable += "_"
        return alias or f"_{number}", variable

    def _selections(self, builder: Builder) -> tuple[tuple[Selected, ...], str]:
        """A selection set and its text in braces."""
        found = self.emitted.get(id(builder))
        if found is not None:
            return found
        selected: list[Selected] = []
        texts: dict[str, None] = {}
        for entry in builder.entries.values():
            selections: tuple[Selected, ...] = ()
            text = entry.name if entry.key == entry.name else f"{entry.key}:{entry.name}"
            if entry.arguments:
                text += f"({entry.text})"
            if entry.builder is not None:
                selections, inner = self._selections(entry.builder)
                text += inner
            selected.append(
                SelectedField(entry.name, entry.key, entry.into, entry.arguments, selections)
            )
            texts[text] = None
        for (on, types), inside in builder.fragments.items():
            selections, inner = self._selections(inside)
            selected.append(SelectedFragment(on, types, selections))
            texts[f"...on {on}{inner}"] = None
        if not selected:
            selected.append(SelectedField(TYPENAME, TYPENAME, TYPENAME))
            texts[TYPENAME] = None
        found = self.emitted[id(builder)] = (tuple(selected), _braced(texts))
        return found


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
    return Representation(types, group.typename, group.inputs, group.needed)


def _braced(texts: Mapping[str, None]) -> str:
    """The texts in braces; a space only where two names would run together."""
    made = "{"
    for text in texts:
        if made[-1] not in "{})" and text[0] != ".":
            made += " "
        made += text
    return made + "}"


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
