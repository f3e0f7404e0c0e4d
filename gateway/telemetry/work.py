"""What is told of work behind the requests: jobs, webhooks, steps, and the worker's pulse."""

import contextlib
import time
from collections.abc import Callable, Iterator

from gateway.errors import NoAnswer
from gateway.telemetry import metrics, tracing

_beat_at: float | None = None


def beat() -> None:
    """The worker of this process has begun a round."""
    global _beat_at  # noqa: PLW0603  # One worker a process.
    _beat_at = time.monotonic()


def pulse() -> float | None:
    """Seconds since the worker's last round; None before its first."""
    return None if _beat_at is None else time.monotonic() - _beat_at


@contextlib.contextmanager
def job(name: str, *, traceparent: str | None = None) -> Iterator[None]:
    """Around one run of a job: its span, under the request that queued it, and its outcome."""
    outcome = "failed"
    try:
        with tracing.entering(tracing.read(traceparent), f"job {name}", "consumer"):
            yield
        outcome = "done"
    except NoAnswer:
        outcome = "no_answer"
        raise
    finally:
        metrics.JOB_RUNS.labels(name, outcome).inc()


@contextlib.contextmanager
def delivery(merchant: str) -> Iterator[Callable[[str], None]]:
    """Around one delivery of a webhook; call what it gives with `ok`, `refused` or `no_answer`."""
    outcome = "failed"

    def ended(how: str) -> None:
        nonlocal outcome
        outcome = how

    try:
        with (
            tracing.entering(tracing.current(), "webhook", "producer", merchant=merchant),
            metrics.timed(metrics.WEBHOOK_SECONDS, merchant),
        ):
            yield ended
    finally:
        metrics.WEBHOOKS.labels(merchant, outcome).inc()
