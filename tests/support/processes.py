"""Processes of ours that can be killed and started again at little cost.

One process has imported everything and forks the others; each runs the real entry point with an
environment of its own. What a child says goes to `<home>/<name>.log`.
"""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = (
    *("gateway.cli", "gateway.demo.serving", "gateway.demo.working"),
    *("partners.graphql", "partners.cinemas", "partners.hotels", "partners.rides"),
    *("partners.car_shops", "partners.simulators.__main__", "partners.simulators.generic"),
    *(f"partners.simulators.{kind}" for kind in ("cinemas", "hotels", "rides", "car_shops")),
)
_forks = multiprocessing.get_context("forkserver")


class Child:
    """A running program of ours: `gateway` or `simulators`."""

    def __init__(
        self, name: str, program: str, arguments: Sequence[str], env: Mapping[str, str], home: Path
    ) -> None:
        self.name, self.log = name, home / f"{name}.log"
        _import_everything()
        given = (program, list(arguments), dict(env), str(self.log))
        self._process = _forks.Process(target=_run, args=given, daemon=True)
        self._process.start()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.join()

    def end(self) -> None:
        """SIGTERM: it finishes what it does and ends."""
        self._process.terminate()

    def died_of(self, seconds: float) -> signal.Signals | int | None:
        """The signal that ended it, or its exit code; None while it runs after that long."""
        self._process.join(seconds)
        code = self._process.exitcode
        return signal.Signals(-code) if code is not None and code < 0 else code

    def said(self) -> str:
        """The end of what it has logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:]


def reserve() -> socket.socket:
    """A free loopback port that nobody else is given, while our processes come and go on it."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    return bound


def _import_everything() -> None:
    """Have the forking process import our programs once, when it is first needed."""
    _forks.set_forkserver_preload([*PROGRAMS, __name__])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def _run(program: str, arguments: list[str], env: dict[str, str], log: str) -> None:
    """In the child: become that program."""
    os.setsid()
    said = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    for stream in (1, 2):
        os.dup2(said, stream)
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        del os.environ[name]
    os.environ.update(env)
    sys.argv = [program, *arguments]
    if program == "gateway":
        from gateway.cli import main

        main()
    else:
        from partners.simulators.__main__ import main as simulate

        simulate(arguments)
