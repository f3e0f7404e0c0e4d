"""Our own schema within the one graph: compiled catalog queries, and what standing beside costs.

In this process, without HTTP: documents are parsed and validated already. Rows come from a real
database.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from graphql import parse

from gateway.api.context import Context
from gateway.api.endpoint import Asked, Endpoint, Seen, dumped
from gateway.api.graph import Graph
from gateway.api.local import Document, Local
from gateway.api.schema import build, ours
from gateway.federation.supergraph import Supergraph
from gateway.oauth.guard import Actor
from gateway.oauth.scopes import Role, of
from gateway.subgraphs.composing import Verdict, put_together
from gateway.subgraphs.model import Submitted
from tests.bench import place
from tests.bench.race import Figure, race
from tests.support.gateway import running
from tests.support.merchant_graph import SDL

PAGE = """
query Page($first: Int!, $programmes: [ID!]) {
  offers(first: $first) {
    edges { cursor node { id nameZh cashFen merchant { nameZh }
      prices(programmes: $programmes) {
        points formula programme { nameZh value { num den } } } } }
    pageInfo { hasNextPage endCursor }
  }
}
"""
ONE = '{ offer(id: "XH-01") { id nameZh cashFen merchant { nameZh } live { listFen left } } }'
ASKED = {"first": 50, "programmes": list(place.ISSUERS.values())}
MEMBER = Actor(
    place.MEMBER, Role.MEMBER, "member-app", member_id=place.MEMBER, scopes=of(Role.MEMBER)
)


async def run(address: str, home: Path, *, rounds: int) -> list[Figure]:
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(place.opened(address))
        coalition = place.coalition(database)
        gateway = await stack.enter_async_context(
            running(database, home, clock=coalition.clock, partners=dict(coalition.partners))
        )
        services = gateway.app.state.services
        return [
            await _compiled(services, rounds=rounds),
            await _beside(gateway.app.state.graphs, services, rounds=rounds),
        ]


async def _compiled(services: Any, *, rounds: int) -> Figure:
    """The same document by a compiled function and by Strawberry."""
    document = Document(PAGE, parse(PAGE))
    compiling, plain = Local(build()), Local(build(), compile=False)

    async def answered(local: Local) -> Any:
        context = Context(services, MEMBER, "zh", "req_bench")
        found = await local.answer(document, None, ASKED, context)
        await context.end_reads()
        assert not found.errors
        return found.data

    assert json.dumps(await answered(compiling)) == json.dumps(await answered(plain))
    figure = Figure("catalog: 50 offers × 3 prices, compiled", "Strawberry's execution of the same")
    return await race(
        figure,
        ours=lambda: answered(compiling),
        floor=lambda: answered(plain),
        rounds=rounds,
        times=5,
    )


async def _beside(graphs: Any, services: Any, *, rounds: int) -> Figure:
    """A document of our own, with a merchant's subgraph in the graph and without."""
    made = put_together(ours(), [Submitted("M05", "http://127.0.0.1:9/graphql", SDL)])
    assert not isinstance(made, Verdict)
    alone = graphs.current
    local = Local(build())
    shared = Graph(
        local, supergraph=Supergraph.parse(made[0]), services={"M05": None}, introspection=True
    )
    endpoint = Endpoint(graphs, services)

    async def answered(graph: Graph, *, planned: bool = False) -> bytes:
        graphs.current = graph
        asked = Asked(ONE, None, {}, False)
        found = endpoint.prepare(MEMBER, asked, Seen())
        context = Context(services, MEMBER, "zh", "req_bench")
        try:
            if planned:
                result = await graph.answer(ONE, None, {}, context)
                assert not result.errors
                return result.data
            result = await graph.local.answer(found.document.local, None, {}, context)
            assert not result.errors
            return dumped(result.data)
        finally:
            await context.end_reads()

    assert await answered(shared) == await answered(alone) == await answered(shared, planned=True)
    figure = Figure("our own document in a graph of two", "the same while our schema stands alone")
    await race(
        figure,
        ours=lambda: answered(shared),
        floor=lambda: answered(alone),
        others={"as a plan of one local fetch": lambda: answered(shared, planned=True)},
        rounds=rounds,
        times=30,
    )
    graphs.current = alone
    return figure
