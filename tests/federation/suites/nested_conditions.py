"""Conditions by variables with defaults at several levels, on keys and on what is required."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

CARS = (
    V2
    + """
type Query { cars(first: Int = 2): [Car!]! }
type Car @key(fields: "vin") { vin: ID! model: String km: Int }
"""
)
WORKSHOP = (
    V2
    + """
type Car @key(fields: "vin") {
  vin: ID! km: Int @external
  due: Boolean @requires(fields: "km")
  jobs(open: Boolean = true): [Job!]!
}
type Job { name: String! open: Boolean! by: Mechanic }
type Mechanic @key(fields: "id") { id: ID! }
"""
)
STAFF = (
    V2
    + """
type Mechanic @key(fields: "id") { id: ID! name: String! }
"""
)


def world() -> World:
    """Three cars and their jobs."""
    w = World()
    bo = w.add("Mechanic", id="m1", name="Bo")
    jobs = [
        w.add("Job", name="oil", open=True, by=bo),
        w.add("Job", name="tyres", open=False, by=None),
    ]
    for n in range(3):
        w.add(
            "Car",
            vin=f"v{n}",
            model=f"M{n}",
            km=n * 9000,
            due=n > 1,
            jobs=lambda **asked: [job for job in jobs if job["open"] == asked.get("open", True)],
        )
    w.query["cars"] = lambda first=2: w.of("Car")[:first]
    return w  # fmt: skip


DEEP = """query ($few: Int = 1, $work: Boolean = true, $who: Boolean! = false, $open: Boolean) {
  cars(first: $few) {
    model @skip(if: $work)
    due @skip(if: $work)
    ... on Car @include(if: $work) { jobs(open: $open) { name by @include(if: $who) { name } } }
  }
}"""

FEDERATION = Federation(
    "conditions-by-variables",
    {"cars": CARS, "workshop": WORKSHOP, "staff": STAFF},
    world,
    (
        Case(
            "all by default",
            DEEP.replace("(open: $open)", "").replace(", $open: Boolean", ""),
            {"cars": [{"jobs": [{"name": "oil"}]}]},
            requests=2,
        ),
        Case(
            "one level deeper",
            DEEP,
            {"cars": [{"jobs": [{"name": "oil", "by": {"name": "Bo"}}]}]},
            requests=3,
            variables={"who": True, "open": True},
        ),
        Case(
            "the other branch",
            DEEP,
            {"cars": [{"model": "M0", "due": False}, {"model": "M1", "due": False}]},
            requests=2,
            variables={"work": False, "few": 2, "who": True},
        ),
        Case(
            "a variable left out takes the argument's default",
            DEEP,
            {"cars": [{"jobs": [{"name": "oil"}]}]},
            requests=2,
        ),
        Case(
            "all left out",
            "query ($a: Boolean = false) { cars @include(if: $a) { vin } __typename }",
            {"__typename": "Query"},
            requests=0,
        ),
        Case(
            "a fragment used under two conditions",
            "query ($a: Boolean!, $b: Boolean!) { cars { ...W@include(if: $a) ...W@skip(if: $b) } }"
            " fragment W on Car { due }",
            {"cars": [{}, {}]},
            variables={"a": False, "b": True},
        ),
    ),
)
