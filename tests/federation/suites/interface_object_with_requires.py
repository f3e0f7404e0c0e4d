"""A field of an interface object requires what the implementations hold elsewhere."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

PEOPLE = (
    V2
    + """
type Query { people: [Person] }
interface Person @key(fields: "id") { id: ID! name: String age: Int }
type Driver implements Person @key(fields: "id") { id: ID! name: String age: Int plate: String }
type Cook implements Person @key(fields: "id") { id: ID! name: String age: Int dish: String }
"""
)
BADGES = (
    V2
    + """
type Query { badges: [Badge] anyone: [Person] }
type Person @key(fields: "id") @interfaceObject {
  id: ID! name: String @external
  label: String @requires(fields: "name") boss: Person
}
type Badge { code: String person: Person }
"""
)


def world() -> World:
    """A driver and a cook."""
    w = World()
    driver = w.add("Driver", id="d1", name="Ma", age=41, plate="A-1", label="<Ma>")
    cook = w.add("Cook", id="c1", name="Jin", age=35, dish="noodles", label="<Jin>")
    driver["boss"], cook["boss"] = cook, None
    w.query |= {"people": [driver, cook], "anyone": [cook, driver]}
    w.query["badges"] = [w.add("Badge", code="b1", person=driver)]
    return w


FEDERATION = Federation(
    "interface-object-with-requires",
    {"people": PEOPLE, "badges": BADGES},
    world,
    (
        Case("from the interface's side", "{ people { id name label } }", requests=2),
        Case(
            "from the interface object's side",
            "{ anyone { label } }",
            {"anyone": [{"label": "<Jin>"}, {"label": "<Ma>"}]},
            requests=3,
        ),
        Case("with what is required shown", "{ anyone { id name label } }", requests=3),
        Case(
            "in a fragment on an implementation",
            "{ people { ... on Driver { label plate } ... on Cook { dish } } }",
            {"people": [{"label": "<Ma>", "plate": "A-1"}, {"dish": "noodles"}]},
            requests=2,
        ),
        Case(
            "in a fragment behind the interface object",
            "{ badges { person { __typename ... on Driver { label } } } }",
            {"badges": [{"person": {"__typename": "Driver", "label": "<Ma>"}}]},
            requests=3,
        ),
        Case("another person behind one", "{ people { boss { name label } } }", requests=4),
        Case(
            "an implementation's own field only",
            "{ badges { code person { ... on Cook { dish } ... on Driver { plate age } } } }",
            requests=2,
        ),
    ),
)
