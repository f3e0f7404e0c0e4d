"""The catalog query: 20 offers with 3 prices each over HTTP, one client that waits."""

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import served
from tests.bench.race import Figure, race


def _spent(port: int) -> float:
    """Processor seconds of the serving process."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/cpu")
        return float(connection.getresponse().read())


class Client:
    """One kept-alive connection that posts the same query again and again."""

    def __init__(self, port: int, path: str, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._path = path
        self._body = served.body()
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    async def post(self) -> bytes:
        self._connection.request("POST", self._path, self._body, self._headers)
        answer = self._connection.getresponse()
        found = answer.read()
        assert answer.status == 200, found
        return found


@contextlib.contextmanager
def _serving(address: str, home: Path) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.bench.served", address, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(timeout=30)


async def run(address: str, home: Path, *, rounds: int) -> list[Figure]:
    """Time the query; the server is a process of its own, so its client costs it nothing."""
    with _serving(address, home) as facts:
        ours = Client(facts["ours"], "/graphql", facts["token"])
        floor = Client(facts["floor"], "/statements", facts["token"])
        alone = Client(facts["floor"], "/alone", facts["token"])
        assert len(await ours.post()) == len(await floor.post())
        figure = Figure(
            "catalog: 20 offers × 3 prices",
            f"the same statements by {facts['driver']},"
            " and the same bytes from a bare Starlette route",
            note=f"{facts['statements']} statements, {facts['bytes']} bytes.",
        )
        return [
            await race(
                figure,
                ours=ours.post,
                floor=floor.post,
                others={"the bytes alone": alone.post},
                rounds=rounds,
                times=20,
                cpu=lambda: _spent(facts["floor"]),
            )
        ]
