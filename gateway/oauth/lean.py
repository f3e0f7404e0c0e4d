"""HTTP/1.1 for calls that are many and small: the federation's connections under httpx2's client.

A call to a merchant's subgraph is on the way of somebody's query. Who may be asked, tokens,
deadlines and breakers stay with the layers above; this is the wire alone, and it goes to the
address that a layer above has checked, under the name that layer gives for TLS.
"""

import asyncio
import ssl

import httpx2

from gateway.federation.connections import Origin, Pool, Reply, Stale
from gateway.federation.services import ServiceFailure

_PORTS = {"http": 80, "https": 443}
_LONGEST = 3600.0  # Seconds of a call that has no deadline of its own.
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_ENDS = (b"\r", b"\n", b"\0")


class LeanTransport(httpx2.AsyncBaseTransport):
    """Sends requests that may be sent twice; reads answers whole.

    Args:
        tls: Whose certificates are good.
        connections: The most to one address.
        answer_bytes: The most that is read of one answer.
    """

    def __init__(
        self, *, tls: ssl.SSLContext, connections: int, connect_timeout: float, answer_bytes: int
    ) -> None:
        self._pool = Pool(
            most=connections, connect_timeout=connect_timeout, idle_timeout=60.0, tls=tls
        )
        self._answer_bytes = answer_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer; on a kept connection that was closed just then, asked once more on another.

        Raises:
            httpx2.ConnectError: Nothing was sent.
            httpx2.TransportError: It may have been.
        """
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        body = b"".join([part async for part in request.stream])
        data, origin = _head(request, len(body)) + body, _origin(request)
        seconds = request.extensions.get("timeout", {}).get("read")
        until = asyncio.get_running_loop().time() + (_LONGEST if seconds is None else seconds)
        try:
            reply = await self._ask(request, origin, data, until)
        except Stale:
            try:
                reply = await self._ask(request, origin, data, until, fresh=True)
            except Stale as error:
                raise httpx2.RemoteProtocolError("closed", request=request) from error
        headers = [("content-type", reply.media), ("retry-after", reply.retry_after)]
        return httpx2.Response(
            reply.status,
            headers=[(name, value) for name, value in headers if value],
            stream=httpx2.ByteStream(reply.body),
            request=request,
        )

    async def aclose(self) -> None:
        self._pool.close()
        await asyncio.sleep(0)  # Sockets are closed in the loop's next turn.

    async def _ask(
        self,
        request: httpx2.Request,
        origin: Origin,
        data: bytes,
        until: float,
        *,
        fresh: bool = False,
    ) -> Reply:
        try:
            connection = await self._pool.take(origin, until, fresh=fresh)
        except ServiceFailure as failure:
            raise httpx2.ConnectError(str(failure), request=request) from failure
        try:
            return await connection.ask(data, self._answer_bytes, until)
        except ServiceFailure as failure:
            late = failure.code == "SUBGRAPH_TIMEOUT"
            kind = httpx2.ReadTimeout if late else httpx2.RemoteProtocolError
            raise kind(str(failure), request=request) from failure
        finally:
            self._pool.give(connection)


def _origin(request: httpx2.Request) -> Origin:
    url = request.url
    port = _PORTS.get(url.scheme)
    if port is None or not url.host:
        raise httpx2.ConnectError("no HTTP address", request=request)
    name = str(request.extensions.get("sni_hostname", ""))
    return Origin(url.host, url.port or port, url.scheme == "https", name)


def _head(request: httpx2.Request, size: int) -> bytes:
    """The request up to its body; a header that would be more than a line is refused."""
    lines = [f"{request.method} ".encode() + request.url.raw_path + b" HTTP/1.1"]
    lines += [
        name + b": " + value for name, value in request.headers.raw if name.lower() not in _FRAMING
    ]
    lines.append(b"content-length: %d" % size)
    if any(end in line for line in lines for end in _ENDS) or lines[0].count(b" ") != 2:
        raise httpx2.LocalProtocolError("a header of more than a line", request=request)
    return b"\r\n".join(lines) + b"\r\n\r\n"
