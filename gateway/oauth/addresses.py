"""Connect only where it is meant to: public addresses, checked once and then used.

A merchant gives the address of its system, so it could name ours, or a cloud's metadata service.
The name is resolved once; all its addresses must be public; the connection goes to the checked
one, with the name kept for TLS and Host. Redirects are not followed.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

import httpx2

Resolve = Callable[[str, int], Awaitable[list[str]]]
PORTS = (443, 8443)
_EMBEDDED = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "::/96",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
    )
)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def public(address: str) -> bool:
    """Whether an address is on the public internet, and hides no other one in it."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if any(parsed in network for network in _EMBEDDED):
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


class PublicOnly(httpx2.AsyncBaseTransport):
    """Sends requests to public addresses over TLS, and nowhere else."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, *, resolver: Resolve = resolve) -> None:
        self._inner = inner
        self._resolve = resolver

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        if url.scheme != "https" or url.userinfo or (url.port or 443) not in PORTS:
            raise httpx2.ConnectError("not an https address", request=request)
        try:
            found = await self._resolve(url.host, url.port or 443)
        except OSError as error:
            raise httpx2.ConnectError("not found", request=request) from error
        if not found or not all(public(address) for address in found):
            raise httpx2.ConnectError("not a public address", request=request)
        pinned = httpx2.Request(
            request.method,
            url.copy_with(host=found[0]),
            headers=request.headers,  # Host keeps the name.
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": url.host},
        )
        return await self._inner.handle_async_request(pinned)

    async def aclose(self) -> None:
        await self._inner.aclose()


class LoopbackToo(httpx2.AsyncBaseTransport):
    """As PublicOnly, and to this machine by its loopback names: for the sandbox."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, *, resolver: Resolve = resolve) -> None:
        self._inner = inner
        self._public = PublicOnly(inner, resolver=resolver)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        here = loopback(request.url.host)
        return await (self._inner if here else self._public).handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def loopback(host: str) -> bool:
    """Whether a host is this machine, by its usual name or a plain loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
