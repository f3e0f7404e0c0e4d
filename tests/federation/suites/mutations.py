"""Mutations of three subgraphs keep their order; entities of their answers are completed."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import Record, World

CARTS = (
    V2
    + """
type Query { cart(id: ID!): Cart }
type Mutation { putIn(cart: ID!, points: Int!): Cart! remove(cart: ID!): Int! }
type Cart @key(fields: "id") { id: ID! points: Int! }
"""
)
BONUS = (
    V2
    + """
type Mutation { multiply(by: Int!): Int! }
type Cart @key(fields: "id") { id: ID! bonus: String }
"""
)
BOOK = (
    V2
    + """
type Query { entries: [String!]! }
type Mutation { add(number: Int!): Int! note(text: String!): Entry! }
type Entry { text: String! cart: Cart }
type Cart @key(fields: "id") { id: ID! }
"""
)


def world() -> World:
    """A cart, and a number that mutations change."""
    w = World()
    state = {"number": 0}
    cart = w.add("Cart", id="c1", points=10, bonus="double")
    entries: list[str] = []

    def put_in(cart: str, points: int) -> Record:
        found = w.finder("Cart")(id=cart)
        assert found is not None
        found["points"] += points
        return found

    def remove(cart: str) -> int:
        return state["number"]

    def change(number: int, by: int) -> int:
        state["number"] = state["number"] * by + number
        return state["number"]

    def note(text: str) -> Record:
        entries.append(f"{text} at {state['number']}")
        return w.add("Entry", text=entries[-1], cart=cart)

    w.query |= {"cart": w.finder("Cart"), "entries": entries}
    w.mutation |= {
        "putIn": put_in,
        "remove": remove,
        "add": lambda number: change(number, 1),
        "multiply": lambda by: change(0, by),
        "note": note,
    }
    return w


FEDERATION = Federation(
    "mutations",
    {"carts": CARTS, "bonus": BONUS, "book": BOOK},
    world,
    (
        Case(
            "strictly one after the other",
            "mutation { five: add(number: 5) ten: multiply(by: 2) twelve: add(number: 2)"
            ' end: remove(cart: "c1") }',
            {"five": 5, "ten": 10, "twelve": 12, "end": 12},
            requests=4,
        ),
        Case(
            "neighbours of one subgraph share a request",
            "mutation { a: add(number: 1) b: add(number: 2) c: multiply(by: 3) }",
            {"a": 1, "b": 3, "c": 9},
            requests=2,
        ),
        Case(
            "an entity of the answer is completed before the next",
            'mutation { putIn(cart: "c1", points: 5) { points bonus } note(text: "put") { text } }',
            {"putIn": {"points": 15, "bonus": "double"}, "note": {"text": "put at 0"}},
            requests=3,
        ),
        Case(
            "a completed entity shows the state of its turn",
            'mutation Twice($n: Int!) { note(text: "x") { cart { points } }'
            ' putIn(cart: "c1", points: $n) { points } }',
            {"note": {"cart": {"points": 10}}, "putIn": {"points": 17}},
            requests=3,
            variables={"n": 7},
        ),
    ),
)
