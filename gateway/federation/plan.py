"""A query plan: which subgraph is asked what, after what, and where its answers go. It prints.

The answers of all fetches make one *merged tree*: the tree of response keys that the client's
operation selects, and keys selected for the plan's own needs. A root fetch starts at its root. An
entity call starts at the objects its paths lead to. Where two fetches answer for one object their
fields come together; lists at one place are joined index by index. Executors need not build the
tree: it only says what every place may read.
"""

from dataclasses import dataclass

from graphql import ValueNode

from gateway.federation.operation import Operation, OperationKind

INPUT = "$in"
"""The service that answers `_entities` of the gateway itself with the given representations."""


@dataclass(frozen=True, slots=True)
class SelectedField:
    """A field in a subgraph's selection.

    `key` is the response key in the subgraph's answer (its alias, or `name`). `into` is the key in
    the merged tree: it differs from `key` where the subgraph had to be asked under another alias;
    None where nobody reads it. Fields read only by the plan have a key no client can ask for.
    """

    name: str
    key: str
    into: str | None
    arguments: tuple[tuple[str, ValueNode], ...] = ()
    selections: "tuple[Selected, ...]" = ()


@dataclass(frozen=True, slots=True)
class SelectedFragment:
    """`... on on { selections }`, a type of the subgraph.

    `types` are the runtime object types (names as in the merged tree) that it applies to.
    """

    on: str
    types: frozenset[str]
    selections: "tuple[Selected, ...]"


Selected = SelectedField | SelectedFragment


@dataclass(frozen=True, slots=True)
class Step:
    """One step down the merged tree: take `key`, go into `lists` levels of lists, keep `types`.

    `types` are runtime object types of the objects arrived at; None keeps all.
    """

    key: str
    lists: int = 0
    types: frozenset[str] | None = None


Path = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Input:
    """One field of a representation: `name` in it, taken from `key` of the merged tree.

    `types` limits it to runtime types of the object it is read from (None: all). `inputs` make an
    object, or a list of objects, of the value; without inputs it is sent as it is.
    """

    name: str
    key: str
    types: frozenset[str] | None = None
    inputs: "tuple[Input, ...]" = ()


@dataclass(frozen=True, slots=True)
class Representation:
    """How objects of runtime types `types` (None: all) are represented to the subgraph.

    `typename` is the `__typename` sent; None sends the object's own. A key that is null or missing
    makes the object no target: it is not asked for, its fields stay missing. `needed` names the
    inputs (top level) for which this holds; others are sent as null.
    """

    types: frozenset[str] | None
    typename: str | None
    inputs: tuple[Input, ...]
    needed: frozenset[str]


@dataclass(frozen=True, slots=True)
class EntityCall:
    """One `alias: _entities(representations: $variable) { selections }` of a fetch.

    With no `alias` the call is about the root type where a field leads back to it: it is the whole
    of its fetch and asks for `selections` as they are, once, if there is any such place. What is
    there needs no key, so its representation has no inputs.
    """

    alias: str | None
    variable: str
    paths: tuple[Path, ...]
    representations: tuple[Representation, ...]
    selections: tuple[Selected, ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """One request to one subgraph, sent when all of `after` have answered (or failed).

    Either `selections` (a root fetch) or `entities`. `text` is the operation sent, `variables`
    those of the client it uses (only these are forwarded, defaults applied). `number` is its
    place in the plan; `after` holds smaller numbers only.
    """

    number: int
    service: str
    kind: OperationKind
    text: str
    variables: tuple[str, ...] = ()
    after: tuple[int, ...] = ()
    selections: tuple[Selected, ...] = ()
    entities: tuple[EntityCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The fetches of an operation. A mutation's root fetches wait for each other and all between.

    Fields `__typename` of the root, `__schema` and `__type` are in `operation` and in no fetch.
    """

    operation: Operation
    fetches: tuple[Fetch, ...]

    @property
    def depth(self) -> int:
        """The longest chain of fetches that wait for one another."""
        depths: list[int] = []
        for fetch in self.fetches:
            depths.append(1 + max((depths[other] for other in fetch.after), default=0))
        return max(depths, default=0)
