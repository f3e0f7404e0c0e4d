"""Keys written as fragments, on the type itself or on an interface of it."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

LIST = (
    V2
    + """
type Query { seats: [Seat!]! places: [Place!]! }
interface Place { id: ID! }
type Seat implements Place @key(fields: "... on Seat { id }") { id: ID! row: Int }
type Aisle implements Place { id: ID! wide: Boolean }
"""
)
NAMES = (
    V2
    + """
interface Place { id: ID! }
type Seat implements Place
  @key(fields: "... on Place { id }") @key(fields: "code ... on Seat { id }") {
  id: ID! code: ID! name: String
}
"""
)
PRICES = (
    V2
    + """
type Seat @key(fields: "code ... on Seat { id }") { code: ID! id: ID! points: Int }
"""
)


def world() -> World:
    """Two seats and an aisle."""
    w = World()
    seats = [
        w.add("Seat", id=f"s{number}", code=f"c{number}", row=number, name=f"N{number}", points=5)
        for number in (1, 2)
    ]
    w.query |= {"seats": seats, "places": [*seats, w.add("Aisle", id="a", wide=True)]}
    return w


FEDERATION = Federation(
    "keys-with-fragments",
    {"list": LIST, "names": NAMES, "prices": PRICES},
    world,
    (
        Case(
            "a fragment on the type itself",
            "{ seats { name } }",
            {"seats": [{"name": "N1"}, {"name": "N2"}]},
            requests=2,
        ),
        Case(
            "a fragment beside a field, by way of another subgraph",
            "{ seats { row points } }",
            {"seats": [{"row": 1, "points": 5}, {"row": 2, "points": 5}]},
            requests=3,
        ),
        Case(
            "from an interface",
            "{ places { id ... on Seat { name points } ... on Aisle { wide } } }",
            requests=3,
        ),
    ),
)
