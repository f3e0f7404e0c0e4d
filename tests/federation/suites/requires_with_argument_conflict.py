"""Two fields require one field with different arguments, in one operation."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

CARS = (
    V2
    + """
type Query { cars: [Car] }
type Car @key(fields: "vin") {
  vin: String! price(currency: String!): Int weight(unit: String = "kg"): Int
}
"""
)
IMPORTS = (
    V2
    + """
type Car @key(fields: "vin") {
  vin: String!
  price(currency: String!): Int @external
  weight(unit: String = "kg"): Int @external
  duty: Int @requires(fields: "price(currency: \\"USD\\") weight")
  euro: Boolean @requires(fields: "price(currency: \\"EUR\\") weight(unit: \\"lb\\")")
}
"""
)


def world() -> World:
    """Two cars."""
    w = World()

    def car(vin: str, fen: int, kg: int) -> dict:
        prices = {"USD": fen // 7, "EUR": fen // 8}
        return w.add(
            "Car",
            vin=vin,
            price=lambda **asked: prices.get(asked["currency"]),
            weight=lambda unit="kg": kg if unit == "kg" else kg * 2,
            duty=fen // 70 + kg,
            euro=fen // 8 > kg * 2,
        )

    w.query["cars"] = [car("v1", 5600, 100), car("v2", 700, 900)]
    return w  # fmt: skip


FEDERATION = Federation(
    "requires-with-argument-conflict",
    {"cars": CARS, "imports": IMPORTS},
    world,
    (
        Case(
            "both at once",
            "{ cars { vin duty euro } }",
            {"cars": [{"vin": "v1", "duty": 180, "euro": True},
                      {"vin": "v2", "duty": 910, "euro": False}]},
            requests=3,
        ),
        Case(
            "both, and a third of the client's",
            '{ cars { duty price(currency: "CNY") euro weight } }',
            requests=3,
        ),
        Case("one alone", "{ cars { euro } }", requests=2),
        Case(
            "the client's alias is the other's name",
            '{ cars { price: vin weight: price(currency: "USD") duty } }',
            {"cars": [{"price": "v1", "weight": 800, "duty": 180},
                      {"price": "v2", "weight": 100, "duty": 910}]},
            requests=2,
        ),
    ),
)  # fmt: skip
