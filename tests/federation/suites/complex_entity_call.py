"""Keys nested in lists: a representation is a small tree, and to fill it takes two hops."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

TOURS = (
    V2
    + """
type Query { tour: Legs }
type Legs @key(fields: "items { id }") { items: [Leg!]! @shareable }
extend type Leg @key(fields: "id") { id: ID! }
"""
)
LINES = (
    V2
    + """
type Legs @key(fields: "items { id line }") {
  items: [Leg!]! @shareable
  first: Leg @shareable
  best: Leg @shareable
}
type Leg @key(fields: "id line") { id: ID! line: String @shareable }
"""
)
LINKS = (
    V2
    + """
type Leg @key(fields: "id") @key(fields: "id line") { id: ID! line: String! @shareable }
"""
)
FARES = (
    V2
    + """
type Legs @key(fields: "items { id line zone { id tag } } best { id }") {
  items: [Leg!]! @shareable
  best: Leg @shareable
  first: Leg @shareable
}
type Leg @key(fields: "id line zone { id tag }") {
  id: ID! line: String @shareable zone: Zone @shareable fare: Fare
}
type Fare { fen: Int! }
type Zone @key(fields: "id tag") @shareable { id: ID! tag: String }
"""
)
ZONES = (
    V2
    + """
type Leg @key(fields: "id line") { id: ID! line: String @shareable zone: Zone @shareable }
type Zone @key(fields: "id") { id: ID! tag: String @shareable name: String }
"""
)


def world() -> World:
    """A tour of two legs in two zones."""
    w = World()
    inner = w.add("Zone", id="z1", tag="in", name="Inner")
    outer = w.add("Zone", id="z2", tag="out", name="Outer")
    one = w.add("Leg", id="l1", line="L1", zone=inner, fare=w.add("Fare", fen=300))
    two = w.add("Leg", id="l2", line="L2", zone=outer, fare=w.add("Fare", fen=700))
    w.query["tour"] = w.add("Legs", items=[one, two], first=one, best=two)
    return w


FEDERATION = Federation(
    "complex-entity-call",
    {"tours": TOURS, "lines": LINES, "links": LINKS, "fares": FARES, "zones": ZONES},
    world,
    (
        Case(
            "a key that is a list of trees",
            "{ tour { items { id fare { fen } zone { id name } } best { id line } first { id } } }",
            {"tour": {
                "items": [
                    {"id": "l1", "fare": {"fen": 300}, "zone": {"id": "z1", "name": "Inner"}},
                    {"id": "l2", "fare": {"fen": 700}, "zone": {"id": "z2", "name": "Outer"}}],
                "best": {"id": "l2", "line": "L2"}, "first": {"id": "l1"}}},
            requests=5,
        ),
        Case("one level of it", "{ tour { best { line } } }", requests=3),
        Case("items alone", "{ tour { items { line } } }", requests=2),
    ),
)  # fmt: skip
