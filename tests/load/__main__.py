"""Load the gateway and print the figures; exit 1 if anything failed or an invariant broke."""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.load import redemptions, report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of load that is counted (10)")
    parser.add_argument("--clients", type=int, default=16, help="members who buy at once (16)")
    parser.add_argument("--gateways", type=int, default=1, help="processes (1)")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--floor", type=float, default=30.0, help="seconds of raw SQL (30)")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    asked = parser.parse_args()
    console = Console()
    console = Console(width=max(console.width, 110))
    wanted = redemptions.Asked(
        seconds=asked.minutes * 60,
        clients=asked.clients,
        gateways=asked.gateways,
        workers=asked.workers,
        floor_seconds=asked.floor,
    )
    with tempfile.TemporaryDirectory() as home, redemptions.bars() as progress:
        found = asyncio.run(redemptions.run(Path(home), wanted, progress))
    report.show(console, found)
    if asked.json:
        asked.json.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return 1 if found["errors"] or found["broken_invariants"] else 0


if __name__ == "__main__":
    sys.exit(main())
