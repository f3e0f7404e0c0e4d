"""A subgraph's errors stand at every place they concern; nulls rise no further than they must."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

TRIPS = (
    V2
    + """
type Query { trips: [Trip!] strict: [Trip!]! trip(id: ID!): Trip }
type Trip @key(fields: "id") { id: ID! from: String driver: Driver strictDriver: Driver!
  root: Query }
type Driver @key(fields: "id") { id: ID! }
"""
)
DRIVERS = (
    V2
    + """
type Driver @key(fields: "id") { id: ID! name: String! rank: Int badge: Badge list: [Int!] }
type Badge { code: String! colour: String }
"""
)
PRICES = (
    V2
    + """
type Trip @key(fields: "id") { id: ID! fen: Int tip: Int! }
type Query { down: String }
"""
)


def world() -> World:
    """Trips whose drivers and prices fail here and there."""
    w = World()
    badge = w.add("Badge", code="B", colour=ValueError("no colour"))
    ma = w.add(
        "Driver", id="d1", name="Ma", rank=ValueError("rank is secret"), badge=badge, list=[1]
    )
    li = w.add("Driver", id="d2", name=None, rank=2, badge=None, list=[1, None])
    one = w.add("Trip", id="1", **{"from": "A"}, driver=ma, strictDriver=ma, fen=10, tip=1)
    two = w.add("Trip", id="2", **{"from": "B"}, driver=li, strictDriver=li, fen=None, tip=None)
    three = w.add("Trip", id="3", **{"from": "C"}, driver=ma, strictDriver=ma)
    three |= {"fen": ValueError("no price"), "tip": 3}
    w.query |= {"trips": [one, two, three], "strict": [one, two], "trip": w.finder("Trip")}
    w.query["down"] = ValueError("closed")
    for trip in (one, two, three):
        trip["root"] = w.query if trip is not two else None
    return w


FEDERATION = Federation(
    "errors-and-partial-data",
    {"trips": TRIPS, "drivers": DRIVERS, "prices": PRICES},
    world,
    (
        Case(
            "an error of an entity stands at each of its places",
            "{ trips { driver { rank } } }",
            {"trips": [{"driver": {"rank": None}}, {"driver": {"rank": 2}},
                       {"driver": {"rank": None}}]},
            requests=2,
            paths=(("trips", 0, "driver", "rank"), ("trips", 2, "driver", "rank")),
        ),
        Case(
            "siblings of an error are whole",
            "{ trips { id fen from } }",
            {"trips": [{"id": "1", "fen": 10, "from": "A"}, {"id": "2", "fen": None, "from": "B"},
                       {"id": "3", "fen": None, "from": "C"}]},
            requests=2,
            paths=(("trips", 2, "fen"),),
        ),
        Case(
            "a null where none may be empties its object",
            '{ trip(id: "2") { id driver { name } } }',
            {"trip": {"id": "2", "driver": None}},
            requests=2,
            errors=True,
        ),
        Case(
            "through a list of what may not be null",
            "{ trips { tip } down }",
            {"trips": None, "down": None},
            requests=3,
            errors=True,
        ),
        Case(
            "up to the root",
            "{ strict { strictDriver { name } } }",
            None,
            requests=2,
            errors=True,
        ),
        Case(
            "deep in a value",
            '{ trip(id: "1") { driver { badge { code tint: colour } list } } }',
            {"trip": {"driver": {"badge": {"code": "B", "tint": None}, "list": [1]}}},
            requests=2,
            paths=(("trip", "driver", "badge", "tint"),),
        ),
        Case(
            "under the client's aliases",
            '{ t: trip(id: "3") { d: driver { r: rank } price: fen } }',
            {"t": {"d": {"r": None}, "price": None}},
            requests=3,
            paths=(("t", "d", "r"), ("t", "price")),
        ),
        Case("one root fails, the other answers", "{ down trips { id } }", requests=2,
             paths=(("down",),)),
        Case("a root that is reached again fails at every place",
             "{ trips { id root { down trips { id } } } }",
             requests=2,
             paths=(("trips", 0, "root", "down"), ("trips", 2, "root", "down"))),
    ),
)  # fmt: skip
