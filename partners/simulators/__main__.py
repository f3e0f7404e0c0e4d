"""`python -m partners.simulators`: run the merchants of a configuration until SIGTERM."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from partners.simulators import config, serve


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m partners.simulators", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON of the merchants")
    parser.add_argument("--state", type=Path, required=True, help="folder of their SQLite files")
    parser.add_argument("--only", help="ids of the merchants to run, as in M05,M07")
    parser.add_argument("--ports-file", type=Path, help="written once everything listens")
    parser.add_argument("--tied", action="store_true", help="end when standard input does")
    given = parser.parse_args(arguments)
    only = set(given.only.split(",")) if given.only else None
    settings = config.read(given.config)
    asyncio.run(run(settings, given.state, only, given.ports_file, tied=given.tied))


async def run(
    settings: config.Config,
    folder: Path,
    only: set[str] | None = None,
    ports_file: Path | None = None,
    *,
    listening: Callable[[Mapping[str, Any]], None] = lambda ports: None,
    tied: bool = False,
) -> None:
    """Run merchants until SIGTERM.

    Args:
        ports_file: Written once everything listens.
        listening: Told at that moment what the file says.
        tied: End, too, when standard input does: whoever started us is gone.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if tied:
        loop.add_reader(sys.stdin.fileno(), stopped.set)  # Nobody writes there.
    async with serve.running(settings, folder, only=only) as simulators:
        ports = simulators.ports()
        if ports_file is not None:
            made = ports_file.with_suffix(".new")
            made.write_text(json.dumps(ports), encoding="utf-8")
            made.replace(ports_file)
        listening(ports)
        sys.stdout.write(
            json.dumps({name: ports[name] for name in ("control", "merchants")}) + "\n"
        )
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    main()
