"""`@external` on the key of an extension that imports nothing: the key is known all the same."""

from tests.federation.harness.cases import Case, Federation
from tests.federation.harness.world import World

MENU = """
type Query { dish: Dish dishes: [Dish] }
type Dish @key(fields: "id") { id: ID! name: String! }
"""
COST = """
extend type Dish @key(fields: "id") { id: ID! @external fen: Int! }
type Query { cheapest: Dish }
"""


def world() -> World:
    """Two dishes."""
    w = World()
    soup = w.add("Dish", id="d1", name="Soup", fen=1200)
    rice = w.add("Dish", id="d2", name="Rice", fen=300)
    w.query |= {"dish": soup, "dishes": [soup, rice], "cheapest": rice}
    return w


FEDERATION = Federation(
    "mysterious-external",
    {"menu": MENU, "cost": COST},
    world,
    (
        Case(
            "from the extension",
            "{ cheapest { id name fen } }",
            {"cheapest": {"id": "d2", "name": "Rice", "fen": 300}},
            requests=2,
        ),
        Case("the key from the extension", "{ cheapest { id fen } }"),
        Case("towards the extension", "{ dish { fen } dishes { name fen } }", requests=2),
    ),
)
