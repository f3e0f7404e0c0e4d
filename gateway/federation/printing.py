"""Plans as text, for people and for snapshots in tests."""

from collections.abc import Iterable, Iterator

from graphql import print_ast

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


def print_plan(plan: Plan) -> str:
    """A plan as text: each fetch, what it waits for, what it is given, what it asks.

    A field that goes elsewhere in the merged tree than under its own key says where: `key => into`.
    """
    lines = [f"{len(plan.fetches)} fetches, depth {plan.depth}"]
    for fetch in plan.fetches:
        lines.extend(_fetch(fetch))
    return "\n".join(lines) + "\n"


def _fetch(fetch: Fetch) -> Iterator[str]:
    after = f" after {', '.join(map(str, fetch.after))}" if fetch.after else ""
    variables = (
        f" with {', '.join('$' + one for one in fetch.variables)}" if fetch.variables else ""
    )
    yield f"{fetch.number}: {fetch.kind} {fetch.service}{after}{variables}"
    yield from _selections(fetch.selections, 1)
    for call in fetch.entities:
        yield from _call(call)


def _call(call: EntityCall) -> Iterator[str]:
    for path in call.paths:
        yield f"  at {print_path(path)}"
    for one in call.representations if call.alias is not None else ():
        yield f"  give {_representation(one)}"
    yield from _selections(call.selections, 1)


def print_path(path: Path) -> str:
    """A path as text: `@` for a list, types in brackets."""
    return ".".join(
        one.key + ".@" * one.lists + (f"[{_types(one.types)}]" if one.types is not None else "")
        for one in path
    )


def _types(types: Iterable[str]) -> str:
    return "|".join(sorted(types))


def _representation(one: Representation) -> str:
    types = f"[{_types(one.types)}] " if one.types is not None else ""
    optional = {each.name for each in one.inputs} - one.needed
    inputs = " ".join(_input(each, each.name in optional) for each in one.inputs)
    return f"{types}{one.typename or '(own)'} {{{inputs}}}"


def _input(one: Input, optional: bool) -> str:
    types = f"[{_types(one.types)}]" if one.types is not None else ""
    source = f"={one.key}" if one.key != one.name else ""
    inner = f" {{{' '.join(_input(each, False) for each in one.inputs)}}}" if one.inputs else ""
    return f"{one.name}{'?' if optional else ''}{types}{source}{inner}"


def _selections(selections: Iterable[Selected], level: int) -> Iterator[str]:
    indent = "  " * level
    for one in selections:
        if isinstance(one, SelectedField):
            alias = f"{one.key}: " if one.key != one.name else ""
            into = "" if one.into == one.key else f" => {one.into or 'nobody'}"
            yield f"{indent}{alias}{one.name}{_arguments(one)}{into}"
        else:
            yield f"{indent}... on {one.on} [{_types(one.types)}]"
        yield from _selections(one.selections, level + 1)


def _arguments(one: SelectedField) -> str:
    if not one.arguments:
        return ""
    return "(" + ", ".join(f"{name}: {print_ast(value)}" for name, value in one.arguments) + ")"
