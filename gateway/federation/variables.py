"""The values of an operation's variables: checked by compiled functions, forwarded as they came.

graphql-core coerces variables to Python values, by interpretation; a gateway hands the client's
JSON on. So each declared type is compiled once to a function that says whether a value certainly
fits. What it doubts goes to graphql-core, whose word is final and whose errors the client reads.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    GraphQLSchema,
    VariableDefinitionNode,
    get_variable_values,
    is_required_input_field,
    type_from_ast,
    value_from_ast_untyped,
)

Fits = Callable[[Any], bool]


class Variables:
    """What one operation declares.

    Args:
        definitions: Valid in `schema`.
    """

    def __init__(
        self, schema: GraphQLSchema, definitions: Sequence[VariableDefinitionNode]
    ) -> None:
        self._schema = schema
        self._definitions = tuple(definitions)
        self._checks: list[tuple[str, Fits, bool]] = []
        self._defaults: dict[str, Any] = {}
        self._unsendable: dict[str, GraphQLError] = {}
        types = _Types()
        for one in self._definitions:
            name = one.variable.name.value
            declared: Any = type_from_ast(schema, one.type)
            if one.default_value is not None:
                default = value_from_ast_untyped(one.default_value)
                self._defaults[name] = default
                if not _writable(default):
                    told = f'Variable "${name}" has a default value that cannot be sent as JSON.'
                    self._unsendable[name] = GraphQLError(told, one.default_value)
            required = isinstance(declared, GraphQLNonNull) and one.default_value is None
            self._checks.append((name, types.fits(declared), required))

    def read(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values to forward: those given, and defaults for the others.

        Raises:
            Uncoercible: A value is missing or not of its type, or a default cannot be sent.
        """
        if not self._checks:
            return _NONE
        values: dict[str, Any] = {}
        doubted = False
        for name, fits, required in self._checks:
            if name in given:
                values[name] = given[name]
                doubted = doubted or not _holds(fits, given[name])
            elif name in self._unsendable:
                raise Uncoercible([self._unsendable[name]])
            elif name in self._defaults:
                values[name] = self._defaults[name]
            elif required:
                doubted = True
        if doubted:
            self._ask(given)
        return values

    def _ask(self, given: Mapping[str, Any]) -> None:
        """Let graphql-core decide."""
        try:
            found = get_variable_values(
                self._schema, self._definitions, dict(given), max_errors=10, hide_suggestions=True
            )
        except RecursionError as error:
            raise Uncoercible([GraphQLError("A variable is nested too deeply.")]) from error
        if isinstance(found, list):
            raise Uncoercible(found)


class Uncoercible(Exception):
    """Variables are missing or not of their types; `errors` are graphql-core's."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        self.errors = tuple(errors)
        super().__init__(self.errors[0].message)


_NONE: Mapping[str, Any] = {}


def _holds(fits: Fits, value: Any) -> bool:
    try:
        return fits(value)
    except RecursionError:
        return False


def _writable(value: Any) -> bool:
    """Whether a default is in JSON what it is here: 1e999 is not, nor is a number of any length."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return True


class _Types:
    """Compiles types; input objects that contain themselves are looked up when they are met."""

    def __init__(self) -> None:
        self._objects: dict[str, Fits] = {}

    def fits(self, kind: GraphQLInputType) -> Fits:
        """Whether a value certainly is one of `kind`."""
        if isinstance(kind, GraphQLNonNull):
            inner = self.fits(kind.of_type)
            return lambda value: value is not None and inner(value)
        if isinstance(kind, GraphQLList):
            item = self.fits(kind.of_type)
            return lambda value: (
                value is None or (all(map(item, value)) if type(value) is list else item(value))
            )
        if isinstance(kind, GraphQLScalarType):
            return _SCALARS.get(kind.name, _anything)
        if isinstance(kind, GraphQLEnumType):
            names = frozenset(kind.values)
            return lambda value: value is None or (type(value) is str and value in names)
        assert isinstance(kind, GraphQLInputObjectType)
        return self._object(kind)

    def _object(self, kind: GraphQLInputObjectType) -> Fits:
        objects, name = self._objects, kind.name
        if name not in objects:
            objects[name] = lambda _: False  # Until its fields are known.
            fields = {key: self.fits(one.type) for key, one in kind.fields.items()}
            required = tuple(
                key for key, one in kind.fields.items() if is_required_input_field(one)
            )
            objects[name] = _object_check(fields, required, one_of=kind.is_one_of)
        return lambda value: value is None or objects[name](value)


def _object_check(fields: Mapping[str, Fits], required: Sequence[str], *, one_of: bool) -> Fits:
    def fits(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for key in required:
            if key not in value:
                return False
        for key, inner in value.items():
            check = fields.get(key)
            if check is None or not check(inner):
                return False
        return not one_of or (len(value) == 1 and None not in value.values())

    return fits


def _anything(_: Any) -> bool:
    return True


def _int(value: Any) -> bool:
    return value is None or (type(value) is int and -(2**31) <= value < 2**31)


def _float(value: Any) -> bool:
    if value is None or type(value) is int:
        return value is None or abs(value) < 2**53
    return type(value) is float and math.isfinite(value)


def _text(value: Any) -> bool:
    return value is None or type(value) is str


def _truth(value: Any) -> bool:
    return value is None or value is True or value is False


def _id(value: Any) -> bool:
    return value is None or type(value) is str or type(value) is int


_SCALARS: Mapping[str, Fits] = {
    "Int": _int,
    "Float": _float,
    "String": _text,
    "Boolean": _truth,
    "ID": _id,
}
