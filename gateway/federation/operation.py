"""A client's operation in the one form that planning and projection read."""

from dataclasses import dataclass, field
from typing import Literal

from graphql import GraphQLOutputType, ValueNode, VariableDefinitionNode

OperationKind = Literal["query", "mutation", "subscription"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field the client asked for.

    `key` is its response key, `name` its name on `parent` (the API schema's type it is selected
    on), `arguments` as written (variables stay variables), `type` the API schema's. `selections`
    is empty for leaves, and for an object of which nothing was left by conditions or impossible
    fragments: it is answered as `{}`. Fields of the same key, name and arguments on one level are
    one, unless a fragment between them has that key: then the order of keys needs both.
    """

    key: str
    name: str
    parent: str
    arguments: tuple[tuple[str, ValueNode], ...]
    type: GraphQLOutputType
    selections: "tuple[Selection, ...]" = ()


@dataclass(frozen=True, slots=True)
class Fragment:
    """Selections for runtime types within `on`, a type of the API schema; never redundant."""

    on: str
    selections: "tuple[Selection, ...]"


Selection = Field | Fragment


@dataclass(frozen=True, slots=True)
class Operation:
    """A whole operation: named fragments inlined, `@skip` and `@include` decided.

    The values of variables that decide a condition are folded in; all others stay variables.
    `text` prints it in a fixed form; with `kind` and `variables` it is what a plan depends on.
    """

    kind: OperationKind
    name: str | None
    root: str
    variables: tuple[VariableDefinitionNode, ...]
    selections: tuple[Selection, ...]
    text: str = field(repr=False, default="")
