"""A client of a router that sees every byte."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

Answer = tuple[int, Mapping[str, str], bytes]


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    def post(self, body: Any, **headers: str) -> None:
        """Send a GraphQL request."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"host": "router", "content-type": "application/json", **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
        head = "\r\n".join(
            ["POST /graphql HTTP/1.1", *lines, f"content-length: {len(text)}", "", ""]
        )
        self.send(head.encode() + text)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer."""
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = raw.strip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def answer(self) -> Answer:
        status, headers = await self.head()
        return status, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def chunk(self) -> bytes:
        """The next chunk of a streamed answer; empty at its end."""
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        found = await self.reader.readexactly(size + 2)
        return found[:-2]

    async def ended(self) -> bytes:
        """What comes until the server closes."""
        with contextlib.suppress(ConnectionResetError):
            return await self.reader.read()
        return b""


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(port: int, query: str | None, **more: Any) -> Any:
    """The JSON of one answer; `headers` are the request's, all else goes into the body."""
    headers = more.pop("headers", {})
    async with connected(port) as wire:
        wire.post({"query": query} | more, **headers)
        return json.loads((await wire.answer())[2])


async def get(port: int, target: str) -> Answer:
    async with connected(port) as wire:
        wire.send(f"GET {target} HTTP/1.1\r\nhost: router\r\n\r\n".encode())
        return await wire.answer()
