"""What merging builds: the supergraph's schema with its `join__` annotations, before it is printed.

Types are texts (`[Int!]!`): comparing and widening them needs no more. Directives are applied under
the names they have in the supergraph. Their arguments are Python values, with `Symbol` for what
prints without quotes (enum values).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    BooleanValueNode,
    ConstValueNode,
    EnumValueNode,
    FloatValueNode,
    IntValueNode,
    ListTypeNode,
    ListValueNode,
    NamedTypeNode,
    NonNullTypeNode,
    ObjectValueNode,
    StringValueNode,
    TypeNode,
    ValueNode,
)

from gateway.federation.composition.subgraph import Kind, Link


class TooLarge(Exception):
    """What merging would have to write down grows beyond what it was given."""


class Symbol(str):
    """An enum value: a name, not a string."""

    __slots__ = ()


@dataclass(slots=True)
class Mark:
    """A directive applied to an element of the supergraph."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class MergedArgument:
    """An argument of a field or directive, or a field of an input object."""

    name: str
    type: str
    default: Any = None
    has_default: bool = False
    description: str | None = None
    marks: list[Mark] = field(default_factory=list)


@dataclass(slots=True)
class MergedField:
    """A field of an object or interface."""

    name: str
    type: str
    arguments: dict[str, MergedArgument] = field(default_factory=dict)
    description: str | None = None
    marks: list[Mark] = field(default_factory=list)


@dataclass(slots=True)
class MergedValue:
    """A value of an enum."""

    name: str
    description: str | None = None
    marks: list[Mark] = field(default_factory=list)


@dataclass(slots=True)
class MergedType:
    """A named type of the supergraph."""

    name: str
    kind: Kind
    description: str | None = None
    marks: list[Mark] = field(default_factory=list)
    fields: dict[str, MergedField] = field(default_factory=dict)
    input_fields: dict[str, MergedArgument] = field(default_factory=dict)
    interfaces: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    values: dict[str, MergedValue] = field(default_factory=dict)


@dataclass(slots=True)
class MergedDirective:
    """A directive the supergraph defines."""

    name: str
    arguments: dict[str, MergedArgument]
    locations: list[str]
    repeatable: bool
    description: str | None = None


@dataclass(slots=True)
class Merged:
    """The supergraph. `graphs`: service name to (enum value, URL), in order of the names."""

    graphs: dict[str, tuple[str, str]]
    join_version: tuple[int, int]
    types: dict[str, MergedType] = field(default_factory=dict)
    directives: dict[str, MergedDirective] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    description: str | None = None
    local_names: dict[str, str] = field(default_factory=dict)

    def named(self, marks: list[Mark], canonical: str) -> Mark | None:
        """The application of a spec's directive, whatever the supergraph calls it."""
        local = self.local_names.get(canonical, canonical)
        return next((mark for mark in marks if mark.name == local), None)


def type_text(node: TypeNode) -> str:
    """A type as text."""
    if isinstance(node, NonNullTypeNode):
        return f"{type_text(node.type)}!"
    if isinstance(node, ListTypeNode):
        return f"[{type_text(node.type)}]"
    assert isinstance(node, NamedTypeNode)
    return node.name.value


def base_name(text: str) -> str:
    """The named type at a type's heart."""
    return text.strip("[]!")


def python_value(node: ValueNode) -> Any:
    """A constant as a Python value; numbers too large for a float stay as they are written."""
    value: Any = None
    match node:
        case EnumValueNode():
            value = Symbol(node.value)
        case StringValueNode() | BooleanValueNode():
            value = node.value
        case IntValueNode():
            value = int(node.value) if len(node.value) < 400 else float(node.value)
        case FloatValueNode():
            value = float(node.value)
        case ListValueNode():
            value = [python_value(item) for item in node.values]
        case ObjectValueNode():
            value = {item.name.value: python_value(item.value) for item in node.fields}
    return value


def default_value(node: ConstValueNode | None) -> tuple[Any, bool]:
    """A default as (value, whether there is one)."""
    return (None, False) if node is None else (python_value(node), True)


def frozen(value: Any) -> Any:
    """A value to compare and hash: the order of an object's fields does not matter."""
    if isinstance(value, Symbol):
        return ("symbol", str(value))
    if isinstance(value, Mapping):
        return ("object", frozenset((key, frozen(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return ("list", tuple(frozen(item) for item in value))
    if isinstance(value, bool) or value is None:
        return (type(value).__name__, value)
    return ("number", float(value)) if isinstance(value, int | float) else value


def element(path: str) -> str:
    """How messages name an element."""
    return f'"{path}"'
