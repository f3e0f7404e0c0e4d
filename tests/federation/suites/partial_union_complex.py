"""Union fields of entities that several subgraphs share: members narrow only while undecided."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

SHELF = (
    V2
    + """
type Query { boxes: [Box!]! box(id: ID!): Box }
type Box @key(fields: "id") { id: ID! size: Int thing: Thing @shareable }
union Thing = Shoe | Hat
type Shoe { size: Int @shareable pair: Boolean @shareable }
type Hat { brim: Int @shareable }
"""
)
ATTIC = (
    V2
    + """
type Query { attic: [Box!]! top: Thing }
type Box @key(fields: "id") { id: ID! dust: Int thing: Thing @shareable old: Thing }
union Thing = Shoe | Coat
type Shoe { size: Int @shareable pair: Boolean @shareable }
type Coat { lining: String }
"""
)


def world() -> World:
    """Boxes with shoes, and old things."""
    w = World()
    shoe = w.add("Shoe", size=42, pair=True)
    coat = w.add("Coat", lining="silk")
    one = w.add("Box", id="1", size=3, thing=shoe, dust=1, old=coat)
    two = w.add("Box", id="2", size=1, thing=None, dust=9, old=shoe)
    w.query |= {"boxes": [one, two], "attic": [two, one], "top": coat, "box": w.finder("Box")}
    return w


THING = "... on Shoe { size pair } ... on Hat { brim } ... on Coat { lining }"
FEDERATION = Federation(
    "partial-union-complex",
    {"shelf": SHELF, "attic": ATTIC},
    world,
    (
        Case("where it is", f"{{ boxes {{ id thing {{ {THING} }} }} }}"),
        Case("from the other side", f"{{ attic {{ id thing {{ __typename {THING} }} }} }}"),
        Case(
            "a field only one of them has",
            f"{{ boxes {{ size old {{ {THING} }} thing {{ {THING} }} }} }}",
            {"boxes": [
                {"size": 3, "old": {"lining": "silk"}, "thing": {"size": 42, "pair": True}},
                {"size": 1, "old": {"size": 42, "pair": True}, "thing": None}]},
            requests=2,
        ),
        Case("a root of one", f"{{ top {{ {THING} }} }}", {"top": {"lining": "silk"}}),
        Case(
            "all at once",
            "{ attic { dust size old { ... on Coat { lining } } thing { __typename } }"
            ' box(id: "1") { thing { ... on Hat { brim } ... on Shoe { size } } } }',
            requests=3,
        ),
    ),
)  # fmt: skip
