"""`__typename` under every alias and behind every kind of type, root included."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

TRIPS = (
    V2
    + """
type Query { trips: [Trip] vehicle: Vehicle }
union Vehicle = Tram | Boat
interface Trip @key(fields: "id") { id: ID! from: String }
type Ride implements Trip @key(fields: "id") { id: ID! from: String }
type Cruise implements Trip @key(fields: "id") { id: ID! from: String decks: Int }
type Tram { line: Int }
type Boat @key(fields: "id") { id: ID! knots: Int }
"""
)
RATINGS = (
    V2
    + """
type Query { best: Trip }
type Trip @key(fields: "id") @interfaceObject { id: ID! stars: Int }
type Boat @key(fields: "id") { id: ID! flag: String }
"""
)


def world() -> World:
    """A ride, a cruise, a boat."""
    w = World()
    ride = w.add("Ride", id="r1", **{"from": "North"}, stars=4)
    cruise = w.add("Cruise", id="c1", **{"from": "Pier"}, decks=3, stars=5)
    w.query |= {"trips": [ride, cruise], "best": cruise}
    w.query["vehicle"] = w.add("Boat", id="b1", knots=20, flag="red")
    return w


FEDERATION = Federation(
    "typename",
    {"trips": TRIPS, "ratings": RATINGS},
    world,
    (
        Case(
            "of the root, asked of nobody",
            "{ __typename again: __typename }",
            {"__typename": "Query", "again": "Query"},
            requests=0,
        ),
        Case(
            "through an interface object it is the object's own",
            "{ best { __typename stars } }",
            {"best": {"__typename": "Cruise", "stars": 5}},
            requests=2,
        ),
        Case("of a union, twice", "{ vehicle { one: __typename two: __typename } }",
             {"vehicle": {"one": "Boat", "two": "Boat"}}),
        Case("in a fragment and out of it",
             "{ vehicle { __typename ... on Boat { name: __typename flag } } }",
             {"vehicle": {"__typename": "Boat", "name": "Boat", "flag": "red"}}, requests=2),
        Case("of an interface beside a hop", "{ trips { stars kind: __typename } }", requests=2),
        Case("as an alias of something else", "{ trips { id: __typename from } __typename }",
             {"trips": [{"id": "Ride", "from": "North"}, {"id": "Cruise", "from": "Pier"}],
              "__typename": "Query"}),
    ),
)  # fmt: skip
