"""A shared field is a union in one subgraph, one of its members, or a wider union, in another."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import PerGraph, World

SHOP = (
    V2
    + """
type Query {
  media: Media @shareable book: Book @shareable shopWindow: Media
  catalog: [Media]! @shareable
}
union Media = Book | Song
type Book @key(fields: "id") { id: ID! title: String! @shareable shelf: Int }
type Song @key(fields: "id") { id: ID! title: String! @shareable length: Int @shareable }
"""
)
CLUB = (
    V2
    + """
type Query {
  media: Media @shareable book: Media @shareable stage: Media
  catalog: [Media]! @shareable
}
union Media = Book | Film
type Book @key(fields: "id") { id: ID! title: String! @shareable clubPoints: Int }
type Film @key(fields: "id") { id: ID! title: String! @shareable minutes: Int }
"""
)


def world() -> World:
    """A book both have, a film and a song that one has."""
    w = World()
    book = w.add("Book", id="b1", title="Tides", shelf=4, clubPoints=90)
    song = w.add("Song", id="s1", title="Rain", length=181)
    film = w.add("Film", id="f1", title="Harbour", minutes=101)
    w.query |= {"media": book, "book": book, "shopWindow": song, "stage": film}
    w.query["catalog"] = PerGraph([book, book], {"shop": [book, book], "club": [book, book]})
    return w


CASES = (
    Case("a member of both", "{ media { ... on Book { title } } }", {"media": {"title": "Tides"}}),
    Case("a member one knows is empty, not null", "{ media { ... on Song { title } } }",
         {"media": {}}),
    Case("one that the other knows", "{ media { ... on Film { minutes } } }", {"media": {}}),
    Case("all three", "{ media { __typename ... on Book { id title } ... on Song { length }"
         " ... on Film { title } } }",
         {"media": {"__typename": "Book", "id": "b1", "title": "Tides"}}),
    Case("more of the one both know", "{ media { ... on Book { shelf clubPoints } } }",
         {"media": {"shelf": 4, "clubPoints": 90}}, requests=2),
    Case("typed as the member in one", "{ book { ... on Book { title } } }",
         {"book": {"title": "Tides"}}),
    Case("typed as the member, asked for another", "{ book { ... on Song { title } } }",
         {"book": {}}),
    Case("typed as the member, by its name", "{ book { __typename ... on Book { clubPoints } } }",
         {"book": {"__typename": "Book", "clubPoints": 90}}),
    Case("a root of the shop",
         "{ shopWindow { ... on Song { title length } ... on Film { minutes } } }",
         {"shopWindow": {"title": "Rain", "length": 181}}),
    Case("a root of the club", "{ stage { ... on Film { title minutes } ... on Song { length } } }",
         {"stage": {"title": "Harbour", "minutes": 101}}),
    Case("a list", "{ catalog { __typename ... on Song { title } ... on Book { title shelf } } }",
         {"catalog": [{"__typename": "Book", "title": "Tides", "shelf": 4}] * 2}, requests=2),
    Case("the other's member beside one of its own",
         "{ book { ... on Song { length } } shopWindow { ... on Song { length } } }",
         {"book": {}, "shopWindow": {"length": 181}}),
    Case("a member by itself beside the other's",
         "{ media { ... on Song { length } } book { ... on Book { shelf } }"
         " shopWindow { ... on Song { title } } }",
         {"media": {}, "book": {"shelf": 4}, "shopWindow": {"title": "Rain"}}),
    Case("all roots at once", "{ media { ... on Book { title } } book { ... on Book { id } }"
         " stage { ... on Film { minutes } } shopWindow { ... on Song { length } } }", requests=2),
)  # fmt: skip

FEDERATION = Federation("union-intersection", {"shop": SHOP, "club": CLUB}, world, CASES)
