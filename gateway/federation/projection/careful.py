"""The slow pair at work: a merged tree gives representations, data, and errors with paths."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from graphql import GraphQLSchema, is_interface_type

from gateway.federation.plan import (
    EntityCall,
    Fetch,
    Path,
    Plan,
    Selected,
    SelectedField,
)
from gateway.federation.projection.completing import MAX_ERRORS, Completion, Error
from gateway.federation.projection.merging import (
    Entities,
    MergedTree,
    ResponsePath,
    canonical,
    matches,
    translate,
)
from gateway.federation.services import Answer, ServiceFailure

_EACH = 250
"""Missing fields of one failure that are told one by one."""


@dataclass(slots=True)
class CallRecord:
    """What became of an entity call: entity by index of what was `sent`, and what was `reused`."""

    sent: list[dict[str, Any]]
    entities: Sequence[Any] = ()
    reused: Sequence[tuple[dict[str, Any], Any]] = ()

    def table(self) -> Entities:
        known = {canonical(one): entity for one, entity in self.reused}
        known.update(
            (canonical(one), entity) for one, entity in zip(self.sent, self.entities, strict=False)
        )
        return Entities(known)


@dataclass(slots=True)
class FetchRecord:
    """What became of a fetch; `answer` is None until it has come, or if nothing had to be asked."""

    answer: Answer | ServiceFailure | None = None
    calls: Sequence[CallRecord] = ()

    def fail(self, failure: ServiceFailure) -> None:
        self.answer = failure
        for call in self.calls:
            call.entities = ()


class Careful:
    """Does for one plan what the generated code does, for answers with anything wrong in them."""

    def __init__(self, plan: Plan, schema: GraphQLSchema) -> None:
        self.plan = plan
        self.schema = schema
        self.abstract = frozenset(
            name for name, kind in schema.type_map.items() if is_interface_type(kind)
        )

    def tree(self, records: Sequence[FetchRecord], numbers: Iterable[int]) -> MergedTree:
        """The merged tree of some fetches' answers."""
        tree = MergedTree(self.abstract)
        for number in sorted(numbers):
            fetch, record = self.plan.fetches[number], records[number]
            if fetch.entities:
                for call, made in zip(fetch.entities, record.calls, strict=False):
                    tree.add_entities(call, made.table())
            elif isinstance(record.answer, Answer):
                tree.add_root(fetch, record.answer.data)
        return tree

    def collect(
        self, fetch: Fetch, records: Sequence[FetchRecord], ancestors: Iterable[int]
    ) -> list[list[dict[str, Any]]]:
        """The distinct representations of each of a fetch's calls."""
        tree = self.tree(records, ancestors)
        return [
            list({canonical(made): made for _, _, made in tree.targets(call)}.values())
            for call in fetch.entities
        ]

    def finish(
        self, records: Sequence[FetchRecord], local: Mapping[str, Any]
    ) -> tuple[dict[str, Any] | None, list[Error]]:
        """The client's data and every error, those of fetches first."""
        tree = self.tree(records, range(len(records)))
        told = (
            error
            for number, (fetch, record) in enumerate(zip(self.plan.fetches, records, strict=True))
            for error in _told_by(record, _Lost(fetch, tree, self._never_sent(number, records)))
        )
        errors = list(islice(told, MAX_ERRORS))
        completion = Completion(self.schema, local, self.abstract, errors)
        data = completion.run(self.plan.operation, tree.root)
        return data, completion.errors

    def _never_sent(self, number: int, records: Sequence[FetchRecord]) -> list[tuple[str, ...]]:
        """Where the entities stand of fetches that waited for this one and were never sent."""
        return [
            tuple(step.key for step in path)
            for other, record in zip(self.plan.fetches, records, strict=True)
            if number in other.after and record.answer is None
            for call in other.entities
            for path in call.paths
        ]


