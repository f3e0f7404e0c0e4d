"""What this process tells about itself: logs, metrics, traces; and what it never tells.

    logs.py     JSON lines with request and trace ids; secrets hidden by name and by shape
    metrics.py  every metric by name, in one place, with its help text
    tracing.py  W3C trace context always; OpenTelemetry spans where its packages are installed

Source: ADR on what is measured and what never leaves.
"""

from gateway.telemetry.logs import (
    HIDDEN,
    conceal,
    configure,
    hide,
    log,
    log_uncaught,
    redact,
    request,
    request_id,
)

__all__ = [
    "HIDDEN",
    "conceal",
    "configure",
    "hide",
    "log",
    "log_uncaught",
    "redact",
    "request",
    "request_id",
]
