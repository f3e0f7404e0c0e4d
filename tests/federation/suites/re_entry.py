"""A field leads back to `Query`: what other subgraphs have there is asked of them."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import Record, World

TILL = (
    V2
    + """
type Query { till: Int! receipts: [Receipt!]! outcomes: [Outcome!]! lost: Receipt }
type Mutation { pay(points: Int!): Receipt! refund: Receipt }
union Outcome = Receipt | Refusal
type Receipt { id: ID! till: Int! query: Query }
type Refusal { why: String! query: Query! }
"""
)
OFFERS = (
    V2
    + """
type Query { offers: [Offer!]! offer(code: ID!): Offer paid: Int! }
type Offer @key(fields: "code") { code: ID! name: String! }
"""
)
POINTS = (
    V2
    + """
type Query { cheapest: Offer }
type Mutation { raise(by: Int!): Int! }
type Offer @key(fields: "code") { code: ID! points: Int! home: Query! }
"""
)


def world() -> World:
    """Three receipts, one of them without a way back; two offers."""
    w = World()
    state = {"paid": 0, "raised": 0}
    for code, name, points in (("o1", "Tea", 40), ("o2", "Cup", 30)):
        w.add("Offer", code=code, name=name, points=points, home=w.query)
    receipts = [
        w.add("Receipt", id=f"r{number}", till=number, query=w.query if number != 2 else None)
        for number in (1, 2, 3)
    ]
    refusal = w.add("Refusal", why="closed", query=w.query)

    def pay(points: int) -> Record:
        state["paid"] += points
        return receipts[0]

    def more(by: int) -> int:
        state["raised"] += by
        return state["raised"]

    w.query |= {
        "till": 7,
        "receipts": receipts,
        "outcomes": [refusal, receipts[1], receipts[0]],
        "lost": None,
        "offers": w.of("Offer"),
        "offer": w.finder("Offer", by="code"),
        "paid": lambda: state["paid"],
        "cheapest": w.of("Offer")[1],
    }
    w.mutation |= {"pay": pay, "refund": None, "raise": more}
    return w


OFFERED = [{"name": "Tea"}, {"name": "Cup"}]
NAMED = {"query": {"name": "Query"}}

FEDERATION = Federation(
    "re-entry",
    {"till": TILL, "offers": OFFERS, "points": POINTS},
    world,
    (
        Case(
            "the root of another subgraph below a mutation",
            "mutation { pay(points: 5) { id query { offers { name } } } }",
            {"pay": {"id": "r1", "query": {"offers": OFFERED}}},
            requests=2,
        ),
        Case(
            "it is asked after the mutation before it, and before the next",
            "mutation { pay(points: 5) { query { paid } } raise(by: 1)"
            " again: pay(points: 2) { query { paid } } }",
            {"pay": {"query": {"paid": 5}}, "raise": 1, "again": {"query": {"paid": 7}}},
            requests=5,
        ),
        Case(
            "at every place of a list, once; not where there is no way back",
            "{ receipts { id query { paid } } }",
            {
                "receipts": [
                    {"id": "r1", "query": {"paid": 0}},
                    {"id": "r2", "query": None},
                    {"id": "r3", "query": {"paid": 0}},
                ]
            },
            requests=2,
        ),
        Case(
            "nobody is asked where nothing leads back",
            "mutation { refund { query { offers { name } } } }",
            {"refund": None},
        ),
        Case(
            "beside fields that the subgraph itself has there",
            "{ receipts { query { till offers { name } __typename } } }",
            {
                "receipts": [
                    {"query": {"till": 7, "offers": OFFERED, "__typename": "Query"}},
                    {"query": None},
                    {"query": {"till": 7, "offers": OFFERED, "__typename": "Query"}},
                ]
            },
            requests=2,
        ),
        Case(
            "its name alone asks nobody else",
            "{ receipts { query { name: __typename } } }",
            {"receipts": [NAMED, {"query": None}, NAMED]},
        ),
        Case(
            "entities below it are completed, and lead back again",
            "{ receipts { query { offers { points home { cheapest { name } till } } } } }",
            requests=5,
        ),
        Case(
            "below fragments of a union",
            "{ outcomes { ... on Receipt { query { paid } }"
            " ... on Refusal { back: query { paid cheapest { name } } } } }",
            {
                "outcomes": [
                    {"back": {"paid": 0, "cheapest": {"name": "Cup"}}},
                    {"query": None},
                    {"query": {"paid": 0}},
                ]
            },
            requests=4,
        ),
        Case(
            "with variables and aliases of the client",
            "query Of($code: ID!) { receipts { back: query { one: offer(code: $code) { name }"
            ' two: offer(code: "o2") { points name } } } offer(code: $code) { points } }',
            variables={"code": "o1"},
            requests=4,
        ),
        Case(
            "out of it and back into the first subgraph",
            "{ cheapest { home { receipts { id } offers { code } } } }",
            requests=3,
        ),
    ),
)
