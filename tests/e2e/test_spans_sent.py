"""Spans of gateway and worker reach a collector over OTLP/HTTP; one that hangs holds nothing up."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support import box as boxes
from tests.support.box import Box
from tests.support.story import Buy, Story

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

TEA = Buy(
    "M06", "CW-01", "mbr_demo_15", ({"programme": "P-LL", "points": 600}, {"programme": "P-CW"})
)


class Collector(ThreadingHTTPServer):
    """Keeps what it is sent; while `hangs` is set it answers nobody."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receive)
        self.requests: list[ExportTraceServiceRequest] = []
        self.hangs = threading.Event()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def spans(self) -> list[tuple[str, Any]]:
        """Which service, and the span."""
        return [
            (resource.resource.attributes[n].value.string_value, span)
            for request in self.requests
            for resource in request.resource_spans
            for n, attribute in enumerate(resource.resource.attributes)
            if attribute.key == "service.name"
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Receive(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        """Take one request of `ExportTraceService`."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        if self.server.hangs.is_set():
            self.server.over.wait()
            return
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as made:
        running = threading.Thread(target=made.serve_forever)
        running.start()
        yield made
        made.over.set()
        made.shutdown()
        running.join()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def box(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> AsyncIterator[Box]:
    async with boxes.running(tmp_path_factory.mktemp("sandbox")) as made:
        made.environment = {"GATEWAY_OTEL_ENDPOINT": collector.url}
        await made.start_gateway()
        made.start_worker()
        yield made


async def test_a_redemption_that_the_worker_ends_is_one_trace_at_the_collector(
    box: Box, collector: Collector
) -> None:
    story = await Story.begin(box, TEA)
    mutation, asked = await story.prepared("confirm")
    await box.control.clear(TEA.merchant)
    await box.control.fault(TEA.merchant, "confirm_times_out_before_effect", count=1)
    await story.ask(mutation, **asked, idempotencyKey="spans-1")
    await story.reaches("COMMITTED")
    for name in ("gateway", "worker"):
        box.children[name].end()
        await box.ended(name)
    found = collector.spans()
    assert {service for service, _ in found} == {
        "coalition-gateway-gateway",
        "coalition-gateway-worker",
    }
    both = [
        {span.trace_id for service, span in found if service == f"coalition-gateway-{name}"}
        for name in ("gateway", "worker")
    ]
    (shared,) = both[0] & both[1]
    trace = [span for _, span in found if span.trace_id == shared]
    ids = {span.span_id for span in trace}
    assert len([span for span in trace if span.parent_span_id not in ids]) == 1
    assert not [span for span in trace if b"mbr_demo" in span.SerializeToString()]


async def test_a_collector_that_hangs_holds_up_neither_requests_nor_the_end(
    box: Box, collector: Collector
) -> None:
    collector.hangs.set()
    await box.start_gateway()
    box.start_worker()
    story = await Story.begin(box, TEA)
    mutation, asked = await story.prepared("confirm")
    before = len(collector.requests)
    answer = await story.ask(mutation, **asked, idempotencyKey="spans-2")
    assert answer["state"] == "COMMITTED"
    begun = time.monotonic()
    for name in ("gateway", "worker"):
        box.children[name].end()
        await box.ended(name)
    assert time.monotonic() - begun < 12
    assert len(collector.requests) > before
