"""Requests under way; identical reads that are under way at the same time are one.

Nothing is kept once it has been answered: sharing saves work, it never serves an older answer than
the asker's own request would have got.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass

from gateway.federation.services import Answer, Service, SubgraphRequest


@dataclass(slots=True, eq=False)
class Flight:
    """A request under way, and how many wait for it."""

    task: asyncio.Task[Answer]
    waiters: int = 1

    def leave(self) -> None:
        """One waiter less; the last one to leave cancels the request."""
        self.waiters -= 1
        if self.waiters <= 0:
            self.task.cancel()


class Flights:
    """The requests under way of one gateway.

    Args:
        share: Whether identical reads are one request.
    """

    def __init__(self, *, share: bool = True) -> None:
        self.share = share
        self._shared: dict[Hashable, Flight] = {}

    def send(self, service: Service, request: SubgraphRequest, identity: Hashable) -> Flight:
        """Ask a service, or join who asks it the same under the same identity.

        Requests are the same if the service, the body and the forwarded headers are. A mutation or
        a subscription is never shared.
        """
        if not self.share or request.kind != "query":
            return Flight(asyncio.ensure_future(service.fetch(request)))
        key = (request.service, request.body, request.headers, identity)
        flight = self._shared.get(key)
        if flight is not None and flight.waiters > 0:
            flight.waiters += 1
            return flight
        flight = Flight(asyncio.ensure_future(service.fetch(request)))
        self._shared[key] = flight

        def landed(task: asyncio.Task[Answer], mine: Flight = flight) -> None:
            if self._shared.get(key) is mine:
                del self._shared[key]

        flight.task.add_done_callback(landed)
        return flight
