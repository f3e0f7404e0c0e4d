"""A field that moved is read through an interface: the old subgraph still declares it there."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import CalledInstead, World

FEED = (
    V2
    + """
type Query { feed: [Notice] }
interface Notice { id: ID! posted: String! }
type Alert implements Notice @key(fields: "id") { id: ID! posted: String! level: Int }
type Greeting implements Notice @key(fields: "id") { id: ID! posted: String! words: String }
"""
)
DATES = (
    V2
    + """
type Query { notices: [Notice] }
interface Notice { id: ID! posted: String! }
type Alert implements Notice @key(fields: "id") {
  id: ID! posted: String! @override(from: "feed") sender: String
}
"""
)


def world() -> World:
    """An alert whose date moved, a greeting whose date stayed."""
    w = World()
    alert = w.add(
        "Alert", id="a1", posted=CalledInstead("feed")("Monday"), level=2, sender="front desk"
    )
    greeting = w.add("Greeting", id="g1", posted="Tuesday", words="hello")
    w.query |= {"feed": [alert, greeting], "notices": [alert]}
    return w


FEDERATION = Federation(
    "override-type-interface",
    {"feed": FEED, "dates": DATES},
    world,
    (
        Case(
            "through the interface",
            "{ feed { id posted } }",
            {"feed": [{"id": "a1", "posted": "Monday"}, {"id": "g1", "posted": "Tuesday"}]},
            requests=2,
        ),
        Case("through a fragment", "{ feed { ... on Alert { posted level } } }", requests=2),
        Case(
            "the implementation that did not move",
            "{ feed { ... on Greeting { posted words } } }",
            {"feed": [{}, {"posted": "Tuesday", "words": "hello"}]},
        ),
        Case(
            "where it lives",
            "{ notices { id posted ... on Alert { sender level } } }",
            requests=2,
        ),
    ),
)
