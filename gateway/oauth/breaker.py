"""A circuit breaker: too many failures in a minute, and new business waits. Pure but for time."""

import time
from collections import deque
from collections.abc import Callable


class Breaker:
    """Opens at `failures`, or at `share` of at least `least` calls, within `window` seconds.

    After `pause` seconds one call at a time may probe; a success closes it again.

    Args:
        now: Monotonic seconds.

    Source: contracts §4.3 (3).
    """

    def __init__(
        self,
        *,
        failures: int = 10,
        share: float = 0.3,
        least: int = 20,
        window: float = 60.0,
        pause: float = 5.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures = failures
        self._share = share
        self._least = least
        self._window = window
        self._pause = pause
        self._now = now
        self._calls: deque[tuple[float, bool]] = deque()
        self._opened_at: float | None = None
        self._probing = False

    @property
    def open(self) -> bool:
        return self._opened_at is not None

    def admit(self) -> bool:
        """Whether a call may go out; each one let through ends in `record` or `abandon`."""
        if self._opened_at is None:
            return True
        if self._probing or self._now() - self._opened_at < self._pause:
            return False
        self._probing = True
        return True

    def record(self, *, ok: bool) -> None:
        """Count how a call that was admitted ended."""
        if self._opened_at is not None:
            self._after_probe(ok=ok)
            return
        self.note(ok=ok)

    def note(self, *, ok: bool) -> None:
        """Count a call that no breaker stops; it opens the breaker, but does not close it."""
        if self._opened_at is not None:
            return
        now = self._now()
        self._calls.append((now, ok))
        while self._calls[0][0] <= now - self._window:
            self._calls.popleft()
        failed = sum(not fine for _, fine in self._calls)
        many = len(self._calls) >= self._least and failed >= self._share * len(self._calls)
        if not ok and (failed >= self._failures or many):
            self._opened_at = now
            self._probing = False

    def abandon(self) -> None:
        """An admitted call ended without telling anything, because its caller gave up."""
        self._probing = False

    def _after_probe(self, *, ok: bool) -> None:
        if not self._probing:
            return  # Admitted before it opened: says nothing new.
        self._probing = False
        self._opened_at = None if ok else self._now()
        self._calls.clear()
