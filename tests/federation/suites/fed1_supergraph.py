"""A supergraph of join v0.1, as version 1's composition printed it; subgraphs of version 1."""

from tests.federation.harness.cases import Case, Federation
from tests.federation.harness.world import World

STAYS = """
type Query { stay(id: ID!): Stay stays: [Stay!]! }
type Stay @key(fields: "id") { id: ID! nights: Int! hotel: Hotel! room: Room }
type Room { number: Int! floor: Int }
extend type Hotel @key(fields: "code") { code: String! @external }
enum Tier { SILVER GOLD }
"""
HOTELS = """
type Query { hotels(tier: Tier): [Hotel!] }
type Hotel @key(fields: "code") { code: String! name: String! stars: Int tier: Tier }
enum Tier { SILVER GOLD }
"""
FEES = """
extend type Stay @key(fields: "id") {
  id: ID! @external nights: Int! @external
  fee: Int @requires(fields: "nights")
}
extend type Hotel @key(fields: "code") {
  code: String! @external stars: Int @external
  tax: Int! @requires(fields: "stars")
  review: Review @provides(fields: "author { nick }")
}
type Review { author: Author text: String }
extend type Author @key(fields: "id") { id: ID! @external nick: String @external }
"""
AUTHORS = """
type Author @key(fields: "id") { id: ID! nick: String joined: Int }
"""


def world() -> World:
    """Two stays in one hotel."""
    w = World()
    author = w.add("Author", id="a1", nick="ox", joined=2020)
    review = w.add("Review", author=author, text="quiet")
    hotel = w.add("Hotel", code="LK", name="Lakeside", stars=4, tier="GOLD", tax=40, review=review)
    room = w.add("Room", number=12, floor=None)
    one = w.add("Stay", id="s1", nights=2, hotel=hotel, room=room, fee=20)
    two = w.add("Stay", id="s2", nights=5, hotel=hotel, room=None, fee=None)
    w.query |= {"stay": w.finder("Stay"), "stays": [one, two]}
    w.query["hotels"] = lambda tier=None: [h for h in w.of("Hotel") if tier in {None, h["tier"]}]
    return w


FEDERATION = Federation(
    "fed1-supergraph",
    {"stays": STAYS, "hotels": HOTELS, "fees": FEES, "authors": AUTHORS},
    world,
    (
        Case("an entity of another", "{ stays { nights hotel { name } } }", requests=2),
        Case(
            "requirements on two types",
            '{ stay(id: "s1") { fee hotel { tax } } }',
            {"stay": {"fee": 20, "hotel": {"tax": 40}}},
            requests=3,
        ),
        Case(
            "provided",
            "{ hotels(tier: GOLD) { review { text author { nick } } } }",
            {"hotels": [{"review": {"text": "quiet", "author": {"nick": "ox"}}}]},
            requests=2,
        ),
        Case(
            "not provided",
            "{ hotels { review { author { nick joined } } } }",
            requests=3,
        ),
        Case("a value type is its owner's", "{ stays { room { number floor } } }"),
        Case("an enum's argument", "query ($t: Tier) { hotels(tier: $t) { code } }",
             {"hotels": []}, variables={"t": "SILVER"}),
    ),
    by_hand="version 1's composition is no more",
)  # fmt: skip
