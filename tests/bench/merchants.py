"""A query with a merchant's fields over HTTP, beside the same call to the merchant alone.

The merchant's subgraph is a process of its own; gateway and client are this one, so the floor is
what is left of a query without the gateway: one call to the merchant, with its token.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2

from gateway.federation.services import SubgraphRequest
from gateway.federation.transport import Transport
from partners import Auth, Connection
from tests.bench import place
from tests.bench.race import Figure, race
from tests.support.gateway import running
from tests.support.merchant_graph import CLIENT, SDL, SECRET, TOKEN
from tests.support.processes import ROOT, reserve

AT_ONCE = 16
QUERY = '{ offer(id: "XH-01") { nameZh cashFen xinghui_blurb } }'
OURS = '{ offer(id: "XH-01") { nameZh cashFen } }'
_MERCHANTS = (
    "query($r: [_Any!]!) { _entities(representations: $r) { ... on Offer { xinghui_blurb } } }"
)
_ASKED = {"r": [{"__typename": "Offer", "id": "XH-01", "nameZh": "2D电影票"}]}
_WITHIN = 30.0


@contextlib.asynccontextmanager
async def _merchant() -> AsyncIterator[str]:
    """A merchant's subgraph in a process of its own; its address."""
    with reserve() as free:
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "tests.support.merchant_graph", str(port)]
    process = await asyncio.create_subprocess_exec(
        *program, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient() as http, asyncio.timeout(_WITHIN):
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    await http.get(f"{url}/health")
                    break
                await asyncio.sleep(0.05)
        yield url
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def _published(database_url: str, home: Path, base: str) -> AsyncIterator[tuple[str, str]]:
    """A gateway whose graph has the merchant's subgraph: its address, and a member's token."""
    auth = Auth("client_secret_basic", CLIENT, secret=SECRET)
    connection = Connection("M05", "graphql", base, f"{base}/oauth/token", auth, base)
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(place.opened(database_url))
        coalition = place.coalition(database)
        gateway = await stack.enter_async_context(
            running(
                database,
                home,
                clock=coalition.clock,
                partners=dict(coalition.partners),
                connections={"M05": connection},
            )
        )
        merchant = await gateway.merchant("M05")
        await merchant.did("publishSubgraph", "subgraph { id }", sdl=SDL, url=f"{base}/graphql")
        await gateway.app.state.graphs.refresh()
        member = await gateway.member(place.MEMBER)
        assert member.token is not None
        yield f"{gateway.base}/graphql", member.token


async def run(address: str, home: Path, *, rounds: int) -> list[Figure]:
    async with contextlib.AsyncExitStack() as stack:
        base = await stack.enter_async_context(_merchant())
        url, token = await stack.enter_async_context(_published(address, home, base))
        client = await stack.enter_async_context(Transport())

        async def many(to: str, bearer: str, query: str, variables: Any) -> list[Any]:
            headers = (("authorization", f"Bearer {bearer}"),)

            async def one() -> Any:
                asked = SubgraphRequest("", "query", query, variables, headers)
                reply = await client.post(to, asked)
                assert reply.status == 200, reply.body
                return json.loads(reply.body)

            return await asyncio.gather(*(one() for _ in range(AT_ONCE)))

        def ours() -> Any:
            return many(url, token, QUERY, {})

        def floor() -> Any:
            return many(f"{base}/graphql", TOKEN, _MERCHANTS, _ASKED)

        (first, *_), (alone, *_) = await ours(), await floor()
        blurb = alone["data"]["_entities"][0]["xinghui_blurb"]
        assert first["data"]["offer"]["xinghui_blurb"] == blurb, first
        figure = Figure(
            f"{AT_ONCE} queries at once with a merchant's field",
            "the merchant's part of them alone",
        )
        await race(
            figure,
            ours=ours,
            floor=floor,
            others={"our own fields of the same": lambda: many(url, token, OURS, {})},
            rounds=rounds,
            times=4,
        )
    each = {"ours": figure.ours, "the merchant alone": figure.floor, **figure.others}
    told = [f"{name} {AT_ONCE / times.median:,.0f}" for name, times in each.items()]
    figure.note = f"A second: {', '.join(told)}."
    return [figure]
