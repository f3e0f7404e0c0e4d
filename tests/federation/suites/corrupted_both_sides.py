"""Two subgraphs share a root field, and each has the id of one implementation only.

A field of the interface itself needs one subgraph that has it for all; a fragment may choose.
"""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

RIDES = (
    V2
    + """
type Query { node(id: ID!): Node @shareable ride(id: ID!): Ride }
interface Node { id: ID! }
type Ride implements Node @key(fields: "id") { id: ID! metres: Int }
type Bill implements Node @key(fields: "id") { id: ID! ridden: Int }
"""
)
BILLS = (
    V2
    + """
type Query { node(id: ID!): Node @shareable bill(id: ID!): Bill }
interface Node { id: ID! }
type Bill implements Node @key(fields: "id") { id: ID! fen: Int }
type Ride implements Node @key(fields: "id") { id: ID! billed: Int }
"""
)


def world() -> World:
    """A ride and its bill."""
    w = World()
    w.add("Ride", id="r1", metres=900, billed=1)
    w.add("Bill", id="b1", fen=700, ridden=2)
    w.query |= {"ride": w.finder("Ride"), "bill": w.finder("Bill")}
    w.query["node"] = w.finder("Ride", "Bill")
    return w


NO_PLAN = {"data": None, "errors": True, "monolith": False, "requests": 0}
FEDERATION = Federation(
    "corrupted-both-sides",
    {"rides": RIDES, "bills": BILLS},
    world,
    (
        Case("the interface's own field", '{ node(id: "r1") { id } }', **NO_PLAN),
        Case("beside the name", '{ node(id: "b1") { __typename id } }', **NO_PLAN),
        Case(
            "a fragment of one",
            '{ node(id: "r1") { ... on Ride { id metres } } }',
            {"node": {"id": "r1", "metres": 900}},
        ),
        Case(
            "a fragment of the other",
            '{ node(id: "b1") { ... on Bill { id fen } } }',
            {"node": {"id": "b1", "fen": 700}},
        ),
        Case("the name alone", '{ node(id: "b1") { __typename } }'),
        Case(
            "where it is known",
            '{ ride(id: "r1") { id metres } bill(id: "b1") { id } }',
            requests=2,
        ),
    ),
    random=False,
    by_hand="composition refuses an external key without an owner to reach",
)
