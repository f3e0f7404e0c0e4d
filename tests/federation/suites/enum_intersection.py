"""An enum that subgraphs know in part: a hidden value is null, never an argument."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import PerGraph, World

MEMBERS = (
    V2
    + """
enum Tier { SILVER GOLD }
type Query { member: Member byTier(tier: Tier!): [Member!] }
type Member @key(fields: "id") { id: ID! tier: Tier @shareable }
"""
)
PERKS = (
    V2
    + """
enum Tier { SILVER GOLD STAFF @inaccessible }
type Query { staff: Member members: [Member] best(of: [Tier!]): Tier }
type Member @key(fields: "id") { id: ID! tier: Tier @shareable perk: String friends: [Member!] }
"""
)


def world() -> World:
    """A gold member and one of the staff."""
    w = World()
    gold = w.add("Member", id="g", tier="GOLD", perk="lounge", friends=[])
    staff = w.add(
        "Member",
        id="s",
        perk="keys",
        friends=[gold],
        tier=PerGraph("STAFF", {"members": "SILVER", "perks": "STAFF"}),
    )
    w.query |= {"member": gold, "staff": staff, "members": [gold, staff]}
    w.query["byTier"] = lambda tier: [m for m in (gold,) if m["tier"] == tier]
    w.query["best"] = lambda of=None: "STAFF" if of is None else of[0]
    return w  # fmt: skip


FEDERATION = Federation(
    "enum-intersection",
    {"members": MEMBERS, "perks": PERKS},
    world,
    (
        Case("a value all know", "{ member { tier perk } }", requests=2),
        Case(
            "a hidden value is null, and no error tells of it",
            "{ members { id tier } }",
            {"members": [{"id": "g", "tier": "GOLD"}, {"id": "s", "tier": None}]},
        ),
        Case(
            "a hidden value of a root field",
            "{ best staff { perk } }",
            {"best": None, "staff": {"perk": "keys"}},
        ),
        Case("a hidden value is no argument", "{ byTier(tier: STAFF) { id } }", refused=True),
        Case(
            "nor a variable's value",
            "query ($t: [Tier!]) { best(of: $t) }",
            refused=True,
            variables={"t": ["GOLD", "STAFF"]},
        ),
        Case(
            "a known value as variable",
            "query ($t: Tier!) { byTier(tier: $t) { tier friends { tier } } }",
            {"byTier": [{"tier": "GOLD", "friends": []}]},
            requests=2,
            variables={"t": "GOLD"},
        ),
    ),
)
