"""`python -m partners.simulators.hotel_graph`: the hotel group's service on Strawberry."""

import argparse
import asyncio
import importlib.metadata
import json
import platform
import signal
from collections.abc import Mapping
from pathlib import Path

import httpx2

from partners.simulators.hotel_graph.desk import Desk
from partners.simulators.hotel_graph.service import Service
from partners.simulators.serve import LOOPBACK, Door


def main() -> None:
    """Read the command line and serve until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m partners.simulators.hotel_graph", description=__doc__
    )
    parser.add_argument("--config", type=Path, required=True, help="JSON: issuer, client, tokens")
    parser.add_argument("--state", type=Path, required=True, help="file of doors and faults")
    parser.add_argument("--ports-file", type=Path, required=True, help="written once it listens")
    given = parser.parse_args()
    settings = json.loads(given.config.read_text(encoding="utf-8"))
    asyncio.run(_run(settings, Desk(given.state), given.ports_file))


async def _run(settings: Mapping[str, str], desk: Desk, ports_file: Path) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with httpx2.AsyncClient(trust_env=False) as http:
        door = Door(LOOPBACK, 0)
        door.app = Service(settings, desk, http).app()
        await door.open()
        version = importlib.metadata.version("strawberry-graphql")
        runs = f"Python {platform.python_version()}, Strawberry {version}"
        made = ports_file.with_name(f"{ports_file.name}.new")
        made.write_text(json.dumps({"url": f"http://{LOOPBACK}:{door.port}", "runs": runs}))
        made.replace(ports_file)
        await stopped.wait()
        await door.shut()


if __name__ == "__main__":
    main()
