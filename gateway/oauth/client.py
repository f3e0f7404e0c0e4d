"""The gateway as a client of its partners: token, deadline, bulkhead, breaker, business time.

What an adapter sees: a request that never left raises ConnectError, ConnectTimeout or
PoolTimeout (an open breaker and a missing token too); anything else may have arrived.
"""

import asyncio
import contextlib
import functools
import secrets
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

import httpx2

from gateway.oauth import jose
from gateway.oauth.addresses import PublicOnly
from gateway.oauth.breaker import Breaker
from gateway.oauth.lean import LeanTransport
from gateway.ports import past_held
from gateway.telemetry import tracing

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_ANSWER = 8 * 1024 * 1024
_RENEW_AT = 0.8  # of a token's life
_UNKNOWN_LIFE = 300.0  # of a token that does not say
_TRIES = 2
_LEAST_WAIT = 0.2  # Seconds before a throttled call goes out again, whatever the partner says.
_CONNECT = 5.0  # Seconds to connect: nothing was sent, which is worth knowing early.
_TOKEN_CALL = "gateway.token"  # noqa: S105  # An extension's name: this call fetches a token.


class Credentials(Protocol):
    """How a partner knows us: a private JWK, or a secret (sandbox only)."""

    @property
    def client_id(self) -> str: ...
    @property
    def key(self) -> Mapping[str, Any] | None: ...
    @property
    def secret(self) -> str | None: ...


