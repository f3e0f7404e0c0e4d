"""What the commands share: settings, tables, progress, exit codes, errors in words."""

import contextlib
import importlib
import json
from collections.abc import Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from gateway.cli import databases
from gateway.errors import Denied, Refused

if TYPE_CHECKING:
    from gateway.settings import Settings

CHECK_FAILED, USAGE, REMOTE_FAILED = 1, 2, 3

AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
_IDS = {
    "client",
    "code",
    "event",
    "keys",
    "redemption",
}  # Columns of what is copied into other commands.
_WITH_IDS = 160  # Characters that a table with such a column needs.
out = Console()
err = Console(stderr=True)


def load(module: str) -> Any:
    """A module that only some commands need: the others start faster without it."""
    return importlib.import_module(module)


def read_settings() -> "Settings":
    """The settings of this process, with logging set up by them."""
    try:
        read: Settings = load("gateway.settings").read()
    except ValueError as error:
        err.print(str(error), highlight=False)
        raise typer.Exit(USAGE) from error
    load("gateway.telemetry").configure(read.log_level)
    return read


def print_rows(
    names: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, as_json: bool = False
) -> None:
    if as_json:
        found = [dict(zip(names, row, strict=True)) for row in rows]
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    table = Table(*(_column(name, [row[at] for row in rows]) for at, name in enumerate(names)))
    for row in rows:
        table.add_row(*row)
    least = _WITH_IDS if _IDS & set(names) else 0
    Console(width=max(out.width, least)).print(table)


def _column(name: str, values: Sequence[str]) -> Column:
    """A column that is folded where the line is short; ids to be copied stay whole."""
    whole = max(map(len, values), default=0) if name in _IDS else None
    return Column(name, overflow="fold", min_width=whole)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a task; what is not there, or not here, is a usage error."""
    try:
        return databases.start(lambda: work)
    except (ValueError, Refused, Denied) as error:
        err.print(_worded(error), highlight=False)
        raise typer.Exit(USAGE) from error


def _worded(error: Exception) -> str:
    """What an error says: a published one in both languages, with the next step."""
    if not isinstance(error, Refused | Denied):
        return str(error)
    messages = load("gateway.api.messages")
    zh, en = (
        f"{messages.say(error, locale, {})} → {messages.next_step(error, locale, {})}"
        for locale in ("zh", "en")
    )
    return f"{error.code}: {zh} · {en}"


class Bar:
    """A progress bar on standard error, gone when it is done."""

    def __init__(self, shown: Progress, what: str) -> None:
        self._shown, self._task = shown, shown.add_task(what, total=None)

    def begin(self, total: int) -> None:
        self._shown.update(self._task, total=total)

    def at(self, done: int) -> None:
        self._shown.update(self._task, completed=done)

    def phase(self, what: str, done: int, total: int) -> None:
        self._shown.update(self._task, description=what, completed=done, total=total)

    def of(self, done: int, total: int) -> None:
        self._shown.update(self._task, completed=done, total=total)


@contextlib.contextmanager
def progress(what: str) -> Iterator[Bar]:
    with Progress(console=err, transient=True) as shown:
        yield Bar(shown, what)
