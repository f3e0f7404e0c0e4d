"""A subgraph in process: it answers what it is asked by the rules, and throws at anything else."""

import inspect
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    FieldNode,
    GraphQLResolveInfo,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    build_ast_schema,
    execute,
    is_abstract_type,
    parse,
    validate,
    value_from_ast_untyped,
)
from graphql.execution import subscribe

from tests.federation.harness import documents
from tests.federation.harness.documents import FieldRules, TypeRules
from tests.federation.harness.world import MustNotBeAsked, Record, World, value


class CalledWrongly(Exception):
    """The gateway asked for something this subgraph must not be asked."""


@dataclass(slots=True)
class Seen:
    """An object on its way through a subgraph's answer.

    `provided` is what @provides adds on the path here, `sent` the representation it came from.
    """

    record: Record
    provided: tuple[SelectionSetNode, ...] = ()
    sent: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Asked:
    """One request to a subgraph."""

    graph: str
    query: str
    variables: Mapping[str, Any]
    headers: Mapping[str, str]


@dataclass
class Log:
    """Every request to a federation's subgraphs, every field they resolved, every wrong call."""

    requests: list[Asked] = field(default_factory=list)
    fields: set[tuple[str, str, str]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


class Subgraph:
    """One subgraph over the common data."""

    def __init__(
        self, name: str, sdl: str, world: World, possible: Callable[[str], set[str]], log: Log
    ) -> None:
        self.name, self.sdl, self.log = name, sdl, log
        self._world, self._possible = world, possible
        document = parse(sdl)
        self._rules = documents.rules(document)
        self._entities = sorted(
            name for name, rule in self._rules.items() if rule.keys and not rule.abstract
        )
        self.schema = build_ast_schema(
            documents.plain(document, self._machinery()), assume_valid_sdl=True
        )
        for type_ in self.schema.type_map.values():
            if is_abstract_type(type_):
                type_.resolve_type = self._typename
        self._keyed = self._key_fields()

    def answer(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        operation: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The subgraph's answer to one request."""
        self.log.requests.append(Asked(self.name, query, dict(variables or {}), headers or {}))
        try:
            document = self._checked(query, variables or {})
        except CalledWrongly as wrong:
            return {"errors": [self._blame(wrong)], "data": None}
        root = _operation(document, operation).operation.value
        result = execute(
            self.schema,
            document,
            root_value=Seen(getattr(self._world, root)),
            variable_values=dict(variables or {}),
            operation_name=operation,
            field_resolver=self._resolve,
        )
        return dict(result.formatted)

    async def events(
        self, query: str, variables: Mapping[str, Any] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """The answers of a subscription, one an event."""
        self.log.requests.append(Asked(self.name, query, dict(variables or {}), {}))
        document = self._checked(query, variables or {})
        stream: Any = subscribe(
            self.schema,
            document,
            root_value=Seen(self._world.subscription),
            variable_values=dict(variables or {}),
            field_resolver=self._resolve_event,
            subscribe_field_resolver=self._stream,
        )
        if inspect.isawaitable(stream):
            stream = await stream
        if not hasattr(stream, "__aiter__"):
            yield dict(stream.formatted)  # Nothing could be started.
            return
        async for result in stream:
            yield dict(result.formatted)

    def _machinery(self) -> str:
        text = "extend type Query { _service: _Service! } type _Service { sdl: String! }"
        if self._entities:
            text += f" scalar _Any union _Entity = {' | '.join(self._entities)}"
            text += " extend type Query { _entities(representations: [_Any!]!): [_Entity]! }"
        return text

    def _checked(self, query: str, variables: Mapping[str, Any]) -> Any:
        """The request's document; CalledWrongly where it is not valid."""
        try:
            document = parse(query)
        except Exception as error:
            raise CalledWrongly(f"not GraphQL: {error}: {query}") from error
        errors = validate(self.schema, document)
        if errors:
            raise CalledWrongly(f"not valid: {errors[0].message}: {query}")
        operations = [n for n in document.definitions if isinstance(n, OperationDefinitionNode)]
        declared = {v.variable.name.value for o in operations for v in o.variable_definitions or ()}
        if set(variables) - declared:
            raise CalledWrongly(f"variables nobody declared: {set(variables) - declared}")
        lists = [value for value in variables.values() if _are_representations(value)]
        if "_entities" in query and lists and not any(lists):
            raise CalledWrongly("asked for no entity at all")
        return document

    def _blame(self, wrong: CalledWrongly) -> dict[str, Any]:
        self.log.wrong.append(f"{self.name}: {wrong}")
        return {"message": str(wrong), "extensions": {"code": "CALLED_WRONGLY"}}

    def _typename(self, seen: Seen, info: GraphQLResolveInfo, type_: Any) -> str:
        """The object type in this subgraph: an interface object stands for its implementations."""
        name: str = seen.record["__typename"]
        if name in self.schema.type_map:
            return name
        for candidate, rule in self._rules.items():
            if rule.interface_object and name in self._possible(candidate):
                return candidate
        raise CalledWrongly(f"{self.name} does not know {name}, asked for {type_}")

    def _kinds(self, typename: str) -> set[str]:
        """All types an object of an object type belongs to."""
        return {name for name in self.schema.type_map if typename in self._possible(name)}

    def _key_fields(self) -> set[tuple[str, str]]:
        """All (type, field) that stand in a key: known to the subgraph even when @external."""
        found: set[tuple[str, str]] = set()
        for name, rule in self._rules.items():
            for fields, _ in rule.keys:
                self._mark(name, fields, found)
        return found

    def _mark(self, typename: str, fields: SelectionSetNode, found: set[tuple[str, str]]) -> None:
        for node in fields.selections:
            if isinstance(node, InlineFragmentNode):
                self._mark(node.type_condition.name.value, node.selection_set, found)
            elif node.name.value != "__typename":
                owners = self._possible(typename) | {typename}
                found.update((owner, node.name.value) for owner in owners)
                if node.selection_set:
                    type_ = self.schema.type_map[typename].fields[node.name.value].type
                    self._mark(_named(type_), node.selection_set, found)

    # Resolving

    def _resolve(self, seen: Seen, info: GraphQLResolveInfo, **arguments: Any) -> Any:
        name, parent = info.field_name, info.parent_type.name
        if parent == "_Service":
            return self.sdl
        if name == "_service":
            return Seen({"__typename": "_Service"})
        try:
            if name == "_entities":
                return self._represented(arguments["representations"])
            self.log.fields.add((self.name, parent, name))
            return self._known(seen, parent, name, arguments)
        except CalledWrongly as wrong:
            self._blame(wrong)
            raise

    def _known(self, seen: Seen, parent: str, name: str, arguments: Mapping[str, Any]) -> Any:
        rule = self._rules.get(parent, TypeRules()).fields.get(name, FieldRules())
        provided = _under(seen.provided, name, self._kinds(seen.record["__typename"]) | {parent})
        if rule.external and provided is None and (parent, name) not in self._keyed:
            raise CalledWrongly(f"{parent}.{name} is external here")
        if rule.requires is not None:
            if seen.sent is None:
                raise CalledWrongly(f"{parent}.{name} requires what no representation brought")
            self._compare(seen.record, seen.sent, rule.requires, f"{parent}.{name} requires")
        sets = list(provided or ())
        if rule.provides is not None:
            sets.append(rule.provides)
        try:
            return _seen(value(seen.record, name, arguments, self.name), tuple(sets))
        except MustNotBeAsked as wrong:
            raise CalledWrongly(f"{parent}.{name}: {wrong}") from wrong
        except KeyError as missing:
            raise CalledWrongly(f"{parent}.{name}: the data lacks {missing}") from missing

    def _represented(self, representations: list[dict[str, Any]]) -> list[Seen | None]:
        texts = [json.dumps(sent, sort_keys=True) for sent in representations]
        if len(set(texts)) < len(texts):
            raise CalledWrongly(f"asked twice for the same representation: {texts}")
        return [self._entity(sent) for sent in representations]

    def _entity(self, sent: dict[str, Any]) -> Seen | None:
        typename = sent.get("__typename")
        rule = self._rules.get(str(typename))
        if rule is None or not rule.keys:
            raise CalledWrongly(f"no entity here: {sent}")
        self._check_fields(sent, rule)
        usable = [k for k, resolvable in rule.keys if resolvable and self._has(sent, k)]
        if not usable:
            raise CalledWrongly(f"no resolvable key in {sent}")
        for record in self._world.of(*self._possible(str(typename)), str(typename)):
            if all(self._same(record, sent, key) for key in usable):
                known = self.name not in record.get("@absent", ())
                return Seen(record, sent=sent) if known else None
        return None

    def _check_fields(self, sent: dict[str, Any], rule: TypeRules) -> None:
        sets = [fields for fields, _ in rule.keys]
        typename = str(sent["__typename"])
        for name in {typename, *self._possible(typename)}:
            of_type = self._rules.get(name, TypeRules())
            sets += [r.requires for r in of_type.fields.values() if r.requires is not None]
        asked = {"__typename"} | {name for fields in sets for name in _names(fields)}
        if set(sent) - asked:
            raise CalledWrongly(f"nobody asked for {sorted(set(sent) - asked)} in {sent}")

    def _has(self, sent: Any, key: SelectionSetNode) -> bool:
        """Whether a representation brings a whole key."""
        if isinstance(sent, list):
            return all(self._has(item, key) for item in sent)
        if not isinstance(sent, dict):
            return False
        for node in key.selections:
            if isinstance(node, FieldNode) and node.name.value != "__typename":
                found = sent.get(node.name.value)
                if found is None or (
                    node.selection_set and not self._has(found, node.selection_set)
                ):
                    return False
        return True

    def _same(self, record: Record, sent: Any, key: SelectionSetNode) -> bool:
        try:
            self._compare(record, sent, key, "")
        except CalledWrongly:
            return False
        return True

    def _compare(self, record: Any, sent: Any, fields: SelectionSetNode, what: str) -> None:
        """CalledWrongly where a representation differs from the data in a selection."""
        if isinstance(record, list) and isinstance(sent, list) and len(record) == len(sent):
            for one, other in zip(record, sent, strict=True):
                self._compare(one, other, fields, what)
            return
        if not isinstance(record, dict) or not isinstance(sent, Mapping):
            if record is not None or sent is not None:
                raise CalledWrongly(f"{what}: {sent!r} was sent for {record!r}")
            return
        for node in fields.selections:
            if isinstance(node, InlineFragmentNode):
                self._compare_fragment(record, sent, node, what)
                continue
            name = node.name.value
            if name not in sent:
                raise CalledWrongly(f"{what} {name}, which {dict(sent)} lacks")
            if name != "__typename":
                self._compare_field(record, sent[name], node, what)
            elif sent[name] != record[name]:
                raise CalledWrongly(f"{what} the type {record[name]}, {sent[name]} was sent")

    def _compare_fragment(
        self, record: Any, sent: Any, node: InlineFragmentNode, what: str
    ) -> None:
        condition, name = node.type_condition, record["__typename"]
        if condition is None or name in self._possible(condition.name.value):
            self._compare(record, sent, node.selection_set, what)

    def _compare_field(self, record: Any, sent: Any, node: FieldNode, what: str) -> None:
        arguments = {a.name.value: value_from_ast_untyped(a.value) for a in node.arguments or ()}
        try:
            truth = value(record, node.name.value, arguments, None)
        except KeyError as missing:
            raise CalledWrongly(f"the data lacks {missing}: {record}") from missing
        except Exception:
            return  # What failed where it was fetched may be sent as null.
        if node.selection_set:
            self._compare(truth, sent, node.selection_set, what)
        elif sent != truth:
            raise CalledWrongly(f"{what} {node.name.value}: {sent!r} was sent for {truth!r}")

    # Subscriptions

    async def _stream(self, seen: Seen, info: GraphQLResolveInfo, **arguments: Any) -> Any:
        async for event in value(seen.record, info.field_name, arguments, self.name):
            yield Seen({"__typename": "Subscription", info.field_name: event})

    def _resolve_event(self, seen: Seen, info: GraphQLResolveInfo, **arguments: Any) -> Any:
        return self._resolve(seen, info, **arguments)


def _seen(found: Any, provided: tuple[SelectionSetNode, ...]) -> Any:
    if isinstance(found, dict) and "__typename" in found:
        return Seen(found, provided)
    if isinstance(found, list):
        return [_seen(item, provided) for item in found]
    return found


def _under(
    sets: tuple[SelectionSetNode, ...], name: str, types: set[str]
) -> list[SelectionSetNode] | None:
    """What is provided below a field; None where the field itself is not provided."""
    below: list[SelectionSetNode] = []
    found = False
    for selections in sets:
        for node in selections.selections:
            if isinstance(node, InlineFragmentNode):
                if node.type_condition is None or node.type_condition.name.value in types:
                    inner = _under((node.selection_set,), name, types)
                    found, below = found or inner is not None, below + (inner or [])
            elif node.name.value == name:
                found = True
                below += [node.selection_set] if node.selection_set else []
    return below if found else None


def _are_representations(value: Any) -> bool:
    """Whether a variable may be a list of representations; an empty list may."""
    return isinstance(value, list) and all(isinstance(v, dict) and "__typename" in v for v in value)


def _names(fields: SelectionSetNode) -> set[str]:
    """The fields at the top of a selection, in fragments too."""
    found: set[str] = set()
    for node in fields.selections:
        inner = isinstance(node, InlineFragmentNode)
        found |= _names(node.selection_set) if inner else {node.name.value}
    return found


def _named(type_: Any) -> str:
    while hasattr(type_, "of_type"):
        type_ = type_.of_type
    return type_.name


def _operation(document: Any, name: str | None) -> OperationDefinitionNode:
    for node in document.definitions:
        named = getattr(node, "name", None)
        if isinstance(node, OperationDefinitionNode) and name in {None, named and named.value}:
            return node
    raise CalledWrongly(f"no operation {name}")
