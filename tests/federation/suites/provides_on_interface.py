"""@provides with a fragment on one implementation, and on a field of the interface."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

PICKS = (
    V2
    + """
type Query {
  pick: Media @shareable @provides(fields: "animals { ... on Fish { depth } }")
  bare: Media @shareable
}
interface Media { id: ID! animals: [Animal] }
interface Animal { id: ID! name: String }
type Reel implements Media @key(fields: "id") { id: ID! animals: [Animal] @shareable }
type Fish implements Animal @key(fields: "id") {
  id: ID! name: String @external depth: Int @external
}
type Bird implements Animal @key(fields: "id") { id: ID! name: String @external }
"""
)
ZOO = (
    V2
    + """
interface Media { id: ID! animals: [Animal] }
interface Animal { id: ID! name: String }
type Reel implements Media @key(fields: "id") {
  id: ID! @shareable animals: [Animal] @shareable year: Int
}
type Fish implements Animal @key(fields: "id") {
  id: ID! name: String @shareable depth: Int @shareable
}
type Bird implements Animal @key(fields: "id") { id: ID! name: String @shareable wings: Int }
"""
)


def world() -> World:
    """A reel of a fish and a bird."""
    w = World()
    carp = w.add("Fish", id="f1", name="Carp", depth=3)
    crow = w.add("Bird", id="b1", name="Crow", wings=2)
    reel = w.add("Reel", id="r1", animals=[carp, crow], year=1999)
    w.query |= {"pick": reel, "bare": reel}
    return w


FEDERATION = Federation(
    "provides-on-interface",
    {"picks": PICKS, "zoo": ZOO},
    world,
    (
        Case(
            "a fragment provides",
            "{ pick { id animals { id ... on Fish { depth } } } }",
            {"pick": {"id": "r1", "animals": [{"id": "f1", "depth": 3}, {"id": "b1"}]}},
        ),
        Case(
            "what no fragment provides",
            "{ pick { animals { name ... on Fish { depth } } } }",
            requests=2,
        ),
        Case("the root beside it", "{ bare { animals { ... on Fish { depth } } } }", requests=2),
    ),
)
