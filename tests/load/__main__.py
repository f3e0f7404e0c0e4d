"""Load the gateway and print the figures; exit 1 if anything failed or an invariant broke."""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from gateway import migrations
from gateway.db import Database
from tests.load import closing, hot, mixed, redemptions, report, stopping
from tests.load.place import DURABLE, stand
from tests.support.arguments import more_than_nothing, whole
from tests.support.postgres import running

HOT_RATIO = 0.8  # of the rate on different issuers and shops, what one of each must reach
MODES = ("redemptions", "mixed", "stop", "hot", "close")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("mode", nargs="?", choices=MODES, default=MODES[0])
    parser.add_argument(
        "--minutes", type=more_than_nothing, default=10.0, help="of load that is counted (10)"
    )
    parser.add_argument("--clients", type=whole(), default=16, help="at once (16)")
    parser.add_argument("--gateways", type=whole(), default=1, help="processes (1)")
    parser.add_argument("--workers", type=whole(), default=1, help="processes (1)")
    parser.add_argument(
        "--floor", type=more_than_nothing, default=30.0, help="seconds of raw SQL (30)"
    )
    parser.add_argument(
        "--at-once", action="store_true", help="redeemOffer, not quote, hold and confirm"
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Whatever was started is ended.
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
        at_once=asked.at_once,
    )
    found = asyncio.run(redemptions.run(home, wanted, progress))
    ours = [one for name, one in found["memory"].items() if name.startswith(("gateway", "worker"))]
    grows = any(one["verdict"] == "grows" for one in ours)
    return found, not (found["errors"] or found["broken_invariants"] or grows)


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


def _hot(asked: Any, home: Path, progress: Progress) -> tuple[dict[str, Any], bool]:
    """Two turns each, with the disk as it is; then with commits that take 5 ms longer."""
    found: dict[str, Any] = {}
    for delay in (0, 5):
        place = home / str(delay)
        place.mkdir()
        wanted = hot.Asked(asked.minutes * 60 / 12, asked.clients, commit_delay_ms=delay)
        found[f"commit +{delay} ms"] = asyncio.run(hot.run(place, wanted, progress))
    bad = [one for one in found.values() if one["errors"] or one["broken_invariants"]]
    return found, not bad and all(one["ratio"] >= HOT_RATIO for one in found.values())


def _close(asked: Any, home: Path, progress: Progress) -> tuple[dict[str, Any], bool]:
    """Fifty writers, and a close every 200 ms."""

    async def run(url: str) -> closing.Found:
        database = Database(url, pool_size=50)
        try:
            async with database.engine.begin() as connection:
                await connection.run_sync(migrations.create_all)
            return await closing.run(database, seconds=asked.minutes * 60)
        finally:
            await database.close()

    progress.add_task(f"a window every 200 ms, {asked.minutes:g} minutes", total=None)
    with running(DURABLE) as server:
        found = asyncio.run(run(server.create("closing")))
    return found.figures(), not found.bad()


RUNS = {"redemptions": _redemptions, "mixed": _mixed, "stop": _stop, "hot": _hot, "close": _close}
SHOWN = {
    "redemptions": report.show,
    "mixed": report.show_mixed,
    "stop": report.show_facts,
    "hot": report.show_hot,
    "close": report.show_facts,
}


if __name__ == "__main__":
    sys.exit(main())
