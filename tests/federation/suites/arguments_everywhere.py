"""Arguments behind hops: variables in input objects, in lists, in two subgraphs, with defaults."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

STATIONS = (
    V2
    + """
scalar Json
enum Unit { KM MILE }
input Near { at: Point! within: Int = 5 unit: Unit! = KM }
input Point { x: Int! y: Int! }
type Query {
  stations(near: Near, names: [String!]): [Station!]!
  echo(value: Json, text: String = "default"): Json
}
type Station @key(fields: "id") { id: ID! name(upper: Boolean = false): String }
"""
)
CARS = (
    V2
    + """
enum Unit { KM MILE }
enum Seats { TWO FOUR }
input Wish { seats: [Seats!] max: Int tags: [String] unit: Unit = MILE }
type Station @key(fields: "id") {
  id: ID!
  cars(wish: Wish, first: Int = 2): [Car!]!
  distance(unit: Unit!): Int
}
type Car @key(fields: "plate") { plate: String! price(hours: Int! = 1, member: ID): Int }
"""
)


def world() -> World:
    """Two stations; every answer repeats what was asked."""
    w = World()

    def car(plate: str, base: int) -> dict:
        return w.add(
            "Car",
            plate=plate,
            price=lambda hours=1, member=None: base * hours - (1 if member else 0),
        )

    cars = [car("A", 10), car("B", 20), car("C", 30)]

    def station(id: str, name: str, far: int) -> dict:
        return w.add(
            "Station",
            id=id,
            name=lambda upper=False: name.upper() if upper else name,
            cars=lambda wish=None, first=2: _chosen(cars, wish, first),
            distance=lambda unit: far if unit == "KM" else far * 2 // 3,
        )

    both = [station("s1", "North", 3), station("s2", "South", 9)]
    w.query["stations"] = lambda near=None, names=None: [
        one
        for one in both
        if (near is None or one["distance"]("KM") <= near["within"])
        and (names is None or one["name"]() in names)
    ]
    w.query["echo"] = lambda value=None, text="default": [value, text]
    return w


def _chosen(cars: list[dict], wish: dict | None, first: int | None) -> list[dict]:
    most = (wish or {}).get("max")
    return [one for one in cars if most is None or one["price"]() <= most][:first]


FEDERATION = Federation(
    "arguments-everywhere",
    {"stations": STATIONS, "cars": CARS},
    world,
    (
        Case(
            "a variable inside an input object",
            "query ($max: Int, $seats: [Seats!]) {"
            " stations { cars(wish: {max: $max, seats: $seats}) { plate } } }",
            {"stations": [{"cars": [{"plate": "A"}]}, {"cars": [{"plate": "A"}]}]},
            requests=2,
            variables={"max": 10, "seats": ["TWO"]},
        ),
        Case(
            "one variable in two subgraphs",
            "query ($u: Unit! = KM, $n: Int!) {"
            " stations(near: {at: {x: 1, y: 1}, within: $n, unit: $u}) { distance(unit: $u) } }",
            {"stations": [{"distance": 3}]},
            requests=2,
            variables={"n": 4},
        ),
        Case(
            "two arguments of one field behind a hop",
            "query ($h: Int!) { stations { cars(first: 1) { one: price two: price(hours: $h)"
            ' price(member: "m") } } }',
            {"stations": [{"cars": [{"one": 10, "two": 30, "price": 9}]}] * 2},
            requests=2,
            variables={"h": 3},
        ),
        Case(
            "a variable nobody sends stays away",
            "query ($w: Wish, $names: [String!]) { stations(names: $names) {"
            " name(upper: true) cars(wish: $w) { plate } } }",
            {
                "stations": [
                    {"name": "NORTH", "cars": [{"plate": "A"}, {"plate": "B"}]},
                    {"name": "SOUTH", "cars": [{"plate": "A"}, {"plate": "B"}]},
                ]
            },
            requests=2,
        ),
        Case(
            "null is not absent",
            "query ($f: Int) { stations(names: null) { cars(first: $f) { plate } } }",
            {"stations": [{"cars": [{"plate": "A"}, {"plate": "B"}, {"plate": "C"}]}] * 2},
            requests=2,
            variables={"f": None},
        ),
        Case(
            "a scalar that is any value",
            "query ($v: Json) { echo(value: $v) again: echo(value: {a: [1, {b: null}]}) }",
            {"echo": [{"x": [1, None]}, "default"], "again": [{"a": [1, {"b": None}]}, "default"]},
            variables={"v": {"x": [1, None]}},
        ),
        Case("a wrong value asks nobody", "{ stations(near: {at: {x: 1}}) { id } }", refused=True),
        Case(
            "a wrong variable asks nobody",
            "query ($w: Wish) { stations { cars(wish: $w) { plate } } }",
            refused=True,
            variables={"w": {"seats": ["THREE"]}},
        ),
    ),
)
