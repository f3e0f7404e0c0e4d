"""An input object's field that one subgraph lacks is no field of the whole graph's."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

SEARCH = (
    V2
    + """
input Wish { city: String! nights: Int = 1 pool: Boolean }
type Query { search(wish: Wish!): [String!]! }
"""
)
TIPS = (
    V2
    + """
input Wish { city: String! nights: Int = 1 quiet: Boolean }
type Query { tip(wish: Wish): String tips(wishes: [Wish!]!): [String] }
"""
)


def world() -> World:
    """Answers that repeat the wish."""
    w = World()
    w.query["search"] = lambda wish: [f"{wish['city']} for {wish['nights']}"]
    w.query["tip"] = lambda wish=None: f"bring {wish['nights']} shirts" if wish else "stay"
    w.query["tips"] = lambda wishes: [wish["city"] for wish in wishes]
    return w


FEDERATION = Federation(
    "input-object-intersection",
    {"search": SEARCH, "tips": TIPS},
    world,
    (
        Case(
            "fields all know",
            'query ($w: Wish!) { search(wish: $w) tip(wish: {city: "Wuhan", nights: 3}) }',
            {"search": ["Wuhan for 2"], "tip": "bring 3 shirts"},
            requests=2,
            variables={"w": {"city": "Wuhan", "nights": 2}},
        ),
        Case(
            "defaults are the subgraph's to apply",
            'query ($w: [Wish!]!) { tips(wishes: $w) search(wish: {city: "Xian"}) }',
            {"tips": ["Wuhan"], "search": ["Xian for 1"]},
            requests=2,
            variables={"w": [{"city": "Wuhan"}]},
        ),
        Case(
            "one subgraph's field in the text",
            '{ search(wish: {city: "Wuhan", pool: true}) }',
            refused=True,
        ),
        Case(
            "one subgraph's field in a variable",
            "query ($w: Wish) { tip(wish: $w) }",
            refused=True,
            variables={"w": {"city": "Wuhan", "quiet": True}},
        ),
    ),
)
