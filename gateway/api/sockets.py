"""Subscriptions over WebSocket: Strawberry's graphql-transport-ws, with our guard and limits.

The token comes with the upgrade or in `connection_init`; it is checked again each second and
before each event, so that a socket ends with its token. Only subscriptions are served here.

Source: the graphql-transport-ws protocol of the graphql-ws project.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import orjson
from graphql import OperationType
from starlette.websockets import WebSocket, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
    Operation,
)
from strawberry.types.unset import UNSET

from gateway import telemetry
from gateway.api.context import Context
from gateway.api.endpoint import (
    BODY_LIMIT,
    Asked,
    Endpoint,
    Prepared,
    Seen,
    Unreadable,
    locale_of,
)
from gateway.api.errors import Internal, present, top_level
from gateway.api.merchant_graphs import shown
from gateway.errors import Denied
from gateway.oauth.guard import Actor, Unauthenticated
from gateway.values import new_id

log = telemetry.log(__name__)

PROTOCOL = "graphql-transport-ws"
SUBSCRIPTIONS = 20  # at once on one socket
_CHECK_SECONDS = 1.0


class Sockets:
    """Serves the subscriptions of an endpoint's schema."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        seconds = endpoint.services.settings.subscription_init_seconds
        self._patience = timedelta(seconds=seconds)

    async def answer(self, socket: WebSocket) -> None:
        """Serve one socket until it or its token ends."""
        if PROTOCOL not in socket.scope.get("subprotocols", ()):
            await socket.accept()
            await socket.close(4406, "Subprotocol not acceptable")
            return
        await socket.accept(subprotocol=PROTOCOL)
        try:
            rates = self._endpoint.services.rates
            rates.admit_address(socket.client.host if socket.client else "")
        except Denied as denied:
            await socket.close(4429, denied.code)
            return
        view: Any = _View(socket, self._endpoint)
        handler = _Handler(view, self._patience)
        checking = asyncio.create_task(handler.check_token())
        try:
            await handler.handle()
        finally:
            checking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await checking


class _View:
    """What Strawberry's handler asks of a view: JSON, and who may connect."""

    def __init__(self, socket: WebSocket, endpoint: Endpoint) -> None:
        self.socket = socket
        self.endpoint = endpoint
        self.authorization = socket.headers.get("authorization")
        self.connection_params: dict[str, Any] = {}

    def decode_json(self, text: str) -> object:
        if len(text.encode(errors="surrogatepass")) > BODY_LIMIT:
            return None  # As any message that is none: 4400.
        try:
            return json.loads(text)
        except RecursionError:
            return None

    def encode_json(self, data: object) -> str:
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"))

    async def on_ws_connect(self, _context: object) -> object:
        """Check the token of the upgrade or of `connection_init`."""
        for name, value in self.connection_params.items():
            if name.lower() == "authorization" and isinstance(value, str):
                self.authorization = value
        try:
            self.endpoint.services.rates.admit(await self.actor())
        except Denied as denied:
            raise ConnectionRejectionError from denied
        return UNSET

    async def actor(self) -> Actor:
        """Who this is, if the token is good still.

        Raises:
            Unauthenticated: It is not.
        """
        return await self.endpoint.services.guard.authenticate(self.authorization)


