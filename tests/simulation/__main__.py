"""Simulate many seeds, or one and show its trace, or see that the planted mutants are found."""

import argparse
import os
import signal
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation import mutants, sweep
from tests.simulation.campaign import Total, spread
from tests.simulation.engine import Simulator
from tests.simulation.situations import SOMETIMES, missing
from tests.support.arguments import refuse_unknown, whole

ENOUGH = 1_000  # seeds after which every situation must have occurred
TRACED, LINES = 3, 200  # Seeds that failed are shown, and so much of each.


def main() -> int:
    """Run what was asked for; 1 when something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=whole(), default=1_000, help="how many (1000)")
    parser.add_argument("--first", type=whole(0), default=1, help="the first (1)")
    parser.add_argument("--seed", type=whole(0), help="only this one, with its trace")
    parser.add_argument("--processes", type=whole(), default=2, help="how many at once (2)")
    parser.add_argument(
        "--sweep", action="store_true", help="each seed, with one crash at each of its places"
    )
    parser.add_argument(
        "--crash-at", type=whole(0), help="with --seed: no fault but one crash, at this place"
    )
    parser.add_argument("--mutants", action="store_true", help="plant every mutant, find it")
    parser.add_argument("names", nargs="*", metavar="MUTANT", help="only these, with --mutants")
    asked = parser.parse_args()
    if asked.names and not asked.mutants:
        parser.error(f"{asked.names[0]!r}: names are of mutants, and --mutants is not given")
    known = [one.name for one in mutants.all_of_them()] if asked.names else []
    refuse_unknown(parser, "mutant", [name for name in asked.names if name not in known], known)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Whoever was started is ended.
    console = Console()
    console = Console(width=max(console.width, 110))
    if asked.mutants:
        return mutants.campaign(console, asked.names, processes=asked.processes)
    if asked.crash_at is not None and asked.seed is None:
        parser.error("--crash-at is a place of a --seed")
    if asked.seed is not None:
        return one(console, asked.seed, asked.crash_at)
    if asked.sweep:
        return swept(console, range(asked.first, asked.first + asked.seeds), asked.processes)
    return many(console, asked.first, asked.seeds, asked.processes)


def one(console: Console, seed: int, crash_at: int | None = None) -> int:
    """Play one seed and show what happened."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])  # noqa: S606 - itself
    simulator = Simulator()
    try:
        run = simulator.run(seed, traced=True, crash_at=crash_at)
    finally:
        simulator.close()
    for line in run.trace:
        console.print(escape(line), highlight=False, soft_wrap=True)
    console.print(f"seed {seed}: {run.io_points} I/O points, {run.commits} commits")
    console.print(f"digest {run.digest}")
    for problem in run.problems:
        console.print(f"[red]{escape(problem)}")
    return 1 if run.problems else 0


def swept(console: Console, seeds: range, processes: int) -> int:
    """Crash at every place of each seed; how many there were, and what went wrong."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    table = Table("seed", "places", "crashes", "violations", "seconds", "its story", title="sweep")
    failures = 0
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        for seed in seeds:
            task = progress.add_task(f"seed {seed}", total=None)

            def show(found: sweep.Swept, task: Any = task) -> None:
                progress.update(task, total=found.places, completed=found.runs)

            found = sweep.whole(seed, processes, show)
            story = ", ".join(f"{name} {n}" for name, n in sorted(found.story.items()))
            cells = (seed, found.places, found.crashes, len(found.failures))
            table.add_row(*map(str, cells), f"{found.seconds:.0f}", story)
            for place, problems in found.failures[:5]:
                console.print(f"[red]seed {seed}, place {place}: {escape(problems[0])}")
                again = f"python -m tests.simulation --seed {seed} --crash-at {place}"
                console.print(f"  again, with its trace: {again}")
            failures += len(found.failures)
    console.print(table)
    return 1 if failures else 0


def many(console: Console, first: int, count: int, processes: int) -> int:
    """Play many seeds; figures, coverage and failures at the end."""
    columns = (TextColumn("seeds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[found]}"), console=console) as progress:
        task = progress.add_task("seeds", total=count, found="")

        told: list[int] = []

        def show(total: Total) -> None:
            found = f"{total.seeds / total.seconds:.1f} a second, {len(total.failures)} failed"
            progress.update(task, completed=total.seeds, found=found)
            if not console.is_terminal:
                console.print(f"{total.seeds} of {count} seeds, {found}")
            for seed, problems in total.failures[len(told) :]:
                told.append(seed)
                console.print(f"[red]seed {seed}: {escape(problems[0])}", soft_wrap=True)

        total = spread(first, count, processes, show)
    _figures(console, total, first, processes)
    _coverage(console, total)
    lacking = missing(total.counts) if count >= ENOUGH else []
    for name in lacking:
        console.print(f"[red]never happened: {name}")
    for seed, problems in total.failures[:20]:
        console.print(f"[red]seed {seed}: {escape(problems[0])}")
        console.print(f"  again, with its trace: make simulate SEED={seed}")
    for seed, _ in total.failures[:TRACED]:
        _again(console, seed)
    return 1 if total.failures or lacking else 0


def _again(console: Console, seed: int) -> None:
    """A seed that failed once more, in a process of its own: how its trace ends."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(seed)],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    console.rule(f"seed {seed}, the last {LINES} lines")
    for line in (done.stdout + done.stderr).splitlines()[-LINES:]:
        console.print(escape(line), highlight=False, soft_wrap=True)


def _figures(console: Console, total: Total, first: int, processes: int) -> None:
    table = Table("figure", "value", title="simulation")
    rows: list[tuple[str, Any]] = [
        ("seeds", f"{first} to {first + total.seeds - 1}"),
        ("violations", len(total.failures)),
        ("I/O points (places a crash can strike)", total.io_points),
        ("commits, all checked", total.commits),
        ("crashes", sum(n for name, n in total.counts.items() if name.startswith("crash "))),
        ("seconds, with processes", f"{total.seconds:.0f}, {processes}"),
        ("seeds a second", f"{total.seeds / total.seconds:.1f}"),
        ("CPU seconds a seed", f"{total.cpu_seconds / max(total.seeds, 1):.3f}"),
    ]
    for name, value in rows:
        table.add_row(name, str(value))
    console.print(table)


def _coverage(console: Console, total: Total) -> None:
    """How often each fault, state, move and situation occurred."""
    table = Table("kind", "how often", title="coverage")
    for kind in ("fault", "lie", "crash", "state", "move", "end", "finding", "done"):
        found = sorted(
            (name.removeprefix(f"{kind} "), n)
            for name, n in total.counts.items()
            if name.startswith(f"{kind} ")
        )
        table.add_row(kind, escape(", ".join(f"{name} {n}" for name, n in found)))
    some = {name: sum(total.counts[one] for one in ones) for name, ones in SOMETIMES.items()}
    table.add_row("sometimes", ", ".join(f"{name} {n}" for name, n in some.items()))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
