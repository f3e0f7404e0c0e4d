"""Two small subgraphs over real HTTP and WebSocket, and the supergraph that joins them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import build_schema, execute, parse
from websockets.asyncio.server import ServerConnection, serve

from gateway.federation.http import Reply
from gateway.federation.serving import Server

OFFERS = build_schema("""
scalar _Any
union _Entity = Offer
type Query {
  offers: [Offer!]! who: String wait: String twice: Int
  _entities(representations: [_Any!]!): [_Entity]!
}
type Mutation { rename(id: ID!, name: String!): Offer }
type Subscription { offerAdded(count: Int = 2): Offer broken: Offer refused: Offer }
type Offer { id: ID! name: String! }
""")
REVIEWS = build_schema("""
scalar _Any
union _Entity = Offer
type Query { _entities(representations: [_Any!]!): [_Entity]! stars: Int }
type Offer { id: ID! reviews: [String!]! }
""")
SUPERGRAPH = """
schema
  @link(url: "https://specs.apollo.dev/link/v1.0")
  @link(url: "https://specs.apollo.dev/join/v0.3", for: EXECUTION)
{ query: Query mutation: Mutation subscription: Subscription }
directive @join__field(graph: join__Graph, requires: join__FieldSet, provides: join__FieldSet,
  type: String, external: Boolean, override: String, usedOverridden: Boolean)
  repeatable on FIELD_DEFINITION | INPUT_FIELD_DEFINITION
directive @join__graph(name: String!, url: String!) on ENUM_VALUE
directive @join__type(graph: join__Graph!, key: join__FieldSet, extension: Boolean! = false,
  resolvable: Boolean! = true, isInterfaceObject: Boolean! = false)
  repeatable on OBJECT | INTERFACE | UNION | ENUM | INPUT_OBJECT | SCALAR
directive @link(url: String, as: String, for: link__Purpose, import: [link__Import])
  repeatable on SCHEMA
