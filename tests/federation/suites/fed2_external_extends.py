"""Version 2 with `@extends`: an external field is provided on one root field only."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

EDGE = (
    V2
    + """
type Query { anySpa: Spa bestSpa: Spa @provides(fields: "grade") }
type Spa @key(fields: "id") @extends {
  id: ID! @external
  grade: String @external
  towels: String
}
"""
)
OWNER = (
    V2
    + """
type Query { spa: Spa }
type Spa @key(fields: "id") { id: ID! title: String! @shareable
  grade: String @shareable pools: Int
}
"""
)


def world() -> World:
    """One object that both know."""
    w = World()
    it = w.add("Spa", id="x1", title="Steam", grade="A", towels="two", pools=3)
    w.query |= dict.fromkeys(("anySpa", "bestSpa", "spa"), it)
    return w


FEDERATION = Federation(
    "fed2-external-extends",
    {"edge": EDGE, "owner": OWNER},
    world,
    (
        Case(
            "not provided on this root field",
            "{ anySpa { id grade towels } }",
            {"anySpa": {"id": "x1", "grade": "A", "towels": "two"}},
            requests=2,
        ),
        Case(
            "provided on that one",
            "{ bestSpa { grade towels __typename } }",
            {"bestSpa": {"grade": "A", "towels": "two", "__typename": "Spa"}},
        ),
        Case("never provided", "{ bestSpa { title grade } }", requests=2),
        Case("from the owner", "{ spa { pools towels id } }", requests=2),
    ),
)
