"""Chains of @requires over three subgraphs, and what they share is fetched once."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

SHOP = (
    V2
    + """
type Query { tyre: Tyre tyres: [Tyre] }
type Tyre @key(fields: "id") { id: ID! price: Int! hasDiscount: Boolean! @override(from: "tax") }
"""
)
TAX = (
    V2
    + """
type Tyre @key(fields: "id") {
  id: ID! price: Int! @external
  priceWithTax: Int! @requires(fields: "price")
}
"""
)
PROMO = (
    V2
    + """
type Tyre @key(fields: "id") {
  id: ID! hasDiscount: Boolean! @external priceWithTax: Int! @external
  isCheap: Boolean! @requires(fields: "hasDiscount priceWithTax")
  badge: String @requires(fields: "hasDiscount")
}
"""
)
LOANS = (
    V2
    + """
type Tyre @key(fields: "id") {
  id: ID! isCheap: Boolean! @external badge: String @external
  canAfford: Boolean! @requires(fields: "isCheap")
  advice: String @requires(fields: "isCheap badge")
}
"""
)


def world() -> World:
    """A cheap tyre and a dear one."""
    w = World()
    cheap = w.add("Tyre", id="t1", price=100, priceWithTax=113, hasDiscount=True, isCheap=True)
    cheap |= {"badge": "%", "canAfford": True, "advice": "buy"}
    dear = w.add("Tyre", id="t2", price=900, priceWithTax=1017, hasDiscount=False, isCheap=False)
    dear |= {"badge": None, "canAfford": False, "advice": None}
    w.query |= {"tyre": cheap, "tyres": [cheap, dear]}
    return w


FEDERATION = Federation(
    "requires-requires",
    {"shop": SHOP, "tax": TAX, "promo": PROMO, "loans": LOANS},
    world,
    (
        Case(
            "a chain of three",
            "{ tyre { canAfford } }",
            {"tyre": {"canAfford": True}},
            requests=4,
        ),
        Case("a chain of two", "{ tyres { isCheap } }", requests=3),
        Case(
            "the whole chain shown",
            "{ tyres { price priceWithTax isCheap canAfford } }",
            requests=4,
        ),
        Case(
            "two ends of one chain",
            "{ tyres { canAfford advice } }",
            {"tyres": [{"canAfford": True, "advice": "buy"}, {"canAfford": False, "advice": None}]},
            requests=4,
        ),
        Case("a short one beside a long one", "{ tyre { badge isCheap } }", requests=4),
    ),
)
