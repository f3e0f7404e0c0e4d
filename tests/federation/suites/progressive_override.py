"""A field on its way to another subgraph: labels of the request say who is asked."""

from tests.federation.harness.cases import V27, Case, Federation
from tests.federation.harness.world import World

OLD = (
    V27
    + """
type Query { stays: [Stay] }
type Stay @key(fields: "id") { id: ID! status: String! fen: Int! }
"""
)
NEW = (
    V27
    + """
type Query { recent: Stay }
type Stay @key(fields: "id") {
  id: ID!
  status: String! @override(from: "old", label: "new-status")
  fen: Int! @override(from: "old", label: "percent(0)")
}
"""
)


def world() -> World:
    """Two stays."""
    w = World()
    one = w.add("Stay", id="s1", status="open", fen=100)
    two = w.add("Stay", id="s2", status="closed", fen=250)
    w.query |= {"stays": [one, two], "recent": two}
    return w


ON = frozenset({"new-status"})
FEDERATION = Federation(
    "progressive-override",
    {"old": OLD, "new": NEW},
    world,
    (
        Case("without the label the old one answers", "{ stays { id status } }"),
        Case(
            "with the label the new one answers", "{ stays { id status } }", requests=2, labels=ON
        ),
        Case("back to the old one without it", "{ recent { status } }", requests=2),
        Case(
            "direct with it",
            "{ recent { status } }",
            {"recent": {"status": "closed"}},
            labels=ON,
        ),
        Case("a share of nothing is never on", "{ stays { fen } }"),
    ),
)
