"""Our gateway over a federation's subgraphs, in process."""

import functools
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from gateway.federation.engine import Engine, Options
from gateway.federation.machinery import Planned
from gateway.federation.requests import Request, Result
from gateway.federation.services import Answer, Service, SubgraphRequest
from gateway.federation.supergraph import Supergraph
from tests.federation.harness.cases import Case
from tests.federation.harness.running import Running
from tests.federation.harness.subgraph import Subgraph


@functools.cache
def supergraph(sdl: str) -> Supergraph:
    """A supergraph, read once."""
    return Supergraph.parse(sdl)


class InProcess:
    """A service that is asked by a call; what it is sent has been JSON all the same."""

    def __init__(self, subgraph: Subgraph) -> None:
        self._subgraph = subgraph

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """Ask it."""
        sent = orjson.loads(request.body)
        answer = self._subgraph.answer(
            sent["query"], sent.get("variables"), None, dict(request.headers)
        )
        return Answer.of(orjson.loads(orjson.dumps(answer)))

    async def subscribe(self, request: SubgraphRequest) -> AsyncIterator[Answer]:
        """Its events."""
        sent = orjson.loads(request.body)
        async for event in self._subgraph.events(sent["query"], sent.get("variables")):
            yield Answer.of(event)


class Gateway:
    """An engine over a running federation."""

    def __init__(
        self,
        running: Running,
        labels: frozenset[str] = frozenset(),
        *,
        services: Mapping[str, Service] | None = None,
    ) -> None:
        own = {name: InProcess(one) for name, one in running.subgraphs.items()}
        machinery = Planned(supergraph(running.federation.supergraph), services or own)
        self.engine = Engine(machinery, Options(labels=lambda _: labels))

    async def answer(
        self, query: str, variables: Mapping[str, Any], operation: str | None = None
    ) -> dict[str, Any]:
        """The response to one operation."""
        return body(await self.engine.execute(Request(query, variables, operation)))

    async def answer_case(self, case: Case) -> dict[str, Any]:
        """The response to a case."""
        return await self.answer(case.query, case.variables, case.operation)


def body(result: Result) -> dict[str, Any]:
    """A result as the client reads it."""
    return orjson.loads(result.body())
