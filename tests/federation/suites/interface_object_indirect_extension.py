"""An interface object answers; a fragment on an implementation first needs its true name."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

OWNER = (
    V2
    + """
interface Show @key(fields: "id") { id: ID! title: String! }
type Film implements Show @key(fields: "id") { id: ID! title: String! minutes: Int! }
type Opera implements Show @key(fields: "id") { id: ID! title: String! acts: Int! }
"""
)
TICKETS = (
    V2
    + """
type Query { shows: [Show!]! show: Show }
type Show @key(fields: "id") @interfaceObject { id: ID! sold: Int! }
"""
)


def world() -> World:
    """A film and an opera, both sold."""
    w = World()
    film = w.add("Film", id="f1", title="Harbour", minutes=101, sold=70)
    opera = w.add("Opera", id="o1", title="Nine Gates", acts=3, sold=12)
    w.query |= {"shows": [film, opera], "show": film}
    return w


FEDERATION = Federation(
    "interface-object-indirect-extension",
    {"owner": OWNER, "tickets": TICKETS},
    world,
    (
        Case(
            "a fragment behind the interface object",
            "{ shows { id sold ... on Film { minutes } } }",
            {"shows": [{"id": "f1", "sold": 70, "minutes": 101}, {"id": "o1", "sold": 12}]},
            requests=2,
        ),
        Case("one object, two names", "{ show { ... on Film { title } ... on Opera { acts } } }",
             {"show": {"title": "Harbour"}}, requests=2),
        Case("no name is needed", "{ shows { id sold } }"),
    ),
)  # fmt: skip
