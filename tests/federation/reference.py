"""What a plan means, carried out the simplest way: the oracle for the compiled executor.

One merged tree is filled fetch by fetch, in the order of their numbers, and read by walking the
operation. Nothing is shared, nothing runs at once, every subgraph is asked by a call.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    is_leaf_type,
    parse,
    value_from_ast_untyped,
)

from gateway.federation.normalise import normalise
from gateway.federation.operation import Field, Selection
from gateway.federation.plan import (
    EntityCall,
    Fetch,
    Input,
    Path,
    Plan,
    Representation,
    Selected,
    SelectedField,
)
from gateway.federation.planner import Planner
from tests.federation.harness.cases import Case
from tests.federation.harness.gateway import supergraph
from tests.federation.harness.running import Running

Tree = dict[str, Any]


class NullInside(Exception):
    """A null where the type allows none."""


def data_of(running: Running, case: Case) -> Any:
    """The data of a case, planned by our planner and carried out here; raises NoPlan."""
    found = supergraph(running.federation.supergraph)
    operation = normalise(found.api_schema, parse(case.query), case.operation, case.variables)
    plan = Planner(found).plan(operation, case.labels)
    return Reference(running, found.api_schema, case.variables).data(plan)


class Reference:
    """Carries out plans over a running federation."""

    def __init__(
        self, running: Running, schema: GraphQLSchema, variables: Mapping[str, Any]
    ) -> None:
        self._running, self._schema, self._given = running, schema, variables

    def data(self, plan: Plan) -> Any:
        """What the client gets as `data`."""
        variables = dict(self._given)
        for node in plan.operation.variables:
            if node.default_value is not None:
                default = value_from_ast_untyped(node.default_value)
                variables.setdefault(node.variable.name.value, default)
        tree: Tree = {}
        for fetch in plan.fetches:
            self._carry_out(fetch, tree, variables)
        try:
            return self._object(plan.operation.selections, plan.operation.root, tree)
        except NullInside:
            return None

    # Filling the tree

    def _carry_out(self, fetch: Fetch, tree: Tree, variables: Mapping[str, Any]) -> None:
        sent = {name: variables[name] for name in fetch.variables if name in variables}
        targets = {call.alias: list(self._targets(call, tree)) for call in fetch.entities}
        if fetch.entities and not any(targets.values()):
            return
        for call in fetch.entities:
            if call.alias is None:
                continue  # The root, once for all places that lead back to it.
            sent[call.variable] = list({_text(r): r for _, r in targets[call.alias]}.values())
        answer = self._running.subgraphs[fetch.service].answer(fetch.text, sent)
        data = answer.get("data") or {}
        _merge(fetch.selections, data, tree)
        for call in fetch.entities:
            if call.alias is None:
                for target, _ in targets[None]:
                    _merge(call.selections, data, target)
                continue
            order = [_text(representation) for representation in sent[call.variable]]
            entities = dict(zip(order, data.get(call.alias) or [None] * len(order), strict=True))
            for target, representation in targets[call.alias]:
                _merge(call.selections, entities[_text(representation)], target)

    def _targets(self, call: EntityCall, tree: Tree) -> Iterator[tuple[Tree, Tree]]:
        for path in call.paths:
            for target in _walk(path, tree):
                made = _represented(call.representations, target)
                if made is not None:
                    yield target, made

    # Reading it

    def _object(self, selections: Sequence[Selection], typename: str | None, tree: Tree) -> Tree:
        made: Tree = {}
        for field, parts in self._fields(selections, typename, tree):
            if field.name == "__typename":
                made[field.key] = typename
            elif not field.name.startswith("__"):
                made[field.key] = self._value(field.type, parts, tree.get(field.key))
        return made

    def _fields(
        self, selections: Sequence[Selection], typename: str | None, tree: Tree
    ) -> list[tuple[Field, list[Selection]]]:
        found: dict[str, tuple[Field, list[Selection]]] = {}
        for one in selections:
            if isinstance(one, Field):
                found.setdefault(one.key, (one, []))[1].extend(one.selections)
            elif typename in self._possible(one.on):
                for field, parts in self._fields(one.selections, typename, tree):
                    found.setdefault(field.key, (field, []))[1].extend(parts)
        return list(found.values())

    def _value(self, kind: GraphQLOutputType, parts: list[Selection], value: Any) -> Any:
        if isinstance(kind, GraphQLNonNull):
            made = self._value(kind.of_type, parts, value)
            if made is None:
                raise NullInside
            return made
        try:
            return self._nullable(kind, parts, value)
        except NullInside:
            return None

    def _nullable(self, kind: Any, parts: list[Selection], value: Any) -> Any:
        if value is None:
            return None
        if isinstance(kind, GraphQLList):
            return [self._value(kind.of_type, parts, item) for item in value]
        if is_leaf_type(kind):
            known = not isinstance(kind, GraphQLEnumType) or value in kind.values
            return value if known else None
        typename = value.get("__typename")
        if isinstance(kind, GraphQLObjectType):
            typename = kind.name
        if typename is not None and typename not in self._possible(kind.name):
            return None
        return self._object(parts, typename, value)

    def _possible(self, name: str) -> set[str]:
        type_ = self._schema.type_map[name]
        if isinstance(type_, GraphQLObjectType):
            return {name}
        return {one.name for one in self._schema.get_possible_types(type_)}


def _merge(selections: Sequence[Selected], answer: Any, target: Tree) -> None:
    """Lay a subgraph's object into an object of the tree."""
    if answer is None:
        return
    for one in selections:
        if isinstance(one, SelectedField) and one.into == "__typename" and one.key in answer:
            target.setdefault("__typename", answer[one.key])
    for one in selections:
        if not isinstance(one, SelectedField):
            if target.get("__typename") in {None, *one.types}:
                _merge(one.selections, answer, target)
        elif one.into is not None and one.key in answer and one.into != "__typename":
            target[one.into] = _joined(one.selections, answer[one.key], target.get(one.into))


