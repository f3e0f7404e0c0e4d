"""A gateway over four subgraphs, 50 connections: beside a bare answer, and beside its bare calls.

The query goes through all subgraphs and back, some 20 kB of answer. Floors and ours are served by
one process and asked in turns; the subgraphs are another, which answers from memory.
"""

import asyncio
import contextlib
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import orjson

from tests.bench.federated import BODY
from tests.bench.race import Figure, race

CONNECTIONS = 50
EACH = 10


async def run(path: Path, *, rounds: int) -> list[Figure]:
    """Figures of bursts: a burst is CONNECTIONS x EACH requests."""
    del path  # No database here.
    async with _child("subgraphs") as port, _child("gateway", f"http://127.0.0.1:{port}") as own:
        address = f"http://127.0.0.1:{own}/cpu"

        def told() -> list[float]:
            with urllib.request.urlopen(address) as answer:
                read: list[float] = orjson.loads(answer.read())
                return read

        calls = round(told()[1])
        figures = []
        for name, ours, floor, floor_is in (
            ("federation, reads shared", "/shared", "/bare", "the same bytes from memory"),
            ("federation, none shared", "/alone", "/calls", "the same calls, nothing planned"),
        ):
            note = f"ms for {CONNECTIONS * EACH} requests, {calls} subgraph calls each alone"
            figure = Figure(name, floor_is, note=note)
            figures.append(
                await race(
                    figure,
                    ours=_burst(own, ours),
                    floor=_burst(own, floor),
                    rounds=rounds,
                    times=1,
                    cpu=lambda: told()[0],
                )
            )
        return figures


@contextlib.asynccontextmanager
async def _child(*words: str) -> AsyncIterator[int]:
    """A process of `federated`; gives its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.federated", *words,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


def _burst(port: int, target: str) -> Callable[[], Awaitable[None]]:
    """CONNECTIONS clients that ask EACH times."""
    head = (
        f"POST {target} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"accept: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
    )
    sent = head.encode() + BODY

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(EACH):
            writer.write(sent)
            answered = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert answered.startswith(b"http/1.1 200"), answered
            size = int(answered.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(size)
        writer.close()

    async def burst() -> None:
        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))

    return burst
