"""Starts and stops the demo's processes: simulators, gateway, worker. Logs go to files.

The gateway's socket is bound here and handed on, so that no port is looked for twice; the
simulators take free ports and write them down.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import fields, replace

import httpx2

from gateway.db import Database
from gateway.demo import install
from gateway.demo.hotel import HotelGraph
from gateway.demo.install import Install
from gateway.demo.processes import NotStarted, Process
from gateway.settings import Settings

STARTS_WITHIN = 180.0
_ENVIRONMENT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "HOME",
    "TMPDIR",
    "SYSTEMROOT",
    "PYTHONPATH",
    "VIRTUAL_ENV",
)


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket; port 0 takes a free one."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with bound:
        bound.bind((host, port))
        yield bound


def simulators(made: Install) -> Process:
    """Start the partners' stand-ins; `wait_for_ports` says when they listen."""
    made.ports_file.unlink(missing_ok=True)
    arguments = ["-m", "partners.simulators", "--config", str(made.simulators_file)]
    arguments += ["--state", str(made.sandbox / "state"), "--ports-file", str(made.ports_file)]
    return Process("simulators", [*arguments, "--tied"], made.home, tied=True)


async def wait_for_ports(made: Install, process: Process, settings: Settings) -> None:
    """Wait until the simulators listen, and connect the gateway to where they do."""
    async with asyncio.timeout(STARTS_WITHIN):
        while not made.ports_file.exists():
            process.alive()
            await asyncio.sleep(0.02)
    install.connect(made, settings, json.loads(made.ports_file.read_text(encoding="utf-8")))


async def wait_for_price_book(settings: Settings) -> None:
    """Wait until the worker has read every feed, then set the prices in others' programmes."""
    database = Database(settings.url)
    try:
        while not await install.price_book(database):  # noqa: ASYNC110 - another process works
            await asyncio.sleep(0.05)
    finally:
        await database.close()


class Stage:
    """The running demo: where it is and how to act upon its processes.

    Args:
        settings: Those of gateway and worker.
    """

    def __init__(self, settings: Settings, made: Install) -> None:
        self.settings = settings
        self.made = made
        self.processes: dict[str, Process] = {}
        self.hotel = HotelGraph(made)

    @property
    def base_url(self) -> str:
        return self.settings.base_url

    async def start(self, bound: socket.socket) -> None:
        """Start everything and wait until it answers. The simulators start while we seed.

        Raises:
            NotStarted: Something did not.
        """
        stand_ins = self.processes["simulators"] = simulators(self.made)
        if not await install.seeded(self.settings, self.made):
            raise NotStarted("the database is not empty")
        await wait_for_ports(self.made, stand_ins, self.settings)
        environment = _environment(self.settings)
        descriptor = bound.fileno()
        self.processes["gateway"] = Process(
            "gateway",
            ["-m", "gateway", "serve", "--fd", str(descriptor)],
            self.made.home,
            env=environment,
            pass_fds=(descriptor,),
        )
        self.start_worker()
        ready = asyncio.gather(
            self._ready(), wait_for_price_book(self.settings), self.hotel.start()
        )
        try:
            async with asyncio.timeout(STARTS_WITHIN):
                while not ready.done():
                    for process in self.processes.values():
                        process.alive()
                    await asyncio.wait([ready], timeout=0.1)
                await ready
        except TimeoutError as error:
            raise NotStarted(f"not ready within {STARTS_WITHIN:.0f} s: {self.made.home}") from error
        finally:
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)

    async def _ready(self) -> None:
        async with httpx2.AsyncClient(trust_env=False, timeout=STARTS_WITHIN) as http:
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    if (await http.get(f"{self.base_url}/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    def start_worker(self) -> None:
        """Start the worker, the first time or again."""
        self.processes["worker"] = Process(
            "worker",
            ["-m", "gateway", "worker"],
            self.made.home,
            env=_environment(self.settings),
        )

    def stop_worker(self) -> None:
        """Have the worker finish its round and end."""
        self.processes["worker"].end()
        self.processes["worker"].gone()

    def stop(self) -> None:
        """End every process, whatever state it is in."""
        for process in self.processes.values():
            process.end()
        self.hotel.stop()
        for process in self.processes.values():
            process.gone()


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Stage]:
    """Everything seeded and running on free loopback ports; stopped at the end.

    Args:
        settings: The demo's: its home and database.
    """
    with listening("127.0.0.1", 0) as bound:
        settings = replace(settings, host="127.0.0.1", port=bound.getsockname()[1])
        made = install.prepare(settings, port=settings.port)
        stage = Stage(settings, made)
        try:
            await stage.start(bound)
            yield stage
        finally:
            stage.stop()


def on_signals(act: Callable[[], object]) -> None:
    """Call this when the process is asked to end."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, act)


def _environment(settings: Settings) -> Mapping[str, str]:
    """GATEWAY_* as the settings say, and little else."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    default = Settings()
    changed = {
        f"GATEWAY_{item.name.upper()}": str(getattr(settings, item.name))
        for item in fields(Settings)
        if getattr(settings, item.name) != getattr(default, item.name)
    }
    return kept | changed
