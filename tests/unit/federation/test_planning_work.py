"""How much work planning is: counted, not timed, so that it is the same on every machine."""

from collections.abc import Callable

import pytest
from graphql import parse

from gateway.federation import paths
from gateway.federation.errors import NoPlan
from gateway.federation.normalise import normalise
from gateway.federation.planner import Planner
from gateway.federation.supergraph import Supergraph
from tests.unit.federation.small import plan, supergraph

Q = "type Query @in(graph: A) @in(graph: B) @in(graph: C) { shop: Shop @from(graph: A) }"
SHOPS = (
    Q
    + """
type Shop @in(graph: A, key: "id") @in(graph: B, key: "id") @in(graph: C, key: "id") {
  id: ID!
  next: Shop @from(graph: A)
  near: Shop @from(graph: B)
  like: Shop
  name: String @from(graph: B) @from(graph: C)
  size: Int @from(graph: C)
}
"""
)


def work(monkeypatch: pytest.MonkeyPatch, source: Supergraph, query: str) -> int:
    """How many questions of path search a plan takes."""
    asked = 0

    class Counted(paths._Solving):
        def solve(self) -> paths.Solution:
            nonlocal asked
            asked += 1
            return super().solve()

    monkeypatch.setattr(paths, "_Solving", Counted)
    operation = normalise(source.api_schema, parse(query), None, {})
    Planner(source).plan(operation)
    return asked


def deep(levels: int) -> str:
    inner = "name size"
    for level in range(levels):
        inner = f"name {('next', 'near', 'like')[level % 3]} {{ {inner} }}"
    return f"{{ shop {{ {inner} }} }}"


def wide(fields: int) -> str:
    inner = " ".join(f"a{number}: like {{ near {{ name }} size }}" for number in range(fields))
    return f"{{ shop {{ {inner} }} }}"


@pytest.mark.parametrize("family", [deep, wide])
def test_work_grows_no_faster_than_the_query(
    monkeypatch: pytest.MonkeyPatch, family: Callable[[int], str]
) -> None:
    source = Supergraph.parse(supergraph(["a", "b", "c"], SHOPS))
    small, large = (work(monkeypatch, source, family(size)) for size in (12, 48))
    assert large <= 5 * small


MANY = 20


def many_graphs(fields: str, types: str = "") -> Supergraph:
    graphs = [f"g{number}" for number in range(MANY)]
    plain = " ".join(f"@in(graph: {one.upper()})" for one in graphs)
    keyed = " ".join(f'@in(graph: {one.upper()}, key: "id")' for one in graphs)
    body = f"""
    type Query {plain} {{ shop: Shop @from(graph: G0) }}
    type Shop {keyed} {{ id: ID! {fields} }}
    {types.replace("@everywhere", plain)}
    """
    return Supergraph.parse(supergraph(graphs, body))


def test_a_value_spread_over_twenty_subgraphs_is_put_together() -> None:
    leaves = " ".join(f"f{number}: Int @from(graph: G{number})" for number in range(MANY))
    source = many_graphs("value: Value", f"type Value @everywhere {{ inner: Value {leaves} }}")
    names = " ".join(f"f{number}" for number in range(MANY))
    made = plan(source, f"{{ shop {{ value {{ inner {{ inner {{ {names} }} }} f3 }} }} }}")
    assert len(made.fetches) == MANY
    assert made.depth == 2


def test_many_alternatives_are_not_multiplied() -> None:
    """Sixty fields in three of twenty subgraphs each: 3^60 combinations, never tried."""
    leaves = " ".join(
        f"f{number}: Int "
        + " ".join(f"@from(graph: G{(number * step + 1) % MANY})" for step in (3, 7, 11))
        for number in range(60)
    )
    source = many_graphs(leaves)
    made = plan(source, "{ shop { " + " ".join(f"f{number}" for number in range(60)) + " } }")
    assert len(made.fetches) <= MANY
    assert made.depth == 2


def test_a_chain_of_twenty_keys_is_walked() -> None:
    graphs = [f"g{number}" for number in range(MANY)]
    plain = " ".join(f"@in(graph: {one.upper()})" for one in graphs)
    joined = '@in(graph: G0, key: "k0") ' + " ".join(
        f'@in(graph: G{one}, key: "k{one - 1}") @in(graph: G{one}, key: "k{one}")'
        for one in range(1, MANY)
    )
    keys = " ".join(
        f"k{one}: ID! @from(graph: G{one})"
        + (f" @from(graph: G{one + 1})" if one + 1 < MANY else "")
        for one in range(MANY)
    )
    body = f"""
    type Query {plain} {{ shop: Shop @from(graph: G0) }}
    type Shop {joined} {{ {keys} last: Int @from(graph: G{MANY - 1}) }}
    """
    made = plan(Supergraph.parse(supergraph(graphs, body)), "{ shop { last } }")
    assert len(made.fetches) == made.depth == MANY


TYPES = range(12)


def different() -> Supergraph:
    """An interface whose implementations have the same field in different subgraphs."""
    implementations = " ".join(
        f"""type T{one} implements Part
          @as(graph: A, interface: "Part") @as(graph: B, interface: "Part")
          @in(graph: A, key: "id") @in(graph: B, key: "id") {{
          id: ID!
          parts: [Part] @from(graph: {"AB"[one % 2]})
          name: String @from(graph: {"AB"[one % 2]})
        }}"""
        for one in TYPES
    )
    body = f"""
    type Query @in(graph: A) @in(graph: B) {{ part: Part @from(graph: A) }}
    interface Part @in(graph: A) @in(graph: B) {{
      id: ID!
      parts: [Part] @from(graph: A)
      name: String @from(graph: A)
    }}
    {implementations}
    """
    return Supergraph.parse(supergraph(["a", "b"], body))


def test_implementations_that_are_alike_are_planned_as_one() -> None:
    source = different()
    made = plan(source, "{ part { name parts { name parts { name } } } }")
    assert [fetch.service for fetch in made.fetches].count("a") <= 3
    assert len(made.fetches) <= 5
    assert max(len(fetch.text) for fetch in made.fetches) < 2_000


def test_what_would_be_too_large_to_send_is_refused_soon() -> None:
    inner = "name"
    for _ in range(12):
        inner = f"name parts {{ {inner} }}"
    with pytest.raises(NoPlan, match="too much"):
        plan(different(), f"{{ part {{ {inner} }} }}")