class Connection(Protocol):
    """What `partner_client` needs of a partner's connection; `partners.Connection` has it."""

    @property
    def base_url(self) -> str: ...
    @property
    def token_url(self) -> str: ...
    @property
    def auth(self) -> Credentials: ...
    @property
    def audience(self) -> str: ...
    @property
    def scope(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Held:
    text: str = field(repr=False)
    renew_at: float
    until: float


class ClientCredentials(httpx2.Auth):
    """A bearer token for one partner: client, audience and scope.

    However many callers wait, one asks for the token; past 80 % of its life it is renewed behind
    the callers' backs. A 401 drops it only if it is still the token that failed, and the request
    is sent once more. A caller that gives up leaves the others their answer.

    Args:
        send: Sends a token request; the transport of the partner's client.
        key: Our private JWK for that partner (private_key_jwt), or
        secret: our secret there (client_secret_basic).
        monotonic, now: Seconds, for the token's life and for the assertion's.
    """

    def __init__(
        self,
        *,
        token_url: str,
        client_id: str,
        audience: str,
        scope: str,
        send: Callable[[httpx2.Request], Awaitable[httpx2.Response]],
        key: Mapping[str, Any] | None = None,
        secret: str | None = None,
        timeout: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        assert (key is None) != (secret is None), "a key or a secret"
        self._url = token_url
        self._client_id = client_id
        self._audience = audience
        self._scope = scope
        self._send = send
        self._key = jose.load(key) if key is not None else None
        self._secret = secret
        self._timeout = timeout
        self._monotonic = monotonic
        self._now = now
        self._held: _Held | None = None
        self._asking: asyncio.Task[_Held] | None = None
        self._quiet_until = float("-inf")

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        token = await self._token(request)
        request.headers["Authorization"] = f"Bearer {token}"
        answer = yield request
        if answer.status_code == 401:
            if self._held and self._held.text == token:
                self._held = None
            request.headers["Authorization"] = f"Bearer {await self._token(request)}"
            yield request

    async def aclose(self) -> None:
        """Stop a renewal that is under way."""
        if self._asking and not self._asking.done():
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError, httpx2.TransportError):
                await self._asking

    async def _token(self, request: httpx2.Request) -> str:
        held, now = self._held, self._monotonic()
        if held and now < held.until:
            if now >= held.renew_at and now >= self._quiet_until:
                self._ask()
            return held.text
        try:
            return (await asyncio.shield(self._ask())).text
        except httpx2.TransportError as error:
            raise httpx2.ConnectError(f"no token: {error}", request=request) from error

    def _ask(self) -> asyncio.Task[_Held]:
        """The one fetch under way, or a new one; it belongs to no caller."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._fetch())
            self._asking.add_done_callback(self._asked)
        return self._asking

    def _asked(self, task: asyncio.Task[_Held]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._quiet_until = self._monotonic() + 1.0

    async def _fetch(self) -> _Held:
        for last in range(1, _TRIES + 1):
            try:
                return await self._fetch_once()
            except httpx2.TransportError:
                if last == _TRIES:
                    raise
        raise AssertionError("unreachable")

    async def _fetch_once(self) -> _Held:
        began = self._monotonic()
        answer = await self._send(self._request())
        await answer.aread()
        if answer.status_code != 200:
            raise httpx2.ConnectError(f"token endpoint: HTTP {answer.status_code}")
        try:
            body = answer.json()
            token, kind, life = body["access_token"], body["token_type"], body.get("expires_in")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise httpx2.ConnectError("token endpoint: unreadable") from error
        fit = isinstance(token, str) and token.isascii() and token.isprintable() and token
        if not fit or not isinstance(kind, str) or kind.lower() != "bearer":
            raise httpx2.ConnectError("token endpoint: no bearer token")
        seconds = jose.seconds(life)
        lasts = seconds if seconds is not None and seconds > 0 else _UNKNOWN_LIFE
        self._held = _Held(token, began + lasts * _RENEW_AT, began + lasts * 0.98)
        return self._held

    def _request(self) -> httpx2.Request:
        fields = {"grant_type": "client_credentials"}
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self._scope:
            fields["scope"] = self._scope
        if self._key is not None:
            fields |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": self._assert()}
        else:
            assert self._secret is not None
            pair = f"{quote(self._client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        times = httpx2.Timeout(self._timeout).as_dict()
        return httpx2.Request(
            "POST",
            self._url,
            data=fields,
            headers=headers,
            extensions={"timeout": times, _TOKEN_CALL: True},
        )

    def _assert(self) -> str:
        """An assertion with a jti of its own, for the partner's issuer alone, for a minute."""
        assert self._key is not None
        now = int(self._now())
        claims = {"iss": self._client_id, "sub": self._client_id, "aud": self._audience}
        times = {"iat": now, "exp": now + 60, "jti": secrets.token_urlsafe(16)}
        return jose.encode(claims | times, self._key, typ="JWT")


class PartnerLine(httpx2.AsyncBaseTransport):
    """Everything between an adapter and the wire but the token.

    Args:
        clock: Business time, sent as `Sandbox-Now`; None outside the sandbox.
        timeout: Seconds of one call, from its turn in the queue to the last byte.
        concurrency: Calls under way at once; more wait.
    """

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        *,
        clock: Callable[[], datetime] | None,
        timeout: float,
        concurrency: int,
        breaker: Breaker | None = None,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._timeout = timeout
        self._places = asyncio.Semaphore(concurrency)
        self.breaker = breaker or Breaker()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request of ours, in a span of its own whose trace the partner is told."""
        if self._clock is not None:
            request.headers["Sandbox-Now"] = self._clock().isoformat()
        what = "token" if _TOKEN_CALL in request.extensions else "call"
        with tracing.span(f"http {what}", "client", host=request.url.host) as span:
            if trace := tracing.header():
                request.headers["traceparent"] = trace
            answer = await self._send(request)
            if span is not None:
                span.set_attribute("http.response.status_code", answer.status_code)
            return answer

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        unstoppable = past_held.get() or _TOKEN_CALL in request.extensions
        if not unstoppable and not self.breaker.admit():
            raise httpx2.ConnectError("circuit breaker open", request=request)
        tell = self.breaker.note if unstoppable else self.breaker.record
        told = False
        try:
            answer = await self._unless_throttled(request)
            told = True
            tell(ok=answer.status_code < 500)
            return answer
        except httpx2.TransportError as error:
            told = True
            # A full bulkhead is our doing, not the partner's.
            if not isinstance(error, httpx2.PoolTimeout):
                tell(ok=False)
            elif not unstoppable:
                self.breaker.abandon()
            raise
        finally:
            if not told and not unstoppable:
                self.breaker.abandon()

    async def _unless_throttled(self, request: httpx2.Request) -> httpx2.Response:
        """Send again what the partner throttles, as long as its wait ends within the deadline."""
        clock = asyncio.get_running_loop().time
        wanted = request.extensions.get("timeout", {}).get("read")
        until = clock() + (self._timeout if wanted is None else min(self._timeout, wanted))
        while True:
            answer = await self._within_deadline(request, until - clock())
            wait = answer.headers.get("retry-after", "") if answer.status_code == 429 else ""
            seconds = max(float(wait), _LEAST_WAIT) if wait.isascii() and wait.isdigit() else None
            if seconds is None or clock() + seconds >= until:
                return answer
            await asyncio.sleep(seconds)

    async def _within_deadline(self, request: httpx2.Request, seconds: float) -> httpx2.Response:
        sent = False
        try:
            async with asyncio.timeout(seconds), self._places:
                sent = True
                answer = await self._inner.handle_async_request(request)
                try:
                    body = await self._read(answer, request)
                finally:
                    await answer.aclose()
        except TimeoutError as error:
            if sent:
                raise httpx2.ReadTimeout("deadline", request=request) from error
            raise httpx2.PoolTimeout("too many calls under way", request=request) from error
        return httpx2.Response(
            answer.status_code,
            headers=answer.headers,
            stream=httpx2.ByteStream(body),
            request=request,
        )

    async def _read(self, answer: httpx2.Response, request: httpx2.Request) -> bytes:
        """The whole body, up to a size no honest answer has."""
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.RemoteProtocolError("compressed unasked", request=request)
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        body = bytearray()
        async for part in answer.stream:
            body += part
            if len(body) > MAX_ANSWER:
                raise httpx2.RemoteProtocolError("answer too long", request=request)
        return bytes(body)

    async def aclose(self) -> None:
        await self._inner.aclose()


class PartnerClient(httpx2.AsyncClient):
    """An AsyncClient that also ends its token's renewal when it is closed."""

    def __init__(
        self, credentials: ClientCredentials, line: PartnerLine, *, base_url: str, timeout: float
    ) -> None:
        super().__init__(
            base_url=base_url,
            auth=credentials,
            transport=line,
            timeout=httpx2.Timeout(timeout, connect=min(timeout, _CONNECT)),
            headers={"Accept-Encoding": "identity", "User-Agent": "coalition-gateway"},
            follow_redirects=False,
            trust_env=False,
        )
        self._credentials = credentials
        self.breaker = line.breaker

    async def aclose(self) -> None:
        await self._credentials.aclose()
        await super().aclose()


@functools.cache
def _authorities() -> ssl.SSLContext:
    """The certificate authorities, read once: that takes longer than the rest of a client."""
    return httpx2.create_ssl_context(trust_env=False)


def wire(
    *, sandbox: bool, concurrency: int, transport: httpx2.AsyncBaseTransport | None = None
) -> httpx2.AsyncBaseTransport:
    """The network: to public https addresses only; in the sandbox to any.

    Args:
        transport: Instead of the network, for tests.
    """
    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    inner = transport or httpx2.AsyncHTTPTransport(
        verify=_authorities(), limits=limits, trust_env=False
    )
    return inner if sandbox else PublicOnly(inner)


def lean_wire(*, concurrency: int) -> httpx2.AsyncBaseTransport:
    """A network to any address for calls that may be sent twice; who may be asked is for others."""
    return LeanTransport(
        tls=_authorities(),
        connections=concurrency,
        connect_timeout=_CONNECT,
        answer_bytes=MAX_ANSWER,
    )


def partner_client(
    connection: Connection,
    *,
    clock: Callable[[], datetime],
    sandbox: bool,
    timeout: float,
    concurrency: int,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> PartnerClient:
    """The HTTP client of one partner.

    Args:
        clock: Business time, told to the partner in the sandbox.
        sandbox: Loopback and plain http are fine; in live mode only public https addresses are.
        timeout: Deadline of one call, in seconds, the wait for a place included.
        concurrency: Calls under way at once.
        transport: Instead of the network, for tests.
    """
    line = PartnerLine(
        wire(sandbox=sandbox, concurrency=concurrency, transport=transport),
        clock=clock if sandbox else None,
        timeout=timeout,
        concurrency=concurrency,
    )
    credentials = ClientCredentials(
        token_url=connection.token_url,
        client_id=connection.auth.client_id,
        audience=connection.audience,
        scope=connection.scope,
        send=line.handle_async_request,
        key=connection.auth.key,
        secret=connection.auth.secret,
        timeout=min(timeout, 10.0),
    )
    return PartnerClient(credentials, line, base_url=connection.base_url, timeout=timeout)
