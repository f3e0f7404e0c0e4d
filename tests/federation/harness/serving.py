"""Federations over real HTTP, for gateways that are looked at from outside."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.federation.harness.running import Running


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    running: dict[str, Running]
    lock: threading.Lock

    def do_POST(self) -> None:
        """`/FEDERATION/SUBGRAPH` answers a GraphQL request."""
        body = self.rfile.read(int(self.headers["content-length"]))
        federation, subgraph = self.path.strip("/").split("/")
        sent = json.loads(body)
        with self.lock:
            answer = (
                self.running[federation]
                .subgraphs[subgraph]
                .answer(
                    sent["query"],
                    sent.get("variables"),
                    sent.get("operationName"),
                    {key.lower(): value for key, value in self.headers.items()},
                )
            )
        self._send(json.dumps(answer).encode())

    def _send(self, payload: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *arguments: Any) -> None:
        """Requests are in the federation's own log."""


@contextlib.contextmanager
def serving(running: dict[str, Running], port: int = 0) -> Iterator[str]:
    """The base address under which federations' subgraphs answer; `running` may change."""
    handler = type("Handler", (_Handler,), {"running": running, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def addressed(running: Running, base: str) -> str:
    """A federation's supergraph with the addresses its subgraphs answer at."""
    sdl = running.federation.supergraph
    for name in running.subgraphs:
        sdl = sdl.replace(
            f'"http://{name}.test/graphql"', f'"{base}/{running.federation.name}/{name}"'
        )
    return sdl
