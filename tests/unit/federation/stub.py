"""Machinery without subgraphs: graphql-core answers over one schema, and everything is counted."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from graphql import build_schema, execute, parse

from gateway.federation.errors import NoPlan
from gateway.federation.operation import Operation
from gateway.federation.requests import Request, Result

SCHEMA = build_schema("""
enum Colour { RED GREEN }
type Query {
  hello(name: String): String, n: Int, colour(c: Colour!): Colour, self: Query, lost: Int,
  page(first: Int): [Query]
}
type Mutation { add: Int }
type Subscription { count(to: Int!): Int, failing: Int }
""")


class Stub:
    """Counts what is prepared and run; `gate`, if set, holds answers back."""

    def __init__(self, greeting: str = "hello") -> None:
        self.schema = SCHEMA
        self.greeting = greeting
        self.prepared: list[tuple[str, frozenset[str]]] = []
        self.requests: list[Request] = []
        self.gate: asyncio.Event | None = None
        self.asked = asyncio.Event()
        self.slow = 0.0
        self.added = 0
        self.root = {
            "hello": lambda _, name=None: f"{greeting} {name}" if name else greeting,
            "n": 1,
            "colour": lambda _, c: c,
            "page": lambda _, first=1: [self.root] * first,
            "self": lambda _: self.root,
            "add": lambda _: self.add(),
        }

    def add(self) -> int:
        self.added += 1
        return self.added

    labelled = False

    def labels(self, request: Request) -> frozenset[str]:
        return frozenset()

    def prepare(self, operation: Operation, labels: frozenset[str]) -> "Prepared":
        if self.slow:
            time.sleep(self.slow)
        if "lost" in operation.text:
            raise NoPlan("no subgraph gives Query.lost", ("lost",))
        self.prepared.append((operation.text, labels))
        return Prepared(self, operation)


class Prepared:
    def __init__(self, stub: Stub, operation: Operation) -> None:
        self.stub, self.kind = stub, operation.kind
        self.document = parse(operation.text)

    async def run(self, request: Request, variables: Mapping[str, Any]) -> Result:
        self.stub.requests.append(request)
        self.stub.asked.set()
        if self.stub.gate is not None:
            await self.stub.gate.wait()
        found: Any = execute(SCHEMA, self.document, self.stub.root, variable_values=dict(variables))
        return Result(orjson.dumps(found.data), [dict(one.formatted) for one in found.errors or ()])

    async def subscribe(
        self, request: Request, variables: Mapping[str, Any]
    ) -> AsyncIterator[Result]:
        self.stub.requests.append(request)
        for number in range(variables.get("to", 3)):
            if self.stub.gate is not None:
                await self.stub.gate.wait()
            yield Result(b'{"count":%d}' % number)
            await asyncio.sleep(0)
