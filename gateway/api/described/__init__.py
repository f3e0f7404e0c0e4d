"""Descriptions of the whole API, put into the schema once when it is built; execution has no part.

A type's or resolver's docstring is its description. What has none is in `fields` and `types`; the
values of closed sets, scopes, roles and codes come from the code that keeps to them.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
)
from strawberry.federation import Schema

from gateway.api.described.fields import EXACT, NAMED
from gateway.api.described.operations import CODES, access
from gateway.api.described.types import ROOTS, TYPES
from gateway.api.described.values import LISTED
from gateway.api.enums import ENUMS
from gateway.api.messages import camel

_ROOT_TYPES = ("Query", "Mutation", "Subscription")
_WORD = re.compile(r"`([a-z]+(?:_[a-z]+)+)`")
_KEPT = frozenset({"partner_pair", "per_amount", "per_night", "per_distance"})


def describe(schema: Schema) -> None:
    """Write a description to everything that has none.

    Args:
        schema: A schema that nobody uses yet.
    """
    known = schema.schema_converter.type_map
    for each in public_types(schema._schema):
        definition: Any = known[each.name].definition if each.name in known else None
        if isinstance(each, GraphQLEnumType):
            _, each.description, meanings = ENUMS[each.name]
            for name, value in each.values.items():
                value.description = meanings[name]
        else:
            each.description = each.description or _of_type(each.name, definition)
        if isinstance(each, GraphQLObjectType | GraphQLInputObjectType):
            _describe_fields(each, definition)


def public_types(schema: GraphQLSchema) -> Iterator[GraphQLNamedType]:
    """The types that clients see: neither introspection's nor federation's."""
    for name, found in schema.type_map.items():
        if not name.startswith(("_", "link__", "FieldSet", "federation__")):
            yield found


def _describe_fields(found: GraphQLObjectType | GraphQLInputObjectType, definition: Any) -> None:
    docs = {}
    for field in definition.fields:
        name = field.graphql_name or camel(field.python_name)
        resolver = getattr(field, "base_resolver", None)
        docs[name] = _cleaned(resolver.wrapped_func.__doc__) if resolver else None
    for name, each in found.fields.items():
        if name in ("_service", "_entities"):
            continue
        place = f"{found.name}.{name}"
        if found.name in _ROOT_TYPES:
            each.description = _of_root(found.name, name, docs.get(name) or ROOTS.get(place))
        else:
            text = EXACT.get(place) or docs.get(name) or NAMED.get(name)
            each.description = _with_values(place, text)
        for argument, given in getattr(each, "args", {}).items():
            here = f"{place}.{argument}"
            text = EXACT.get(here) or NAMED.get(argument)
            if found.name in _ROOT_TYPES and argument == "id":
                text = EXACT.get(here, "The id of what is asked for.")
            given.description = _with_values(here, text)


def _of_root(kind: str, name: str, text: str | None) -> str | None:
    if text is None:
        return None
    parts = [text, access(kind, name)]
    if name in CODES:
        parts.append(f"Typical refusals: {', '.join(CODES[name].split())}.")
    return "\n\n".join(parts)


def _of_type(name: str, definition: Any) -> str | None:
    own: Any = getattr(definition, "origin", None)
    doc = _cleaned(own.__doc__) if own is not None else None
    if doc and not doc.startswith(f"{own.__name__}("):
        return doc
    return TYPES.get(name) or _text_of_type(name)


def _text_of_type(name: str) -> str | None:
    """What an input, payload or connection says by its name."""
    for end, text in (
        ("Input", "What `{}` takes."),
        ("Payload", "What `{}` answers: what it made, or why it made nothing."),
    ):
        if name.endswith(end):
            base = name.removesuffix(end)
            return text.format(base[0].lower() + base[1:])
    for end, text in (
        ("Connection", "A page of a list of {}."),
        ("Edge", "One row of a page of {}."),
    ):
        if name.endswith(end):
            return text.format(f"`{name.removesuffix(end)}`")
    return None


def _with_values(place: str, text: str | None) -> str | None:
    if text is None or place not in LISTED:
        return text
    return f"{text} One of: {', '.join(str(value) for value in LISTED[place])}."


def _cleaned(doc: str | None) -> str | None:
    """A docstring as the API's readers have it: its fields by their names in the schema."""
    if not doc:
        return None
    return _WORD.sub(
        lambda match: match[0] if match[1] in _KEPT else f"`{camel(match[1])}`",
        inspect.cleandoc(doc),
    )
