"""Fields that only interface objects have, on every implementation there is."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

ACCOUNTS = (
    V2
    + """
type Query { users: [Named!]! anyUser: Account }
interface Named { name: String! }
interface Account @key(fields: "id") { id: ID! email: String }
type Shopper implements Account & Named @key(fields: "id") {
  id: ID! name: String! email: String
}
type Clerk implements Account & Named @key(fields: "id") {
  id: ID! name: String! email: String desk: Int
}
"""
)
POINTS = (
    V2
    + """
type Query { accounts: [Account] rich: Account }
type Account @key(fields: "id") @interfaceObject { id: ID! points: Int! gifts: [Gift!]! }
type Gift { name: String! giver: Account }
"""
)
STATUS = (
    V2
    + """
type Query { gold: [Account!]! }
type Account @key(fields: "id") @interfaceObject {
  id: ID! tier: String points: Int! @external
  next: Int @requires(fields: "points")
}
"""
)


def world() -> World:
    """A shopper and a clerk."""
    w = World()
    shopper = w.add("Shopper", id="s1", name="Ann", email=None, points=900, tier="gold", next=100)
    clerk = w.add("Clerk", id="c1", name="Bo", email="bo@x", desk=3, points=10, tier=None, next=90)
    shopper["gifts"] = [w.add("Gift", name="cup", giver=clerk)]
    clerk["gifts"] = []
    w.query |= {"users": [shopper, clerk], "anyUser": clerk, "accounts": [clerk, shopper]}
    w.query |= {"rich": shopper, "gold": [shopper]}
    return w


CASES = (
    Case("from the interface object, its own", "{ accounts { id points } }"),
    Case("the true name", "{ accounts { __typename } }",
         {"accounts": [{"__typename": "Clerk"}, {"__typename": "Shopper"}]}, requests=2),
    Case("a field of the interface", "{ accounts { points email } }", requests=2),
    Case("a fragment on an implementation", "{ accounts { ... on Clerk { desk } points } }",
         {"accounts": [{"desk": 3, "points": 10}, {"points": 900}]}, requests=2),
    Case("an interface object's field in a fragment", "{ accounts { ... on Clerk { points } } }",
         {"accounts": [{"points": 10}, {}]}, requests=3),
    Case("from another interface", "{ users { name ... on Account { points } } }", requests=2),
    Case("on an implementation from another interface",
         "{ users { ... on Shopper { points tier email } } }",
         {"users": [{"points": 900, "tier": "gold", "email": None}, {}]}, requests=3),
    Case("from the interface itself", "{ anyUser { id email points tier } }", requests=3),
    Case("one interface object to another", "{ gold { tier points } }",
         {"gold": [{"tier": "gold", "points": 900}]}, requests=2),
    Case("a requirement between two interface objects", "{ gold { next } accounts { next } }",
         {"gold": [{"next": 100}], "accounts": [{"next": 90}, {"next": 100}]}, requests=5),
    Case("behind a value", "{ rich { gifts { name giver { __typename points } } } }",
         {"rich": {"gifts": [{"name": "cup", "giver": {"__typename": "Clerk", "points": 10}}]}},
         requests=2),
    Case("the interface's field behind a value",
         "{ rich { gifts { giver { ... on Named { name } } } } }",
         {"rich": {"gifts": [{"giver": {"name": "Bo"}}]}}, requests=2),
    Case("two aliases of the name", "{ rich { a: __typename b: __typename id } }",
         {"rich": {"a": "Shopper", "b": "Shopper", "id": "s1"}}, requests=2),
)  # fmt: skip

FEDERATION = Federation(
    "simple-interface-object",
    {"accounts": ACCOUNTS, "points": POINTS, "status": STATUS},
    world,
    CASES,
)
