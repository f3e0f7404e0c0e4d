"""An implementation that clients may not see: its objects are null, whatever stands beside it."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

DESK = (
    V2
    + """
type Query { perk: Perk perks: [Perk] mixed: Mixed strict: [Perk!] }
interface Perk { id: ID! name: String }
union Mixed = Lounge | Vault
type Lounge implements Perk @key(fields: "id") { id: ID! name: String seats: Int }
type Vault implements Perk @key(fields: "id") @inaccessible { id: ID! name: String code: String }
"""
)
RATES = (
    V2
    + """
type Lounge @key(fields: "id") { id: ID! fen: Int }
type Vault @key(fields: "id") @inaccessible { id: ID! fen: Int }
"""
)


def world() -> World:
    """A lounge and a vault."""
    w = World()
    lounge = w.add("Lounge", id="l", name="Blue", seats=4, fen=900)
    vault = w.add("Vault", id="v", name="Deep", code="0000", fen=0)
    w.query |= {"perk": vault, "perks": [vault, lounge], "mixed": vault, "strict": [lounge, vault]}
    return w


FEDERATION = Federation(
    "hidden-implementations",
    {"desk": DESK, "rates": RATES},
    world,
    (
        Case(
            "the name of a hidden type", "{ perk { __typename } }", {"perk": None}, monolith=False
        ),
        Case(
            "among others",
            "{ perks { __typename id ... on Lounge { fen seats } } }",
            {"perks": [None, {"__typename": "Lounge", "id": "l", "fen": 900, "seats": 4}]},
            requests=2,
            monolith=False,
        ),
        Case(
            "by its interface's fields alone",
            "{ perks { name } }",
            {"perks": [None, {"name": "Blue"}]},
            monolith=False,
        ),
        Case("of a union", "{ mixed { ... on Lounge { id } } }", {"mixed": None}, monolith=False),
        Case("is no type to ask for", "{ perk { ... on Vault { id } } }", refused=True),
    ),
    random=False,
)
