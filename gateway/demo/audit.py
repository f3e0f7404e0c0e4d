"""The auditor's look at the end: every invariant of the contracts, by SQL where SQL can see it."""

from collections.abc import Mapping, Sequence

from gateway import invariants
from gateway.db import Database
from gateway.demo.show import Show
from gateway.ledger.model import Result

HELD_BY_TESTS: Mapping[str, tuple[str, str]] = {
    "R7": ("the available balance is AVAIL only", "tests/integration/test_points_holds.py"),
    "R8": ("nobody is in doubt for long without a person", "tests/integration/test_saga.py"),
    "K6": ("velocity and ring checks before a large earn", "not in this version"),
    "K7": ("staff's reads of member data are logged", "not in this version"),
    "K8": ("no field adds up balances of issuers", "tests/unit/api/test_schema.py"),
    "W8": ("the cut holds its lock for a moment", "tests/integration/test_settlement_load.py"),
    "G1": ("refusals only in payload errors", "tests/integration/api/test_refusals_api.py"),
    "G2": ("every effect has a key", "tests/integration/api/test_member_journeys.py"),
    "G3": ("limits hold, also through fragments", "tests/integration/api/test_endpoint.py"),
    "G4": (
        "a catalog answer is partial, never failed",
        "tests/integration/api/test_catalog_api.py",
    ),
    "G5": ("every code is documented", "tests/contract/test_errors.py"),
}
"""What SQL cannot see, and the test that holds it."""


async def check(url: str) -> list[Result]:
    """Every invariant that SQL can see, in one reading transaction."""
    database = Database(url)
    try:
        async with database.reading() as tx:
            return await invariants.check(tx)
    finally:
        await database.close()


def show(shown: Show, results: Sequence[Result]) -> bool:
    """Print them as a table; whether all hold."""
    rows = [
        (result.id, "✓" if result.ok else "✗", result.title, result.detail) for result in results
    ]
    seen = {result.id for result in results}
    rows += [
        (name, "·", title, where)
        for name, (title, where) in HELD_BY_TESTS.items()
        if name not in seen
    ]
    rows.sort(key=lambda row: (row[0][0], int(row[0][1:])))
    shown.table(("", "", "不变量 invariant", "说明 detail, or the test that holds it"), rows)
    broken = [f"{result.id}: {result.detail}" for result in results if not result.ok]
    return shown.same(f"{len(results)} 条不变量 invariants by SQL, broken", [], broken)
