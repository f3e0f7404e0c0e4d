"""What the demo's audience sees: headings, tables, one bar, and every expectation with ✓ or ✗."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

PLAIN_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was expected to be."""

    title: str
    expected: Any
    actual: Any


class Show:
    """The play's output and its verdict.

    Args:
        steps: How many steps the whole play has, for the bar.
    """

    def __init__(self, console: Console, *, steps: int = 1) -> None:
        self.console = console
        self.findings: list[Finding] = []
        self.checked = 0
        self._progress = Progress(
            TextColumn("[bold cyan]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=steps)

    def __enter__(self) -> "Show":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def pause(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    @property
    def holds(self) -> bool:
        """Whether everything was as expected."""
        return not self.findings

    def phase(self, zh: str, en: str) -> None:
        """A heading."""
        self._progress.update(self._task, description=zh)
        self.console.print()
        self.console.rule(f"[bold]{zh} · {en}", style="cyan", align="left")

    def step(self, number: int = 1) -> None:
        """So many steps further."""
        self._progress.advance(self._task, number)

    def say(self, text: str) -> None:
        """A line."""
        self.console.print(text, highlight=False)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = ""
    ) -> None:
        """A table; a column whose name begins with `>` is right-aligned."""
        table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
        for name in columns:
            right = name.startswith(">")
            table.add_column(name.lstrip(">"), justify="right" if right else "left")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.console.print(table)

    def same(self, title: str, expected: Any, actual: Any) -> bool:
        """Compare exactly, and say so.

        Returns:
            Whether they are the same.
        """
        self.checked += 1
        if expected == actual:
            for line in self._lines(title, actual):
                self.say(line)
            return True
        self.findings.append(Finding(title, expected, actual))
        self.say(f"  [bold red]✗ {escape(title)}[/]")
        self.say(f"      expected {escape(repr(expected))}")
        self.say(f"      actual   {escape(repr(actual))}")
        return False

    def _lines(self, title: str, value: Any) -> list[str]:
        """What was found: on one line, or where that is too long, each field on its own."""
        text, width = f"{title}: {_plain(value)}", self.console.width - 5
        if cell_len(text) <= width or not isinstance(value, Mapping):
            return [f"  [green]✓[/] {escape(_cut(text, width))}"]
        rows = [_cut(f"{name}: {_plain(each, name)}", width - 2) for name, each in value.items()]
        return [f"  [green]✓[/] {escape(title)}", *(f"      [dim]{escape(row)}[/]" for row in rows)]

    def fields(self, title: str, expected: Mapping[str, Any], actual: Mapping[str, Any]) -> bool:
        """Compare the fields that are expected; others may be anything."""
        return self.same(title, dict(expected), {name: actual.get(name) for name in expected})


def yuan(fen: int) -> str:
    """Money as people read it."""
    sign = "-" if fen < 0 else ""
    return f"{sign}¥{abs(fen) // 100:,}.{abs(fen) % 100:02}"


def in_yuan(sums: Mapping[str, int]) -> dict[str, str]:
    """Sums of money by name, as people read them."""
    return {name: yuan(fen) for name, fen in sums.items()}


def points(number: int, unit: str = "") -> str:
    """Points with thousands separators."""
    return f"{number:,}{' ' + unit if unit else ''}"


def _plain(value: Any, name: str = "") -> str:
    """A value as people read it, without the quotes and braces of code."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(each, key)}" for key, each in value.items()) or "-"
    if isinstance(value, list | tuple):
        if name == "obligations":
            return " · ".join(f"{row[0]} {row[1]}→{row[2]} {yuan(row[3])}" for row in value) or "-"
        return " · ".join(f"({_plain(each)})" if isinstance(each, list | Mapping) else _plain(each)
                          for each in value) or "-"  # fmt: skip
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("fen"):
        return yuan(value)
    return "none" if value is None else str(value)


def _cut(text: str, width: int) -> str:
    """A text that fits into so many columns."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"
