"""Around every HTTP request: its trace, its id in the log lines, how long it took, its faults."""

import time

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import telemetry
from gateway.api import unavailable
from gateway.telemetry import metrics, tracing

CLIENT_CLOSED = 499  # It went away while it was still sending: nobody is there to be answered.


class Observed:
    """An ASGI application that is traced and measured. WebSockets pass, with a trace."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        parent = tracing.read(_header(scope, b"traceparent"))
        with tracing.entering(parent, "request") as span, telemetry.request():
            try:
                await self.app(scope, receive, answer)
            except ClientDisconnect:
                status = status or CLIENT_CLOSED
            except Exception as error:
                if scope["type"] != "http" or status:  # What has begun cannot be another answer.
                    raise
                await unavailable.hidden(Request(scope), error)(scope, receive, answer)
            finally:
                route, status = getattr(scope.get("route"), "path", "unmatched"), status or 500
                if span is not None:
                    span.update_name(f"{_method(scope)} {route}")
                    span.set_attribute("http.response.status_code", status)
                if scope["type"] == "http":
                    metrics.HTTP.labels(route, str(status)).inc()
                    metrics.HTTP_SECONDS.labels(route).observe(time.perf_counter() - began)


def _header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def _method(scope: Scope) -> str:
    method = scope.get("method", "WS")
    return method if method in ("GET", "POST", "HEAD", "OPTIONS", "WS") else "OTHER"
