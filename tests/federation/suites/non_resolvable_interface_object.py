"""An interface object whose key leads nowhere: no plan, so no data, and an error that says so."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

STOCK = (
    V2
    + """
type Query { thing: Thing }
interface Thing @key(fields: "id") { id: ID! name: String! }
type Cup implements Thing @key(fields: "id") { id: ID! name: String! volume: Int! }
"""
)
SHOP = (
    V2
    + """
type Query { a: Thing b: Thing }
type Thing @key(fields: "id") @interfaceObject { id: ID! fen: Int! }
"""
)


def world() -> World:
    """A cup."""
    w = World()
    cup = w.add("Cup", id="c1", name="Blue", volume=300, fen=900)
    w.query |= {"thing": cup, "a": cup, "b": cup}
    return w


FEDERATION = Federation(
    "non-resolvable-interface-object",
    {"stock": STOCK, "shop": SHOP},
    world,
    (
        Case("its own field", "{ a { fen } }", {"a": {"fen": 900}}),
        Case("its key", "{ a { id } }", {"a": {"id": "c1"}}),
        Case(
            "the interface's field", "{ a { name } }", None, errors=True, monolith=False, requests=0
        ),
        Case(
            "the true name", "{ b { __typename } }", None, errors=True, monolith=False, requests=0
        ),
        Case(
            "an implementation's field",
            "{ a { fen ... on Cup { volume } } }",
            None,
            errors=True,
            monolith=False,
            requests=0,
        ),
        Case("from the interface to the object", "{ thing { id name fen } }", requests=2),
        Case("from the interface, its own", "{ thing { __typename ... on Cup { volume } } }"),
    ),
    random=False,
    by_hand="composition sees that nobody can tell the true name of `a`",
)
