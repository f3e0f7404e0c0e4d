"""A field of an interface that returns the interface, with @provides on the way round."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

GARAGE = (
    V2
    + """
type Query { service: Service services: [Service] }
interface Service { next: Service name: String }
type Wash implements Service @key(fields: "id") {
  id: ID! next: Service @provides(fields: "... on Polish { grade }") name: String
}
type Polish implements Service @key(fields: "id") {
  id: ID! next: Service name: String grade: Int @external
}
"""
)
GRADES = (
    V2
    + """
type Polish @key(fields: "id") { id: ID! grade: Int @shareable fen: Int }
type Wash @key(fields: "id") { id: ID! fen: Int }
"""
)


def world() -> World:
    """A wash, a polish and a wash, and round again."""
    w = World()
    foam = w.add("Wash", id="w1", name="Foam", fen=3000)
    wax = w.add("Polish", id="p1", name="Wax", grade=3, fen=9900)
    rinse = w.add("Wash", id="w2", name="Rinse", fen=500)
    foam["next"], wax["next"], rinse["next"] = wax, rinse, foam
    w.query |= {"service": foam, "services": [foam, wax, rinse]}
    return w


FEDERATION = Federation(
    "circular-reference-interface",
    {"garage": GARAGE, "grades": GRADES},
    world,
    (
        Case(
            "round in one subgraph",
            "{ service { name next { name next { name next { __typename } } } } }",
            {"service": {"name": "Foam", "next": {"name": "Wax", "next": {
                "name": "Rinse", "next": {"__typename": "Wash"}}}}},
        ),
        Case(
            "provided where it is next to a wash",
            "{ service { ... on Wash { next { ... on Polish { grade } } } } }",
            {"service": {"next": {"grade": 3}}},
        ),
        Case(
            "prices at every turn in one call",
            "{ services { ... on Wash { fen } next { ... on Polish { fen } next"
            " { ... on Wash { fen } } } } }",
            requests=2,
        ),
        Case(
            "an implementation's field below the interface's",
            "{ service { next { next { ... on Wash { id name fen } ... on Polish { grade } } } } }",
            {"service": {"next": {"next": {"id": "w2", "name": "Rinse", "fen": 500}}}},
            requests=2,
        ),
    ),
)  # fmt: skip
