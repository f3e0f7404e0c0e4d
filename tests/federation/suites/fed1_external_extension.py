"""Version 1 with `extend type`: `@external` on a key is no bar, on other fields it is."""

from tests.federation.harness.cases import Case, Federation
from tests.federation.harness.world import World

EDGE = """
type Query { nearScreen: Screen bigScreen: Screen @provides(fields: "format") }
extend type Screen @key(fields: "id") {
  id: ID! @external
  hall: String! @external
  format: String @external
  lamp: String
}
"""
OWNER = """
type Query { screen: Screen }
type Screen @key(fields: "id") { id: ID! hall: String! format: String seats: Int }
"""


def world() -> World:
    """One object that both know."""
    w = World()
    it = w.add("Screen", id="s1", hall="Hall 3", format="IMAX", lamp="xenon", seats=300)
    w.query |= dict.fromkeys(("nearScreen", "bigScreen", "screen"), it)
    return w


FEDERATION = Federation(
    "fed1-external-extension",
    {"edge": EDGE, "owner": OWNER},
    world,
    (
        Case(
            "not provided on this root field",
            "{ nearScreen { id format lamp } }",
            {"nearScreen": {"id": "s1", "format": "IMAX", "lamp": "xenon"}},
            requests=2,
        ),
        Case(
            "provided on that one",
            "{ bigScreen { format lamp __typename } }",
            {"bigScreen": {"format": "IMAX", "lamp": "xenon", "__typename": "Screen"}},
        ),
        Case("never provided", "{ bigScreen { hall format } }", requests=2),
        Case("from the owner", "{ screen { seats lamp id } }", requests=2),
    ),
)
