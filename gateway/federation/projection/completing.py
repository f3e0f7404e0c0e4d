"""Value completion as the GraphQL specification has it (§6.4.3), over a merged tree.

A field that must not be null and is, or that is wrong, makes its nearest nullable ancestor null.
Nulls that a fetch's own error explains are not reported a second time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLError,
    GraphQLList,
    GraphQLNonNull,
    GraphQLOutputType,
    GraphQLScalarType,
    GraphQLSchema,
    is_abstract_type,
    is_specified_scalar_type,
)

from gateway.federation.api_schema import HIDDEN
from gateway.federation.operation import Field, Operation, Selection
from gateway.federation.projection.merging import ResponsePath

MAX_ERRORS = 1_000
"""Errors told of one operation; what goes wrong beyond it is null without a word."""

Error = dict[str, Any]


class _Nulled(Exception):
    """A value that must not be null is."""


@dataclass(slots=True)
class Completion:
    """One completion; `errors` are those of fetches before it and its own after it."""

    schema: GraphQLSchema
    local: Mapping[str, Any]
    abstract: frozenset[str]
    errors: list[Error] = field(default_factory=list)
    types: dict[str, frozenset[str]] = field(default_factory=dict)
    told: set[ResponsePath] = field(default_factory=set)
    above: set[ResponsePath] = field(default_factory=set)

    def run(self, operation: Operation, root: Mapping[str, Any]) -> dict[str, Any] | None:
        """The client's data. `local` holds the root fields that no subgraph answers."""
        for told in self.errors:
            self.note(tuple(told.get("path") or ()))
        try:
            return self.object(operation.selections, operation.root, {**root, **self.local}, ())
        except _Nulled:
            return None

    def object(
        self,
        selections: Sequence[Selection],
        typename: str | None,
        source: Mapping[str, Any],
        path: ResponsePath,
    ) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, fields in self.collect(selections, typename).items():
            one = fields[0]
            below = (*path, key)
            if one.name == "__typename":
                made[key] = typename
            elif one.name in ("__schema", "__type"):
                made[key] = source.get(key)
            else:
                inner = one.selections if len(fields) == 1 else _joined(fields)
                made[key] = self.value(one, one.type, inner, source.get(key), below)
        return made

    def collect(
        self, selections: Sequence[Selection], typename: str | None
    ) -> dict[str, list[Field]]:
        """Fields by response key for an object of one type."""
        made: dict[str, list[Field]] = {}
        self._collect(selections, typename, made)
        return made

    def _collect(
        self, selections: Sequence[Selection], typename: str | None, made: dict[str, list[Field]]
    ) -> None:
        for one in selections:
            if isinstance(one, Field):
                made.setdefault(one.key, []).append(one)
            elif typename is None or typename in self.possible(one.on):
                self._collect(one.selections, typename, made)

    def value(
        self,
        one: Field,
        kind: GraphQLOutputType,
        selections: Sequence[Selection],
        value: Any,
        path: ResponsePath,
    ) -> Any:
        """A value completed; an error in it makes it null, or raises if it must not be."""
        if isinstance(kind, GraphQLNonNull):
            try:
                made = self.value(one, kind.of_type, selections, value, path)
            except _Nulled:
                made = None
            if made is None:
                if not self.known(path):
                    message = f"Cannot return null for non-nullable field {one.parent}.{one.name}."
                    self.report(message, path, "NON_NULLABLE_FIELD")
                raise _Nulled
            return made
        if value is None:
            return None
        try:
            return self.present(one, kind, selections, value, path)
        except _Nulled:
            return None

    def present(
        self,
        one: Field,
        kind: GraphQLOutputType,
        selections: Sequence[Selection],
        value: Any,
        path: ResponsePath,
    ) -> Any:
        if isinstance(kind, GraphQLList):
            if not isinstance(value, list):
                return self.wrong(one, "a list", path)
            return [
                self.value(one, kind.of_type, selections, item, (*path, index))
                for index, item in enumerate(value)
            ]
        if isinstance(kind, GraphQLScalarType | GraphQLEnumType):
            return self.leaf(one, kind, value, path)
        if not isinstance(value, dict):
            return self.wrong(one, "an object", path)
        return self.complex(kind.name, selections, value, path)  # type: ignore[union-attr]  # Composite.

    def complex(
        self,
        kind: str,
        selections: Sequence[Selection],
        source: Mapping[str, Any],
        path: ResponsePath,
    ) -> dict[str, Any] | None:
        """An object of a type. One of an unknown type is null; one nobody was asked for is not."""
        possible = self.possible(kind)
        if possible == {kind}:
            return self.object(selections, kind, source, path)
        given = source.get("__typename")
        if given in possible:
            return self.object(selections, given, source, path)
        if given is not None and given not in self.abstract:
            return None
        if self.wants_type(selections, possible):
            return None
        return self.object(selections, None, source, path)

    def wants_type(self, selections: Sequence[Selection], possible: frozenset[str]) -> bool:
        """Whether an object's data depends on which of the types it is."""
        return any(
            one.name == "__typename"
            if isinstance(one, Field)
            else not possible <= self.possible(one.on) or self.wants_type(one.selections, possible)
            for one in selections
        )

    def leaf(
        self,
        one: Field,
        kind: GraphQLScalarType | GraphQLEnumType,
        value: Any,
        path: ResponsePath,
    ) -> Any:
        if isinstance(kind, GraphQLEnumType):
            if isinstance(value, str) and value in kind.values:
                return value
            if isinstance(value, str) and value in kind.extensions.get(HIDDEN, ()):
                return None  # Inaccessible, not wrong: clients are not told of it.
        elif not is_specified_scalar_type(kind) or (kind.name == "Float" and type(value) is int):
            return value
        else:
            try:
                return kind.coerce_output_value(value)
            except (GraphQLError, TypeError, ValueError, OverflowError):
                pass
        return self.wrong(one, f"of type {kind.name}", path)

    def wrong(self, one: Field, expected: str, path: ResponsePath) -> None:
        self.report(f"The value of {one.parent}.{one.name} is not {expected}.", path, "BAD_VALUE")

    def known(self, path: ResponsePath) -> bool:
        """Whether an error told before lies at the path, above it or below it."""
        return path in self.above or any(path[:length] in self.told for length in range(len(path)))

    def note(self, path: ResponsePath) -> None:
        self.told.add(path)
        self.above.update(path[:length] for length in range(len(path) + 1))

    def report(self, message: str, path: ResponsePath, code: str) -> None:
        if len(self.errors) < MAX_ERRORS:  # Beyond it nothing is told, so nothing is told twice.
            self.note(path)
            self.errors.append(
                {"message": message, "path": list(path), "extensions": {"code": code}}
            )

    def possible(self, name: str) -> frozenset[str]:
        """Names of the object types that a type stands for."""
        found = self.types.get(name)
        if found is None:
            kind = self.schema.get_type(name)
            found = (
                frozenset(one.name for one in self.schema.get_possible_types(kind))
                if is_abstract_type(kind)
                else frozenset({name})
            )
            self.types[name] = found
        return found


def _joined(fields: Sequence[Field]) -> tuple[Selection, ...]:
    return tuple(inner for one in fields for inner in one.selections)
