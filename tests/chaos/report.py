"""The table of figures."""

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from tests.chaos.campaign import Part


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
    return [f"{part.name}: {one}" for part in parts for one in part.verdict.violations]


def _rows(parts: Sequence[Part]) -> list[tuple[str, list[str]]]:
    def row(name: str, of: object) -> tuple[str, list[str]]:
        return name, [str(of(part)) for part in parts]  # type: ignore[operator]

    rows = [
        row("seconds", lambda part: f"{part.seconds:.0f}"),
        row("kills", lambda part: part.deaths.counted),
        row("kills a second", lambda part: f"{part.deaths.counted / part.seconds:.2f}"),
    ]
    for kind in ("gateway", "worker", "postgresql", "partners"):
        rows.append(row(f"  of {kind}", lambda part, kind=kind: part.deaths.killed[kind]))
    for where in sorted({where for part in parts for where in part.deaths.at}):
        rows.append(row(f"  at {where}", lambda part, where=where: part.deaths.at[where]))
    rows.append(row("starts without a database", lambda part: part.deaths.failed_starts))
    for kind in ("gateway", "worker", "postgresql", "partners"):
        rows.append(row(f"{kind} back, p50/p99/max s", lambda part, kind=kind: _spread(part, kind)))
    rows += [
        row("requests answered", lambda part: part.load.answered),
        row("tries repeated", lambda part: part.load.retried),
        row("longest until answered, s", lambda part: f"{part.load.longest:.1f}"),
    ]
    rows += _counted(parts, "  try failed: ", lambda part: part.load.failed)
    rows += _counted(parts, "  refused: ", lambda part: part.load.refused)
    rows += _counted(parts, "redemptions ", lambda part: part.verdict.states)
    rows += _counted(parts, "checked: ", lambda part: part.verdict.looked)
    rows.append(row("violations", lambda part: len(part.verdict.violations)))
    return rows


def _counted(parts: Sequence[Part], before: str, of: object) -> list[tuple[str, list[str]]]:
    counters: list[Counter[str]] = [of(part) for part in parts]  # type: ignore[operator]
    names = sorted({name for counter in counters for name in counter})
    return [(before + name, [str(counter[name]) for counter in counters]) for name in names]


def _spread(part: Part, kind: str) -> str:
    times = sorted(part.deaths.back[kind])
    if not times:
        return "-"
    p50, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    return f"{p50:.2f} / {p99:.2f} / {times[-1]:.2f}"
