"""A client of our subscriptions: graphql-transport-ws over a real socket."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

REDEMPTION = """subscription($id: ID!, $after: Int) {
  redemptionUpdated(id: $id, after: $after) { id sequence type state redemption { id state } } }"""
FEED = """subscription($after: String) {
  partnerEvents(after: $after) { id type object sequence cursor data } }"""


@dataclass
class Subscriber:
    """One socket."""

    socket: ClientConnection
    count: int = 0

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.socket.recv())
        return found

    async def follow(self, query: str, **variables: Any) -> str:
        """Subscribe; the operation's id."""
        self.count += 1
        payload = {"query": query, "variables": variables}
        await self.say(type="subscribe", id=str(self.count), payload=payload)
        return str(self.count)

    async def next(self, field: str = "redemptionUpdated") -> dict[str, Any]:
        """The next event of a subscription."""
        message = await self.hear()
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        found: dict[str, Any] = message["payload"]["data"][field]
        return found

    async def closed_with(self) -> int:
        """The code the server closes with; what it sends before is passed over."""
        try:
            while True:
                await self.socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006  # As the protocol calls silence.


@contextlib.asynccontextmanager
async def socket(
    base: str, *, token: str | None = None, protocol: str = "graphql-transport-ws"
) -> AsyncIterator[Subscriber]:
    """An open socket, not yet initialised; the token goes with the upgrade."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    url = base.replace("http://", "ws://") + "/graphql"
    async with connect(
        url, subprotocols=[protocol], additional_headers=headers, proxy=None
    ) as opened:
        yield Subscriber(opened)


@contextlib.asynccontextmanager
async def subscribed(base: str, token: str) -> AsyncIterator[Subscriber]:
    """A socket that is initialised with a token."""
    async with socket(base) as made:
        await made.say(type="connection_init", payload={"Authorization": f"Bearer {token}"})
        assert await made.hear() == {"type": "connection_ack"}
        yield made
