"""One entity in two subgraphs: the second one is asked by the key, once for all."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

BOOKINGS = (
    V2
    + """
type Query { bookings: [Booking!]! booking(id: ID!): Booking }
type Booking { id: ID! nights: Int! hotel: Hotel }
type Hotel @key(fields: "id") { id: ID! }
"""
)
HOTELS = (
    V2
    + """
type Hotel @key(fields: "id") { id: ID! name: String! stars: Int }
"""
)


def world() -> World:
    """Three bookings in two hotels."""
    w = World()
    lake = w.add("Hotel", id="h1", name="Lakeside", stars=4)
    pass_ = w.add("Hotel", id="h2", name="High Pass", stars=None)
    w.query["bookings"] = [
        w.add("Booking", id="b1", nights=2, hotel=lake),
        w.add("Booking", id="b2", nights=1, hotel=pass_),
        w.add("Booking", id="b3", nights=7, hotel=lake),
        w.add("Booking", id="b4", nights=3, hotel=None),
    ]
    w.query["booking"] = w.finder("Booking")
    return w


FEDERATION = Federation(
    "simple-entity-call",
    {"bookings": BOOKINGS, "hotels": HOTELS},
    world,
    (
        Case(
            "one hotel shared by two bookings is asked for once",
            "{ bookings { id hotel { name stars } } }",
            {
                "bookings": [
                    {"id": "b1", "hotel": {"name": "Lakeside", "stars": 4}},
                    {"id": "b2", "hotel": {"name": "High Pass", "stars": None}},
                    {"id": "b3", "hotel": {"name": "Lakeside", "stars": 4}},
                    {"id": "b4", "hotel": None},
                ]
            },
            requests=2,
        ),
        Case(
            "the key alone needs no second subgraph",
            "{ bookings { hotel { id } } }",
            requests=1,
        ),
        Case(
            "nobody is asked for an entity that is not there",
            '{ booking(id: "b4") { nights hotel { name } } }',
            {"booking": {"nights": 3, "hotel": None}},
            requests=1,
        ),
        Case(
            "aliases of one field stay apart",
            "query One($id: ID!) { mine: booking(id: $id) { place: hotel { called: name } }"
            ' other: booking(id: "b2") { hotel { name id } } }',
            {
                "mine": {"place": {"called": "Lakeside"}},
                "other": {"hotel": {"name": "High Pass", "id": "h2"}},
            },
            requests=2,
            variables={"id": "b1"},
        ),
    ),
)