class _Handler(BaseGraphQLTransportWSHandler[Any, Any]):
    def __init__(self, view: Any, patience: timedelta) -> None:
        socket = view.socket
        super().__init__(
            view=view,
            websocket=ASGIWebSocketAdapter(view, socket, socket),
            context=view,  # It keeps the parameters of `connection_init`.
            root_value=None,
            schema=view.endpoint.schema,
            connection_init_wait_timeout=patience,
            max_subscriptions_per_connection=SUBSCRIPTIONS,
        )
        self._view: _View = view
        self._locale = locale_of(socket.headers.get("accept-language", ""))

    async def check_token(self) -> None:
        """Close the socket when its token has ended."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            if self.connection_acknowledged:
                try:
                    await self._view.actor()
                except Unauthenticated:
                    await self._expired()
                    return

    async def _expired(self) -> None:
        for operation_id in list(self.operations):
            await self.cleanup_operation(operation_id)
        if self._view.socket.application_state is WebSocketState.CONNECTED:
            await self.websocket.close(code=4401, reason="Unauthorized")

    async def handle_message(self, message: Any) -> None:
        """Serve a message of the protocol's form; anything else ends the socket."""
        if not _well_formed(message):
            await self.handle_invalid_message("Invalid message")
            return
        await super().handle_message(message)

    async def run_operation(self, operation: Operation[Any, Any]) -> None:
        """Run one subscription: prepared as /graphql prepares a query, then streamed."""
        with telemetry.request(new_id("req")) as request_id:
            try:
                await self._stream(operation, request_id)
            except Unauthenticated:
                await self._expired()
            except Denied as denied:
                error = top_level(denied, locale=self._locale, request_id=request_id)
                await self._refuse(operation, error)
            except Unreadable as error:
                told = error.told(locale=self._locale, request_id=request_id)
                await self._refuse(operation, *told)
            except (WebSocketDisconnected, RuntimeError):
                if self._view.socket.application_state is WebSocketState.CONNECTED:
                    raise
            except Exception:
                log.exception("subscription failed")
                bug = Internal(request_id=request_id)
                failure = top_level(bug, locale=self._locale, request_id=request_id)
                await self._refuse(operation, failure)

    async def _stream(self, operation: Operation[Any, Any], request_id: str) -> None:
        actor = await self._view.actor()
        asked = Asked(
            operation.query, operation.operation_name or None, operation.variables or {}, False
        )
        found = self._view.endpoint.prepare(actor, asked, Seen())
        if found.kind is not OperationType.SUBSCRIPTION:
            raise Unreadable("queries and mutations are sent by POST")
        context = Context(self._view.endpoint.services, actor, self._locale, request_id)
        events = self._events(found, asked, context)
        try:
            async with contextlib.aclosing(events):
                async for data, errors in events:
                    await context.end_reads()  # Nothing is open while the socket takes its time.
                    await self._view.actor()
                    await self._send(operation, data, errors)
                    if operation.completed:
                        return
        finally:
            await context.end_reads()
        await operation.send_operation_message({"id": operation.id, "type": "complete"})

    async def _events(
        self, found: Prepared, asked: Asked, context: Context
    ) -> AsyncGenerator[tuple[Any, list[dict[str, Any]]], None]:
        """Data and errors of each event: of our own schema, or with merchants' fields."""
        graph, document, name = found.graph, found.document, asked.operation_name
        if document.merchants:
            text = document.local.text
            async for result in graph.events(text, name, asked.variables, context):
                told = [await shown(error, context, graph) for error in result.errors]
                yield None if result.data is None else orjson.loads(result.data), told
            return
        async with contextlib.aclosing(
            graph.local.events(document.local, name, asked.variables, context)
        ) as events:
            async for answer in events:
                facts = {"locale": context.locale, "request_id": context.request_id}
                yield answer.data, [present(error, **facts) for error in answer.errors]

    async def _send(
        self, operation: Operation[Any, Any], data: Any, errors: list[dict[str, Any]]
    ) -> None:
        if data is None and errors:
            await self._refuse(operation, *errors)
            return
        payload = {"data": data} | ({"errors": errors} if errors else {})
        message: Any = {"id": operation.id, "type": "next", "payload": payload}
        await operation.send_operation_message(message)

    async def _refuse(self, operation: Operation[Any, Any], *errors: dict[str, Any]) -> None:
        log.info("subscription refused", code=errors[0]["extensions"]["code"])
        message: Any = {"id": operation.id, "type": "error", "payload": list(errors)}
        await operation.send_operation_message(message)


def _well_formed(message: Any) -> bool:
    """Whether a message has the form the protocol gives its type."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return False
    if message["type"] not in ("subscribe", "complete"):
        return True
    if not isinstance(message.get("id"), str) or not message["id"]:
        return False
    if message["type"] == "complete":
        return True
    payload = message.get("payload")
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str)
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
    )
