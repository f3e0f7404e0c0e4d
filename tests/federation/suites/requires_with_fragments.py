"""Interfaces, unions and fragments in fragments inside @requires."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

MENUS = (
    V2
    + """
type Query { tables: [Table] }
type Table @key(fields: "id") { id: ID! order: Order guest: Guest }
interface Order { code: String! }
type Meal implements Order { code: String! dish: String! side: Side }
type Drink implements Order { code: String! size: Int! }
union Guest = Member | Visitor
type Member { card: String! level: Int }
type Visitor { name: String! }
interface Side { label: String! }
type Soup implements Side { label: String! hot: Boolean! }
type Rice implements Side { label: String! grams: Int! }
"""
)
BILLS = (
    V2
    + '''
type Query { billed: Table }
type Table @key(fields: "id") {
  id: ID! order: Order @external guest: Guest @external
  simple: String @requires(fields: "order { code ... on Meal { dish } }")
  deep: String @requires(
    fields: """
      order {
        code
        ... on Meal { side { label ... on Soup { hot } ... on Rice { grams } } }
        ... on Drink { size }
      }
    """
  )
  whose: String @requires(fields: "guest { ... on Member { card level } ... on Visitor { name } }")
  all: String @requires(
    fields: """
      order { ... on Order { code } }
      guest { __typename ... on Visitor { ... on Visitor { name } } }
    """
  )
}
interface Order { code: String! }
type Meal implements Order { code: String! @external dish: String! @external side: Side @external }
type Drink implements Order { code: String! @external size: Int! @external }
union Guest = Member | Visitor
type Member { card: String! @external level: Int @external }
type Visitor { name: String! @external }
interface Side { label: String! }
type Soup implements Side { label: String! @external hot: Boolean! @external }
type Rice implements Side { label: String! @external grams: Int! @external }
'''
)


def world() -> World:
    """Four tables."""
    w = World()
    soup, rice = w.add("Soup", label="soup", hot=True), w.add("Rice", label="rice", grams=150)
    orders = [
        w.add("Meal", code="m1", dish="Duck", side=soup),
        w.add("Meal", code="m2", dish="Fish", side=rice),
        w.add("Drink", code="d1", size=3),
        None,
    ]
    guests = [
        w.add("Member", card="77", level=2),
        w.add("Visitor", name="Ode"),
        None,
        w.add("Visitor", name="Ari"),
    ]
    tables = []
    for n, (order, guest) in enumerate(zip(orders, guests, strict=True), 1):
        table = w.add("Table", id=f"t{n}", order=order, guest=guest)
        table |= {"simple": f"simple {n}", "deep": f"deep {n}", "whose": None, "all": f"all {n}"}
        tables.append(table)
    w.query |= {"tables": tables, "billed": tables[1]}
    return w


FEDERATION = Federation(
    "requires-with-fragments",
    {"menus": MENUS, "bills": BILLS},
    world,
    (
        Case("a fragment beside a field", "{ tables { simple } }", requests=2),
        Case(
            "fragments in fragments",
            "{ tables { id deep } }",
            {"tables": [{"id": f"t{n}", "deep": f"deep {n}"} for n in (1, 2, 3, 4)]},
            requests=2,
        ),
        Case("of a union", "{ tables { whose } }", requests=2),
        Case("several share one call", "{ tables { simple deep whose all } }", requests=2),
        Case(
            "the client's selection of the same place differs",
            "{ tables { order { ... on Drink { size } ... on Meal { code: dish } } simple"
            " guest { __typename } all } }",
            {"tables": [
                {"order": {"code": "Duck"}, "simple": "simple 1",
                 "guest": {"__typename": "Member"}, "all": "all 1"},
                {"order": {"code": "Fish"}, "simple": "simple 2",
                 "guest": {"__typename": "Visitor"}, "all": "all 2"},
                {"order": {"size": 3}, "simple": "simple 3", "guest": None, "all": "all 3"},
                {"order": None, "simple": "simple 4",
                 "guest": {"__typename": "Visitor"}, "all": "all 4"}]},
            requests=2,
        ),
        Case("out and back", "{ billed { deep whose } }", requests=3),
    ),
)  # fmt: skip
