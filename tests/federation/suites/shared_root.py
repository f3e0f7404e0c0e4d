"""A root field of three subgraphs without keys: all are asked at once, lists joined by index."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World


def _graph(fields: str, extra: str = "") -> str:
    return V2 + (
        "type Query { showing: Showing @shareable showings: [Showing] @shareable }\n"
        f"type Showing @shareable {{ id: ID! {fields} }}\n{extra}"
    )


TITLES = _graph("film: Film", "type Film @shareable { title: String minutes: Int }")
TIMES = _graph("at: Clock", "type Clock @shareable { hour: Int minute: Int }")
PRICES = _graph("price: Price", "type Price @shareable { fen: Int currency: String }")


def world() -> World:
    """Two showings."""
    w = World()
    first = w.add(
        "Showing",
        id="s1",
        film=w.add("Film", title="Harbour", minutes=101),
        at=w.add("Clock", hour=20, minute=15),
        price=w.add("Price", fen=4500, currency="CNY"),
    )
    second = w.add(
        "Showing",
        id="s2",
        film=w.add("Film", title="The Ferry", minutes=None),
        at=None,
        price=w.add("Price", fen=3900, currency="CNY"),
    )
    w.query |= {"showing": first, "showings": [first, second]}
    return w


FEDERATION = Federation(
    "shared-root",
    {"titles": TITLES, "times": TIMES, "prices": PRICES},
    world,
    (
        Case(
            "one object from three",
            "{ showing { id film { title } at { hour } price { fen } } }",
            {
                "showing": {
                    "id": "s1",
                    "film": {"title": "Harbour"},
                    "at": {"hour": 20},
                    "price": {"fen": 4500},
                }
            },
            requests=3,
        ),
        Case(
            "a list from three",
            "{ showings { id film { title } at { hour minute } price { fen currency } } }",
            {
                "showings": [
                    {
                        "id": "s1",
                        "film": {"title": "Harbour"},
                        "at": {"hour": 20, "minute": 15},
                        "price": {"fen": 4500, "currency": "CNY"},
                    },
                    {
                        "id": "s2",
                        "film": {"title": "The Ferry"},
                        "at": None,
                        "price": {"fen": 3900, "currency": "CNY"},
                    },
                ]
            },
            requests=3,
        ),
        Case("only those that are needed", "{ showings { at { hour } id } }", requests=1),
        Case(
            "two names for the root",
            "{ a: showing { film { minutes } } b: showing { price { fen } film { title } } }",
            requests=2,
        ),
    ),
)
