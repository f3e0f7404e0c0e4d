"""@provides on a union: for each member its own."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

DESK = (
    V2
    + """
type Query {
  hits: [Hit] @provides(fields: "... on Book { title } ... on Song { title length }")
  plain: [Hit]
}
union Hit = Book | Song
type Book @key(fields: "id") { id: ID! title: String @external }
type Song @key(fields: "id") { id: ID! title: String @external length: Int @external }
"""
)
STORE = (
    V2
    + """
type Book @key(fields: "id") { id: ID! title: String @shareable pages: Int }
type Song @key(fields: "id") { id: ID! title: String @shareable length: Int @shareable }
"""
)


def world() -> World:
    """A book and a song."""
    w = World()
    book = w.add("Book", id="b1", title="Tides", pages=310)
    song = w.add("Song", id="s1", title="Rain", length=181)
    w.query |= {"hits": [book, song], "plain": [song, book]}
    return w


FEDERATION = Federation(
    "provides-on-union",
    {"desk": DESK, "store": STORE},
    world,
    (
        Case(
            "provided for both",
            "{ hits { ... on Book { id title } ... on Song { title length } } }",
            {"hits": [{"id": "b1", "title": "Tides"}, {"title": "Rain", "length": 181}]},
        ),
        Case(
            "provided for one, the rest for the other",
            "{ hits { ... on Book { title pages } ... on Song { title } } }",
            requests=2,
        ),
        Case(
            "not on the root beside it",
            "{ plain { ... on Song { title } ... on Book { id } } }",
            {"plain": [{"title": "Rain"}, {"id": "b1"}]},
            requests=2,
        ),
    ),
)
