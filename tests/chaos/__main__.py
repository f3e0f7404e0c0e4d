"""`python -m tests.chaos --kills 500 --seed 1 --minutes 15`: ends 1 on a violation."""

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tests.chaos import campaign, report
from tests.chaos.campaign import Part
from tests.chaos.clients import Load
from tests.chaos.fleet import Deaths
from tests.support import postgres

SQLITE_SHARE = 0.2


def main() -> int:
    given = _arguments()
    out = Console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that everything is taken down.
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    with tempfile.TemporaryDirectory(prefix="coalition-chaos-") as folder:
        parts = asyncio.run(_run(given, given.keep or Path(folder), out))
    wrong = report.violations(parts)
    out.print(report.table(parts, given.seed))
    for line in wrong[:50]:
        out.print(f"[red]{line}[/red]", highlight=False)
    killed = sum(part.deaths.counted for part in parts)
    if killed < given.kills:
        out.print(f"[red]only {killed} of {given.kills} kills in {given.minutes} minutes[/red]")
    return 1 if wrong or killed < given.kills else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=15.0, help="at most, for the kills")
    parser.add_argument("--keep", type=Path, help="a new folder for logs and journals, kept")
    parser.add_argument("--only", choices=["postgresql", "sqlite"])
    return parser.parse_args()


async def _run(given: argparse.Namespace, folder: Path, out: Console) -> list[Part]:
    shares = {"postgresql": 1 - SQLITE_SHARE, "sqlite": SQLITE_SHARE}
    if given.only:
        shares = {given.only: 1.0}
    parts: list[Part] = []
    with Live(Text("starting"), console=out, refresh_per_second=4) as live:

        def show(name: str, deaths: Deaths, load: Load) -> None:
            counts = f"{deaths.counted} kills, {load.answered} answered, {load.retried} repeated"
            live.update(Text(f"{name}: {counts}"))

        for name, share in shares.items():
            options: dict[str, Any] = {"seed": given.seed, "progress": show}
            options |= {"kills": round(given.kills * share), "seconds": given.minutes * 60 * share}
            home = folder / name
            home.mkdir(parents=True)
            if name == "sqlite":
                parts.append(await campaign.run(name, home, server=None, **options))
            else:
                with postgres.running() as server:
                    parts.append(await campaign.run(name, home, server=server, **options))
    return parts


if __name__ == "__main__":
    sys.exit(main())
