"""The router from outside: real HTTP on both sides, every case of the federations."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.federation import config as configs
from gateway.federation.router import Router
from tests.federation import suites
from tests.federation.harness.cases import Federation
from tests.federation.harness.running import Running
from tests.federation.harness.serving import addressed, serving
from tests.integration.federation.client import ask

FEDERATIONS = suites.load()
SLICE = [
    "abstract-types", "errors-and-partial-data", "mutations", "requires-with-argument",
    "simple-interface-object",
]  # fmt: skip


@contextlib.asynccontextmanager
async def _router(path: Path) -> AsyncIterator[int]:
    """The port of a router over a supergraph's file."""
    router = Router(configs.read(None, supergraph=path, port=0))
    ready = asyncio.Event()
    task = asyncio.create_task(router.serve(ready))
    await ready.wait()
    try:
        yield router.port
    finally:
        router.stopping.set()
        await task


async def _complaints(federation: Federation, folder: Path) -> list[str]:
    found, running = [], {federation.name: Running(federation)}
    with serving(running) as base:
        path = folder / "supergraph.graphql"
        path.write_text(addressed(running[federation.name], base), encoding="utf-8")
        async with _router(path) as port:
            for case in federation.cases:
                if case.labels:
                    continue  # A router decides about labels by itself.
                now = running[federation.name] = Running(federation)
                answer = await ask(port, case.query, variables=dict(case.variables))
                found += [f"{case.name}: {one}" for one in now.complaints(case, answer)]
    return found


@pytest.mark.parametrize("name", SLICE)
async def test_a_federation_is_answered_over_http(name: str, tmp_path: Path) -> None:
    assert await _complaints(FEDERATIONS[name], tmp_path) == []


@pytest.mark.campaign
@pytest.mark.parametrize("name", sorted(set(FEDERATIONS) - set(SLICE)))
async def test_the_others_are_answered_over_http(name: str, tmp_path: Path) -> None:
    assert await _complaints(FEDERATIONS[name], tmp_path) == []
