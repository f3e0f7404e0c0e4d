"""Trace context: read, continued, handed on; spans only when they are on."""

import io
import json

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import telemetry
from gateway.telemetry import tracing

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01"


def test_a_callers_trace_is_read() -> None:
    assert tracing.read(HEADER) == tracing.Trace(TRACE, SPAN, sampled=True)
    assert tracing.read(f"00-{TRACE}-{SPAN}-00") == tracing.Trace(TRACE, SPAN, sampled=False)
    assert tracing.read(f"cc-{TRACE}-{SPAN}-01-what-comes-later") is not None


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01\n{{}}",
    ],
)
def test_what_is_no_trace_is_none(header: str | None) -> None:
    assert tracing.read(header) is None


def test_without_spans_the_trace_goes_on_all_the_same() -> None:
    assert tracing.header() is None
    with tracing.entering(tracing.read(HEADER), "request"):
        here = tracing.current()
        assert here is not None
        assert (here.trace_id, here.sampled) == (TRACE, True)
        assert here.span_id != SPAN
        with tracing.span("inside") as span:
            assert span is None
            assert tracing.header() == here.header
    assert tracing.current() is None
    with tracing.entering(None, "request"):
        first = tracing.current()
    with tracing.entering(None, "request"):
        assert tracing.current() != first


def test_spans_are_children_of_the_caller(exported: InMemorySpanExporter) -> None:
    with tracing.entering(tracing.read(HEADER), "request"), tracing.span("inside", merchant="M05"):
        assert (tracing.current() or tracing.Trace("", "")).trace_id == TRACE
    inside, request = exported.get_finished_spans()
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == SPAN
    assert inside.parent is not None
    assert inside.parent.span_id == request.context.span_id
    assert dict(inside.attributes or {}) == {"merchant": "M05"}


def test_a_failed_span_keeps_the_errors_kind_and_not_its_words(
    exported: InMemorySpanExporter,
) -> None:
    with pytest.raises(ValueError, match="13800000000"), tracing.span("step"):
        raise ValueError("13800000000")
    (span,) = exported.get_finished_spans()
    assert not span.status.is_ok
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ValueError"
    assert "13800000000" not in span.to_json()


def test_log_lines_name_their_trace() -> None:
    stream = io.StringIO()
    telemetry.configure("INFO", stream=stream)
    with tracing.entering(tracing.read(HEADER), "request"), telemetry.request() as request_id:
        telemetry.log("t").info("inside")
    telemetry.log("t").info("outside")
    inside, outside = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (inside["trace_id"], inside["request_id"]) == (TRACE, request_id)
    assert "trace_id" not in outside
