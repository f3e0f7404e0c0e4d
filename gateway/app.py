"""One Starlette application: /graphql, /oauth, /events, health and the plain routes, wired.

Reads settings, opens the runtime, and with `worker_inside` runs the worker beside the requests.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route, WebSocketRoute

from gateway import migrations
from gateway.api import routes as plain
from gateway.api import unavailable
from gateway.api.certify import certify
from gateway.api.context import Conformance, Services
from gateway.api.endpoint import Endpoint
from gateway.api.graphs import Graphs, GraphSettings
from gateway.api.limits import Limits
from gateway.api.merchant_graphs import MerchantGraph
from gateway.api.rates import Rates
from gateway.api.schema import build, ours
from gateway.api.sockets import Sockets
from gateway.db import Database
from gateway.events.watching import Watcher
from gateway.operations import listener
from gateway.operations.health import Health
from gateway.operations.requests import Observed
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.subgraphs.model import Subgraph
from gateway.subgraphs.publishing import Publishing
from gateway.worker import Worker


def create_app(
    settings: Settings, *, runtime: Runtime | None = None, limits: Limits | None = None
) -> Starlette:
    """The application; it opens its runtime at start and closes it at the end.

    On the embedded default the database is brought to the newest schema first. The signing keys
    and the sandbox's apps are made if they are missing. Setting `app.state.stopping` tells the
    worker inside to begin nothing more; requests are the server's.

    Args:
        runtime: One that is open already; its owner closes it.
        limits: What one GraphQL request may ask.
    """

    health = Health(signing=True, working=settings.worker_inside)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            here = runtime
            if here is None:
                if settings.embedded:
                    await _migrate(settings)
                here = await Runtime.open(settings)
                stack.push_async_callback(here.close)
            await here.oauth.start()
            app.state.runtime = here
            health.database, health.vault = here.database, here.oauth.vault
            graphs = app.state.graphs = _graphs(here, stack)
            services = app.state.services = _services(here, graphs)
            await stack.enter_async_context(graphs.following())
            stack.push_async_callback(services.watcher.close)
            app.router.routes[:] = _routes(here, Endpoint(graphs, services, limits), health)
            await stack.enter_async_context(listener.lag_measured())
            stack.push_async_callback(here.redemptions.abandon)
            app.state.stopping = asyncio.Event()
            await stack.enter_async_context(_working(here, app.state.stopping))
            yield

    app = Starlette(
        lifespan=lifespan,
        middleware=[Middleware(Observed)],
        exception_handlers=unavailable.HANDLERS,
    )
    app.state.health = health
    return app


async def _migrate(settings: Settings) -> None:
    database = Database(settings.url)
    try:
        await migrations.upgrade(database)
    finally:
        await database.close()


def _routes(runtime: Runtime, graphql: Endpoint, health: Health) -> list[BaseRoute]:
    secrets = {
        merchant: connection.webhook_secret
        for merchant, connection in runtime.connections.items()
        if connection.webhook_secret
    }
    return [
        Route("/graphql", graphql.answer, methods=["GET", "POST"]),
        WebSocketRoute("/graphql", Sockets(graphql).answer),
        *runtime.oauth.routes(),
        *plain.routes(graphql.services, secrets),
        *listener.routes(
            runtime.database, runtime.clock, runtime.breakers, runtime.settings, health
        ),
    ]


def _graphs(runtime: Runtime, stack: contextlib.AsyncExitStack) -> Graphs:
    """The one graph, and what asks the merchants' subgraphs in it."""
    settings = runtime.settings
    clients: dict[str, httpx2.AsyncClient] = {}

    def service_for(member: Subgraph) -> MerchantGraph:
        merchant = member.merchant_id
        if merchant not in clients:
            clients[merchant] = runtime.subgraph_client(merchant)
            stack.push_async_callback(clients[merchant].aclose)
        return MerchantGraph(
            merchant, member.url, clients[merchant], runtime.secret, settings.subgraph_seconds
        )

    return Graphs(
        runtime.database,
        build(),
        ours(),
        service_for=service_for,
        settings=GraphSettings(
            introspection=settings.sandbox,
            poll_seconds=settings.subgraphs_poll_seconds,
        ),
    )


def _services(runtime: Runtime, graphs: Graphs) -> Services:
    async def run(merchant: str) -> Conformance:
        partner = runtime.partners[merchant]
        return await certify(runtime.database, partner, merchant, runtime.clock)

    return Services(
        database=runtime.database,
        clock=runtime.clock,
        partners=runtime.partners,
        settings=runtime.settings,
        guard=runtime.oauth.guard,
        redemptions=runtime.redemptions,
        webhooks=runtime.webhooks,
        watcher=Watcher(runtime.database, seconds=runtime.settings.events_poll_seconds),
        certify=run,
        rates=Rates(runtime.settings),
        publishing=Publishing(
            runtime.database,
            runtime.clock,
            ours(),
            sandbox=runtime.settings.sandbox,
            connected=runtime.connections.__contains__,
            told=graphs.tell,
        ),
    )


@contextlib.asynccontextmanager
async def _working(runtime: Runtime, stopping: asyncio.Event) -> AsyncIterator[None]:
    """Run the worker beside the requests, if this process is to."""
    if not runtime.settings.worker_inside:
        yield
        return
    worker = Worker(
        runtime.database,
        runtime.partners,
        runtime.clock,
        runtime.settings,
        runtime.redemptions,
        vault=runtime.oauth.vault,
        sign_head=runtime.sign_head,
        webhooks=runtime.webhooks,
    )
    task = asyncio.create_task(worker.run(stopping))
    try:
        yield
    finally:
        stopping.set()
        await task
