"""Which trace this runs in: W3C trace context always, OpenTelemetry spans when they are on.

A caller's `traceparent` is continued, else a new trace begins; partners get it with each call.
Nothing else is taken over or passed on: no `tracestate`, no baggage, for they may hold anything.
Without `start` a span costs one comparison, and the packages of the `otel` extra are not needed.

Source: W3C Trace Context; ADR on what is measured and what never leaves.
"""

import contextlib
import re
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SCOPE = "coalition-gateway"
_COLLECTOR_SECONDS = 2  # What a collector that hangs may add to the end of a process.


@dataclass(frozen=True, slots=True)
class Trace:
    """A place in a trace: 32 and 16 hexadecimal digits; whether the caller records it."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def header(self) -> str:
        """As the value of `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


_here: ContextVar[Trace | None] = ContextVar("trace", default=None)


class Spans:
    """Opens spans with OpenTelemetry; there is none while tracing is off."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace  # noqa: PLC0415  # The extra may not be installed.

        self._api = trace
        self._provider = provider
        self._tracer = provider.get_tracer(_SCOPE)

    @contextlib.contextmanager
    def open(
        self, name: str, kind: str, parent: Trace | None, attributes: dict[str, Any]
    ) -> Iterator[Any]:
        """A span under `parent`, or under the one this runs in; an exception marks it failed.

        Only the exception's class is kept: its text may name a person.
        """
        api = self._api
        above = parent or _here.get()
        span = self._tracer.start_span(
            name,
            context=self._context(above) if above else None,
            kind=api.SpanKind[kind.upper()],
            attributes={key: value for key, value in attributes.items() if value is not None},
        )
        mine = span.get_span_context()
        token = _here.set(
            Trace(f"{mine.trace_id:032x}", f"{mine.span_id:016x}", mine.trace_flags.sampled)
        )
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(api.Status(api.StatusCode.ERROR))
            raise
        finally:
            _here.reset(token)
            span.end()

    def _context(self, above: Trace) -> Any:
        api = self._api
        flags = api.TraceFlags(api.TraceFlags.SAMPLED if above.sampled else 0)
        remote = api.SpanContext(
            int(above.trace_id, 16), int(above.span_id, 16), is_remote=True, trace_flags=flags
        )
        return api.set_span_in_context(api.NonRecordingSpan(remote))

    def close(self) -> None:
        """Send what is still to be sent."""
        self._provider.shutdown()


_spans: Spans | None = None


def start(provider: Any) -> None:
    """Open spans from now on, with this provider of OpenTelemetry's SDK."""
    global _spans  # noqa: PLW0603  # One process, one destination.
    _spans = Spans(provider)


def stop() -> None:
    """Open no more spans, and send those that ended."""
    global _spans
    ended, _spans = _spans, None
    if ended is not None:
        ended.close()


def export_to(endpoint: str, *, service: str) -> None:
    """Send spans to an OTLP/HTTP collector; does nothing without an endpoint.

    Args:
        endpoint: URL of its traces, as in `http://127.0.0.1:4318/v1/traces`.
        service: Which process this is: gateway or worker.

    Raises:
        ValueError: The packages of the `otel` extra are not installed.
    """
    if not endpoint:
        return
    try:  # The extra may not be installed.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - see above
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - see above
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - see above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - see above
    except ImportError as error:
        raise ValueError("GATEWAY_OTEL_ENDPOINT: install coalition-gateway[otel]") from error
    provider = TracerProvider(resource=Resource.create({"service.name": f"{_SCOPE}-{service}"}))
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_COLLECTOR_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    start(provider)


def on() -> bool:
    """Whether spans are recorded."""
    return _spans is not None


def current() -> Trace | None:
    """The trace this runs in."""
    return _here.get()


def header() -> str | None:
    """The `traceparent` to hand on; None outside of a trace."""
    here = _here.get()
    return here.header if here else None


def read(header: str | None) -> Trace | None:
    """A caller's `traceparent`; None if there is none or it cannot be read."""
    found = _HEADER.fullmatch(header.strip()) if header else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if (
        version == "ff"
        or (version == "00" and more)
        or not (int(trace_id, 16) and int(span_id, 16))
    ):
        return None
    return Trace(trace_id, span_id, bool(int(flags, 16) & 1))


def span(name: str, kind: str = "internal", **attributes: Any) -> AbstractContextManager[Any]:
    """A span of the present trace while the block runs; nothing when tracing is off.

    Args:
        kind: internal, server, client, producer or consumer.
        attributes: Never a person's data, a token or a key; None is left out.
    """
    if _spans is None:
        return _NOTHING
    return _spans.open(name, kind, None, attributes)


@contextlib.contextmanager
def entering(
    parent: Trace | None, name: str, kind: str = "server", **attributes: Any
) -> Iterator[Any]:
    """Run in the trace of `parent`, or in a new one; always gives log lines a trace id."""
    if _spans is not None:
        with _spans.open(name, kind, parent, attributes) as opened:
            yield opened
        return
    trace_id = parent.trace_id if parent else secrets.token_hex(16)
    sampled = parent.sampled if parent else False
    token = _here.set(Trace(trace_id, secrets.token_hex(8), sampled))
    try:
        yield None
    finally:
        _here.reset(token)


_NOTHING: AbstractContextManager[Any] = contextlib.nullcontext()
