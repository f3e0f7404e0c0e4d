"""What is inaccessible is not shown, and works all the same as key, default and requirement."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

ROOMS = (
    V2
    + """
enum Side { SEA TOWN CELLAR @inaccessible }
type Query { rooms(side: Side, depth: Side = CELLAR @inaccessible): [Room!]! }
type Room @key(fields: "code") { code: ID! @inaccessible side: Side number: Int }
"""
)
RATES = (
    V2
    + """
type Room @key(fields: "code") {
  code: ID! number: Int @external
  fen(season: Season = OFF): Int
  sign: String @requires(fields: "number")
  audit: Audit @inaccessible
}
enum Season { ON OFF }
type Audit @inaccessible { by: String }
"""
)


def world() -> World:
    """Rooms by the sea and in town; the default asks for those below ground."""
    w = World()

    def room(code: str, side: str, number: int) -> None:
        w.add(
            "Room",
            code=code,
            side=side,
            number=number,
            sign=f"No. {number}",
            audit=None,
            fen=lambda season: 100 * number if season == "OFF" else 250 * number,
        )

    room("a", "SEA", 1)
    room("b", "TOWN", 2)
    room("c", "CELLAR", 3)
    w.query["rooms"] = lambda side=None, depth="CELLAR": [
        r for r in w.of("Room") if r["side"] == (side or depth)
    ]
    return w  # fmt: skip


FEDERATION = Federation(
    "simple-inaccessible",
    {"rooms": ROOMS, "rates": RATES},
    world,
    (
        Case(
            "a hidden enum value as a default",
            "{ rooms { number } }",
            {"rooms": [{"number": 3}]},
        ),
        Case(
            "a hidden key joins",
            "{ rooms(side: SEA) { side sign fen(season: ON) } }",
            {"rooms": [{"side": "SEA", "sign": "No. 1", "fen": 250}]},
            requests=2,
        ),
        Case("a hidden field is not there", "{ rooms(side: SEA) { code } }", refused=True),
        Case("a hidden argument is not there", "{ rooms(depth: SEA) { side } }", refused=True),
        Case(
            "a hidden type is not told of",
            '{ hidden: __type(name: "Audit") { name } shown: __type(name: "Side")'
            " { enumValues { name } } }",
            {"hidden": None, "shown": {"enumValues": [{"name": "SEA"}, {"name": "TOWN"}]}},
            requests=0,
            monolith=False,
        ),
        Case(
            "a default of another enum",
            "query ($s: Side = TOWN) { rooms(side: $s) { fen } }",
            {"rooms": [{"fen": 200}]},
            requests=2,
        ),
    ),
)
