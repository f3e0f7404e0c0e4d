"""`node` through an interface that three subgraphs implement in part."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

GATE = (
    V2
    + """
type Query { stayNode: Node rideNode: Node }
interface Node { id: ID! }
type Stay implements Node @key(fields: "id") { id: ID! }
type Trip implements Node @key(fields: "id") { id: ID! }
"""
)
STAYS = (
    V2
    + """
interface Node { id: ID! }
type Stay implements Node @key(fields: "id") { id: ID! nights: Int! }
"""
)
RIDES = (
    V2
    + """
interface Node { id: ID! }
type Trip implements Node @key(fields: "id") { id: ID! metres: Int! }
"""
)


def world() -> World:
    """A stay and a trip."""
    w = World()
    w.query["stayNode"] = w.add("Stay", id="s1", nights=2)
    w.query["rideNode"] = w.add("Trip", id="t1", metres=5200)
    return w


FEDERATION = Federation(
    "node",
    {"gate": GATE, "stays": STAYS, "rides": RIDES},
    world,
    (
        Case(
            "one of each, each from its own",
            "{ stayNode { __typename id ... on Stay { nights } ... on Trip { metres } }"
            " rideNode { __typename id ... on Stay { nights } ... on Trip { metres } } }",
            {
                "stayNode": {"__typename": "Stay", "id": "s1", "nights": 2},
                "rideNode": {"__typename": "Trip", "id": "t1", "metres": 5200},
            },
            requests=3,
        ),
        Case("the interface alone", "{ rideNode { id } }"),
        Case(
            "a fragment that does not apply asks nobody",
            "{ stayNode { id ... on Trip { metres } } }",
            {"stayNode": {"id": "s1"}},
        ),
    ),
)