def _told_by(record: FetchRecord, lost: "_Lost") -> Iterator[Error]:
    """Everything that a fetch's outcome says is wrong."""
    fetch, answer = lost.fetch, record.answer
    if isinstance(answer, ServiceFailure):
        yield from _failure(fetch, answer, lost.of(fetch.entities))
    elif answer is not None:
        for error in answer.errors:
            yield from _told(record, lost, error)
        yield from _no_objects(record, lost)


def _failure(fetch: Fetch, failure: ServiceFailure, places: Iterable[ResponsePath]) -> list[Error]:
    """A fetch's failure, at everything that is missing for it."""
    base = {
        "message": f"{fetch.service}: {failure}",
        "extensions": {"code": failure.code, "service": fetch.service},
    }
    return [_at(base, place) for place in places]


def _no_objects(record: FetchRecord, lost: "_Lost") -> Iterator[Error]:
    """Entities that are neither objects nor null: completion never sees them."""
    fetch = lost.fetch
    failure = ServiceFailure("SUBGRAPH_MALFORMED", "an entity is no object")
    for call, made in zip(fetch.entities, record.calls, strict=False):
        odd = {
            canonical(sent)
            for sent, entity in zip(made.sent, made.entities, strict=False)
            if entity is not None and not isinstance(entity, dict)
        }
        if odd:
            yield from _failure(fetch, failure, lost.found([call], odd))


class _Lost:
    """The client's fields that are missing where a fetch was to give them.

    What other fetches were to give that could not be sent for lack of this one is missing, too:
    unless it lies in what is missing here, it is told where this one's objects stand.
    """

    def __init__(
        self, fetch: Fetch, tree: MergedTree, never_sent: Sequence[tuple[str, ...]]
    ) -> None:
        self.fetch = fetch
        self.tree = tree
        self.never_sent = never_sent
        self.known: dict[tuple[str | None, ...], list[ResponsePath]] = {}

    def of(self, calls: Sequence[EntityCall]) -> list[ResponsePath]:
        """Those of some of the fetch's calls; it has none if it is a root fetch."""
        key = tuple(call.alias for call in calls)
        if key not in self.known:  # A service may send any number of errors without a path.
            self.known[key] = self.found(calls)
        return self.known[key]

    def found(
        self, calls: Sequence[EntityCall], sent: Collection[bytes] | None = None
    ) -> list[ResponsePath]:
        """Above _EACH of them, the parts of their places before any list: those are few.

        Args:
            sent: Only for these representations, written canonically.
        """
        if not self.fetch.entities:
            found: Iterable[ResponsePath] = _missing(self.tree.root, self.fetch.selections, ())
        else:
            found = (
                missing
                for call in calls
                for place, target, representation in self.tree.targets(call)
                if sent is None or canonical(representation) in sent
                for missing in (
                    _missing(target, call.selections, place)
                    if _keys(call.selections)
                    else (place,)  # It was to say what kind of object stands there.
                )
            )
        first = list(islice(found, _EACH + 1))
        told = dict.fromkeys(first if len(first) <= _EACH else ())
        if not told or self._leaves(told):
            told |= dict.fromkeys(self._coarse(calls, first))
        return list(told)

    def _leaves(self, told: Iterable[ResponsePath]) -> bool:
        """Whether something of fetches never sent lies outside of what is told."""
        known = {tuple(key for key in place if isinstance(key, str)) for place in told}
        return any(
            not any(path[:length] in known for length in range(1, len(path) + 1))
            for path in self.never_sent
        )

    def _coarse(
        self, calls: Sequence[EntityCall], first: Sequence[ResponsePath]
    ) -> list[ResponsePath]:
        if self.fetch.entities:
            return _beginnings(self.tree, calls)
        keys = _keys(self.fetch.selections) if self.never_sent else [str(p[0]) for p in first if p]
        return list(dict.fromkeys((key,) for key in keys)) or [()]


def _keys(selections: Sequence[Selected]) -> list[str]:
    """The client's fields at the top of a selection, in fragments too."""
    keys: list[str] = []
    for one in selections:
        if not isinstance(one, SelectedField):
            keys += _keys(one.selections)
        elif one.into is not None and one.into != "__typename" and one.into[0] != "$":
            keys.append(one.into)
    return keys


