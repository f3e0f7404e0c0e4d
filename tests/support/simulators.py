"""Stand-in merchants in a process of their own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "partners.simulators"]


@dataclass(slots=True)
class Running:
    """A running `python -m partners.simulators`."""

    process: subprocess.Popen[bytes]
    ports: Mapping[str, Any]
    seconds: float  # from nothing to listening


@contextmanager
def running(document: Mapping[str, Any], folder: Path) -> Iterator[Running]:
    """Run simulators with this configuration; their state is kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")
    ports = folder / "ports.json"
    ports.unlink(missing_ok=True)
    command = [*COMMAND, "--config", str(folder / "config.json"), "--state", str(folder / "state")]
    command += ["--ports-file", str(ports)]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while not ports.exists():
            assert process.poll() is None, "the simulators did not start"
            assert time.perf_counter() - began < 120, "the simulators do not listen"
            time.sleep(0.02)
        read = json.loads(ports.read_text(encoding="utf-8"))
        yield Running(process, read, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(60)
