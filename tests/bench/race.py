"""Two ways to the same result, timed in turns; what they took, and how the figures are printed."""

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

Clock = Callable[[], float]


@dataclass
class Times:
    """Seconds of single runs, and the processor time the process spent on all of them."""

    seconds: list[float] = field(default_factory=list)
    cpu: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        return sorted(self.seconds)[int(0.95 * (len(self.seconds) - 1))]

    async def add(
        self, run: Callable[[], Awaitable[Any]], times: int, cpu: Clock = time.process_time
    ) -> None:
        """Time `run` so many times.

        Args:
            cpu: Seconds the processor has spent on the process that does the work.
        """
        began = cpu()
        for _ in range(times):
            start = time.perf_counter()
            await run()
            self.seconds.append(time.perf_counter() - start)
        self.cpu += cpu() - began

    def json(self) -> dict[str, float | int]:
        runs = len(self.seconds)
        return {
            "runs": runs,
            "median_ms": round(self.median * 1e3, 4),
            "p95_ms": round(self.p95 * 1e3, 4),
            "cpu_ms": round(self.cpu / runs * 1e3, 4),
        }


@dataclass
class Figure:
    """One comparison: ours, its floor, and other ways worth knowing."""

    name: str
    floor_is: str
    ours: Times = field(default_factory=Times)
    floor: Times = field(default_factory=Times)
    others: dict[str, Times] = field(default_factory=dict)
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours.median / self.floor.median

    @property
    def cpu_ratio(self) -> float:
        """Of processor time, which a busy machine changes less than it changes waiting."""
        return self.ours.cpu / max(self.floor.cpu, 1e-9)

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"name": self.name, "floor_is": self.floor_is, "note": self.note}
        found |= {"ratio": round(self.ratio, 3), "cpu_ratio": round(self.cpu_ratio, 3)}
        found |= {"ours": self.ours.json(), "floor": self.floor.json()}
        return found | {"others": {name: times.json() for name, times in self.others.items()}}


async def race(
    figure: Figure,
    *,
    ours: Callable[[], Awaitable[Any]],
    floor: Callable[[], Awaitable[Any]],
    others: dict[str, Callable[[], Awaitable[Any]]] | None = None,
    rounds: int,
    times: int,
    cpu: Clock = time.process_time,
) -> Figure:
    """Run floor, ours, floor, ours …, `times` each a round; the first round only warms up."""
    ways = others or {}
    for number in range(rounds + 1):
        kept = number > 0
        await (figure.floor if kept else Times()).add(floor, times, cpu)
        await (figure.ours if kept else Times()).add(ours, times, cpu)
        for name, way in ways.items():
            times_of = figure.others.setdefault(name, Times()) if kept else Times()
            await times_of.add(way, times, cpu)
    return figure


def print_figures(console: Console, figures: Sequence[Figure]) -> None:
    """A table of all figures, with what each floor is below it."""
    table = Table(title="Ours against a floor in the same run (ms; medians)")
    table.add_column("operation", no_wrap=True)
    for heading in ("ours", "p95", "cpu", "floor", "p95", "cpu", "ratio", "of cpu"):
        table.add_column(heading, justify="right")
    for figure in figures:
        cells = [figure.name]
        for side in (figure.ours.json(), figure.floor.json()):
            cells += [_ms(side[name]) for name in ("median_ms", "p95_ms", "cpu_ms")]
        table.add_row(*cells, f"{figure.ratio:.2f}", f"{figure.cpu_ratio:.2f}")
        for name, times in figure.others.items():
            side = times.json()
            spent = [_ms(side[key]) for key in ("median_ms", "p95_ms", "cpu_ms")]
            ratio = f"{times.median / figure.floor.median:.2f}"
            table.add_row(f"  {name}", *spent, "", "", "", ratio, "", style="dim")
    console.print(table)
    for figure in figures:
        console.print(f"{figure.name}: floor is {figure.floor_is}. {figure.note}".rstrip())


def _ms(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def print_counts(console: Console, counts: dict[str, int], where: str) -> None:
    title = "SQL statements per operation, over HTTP (without BEGIN and COMMIT)"
    table = Table(title=f"{where}: {title}")
    table.add_column("operation")
    table.add_column("statements", justify="right")
    for name, count in counts.items():
        table.add_row(name, str(count))
    console.print(table)
