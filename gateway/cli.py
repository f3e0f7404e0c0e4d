"""`gateway`: one function per operator task. Reads settings, owns what it opens.

A task is a command function that reads its settings through `_settings`, runs its asynchronous
part through `asyncio.run`, and ends with an exit code: 0 ok, 1 a check failed, 2 usage, 3 a
remote failed.
"""

import asyncio
import json
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway import docgen, migrations, telemetry
from gateway import settings as gateway_settings
from gateway.api import schema
from gateway.db import Database
from gateway.settings import Settings

CHECK_FAILED, USAGE, REMOTE_FAILED = 1, 2, 3

app = typer.Typer(
    name="gateway",
    help="A partner federation gateway for loyalty coalitions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
database_app = typer.Typer(help="The database's schema.", no_args_is_help=True)
app.add_typer(database_app, name="db")
schema_app = typer.Typer(help="The GraphQL schema.", no_args_is_help=True)
app.add_typer(schema_app, name="schema")

AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
_out = Console()
_err = Console(stderr=True)


def main() -> None:
    """The console script."""
    app()


@app.command()
def version() -> None:
    """Print the version."""
    _out.print(installed_version("coalition-gateway"), highlight=False)


@app.command()
def settings(as_json: AsJson = False) -> None:
    """Print every setting as it is now. Passwords in URLs are hidden."""
    shown = {
        f"GATEWAY_{name.upper()}": value
        for name, value in gateway_settings.shown(_settings()).items()
    }
    _print_rows(("setting", "value"), list(shown.items()), as_json=as_json)


@app.command()
def errors(as_json: AsJson = False) -> None:
    """Print every error code with what it says in Chinese and English."""
    rows = [(leaf.code, docgen.kind_of(leaf), leaf.zh, leaf.en) for leaf in docgen.leaves()]
    _print_rows(("code", "kind", "zh", "en"), rows, as_json=as_json)


@app.command()
def docs(
    check: Annotated[bool, typer.Option("--check", help="only compare; exit 1 if stale")] = False,
    root: Annotated[Path, typer.Option(help="the repository")] = Path(),
) -> None:
    """Write the generated pages of docs/, or check that they are true."""
    command = typer.main.get_command(app)
    if not check:
        docgen.write(root, command)
        return
    found = docgen.stale(root, command)
    if found:
        _err.print(f"not up to date: {', '.join(found)}; run `make docs`")
        raise typer.Exit(CHECK_FAILED)
    _out.print("Generated docs are up to date.")


@database_app.command("upgrade")
def upgrade() -> None:
    """Bring the database to the newest schema."""
    _out.print(f"at revision {asyncio.run(_upgrade(_settings()))}", highlight=False)


@schema_app.command("export")
def export(
    subgraph: Annotated[bool, typer.Option("--subgraph", help="the federation SDL")] = False,
) -> None:
    """Print our API schema, as in schema.graphql."""
    typer.echo(schema.subgraph_sdl() if subgraph else schema.api_sdl(), nl=False)


@database_app.command("current")
def current() -> None:
    """Print the database's revision and the newest one; exit 1 if they differ."""
    found = asyncio.run(_current(_settings()))
    _out.print(f"at revision {found or 'none'}, newest is {migrations.newest()}", highlight=False)
    if found != migrations.newest():
        raise typer.Exit(CHECK_FAILED)


async def _upgrade(settings: Settings) -> str | None:
    database = Database(settings.url)
    try:
        await migrations.upgrade(database)
        return await migrations.current(database)
    finally:
        await database.close()


async def _current(settings: Settings) -> str | None:
    database = Database(settings.url)
    try:
        return await migrations.current(database)
    finally:
        await database.close()


def _settings() -> Settings:
    """The settings of this process, with logging set up by them."""
    try:
        read = gateway_settings.read()
    except ValueError as error:
        _err.print(str(error), highlight=False)
        raise typer.Exit(USAGE) from error
    telemetry.configure(read.log_level)
    return read


def _print_rows(
    names: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, as_json: bool = False
) -> None:
    if as_json:
        found = [dict(zip(names, row, strict=True)) for row in rows]
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    table = Table(*names)
    for row in rows:
        table.add_row(*row)
    _out.print(table)