scalar join__FieldSet
scalar link__Import
enum link__Purpose { SECURITY EXECUTION }
enum join__Graph {
  OFFERS @join__graph(name: "offers", url: "BASE/offers")
  REVIEWS @join__graph(name: "reviews", url: "BASE/reviews")
}
type Query @join__type(graph: OFFERS) @join__type(graph: REVIEWS) {
  offers: [Offer!]! @join__field(graph: OFFERS)
  who: String @join__field(graph: OFFERS)
  wait: String @join__field(graph: OFFERS)
  twice: Int @join__field(graph: OFFERS)
  stars: Int @join__field(graph: REVIEWS)
}
type Mutation @join__type(graph: OFFERS) {
  rename(id: ID!, name: String!): Offer @join__field(graph: OFFERS)
}
type Subscription @join__type(graph: OFFERS) {
  offerAdded(count: Int = 2): Offer @join__field(graph: OFFERS)
  broken: Offer @join__field(graph: OFFERS)
  refused: Offer @join__field(graph: OFFERS)
}
type Offer @join__type(graph: OFFERS, key: "id") @join__type(graph: REVIEWS, key: "id") {
  id: ID!
  name: String! @join__field(graph: OFFERS)
  reviews: [String!]! @join__field(graph: REVIEWS)
}
"""


@dataclass
class Subgraphs:
    """Both, with what they were asked; `gate` holds `wait` back, `events` what is streamed."""

    base: str = ""
    sockets: str = ""
    protocol: str = "multipart/mixed"
    requests: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    said: list[Mapping[str, Any]] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    names: dict[str, str] = field(default_factory=lambda: {"1": "Tea", "2": "Bun"})

    @property
    def supergraph(self) -> str:
        return SUPERGRAPH.replace("BASE", self.base)

    def asked(self, graph: str) -> list[str]:
        """The operations a subgraph was sent."""
        return [query for name, query, _ in self.requests if name == graph]

    def _root(self, graph: str, headers: Mapping[str, str]) -> dict[str, Any]:
        def offer(name: str) -> dict[str, Any]:
            one = {"__typename": "Offer", "id": name, "name": self.names.get(name, f"N{name}")}
            return one | {"reviews": [f"{graph} on {name}"]}

        def rename(_: Any, id: str, name: str) -> dict[str, Any]:
            self.names[id] = name
            return offer(id)

        return {
            "offers": lambda _: [offer(name) for name in self.names],
            "who": json.dumps({k: v for k, v in headers.items() if k in _TOLD}),
            "stars": 5,
            "wait": "waited",
            "twice": len(self.requests),
            "rename": rename,
            "_entities": lambda _, representations: [offer(r["id"]) for r in representations],
        }

    async def answer(
        self, method: bytes, target: bytes, headers: Mapping[bytes, bytes], body: bytes
    ) -> Reply:
        """A query or a mutation, or a subscription as a stream."""
        graph = target.decode().strip("/")
        sent = json.loads(body)
        told = {name.decode(): value.decode() for name, value in headers.items()}
        self.requests.append((graph, sent["query"], told))
        if sent["query"].startswith("subscription"):
            return self._streamed(sent)
        if "wait" in sent["query"]:
            self.waiting.set()
            await self.gate.wait()
        schema = OFFERS if graph == "offers" else REVIEWS
        found: Any = execute(
            schema,
            parse(sent["query"]),
            self._root(graph, told),
            variable_values=sent.get("variables"),
            type_resolver=lambda value, *_: value["__typename"],
        )
        return Reply(200, "application/json", json.dumps(found.formatted).encode())

    async def events(self, sent: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """What a subscription gives: some offers, then those that `more` asks for."""
        if "refused" in sent["query"]:
            yield {"errors": [{"message": "not for you"}], "data": None}
            return
        for number in range(7, 7 + (sent.get("variables") or {}).get("count", 2)):
            offer = {"__typename": "Offer", "id": str(number), "name": "New"}
            yield {"data": {"offerAdded": offer}}
        if "broken" not in sent["query"]:
            await self.more.wait()

    def _streamed(self, sent: Mapping[str, Any]) -> Reply:
        async def parts() -> AsyncIterator[bytes]:
            try:
                async for event in self.events(sent):
                    text = json.dumps({"payload": event}).encode()
                    yield b"--graphql\r\ncontent-type: application/json\r\n\r\n" + text + b"\r\n"
                    yield b"--graphql\r\ncontent-type: application/json\r\n\r\n{}\r\n"
                yield b"--graphql--\r\n"
            finally:
                self.closed.set()

        async def served() -> AsyncIterator[bytes]:
            try:
                async for event in self.events(sent):
                    text = json.dumps(event).encode()
                    yield b"event: next\r\ndata: " + text + b"\r\n\r\n:\r\n\r\n"
                yield b"event: complete\r\ndata:\r\n\r\n"
            finally:
                self.closed.set()

        if self.protocol == "multipart/mixed":
            return Reply(200, 'multipart/mixed;boundary="graphql"', b"", (), parts())
        return Reply(200, "text/event-stream", b"", (), served())

    async def converse(self, socket: ServerConnection) -> None:
        """graphql-transport-ws, written out: one operation, until the client goes."""
        work = asyncio.create_task(self._converse(socket))
        await socket.wait_closed()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        self.closed.set()

    async def _converse(self, socket: ServerConnection) -> None:
        first = json.loads(await socket.recv())
        assert first["type"] == "connection_init"
        self.said.append(first.get("payload") or {})
        await socket.send('{"type":"connection_ack"}')
        await socket.send('{"type":"ping"}')
        both = [json.loads(await socket.recv()), json.loads(await socket.recv())]
        sent = next(one["payload"] for one in both if one["type"] == "subscribe")
        assert {"type": "pong"} in both
        self.requests.append(("offers", sent["query"], {}))
        if "refused" in sent["query"]:
            error = {"id": "1", "type": "error", "payload": [{"message": "not for you"}]}
            await socket.send(json.dumps(error))
            return
        async for event in self.events(sent):
            await socket.send(json.dumps({"id": "1", "type": "next", "payload": event}))
        if "broken" in sent["query"]:
            await socket.close()
        await socket.send('{"id":"1","type":"complete"}')


_TOLD = ("authorization", "x-tenant", "cookie", "x-from")


@contextlib.asynccontextmanager
async def subgraphs() -> AsyncIterator[Subgraphs]:
    """Both subgraphs, up while the block runs."""
    made = Subgraphs()
    server = Server(made.answer)
    made.base = f"http://127.0.0.1:{await server.listen('127.0.0.1', 0)}"
    protocol: Any = "graphql-transport-ws"
    async with serve(made.converse, "127.0.0.1", 0, subprotocols=[protocol]) as sockets:
        made.sockets = f"ws://127.0.0.1:{next(iter(sockets.sockets)).getsockname()[1]}/"
        yield made
        made.gate.set()
        made.more.set()
    await server.stop(0.1)
