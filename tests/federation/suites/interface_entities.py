"""Interfaces that are entities themselves, in several subgraphs, with values that several share."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

FEED = (
    V2
    + """
type Query { feed: [Item!]! }
interface Item @key(fields: "id") { id: ID! title: String author: Author! }
type Story implements Item @key(fields: "id") {
  id: ID! title: String author: Author! words: Int tags: [Tag!]! @shareable
}
type Photo implements Item @key(fields: "id") {
  id: ID! title: String author: Author! size: Size tags: [Tag!]! @shareable
}
type Author @key(fields: "id") { id: ID! }
type Size { w: Int h: Int }
type Tag @shareable { name: String! }
"""
)
LIKES = (
    V2
    + """
type Query { liked: [Item] top: Item }
type Item @key(fields: "id") @interfaceObject { id: ID! likes: Int! fans: [Author!]! }
type Author @key(fields: "id") { id: ID! liked: [Item!] }
"""
)
TAGS = (
    V2
    + """
type Story @key(fields: "id") { id: ID! tags: [Tag!]! @shareable similar: [Story!] }
type Photo @key(fields: "id") { id: ID! tags: [Tag!]! @shareable }
type Tag { name: String! @shareable colour: String }
type Author @key(fields: "id") { id: ID! name: String badge: Badge @shareable }
type Badge @shareable { text: String }
"""
)
BADGES = (
    V2
    + """
type Author @key(fields: "id") { id: ID! badge: Badge @shareable }
type Badge { text: String @shareable year: Int }
"""
)


def world() -> World:
    """Two stories, a photo, two authors."""
    w = World()
    red, blue = w.add("Tag", name="red", colour="#f00"), w.add("Tag", name="blue", colour=None)
    ann = w.add("Author", id="a", name="Ann", badge=w.add("Badge", text="gold", year=2020))
    bo = w.add("Author", id="b", name="Bo", badge=None)
    one = w.add("Story", id="1", title="Tides", author=ann, words=900, tags=[red, blue], likes=3)
    two = w.add("Photo", id="2", title=None, author=bo, tags=[blue], likes=0)
    three = w.add("Story", id="3", title="Rain", author=bo, words=None, tags=[], likes=8)
    two["size"] = w.add("Size", w=4, h=3)
    one |= {"fans": [bo], "similar": [three]}
    two |= {"fans": []}
    three |= {"fans": [ann, bo], "similar": None}
    ann["liked"], bo["liked"] = [three], [one, three]
    w.query |= {"feed": [one, two, three], "liked": [three, None, two], "top": three}
    return w


FEDERATION = Federation(
    "interface-entities",
    {"feed": FEED, "likes": LIKES, "tags": TAGS, "badges": BADGES},
    world,
    (
        Case("likes of all items", "{ feed { title likes } }", requests=2),
        Case(
            "a nested value from two subgraphs",
            "{ feed { author { name badge { text year } } } }",
            {
                "feed": [
                    {"author": {"name": "Ann", "badge": {"text": "gold", "year": 2020}}},
                    {"author": {"name": "Bo", "badge": None}},
                    {"author": {"name": "Bo", "badge": None}},
                ]
            },
            requests=3,
        ),
        Case(
            "a list of values from two subgraphs",
            "{ feed { ... on Story { words tags { name colour } } } }",
            {
                "feed": [
                    {
                        "words": 900,
                        "tags": [
                            {"name": "red", "colour": "#f00"},
                            {"name": "blue", "colour": None},
                        ],
                    },
                    {},
                    {"words": None, "tags": []},
                ]
            },
            requests=2,
        ),
        Case(
            "from an interface object to an implementation to another subgraph",
            "{ liked { likes ... on Story { similar { id } tags { colour } } } }",
            requests=3,
        ),
        Case(
            "through authors and back",
            "{ top { fans { name liked { title likes } } } }",
            {
                "top": {
                    "fans": [
                        {"name": "Ann", "liked": [{"title": "Rain", "likes": 8}]},
                        {
                            "name": "Bo",
                            "liked": [
                                {"title": "Tides", "likes": 3},
                                {"title": "Rain", "likes": 8},
                            ],
                        },
                    ]
                }
            },
            requests=3,
        ),
        Case(
            "different fields by implementation",
            "{ top { __typename ... on Photo { size { w } } ... on Story { similar { likes } } } }",
            requests=3,
        ),
    ),
)
