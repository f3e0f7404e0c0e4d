"""`python -m tests.chaos --kills 500 --seed 1 --minutes 15`: ends 1 on a violation."""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tests.chaos import campaign, report
from tests.chaos.campaign import Part
from tests.chaos.checker import Verdict
from tests.chaos.report import COUNTED
from tests.support import postgres
from tests.support.arguments import more_than_nothing, new_folder, whole

SQLITE_SHARE = 0.2


def main() -> int:
    given = _arguments()
    out = Console()
    with tempfile.TemporaryDirectory(prefix="coalition-chaos-") as folder:
        parts: list[Part] = []
        stopped = asyncio.run(_until_stopped(_run(given, given.keep or Path(folder), out, parts)))
        wrong = report.violations(parts)
        out.print(report.table(parts, given.seed))
    for line in wrong[:50]:
        out.print(f"[red]{line}[/red]", highlight=False)
    if stopped:
        out.print("[yellow]stopped: what was not checked is not known[/yellow]")
        return 128 + stopped
    killed = sum(part.deaths.counted for part in parts)
    if killed < given.kills:
        out.print(f"[red]only {killed} of {given.kills} kills in {given.minutes} minutes[/red]")
    return 1 if wrong or killed < given.kills else 0


async def _until_stopped(work: Coroutine[Any, Any, None]) -> int:
    """Run it to its end, or until a signal: then everything is taken down, and it is returned."""
    running, came = asyncio.ensure_future(work), []

    def stop(number: int) -> None:
        came.append(number)
        if len(came) == 1:  # Who is impatient does not interrupt the taking down.
            running.cancel()
            # Futures of connections that are cut now have nobody who waits for them.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    await asyncio.wait([running])
    if came:
        return int(came[0])
    running.result()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=whole(), default=500, help=f"of {COUNTED} (500)")
    parser.add_argument("--seed", type=whole(0), default=1)
    parser.add_argument(
        "--minutes", type=more_than_nothing, default=15.0, help="at most, for the kills"
    )
    parser.add_argument("--keep", type=new_folder, help="a new folder for logs and journals, kept")
    parser.add_argument("--only", choices=["postgresql", "sqlite"])
    return parser.parse_args()


async def _run(given: argparse.Namespace, folder: Path, out: Console, parts: list[Part]) -> None:
    """Run the parts, one after the other; each is in `parts` from its beginning."""
    shares = {"postgresql": 1 - SQLITE_SHARE, "sqlite": SQLITE_SHARE}
    if given.only:
        shares = {given.only: 1.0}
    with Live(Text("starting"), console=out, refresh_per_second=4) as live:

        def show(part: Part) -> None:
            load, at = part.load, ": checking" if part.checking else ""
            counts = f"{part.deaths.counted} kills, {load.answered} answered"
            live.update(Text(f"{part.name}{at}: {counts}, {load.retried} repeated"))

        for name, share in shares.items():
            options: dict[str, Any] = {"seed": given.seed, "progress": show}
            options |= {"kills": round(given.kills * share), "seconds": given.minutes * 60 * share}
            home = folder / name
            home.mkdir(parents=True)
            parts.append(Part(name, home))
            await _one(parts[-1], options)


async def _one(part: Part, options: dict[str, Any]) -> None:
    """One part; what it fails of is in its verdict, so that the table tells of the rest."""
    with contextlib.ExitStack() as stack:
        on_server = part.name == "postgresql"
        server = stack.enter_context(postgres.running()) if on_server else None
        try:
            await campaign.run(part, server=server, **options)
        except Exception as error:
            logging.exception("the part failed")
            part.verdict = part.verdict or Verdict()
            part.verdict.violations.append(f"the campaign itself: {error!r}")


if __name__ == "__main__":
    sys.exit(main())
