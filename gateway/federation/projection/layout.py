"""What is known of the merged tree before any answer: who provides what, and where calls join.

At a place of the merged tree lie objects of several answers. A `Source` is one of them, as
generated code sees it: a variable, and what was selected of it. `Attached` are entity calls on
their way to their targets; where one has arrived, its entities are one more source.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.federation.plan import (
    EntityCall,
    Input,
    Path,
    Plan,
    Representation,
    Selected,
    SelectedField,
    Step,
)


class TooInvolved(Exception):
    """The plan has a shape that code is not generated for."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """An object of an answer: the variable that holds it, what was selected of it, whose it is.

    `joined` is true for an entity itself, and for an object joined with another: all its fields
    may be null for want of it. `shared` is true for what may be met in many places.
    """

    variable: str
    selections: tuple[Selected, ...]
    owner: int
    joined: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class CallInfo:
    """An entity call, numbered through the plan. `before` are the fetches it may read from."""

    index: int
    call: EntityCall
    number: int
    before: frozenset[int]
    service: str

    def representation(self, typename: str | None) -> Representation | None:
        """How an object of a type is represented; None if it is no target."""
        for one in self.call.representations:
            if one.types is None or typename is None or typename in one.types:
                return one
        return None

    @property
    def typename(self) -> str | None:
        """The one `__typename` that is sent, if it is always the same."""
        names = {one.typename for one in self.call.representations}
        return names.pop() if len(names) == 1 else None

    @property
    def single(self) -> bool:
        """Whether one scalar alone identifies an entity."""
        return self.typename is not None and all(
            len(one.inputs) == 1 and not one.inputs[0].inputs and one.needed
            for one in self.call.representations
        )


@dataclass(frozen=True, slots=True)
class Attached:
    """A call that has `steps` to go to its targets, from objects of `types` only."""

    info: CallInfo
    steps: Path
    types: frozenset[str] | None = None

    def holds(self, typename: str | None) -> bool:
        return self.types is None or typename is None or typename in self.types


@dataclass(slots=True)
class Place:
    """A place of the merged tree, as far as one piece of code has come."""

    sources: list[Source]
    attached: tuple[Attached, ...]

    def arrived(self, typename: str | None) -> list[CallInfo]:
        """Calls whose targets are here, in the order of fetches."""
        found = {
            one.info.index: one.info
            for one in self.attached
            if not one.steps
            and one.holds(typename)
            and one.info.representation(typename) is not None
        }
        return [found[index] for index in sorted(found)]

    def onward(self, key: str, typename: str | None) -> tuple[Attached, ...]:
        """Calls that go on through a field."""
        return tuple(
            Attached(one.info, one.steps[1:], one.steps[0].types)
            for one in self.attached
            if one.steps and one.steps[0].key == key and one.holds(typename)
        )

    def filters(self) -> Iterator[frozenset[str]]:
        """Every set of types that decides anything here."""
        for one in self.attached:
            if one.types is not None:
                yield one.types
            if not one.steps:
                for representation in one.info.call.representations:
                    if representation.types is not None:
                        yield representation.types
                    for each in representation.inputs:
                        if each.types is not None:
                            yield each.types
                yield from fragment_types(one.info.call.selections)
        for source in self.sources:
            yield from fragment_types(source.selections)


@dataclass(slots=True)
class Candidate:
    """A source that provides a field: under `key`, with `selections`; `fields` say so."""

    source: Source
    key: str
    selections: tuple[Selected, ...]
    fields: list[SelectedField] = field(default_factory=list)


def fragment_types(selections: Sequence[Selected]) -> Iterator[frozenset[str]]:
    """The types of a level's fragments."""
    for one in selections:
        if not isinstance(one, SelectedField):
            yield one.types
            yield from fragment_types(one.selections)


def fields_of(selections: Sequence[Selected], typename: str | None) -> Iterator[SelectedField]:
    """The fields selected of an object of a type; None: whatever its type."""
    for one in selections:
        if isinstance(one, SelectedField):
            yield one
        elif typename is None or typename in one.types:
            yield from fields_of(one.selections, typename)


def provides(selections: Sequence[Selected], key: str, typename: str | None) -> bool:
    """Whether a selection reads into a key of the merged tree."""
    return any(one.into == key for one in fields_of(selections, typename))


