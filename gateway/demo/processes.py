"""A child process of the demo: started with a log file, watched, ended."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STOPS_WITHIN = 30.0  # Longer than the grace a process gives what it has begun.


class NotStarted(Exception):
    """A process ended or did not answer in time; says which and where its log is."""


class Process:
    """A child process with a log file.

    Args:
        program: None: the Python that runs us.
        tied: Its standard input ends when we do, however we end.
        more_environment: Beside ours.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        home: Path,
        *,
        program: str | None = None,
        tied: bool = False,
        more_environment: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        self.name = name
        self.log = home / f"{name}.log"
        if more_environment:
            more["env"] = dict(os.environ) | dict(more_environment)
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(  # noqa: S603  # Our own program.
                [program or sys.executable, *arguments],
                stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the supervisor, which then stops them.
                **more,
            )

    def alive(self) -> None:
        """Check that it runs.

        Raises:
            NotStarted: It has ended.
        """
        if (code := self._popen.poll()) is not None:
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise NotStarted(f"{self.name} ended with {code}; {self.log}:\n{tail}")

    def end(self) -> None:
        """Ask it to end."""
        if self._popen.poll() is None:
            self._popen.terminate()

    def gone(self) -> None:
        """Wait until it has ended; kill it if it does not."""
        try:
            self._popen.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        if self._popen.stdin:
            self._popen.stdin.close()
