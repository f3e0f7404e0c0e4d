"""@provides of several levels: nothing else is asked as long as all is on the way."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

GUIDE = (
    V2
    + """
type Query {
  places: [Place] @provides(fields: "areas { id name parts { id name } }")
  bare: [Place]
}
type Place @key(fields: "id") { id: ID! areas: [Area] @external }
type Area @key(fields: "id") { id: ID! @external name: String @external parts: [Area] @external }
"""
)
MAPS = (
    V2
    + """
type Place @key(fields: "id") { id: ID! areas: [Area] @shareable }
type Area @key(fields: "id") {
  id: ID! @shareable name: String @shareable parts: [Area] @shareable size: Int
}
"""
)


def world() -> World:
    """A place with areas in areas."""
    w = World()
    inner = w.add("Area", id="a3", name="Pier 1", parts=[], size=1)
    outer = w.add("Area", id="a1", name="Harbour", parts=[inner], size=9)
    other = w.add("Area", id="a2", name="Hill", parts=[], size=4)
    place = w.add("Place", id="p1", areas=[outer, other])
    w.query |= {"places": [place], "bare": [place]}
    return w


FEDERATION = Federation(
    "nested-provides",
    {"guide": GUIDE, "maps": MAPS},
    world,
    (
        Case(
            "two levels provided",
            "{ places { id areas { name parts { id name } } } }",
            {"places": [{"id": "p1", "areas": [
                {"name": "Harbour", "parts": [{"id": "a3", "name": "Pier 1"}]},
                {"name": "Hill", "parts": []}]}]},
        ),
        Case("a third level is not", "{ places { areas { parts { parts { id } } } } }", requests=2),
        Case("nothing is on the root beside it", "{ bare { areas { name } } }", requests=2),
        Case("what only the owner has", "{ places { areas { name size } } }", requests=2),
    ),
)  # fmt: skip
