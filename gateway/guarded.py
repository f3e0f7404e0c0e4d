"""A server that slow clients cannot hold up: deadlines, and connections that are counted.

uvicorn waits for a request's head and body as long as the client likes, and a few hundred such
clients take all file descriptors. Here a head and a body have a deadline each, one address has a
limited number of connections, and when the process has as many as it may, the one that has been
without a request for longest makes room.

Source: security.md §0.2.
"""

import asyncio
import resource
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.settings import Settings
from gateway.telemetry import metrics

_LINGER = 1.0  # Seconds a dropped client has to take its answer.


@dataclass(slots=True)
class Crowd:
    """The connections of one server."""

    most: int
    each: int  # of one address; 0: no limit
    here: Counter[str] = field(default_factory=Counter)
    idle: "dict[GuardedProtocol, None]" = field(default_factory=dict)  # no whole head; oldest first
    count: int = 0


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 with deadlines. `protocol` makes the class of a server."""

    crowd: ClassVar[Crowd]
    head_seconds: ClassVar[float]
    body_seconds: ClassVar[float]

    _address: str = ""
    _counted = False
    _upgraded = False
    _phase: tuple[str, int] | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # As uvicorn's.
        super().connection_made(transport)
        crowd = self.crowd
        self._address = self.client[0] if self.client else ""
        self._counted = True
        crowd.count += 1
        crowd.here[self._address] += 1
        metrics.CONNECTIONS.inc()
        if crowd.each and crowd.here[self._address] > crowd.each:
            self._drop("address", b"503 Service Unavailable")
            return
        if crowd.count > crowd.most:
            next(iter(crowd.idle), self)._drop("crowd", b"503 Service Unavailable")
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """The connection stays counted; its deadlines are those of the WebSocket from here on."""
        self._upgraded = True
        self._enter(None)
        super().handle_websocket_upgrade(event)
        successor: Any = self.transport.get_protocol()
        if successor is self:
            return
        lost = successor.connection_lost

        def connection_lost(exc: Exception | None) -> None:
            self._leave()
            lost(exc)

        successor.connection_lost = connection_lost

    def pause_writing(self) -> None:
        super().pause_writing()
        self._enter(("reader", 0))

    def resume_writing(self) -> None:
        super().resume_writing()
        self._enter(None)
        self._watch()

    def _watch(self) -> None:
        """Set the deadline of what the client owes us now, if it owes anything."""
        if self._phase and self._phase[0] == "reader":
            return
        theirs = self.conn.their_state
        if self._upgraded or self.transport.is_closing() or not self._counted:
            self._enter(None)
        elif theirs is h11.SEND_BODY:
            self._enter(("body", id(self.cycle)))
        elif theirs is h11.IDLE:
            begun = self.cycle is None or self.conn.trailing_data[0]
            self._enter(("head" if begun else "idle", id(self.cycle)))
        else:
            self._enter(None)

    def _enter(self, phase: tuple[str, int] | None) -> None:
        if phase == self._phase:
            return
        self._phase = phase
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self.crowd.idle.pop(self, None)
        if phase is None:
            return
        if phase[0] in ("head", "idle"):
            self.crowd.idle[self] = None
        if phase[0] == "idle":
            return  # uvicorn's own deadline of a kept connection runs.
        seconds = self.head_seconds if phase[0] == "head" else self.body_seconds
        self._deadline = self.loop.call_later(seconds, self._late, phase[0])

    def _late(self, what: str) -> None:
        self._deadline = None
        self._drop(what, b"408 Request Timeout")

    def _drop(self, why: str, status: bytes) -> None:
        metrics.DROPPED.labels(why).inc()
        self._enter(None)
        if self.transport.is_closing():
            return
        unanswered = self.cycle is None or self.conn.our_state is h11.IDLE
        if unanswered:
            lines = (b"HTTP/1.1 " + status, b"connection: close", b"content-length: 0", b"", b"")
            self.transport.write(b"\r\n".join(lines))
        self.transport.close()
        self.loop.call_later(_LINGER, self.transport.abort)

    def _leave(self) -> None:
        if not self._counted:
            return
        self._counted = False
        self._enter(None)
        self.crowd.count -= 1
        self.crowd.here[self._address] -= 1
        if not self.crowd.here[self._address]:
            del self.crowd.here[self._address]
        metrics.CONNECTIONS.dec()


def protocol(settings: Settings) -> type[GuardedProtocol]:
    """The protocol of one server, with the limits of these settings."""
    limits = {
        "crowd": Crowd(settings.connections or _affordable()[0], settings.connections_per_address),
        "head_seconds": settings.request_head_seconds,
        "body_seconds": settings.request_body_seconds,
    }
    return type("ServerProtocol", (GuardedProtocol,), limits)


def config(app: Any, settings: Settings, **more: Any) -> uvicorn.Config:
    """uvicorn's configuration of a guarded server; `more` is handed on to it."""
    return uvicorn.Config(
        app,
        http=protocol(settings),
        h11_max_incomplete_event_size=settings.request_head_bytes,
        backlog=_affordable()[1],
        log_config=None,
        access_log=False,
        **more,
    )


def _affordable() -> tuple[int, int]:
    """How many connections the limit of open files allows for, and how many to accept at once.

    All that are accepted at once are open before the first is looked at. A quarter is left for
    the database, partners and files.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = min(soft, 65_536) if soft != resource.RLIM_INFINITY else 65_536
    at_once = max(16, min(2048, soft // 8))
    return max(16, soft - at_once - max(32, soft // 4)), at_once
