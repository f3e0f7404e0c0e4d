"""Version 1 with `@extends`: an external field is provided on one root field and not on another."""

from tests.federation.harness.cases import Case, Federation
from tests.federation.harness.world import World

PEOPLE = """
type Query { randomDriver: Driver providedDriver: Driver @provides(fields: "rank") }
type Driver @key(fields: "id") @extends {
  id: ID! @external
  name: String! @external
  rank: Int @external
  licence: String
}
"""
NAMES = """
type Query { driver: Driver }
type Driver @key(fields: "id") { id: ID! name: String! rank: Int nick: String }
"""


def world() -> World:
    """One driver."""
    w = World()
    driver = w.add("Driver", id="d1", name="Ma", rank=4, licence="C1", nick="horse")
    w.query |= dict.fromkeys(("randomDriver", "providedDriver", "driver"), driver)
    return w


CASES = (
    Case(
        "not provided on this root field",
        "{ randomDriver { id rank licence } }",
        {"randomDriver": {"id": "d1", "rank": 4, "licence": "C1"}},
        requests=2,
    ),
    Case("provided on that one", "{ providedDriver { id rank licence } }"),
    Case("the key alone", "{ randomDriver { id } }"),
    Case(
        "never provided",
        "{ providedDriver { rank name nick } }",
        {"providedDriver": {"rank": 4, "name": "Ma", "nick": "horse"}},
        requests=2,
    ),
    Case("from the owner", "{ driver { name licence } }", requests=2),
)

FEDERATION = Federation("fed1-external-extends", {"people": PEOPLE, "names": NAMES}, world, CASES)
