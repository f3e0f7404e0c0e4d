"""What `gateway worker` runs: the worker alone, without a server."""

import asyncio

from gateway.demo.supervisor import on_signals
from gateway.operations import listener, occupancy, starting
from gateway.runtime import Runtime, settle
from gateway.settings import Settings
from gateway.telemetry import tracing
from gateway.worker import Worker


async def work(settings: Settings) -> None:
    """Work until asked to end; then what is under way is finished, or handed back.

    Raises:
        CannotStart: The database or its key is not as a start needs it.
    """
    with occupancy.holding(settings.url, "worker"):
        await starting.check(settings)
        await _work(settings)


async def _work(settings: Settings) -> None:
    tracing.export_to(settings.otel_endpoint, service="worker")
    runtime = await Runtime.open(settings)
    try:
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
        stop = asyncio.Event()
        beside = listener.beside_worker(runtime.database, runtime.clock, runtime.breakers, settings)
        async with beside as health:

            def end() -> None:
                health.stop()
                stop.set()

            on_signals(end)
            settle()
            await worker.run(stop)
    finally:
        tracing.stop()
        await runtime.close()
