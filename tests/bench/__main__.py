"""Measure, print, and write the figures as JSON if asked."""

import argparse
import asyncio
import json
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console

from tests.bench import (
    catalog,
    composition,
    graph,
    merchants,
    parts,
    place,
    postgres,
    redemption,
    router,
    server,
    statements,
)
from tests.bench.race import Figure, print_counts, print_figures
from tests.support.arguments import refuse_unknown, whole
from tests.support.postgres import Postgres, running

Run = Callable[..., Awaitable[list[Figure]]]
RUNS: dict[str, Run] = {
    "redemption": redemption.run,
    "parts": parts.run,
    "composition": composition.run,
}
SERVED: dict[str, Run] = {
    "catalog": catalog.run,
    "graph": graph.run,
    "merchants": merchants.run,
}

DATABASES = {
    "sqlite": "SQLite file, WAL, synchronous=FULL",
    "postgresql": "PostgreSQL 18, fsync=on, synchronous_commit=on",
}


async def _measure(home: Path, names: list[str], rounds: int) -> tuple[list[Figure], dict]:
    path = home / "gateway.db"
    figures: list[Figure] = []
    for name in names:
        if name in SERVED:
            figures += await SERVED[name](place.url(path), home, rounds=rounds)
        if name in RUNS:
            figures += await RUNS[name](path, rounds=rounds)
    counts = await statements.run(path) if "statements" in names else {}
    return figures, counts


async def _measure_postgres(
    server: Postgres, home: Path, names: list[str], rounds: int
) -> tuple[list[Figure], dict[str, int]]:
    await postgres.make(server)
    figures: list[Figure] = []
    for name, run in (SERVED | {"parts": parts.tokens}).items():
        if name in names:
            async with postgres.copy(server, name) as url:
                for figure in await run(url, home, rounds=rounds):
                    figure.name = f"PostgreSQL, {figure.name}"
                    figures.append(figure)
    figures += await postgres.run(server, names, rounds=rounds)
    return figures, await postgres.counts(server) if "statements" in names else {}


def _on_server(names: list[str], rounds: int) -> list[server.Row]:
    return server.measure(rounds=rounds) if "server" in names else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    every = [*SERVED, *RUNS, "statements", "server", "router"]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(every)}; all")
    parser.add_argument("--database", choices=DATABASES, help="only on this one (both)")
    parser.add_argument("--rounds", type=whole(), default=10, help="interleaved rounds (10)")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    asked = parser.parse_args()
    refuse_unknown(parser, "benchmark", [one for one in asked.names if one not in every], every)
    began = time.monotonic()
    console = Console()
    console = Console(width=max(console.width, 130))
    names = asked.names or every
    figures: list[Figure] = []
    counts: dict[str, dict[str, int]] = {}
    if asked.database in (None, "sqlite"):
        with tempfile.TemporaryDirectory() as home:
            place.make(Path(home) / "gateway.db")
            figures, counts["SQLite"] = asyncio.run(_measure(Path(home), names, asked.rounds))
    if asked.database in (None, "postgresql"):
        with running(postgres.DURABLE) as cluster, tempfile.TemporaryDirectory() as home:
            measured = _measure_postgres(cluster, Path(home), names, asked.rounds)
            more, counts["PostgreSQL"] = asyncio.run(measured)
        figures += more
    machine = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "machine": platform.machine(),
        "databases": "; ".join(
            text for name, text in DATABASES.items() if asked.database in (None, name)
        ),
        "seconds": round(time.monotonic() - began, 1),
    }
    if figures:
        print_figures(console, figures)
    for name, found in counts.items():
        if found:
            print_counts(console, found, name)
    on_server = _on_server(asked.names or every, asked.rounds)
    if on_server:
        server.print_rows(console, on_server)
    routed = asyncio.run(router.run(rounds=asked.rounds)) if "router" in names else []
    if routed:
        router.print_rows(console, routed)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if asked.json:
        document = {"machine": machine, "figures": [figure.json() for figure in figures]}
        document |= {"statements": counts, "server": on_server, "router": routed}
        text = json.dumps(document, ensure_ascii=False, indent=1)
        asked.json.write_text(text + "\n", encoding="utf-8")
    if not (figures or any(counts.values()) or on_server or routed):
        console.print(f"[red]nothing was measured: {', '.join(names)} has no part on this database")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
