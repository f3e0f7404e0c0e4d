"""Four keys a subgraph, not all resolvable: the only way is a composite and nested one."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

STALLS = (
    V2
    + """
type Query { market: Market }
type Market { id: ID! bikes: [Bike!]! }
type Bike @key(fields: "id") @key(fields: "pid") @key(fields: "composite { one two }")
  @key(fields: "id composite { two three }") {
  id: ID! @shareable pid: ID! @shareable composite: Frame! @shareable name: String!
}
type Frame { one: ID! @shareable two: ID! @shareable three: ID! @shareable }
"""
)
REPAIRS = (
    V2
    + """
type Bike @key(fields: "id", resolvable: false) @key(fields: "pid", resolvable: false)
  @key(fields: "composite { one two }", resolvable: false)
  @key(fields: "id composite { two three }") {
  id: ID! @shareable pid: ID! @shareable composite: Frame! @shareable
  name: String! @external
  nameAtRepair: String! @requires(fields: "name")
}
type Frame { one: ID! @shareable two: ID! @shareable three: ID! @shareable }
"""
)
RINGS = (
    V2
    + """
type Bike @key(fields: "composite { three }") { composite: Frame! @shareable bell: String }
type Frame { three: ID! @shareable }
"""
)


def world() -> World:
    """Two bikes."""
    w = World()

    def bike(n: int, name: str) -> dict:
        frame = w.add("Frame", one=f"o{n}", two=f"t{n}", three=f"h{n}")
        return w.add(
            "Bike",
            id=f"b{n}",
            pid=f"p{n}",
            composite=frame,
            name=name,
            nameAtRepair=f"{name} #{n}",
            bell="ding" if n == 1 else None,
        )

    w.query["market"] = w.add("Market", id="m", bikes=[bike(1, "Swift"), bike(2, "Heavy")])
    return w  # fmt: skip


FEDERATION = Federation(
    "keys-mashup",
    {"stalls": STALLS, "repairs": REPAIRS, "rings": RINGS},
    world,
    (
        Case(
            "the one key that resolves, then what is required",
            "{ market { id bikes { id name nameAtRepair } } }",
            {"market": {"id": "m", "bikes": [
                {"id": "b1", "name": "Swift", "nameAtRepair": "Swift #1"},
                {"id": "b2", "name": "Heavy", "nameAtRepair": "Heavy #2"}]}},
            requests=2,
        ),
        Case("a nested key alone", "{ market { bikes { bell } } }", requests=2),
        Case(
            "both ways at once",
            "{ market { bikes { bell nameAtRepair composite { one } } } }",
            requests=3,
        ),
    ),
)  # fmt: skip
