"""Parts of a nested value lie in four subgraphs, and only the topmost entity has a key."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

DOORS = (
    V2
    + """
type Query { flat: Flat }
type Flat @key(fields: "id") { id: ID! house: House @shareable }
type House @shareable { yard: Yard }
type Yard @shareable { trees: Int }
"""
)
HOUSES = (
    V2
    + """
type Flat @key(fields: "id") { id: ID! house: House @shareable }
type House { id: ID! @shareable yard: Yard @shareable storeys: Int }
type Yard { pond: Pond @shareable }
type Pond { fish: Int @shareable }
"""
)
PONDS = (
    V2
    + """
type Flat @key(fields: "id") @key(fields: "no") { id: ID! no: String house: House @shareable }
type House { yard: Yard @shareable }
type Yard { pond: Pond @shareable }
type Pond { depth: Int fish: Int @shareable }
"""
)
LAMPS = (
    V2
    + """
type Flat @key(fields: "no") { no: String house: House @shareable }
type House { yard: Yard @shareable }
type Yard { lamps: [Lamp!] }
type Lamp { watt: Int }
"""
)


def world() -> World:
    """A flat in a house with a yard with a pond."""
    w = World()
    pond = w.add("Pond", fish=3, depth=2)
    yard = w.add("Yard", trees=5, pond=pond, lamps=[w.add("Lamp", watt=9)])
    house = w.add("House", id="h", yard=yard, storeys=4)
    w.query["flat"] = w.add("Flat", id="f1", no="12A", house=house)
    return w


FEDERATION = Federation(
    "parent-entity-call-complex",
    {"doors": DOORS, "houses": HOUSES, "ponds": PONDS, "lamps": LAMPS},
    world,
    (
        Case(
            "every part from where it is",
            "{ flat { house { id storeys yard { trees pond { depth fish } lamps { watt } } } } }",
            {"flat": {"house": {"id": "h", "storeys": 4, "yard": {
                "trees": 5, "pond": {"depth": 2, "fish": 3}, "lamps": [{"watt": 9}]}}}},
            requests=4,
        ),
        Case("the farthest alone", "{ flat { house { yard { lamps { watt } } } } }", requests=3),
        Case("one that two have", "{ flat { house { yard { pond { fish } } } } }", requests=2),
    ),
)  # fmt: skip
