"""What `gateway serve` runs: a server on one socket, with all its surroundings or without."""

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import uvicorn

from gateway import guarded
from gateway.api.endpoint import BODY_LIMIT
from gateway.app import create_app
from gateway.demo import install, supervisor
from gateway.demo.supervisor import on_signals
from gateway.operations import starting
from gateway.operations.occupancy import holding
from gateway.runtime import settle
from gateway.settings import Settings
from gateway.telemetry import tracing

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75  # Longer than clients keep a connection, so that none is cut in use.
Announce = Callable[[list[str]], None]


class _Server(uvicorn.Server):
    """A server that leaves signals to the process, and says when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def plain(settings: Settings, *, descriptor: int | None, announce: Announce) -> None:
    """The gateway alone, until it is asked to end.

    Args:
        descriptor: A bound socket that was handed on; None binds the settings' address.

    Raises:
        CannotStart: The database or its key is not as a start needs it.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(holding(settings.url, "serve"))
        await starting.check(settings)
        if descriptor is not None:
            bound = stack.enter_context(socket.socket(fileno=descriptor))
        else:
            bound = stack.enter_context(supervisor.listening(settings.host, settings.port))
        host, port = bound.getsockname()[:2]
        settings = replace(settings, port=port)
        lines = [f"listening {host}:{port}", f"API       {settings.base_url}/graphql"]

        def ready() -> None:
            settle()
            announce(lines)

        await _serve(settings, bound, ready)


async def embedded(settings: Settings, *, announce: Announce) -> None:
    """The embedded default: a seeded database, the partners' stand-ins, gateway and worker.

    Raises:
        CannotStart: The database or its key is not as a start needs it.
    """
    with (
        holding(settings.url, "serve"),
        supervisor.listening(settings.host, settings.port) as bound,
    ):
        await starting.check(settings)
        settings = replace(settings, port=bound.getsockname()[1])
        made = install.prepare(settings, port=settings.port)
        stand_ins = supervisor.simulators(made)
        try:
            await install.seeded(settings, made)
            await supervisor.wait_for_ports(made, stand_ins, settings)
            lines = install.announcement(settings, made)
            async with _beside(supervisor.wait_for_price_book(settings)):
                await _serve(settings, bound, lambda: announce(lines))
        finally:
            stand_ins.end()
            stand_ins.gone()


async def _serve(settings: Settings, bound: socket.socket, ready: Callable[[], None]) -> None:
    app = create_app(settings)
    config = guarded.config(
        app,
        settings,
        ws="websockets-sansio",
        ws_max_size=BODY_LIMIT,
        ws_per_message_deflate=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_seconds),
    )

    def answers() -> None:
        log.info("listening on %s:%s", *bound.getsockname()[:2])
        ready()

    server = _Server(config, answers)
    loop = asyncio.get_running_loop()

    def end() -> None:
        """Unready first; then what is asked already is answered, within the grace.

        A second signal does not wait for load balancers to look.
        """
        if app.state.health.stopping or not settings.shutdown_delay_seconds:
            finish()
        else:
            loop.call_later(settings.shutdown_delay_seconds, finish)
        app.state.health.stop()

    def finish() -> None:
        server.should_exit = True
        if stopping := getattr(app.state, "stopping", None):
            stopping.set()

    on_signals(end)
    tracing.export_to(settings.otel_endpoint, service="gateway")
    try:
        await server.serve(sockets=[bound])
    finally:
        tracing.stop()


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run something as long as the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
