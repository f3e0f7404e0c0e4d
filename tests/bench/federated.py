"""A process of its own: subgraphs whose answers are known, or a gateway over them and its floors.

`python -m tests.bench.federated subgraphs` and `… gateway ADDRESS` print their port and end with
their standard input. The gateway answers the benchmark's query at /shared and /alone, the same
bytes from memory at /bare, and after the same subgraph calls, unplanned, at /calls; /cpu tells the
seconds its processor has spent.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import orjson
import uvloop

from gateway.federation.engine import Engine
from gateway.federation.http import Endpoint, Reply
from gateway.federation.machinery import Planned
from gateway.federation.services import Answer, SubgraphRequest
from gateway.federation.serving import Server
from gateway.federation.sharing import Flights
from gateway.federation.supergraph import Supergraph
from gateway.federation.transport import HttpService, Transport
from tests.federation.harness.cases import Federation
from tests.federation.harness.running import Running
from tests.federation.harness.world import World
from tests.federation.suites import simple_requires_provides

QUERY = """
fragment About on Gift { code name points weight inStock postage }
{
  members { id name voices { id text gift { ...About voices { id text
    member { id nick name voices { id text gift { ...About } } } } } } }
  gifts { ...About voices { id text member { id nick name voices { id text gift { ...About } } } } }
}
"""
BODY = orjson.dumps({"query": QUERY})
_JSON = "application/json"
Route = Callable[[dict[bytes, bytes], bytes], Awaitable[Reply]]


def world() -> World:
    """Six members and five gifts; each gift is spoken of thrice, by two members."""
    made = World()
    members = [
        made.add("Member", id=f"m{n}", name=f"Member {n}", nick=f"nick{n}", voices=[])
        for n in range(6)
    ]
    gifts = [
        made.add(
            "Gift", code=f"g{n}", name=f"Gift {n}", points=n * 100, weight=n * 7, postage=n * 700,
            inStock=n % 2 == 0, label="", voices=[],
        )
        for n in range(5)
    ]  # fmt: skip
    for number in range(15):
        gift, member = gifts[number % 5], members[number % 2]
        voice = made.add(
            "Voice", id=f"v{number}", text="A word of praise. " * 20, member=member, gift=gift,
            teller=None,
        )  # fmt: skip
        gift["voices"].append(voice)
        if len(member["voices"]) < 2:
            member["voices"].append(voice)
    made.query |= {"members": members, "gifts": gifts}
    return made


def federation() -> Federation:
    """The federation of @requires and @provides, with more in it."""
    return replace(simple_requires_provides.FEDERATION, world=world)


async def subgraphs() -> None:
    """Each distinct request is executed once."""
    running = Running(federation())
    known: dict[tuple[bytes, bytes], bytes] = {}

    async def answer(
        method: bytes, target: bytes, headers: dict[bytes, bytes], body: bytes
    ) -> Reply:
        found = known.get((target, body))
        if found is None:
            sent = orjson.loads(body)
            subgraph = running.subgraphs[target.decode().strip("/")]
            made = subgraph.answer(sent["query"], sent.get("variables"), None, {})
            found = known[target, body] = orjson.dumps(made)
        return Reply(200, _JSON, found)

    await _serve(Server(answer))


class _Noting:
    """A service that notes what it was asked."""

    def __init__(
        self, inner: HttpService, calls: list[tuple[HttpService, SubgraphRequest]]
    ) -> None:
        self._inner = inner
        self._calls = calls

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """Ask it."""
        self._calls.append((self._inner, replace(request, deadline=None)))
        return await self._inner.fetch(request)


async def gateway(address: str) -> None:
    """Ours in two modes, and the floors."""
    supergraph = Supergraph.parse(federation().supergraph)
    async with Transport() as transport:
        remote = {name: transport.service(f"{address}/{name}") for name in supergraph.graphs}
        routes: dict[bytes, Route] = {}
        for path, share in ((b"/shared", True), (b"/alone", False)):
            planned = Planned(supergraph, remote, flights=Flights(share=share))
            routes[path] = _route(Endpoint(Engine(planned)))
        calls: list[tuple[HttpService, SubgraphRequest]] = []
        noting = {name: _Noting(one, calls) for name, one in remote.items()}
        noted = Endpoint(Engine(Planned(supergraph, noting)))
        known = (await _route(noted)({b"content-type": b"application/json"}, BODY)).body

        async def bare(headers: dict[bytes, bytes], body: bytes) -> Reply:
            return Reply(200, _JSON, known)

        async def unplanned(headers: dict[bytes, bytes], body: bytes) -> Reply:
            await asyncio.gather(*(service.fetch(request) for service, request in calls))
            return Reply(200, _JSON, known)

        async def cpu(headers: dict[bytes, bytes], body: bytes) -> Reply:
            return Reply(200, _JSON, b"[%f,%d]" % (time.process_time(), len(calls)))

        routes |= {b"/bare": bare, b"/calls": unplanned, b"/cpu": cpu}

        async def answer(
            method: bytes, target: bytes, headers: dict[bytes, bytes], body: bytes
        ) -> Reply:
            return await routes[target](headers, body)

        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        await _serve(Server(answer))


def _route(endpoint: Endpoint) -> Route:
    async def answer(headers: dict[bytes, bytes], body: bytes) -> Reply:
        reply = await endpoint.answer(b"POST", b"/graphql", headers, body)
        assert b'"errors"' not in reply.body[:20], reply.body[:500]
        return reply

    return answer


async def _serve(server: Server) -> None:
    print(await server.listen("127.0.0.1", 0), flush=True)  # noqa: T201 - how it is found
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["subgraphs"]:
            uvloop.run(subgraphs())
        case ["gateway", where]:
            uvloop.run(gateway(where))
