"""The campaigns' commands: what checks nothing is a usage error, and figures are words."""

import io
import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos import report as chaos
from tests.chaos.campaign import Part
from tests.load import report as load
from tests.simulation import checks


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("simulation --mutants nosuch", "no mutant 'nosuch'; there are: void on timeout"),
        ("simulation voidx", "--mutants is not given"),
        ("simulation --seeds 0", "at least 1"),
        ("simulation --seeds -3", "at least 1"),
        ("simulation --seeds 2 --processes 0", "at least 1"),
        ("mutation nosuch", "there are: points/model"),
        ("mutation points/model points/nosuch", "no module 'points/nosuch'"),
        ("mutation --sample 0", "at least 1"),
        ("mutation --sample -1", "at least 1"),
        ("mutation --children 0", "at least 1"),
        ("mutation --names /nonexistent", "no such file"),
        ("mutation --at-least 101", "0 to 100"),
        ("bench nosuch", "there are: catalog, graph"),
        ("bench catalog --rounds 0", "at least 1"),
        ("chaos --kills 0", "at least 1"),
        ("chaos --kills -1", "at least 1"),
        ("chaos --minutes nan", "a number is expected"),
        ("load --gateways 0", "at least 1"),
        ("load --minutes -1", "more than 0"),
        ("load --clients 0", "at least 1"),
        ("load stop --clients -1", "at least 1"),
    ],
)
def test_what_would_check_nothing_is_a_usage_error(
    words: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *arguments = words.split()
    _refused(name, arguments, monkeypatch)
    assert told in capsys.readouterr().err


def test_a_folder_that_is_there_is_not_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _refused("chaos", ["--keep", str(tmp_path)], monkeypatch)
    assert "is there already" in capsys.readouterr().err


def _refused(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"tests.{name}.__main__", run_name="__main__")
    assert ended.value.code == 2


def _printed(*things: object) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(*things)
    return out.getvalue().splitlines()


def test_what_counts_as_a_kill_adds_up(tmp_path: Path) -> None:
    part = Part("sqlite", tmp_path)
    part.deaths.killed = Counter(gateway=3, worker=5, partners=4)
    part.load.journal.close()
    lines = [line.split("│") for line in _printed(chaos.table([part], 1)) if "│" in line]
    rows = {cells[1].strip(): cells[2].strip() for cells in lines}
    assert rows["kills (of the next three)"] == "8"
    assert [rows[f"of {kind}"] for kind in ("gateway", "worker", "postgresql")] == ["3", "5", "0"]
    assert rows["kills of partners, besides"] == "4"


def test_a_hot_run_tells_its_errors_in_words() -> None:
    way = {"per_second": 1.0, "waits_for_a_lock": 0}
    ways = dict.fromkeys(("one", "different", "raw, one", "raw, different"), way)
    found = ways | {"ratio": 1.0, "ratio_raw": 1.0, "errors": {}, "broken_invariants": []}
    bad = found | {"errors": {"hold: CONFLICT": 2}, "broken_invariants": ["L1"]}
    out = io.StringIO()
    load.show_hot(Console(file=out, width=200), {"commit +0 ms": found, "commit +5 ms": bad})
    last = out.getvalue().splitlines()[-2:]
    assert last[0] == "commit +0 ms: errors: none; invariants: all hold."
    assert last[1] == "commit +5 ms: errors: 2 × hold: CONFLICT; invariants: L1."


def test_a_row_of_the_books_is_told_in_words() -> None:
    assert checks._words(("red_1:hold:1", 1, "SENT", None)) == "red_1:hold:1, 1, SENT, –"
