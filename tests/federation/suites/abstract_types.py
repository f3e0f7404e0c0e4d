"""Interfaces that seven subgraphs know differently: each sees other implementations and fields."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

SHELF = (
    V2
    + """
type Query { offers: [Offer] stays: [Stay!] }
interface Offer { id: ID! size: Size }
interface Stay { id: ID! size: Size nights: Int }
type Room implements Offer & Stay @key(fields: "id") {
  id: ID! size: Size nights: Int
}
type Tent implements Offer & Stay @key(fields: "id") { id: ID! size: Size nights: Int }
type Wash implements Offer @key(fields: "id") { id: ID! size: Size minutes: Int }
type Size @shareable { guests: Int }
"""
)
PRICES = (
    V2
    + """
interface Offer { id: ID! price: Price }
type Room implements Offer @key(fields: "id") { id: ID! price: Price }
type Tent implements Offer @key(fields: "id") { id: ID! price: Price }
type Wash implements Offer @key(fields: "id") { id: ID! price: Price }
type Price { fen: Int! points: Int }
"""
)
STOCK = (
    V2
    + """
interface Offer { id: ID! inStock: Boolean }
type Room implements Offer @key(fields: "id") {
  id: ID! inStock: Boolean size: Size @external
  family: Boolean @requires(fields: "size { guests }")
}
type Tent implements Offer @key(fields: "id") { id: ID! inStock: Boolean }
type Wash implements Offer @key(fields: "id") { id: ID! inStock: Boolean }
type Size @shareable { guests: Int }
"""
)
VOICES = (
    V2
    + """
type Query { voice(id: Int!): Voice }
interface Offer { id: ID! voices: [Voice!]! }
type Room implements Offer @key(fields: "id") { id: ID! voices: [Voice!]! count: Int! }
type Tent implements Offer @key(fields: "id") { id: ID! voices: [Voice!]! count: Int! }
type Wash implements Offer @key(fields: "id") { id: ID! voices: [Voice!]! }
type Voice { id: Int! text: String offer: Offer }
"""
)
SELLERS = (
    V2
    + """
type Query { sellers: [Seller] }
union Seller = House | Garage
interface Offer { id: ID! seller: Seller }
type Room implements Offer @key(fields: "id") { id: ID! seller: Seller }
type Tent implements Offer @key(fields: "id") { id: ID! seller: Seller }
type House @key(fields: "id") { id: ID! offers: [Offer!]! }
type Garage @key(fields: "id") { id: ID! bays: Int offers: [Offer!]! }
type Wash implements Offer @key(fields: "id") { id: ID! seller: Seller }
"""
)
HOUSES = (
    V2
    + """
interface Named { name: String! }
type House implements Named @key(fields: "id") { id: ID! name: String! }
type Garage implements Named @key(fields: "id") { id: ID! name: String! }
"""
)
SEARCH = (
    V2
    + """
