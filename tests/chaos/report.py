"""The table of figures."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence

from rich.table import Table

from tests.chaos.campaign import Part
from tests.chaos.checker import Verdict

KINDS = ("gateway", "worker", "postgresql", "partners")
COUNTED = "gateways, workers and PostgreSQL; the partners' simulators come on top"


def table(parts: Sequence[Part], seed: int) -> Table:
    """All figures, one column a part."""
    made = Table(title=f"kill -9 campaign, seed {seed}", show_lines=False)
    made.add_column("")
    for part in parts:
        made.add_column(part.name, justify="right")
    for name, cells in _rows(parts):
        made.add_row(name, *cells)
    return made


def violations(parts: Sequence[Part]) -> list[str]:
    return [
        f"{part.name}: {one}" for part in parts if part.verdict for one in part.verdict.violations
    ]


def _rows(parts: Sequence[Part]) -> list[tuple[str, list[str]]]:
    def row(name: str, of: Callable[[Part], object]) -> tuple[str, list[str]]:
        return name, [str(of(part)) for part in parts]

    def each(
        name: str, of: Callable[[Part, str], object], kinds: Sequence[str] = KINDS
    ) -> list[tuple[str, list[str]]]:
        return [row(name.format(kind), functools.partial(of, kind=kind)) for kind in kinds]

    return [
        row("seconds", lambda part: f"{part.seconds:.0f}"),
        row("kills (of the next three)", lambda part: part.deaths.counted),
        *each("  of {}", lambda part, kind: part.deaths.killed[kind], KINDS[:3]),
        row("kills a second", lambda part: f"{part.deaths.counted / (part.seconds or 1):.2f}"),
        *_counted(parts, "  at ", lambda part: part.deaths.at),
        row("kills of partners, besides", lambda part: part.deaths.killed["partners"]),
        row("starts without a database", lambda part: part.deaths.failed_starts),
        *each("{} back, p50/p99/max s", _spread),
        row("requests answered", lambda part: part.load.answered),
        row("tries repeated", lambda part: part.load.retried),
        row("longest until answered, s", lambda part: f"{part.load.longest:.1f}"),
        *_counted(parts, "  try failed: ", lambda part: part.load.failed),
        *_counted(parts, "  refused: ", lambda part: part.load.refused),
        *_counted(parts, "redemptions ", lambda part: _verdict(part).states),
        *_counted(parts, "checked: ", lambda part: _verdict(part).looked),
        row("violations", lambda part: len(part.verdict.violations) if part.verdict else "?"),
    ]


def _verdict(part: Part) -> Verdict:
    """Nothing is known of what ended before its check."""
    return part.verdict or Verdict()


def _counted(
    parts: Sequence[Part], before: str, of: Callable[[Part], Counter[str]]
) -> list[tuple[str, list[str]]]:
    counters = [of(part) for part in parts]
    names = sorted({name for counter in counters for name in counter})
    return [(before + name, [str(counter[name]) for counter in counters]) for name in names]


def _spread(part: Part, kind: str) -> str:
    times = sorted(part.deaths.back[kind])
    if not times:
        return "-"
    p50, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    return f"{p50:.2f} / {p99:.2f} / {times[-1]:.2f}"
