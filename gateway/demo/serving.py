"""What `gateway serve` and `gateway worker` run: a server on one socket, or the worker alone."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import uvicorn

from gateway.app import create_app
from gateway.demo import install, supervisor
from gateway.demo.install import Install
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.worker import Worker

KEEP_ALIVE_SECONDS = 75  # Longer than clients keep a connection, so that none is cut in use.
Announce = Callable[[Settings, Install | None], None]


class _Server(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def plain(settings: Settings, *, descriptor: int | None, announce: Announce) -> None:
    """The gateway alone, until it is asked to end.

    Args:
        descriptor: A bound socket that was handed on; None binds the settings' address.
    """
    async with contextlib.AsyncExitStack() as stack:
        if descriptor is not None:
            bound = stack.enter_context(socket.socket(fileno=descriptor))
        else:
            bound = stack.enter_context(supervisor.listening(settings.host, settings.port))
        settings = replace(settings, port=bound.getsockname()[1])
        announce(settings, None)
        await _serve(settings, bound)


async def embedded(settings: Settings, *, announce: Announce) -> None:
    """The embedded default: a seeded database, the partners' stand-ins, gateway and worker."""
    with supervisor.listening(settings.host, settings.port) as bound:
        settings = replace(settings, port=bound.getsockname()[1])
        made = await install.prepare(settings, port=settings.port)
        stand_ins = supervisor.simulators(made)
        try:
            await supervisor.wait_for_ports(made, stand_ins, settings)
            announce(settings, made)
            async with _beside(supervisor.wait_for_price_book(settings)):
                await _serve(settings, bound)
        finally:
            stand_ins.end()
            stand_ins.gone()


async def work(settings: Settings) -> None:
    """The worker alone, until it is asked to end; the round under way is finished."""
    runtime = await Runtime.open(settings)
    try:
        worker = Worker(
            runtime.database,
            runtime.partners,
            runtime.clock,
            runtime.settings,
            runtime.redemptions,
        )
        stop = asyncio.Event()
        _on_signals(stop.set)
        await worker.run(stop)
    finally:
        await runtime.close()


async def _serve(settings: Settings, bound: socket.socket) -> None:
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)

    def end() -> None:
        server.should_exit = True

    _on_signals(end)
    await server.serve(sockets=[bound])


def _on_signals(act: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, act)


@contextlib.asynccontextmanager
async def _beside(work: "asyncio.Future[None] | object") -> AsyncIterator[None]:
    """Run something as long as the block lasts."""
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
