"""What `gateway worker` runs: the worker alone, without a server."""

import asyncio

from gateway.demo.supervisor import on_signals
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.worker import Worker


async def work(settings: Settings) -> None:
    """Work until asked to end; the round under way is finished."""
    runtime = await Runtime.open(settings)
    try:
        worker = Worker(
            runtime.database,
            runtime.partners,
            runtime.clock,
            runtime.settings,
            runtime.redemptions,
            webhooks=runtime.webhooks,
        )
        stop = asyncio.Event()
        on_signals(stop.set)
        await worker.run(stop)
    finally:
        await runtime.close()
