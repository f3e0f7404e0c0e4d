"""What an engine plans and runs one supergraph with: the planner, the executor, its services."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol, runtime_checkable

from graphql import GraphQLSchema

from gateway.federation.caches import Lru
from gateway.federation.entities import Entities, in_common
from gateway.federation.executor import Caller, Executable, run
from gateway.federation.operation import Operation
from gateway.federation.plan import INPUT, Fetch
from gateway.federation.planner import Planner
from gateway.federation.requests import Request, Result
from gateway.federation.services import Answer, Headers, Service, ServiceFailure, SubgraphRequest
from gateway.federation.sharing import Flights
from gateway.federation.supergraph import Supergraph


@runtime_checkable
class Subscribable(Protocol):
    """A service that events can be asked of."""

    def subscribe(self, request: SubgraphRequest) -> AsyncIterator[Answer]:
        """Its events, until it or the taker ends; raises ServiceFailure."""


_PERCENT = re.compile(r"percent\((\d+(?:\.\d+)?)\)")
_INPUTS = 16  # Planners for so many sorts of representations are kept.

Added = Callable[[str, Request], Headers]
"""The headers a service is sent for a client's request."""


class Planned:
    """A supergraph with the services that answer for its subgraphs.

    Args:
        services: By subgraph's name.
        flights: Requests under way; shared by all supergraphs of an engine.
        seconds: The time a query or mutation has.
        headers: What a service is sent; the request's own headers by default.
        entities: Serve as a subgraph, too: `_service` and `_entities`.
        reuse: Whether entities told in an operation are not asked for again in it.
        reenter: Whether a field that leads back to `Query` leads to other subgraphs' root fields.
        active: Override labels that are active for every request; `percent(x)` is drawn for each.
    """

    def __init__(
        self,
        supergraph: Supergraph,
        services: Mapping[str, Service],
        *,
        flights: Flights | None = None,
        seconds: float | None = 30.0,
        headers: Added | None = None,
        entities: bool = False,
        reuse: bool = True,
        reenter: bool = True,
        active: frozenset[str] = frozenset(),
    ) -> None:
        self.supergraph = supergraph
        self.entities = Entities(supergraph) if entities else None
        self.schema: GraphQLSchema = supergraph.api_schema
        self.services = services
        if self.entities is not None:
            self.schema = self.entities.schema
            self.services = {**services, INPUT: self.entities.service}
        self.flights = flights or Flights()
        self.reuse = reuse
        self.seconds = seconds
        self.headers = headers
        self._reenter = reenter
        self._planner = Planner(supergraph, reenter=reenter)
        self._active = active & supergraph.labels
        self._drawn = [
            (label, float(found[1]))
            for label in supergraph.labels
            if (found := _PERCENT.fullmatch(label))
        ]
        self._inputs: Lru[frozenset[str], Planner] = Lru(_INPUTS)

    def prepare(self, operation: Operation, labels: frozenset[str]) -> "Run":
        """An operation planned and compiled; raises NoPlan."""
        plan = self._planner_for(operation, labels).plan(operation, labels)
        return Run(self, Executable(plan, self.schema, reuse=self.reuse))

    @property
    def labelled(self) -> bool:
        """Whether `labels` differ from request to request."""
        return bool(self._drawn) or self.entities is not None

    def labels(self, request: Request) -> frozenset[str]:
        """What plans depend on besides the operation: overrides, and keys of representations."""
        labels = self._active
        if self._drawn:
            draw = random.random  # Which requests are drawn is no secret.
            labels |= {label for label, percent in self._drawn if 100 * draw() < percent}
        if self.entities is not None:
            labels |= self.entities.labels(request)
        return labels

    def _planner_for(self, operation: Operation, labels: frozenset[str]) -> Planner:
        if self.entities is None or not self.entities.concerns(operation):
            return self._planner
        keys = in_common(labels, self.entities.written(operation))
        found = self._inputs.get(keys)
        if found is None:
            found = Planner(self.entities.view(keys), reenter=self._reenter)
            self._inputs.put(keys, found)
        return found


class Run:
    """One operation, ready to run any number of times."""

    def __init__(self, planned: Planned, executable: Executable) -> None:
        self._planned = planned
        self._executable = executable
        self.plan = executable.plan
        self.kind = executable.kind

    async def run(self, request: Request, variables: Mapping[str, Any]) -> Result:
        """Answer a query or a mutation."""
        planned = self._planned
        caller = self._caller(request, variables)
        outcome = await run(self._executable, planned.services, caller, planned.flights)
        return Result(outcome.data, outcome.errors)

    async def subscribe(
        self, request: Request, variables: Mapping[str, Any]
    ) -> AsyncIterator[Result]:
        """Answer a subscription: each event of its one root, completed by the other services."""
        planned, first = self._planned, self._executable.plan.fetches[0]
        service = planned.services.get(first.service)
        if not isinstance(service, Subscribable):
            yield _failed(first, ServiceFailure("SUBGRAPH_UNREACHABLE", "it gives no events"))
            return
        asked = self._asked(first, request, variables)
        try:
            async with aclosing(_closable(service.subscribe(asked))) as events:
                async for answer in events:
                    caller = self._caller(request, variables)
                    outcome = await run(
                        self._executable, planned.services, caller, planned.flights, answer
                    )
                    yield Result(outcome.data, outcome.errors)
        except ServiceFailure as failure:
            yield _failed(first, failure)

    def _asked(
        self, fetch: Fetch, request: Request, variables: Mapping[str, Any]
    ) -> SubgraphRequest:
        values = {name: variables[name] for name in fetch.variables if name in variables}
        headers = self._caller(request, variables).headers(fetch.service)
        return SubgraphRequest(
            fetch.service, fetch.kind, fetch.text, values, headers, state=request.state
        )

    def _caller(self, request: Request, variables: Mapping[str, Any]) -> Caller:
        planned = self._planned
        seconds, added = planned.seconds, planned.headers
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        if added is not None:
            own = added
            return Caller(
                variables,
                lambda service: own(service, request),
                request.identity,
                deadline,
                request.state,
            )
        headers = request.headers
        return Caller(variables, lambda _: headers, request.identity, deadline, request.state)


def _closable(events: AsyncIterator[Answer]) -> Any:
    return events


def _failed(fetch: Fetch, failure: ServiceFailure) -> Result:
    error = {
        "message": str(failure),
        "extensions": {"code": failure.code, "service": fetch.service},
    }
    return Result(None, [error])
