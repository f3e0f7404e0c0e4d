"""Every metric this process tells, by name: docs/metrics.md is generated from here.

A label takes few values that we know before: a merchant's id, a verb, a state, a published code,
a root field of the schema. Never a member, an id of an object, or a text from outside.

Source: ADR on what is measured and what never leaves.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

REGISTRY = CollectorRegistry()
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TINY = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
_COSTS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric as the documentation shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    what: str


DECLARED: list[Declared] = []


def _counter(name: str, what: str, *labels: str) -> Counter:
    DECLARED.append(Declared(name, "counter", labels, what))
    return Counter(name, what, labels, registry=REGISTRY)


def _gauge(name: str, what: str, *labels: str) -> Gauge:
    DECLARED.append(Declared(name, "gauge", labels, what))
    return Gauge(name, what, labels, registry=REGISTRY)


def _histogram(name: str, what: str, *labels: str, buckets: Sequence[float] = _FAST) -> Histogram:
    DECLARED.append(Declared(name, "histogram", labels, what))
    return Histogram(name, what, labels, registry=REGISTRY, buckets=buckets)


# -- requests -----------------------------------------------------------------------------------

HTTP = _counter(
    "gateway_http_requests_total", "HTTP requests by route pattern and status.", "route", "status"
)
HTTP_SECONDS = _histogram(
    "gateway_http_request_seconds", "Time from a request's head to the answer's end.", "route"
)
GRAPHQL = _counter(
    "gateway_graphql_requests_total",
    "GraphQL requests by root field (`several` if many), role, and the first code or OK.",
    "operation",
    "role",
    "code",
)
GRAPHQL_SECONDS = _histogram(
    "gateway_graphql_request_seconds", "Time of a GraphQL request by root field.", "operation"
)
GRAPHQL_COST = _histogram(
    "gateway_graphql_cost", "Cost of the GraphQL operations that ran.", "role", buckets=_COSTS
)
REFUSALS = _counter(
    "gateway_refusals_total", "Answers that were a no, a denial or a failure, by code.", "code"
)
DROPPED = _counter(
    "gateway_connections_dropped_total",
    "Connections ended by the guard: slow `head`, `body` or `reader`, `address` or `crowd`.",
    "why",
)
CONNECTIONS = _gauge("gateway_connections", "Connections that are open.")

# -- partners -----------------------------------------------------------------------------------

PARTNER_CALLS = _counter(
    "gateway_partner_calls_total",
    "Calls of a partner's verbs by outcome: ok, rejected, unavailable, unknown, failed.",
    "merchant",
    "verb",
    "outcome",
)
PARTNER_SECONDS = _histogram(
    "gateway_partner_call_seconds", "Time of a partner's verb.", "merchant", "verb"
)
BREAKER_OPEN = _gauge(
    "gateway_partner_breaker_open", "1 while no new business goes to the partner.", "merchant"
)

# -- redemptions --------------------------------------------------------------------------------

REDEMPTIONS = _gauge(
    "gateway_redemptions", "Redemptions in a state that is not final, or for a person.", "state"
)
MOVES = _counter("gateway_redemption_moves_total", "Steps of redemptions into a state.", "state")
DOUBTS = _gauge("gateway_in_doubt", "Redemptions IN_DOUBT at a merchant.", "merchant")
DOUBT_OLDEST = _gauge("gateway_in_doubt_oldest_seconds", "Age of the oldest of them.", "merchant")
DOUBT_P99 = _gauge(
    "gateway_in_doubt_p99_seconds", "Age that 99 % of them are not above.", "merchant"
)
DUE = _gauge("gateway_redemptions_due", "Redemptions that the worker is to look at.")
DUE_AGE = _gauge("gateway_redemptions_due_oldest_seconds", "How long the oldest has been due.")
OUTBOX = _gauge("gateway_outbox_calls", "Partner calls queued and without an answer.")
OUTBOX_AGE = _gauge("gateway_outbox_oldest_seconds", "Age of the oldest of them.")
EVENTS_WAITING = _gauge("gateway_partner_events", "Partners' webhooks not yet applied.")
EVENTS_AGE = _gauge("gateway_partner_events_oldest_seconds", "Age of the oldest of them.")
EVENTS_ASIDE = _gauge(
    "gateway_partner_events_set_aside",
    "Partners' webhooks of the last 7 days that could not be applied, or cannot be true.",
)

# -- work behind the requests -------------------------------------------------------------------

JOBS = _gauge("gateway_jobs", "Jobs by name and state: DUE or DEAD.", "name", "state")
JOBS_AGE = _gauge("gateway_jobs_oldest_seconds", "How long the oldest job has been due.", "name")
JOB_RUNS = _counter(
    "gateway_job_runs_total", "Jobs run, by name and whether they did it.", "name", "outcome"
)
WORKER_BEAT = _gauge("gateway_worker_beat_seconds", "Time since the worker's last round here.")
SEAL_LAG = _gauge("gateway_seal_lag", "Journals that are not in the chain yet (at most 10000).")
SEAL_AGE = _gauge("gateway_seal_lag_seconds", "Age of the oldest of them.")
SEAL_HEAD = _gauge("gateway_seal_head", "Number of the newest link of the chain.")
INVARIANTS_BROKEN = _gauge(
    "gateway_invariants_broken", "1 if the invariant did not hold when a worker checked it.", "id"
)
INVARIANTS_AGE = _gauge(
    "gateway_invariants_checked_seconds", "Since a worker has checked invariants."
)
WINDOW_AGE = _gauge(
    "gateway_settlement_window_age_seconds",
    "Since the open window began, or since the oldest of another state was to be cut.",
    "state",
)
WEBHOOKS = _counter(
    "gateway_webhook_deliveries_total",
    "Webhooks sent out: ok, refused, no_answer, failed.",
    "merchant",
    "outcome",
)
WEBHOOK_SECONDS = _histogram("gateway_webhook_seconds", "Time of one delivery.", "merchant")

# -- the process --------------------------------------------------------------------------------

POOL_USED = _gauge("gateway_database_connections_used", "Database connections in use.")
POOL_WAIT = _histogram(
    "gateway_database_wait_seconds",
    "Wait for a connection; on SQLite for a turn to write, too.",
    "use",
    buckets=_TINY,
)
LOOP_LAG = _histogram(
    "gateway_event_loop_lag_seconds", "How late a timer of the event loop was.", buckets=_TINY
)
SCRAPE_FAILED = _gauge(
    "gateway_database_figures_failed", "1 while the figures of the database cannot be read."
)

for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=REGISTRY)


def text() -> bytes:
    """All metrics, as Prometheus reads them."""
    return generate_latest(REGISTRY)


@contextmanager
def timed(histogram: Histogram, *labels: str) -> Iterator[None]:
    """Observe how long the block takes, in seconds."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - began
        (histogram.labels(*labels) if labels else histogram).observe(seconds)


def replace(gauge: Gauge, values: dict[tuple[str, ...], float]) -> None:
    """Set a gauge's labelled values; what is not named is 0, so that an alert can end."""
    for labels in {*_known(gauge), *values}:
        gauge.labels(*labels).set(values.get(labels, 0))


def _known(gauge: Gauge) -> Iterator[tuple[str, ...]]:
    for family in gauge.collect():
        for sample in family.samples:
            yield tuple(sample.labels.values())