def candidates(sources: Sequence[Source], key: str, typename: str | None) -> list[Candidate]:
    """Who provides a key, in the order of fetches."""
    found: list[Candidate] = []
    for source in sorted(sources, key=lambda one: one.owner):
        mine: dict[str, Candidate] = {}
        for one in fields_of(source.selections, typename):
            if one.into != key:
                continue
            known = mine.setdefault(one.key, Candidate(source, one.key, ()))
            known.selections += one.selections
            known.fields.append(one)
        found += mine.values()
    return found


def blank(selections: Sequence[Selected]) -> dict[str, Any]:
    """What is read where there is no object: null in every field."""
    return {one.key: None for one in fields_of(selections, None)}


class Layout:
    """A plan's calls and roots."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ancestors: list[frozenset[int]] = []
        self.calls: list[CallInfo] = []
        for fetch in plan.fetches:
            before = frozenset(fetch.after).union(*(self.ancestors[one] for one in fetch.after))
            self.ancestors.append(before)
            for call in fetch.entities:
                self.calls.append(
                    CallInfo(len(self.calls), call, fetch.number, before, fetch.service)
                )

    def roots(self, within: frozenset[int] | None = None) -> list[Source]:
        """The root fetches' answers as sources: variables f0, f1, …"""
        return [
            Source(f"f{fetch.number}", fetch.selections, fetch.number)
            for fetch in self.plan.fetches
            if fetch.selections and (within is None or fetch.number in within)
        ]

    def starts(self, info: CallInfo) -> tuple[list[tuple[CallInfo, list[Path]]], list[Path]]:
        """Calls whose entities targets of `info` hang from, each with the paths from there.

        Walking from there visits an entity once, however often it stands in the tree. The second
        list holds the paths that have to be walked from the root.
        """
        rests: dict[tuple[int, Path], set[Path]] = {}
        left: list[Path] = []
        for path in info.call.paths:
            found: tuple[CallInfo, Path] | None = None
            for other in self.calls:
                if other.number not in info.before or not self._uniform(other, info.before):
                    continue
                for prefix in other.call.paths:
                    if (
                        _leads(prefix, path)
                        and (found is None or len(prefix) > len(found[1]))
                        and self._alone(other, prefix, path[len(prefix)].key, info.before)
                    ):
                        found = (other, prefix)
            if found is None:
                left.append(path)
            else:
                other, prefix = found
                rests.setdefault((other.index, path[len(prefix) :]), set()).add(prefix)
        begun: dict[int, list[Path]] = {}
        for (index, rest), prefixes in rests.items():
            if prefixes == set(self.calls[index].call.paths):
                begun.setdefault(index, []).append(rest)
            else:
                left += [prefix + rest for prefix in prefixes]
        return [(self.calls[index], found) for index, found in begun.items()], left

    def beyond(self, other: CallInfo, info: CallInfo) -> tuple[Path, ...]:
        """What is left of a call's paths that lead on from the targets of another."""
        rests = [
            path[len(prefix) :]
            for path in info.call.paths
            for prefix in other.call.paths
            if _leads(prefix, path)
        ]
        return tuple(dict.fromkeys(rests))

    def _uniform(self, other: CallInfo, within: frozenset[int]) -> bool:
        """Whether the calls that lead on from another do so from all its targets alike."""
        return all(
            prefix + rest in info.call.paths
            for info in self.calls
            if info.number in within
            for rest in self.beyond(other, info)
            for prefix in other.call.paths
        )

    def _alone(self, info: CallInfo, path: Path, key: str, within: frozenset[int]) -> bool:
        """Whether nobody but `info` provides a key at the end of a path."""
        sources = self.roots(within)
        attached = [Attached(one, each) for one in self.calls for each in one.call.paths]
        place = Place(sources, tuple(one for one in attached if one.info.number in within))
        for step in path:
            place = self._down(place, step)
        return not any(
            one.selections is not info.call.selections and provides(one.selections, key, None)
            for one in self._with_arrived(place)
        )

    def _with_arrived(self, place: Place) -> list[Source]:
        return place.sources + [
            Source("", one.call.selections, one.number) for one in place.arrived(None)
        ]

    def _down(self, place: Place, step: Step) -> Place:
        found = candidates(self._with_arrived(place), step.key, None)
        below = [Source("", one.selections, one.source.owner) for one in found]
        return Place(below, place.onward(step.key, None))


def _leads(prefix: Path, path: Path) -> bool:
    return len(prefix) < len(path) and path[: len(prefix)] == prefix


def is_nested(inputs: Sequence[Input]) -> bool:
    """Whether any input is made of objects."""
    return any(one.inputs for one in inputs)
