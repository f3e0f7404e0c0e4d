"""A field that moved to another subgraph is still required by fields of two others."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import CalledInstead, World

DESK = (
    V2
    + """
type Query { fromDesk: Guest }
type Guest @key(fields: "id") {
  id: ID! name: String @external deskLabel: String! @requires(fields: "name")
}
"""
)
PROFILE = (
    V2
    + """
type Query { fromProfile: Guest }
type Guest @key(fields: "id") { id: ID! name: String @override(from: "spa") }
"""
)
SPA = (
    V2
    + """
type Query { fromSpa: Guest }
type Guest @key(fields: "id") { id: ID! name: String spaLabel: String! }
"""
)
BAR = (
    V2
    + """
type Query { fromBar: Guest }
type Guest @key(fields: "id") {
  id: ID! name: String @external barLabel: String! @requires(fields: "name")
}
"""
)


def world() -> World:
    """One guest whom four desks know."""
    w = World()
    guest = w.add("Guest", id="g1", name=CalledInstead("spa")("Yu"))
    guest |= {"deskLabel": "desk Yu", "spaLabel": "spa Yu", "barLabel": "bar Yu"}
    w.query |= dict.fromkeys(("fromDesk", "fromProfile", "fromSpa", "fromBar"), guest)
    return w


ALL = "id name deskLabel spaLabel barLabel"
FEDERATION = Federation(
    "override-with-requires",
    {"desk": DESK, "profile": PROFILE, "spa": SPA, "bar": BAR},
    world,
    (
        Case("from a requirer", f"{{ fromDesk {{ {ALL} }} }}", requests=5),
        Case("from the owner", f"{{ fromProfile {{ {ALL} }} }}", requests=4),
        Case("from the one that lost it", f"{{ fromSpa {{ {ALL} }} }}", requests=4),
        Case(
            "from the other requirer, its own field only",
            "{ fromBar { barLabel } }",
            {"fromBar": {"barLabel": "bar Yu"}},
            requests=3,
        ),
    ),
)
