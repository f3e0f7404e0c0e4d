"""A field moved to another subgraph is asked there, though the old one still has it."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import CalledInstead, World

OLD = (
    V2
    + """
type Query { points: Points oldest: Points rates: [Rate] }
type Points @key(fields: "id") { id: ID! balance: Int pending: Int }
type Rate @key(fields: "pair") { pair: String! per: Int }
"""
)
NEW = (
    V2
    + """
type Query { fresh: Points }
type Points @key(fields: "id") { id: ID! balance: Int @override(from: "old") expires: String }
type Rate @key(fields: "pair") { pair: String! per: Int @override(from: "old") }
"""
)


def world() -> World:
    """One account of points; the old subgraph would throw if asked for what moved."""
    w = World()
    moved = CalledInstead("old")
    points = w.add("Points", id="p1", balance=moved(120), pending=5, expires="2027-01-31")
    rate = w.add("Rate", pair="LL/CA", per=moved(10))
    w.query |= {"points": points, "oldest": None, "fresh": points, "rates": [rate]}
    return w


FEDERATION = Federation(
    "simple-override",
    {"old": OLD, "new": NEW},
    world,
    (
        Case("fetched where it went", "{ points { pending balance } }", requests=2),
        Case(
            "direct where it lives",
            "{ fresh { balance expires } }",
            {"fresh": {"balance": 120, "expires": "2027-01-31"}},
        ),
        Case(
            "what stayed is fetched back",
            "{ fresh { pending balance } }",
            {"fresh": {"pending": 5, "balance": 120}},
            requests=2,
        ),
        Case("in a list", "{ rates { pair per } oldest { balance } }", requests=2),
    ),
)
