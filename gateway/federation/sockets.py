"""graphql-transport-ws for clients: operations over one WebSocket, answered event by event.

`Conversation` speaks the protocol and knows no socket; `Socket` puts it on a connection of the
server, by websockets' protocol without I/O.

Source: the graphql-transport-ws protocol of the graphql-ws project; RFC 6455.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from gateway.federation.http import Asked, asked_of
from gateway.federation.requests import RequestError, Result

log = logging.getLogger(__name__)

PROTOCOL = "graphql-transport-ws"
_INIT_SECONDS = 10.0
_PING_SECONDS = 20.0
_OPERATIONS = 100  # at once on one socket
_HELD_EVENTS = 1_000  # Messages a client has not read yet; more and it is too slow.
_HELD_BYTES = 8 << 20  # The same in bytes, beside the last message.

Subscribe = Callable[[Asked, Mapping[str, str]], AsyncIterator[Result]]
"""Starts an operation, given what `connection_init` said (texts by name in lower case)."""


class Conversation:
    """One client's side of the protocol.

    Args:
        subscribe: Starts an operation.
        send: Sends a text.
        close: Closes the socket with a code and a reason.
    """

    def __init__(
        self,
        subscribe: Subscribe,
        send: Callable[[bytes], None],
        close: Callable[[int, str], None],
    ) -> None:
        self._subscribe = subscribe
        self._send = send
        self._close = close
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._said: dict[str, str] | None = None
        self._patience = asyncio.get_running_loop().call_later(_INIT_SECONDS, self._impatient)

    def received(self, text: bytes | str) -> None:
        """Take a message of the client."""
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            self._close(4400, "Invalid message")
            return
        kind = message.get("type") if isinstance(message, dict) else None
        handle = _HANDLERS.get(kind) if isinstance(kind, str) else None
        if handle is None:
            self._close(4400, "Invalid message")
        else:
            handle(self, message)

    def end(self) -> None:
        """Stop everything; the socket is gone."""
        self._patience.cancel()
        for task in self._operations.values():
            task.cancel()

    def complete(self) -> None:
        """Tell the client that every operation has ended: the server is about to."""
        for name in list(self._operations):
            self._operations.pop(name).cancel()
            self._tell({"id": name, "type": "complete"})

    def _impatient(self) -> None:
        if self._said is None:
            self._close(4408, "Connection initialisation timeout")

    def _init(self, message: dict[str, Any]) -> None:
        if self._said is not None:
            self._close(4429, "Too many initialisation requests")
            return
        payload = message.get("payload")
        if not isinstance(payload, dict | None):
            self._close(4400, "Invalid message")
            return
        self._said = {
            name.lower(): value
            for name, value in (payload or {}).items()
            if isinstance(value, str) and value.isascii() and value.isprintable()
        }
        self._patience.cancel()
        self._tell({"type": "connection_ack"})

    def _ping(self, message: dict[str, Any]) -> None:
        self._tell({"type": "pong"} | ({"payload": p} if (p := message.get("payload")) else {}))

    def _pong(self, message: dict[str, Any]) -> None:
        pass

    def _start(self, message: dict[str, Any]) -> None:
        name = message.get("id")
        if not isinstance(name, str) or not name or not isinstance(message.get("payload"), dict):
            self._close(4400, "Invalid message")
        elif self._said is None:
            self._close(4401, "Unauthorized")
        elif name in self._operations:
            self._close(4409, f"Subscriber for {name[:80]} already exists")
        elif len(self._operations) >= _OPERATIONS:
            self._tell(
                {"id": name, "type": "error", "payload": [{"message": "Too many operations."}]}
            )
        else:
            work = self._run(name, message["payload"], self._said)
            self._operations[name] = asyncio.get_running_loop().create_task(work)

    def _stop(self, message: dict[str, Any]) -> None:
        name = message.get("id")
        if not isinstance(name, str):
            self._close(4400, "Invalid message")
        elif (task := self._operations.pop(name, None)) is not None:
            task.cancel()

    async def _run(self, name: str, payload: Any, said: Mapping[str, str]) -> None:
        end: dict[str, Any] = {"id": name, "type": "complete"}
        try:
            async with contextlib.aclosing(
                cast(Any, self._subscribe(asked_of(payload), said))
            ) as results:
                async for result in results:
                    if result.data is None:
                        end = {"id": name, "type": "error", "payload": result.errors}
                        break
                    self._send(
                        b'{"id":%b,"type":"next","payload":%b}'
                        % (orjson.dumps(name), result.body())
                    )
        except RequestError as error:
            end = {"id": name, "type": "error", "payload": error.errors}
        except Exception:
            log.exception("a subscription failed")
            failure = {"message": "Something went wrong.", "extensions": {"code": "INTERNAL"}}
            end = {"id": name, "type": "error", "payload": [failure]}
        if self._operations.get(name) is asyncio.current_task():
            del self._operations[name]
            self._tell(end)

    def _tell(self, message: Mapping[str, Any]) -> None:
        self._send(orjson.dumps(message))


_HANDLERS: Mapping[str, Callable[[Conversation, dict[str, Any]], None]] = {
    "connection_init": Conversation._init,
    "ping": Conversation._ping,
    "pong": Conversation._pong,
    "subscribe": Conversation._start,
    "complete": Conversation._stop,
}


class Socket:
    """A connection that has become a WebSocket.

    Args:
        transport: The connection's.
        head: The request that asked for it, as bytes.
        subscribe: Starts an operation.
        most: The largest message, in bytes.
    """

    def __init__(
        self, transport: asyncio.Transport, head: bytes, subscribe: Subscribe, *, most: int
    ) -> None:
        self._transport = transport
        self._wire = ServerProtocol(
            subprotocols=[cast(Subprotocol, PROTOCOL)],
            select_subprotocol=_select,
            max_size=most,
        )
        self._conversation: Conversation | None = None
        self._subscribe = subscribe
        self._text: list[bytes] = []
        self._held = 0
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self._heart: asyncio.TimerHandle | None = None
        self._answered = True
        self._wire.receive_data(head)
        self._handle()

    def data_received(self, data: bytes) -> None:
        self._wire.receive_data(data)
        self._handle()

    def connection_lost(self, error: Exception | None) -> None:
        if self._conversation is not None:
            self._conversation.end()
        if self._heart is not None:
            self._heart.cancel()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused, self._held = False, 0

    def stop(self) -> None:
        """End operations and close, since the server ends."""
        if self._conversation is not None:
            self._conversation.complete()
        self._close(1001, "Going away")

    def _handle(self) -> None:
        for event in self._wire.events_received():
            if isinstance(event, Handshake):
                self._shake_hands(event)
            elif isinstance(event, Frame):
                self._frame(event)
        self._flush()

    def _shake_hands(self, request: Handshake) -> None:
        response = self._wire.accept(request)
        self._wire.send_response(response)
        if self._wire.state is not State.OPEN:
            return
        self._conversation = Conversation(self._subscribe, self._send, self._close)
        self._heart = self._loop.call_later(_PING_SECONDS, self._beat)
        if self._wire.subprotocol != PROTOCOL:
            self._close(4406, "Subprotocol not acceptable")

    def _frame(self, frame: Frame) -> None:
        self._answered = True
        if frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._text.append(bytes(frame.data))
            if frame.fin and self._conversation is not None:
                text, self._text = b"".join(self._text), []
                self._conversation.received(text)
        elif frame.opcode is Opcode.BINARY:
            self._close(4400, "Invalid message")
        elif frame.opcode is Opcode.CLOSE and self._conversation is not None:
            self._conversation.end()

    def _beat(self) -> None:
        """Ask the client for a sign of life; without one since the last time it is gone."""
        if not self._answered:
            self._transport.abort()
            return
        self._answered = False
        with contextlib.suppress(InvalidState):
            self._wire.send_ping(b"")
        self._flush()
        self._heart = self._loop.call_later(_PING_SECONDS, self._beat)

    def _send(self, text: bytes) -> None:
        if self._paused:
            self._held += 1
            unread = self._transport.get_write_buffer_size()
            if self._held > _HELD_EVENTS or unread > _HELD_BYTES:
                self._transport.abort()
                return
        with contextlib.suppress(InvalidState):
            self._wire.send_text(text)
        self._flush()

    def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(InvalidState):
            self._wire.send_close(code, reason)
        if self._conversation is not None:
            self._conversation.end()
        self._flush()
        self._loop.call_later(1.0, self._transport.abort)

    def _flush(self) -> None:
        for data in self._wire.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()


def handshake(target: bytes, headers: Mapping[bytes, bytes]) -> bytes:
    """The head of an upgrade request, written again from what was read."""
    lines = [b"GET %b HTTP/1.1" % target]
    lines += [b"%b: %b" % (name, value) for name, value in headers.items()]
    return b"\r\n".join([*lines, b"", b""])


def same_origin(headers: Mapping[bytes, bytes], allowed: frozenset[str]) -> bool:
    """Whether a page may open a socket: one of our own host, or of an origin that is allowed."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin or origin in allowed or "*" in allowed:
        return True
    return urlsplit(origin).netloc == headers.get(b"host", b"").decode("latin-1")


def _select(protocol: ServerProtocol, offered: Any) -> Any:
    return PROTOCOL if PROTOCOL in offered else None
