"""`gateway router` and `gateway federation`: the library at work, without the product.

Nothing of the product is imported here, so that a router is small.
"""

import asyncio
import dataclasses
import importlib
import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

CHECK_FAILED, USAGE = 1, 2

app = typer.Typer(help="Supergraphs: composed, planned, looked at.", no_args_is_help=True)


def router(
    *,
    supergraph: Annotated[
        Path | None, typer.Option(envvar="SUPERGRAPH", help="the file to serve; watched")
    ] = None,
    host: Annotated[str | None, typer.Option(help="127.0.0.1 by default")] = None,
    port: Annotated[
        int | None, typer.Option(envvar="PORT", help="4000 by default; 0 takes a free one")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with all of this and more; options go before it")
    ] = None,
    forward_header: Annotated[
        list[str] | None, typer.Option(help="a client's header that subgraphs are sent; repeatable")
    ] = None,
    introspection: Annotated[
        bool | None, typer.Option(help="whether clients may ask for the schema; yes by default")
    ] = None,
    sharing: Annotated[
        bool | None,
        typer.Option(help="whether identical reads under way are one; yes by default"),
    ] = None,
    reuse: Annotated[
        bool | None,
        typer.Option(help="whether an operation asks once for an entity's fields; yes by default"),
    ] = None,
    entities: Annotated[
        bool | None, typer.Option(help="also serve as a subgraph: _service and _entities")
    ] = None,
    trusted: Annotated[Path | None, typer.Option(help="manifest of trusted documents")] = None,
    trusted_mode: Annotated[
        str | None, typer.Option(help="off, log or only; only by default with a manifest")
    ] = None,
) -> None:
    """Serve a supergraph at /graphql, and /health, until SIGTERM. Watches the file."""
    configs = importlib.import_module("gateway.federation.config")
    try:
        read = configs.read(
            config,
            supergraph=supergraph,
            host=host,
            port=port,
            forward_headers=tuple(forward_header) if forward_header else None,
            introspection=introspection,
            sharing=sharing,
            reuse=reuse,
            entities=entities,
        )
        if trusted is not None or trusted_mode is not None:
            read = configs.with_trusted(read, trusted, trusted_mode)
    except configs.InvalidConfig as error:
        _fail(error, USAGE)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    routers = importlib.import_module("gateway.federation.router")
    try:
        ended = _run(routers.serve(read))
    except (routers.CannotStart, ValueError) as error:
        _fail(error, CHECK_FAILED)
    if not ended:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def plan(
    supergraph: Annotated[Path, typer.Argument(help="the supergraph's file")],
    query: Annotated[str, typer.Argument(help="an operation, or the file it is in")],
    *,
    variables: Annotated[str, typer.Option(help="JSON; only conditions depend on them")] = "{}",
    operation: Annotated[str | None, typer.Option(help="which, if there are several")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="an active override label; repeatable")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of text")] = False,
) -> None:
    """Show how an operation would be answered: its fetches, how many, how deep; exit 1 if not."""
    planning = importlib.import_module("gateway.federation.planning")
    try:
        values = json.loads(variables)
        made = planning.explain(
            supergraph.read_text("utf-8"),
            _text(query),
            values if isinstance(values, dict) else {},
            operation=operation,
            labels=frozenset(label or ()),
        )
    except (OSError, ValueError) as error:
        _fail(error, USAGE)
    except planning.Unplannable as error:
        _fail(error, CHECK_FAILED)
    if as_json:
        told = {"fetches": made.fetches, "depth": made.depth, "services": made.services}
        typer.echo(json.dumps({**told, "plan": made.text}, ensure_ascii=False, indent=2))
        return
    typer.echo(made.text.partition("\n")[2], nl=False)  # Its counts come last, with the services.
    services = ", ".join(f"{name} {count}" for name, count in made.services.items())
    typer.echo(f"{made.fetches} fetches ({services}), depth {made.depth}")


@app.command()
def compose(
    config: Annotated[
        Path, typer.Argument(help="YAML or JSON: a list of name, url and sdl, which is a file")
    ],
    output: Annotated[Path | None, typer.Option(help="write it there, not to stdout")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="errors and hints as JSON")] = False,
) -> None:
    """Compose subgraphs to a supergraph and print it; exit 1 with coded errors if they do not."""
    composing = importlib.import_module("gateway.federation.composing")
    try:
        made = composing.from_file(config)
    except (OSError, ValueError) as error:
        _fail(error, USAGE)
    for kind, found in (("error", made.errors), ("hint", made.hints)):
        for one in found:
            told = {"kind": kind, **dataclasses.asdict(one)}
            where = f" [{', '.join(one.subgraphs)}]" if one.subgraphs else ""
            if kind == "error" and one.line is not None:
                where += f" at line {one.line}, column {one.column}"
            text = json.dumps(told) if as_json else f"{kind} {one.code}: {one.message}{where}"
            typer.echo(text, err=True)
    if made.sdl is None:
        raise typer.Exit(CHECK_FAILED)
    if output is None:
        typer.echo(made.sdl, nl=not made.sdl.endswith("\n"))
    else:
        output.write_text(made.sdl, encoding="utf-8")


def _text(query: str) -> str:
    """What a command was given: an operation, or the content of a file of that name."""
    if "{" in query:
        return query
    return Path(query).read_text("utf-8")


def _run(work: Any) -> Any:
    try:
        loop = importlib.import_module("uvloop")
    except ImportError:  # There is none for Windows.
        return asyncio.run(work)
    return loop.run(work)


def _fail(error: Exception, code: int) -> None:
    typer.echo(str(error), err=True)
    raise typer.Exit(code) from error
