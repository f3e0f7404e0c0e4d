"""Which tests judge which modules: a mutant is to be found by the tests of its own room."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("points", "redemption", "settlement")

# Lines that are no behaviour: what is written to the log.
NOT_MUTATED = [r"\blog\.(debug|info|warning|error|exception)\("]


@dataclass(frozen=True)
class Suite:
    """Modules below gateway/, and the tests that run for their mutants; on SQLite only."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]


def _services(room: str) -> tuple[str, ...]:
    """All modules of a room but its model and what its tests cannot judge.

    Invariants need tampered books.
    """
    found = (path.stem for path in sorted((ROOT / "gateway" / room).glob("*.py")))
    others = ("__init__", "model", "invariants")
    return tuple(f"{room}/{name}" for name in found if name not in others)


def _integration(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/integration/test_{name}.py" for name in names)


SUITES = (
    Suite(
        "models",
        tuple(f"{room}/model" for room in ROOMS),
        (
            "tests/unit/test_points_model.py",
            "tests/unit/test_settlement_model.py",
            "tests/unit/redemption",
            "tests/unit/test_seed_vectors.py",
            "tests/unit/test_ledger_model.py",
        ),
    ),
    Suite(
        "points",
        _services("points"),
        (
            "tests/unit/test_points_services.py",
            *_integration("points_journals", "points_earning", "points_holds", "worked_postings"),
        ),
    ),
    Suite(
        "settlement",
        _services("settlement"),
        (
            "tests/unit/test_settlement_services.py",
            *_integration(
                "settlement_rows", "settlement_reads", "settlement", "settlement_load",
                "worked_postings",
            ),
        ),
    ),
    Suite(
        "redemption",
        _services("redemption"),
        (
            "tests/unit/redemption",
            *_integration(
                "chronicles", "cancelled_or_used", "redeem_at_once",
                "saga", "saga_table", "saga_breaks", "reviews", "recovery", "hosted",
                "partner_lies", "redemption_reads", "donations", "recovery_rows",
                "redemption_rows", "redemption_apart", "redemption_refusals", "saga_order",
            ),
        ),
    ),
)  # fmt: skip
