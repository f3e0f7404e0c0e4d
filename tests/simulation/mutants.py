"""Faults planted in the product's logic: each must be found within so many seeds."""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """One fault: a fragment of a module's source, replaced.

    Args:
        within: Seeds, from 1, within which it must be found.
        more: Other fragments with their replacements.
        weather: Faults that these seeds have besides, with their rates.
    """

    name: str
    module: str
    old: str
    new: str
    within: int
    more: tuple[tuple[str, str], ...] = ()
    weather: Mapping[str, float] = field(default_factory=dict)

    def apply(self, source: str) -> str:
        """The faulty source; each fragment must be there exactly once."""
        for old, new in ((self.old, self.new), *self.more):
            count = source.count(old)
            assert count == 1, f"{self.name}: {self.module} has its fragment {count} times"
            source = source.replace(old, new)
        return source

    def source(self) -> str:
        """The module's own source."""
        path = ROOT / (self.module.replace(".", "/") + ".py")
        return path.read_text("utf-8")


def all_of_them() -> "tuple[Mutant, ...]":
    """Every mutant."""
    from tests.simulation.planted_faults import MUTANTS  # It needs `Mutant`.

    return MUTANTS


def named(name: str) -> Mutant:
    """One of them."""
    return next(one for one in all_of_them() if one.name == name)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, mutant: Mutant, path: str) -> None:
        super().__init__(mutant.module, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        text = self._mutant.apply(self.get_source(fullname) or "")
        return compile(text, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._mutant.module:
            return None
        found = ROOT / (fullname.replace(".", "/") + ".py")
        loader = _Loader(self._mutant, str(found))
        return importlib.util.spec_from_file_location(fullname, found, loader=loader)


def plant(mutant: Mutant) -> None:
    """Let the module be imported with its fault; before anything else imports it."""
    assert mutant.module not in sys.modules, f"{mutant.module} is loaded already"
    sys.meta_path.insert(0, _Finder(mutant))


@dataclass(frozen=True)
class Found:
    """How a mutant was found, or that it was not."""

    mutant: Mutant
    seed: int | None
    problem: str


def hunt(mutant: Mutant) -> Found:
    """Look for a mutant in a child process, in as many seeds as it may need.

    What a seed shows without the mutant, too, does not find it.
    """
    found = _child(mutant, 1, mutant.within)
    if found is None:
        return Found(mutant, None, "")
    seed = int(found["seed"])
    if healthy := _child(mutant, seed, 1, "--healthy"):
        return Found(mutant, None, f"seed {seed} fails without it: {healthy['problem']}")
    return Found(mutant, seed, found["problem"])


def _child(mutant: Mutant, first: int, count: int, *more: str) -> dict[str, Any] | None:
    """The first seed that fails, with its problem."""
    asked = [sys.executable, "-m", "tests.simulation.planted", mutant.name]
    done = subprocess.run(
        [*asked, str(first), str(count), *more],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{mutant.name}: {done.stderr[-2000:]}")
    found: dict[str, Any] | None = json.loads(done.stdout.splitlines()[-1])
    return found


def campaign(console: Console, names: Sequence[str], *, processes: int) -> int:
    """Plant all, or those named, and print what found them; 1 when one was not found."""
    from tests.simulation.engine import TEMPLATE, Simulator  # Not in a child: it loads the product.

    chosen = [one for one in all_of_them() if not names or one.name in names]
    table = Table("mutant", "seeds needed", "of", "found by", title="mutants")
    lost = 0
    columns = (TextColumn("mutants"), BarColumn(), MofNCompleteColumn())
    simulator = Simulator()
    os.environ[TEMPLATE] = str(simulator.template)
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(processes) as pool:
        task = progress.add_task("mutants", total=len(chosen))
        for done in as_completed([pool.submit(hunt, one) for one in chosen]):
            found = done.result()
            progress.advance(task)
            lost += found.seed is None
            seed = "[red]not found" if found.seed is None else str(found.seed)
            told = escape(found.problem)
            if not console.is_terminal:
                console.print(f"{found.mutant.name}: {seed}: {told}", soft_wrap=True)
            table.add_row(found.mutant.name, seed, str(found.mutant.within), told)
    simulator.close()
    console.print(table)
    console.print(f"{len(chosen) - lost} of {len(chosen)} mutants found")
    return 1 if lost else 0