type Query { similar(to: ID!): [Stay] }
interface Stay { id: ID! dimension: String }
type Room implements Stay @key(fields: "id") {
  id: ID! dimension: String price: Price @external
  deal: String @requires(fields: "price { points }")
}
type Tent implements Stay @key(fields: "id") { id: ID! dimension: String }
type Price { points: Int @external }
"""
)


def world() -> World:
    """A room, a tent and a car wash, by a house and a garage."""
    w = World()
    house = w.add("House", id="h", name="Pine House")
    garage = w.add("Garage", id="g", name="Quick", bays=4)
    room = w.add("Room", id="r1", size=w.add("Size", guests=4), nights=2, dimension="4x5")
    tent = w.add("Tent", id="t1", size=None, nights=7, dimension="2x2")
    wash = w.add("Wash", id="w1", size=w.add("Size", guests=1), minutes=25)
    offers = [room, tent, wash]
    for n, offer in enumerate(offers, 1):
        said = w.add("Voice", id=n, text=f"voice {n}", offer=offer)
        offer |= {"voices": [said], "count": 1, "inStock": n != 2}
        offer |= {"price": w.add("Price", fen=n * 1000, points=n * 7 if n < 3 else None)}
    room |= {"family": True, "deal": "7 points", "seller": house}
    tent["seller"], wash["seller"] = house, garage
    house["offers"], garage["offers"] = [room, tent], [wash]
    w.query |= {"offers": offers, "stays": [room, tent], "sellers": [house, garage]}
    w.query["similar"] = lambda to: [o for o in (tent, room) if o["id"] != to]
    w.query["voice"] = w.finder("Voice")
    return w


CASES = (
    Case("a field of the interface elsewhere", "{ offers { id price { fen } } }", requests=2),
    Case(
        "aliases of the type's name",
        "{ offers { a: __typename b: __typename id ... on Room { c: __typename } } }",
        {"offers": [
            {"a": "Room", "b": "Room", "id": "r1", "c": "Room"},
            {"a": "Tent", "b": "Tent", "id": "t1"},
            {"a": "Wash", "b": "Wash", "id": "w1"}]},
    ),
    Case(
        "a requirement of one implementation",
        "{ offers { ... on Room { family } inStock } }",
        {"offers": [{"family": True, "inStock": True}, {"inStock": False}, {"inStock": True}]},
        requests=2,
    ),
    Case(
        "from one interface to another",
        "{ stays { nights ... on Offer { price { points } } } }",
        requests=2,
    ),
    Case(
        "a fragment on the wider interface in the narrower",
        "{ stays { ... on Offer { size { guests } voices { text } } ... on Tent { nights } } }",
        requests=2,
    ),
    Case(
        "a fragment on the narrower in the wider",
        "{ offers { ... on Stay { nights } ... on Wash { minutes } } }",
        {"offers": [{"nights": 2}, {"nights": 7}, {"minutes": 25}]},
    ),
    Case(
        "a union's members by an interface of another subgraph",
        "{ sellers { ... on Named { name } ... on Garage { bays } } }",
        {"sellers": [{"name": "Pine House"}, {"name": "Quick", "bays": 4}]},
        requests=2,
    ),
    Case(
        "from a union back to offers",
        "{ sellers { ... on House { name offers { id size { guests } } }"
        " ... on Garage { offers { price { fen } } } } }",
        requests=4,
    ),
    Case("all sellers", "{ offers { seller { __typename ... on House { name } } } }", requests=3),
    Case(
        "a field in an implementation's own interface",
        '{ similar(to: "r1") { dimension ... on Offer { inStock } } }',
        {"similar": [{"dimension": "2x2", "inStock": False}]},
        requests=2,
    ),
    Case(
        "a requirement through a value of another",
        '{ similar(to: "t1") { ... on Room { deal family } } }',
        {"similar": [{"deal": "7 points", "family": True}]},
        requests=5,
    ),
    Case("a voice's offer", "{ voice(id: 2) { text offer { id price { fen } } } }", requests=2),
    Case(
        "the offer of a voice by its implementation",
        "{ voice(id: 3) { offer { ... on Wash { minutes seller { ... on Garage { bays } } }"
        " ... on Room { family } } } }",
        {"voice": {"offer": {"minutes": 25, "seller": {"bays": 4}}}},
        requests=3,
    ),
    Case(
        "a named fragment on the interface, twice",
        "{ offers { ...F } stays { ...F nights } } fragment F on Offer { id voices { id } }",
        requests=3,
    ),
    Case(
        "fragments within fragments",
        "{ offers { ... on Stay { ... on Offer { ... on Room { count } } } } }",
        {"offers": [{"count": 1}, {}, {}]},
        requests=2,
    ),
    Case(
        "two implementations want different subgraphs",
        "{ offers { ... on Room { deal } ... on Tent { dimension } ... on Wash { inStock } } }",
        requests=5,
    ),
    Case(
        "everything of everyone",
        "{ offers { __typename id size { guests } price { fen points } inStock voices { id text }"
        " seller { ... on House { id name } ... on Garage { id name bays } } } }",
        requests=6,
    ),
    Case("the interface that only one knows", '{ similar(to: "w1") { id } }'),
)  # fmt: skip

FEDERATION = Federation(
    "abstract-types",
    {
        "shelf": SHELF, "prices": PRICES, "stock": STOCK, "voices": VOICES, "sellers": SELLERS,
        "houses": HOUSES, "search": SEARCH,
    },
    world,
    CASES,
)  # fmt: skip
