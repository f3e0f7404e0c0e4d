"""A required field has an argument; the client asks for the same field with another one."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

FILMS = (
    V2
    + """
type Query { films: [Film] film(id: ID!): Film }
type Film @key(fields: "id") {
  id: ID! title: String
  price(currency: Currency!): Int
  comments(limit: Int!): [Comment!]!
}
enum Currency { CNY USD }
type Comment @key(fields: "id") { id: ID! words: String! }
"""
)
TICKETS = (
    V2
    + """
type Query { hot: Film }
enum Currency { CNY USD }
type Film @key(fields: "id") {
  id: ID!
  price(currency: Currency!): Int @external
  comments(limit: Int!): [Comment!]! @external
  dear: Boolean @requires(fields: "price(currency: USD)")
  voice: String @requires(fields: "comments(limit: 3) { words }")
  voices: [Comment!] @requires(fields: "comments(limit: 3) { id }")
}
type Comment @key(fields: "id") { id: ID! words: String! @external likes: Int! }
"""
)


def world() -> World:
    """Two films and what people said."""
    w = World()
    said = [w.add("Comment", id=f"c{n}", words=f"word {n}", likes=n) for n in range(1, 5)]

    def film(id: str, fen: int, comments: list[dict]) -> dict:
        return w.add(
            "Film",
            id=id,
            title=f"Film {id}",
            dear=fen > 4000,
            price=lambda currency: fen if currency == "CNY" else fen // 7,
            comments=lambda limit: comments[:limit],
            voice=" ".join(c["words"] for c in comments[:3]),
            voices=comments[:3],
        )

    w.query["films"] = [film("1", 7000, said), film("2", 3500, [])]
    w.query["hot"] = w.query["films"][0]
    w.query["film"] = w.finder("Film")
    return w  # fmt: skip


FEDERATION = Federation(
    "requires-with-argument",
    {"films": FILMS, "tickets": TICKETS},
    world,
    (
        Case("the argument is the directive's", "{ films { dear title } }", requests=2),
        Case(
            "beside the client's own argument",
            "{ films { price(currency: CNY) dear } }",
            {"films": [{"price": 7000, "dear": True}, {"price": 3500, "dear": False}]},
            requests=2,
        ),
        Case(
            "fewer comments shown than required",
            '{ film(id: "1") { comments(limit: 1) { words } voice } }',
            {"film": {"comments": [{"words": "word 1"}],
                      "voice": "word 1 word 2 word 3"}},
            requests=2,
        ),
        Case(
            "the client's argument is a variable",
            "query ($n: Int!) { films { comments(limit: $n) { id likes } voices { id words } } }",
            requests=4,
            variables={"n": 2},
        ),
        Case(
            "out and back with the argument",
            "{ hot { usd: price(currency: USD) cny: price(currency: CNY) dear } }",
            {"hot": {"usd": 1000, "cny": 7000, "dear": True}},
            requests=3,
        ),
    ),
)  # fmt: skip
