"""Plans written by hand: selections as GraphQL text, fetches in a line each."""

from collections.abc import Sequence

from graphql import FieldNode, InlineFragmentNode, OperationDefinitionNode, SelectionSetNode, parse

from gateway.federation.operation import OperationKind
from gateway.federation.plan import (
    EntityCall,
    Fetch,
    Input,
    Path,
    Representation,
    Selected,
    SelectedField,
    SelectedFragment,
    Step,
)

HIDDEN = "hidden_"
"""A response key that begins so is read by nobody."""


def selected(text: str, into: dict[str, str] | None = None) -> tuple[Selected, ...]:
    """The selections of `{…}`; `into` renames response keys. A fragment's type is `on A_or_B`."""
    (definition,) = parse(text).definitions
    assert isinstance(definition, OperationDefinitionNode)
    return _selected(definition.selection_set, into or {})


def _selected(node: SelectionSetNode | None, into: dict[str, str]) -> tuple[Selected, ...]:
    made: list[Selected] = []
    for one in node.selections if node else ():
        if isinstance(one, FieldNode):
            key = one.alias.value if one.alias else one.name.value
            made.append(
                SelectedField(
                    one.name.value,
                    key,
                    None if key.startswith(HIDDEN) else into.get(key, key),
                    tuple((each.name.value, each.value) for each in one.arguments or ()),
                    _selected(one.selection_set, into),
                )
            )
        else:
            assert isinstance(one, InlineFragmentNode)
            assert one.type_condition is not None
            names = one.type_condition.name.value
            made.append(
                SelectedFragment(
                    names, frozenset(names.split("_or_")), _selected(one.selection_set, into)
                )
            )
    return tuple(made)


def path(text: str) -> Path:
    """`users@.best|Book|Film.author` : @ goes into a list, | keeps types."""
    steps = []
    for part in text.split("."):
        key, *types = part.split("|")
        name = key.rstrip("@")
        steps.append(Step(name, len(key) - len(name), frozenset(types) if types else None))
    return tuple(steps)


def keyed(typename: str, *names: str, needed: Sequence[str] | None = None) -> Representation:
    """A type represented by scalar fields, all of them needed unless said otherwise."""
    inputs = tuple(Input(name, name) for name in names)
    return Representation(None, typename, inputs, frozenset(names if needed is None else needed))


def call(
    paths: str | Sequence[str],
    representations: Representation | Sequence[Representation],
    text: str,
    *,
    alias: str = "_entities",
    into: dict[str, str] | None = None,
) -> EntityCall:
    """An entity call for targets at some paths."""
    return EntityCall(
        alias,
        f"r{alias}",
        tuple(path(one) for one in ([paths] if isinstance(paths, str) else paths)),
        (representations,)
        if isinstance(representations, Representation)
        else tuple(representations),
        selected(text, into),
    )


def fetch(
    number: int,
    service: str,
    what: str | EntityCall | Sequence[EntityCall],
    *,
    after: Sequence[int] = (),
    kind: OperationKind = "query",
    variables: Sequence[str] = (),
    into: dict[str, str] | None = None,
) -> Fetch:
    """A root fetch of `{…}`, or entity calls. Its text names what is asked, for tests to see."""
    if isinstance(what, str):
        text = f"{kind}{what}"
        return Fetch(
            number, service, kind, text, tuple(variables), tuple(after), selected(what, into)
        )
    calls = (what,) if isinstance(what, EntityCall) else tuple(what)
    text = f"query {number} of {service}"
    return Fetch(number, service, kind, text, tuple(variables), tuple(after), (), calls)
