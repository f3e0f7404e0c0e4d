"""Members of a union whose fields agree in the whole graph and differ inside one subgraph.

A subgraph must not be asked for both under one response key: its own types conflict.
"""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

FLEET = (
    V2
    + """
type Query { vehicles: [Vehicle] vehicle(id: ID!): Vehicle }
union Vehicle = Taxi | Coach
type Taxi @key(fields: "id") { id: ID! plate: String! @shareable seats: [String!]! @shareable }
type Coach @key(fields: "id") { id: ID plate: String seats: [String] company: Company }
type Company @key(fields: "id") { id: ID! vehicles: [Vehicle!]! }
"""
)
REGISTER = (
    V2
    + """
type Query { taxis: [Taxi] }
type Taxi @key(fields: "id") { id: ID plate: String @shareable seats: [String] @shareable }
type Company @key(fields: "id") { id: ID! name: String }
"""
)


def world() -> World:
    """A taxi and two coaches."""
    w = World()
    taxi = w.add("Taxi", id="t1", plate="A-100", seats=["front", "left", "right"])
    firm = w.add("Company", id="f1", name="Roads")
    coach = w.add("Coach", id="c1", plate="B-200", seats=["1A", None], company=firm)
    old = w.add("Coach", id="c2", plate=None, seats=None, company=None)
    firm["vehicles"] = [coach, taxi]
    w.query |= {"vehicles": [taxi, coach, old], "taxis": [taxi]}
    w.query["vehicle"] = w.finder("Taxi", "Coach")
    return w


FEDERATION = Federation(
    "child-type-mismatch",
    {"fleet": FLEET, "register": REGISTER},
    world,
    (
        Case(
            "one response key, two types",
            "{ vehicles { ... on Taxi { id plate } ... on Coach { id plate } } }",
            {
                "vehicles": [
                    {"id": "t1", "plate": "A-100"},
                    {"id": "c1", "plate": "B-200"},
                    {"id": "c2", "plate": None},
                ]
            },
        ),
        Case(
            "lists of two types",
            "{ vehicles { ... on Coach { seats __typename } ... on Taxi { __typename seats } } }",
        ),
        Case(
            "under the client's own alias",
            '{ vehicle(id: "c1") { ... on Taxi { sign: plate } ... on Coach { sign: plate company'
            " { name } } } }",
            {"vehicle": {"sign": "B-200", "company": {"name": "Roads"}}},
            requests=2,
        ),
        Case(
            "below another union",
            "{ vehicles { ... on Taxi { id } ... on Coach { id company { vehicles"
            " { ... on Taxi { plate } ... on Coach { plate id } } } } } }",
            {
                "vehicles": [
                    {"id": "t1"},
                    {"id": "c1", "company": {"vehicles": [{"plate": "B-200", "id": "c1"},
                                                          {"plate": "A-100"}]}},
                    {"id": "c2", "company": None},
                ]
            },
        ),
    ),
)  # fmt: skip
