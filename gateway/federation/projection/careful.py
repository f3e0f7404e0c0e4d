"""The slow pair at work: a merged tree gives representations, data, and errors with paths."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    translate,
)
from gateway.federation.services import Answer, ServiceFailure


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
        errors: list[Error] = []
        for fetch, record in zip(self.plan.fetches, records, strict=True):
            answer = record.answer
            if isinstance(answer, ServiceFailure):
                errors += _failure(fetch, record, tree, answer)
            elif answer is not None:
                for error in answer.errors:
                    errors += _told(fetch, record, tree, error)
        completion = Completion(self.schema, local, self.abstract, errors[:MAX_ERRORS])
        data = completion.run(self.plan.operation, tree.root)
        return data, completion.errors


def _failure(
    fetch: Fetch, record: FetchRecord, tree: MergedTree, failure: ServiceFailure
) -> list[Error]:
    """A fetch's failure, at everything that is missing for it."""
    base = {
        "message": f"{fetch.service}: {failure}",
        "extensions": {"code": failure.code, "service": fetch.service},
    }
    if fetch.entities:
        places = _beginnings(fetch, record, tree, fetch.entities)
    else:
        places = [(key,) for key in _keys(fetch.selections)] or [()]
    return [_at(base, place) for place in places]


def _keys(selections: Sequence[Selected]) -> list[str]:
    """The client's fields that a root fetch answers."""
    return [
        one.into
        for one in selections
        if isinstance(one, SelectedField) and one.into is not None and one.into != "__typename"
    ]


def _at(base: Error, place: ResponsePath) -> Error:
    return {"message": base["message"], **({"path": list(place)} if place else {}), **base}


def _beginnings(
    fetch: Fetch, record: FetchRecord, tree: MergedTree, calls: Iterable[EntityCall]
) -> list[ResponsePath]:
    """Where entities that were asked for belong: the parts of their places before any list."""
    found: dict[ResponsePath, None] = {}
    for call, made in zip(fetch.entities, record.calls, strict=False):
        if any(call is one for one in calls):
            places = tree.places.get(id(call), {})
            for one in made.sent:
                for place in places.get(canonical(one), ()):
                    length = next((i for i, key in enumerate(place) if isinstance(key, int)), None)
                    found[place[:length]] = None
    return list(found) or [_beginning(fetch.entities[0].paths[0])]


def _beginning(path: Path) -> ResponsePath:
    """The part of a path that is the same for all its targets: up to the first list."""
    keys: list[str] = []
    for step in path:
        keys.append(step.key)
        if step.lists:
            break
    return tuple(keys)


def _told(fetch: Fetch, record: FetchRecord, tree: MergedTree, error: Any) -> list[Error]:
    """A service's error at each place of the client's data that it is about."""
    given = error if isinstance(error, dict) else {}
    message = given.get("message")
    extensions = given.get("extensions")
    path = given.get("path")
    keys = [one for one in path if _is_key(one)] if isinstance(path, list) else []
    base = {
        "message": message if isinstance(message, str) else f"{fetch.service}: an error",
        "extensions": {
            **(extensions if isinstance(extensions, dict) else {}),
            "service": fetch.service,
        },
    }
    return [_at(base, place) for place in _places(fetch, record, tree, keys)]


def _is_key(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _places(
    fetch: Fetch, record: FetchRecord, tree: MergedTree, path: Sequence[str | int]
) -> list[ResponsePath]:
    if not fetch.entities:
        return [translate(fetch.selections, path)]
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
        return _beginnings(fetch, record, tree, fetch.entities)
    call, made = found
    index = path[1] if len(path) > 1 else None
    if not isinstance(index, int) or not 0 <= index < len(made.sent):
        return _beginnings(fetch, record, tree, [call])
    return _targets(tree, call, made.sent[index], translate(call.selections, path[2:]))


def _targets(
    tree: MergedTree, call: EntityCall, representation: Mapping[str, Any], rest: ResponsePath
) -> list[ResponsePath]:
    places = tree.places.get(id(call), {}).get(canonical(representation), ())
    return [place + rest for place in places[:MAX_ERRORS]] or [_beginning(call.paths[0])]
