"""Version 2 with `extend type`: an external field is provided on one root field only."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

EDGE = (
    V2
    + """
type Query { anyRoute: Route busyRoute: Route @provides(fields: "load") }
extend type Route @key(fields: "id") {
  id: ID! @external
  load: String @external
  colour: String
}
"""
)
OWNER = (
    V2
    + """
type Query { route: Route }
type Route @key(fields: "id") { id: ID! label: String! @shareable
  load: String @shareable stops: Int
}
"""
)


def world() -> World:
    """One object that both know."""
    w = World()
    it = w.add("Route", id="r1", label="Ring", load="full", colour="blue", stops=14)
    w.query |= dict.fromkeys(("anyRoute", "busyRoute", "route"), it)
    return w


FEDERATION = Federation(
    "fed2-external-extension",
    {"edge": EDGE, "owner": OWNER},
    world,
    (
        Case(
            "not provided on this root field",
            "{ anyRoute { id load colour } }",
            {"anyRoute": {"id": "r1", "load": "full", "colour": "blue"}},
            requests=2,
        ),
        Case(
            "provided on that one",
            "{ busyRoute { load colour __typename } }",
            {"busyRoute": {"load": "full", "colour": "blue", "__typename": "Route"}},
        ),
        Case("never provided", "{ busyRoute { label load } }", requests=2),
        Case("from the owner", "{ route { stops colour id } }", requests=2),
    ),
)
