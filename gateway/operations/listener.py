"""The routes an operator's machines ask, and a small server for the worker to answer them."""

import asyncio
import contextlib
import hmac
import ipaddress
import time
from collections.abc import AsyncIterator, Iterator, Mapping

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway import guarded
from gateway.db import Clock, Database
from gateway.oauth.breaker import Breaker
from gateway.operations.figures import Figures
from gateway.operations.health import Health
from gateway.settings import Settings
from gateway.telemetry import metrics

_LAG_EVERY = 0.5
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def routes(
    database: Database,
    clock: Clock,
    breakers: Mapping[str, Breaker],
    settings: Settings,
    health: Health,
) -> list[Route]:
    """`/livez`, `/readyz` and `/metrics`."""
    figures = Figures(database, clock, breakers)

    async def scrape(request: Request) -> Response:
        if not _may_read(request, settings.metrics_token):
            return JSONResponse(
                {"status": "loopback or a bearer token"}, 401, {"www-authenticate": "Bearer"}
            )
        return Response(await figures.text(), headers={"content-type": metrics.CONTENT_TYPE})

    return [
        Route("/livez", health.live, methods=["GET"]),
        Route("/readyz", health.ready, methods=["GET"]),
        Route("/metrics", scrape, methods=["GET"]),
    ]


def _may_read(request: Request, token: str) -> bool:
    """With a token set, whoever shows it; without, who is on this machine and came by no proxy."""
    if token:
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


@contextlib.asynccontextmanager
async def lag_measured() -> AsyncIterator[None]:
    """Measure, while the block runs, how late the event loop is."""
    task = asyncio.create_task(_measure_lag())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _measure_lag() -> None:
    while True:
        due = time.monotonic() + _LAG_EVERY
        await asyncio.sleep(_LAG_EVERY)
        metrics.LOOP_LAG.observe(max(0.0, time.monotonic() - due))


class _Quiet(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def beside_worker(
    database: Database, clock: Clock, breakers: Mapping[str, Breaker], settings: Settings
) -> AsyncIterator[Health]:
    """Serve the worker's health and metrics on `worker_port` while the block runs, if it is set."""
    health = Health(database, signing=False, working=True)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(lag_measured())
        if settings.worker_port:
            app = Starlette(routes=routes(database, clock, breakers, settings, health))
            await stack.enter_async_context(_served(app, settings))
        yield health


@contextlib.asynccontextmanager
async def _served(app: Starlette, settings: Settings) -> AsyncIterator[None]:
    config = guarded.config(
        app, settings, host=settings.host, port=settings.worker_port, lifespan="off", ws="none"
    )
    server = _Quiet(config)
    task = asyncio.create_task(server.serve())
    try:
        yield
    finally:
        server.should_exit = True
        await task
