"""A value type's fields live in several subgraphs: the way to them is the parent's key."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

LIST = (
    V2
    + """
type Query { lots: [Lot] }
type Lot @key(fields: "id pid") { id: ID! pid: ID! }
"""
)
DETAILS = (
    V2
    + """
type Lot @key(fields: "id pid") { id: ID! pid: ID! class: Class @shareable }
type Class { details: Details @shareable }
type Details { count: Int }
"""
)
NAMES = (
    V2
    + """
type Lot @key(fields: "id") { id: ID! class: Class @shareable }
type Class { details: Details @shareable label: String }
type Details { name: String }
"""
)


def world() -> World:
    """Two lots."""
    w = World()
    details = w.add("Details", count=4, name="Four wheels")
    one = w.add("Lot", id="1", pid="p1", **{"class": w.add("Class", label="car", details=details)})
    two = w.add("Lot", id="2", pid="p2", **{"class": w.add("Class", label="none", details=None)})
    w.query["lots"] = [one, two]
    return w


FEDERATION = Federation(
    "parent-entity-call",
    {"list": LIST, "details": DETAILS, "names": NAMES},
    world,
    (
        Case(
            "two levels below the entity",
            "{ lots { class { details { count name } label } } }",
            {"lots": [
                {"class": {"details": {"count": 4, "name": "Four wheels"}, "label": "car"}},
                {"class": {"details": None, "label": "none"}}]},
            requests=3,
        ),
        Case("from one side only", "{ lots { id class { details { name } } } }", requests=2),
    ),
)  # fmt: skip
