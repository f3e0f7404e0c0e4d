"""The demo's comparer: what is as expected passes, anything else is told and counts."""

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from gateway.demo import finance
from gateway.demo.show import Show, in_yuan, points, yuan


@dataclass
class Stage:
    """A show and what it has printed."""

    show: Show
    printed: io.StringIO


@pytest.fixture
def stage() -> Stage:
    printed = io.StringIO()
    return Stage(Show(Console(file=printed, width=100)), printed)


def test_what_is_the_same_passes(stage: Stage) -> None:
    assert stage.show.same("fees", 230, 230)
    assert stage.show.holds
    assert "✓ fees: 230" in stage.printed.getvalue()


def test_sums_of_many_are_shown_in_yuan() -> None:
    assert in_yuan({"M01": 4410, "M03": -14924}) == {"M01": "¥44.10", "M03": "-¥149.24"}
    assert finance._sorted({("M05", "M04"): 23}) == ["M05 → M04 ¥0.23"]


def test_what_differs_is_told_with_both_values_and_does_not_hold(stage: Stage) -> None:
    assert not stage.show.same("fees", 230, 231)
    assert not stage.show.holds
    printed = stage.printed.getvalue()
    assert "✗ fees" in printed
    assert "expected 230" in printed
    assert "actual   231" in printed


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"P-LL": 500}, {"P-LL": 500, "P-KX": 0}),
        ([["FEE", "M04", 36]], [["FEE", "M04", 36], ["FEE", "M04", 36]]),
        ({"held": 0}, {}),
        ({"replayed": True}, {"replayed": None}),
        ([], None),
    ],
)
def test_nothing_may_be_missing_or_more(stage: Stage, expected: object, actual: object) -> None:
    assert not stage.show.same("any", expected, actual)


def test_one_difference_is_not_made_good_by_what_follows(stage: Stage) -> None:
    stage.show.same("first", 1, 2)
    stage.show.same("second", 1, 1)
    assert not stage.show.holds
    assert [finding.title for finding in stage.show.findings] == ["first"]


def test_what_is_too_long_for_a_line_has_a_line_for_each_field(stage: Stage) -> None:
    found = {"state": "COMMITTED", "obligations": [["FEE", "M04", "HUB_FEE", 36]], "ref": "分" * 99}
    assert stage.show.same("退回", found, found)
    lines = stage.printed.getvalue().splitlines()
    assert lines[:3] == [
        "  ✓ 退回",
        "      state: COMMITTED",
        "      obligations: FEE M04→HUB_FEE ¥0.36",
    ]
    assert len(lines) == 4
    assert lines[3].endswith("…")


def test_amounts_are_written_as_people_read_them() -> None:
    assert [yuan(2790), yuan(-5), yuan(123_456_700)] == ["¥27.90", "-¥0.05", "¥1,234,567.00"]
    assert points(12_000, "里程") == "12,000 里程"
