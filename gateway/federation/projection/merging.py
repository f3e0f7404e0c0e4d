"""The merged tree of plan.py, made of copies: slow, forgiving, and it knows every path.

It is made when something is wrong: to say where errors belong, and to complete data that is not
what the schema promises. Nothing in it raises on an odd answer; what has an unexpected shape is
kept as it is for completion to judge.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.federation.errors import AnswerTooLarge
from gateway.federation.plan import (
    EntityCall,
    Fetch,
    Input,
    Path,
    Representation,
    Selected,
    SelectedField,
)

ResponsePath = tuple[str | int, ...]
MAX_OBJECTS = 200_000
"""Objects laid into one tree; an entity counts wherever it stands."""

_MISSING: Any = object()


def canonical(value: object) -> bytes:
    """The same bytes for the same JSON value."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@dataclass(slots=True)
class Entities:
    """What a call was given: by canonical representation its entity (None: null)."""

    by_representation: dict[bytes, Any]


@dataclass(slots=True)
class MergedTree:
    """The tree; `abstract` holds the names of interfaces, which are no runtime type.

    `places` tells for each call, by canonical representation, where its targets are.
    """

    abstract: frozenset[str]
    root: dict[str, Any] = field(default_factory=dict)
    places: dict[int, dict[bytes, list[ResponsePath]]] = field(default_factory=dict)
    objects: int = 0

    def add_root(self, fetch: Fetch, data: Mapping[str, Any] | None) -> None:
        """Lay a root fetch's answer into the tree."""
        if data is not None:
            self.merge(self.root, data, fetch.selections)

    def add_entities(self, call: EntityCall, entities: Entities) -> None:
        """Lay entities into all their targets, and note where those are."""
        places = self.places.setdefault(id(call), {})
        for path, target, representation in list(self.targets(call)):
            key = canonical(representation)
            places.setdefault(key, []).append(path)
            entity = entities.by_representation.get(key)
            if isinstance(entity, dict):
                self.merge(target, entity, call.selections)

    def targets(
        self, call: EntityCall
    ) -> Iterator[tuple[ResponsePath, dict[str, Any], dict[str, Any]]]:
        """Path, object and representation of each object the call is about."""
        seen: set[int] = set()
        for path in call.paths:
            for place, target in self.walk(path):
                if id(target) in seen:
                    continue
                seen.add(id(target))
                representation = self.represent(call.representations, target)
                if representation is not None:
                    yield place, target, representation

    def walk(self, path: Path) -> Iterator[tuple[ResponsePath, dict[str, Any]]]:
        """Objects that a path leads to, in document order."""
        level: list[tuple[ResponsePath, Any]] = [((), self.root)]
        for step in path:
            below: list[tuple[ResponsePath, Any]] = [
                ((*place, step.key), one.get(step.key))
                for place, one in level
                if isinstance(one, dict)
            ]
            for _ in range(step.lists):
                below = [
                    ((*place, index), item)
                    for place, one in below
                    if isinstance(one, list)
                    for index, item in enumerate(one)
                ]
            level = [
                (place, one)
                for place, one in below
                if isinstance(one, dict) and matches(one, step.types)
            ]
        yield from level

    def represent(
        self, representations: Sequence[Representation], target: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The first representation for the object's type; None where a needed input is missing."""
        for one in representations:
            if not matches(target, one.types):
                continue
            made = _inputs(one.inputs, target)
            keys_alone = len(one.needed) == len(one.inputs)
            if any(
                incomplete(made.get(name)) if keys_alone else made.get(name) is None
                for name in one.needed
            ):
                return None
            typename = one.typename or target.get("__typename")
            return {"__typename": typename, **made}
        return None

    def merge(
        self, target: dict[str, Any], answer: Mapping[str, Any], selections: Sequence[Selected]
    ) -> None:
        """Lay what `selections` read of an answer's object into `target`."""
        self.count()
        for name in _typenames(selections, answer):
            old = target.get("__typename")
            if old is None or (old in self.abstract and name not in self.abstract):
                target["__typename"] = name
        for one in selections:
            if not isinstance(one, SelectedField):
                if matches(target, one.types):
                    self.merge(target, answer, one.selections)
                continue
            value = answer.get(one.key, _MISSING)
            if value is _MISSING or one.into is None or one.into == "__typename":
                continue
            target[one.into] = self.value(target.get(one.into, _MISSING), value, one.selections)

    def count(self) -> None:
        """One object more, or what stands in the place of one."""
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            raise AnswerTooLarge

    def value(self, old: Any, new: Any, selections: Sequence[Selected]) -> Any:
        """What two answers make of one field. The first that is not null stands; objects join."""
        if new is None:
            return None if old is _MISSING else old
        if not selections:
            return new if old is _MISSING or old is None else old
        if isinstance(new, dict):
            made = old if isinstance(old, dict) else {}
            self.merge(made, new, selections)
            return made
        self.count()
        if isinstance(new, list):
            before = old if isinstance(old, list) else []
            made_list = [
                self.value(before[index] if index < len(before) else _MISSING, item, selections)
                for index, item in enumerate(new)
            ]
            return made_list + before[len(new) :]
        return new


def incomplete(value: Any) -> bool:
    """Whether a key's value is null, or has a null anywhere in it."""
    if isinstance(value, dict):
        return any(incomplete(one) for one in value.values())
    if isinstance(value, list):
        return any(incomplete(one) for one in value)
    return value is None


def matches(target: Mapping[str, Any], types: frozenset[str] | None) -> bool:
    """Whether an object is of one of `types`; an object whose type nobody asked for always is."""
    if types is None:
        return True
    typename = target.get("__typename")
    return typename is None or typename in types


def _typenames(selections: Sequence[Selected], answer: Mapping[str, Any]) -> Iterator[str]:
    for one in selections:
        if isinstance(one, SelectedField):
            if one.into == "__typename" and isinstance(answer.get(one.key), str):
                yield answer[one.key]
        else:
            yield from _typenames(one.selections, answer)


def _inputs(inputs: Sequence[Input], source: Mapping[str, Any]) -> dict[str, Any]:
    """The values of inputs; an input that is missing is null."""
    made: dict[str, Any] = {}
    for one in inputs:
        if not matches(source, one.types):
            continue
        value = source.get(one.key)
        if value is None:
            made.setdefault(one.name, None)
        else:
            made[one.name] = _nested(one.inputs, value) if one.inputs else value
    return made


def _nested(inputs: Sequence[Input], value: Any) -> Any:
    if isinstance(value, list):
        return [_nested(inputs, item) for item in value]
    return _inputs(inputs, value) if isinstance(value, dict) else None


def translate(selections: Sequence[Selected], path: Sequence[str | int]) -> ResponsePath:
    """A path in a service's answer, in the keys of the merged tree; it ends where nobody reads."""
    made: list[str | int] = []
    for part in path:
        if isinstance(part, int):
            made.append(part)
            continue
        found = _find(selections, part)
        if found is None or found.into is None:
            break
        made.append(found.into)
        selections = found.selections
    return tuple(made)


def _find(selections: Sequence[Selected], key: str) -> SelectedField | None:
    for one in selections:
        if isinstance(one, SelectedField):
            if one.key == key:
                return one
        else:
            found = _find(one.selections, key)
            if found is not None:
                return found
    return None
