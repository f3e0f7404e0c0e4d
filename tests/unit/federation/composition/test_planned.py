"""What composition calls satisfiable the planner can plan: every field, where it can be asked."""

from collections import deque

import pytest
from graphql import (
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    parse,
)

from gateway.federation.composition import compose
from gateway.federation.normalise import normalise
from gateway.federation.planner import Planner
from gateway.federation.supergraph import Supergraph
from tests.unit.federation.composition.federations import subgraphs
from tests.unit.federation.composition.test_satisfiability import CASES, federation


def queries(schema: GraphQLSchema) -> list[str]:
    """For every field of every reachable type the shortest query that asks for it."""
    found: list[str] = []
    roots = (("query", schema.query_type), ("mutation", schema.mutation_type))
    queue = deque[tuple[GraphQLNamedType, tuple[str, ...]]](
        (root, (kind,)) for kind, root in roots if root is not None
    )
    seen: set[str] = {root.name for root, _ in queue}
    while queue:
        type_, path = queue.popleft()
        if isinstance(type_, GraphQLInterfaceType | GraphQLUnionType):
            for one in schema.get_possible_types(type_):
                queue.append((one, (*path, f"... on {one.name}")))
        if not isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            continue
        for name, field in type_.fields.items():
            if any(is_required_argument(argument) for argument in field.args.values()):
                continue
            below = get_named_type(field.type)
            here = (*path, name)
            found.append(nested(here, leaf=is_leaf_type(below)))
            if not is_leaf_type(below) and below.name not in seen:
                seen.add(below.name)
                queue.append((below, here))
    return found


def nested(path: tuple[str, ...], *, leaf: bool) -> str:
    inner = path[-1] if leaf else f"{path[-1]} {{ __typename }}"
    for step in reversed(path[:-1]):
        inner = f"{step} {{ {inner} }}"
    return inner


@pytest.mark.parametrize("name", [name for name, (_, refused) in CASES.items() if not refused])
def test_every_field_has_a_plan(name: str) -> None:
    supergraph = Supergraph.parse(compose(subgraphs(federation(*CASES[name][0]))).sdl)
    planner = Planner(supergraph)
    asked = queries(supergraph.api_schema)
    assert asked
    for text in asked:
        operation = normalise(supergraph.api_schema, parse(text), None, {})
        for labels in (frozenset[str](), supergraph.labels):
            assert planner.plan(operation, labels).operation is operation
