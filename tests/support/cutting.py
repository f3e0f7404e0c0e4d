"""A way to PostgreSQL that cuts a connection at its COMMIT: before it, or after it happened.

It knows the protocol as far as it must: a message of the client is a letter, a length of four
bytes and a body; the first ones of a connection have no letter. The driver sends BEGIN and COMMIT
as simple queries and everything else as prepared statements. A statement that writes and has no
BEGIN before it commits by itself.
"""

import asyncio
import contextlib
import re
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Literal

Cut = Literal["before", "after", ""]
_SSL_REQUEST = 80_877_103
_WRITES = re.compile(rb"\b(?:INSERT INTO (\w+)|UPDATE (\w+) SET|DELETE FROM (\w+))\b")


@dataclass
class Spoken:
    """What one connection has said: its prepared statements, and whether it has written."""

    writing: dict[bytes, set[str]] = field(default_factory=dict)  # by name of a prepared statement
    begun: bool = False
    wrote: set[str] = field(default_factory=set)  # tables, since BEGIN

    def commits(self, kind: bytes, body: bytes) -> bool:
        """Note a message; whether it commits what has been written."""
        if kind == b"P":
            name, text, *_ = body.split(b"\0")
            found = _WRITES.findall(text)
            self.writing[name] = {table.decode() for names in found for table in names if table}
        elif kind == b"B":
            _, name, *_ = body.split(b"\0", 2)
            self.wrote = self.wrote | self.writing[name] if self.begun else self.writing[name]
            return bool(self.writing[name]) and not self.begun
        elif kind == b"Q" and body.startswith(b"BEGIN"):
            self.begun, self.wrote = True, set()
        elif kind == b"Q" and body.startswith((b"COMMIT", b"ROLLBACK;")):
            self.begun = False
        return kind == b"Q" and body == b"COMMIT;\0" and bool(self.wrote)


class CuttingProxy:
    """Listens on a port of its own.

    Args:
        port: The server's.
        choose: Asked at each commit of what was written: cut the connection `before` it arrives,
            `after` the server has done it, or let it pass (empty).
    """

    def __init__(self, port: int, choose: Callable[[], Cut]) -> None:
        self._server_port = port
        self._choose = choose
        self._lines: set[asyncio.Task[None]] = set()
        self.cuts: Counter[str] = Counter()
        self.wrote: frozenset[str] = frozenset()  # The tables of the commit that is chosen about.
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve; at the end every line is cut."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for line in self._lines:
                line.cancel()
            await asyncio.gather(*self._lines, return_exceptions=True)

    async def _accept(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        line = asyncio.create_task(self._serve(client, back))
        self._lines.add(line)
        line.add_done_callback(self._lines.discard)

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """One line, until either side ends it or it is cut: then both ends see it closed."""
        answers, server = await asyncio.open_connection("127.0.0.1", self._server_port)
        muted = asyncio.Event()
        ways = [
            asyncio.create_task(_copy(answers, back, muted)),
            asyncio.create_task(self._forward(client, server, muted)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            server.close()
            back.close()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _forward(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, muted: asyncio.Event
    ) -> None:
        """Pass message by message, until the client ends or a COMMIT is cut before it."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            code, spoken = _SSL_REQUEST, Spoken()
            while code == _SSL_REQUEST:
                start = await client.readexactly(8)
                length, code = struct.unpack("!II", start)
                server.write(start + await client.readexactly(length - 8))
            while True:
                head = await client.readexactly(5)
                body = await client.readexactly(struct.unpack("!I", head[1:])[0] - 4)
                cut: Cut = ""
                if spoken.commits(head[:1], body):
                    self.wrote = frozenset(spoken.wrote)
                    cut = self._choose()
                self.cuts[cut] += bool(cut)
                if cut == "before":
                    return
                if cut == "after":
                    muted.set()
                server.write(head + body)
                await server.drain()


async def _copy(
    answers: asyncio.StreamReader, back: asyncio.StreamWriter, muted: asyncio.Event
) -> None:
    """Pass the server's answers; once muted, the next one ends the line instead."""
    with contextlib.suppress(ConnectionError):
        while (data := await answers.read(65_536)) and not muted.is_set():
            back.write(data)
            await back.drain()
