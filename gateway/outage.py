"""A database that cannot be used is told of once, not by every loop that runs into it."""

import time
from typing import Any

from gateway import telemetry
from gateway.db import is_unavailable

log = telemetry.log(__name__)

PAUSE_SECONDS = 1.0  # between two tries at a database that cannot be used
TOLD_EVERY_SECONDS = 60.0


class Outage:
    """What the loops of one process know of the database: whether it was there when last used."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._told = 0.0
        self._failures = 0

    def failed(self, what: str, error: Exception, **about: Any) -> bool:
        """Tell of work that failed: with its traceback, or in a line now and then for an outage.

        Args:
            what: The message.

        Returns:
            Whether it failed for want of the database: pause before the next try.
        """
        if not is_unavailable(error):
            log.error(what, exc_info=error, **about)
            return False
        now = time.monotonic()
        self._failures += 1
        if self._began is None:
            self._began = now
        elif now < self._told + TOLD_EVERY_SECONDS:
            return True
        self._told = now
        log.warning(
            "the database cannot be used",
            during=what,
            kind=type(getattr(error, "orig", None) or error).__name__,
            seconds=round(now - self._began),
            failures=self._failures,
            **about,
        )
        return True

    def succeeded(self) -> None:
        """The database was used: an outage, if there was one, is over."""
        if self._began is not None:
            lasted = round(time.monotonic() - self._began, 1)
            log.info("the database can be used again", seconds=lasted, failures=self._failures)
            self._began, self._failures = None, 0
