"""Change the code of points, redemption and settlement, one place at a time: do tests notice?

Every mutant, or as many of each module picked at random; then the score is an estimate, given
with the range that holds it 95 times in 100 (Wilson's).
"""

import argparse
import fnmatch
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.mutation.suites import NOT_MUTATED, ROOT, SUITES, Suite
from tests.support import memory
from tests.support.arguments import (
    file,
    more_than_nothing,
    percent,
    refuse_unknown,
    whole,
)

FOUND = ("killed", "timeout", "segfault")
Z = 1.96  # of the normal distribution: 95 % lie within

Outcome = dict[str, Any]  # as the worker writes it, of one module


def main() -> int:
    """Run what was asked for; 1 when a score is below the one asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="ROOM/MODULE", help="or patterns; else all")
    parser.add_argument("--sample", type=whole(), help="only so many mutants of each module")
    parser.add_argument("--seed", type=whole(0), default=1, help="of the sample (1)")
    parser.add_argument("--names", type=file, help="only the mutants named in this file")
    parser.add_argument(
        "--minutes", type=more_than_nothing, default=10_000, help="stop then; of a suite"
    )
    parser.add_argument("--most-tests", type=whole(), default=60, help="for one mutant (60)")
    parser.add_argument("--children", type=whole(), default=2, help="processes at once (2)")
    parser.add_argument("--at-least", type=percent, default=0, help="the score that is enough, %%")
    parser.add_argument("--report", type=Path, default=ROOT / "mutants" / "survivors.txt")
    asked = parser.parse_args()
    known = [module for suite in SUITES for module in suite.modules]
    refuse_unknown(
        parser, "module", [one for one in asked.modules if not fnmatch.filter(known, one)], known
    )
    console = Console()
    console = Console(width=max(console.width, 100))
    outcomes: dict[str, Outcome] = {}
    began, cpu = time.monotonic(), 0.0
    for suite, modules in _picked(asked.modules):
        console.rule(f"{suite.name}: {', '.join(modules)}")
        made = _run(suite, modules, asked)
        outcomes |= made["modules"]
        cpu += made["cpu_seconds"]
        shown(console, outcomes, time.monotonic() - began, cpu)
    asked.report.parent.mkdir(exist_ok=True)
    asked.report.write_text(survivors(outcomes), "utf-8")
    console.print(f"survivors with their changes: {asked.report}")
    tried = {name for outcome in outcomes.values() for name in outcome["results"]}
    lacking = sorted({*_names(asked)} - tried)
    for name in lacking:
        console.print(f"[red]not tried, though --names has it: {escape(name)}")
    if not tried:
        console.print("[red]no mutant was tried")
    scores = [score(_counted([outcome])) for outcome in outcomes.values()]
    return (
        1 if lacking or not tried or any(100 * low < asked.at_least for low, _, _ in scores) else 0
    )


def _picked(patterns: list[str]) -> Iterable[tuple[Suite, list[str]]]:
    for suite in SUITES:
        modules = [
            module
            for module in suite.modules
            if not patterns or any(fnmatch.fnmatch(module, pattern) for pattern in patterns)
        ]
        if modules:
            yield suite, modules


def _run(suite: Suite, modules: list[str], asked: argparse.Namespace) -> dict[str, Any]:
    """One suite, in a process of its own, from nothing: results are not kept between runs."""
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=memory.folder()) as folder:
        out = Path(folder, "out.json")
        work = {
            "modules": modules,
            "tests": [test for test in suite.tests if (ROOT / test).exists()],
            "not_mutated": NOT_MUTATED,
            "sample": asked.sample,
            "seed": asked.seed,
            "names": _names(asked),
            "children": asked.children,
            "minutes": asked.minutes,
            "most_tests": asked.most_tests,
            "out": str(out),
        }
        script = ROOT / "tests" / "mutation" / "worker.py"
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"TMPDIR": folder, "PYTEST_DEBUG_TEMPROOT": folder}
        subprocess.run(
            [sys.executable, script, json.dumps(work)], cwd=ROOT, env=environment, check=True
        )
        made: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return made


def _names(asked: argparse.Namespace) -> list[str]:
    return asked.names.read_text("utf-8").split() if asked.names else []


def _counted(outcomes: Iterable[Outcome]) -> Counter[str]:
    return Counter(status for outcome in outcomes for status in outcome["results"].values())


def score(counts: Counter[str]) -> tuple[float, float, float]:
    """The share of mutants found, and the range that holds it 95 times in 100."""
    tried = counts.total()
    if not tried:
        return 1.0, 0.0, 1.0
    share = sum(counts[status] for status in FOUND) / tried
    middle = (share + Z**2 / (2 * tried)) / (1 + Z**2 / tried)
    spread = Z / (1 + Z**2 / tried) * math.sqrt(share * (1 - share) / tried + (Z / tried / 2) ** 2)
    return share, max(0.0, middle - spread), min(1.0, middle + spread)


def shown(console: Console, outcomes: dict[str, Outcome], seconds: float, cpu: float) -> None:
    """The table of figures, and how long all mutants would have taken."""
    table = Table("module", "mutants", "tried", "killed", "timeout", "survived", "no test", "score")
    for name, outcome in outcomes.items():
        table.add_row(*_row(name, outcome["mutants"], _counted([outcome]), outcome["mutants"]))
    total = _counted(outcomes.values())
    of_all = sum(outcome["mutants"] for outcome in outcomes.values())
    table.add_section()
    table.add_row(*_row("together", of_all, total, of_all))
    console.print(table)
    if total.total():
        each = seconds / total.total()
        console.print(
            f"{total.total()} mutants in {seconds:.0f} s, {each:.1f} s each, of the processor"
            f" {cpu / total.total():.2f} s each without preparation;"
            f" all {of_all}: about {each * of_all / 3600:.1f} h"
        )


def _row(name: str, mutants: int, counts: Counter[str], of: int) -> list[str]:
    share, low, high = score(counts)
    tried = counts.total()
    words = f"{100 * share:.1f} %" if tried else "-"
    if 0 < tried < of:
        words += f" ({100 * low:.0f} to {100 * high:.0f})"
    found = counts["killed"] + counts["segfault"]
    figures = (mutants, tried, found, counts["timeout"], counts["survived"], counts["no tests"])
    return [name, *(f"{figure:,}" for figure in figures), words]


def survivors(outcomes: dict[str, Outcome]) -> str:
    """What no test noticed: the mutant's name, whether a test came by, the change."""
    parts = []
    for outcome in outcomes.values():
        for name, diff in outcome["diffs"].items():
            changed = [
                line
                for line in diff.splitlines()
                if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))
            ]
            parts.append("\n".join([f"{name}: {outcome['results'][name]}", *changed, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