def _missing(
    target: Mapping[str, Any], selections: Sequence[Selected], place: ResponsePath
) -> Iterator[ResponsePath]:
    """Paths of the client's fields among `selections` that an object has not."""
    for one in selections:
        if not isinstance(one, SelectedField):
            if matches(target, one.types):
                yield from _missing(target, one.selections, place)
        elif one.into is not None and one.into != "__typename" and one.into[0] != "$":
            here = (*place, one.into)
            yield from _missing_in(target.get(one.into), one.selections, here)


def _missing_in(
    value: Any, selections: Sequence[Selected], place: ResponsePath
) -> Iterator[ResponsePath]:
    if value is None:
        yield place
    elif isinstance(value, dict):
        yield from _missing(value, selections, place)
    elif isinstance(value, list) and selections:
        for index, item in enumerate(value):
            if item is not None:  # A null item was another's answer.
                yield from _missing_in(item, selections, (*place, index))


def _at(base: Error, place: ResponsePath) -> Error:
    return {"message": base["message"], **({"path": list(place)} if place else {}), **base}


def _beginnings(tree: MergedTree, calls: Sequence[EntityCall]) -> list[ResponsePath]:
    """Where entities that were asked for belong: the parts of their places before any list."""
    found: dict[ResponsePath, None] = {}
    for call in calls:
        for places in tree.places.get(id(call), {}).values():
            for place in places:
                length = next((i for i, key in enumerate(place) if isinstance(key, int)), None)
                found[place[:length]] = None
    return list(found) or [_beginning(calls[0].paths[0])]


def _beginning(path: Path) -> ResponsePath:
    """The part of a path that is the same for all its targets: up to the first list."""
    keys: list[str] = []
    for step in path:
        keys.append(step.key)
        if step.lists:
            break
    return tuple(keys)


def _told(record: FetchRecord, lost: _Lost, error: Any) -> list[Error]:
    """A service's error at each place of the client's data that it is about."""
    given = error if isinstance(error, dict) else {}
    message = given.get("message")
    extensions = given.get("extensions")
    path = given.get("path")
    keys = [one for one in path if _is_key(one)] if isinstance(path, list) else []
    base = {
        "message": message if isinstance(message, str) else f"{lost.fetch.service}: an error",
        "extensions": {
            **(extensions if isinstance(extensions, dict) else {}),
            "service": lost.fetch.service,
        },
    }
    return [_at(base, place) for place in _places(record, lost, keys)]


def _is_key(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _places(record: FetchRecord, lost: _Lost, path: Sequence[str | int]) -> list[ResponsePath]:
    fetch, tree = lost.fetch, lost.tree
    if not fetch.entities:
        whole = isinstance(record.answer, Answer) and record.answer.data is None
        return [translate(fetch.selections, path)] if path or not whole else lost.of(())
    if fetch.entities[0].alias is None:
        call, made = fetch.entities[0], record.calls[0]
        return _targets(tree, call, made.sent[0], translate(call.selections, path))
    found = next(
        (
            (call, made)
            for call, made in zip(fetch.entities, record.calls, strict=False)
            if path and call.alias == path[0]
        ),
        None,
    )
    if found is None:
        return lost.of(fetch.entities)
    call, made = found
    index = path[1] if len(path) > 1 else None
    if not isinstance(index, int) or not 0 <= index < len(made.sent):
        return lost.of([call])
    return _targets(tree, call, made.sent[index], translate(call.selections, path[2:]))


def _targets(
    tree: MergedTree, call: EntityCall, representation: Mapping[str, Any], rest: ResponsePath
) -> list[ResponsePath]:
    places = tree.places.get(id(call), {}).get(canonical(representation), ())
    return [place + rest for place in places[:MAX_ERRORS]] or [_beginning(call.paths[0])]
