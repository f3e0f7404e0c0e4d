"""A gateway or worker whose machine has another time than ours, and whose clock may jump."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Skewed:
    """A program of ours under libfaketime; its monotonic clock runs as ever.

    Args:
        seconds: What its wall clock is ahead of ours.
    """

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], home: Path, seconds: int
    ) -> None:
        self._offset = home / "clock"
        self.set(seconds)
        self.log = home / "skewed.log"
        found = importlib.util.find_spec("libfaketime")
        assert found
        assert found.origin
        (library,) = Path(found.origin).parent.rglob("libfaketime.so.1")
        mine = {name: text for name, text in os.environ.items() if not name.startswith("GATEWAY_")}
        faked = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(self._offset)}
        faked |= {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        with self.log.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", *arguments],
                env=mine | faked | dict(env),
                cwd=ROOT,
                stdout=said,
                stderr=said,
            )

    def set(self, seconds: int) -> None:
        """Let its clock jump."""
        made = self._offset.with_suffix(".new")
        made.write_text(f"{seconds:+d}\n", encoding="utf-8")
        made.replace(self._offset)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def died_of(self, seconds: float) -> signal.Signals | int | None:
        """The signal that ended it, or its exit code; None while it runs."""
        code = self._process.poll()
        return signal.Signals(-code) if code is not None and code < 0 else code

    def said(self) -> str:
        """The end of what it has logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:]
