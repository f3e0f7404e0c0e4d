"""Routers in this process, over subgraphs in this process, all on real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.federation import config as configs
from gateway.federation.router import Router
from tests.support.subgraphs import Subgraphs, subgraphs

Start = Callable[..., contextlib.AbstractAsyncContextManager[Router]]


@pytest.fixture
async def graphs() -> AsyncIterator[Subgraphs]:
    async with subgraphs() as made:
        yield made


@pytest.fixture
def start(graphs: Subgraphs, tmp_path: Path) -> Start:
    """A function that starts a router over the subgraphs, with some configuration."""

    @contextlib.asynccontextmanager
    async def started(written: str = "", **given: Any) -> AsyncIterator[Router]:
        path = tmp_path / "supergraph.graphql"
        path.write_text(graphs.supergraph, encoding="utf-8")
        file = tmp_path / "router.yaml"
        file.write_text(f"port: 0\n{written}", encoding="utf-8")
        router = Router(configs.read(file, **given))
        ready = asyncio.Event()
        task = asyncio.create_task(router.serve(ready))
        await ready.wait()
        try:
            yield router
        finally:
            router.stopping.set()
            await task

    return started
