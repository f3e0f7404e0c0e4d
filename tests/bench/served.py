"""A process of its own that serves the gateway and the bare route; ends with its standard input.

Prints one line of JSON: the two addresses, a member's token, and the query's statements.
"""

import asyncio
import contextlib
import functools
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.oauth.scopes import Role
from tests.bench import place, postgres, script
from tests.support.gateway import running
from tests.support.serving import bound, serving

PAGE = """
query Page($first: Int!, $programmes: [ID!]) {
  offers(first: $first, filter: {kind: "shipment"}) {
    edges { cursor node { id nameZh cashFen merchant { nameZh }
      prices(programmes: $programmes) {
        points formula programme { nameZh value { num den } } } } }
    pageInfo { hasNextPage endCursor }
    warnings { merchant code message }
  }
}
"""
ASKED = {"first": 20, "programmes": list(place.ISSUERS.values())}


Replay = Callable[[script.Script], Awaitable[Any]]
Driver = contextlib.AbstractAsyncContextManager[Replay]


def body() -> bytes:
    return json.dumps({"query": PAGE, "variables": ASKED}).encode()


def bare(driver: Driver, said: script.Script, answer: bytes, kind: str) -> Starlette:
    """The floor: the same statements by the raw driver and the same bytes; and the bytes alone."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with driver as app.state.replay:
            yield

    async def statements(request: Request) -> Response:
        await request.body()
        await request.app.state.replay(said)
        return Response(answer, media_type=kind)

    async def alone(request: Request) -> Response:
        await request.body()
        return Response(answer, media_type=kind)

    async def spent(_request: Request) -> Response:
        return Response(str(time.process_time()))

    routes = [
        Route("/cpu", spent),
        Route("/statements", statements, methods=["POST"]),
        Route("/alone", alone, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


async def _captured(gateway: Any, token: str) -> tuple[script.Script, bytes, str]:
    """What one warm request says to the database, and its answer."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    for _ in range(3):  # The document, the token and the clock are read first.
        with script.recorded(gateway.runtime.database) as said:
            answer = await gateway.http.post(
                f"{gateway.base}/graphql", content=body(), headers=headers
            )
    page = answer.json()["data"]["offers"]
    counts = {len(edge["node"]["prices"]) for edge in page["edges"]}
    assert (len(page["edges"]), counts) == (20, {3}), "20 offers with 3 prices each"
    return said, answer.content, answer.headers["content-type"]


@contextlib.asynccontextmanager
async def raw(address: str) -> AsyncIterator[Replay]:
    """Says a script again to a database, by its driver alone."""
    if address.startswith("sqlite"):
        async with script.raw_driver(Path(address.partition(":///")[2])) as file:
            yield functools.partial(script.replay, file)
    else:
        async with postgres.driver(address) as connection:
            yield functools.partial(postgres.replay, connection)


async def main(address: str, home: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(place.opened(address))
        made = place.coalition(database)
        running_gateway = running(database, home, clock=made.clock, partners=made.partners)
        gateway = await stack.enter_async_context(running_gateway)
        token = await gateway.token(Role.MEMBER, member=place.MEMBER)
        said, answer, kind = await _captured(gateway, token)
        app = bare(raw(address), said, answer, kind)
        listening, port = bound()
        await stack.enter_async_context(app.router.lifespan_context(app))
        await stack.enter_async_context(serving(app, listening))
        facts = {"ours": gateway.runtime.settings.port, "floor": port, "token": token}
        facts |= {"driver": "aiosqlite" if address.startswith("sqlite") else "asyncpg"}
        facts |= {"statements": said.statements, "bytes": len(answer)}
        print(json.dumps(facts), flush=True)  # noqa: T201 - it is what it tells
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
