"""`@override(from:)` that names no subgraph: the field is simply the overriding subgraph's."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

PARKING = (
    V2
    + """
type Query { bays: [Bay!] }
type Bay @key(fields: "id") { id: ID! level: Int @override(from: "ghost") charger: Boolean }
"""
)
TOLLS = (
    V2
    + """
type Query { bay(id: ID!): Bay }
type Bay @key(fields: "id") { id: ID! fen: Int @override(from: "attic") }
"""
)


def world() -> World:
    """Two bays."""
    w = World()
    w.query["bays"] = [
        w.add("Bay", id="1", level=-1, charger=True, fen=600),
        w.add("Bay", id="2", level=2, charger=None, fen=400),
    ]
    w.query["bay"] = w.finder("Bay")
    return w


FEDERATION = Federation(
    "unavailable-override",
    {"parking": PARKING, "tolls": TOLLS},
    world,
    (
        Case("direct", "{ bays { level charger } }"),
        Case("over a hop", "{ bays { id level fen } }", requests=2),
        Case(
            "from the other side",
            '{ bay(id: "2") { fen level } }',
            {"bay": {"fen": 400, "level": 2}},
            requests=2,
        ),
    ),
)
