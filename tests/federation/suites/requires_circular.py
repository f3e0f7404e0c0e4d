"""A field requires one that itself requires a field of the first subgraph."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

MERCHANTS = (
    V2
    + """
type Query { feed: [Post] }
type Post @key(fields: "id") {
  id: ID! byNovice: Boolean! @external
  byExpert: Boolean! @requires(fields: "byNovice")
}
"""
)
AUTHORS = (
    V2
    + """
type Query { posts: [Post] }
type Post @key(fields: "id") {
  id: ID! author: Author! @shareable
  byNovice: Boolean! @requires(fields: "author { years }")
}
type Author { years: Int! @external }
"""
)
YEARS = (
    V2
    + """
type Post @key(fields: "id") { id: ID! author: Author! @shareable }
type Author { years: Int! name: String! }
"""
)


def world() -> World:
    """A novice's post and an expert's."""
    w = World()
    young = w.add("Author", years=1, name="Xi")
    old = w.add("Author", years=20, name="Wu")
    w.query["feed"] = [
        w.add("Post", id="p1", author=young, byNovice=True, byExpert=False),
        w.add("Post", id="p2", author=old, byNovice=False, byExpert=True),
    ]
    w.query["posts"] = w.query["feed"]
    return w


FEDERATION = Federation(
    "requires-circular",
    {"merchants": MERCHANTS, "authors": AUTHORS, "years": YEARS},
    world,
    (
        Case(
            "there and back again",
            "{ feed { byExpert } }",
            {"feed": [{"byExpert": False}, {"byExpert": True}]},
            requests=4,
        ),
        Case("half way round", "{ feed { byNovice } }", requests=3),
        Case("with what was required shown too", "{ feed { byExpert byNovice } }", requests=4),
        Case("from the middle", "{ posts { byExpert author { name } } }", requests=4),
    ),
)
