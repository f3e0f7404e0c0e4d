"""The limits hold through fragments, variables and every trick, and cost next to nothing."""

import time

import pytest
from graphql import OperationDefinitionNode, build_schema

from gateway.api.limits import Limits, QueryTooExpensive, check, read

SCHEMA = build_schema("""
type Query { offers(first: Int): Offers, offer(id: ID!): Offer, all: [Offer!]! }
type Offers { edges: [Edge!]!, total: Int }
type Edge { node: Offer!, cursor: String! }
type Offer { id: ID!, name: String, merchant: Merchant!, prices: [Price!]! }
type Price { points: Int }
type Merchant { id: ID!, offers(first: Int): Offers }
""")


def cost(text: str, **variables: object) -> int:
    limits = Limits()
    document = read(text, limits)
    operation = next(d for d in document.definitions if isinstance(d, OperationDefinitionNode))
    return check(document, operation, schema=SCHEMA, variables=variables, limits=limits)


PAGE = "{ edges { node { id prices { points } } } }"


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        ('{ offer(id: "a") { id name } }', {}, 1),
        ("{ all { id } }", {}, 1),
        ("{ all { prices { points } } }", {}, 1 + 5),
        (f"{{ offers(first: 10) {PAGE} }}", {}, 1 + 10 * 3),
        (f"query($n: Int) {{ offers(first: $n) {PAGE} }}", {"n": 30}, 1 + 30 * 3),
        (f"query($n: Int = 7) {{ offers(first: $n) {PAGE} }}", {}, 1 + 7 * 3),
        (f"{{ offers {PAGE} }}", {}, 1 + 20 * 3),
        (f"{{ offers(first: 10) {{ ...P }} }} fragment P on Offers {PAGE}", {}, 1 + 10 * 3),
        (f"{{ offers(first: 10) {{ ... on Offers {PAGE} }} }}", {}, 1 + 10 * 3),
        ("{ __schema { types { name } } }", {}, 0),
    ],
)
def test_cost_counts_objects_times_rows(text, variables, expected):
    assert cost(text, **variables) == expected


def test_too_dear_names_the_field_to_drop_and_what_is_left():
    text = "{ offers(first: 2000) { total edges { node { id prices { points } } } } }"
    with pytest.raises(QueryTooExpensive) as refused:
        cost(text)
    assert refused.value.context == {
        "cost": 6001,
        "limit": 5000,
        "without": 4001,
        "measure": "cost",
        "field": "offers.edges.node.prices",
    }


def test_depth_is_counted_through_fragments():
    loop = "merchant { offers { edges { node { "
    deep = '{ offer(id: "a") { ' + loop * 3 + "id" + " }" * 12 + " } }"
    with pytest.raises(QueryTooExpensive, match="depth"):
        cost(deep)
    spread = '{ offer(id: "a") { ...A } }'
    for name, inner in (("A", "...B"), ("B", "...C"), ("C", "id")):
        spread += f" fragment {name} on Offer {{ {loop}{inner} }} }} }} }} }}"
    with pytest.raises(QueryTooExpensive, match="depth"):
        cost(spread)


def test_aliases_are_counted_through_fragments():
    many = " ".join(f'a{i}: offer(id: "a") {{ id }}' for i in range(31))
    with pytest.raises(QueryTooExpensive, match="aliases"):
        cost("{ " + many + " }")
    twice = "{ ...A ...A } fragment A on Query { "
    twice += " ".join(f'a{i}: offer(id: "a") {{ id }}' for i in range(16)) + " }"
    with pytest.raises(QueryTooExpensive, match="aliases"):
        cost(twice)


def test_tokens_are_counted_while_reading():
    with pytest.raises(QueryTooExpensive, match="tokens"):
        read("{ " + "a " * 4001 + "}", Limits())
    with pytest.raises(QueryTooExpensive, match="tokens"):
        read("{ a " + "@skip(if: true) " * 1000 + "}", Limits())


@pytest.mark.parametrize("fragments", [25, 200])
def test_a_fragment_bomb_is_refused_at_once(fragments):
    bomb = "{ ...F0 } "
    for i in range(fragments):
        bomb += f"fragment F{i} on Query {{ ...F{i + 1} ...F{i + 1} }} "
    bomb += f'fragment F{fragments} on Query {{ x: offer(id: "a") {{ id }} }}'
    started = time.process_time()
    with pytest.raises(QueryTooExpensive):
        cost(bomb)
    assert time.process_time() - started < 1


def test_a_cycle_of_fragments_ends():
    assert cost("{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }") == 0
