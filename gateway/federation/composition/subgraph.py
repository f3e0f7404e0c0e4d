"""A subgraph as composition reads it: types and fields with federation's directives resolved.

Directive names are canonical here: what `@link` imported under another name, or left prefixed
(`@federation__key`), is called `key`. A document without `@link` to federation is of version 1 and
was upgraded on the way in.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from graphql import ConstDirectiveNode, ConstValueNode, TypeNode


class Kind(Enum):
    """The kinds of named types."""

    SCALAR = "SCALAR"
    OBJECT = "OBJECT"
    INTERFACE = "INTERFACE"
    UNION = "UNION"
    ENUM = "ENUM"
    INPUT = "INPUT_OBJECT"


@dataclass(slots=True)
class Applied:
    """A directive where it is applied; `arguments` as Python values, defaults not filled in.

    `identity` is the URL of the spec it belongs to without the version
    (`https://specs.apollo.dev/federation`), None for the subgraph's own and GraphQL's built-ins.
    `name` is canonical for the specs composition knows (federation, tag, inaccessible, cost, …),
    the local name for all others. `extended` says that it stands on an extension (or on a type
    that `@extends` makes one).
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    identity: str | None = None
    extended: bool = False
    declaration: int = 0  # which of a type's declarations it stands on
    node: ConstDirectiveNode | None = field(default=None, repr=False, compare=False)


@dataclass(slots=True)
class Argument:
    """An argument of a field, or a field of an input object."""

    name: str
    type: TypeNode
    default: ConstValueNode | None = None
    description: str | None = None
    directives: list[Applied] = field(default_factory=list)


@dataclass(slots=True)
class OutputField:
    """A field of an object or an interface.

    `external`: marked `@external` itself or by the declaration of its type it stands in.
    `shareable`: marked `@shareable` itself or by that declaration, part of a key, or in a document
    of version 1. The directives behind the two are not repeated in `directives` of the field when
    they stand on the type.
    """

    name: str
    type: TypeNode
    arguments: dict[str, Argument] = field(default_factory=dict)
    description: str | None = None
    directives: list[Applied] = field(default_factory=list)
    extended: bool = False  # declared in an extension
    external: bool = False
    shareable: bool = False


@dataclass(slots=True)
class EnumValue:
    """A value of an enum."""

    name: str
    description: str | None = None
    directives: list[Applied] = field(default_factory=list)


@dataclass(slots=True)
class TypeDefinition:
    """A named type; only what its kind has is filled."""

    name: str
    kind: Kind
    description: str | None = None
    directives: list[Applied] = field(default_factory=list)
    fields: dict[str, OutputField] = field(default_factory=dict)
    input_fields: dict[str, Argument] = field(default_factory=dict)
    interfaces: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    values: dict[str, EnumValue] = field(default_factory=dict)
    extension: bool = False  # no definition, `extend type` only


@dataclass(slots=True)
class DirectiveDefinition:
    """A directive the subgraph defines."""

    name: str
    arguments: dict[str, Argument]
    locations: list[str]
    repeatable: bool
    description: str | None = None


@dataclass(slots=True)
class Link:
    """One `@link`: a spec's identity, version, prefix and imports (imported name → local name).

    Names of directives keep their `@` on both sides of `imports`. `alias` is the prefix.
    """

    identity: str
    name: str
    version: tuple[int, int]
    alias: str
    imports: dict[str, str] = field(default_factory=dict)
    purpose: str | None = None


@dataclass(slots=True)
class Subgraph:
    """A subgraph, valid by itself. `version` is federation's, (1, 0) for a document without.

    `types`, fields and `directives` are the subgraph's own: what federation and link define
    (`_entities`, `_Any`, `FieldSet`, `@key`, …) is not among them, whether written out or added.
    Built-in scalars are not among them either. `query`, `mutation` and `subscription` are the
    names of the root types in this subgraph, whatever they are called. `machinery` are directives
    applied to what is not the subgraph's own: they say that it uses them, and nothing else.
    """

    name: str
    url: str
    version: tuple[int, int]
    types: dict[str, TypeDefinition]
    directives: dict[str, DirectiveDefinition]
    links: list[Link]
    schema_directives: list[Applied]
    query: str | None
    mutation: str | None
    subscription: str | None
    description: str | None = None
    machinery: list[Applied] = field(default_factory=list)
