"""The router on a deep query over four subgraphs, beside two floors in the same run.

Each is a process of its own that 50 connections ask at once, in turns: the router, a server whose
answer is ready, and one that makes the same subgraph calls without a plan. With identical reads
shared and without. Processor time per query says more than queries a second where the machine is
busy with other things.
"""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gateway.federation.composition import compose
from gateway.federation.engine import Engine
from gateway.federation.machinery import Planned
from gateway.federation.requests import Request
from gateway.federation.services import Answer, SubgraphRequest
from gateway.federation.supergraph import Supergraph
from gateway.federation.transport import HttpService, Transport
from tests.bench.routed import QUERY, SDL, subgraph
from tests.bench.server import server_cpu

CONNECTIONS = 50
QUERIES = 20  # of each connection, a round
BODY = json.dumps({"query": QUERY}).encode()
Row = dict[str, float | int | str]


@dataclass
class Way:
    """A process that answers the query, and what it took."""

    name: str
    port: int
    pid: int
    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0
    asked: int = 0

    def row(self) -> Row:
        took = sorted(self.seconds)
        return {
            "answered by": self.name,
            "queries": len(took),
            "per_second": round(len(took) / self.wall),
            "p50_ms": round(took[len(took) // 2] * 1e3, 1),
            "p95_ms": round(took[int(0.95 * len(took))] * 1e3, 1),
            "cpu_us": round(self.cpu / len(took) * 1e6),
            "subgraph_requests": round(self.asked / len(took), 2),
        }


async def _connection(port: int, queries: int, expected: bytes | None) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    sent = f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY
    took = []
    for _ in range(queries):
        began = time.perf_counter()
        writer.write(sent)
        answered = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answered)
        assert length
        body = await reader.readexactly(int(length[1]))
        took.append(time.perf_counter() - began)
        assert expected is None or body == expected, body[:500]
    writer.close()
    return took


async def _asked(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /asked HTTP/1.1\r\nconnection: close\r\n\r\n")
    found = (await reader.read()).rpartition(b"\r\n")[2]
    writer.close()
    return int(found)


async def _round(way: Way, subgraphs: int, expected: bytes, *, kept: bool) -> None:
    asked, cpu, began = await _asked(subgraphs), server_cpu(way.pid), time.perf_counter()
    each = (_connection(way.port, QUERIES, expected) for _ in range(CONNECTIONS))
    runs = await asyncio.gather(*each)
    if kept:
        way.wall += time.perf_counter() - began
        way.cpu += server_cpu(way.pid) - cpu
        way.asked += await _asked(subgraphs) - asked
        way.seconds += [one for run in runs for one in run]


@contextlib.contextmanager
def _process(*arguments: str) -> Iterator[tuple[int, int]]:
    """A process that tells its port; gone afterwards."""
    told = subprocess.Popen(
        [sys.executable, "-m", *arguments], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert told.stdout
        for line in told.stdout:
            if found := re.fullmatch(r"(?:.*http://127.0.0.1:)?(\d+)(?:/graphql)?\s*", line):
                yield int(found[1]), told.pid
                return
        raise AssertionError(f"{arguments} did not start")
    finally:
        told.kill()
        told.communicate()


class _Recording:
    """A service that notes what it is asked."""

    def __init__(self, service: HttpService, calls: list[SubgraphRequest]) -> None:
        self._service, self._calls = service, calls

    async def fetch(self, request: SubgraphRequest) -> Answer:
        self._calls.append(request)
        return await self._service.fetch(request)


async def _recorded(sdl: str) -> dict[str, Any]:
    """The router's answer, and the calls it takes, each with those it waits for."""
    supergraph = Supergraph.parse(sdl)
    calls: list[SubgraphRequest] = []
    async with Transport() as transport:
        services = {
            name: _Recording(transport.service(graph.url), calls)
            for name, graph in supergraph.graphs.items()
        }
        engine = Engine(Planned(supergraph, services))
        request = Request(QUERY)
        ready = await engine.ready(request)
        result = await engine.run(request, ready)
    plan = {fetch.text: fetch for fetch in ready.runnable.plan.fetches}
    numbers = {plan[call.text].number: place for place, call in enumerate(calls)}
    told = [
        {
            "service": call.service, "url": supergraph.graphs[call.service].url, "text": call.text,
            "variables": call.variables,
            "after": [numbers[other] for other in plan[call.text].after],
        }
        for call in calls
    ]  # fmt: skip
    return {"answer": result.body().decode(), "calls": told}


@contextlib.asynccontextmanager
async def _ways(base: str, folder: Path) -> AsyncIterator[tuple[list[Way], bytes]]:
    sdl = compose([(name, f"{base}/{name}", subgraph(name)[0]) for name in SDL]).sdl
    supergraph, told = folder / "supergraph.graphql", folder / "told.json"
    supergraph.write_text(sdl, encoding="utf-8")
    recorded = await _recorded(sdl)
    told.write_text(json.dumps(recorded), encoding="utf-8")
    served = ("gateway", "router", "--supergraph", str(supergraph), "--port", "0")
    floor = ("tests.bench.routed",)
    with contextlib.ExitStack() as stack:
        ways = [
            Way(name, *stack.enter_context(_process(*arguments)))
            for name, arguments in (
                ("a ready answer", (*floor, "bare", str(told))),
                ("same calls, shared", (*floor, "calls", str(told))),
                ("router", served),
                ("same calls, not shared", (*floor, "alone", str(told))),
                ("router, not sharing", (*served, "--no-sharing")),
            )
        ]
        yield ways, recorded["answer"].encode()


async def run(*, rounds: int) -> list[Row]:
    """The figures; every answer is compared with the one that is expected."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _process("tests.bench.routed", "subgraphs") as (port, _),
    ):
        async with _ways(f"http://127.0.0.1:{port}", Path(folder)) as (ways, expected):
            for number in range(rounds + 1):
                for way in ways:
                    await _round(way, port, expected, kept=number > 0)
    return [way.row() for way in ways]


def print_rows(console: Console, rows: list[Row]) -> None:
    table = Table(title=f"A deep query over four subgraphs, {CONNECTIONS} connections")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name[0] == "a" else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)


if __name__ == "__main__":
    print_rows(Console(), asyncio.run(run(rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 3)))
