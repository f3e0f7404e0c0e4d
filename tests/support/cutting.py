"""A way to PostgreSQL that cuts a connection at its COMMIT: before it, or after it happened.

It knows the protocol as far as it must: a message of the client is a letter, a length of four
bytes and a body; the first ones of a connection have no letter.
"""

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Literal

Cut = Literal["before", "after", ""]
_SSL_REQUEST = 80_877_103


class CuttingProxy:
    """Listens on a port of its own.

    Args:
        port: The server's.
        choose: Asked at each COMMIT what to do with it: cut the connection `before` it arrives,
            `after` the server has done it, or let it pass (empty).
    """

    def __init__(self, port: int, choose: Callable[[], Cut]) -> None:
        self._server_port = port
        self._choose = choose
        self.cuts: Counter[str] = Counter()
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        answers, server = await asyncio.open_connection("127.0.0.1", self._server_port)
        muted = asyncio.Event()
        back_way = asyncio.create_task(_copy(answers, back, muted))
        try:
            await self._forward(client, server, back, muted)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            server.close()
            back.close()
            await back_way

    async def _forward(
        self,
        client: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        muted: asyncio.Event,
    ) -> None:
        """Pass message by message, until a COMMIT is cut."""
        code = _SSL_REQUEST
        while code == _SSL_REQUEST:
            start = await client.readexactly(8)
            length, code = struct.unpack("!II", start)
            server.write(start + await client.readexactly(length - 8))
        while True:
            head = await client.readexactly(5)
            body = await client.readexactly(struct.unpack("!I", head[1:])[0] - 4)
            cut = self._choose() if head[:1] in b"QP" and b"COMMIT" in body else ""
            if cut:
                self.cuts[cut] += 1
            if cut == "before":
                return
            if cut == "after":
                muted.set()
            server.write(head + body)
            await server.drain()
            if cut == "after":
                await _ended(client)
                return


async def _copy(
    answers: asyncio.StreamReader, back: asyncio.StreamWriter, muted: asyncio.Event
) -> None:
    """Pass the server's answers; once muted, the first one ends the connection instead."""
    with contextlib.suppress(ConnectionError):
        while data := await answers.read(65_536):
            if muted.is_set():
                break
            back.write(data)
            await back.drain()
    back.close()


async def _ended(client: asyncio.StreamReader) -> None:
    """Wait until the client has seen the end of its connection."""
    with contextlib.suppress(ConnectionError):
        while await client.read(65_536):
            pass
