"""Load the gateway and print the figures; exit 1 if anything failed or an invariant broke."""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from tests.load import mixed, redemptions, report, stopping
from tests.load.place import DURABLE, stand
from tests.support.postgres import running

MODES = ("redemptions", "mixed", "stop")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("mode", nargs="?", choices=MODES, default=MODES[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of load that is counted (10)")
    parser.add_argument("--clients", type=int, default=16, help="at once (16)")
    parser.add_argument("--gateways", type=int, default=1, help="processes (1)")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--floor", type=float, default=30.0, help="seconds of raw SQL (30)")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    asked = parser.parse_args()
    console = Console()
    console = Console(width=max(console.width, 110))
    with tempfile.TemporaryDirectory() as home, redemptions.bars() as progress:
        found, good = RUNS[asked.mode](asked, Path(home), progress)
    SHOWN[asked.mode](console, found)
    if asked.json:
        asked.json.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return 0 if good else 1


def _redemptions(asked: Any, home: Path, progress: Progress) -> tuple[dict[str, Any], bool]:
    wanted = redemptions.Asked(
        seconds=asked.minutes * 60,
        clients=asked.clients,
        gateways=asked.gateways,
        workers=asked.workers,
        floor_seconds=asked.floor,
    )
    found = asyncio.run(redemptions.run(home, wanted, progress))
    return found, not found["errors"] and not found["broken_invariants"]


def _mixed(asked: Any, home: Path, progress: Progress) -> tuple[dict[str, Any], bool]:
    wanted = mixed.Asked(
        seconds=asked.minutes * 60,
        clients=asked.clients,
        gateways=asked.gateways,
        workers=asked.workers,
    )
    found = asyncio.run(mixed.run(home, wanted, progress))
    bad = found["unexpected"] or found["broken_invariants"] or found["deadlocks"]
    return found, not bad


def _stop(asked: Any, home: Path, progress: Progress) -> tuple[dict[str, Any], bool]:
    """A stop every six seconds."""
    stops = max(1, round(asked.minutes * 10))

    async def run() -> stopping.Found:
        with running(DURABLE) as server:
            async with stand(server, home, clients=asked.clients) as here:
                return await stopping.run(here, stops=stops, seconds=3.0)

    progress.add_task(f"{stops} stops", total=None)
    found = asyncio.run(run())
    return found.figures(), not found.bad()


RUNS = {"redemptions": _redemptions, "mixed": _mixed, "stop": _stop}
SHOWN = {"redemptions": report.show, "mixed": report.show_mixed, "stop": report.show_stops}


if __name__ == "__main__":
    sys.exit(main())
