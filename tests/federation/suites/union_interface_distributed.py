"""A union in one subgraph; the interface that its members share only in another."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

LIST = (
    V2
    + """
type Query { found: [Found] one(id: ID!): Found }
union Found = Bike | Scooter | Helmet
type Bike @key(fields: "id") { id: ID! gears: Int @shareable }
type Scooter @key(fields: "id") { id: ID! }
type Helmet { size: String }
"""
)
FLEET = (
    V2
    + """
type Query { nodes: [Node] rentable: [Rentable] }
interface Node { id: ID! }
interface Rentable implements Node { id: ID! fen: Int }
type Bike implements Node & Rentable @key(fields: "id") { id: ID! fen: Int gears: Int @shareable }
type Scooter implements Node & Rentable @key(fields: "id") { id: ID! fen: Int range: Int }
type Lock implements Node @key(fields: "id") { id: ID! code: String }
"""
)


def world() -> World:
    """A bike, a scooter, a helmet and a lock."""
    w = World()
    bike = w.add("Bike", id="b1", gears=7, fen=200)
    scooter = w.add("Scooter", id="s1", fen=500, range=30)
    helmet = w.add("Helmet", size="M")
    lock = w.add("Lock", id="l1", code="1234")
    w.query |= {"found": [bike, scooter, helmet], "nodes": [lock, bike, scooter]}
    w.query |= {"rentable": [scooter, bike], "one": w.finder("Bike", "Scooter")}
    return w


CASES = (
    Case("the interface in the union", "{ found { ... on Rentable { fen } } }",
         {"found": [{"fen": 200}, {"fen": 500}, {}]}, requests=2),
    Case("the wider interface in the union", "{ found { ... on Node { id } } }",
         {"found": [{"id": "b1"}, {"id": "s1"}, {}]}),
    Case("both interfaces", "{ found { ... on Node { id ... on Rentable { fen } } } }", requests=2),
    Case("the interface and members", "{ found { ... on Rentable { fen } ... on Helmet { size }"
         " ... on Scooter { range } } }", requests=2),
    Case("only the type's name", "{ found { __typename ... on Node { __typename } } }",
         {"found": [{"__typename": "Bike"}, {"__typename": "Scooter"}, {"__typename": "Helmet"}]}),
    Case("a member of the interface that is none of the union", "{ found { ... on Node {"
         " ... on Lock { code } ... on Bike { gears } } } }", {"found": [{"gears": 7}, {}, {}]}),
    Case("the union's fragment within the interface",
         "{ nodes { id ... on Rentable { fen } ... on Lock { code } } }"),
    Case("a variable's choice", "query ($id: ID!) { one(id: $id) { ... on Rentable { id fen } } }",
         {"one": {"id": "s1", "fen": 500}}, requests=2, variables={"id": "s1"}),
    Case("a union that only the other subgraph knows",
         "{ nodes { ... on Found { ... on Bike { gears } ... on Node { id } } } }",
         {"nodes": [{}, {"gears": 7, "id": "b1"}, {"id": "s1"}]}),
    Case("nothing found", '{ one(id: "x") { ... on Node { id } } }', {"one": None}),
    Case("the interface from its own side", "{ rentable { fen ... on Bike { gears } __typename } }",
         {"rentable": [{"fen": 500, "__typename": "Scooter"},
                       {"fen": 200, "gears": 7, "__typename": "Bike"}]}),
)  # fmt: skip

FEDERATION = Federation("union-interface-distributed", {"list": LIST, "fleet": FLEET}, world, CASES)
