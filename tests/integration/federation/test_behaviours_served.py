"""Every behaviour of federation once more, through the router over real HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from gateway.federation import config as configs
from gateway.federation.router import Router
from tests.federation import suites
from tests.federation.harness.running import Running
from tests.federation.harness.serving import addressed, serving
from tests.integration.federation.client import connected
from tests.support.subgraphs import SUPERGRAPH

FEDERATIONS = suites.load()


@pytest.fixture(scope="module")
def running() -> dict[str, Running]:
    return {}


@pytest.fixture(scope="module")
def base(running):
    with serving(running) as address:
        yield address


@pytest.fixture
async def router(tmp_path) -> AsyncIterator[Router]:
    path = tmp_path / "supergraph.graphql"
    path.write_text(SUPERGRAPH, encoding="utf-8")
    made = Router(configs.read(None, supergraph=path, port=0))
    ready = asyncio.Event()
    task = asyncio.create_task(made.serve(ready))
    await ready.wait()
    yield made
    made.stopping.set()
    await task


@pytest.mark.parametrize("name", sorted(FEDERATIONS))
async def test_a_federation_is_answered_over_http_as_in_process(router, running, base, name):
    federation = FEDERATIONS[name]
    found = {}
    for case in federation.cases:
        if case.labels:
            continue
        up = running[federation.name] = Running(federation)
        router.engine.swap(router._load(addressed(up, base).encode()))
        asked = {"query": case.query, "variables": dict(case.variables)}
        asked |= {"operationName": case.operation} if case.operation else {}
        async with connected(router.port) as wire:
            wire.post(asked)
            answer = json.loads((await wire.answer())[2])
        if complaints := up.complaints(case, answer):
            found[case.name] = complaints
    assert found == {}
