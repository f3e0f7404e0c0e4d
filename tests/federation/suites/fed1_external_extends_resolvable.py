"""Version 1: three keys in a chain, each subgraph knowing the next one."""

from tests.federation.harness.cases import Case, Federation
from tests.federation.harness.world import World

HALL = """
type Query { pass: Pass passes: [Pass] }
type Pass @key(fields: "id") @extends { id: ID! @external door: String }
"""
OFFICE = """
type Pass @key(fields: "id") @key(fields: "pid") { id: ID! pid: ID! holder: String }
"""
PRINT = """
type Pass @key(fields: "pid") @key(fields: "upc") @extends {
  pid: ID! @external upc: String! paper: String
}
"""
SHOP = """
extend type Pass @key(fields: "upc") { upc: String! @external fen: Int! }
"""


def world() -> World:
    """Two passes."""
    w = World()
    one = w.add("Pass", id="1", pid="p1", upc="u1", door="N", holder="Bo", paper="A6", fen=500)
    two = w.add("Pass", id="2", pid="p2", upc="u2", door=None, holder="Li", paper=None, fen=0)
    w.query |= {"pass": one, "passes": [one, two]}
    return w


FEDERATION = Federation(
    "fed1-external-extends-resolvable",
    {"hall": HALL, "office": OFFICE, "print": PRINT, "shop": SHOP},
    world,
    (
        Case(
            "from the first to the last",
            "{ pass { id fen } }",
            {"pass": {"id": "1", "fen": 500}},
            requests=4,
        ),
        Case("all along the chain", "{ passes { door holder paper fen } }", requests=4),
        Case("half way", "{ passes { pid paper } }", requests=3),
    ),
)
