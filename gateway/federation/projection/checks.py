"""Code that looks an answer over: is all that the client may read as the API schema says?

An answer is looked over once, however many operations share it and however often an entity stands
in the data. `joining` says which fields are read, and as what; where a check says no, the careful
way decides field by field.
"""

from collections.abc import Sequence

from graphql import (
    GraphQLEnumType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLOutputType,
    GraphQLScalarType,
    is_composite_type,
    is_specified_scalar_type,
)

from gateway.federation.plan import Selected, SelectedField
from gateway.federation.projection.layout import Candidate
from gateway.federation.projection.writing import Module, Writer

_MISSING = object()
_TESTS = {
    "String": "type({0}) is not str",
    "ID": "type({0}) is not str",
    "Boolean": "type({0}) is not bool",
    "Float": "type({0}) is not float and type({0}) is not int",
    "Int": "type({0}) is not int or not -2147483648 <= {0} <= 2147483647",
}


class Checks:
    """What the client reads of each selected field, gathered; then the code."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._wanted: dict[int, dict[str, GraphQLOutputType]] = {}
        self._kept: list[SelectedField] = []

    def want(self, found: Candidate, kind: GraphQLOutputType) -> None:
        """Note that a field is read as a type."""
        for one in found.fields:
            self._kept.append(one)
            self._wanted.setdefault(id(one), {})[str(kind)] = kind

    def write(self, selections: Sequence[Selected]) -> str:
        """Write the check of one object, `check(o)`; returns the function's name.

        It returns False if anything is wrong. An object that is None is in order.
        """
        function = self.module.function("o")
        writer = Writer(self.module, function)
        with writer.block("if o is not None:"):
            self._fields(writer, "o", selections, sure=True)
        writer.line("return True")
        return function.name

    def _fields(
        self, writer: Writer, variable: str, selections: Sequence[Selected], *, sure: bool
    ) -> None:
        for one in selections:
            if not isinstance(one, SelectedField):
                self._fields(writer, variable, one.selections, sure=False)
                continue
            kinds = self._wanted.get(id(one))
            if not kinds:
                continue
            value = self.module.name("v")
            if sure:
                writer.line(f"{value} = {variable}[{one.key!r}]")
                for kind in kinds.values():
                    self._value(writer, value, kind, one)
                continue
            missing = self.module.constant(_MISSING)
            writer.line(f"{value} = {variable}.get({one.key!r}, {missing})")
            with writer.block(f"if {value} is not {missing}:"):
                for kind in kinds.values():
                    self._value(writer, value, kind, one)

    def _value(
        self, writer: Writer, value: str, kind: GraphQLOutputType, one: SelectedField
    ) -> None:
        if writer.deep():
            function = self.module.function(value)
            writer.line(f"if not {function.name}({value}): return False")
            with writer.inside(function):
                self._value(writer, value, kind, one)
                writer.line("return True")
            return
        if isinstance(kind, GraphQLNonNull):
            if not _tells_null(kind.of_type):
                writer.line(f"if {value} is None: return False")
            self._present(writer, value, kind.of_type, one)
            return
        mark = len(writer.function.lines)
        with writer.block(f"if {value} is not None:"):
            self._present(writer, value, kind, one)
        if writer.function.lines[mark + 1 :] == [" " * (writer.function.depth + 1) + "pass"]:
            del writer.function.lines[mark:]

    def _present(
        self, writer: Writer, value: str, kind: GraphQLOutputType, one: SelectedField
    ) -> None:
        if isinstance(kind, GraphQLList):
            writer.line(f"if type({value}) is not list: return False")
            item = self.module.name("v")
            with writer.block(f"for {item} in {value}:"):
                self._value(writer, item, kind.of_type, one)
        elif isinstance(kind, GraphQLEnumType):
            names = self.module.constant(frozenset(kind.values))
            writer.line(f"if type({value}) is not str or {value} not in {names}: return False")
        elif is_composite_type(kind):
            writer.line(f"if type({value}) is not dict: return False")
            self._fields(writer, value, one.selections, sure=True)
        elif is_specified_scalar_type(kind):  # type: ignore[arg-type]  # Scalars are left.
            writer.line(f"if {_TESTS[kind.name].format(value)}: return False")


def _tells_null(kind: GraphQLOutputType) -> bool:
    """Whether the test of a type's values says no to null by itself."""
    return not isinstance(kind, GraphQLScalarType) or is_specified_scalar_type(kind)
