"""What a condition leaves out is not fetched, and what it would require neither."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

ROOMS = (
    V2
    + """
type Query { room: Room rooms: [Room] }
type Room @key(fields: "id") { id: ID! fen: Int }
"""
)
PEOPLE = (
    V2
    + """
type Room @key(fields: "id") { id: ID! host: Host @shareable beds: Int }
type Host @shareable { name: String }
"""
)
OFFERS = (
    V2
    + """
type Room @key(fields: "id") {
  id: ID! fen: Int @external beds: Int @external
  cheap: Boolean @requires(fields: "fen") family: Boolean @requires(fields: "beds")
}
"""
)


def world() -> World:
    """Two rooms."""
    w = World()
    host = w.add("Host", name="Mei")
    w.query["room"] = w.add("Room", id="r1", fen=19900, beds=2, cheap=True, family=False, host=host)
    other = w.add("Room", id="r2", fen=88800, beds=5, cheap=False, family=True, host=None)
    w.query["rooms"] = [w.query["room"], other]
    return w


FEDERATION = Federation(
    "include-skip",
    {"rooms": ROOMS, "people": PEOPLE, "offers": OFFERS},
    world,
    (
        Case(
            "left out by a variable's default",
            "query ($with: Boolean = false) { room { id family @include(if: $with) } }",
            {"room": {"id": "r1"}},
            requests=1,
        ),
        Case(
            "skipped by a variable's default",
            "query ($without: Boolean! = true) { room { fen cheap @skip(if: $without) } }",
            {"room": {"fen": 19900}},
            requests=1,
        ),
        Case(
            "a value beats the default",
            "query ($with: Boolean = false) { room { id family @include(if: $with) } }",
            {"room": {"id": "r1", "family": False}},
            requests=3,
            variables={"with": True},
        ),
        Case(
            "both on one field",
            "query ($a: Boolean!, $b: Boolean!) { rooms { host @skip(if: $a) @include(if: $b)"
            " { name } fen } }",
            {"rooms": [{"fen": 19900}, {"fen": 88800}]},
            requests=1,
            variables={"a": True, "b": True},
        ),
        Case(
            "on a fragment",
            "query ($a: Boolean!) { rooms { ... @include(if: $a) { cheap } ...F @skip(if: $a) } }"
            " fragment F on Room { host { name } }",
            {"rooms": [{"cheap": True}, {"cheap": False}]},
            requests=2,
            variables={"a": True},
        ),
        Case(
            "left out here, kept there",
            "query ($a: Boolean = false) { rooms { cheap @include(if: $a) ...on Room { cheap } } }",
            {"rooms": [{"cheap": True}, {"cheap": False}]},
            requests=2,
        ),
    ),
)