def _joined(selections: Sequence[Selected], new: Any, old: Any) -> Any:
    if isinstance(new, list) and selections:
        before = old if isinstance(old, list) else [None] * len(new)
        return [_joined(selections, *pair) for pair in zip(new, before, strict=True)]
    if isinstance(new, dict) and selections:
        made = old if isinstance(old, dict) else {}
        _merge(selections, new, made)
        return made
    return old if new is None else new


def _walk(path: Path, tree: Tree) -> Iterator[Tree]:
    """The objects a path leads to."""
    level: list[Any] = [tree]
    for step in path:
        level = [one.get(step.key) for one in level]
        for _ in range(step.lists):
            level = [item for one in level if one is not None for item in one]
        level = [
            one
            for one in level
            if one is not None
            and (step.types is None or one.get("__typename") in {None, *step.types})
        ]
    yield from level


def _represented(representations: Sequence[Representation], target: Tree) -> Tree | None:
    for one in representations:
        typename = target.get("__typename")
        if one.types is not None and typename is not None and typename not in one.types:
            continue
        made = {"__typename": one.typename or typename, **_inputs(one.inputs, target)}
        return None if any(_incomplete(made.get(name)) for name in one.needed) else made
    return None


def _incomplete(value: Any) -> bool:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return any(_incomplete(one) for one in parts)
    return value is None


def _inputs(inputs: Sequence[Input], source: Any) -> Any:
    if isinstance(source, list):
        return [_inputs(inputs, item) for item in source]
    if source is None:
        return None
    made: Tree = {}
    for one in inputs:
        if one.types is None or source.get("__typename") in {None, *one.types}:
            value = source.get(one.key)
            made[one.name] = _inputs(one.inputs, value) if one.inputs else value
    return made


def _text(representation: Tree) -> str:
    return json.dumps(representation, sort_keys=True)
