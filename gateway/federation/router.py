"""A gateway of its own: serves any supergraph over HTTP, in one process, until it is told to end.

The supergraph's file and the manifest of trusted documents are looked at once a second; what has
changed and is valid is served from the next request on, what is not is logged and left.
"""

import asyncio
import contextlib
import gc
import hashlib
import logging
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from gateway.federation.config import Config, SubgraphConfig
from gateway.federation.documents import InvalidManifest, Trusted, manifest
from gateway.federation.engine import Engine, Options
from gateway.federation.errors import InvalidSupergraph
from gateway.federation.http import Asked, Endpoint, Headers, Reply, Rules
from gateway.federation.limits import Limits
from gateway.federation.machinery import Planned
from gateway.federation.requests import Request, Result
from gateway.federation.services import Answer, Service, SubgraphRequest
from gateway.federation.serving import Patience, Server, Upgraded
from gateway.federation.sharing import Flights
from gateway.federation.supergraph import Supergraph
from gateway.federation.transport import HttpService, Transport, TransportOptions

log = logging.getLogger(__name__)

_JSON = "application/json"


class CannotStart(Exception):
    """The first supergraph or manifest cannot be served, or the address cannot be listened at."""


class Remote:
    """A subgraph over HTTP, with events over whatever it offers."""

    def __init__(self, transport: Transport, url: str, config: SubgraphConfig) -> None:
        self._service: HttpService = transport.service(url)
        self._url = url
        self._config = config
        self._source: Any = None
        self._client: Any = None
        self.fetch = self._service.fetch

    async def subscribe(self, request: SubgraphRequest) -> AsyncIterator[Answer]:
        """Its events; the modules for them are loaded with the first."""
        if self._source is None:
            from gateway.federation.upstream import Source, streaming_client  # noqa: PLC0415 - see above

            url = self._config.events_url or self._url
            self._source = Source(url, streaming_client(), protocol=self._config.events)
        async for answer in self._source.subscribe(request):
            yield answer


class Router:
    """One router; `serve` runs it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stopping = asyncio.Event()
        self.port = 0
        self._flights = Flights(share=config.sharing)
        self._digest = ""
        self._path = config.path.encode()
        self._query = self._path + b"?"
        self._static = {
            name: tuple((key.lower(), value) for key, value in one.headers.items())
            for name, one in config.subgraphs.items()
            if one.headers
        }

    async def serve(self, started: asyncio.Event | None = None) -> bool:
        """Serve until `stopping`; says whether all requests ended in time.

        Raises:
            CannotStart: There is nothing to serve.
        """
        config = self.config
        async with AsyncExitStack() as stack:
            times = config.times
            options = TransportOptions(timeout=times.subgraph, connect_timeout=times.connect)
            self.transport = await stack.enter_async_context(Transport(options))
            self.engine = self._engine()
            stack.callback(self.engine.close)
            self.endpoint = Endpoint(
                self.engine,
                rules=Rules(config.forward_headers, config.client_header),
                body_bytes=config.limits.body,
            )
            patience = Patience(
                body_bytes=config.limits.body, connections=_affordable(config.limits.connections)
            )
            self.server = Server(self.answer, patience, self.upgrade)
            try:
                self.port = await self.server.listen(config.host, config.port)
            except OSError as error:
                raise CannotStart(
                    f"cannot listen at {config.host}:{config.port}: {error}"
                ) from error
            watching = asyncio.create_task(self._watch())
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 50)  # Requests leave no cycles: looking often finds none.
            log.info("serving http://%s:%d%s", config.host, self.port, config.path)
            if started is not None:
                started.set()
            await self.stopping.wait()
            log.info("stopping; requests have %g s to end", times.drain)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            ended = await self.server.stop(times.drain)
            await self.endpoint.finish()
            log.info("stopped" if ended else "stopped; some requests had not ended")
            return ended

    async def answer(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> Reply:
        """Any request of the server."""
        if target == self._path or target.startswith(self._query):
            return await self.endpoint.answer(method, target, headers, body)
        if target.partition(b"?")[0] == b"/health":
            return self._health(method)
        return Reply(404, _JSON, b'{"errors":[{"message":"There is nothing here."}]}')

    def upgrade(
        self, transport: asyncio.Transport, target: bytes, headers: Mapping[bytes, bytes]
    ) -> Upgraded | None:
        """A WebSocket for subscriptions, if it is asked for where the API is, by who may."""
        from gateway.federation import sockets  # noqa: PLC0415 - loaded with the first socket

        if target.partition(b"?")[0] != self._path or self.stopping.is_set():
            return None
        if not sockets.same_origin(headers, frozenset(self.config.origins)):
            return None

        def subscribe(asked: Asked, said: Mapping[str, str]) -> AsyncIterator[Result]:
            together = {**headers, **{k.encode(): v.encode() for k, v in said.items()}}
            return self.engine.subscribe(self.endpoint.request(asked, together))

        head = sockets.handshake(target, headers)
        return sockets.Socket(transport, head, subscribe, most=self.config.limits.body)

    def _health(self, method: bytes) -> Reply:
        if method not in (b"GET", b"HEAD"):
            return Reply(405, _JSON, b'{"status":"send GET"}', (("allow", "GET, HEAD"),))
        stopping = self.stopping.is_set()
        told = {"status": "stopping" if stopping else "ok", "supergraph": self._digest[:12]}
        return Reply(503 if stopping else 200, _JSON, orjson.dumps(told))

    # Loading.

    def _engine(self) -> Engine:
        config = self.config
        try:
            planned = self._load(config.supergraph.read_bytes())
            trusted = self._trusted()
        except (OSError, UnicodeDecodeError, InvalidSupergraph, InvalidManifest) as error:
            raise CannotStart(str(error)) from error
        names = [one.name for one in fields(Limits) if one.name != "pricing"]
        options = Options(
            limits=Limits(**{name: getattr(config.limits, name) for name in names}),
            introspection=config.introspection,
            trusted=trusted,
            documents=config.documents,
            automatic=config.automatic_documents,
            untrusted=_tell_untrusted if trusted.mode == "log" else None,
        )
        return Engine(planned, options)

    def _load(self, text: bytes) -> Planned:
        """What serves a supergraph; raises InvalidSupergraph or UnicodeDecodeError."""
        supergraph = Supergraph.parse(text.decode())
        config = self.config
        services: dict[str, Service] = {}
        for name, graph in supergraph.graphs.items():
            own = config.subgraphs.get(name, SubgraphConfig())
            services[name] = Remote(self.transport, own.url or graph.url, own)
        for name in config.subgraphs.keys() - supergraph.graphs.keys():
            log.warning("the supergraph has no subgraph %s", name)
        self._digest = hashlib.sha256(text).hexdigest()
        return Planned(
            supergraph,
            services,
            flights=self._flights,
            seconds=config.times.request,
            headers=self._headers if self._static else None,
            entities=config.entities,
            reuse=config.reuse,
            active=frozenset(config.override_labels),
        )

    def _headers(self, service: str, request: Request) -> tuple[tuple[str, str], ...]:
        return request.headers + self._static.get(service, ())

    def _trusted(self) -> Trusted:
        config = self.config.trusted
        if config.manifest is None or config.mode == "off":
            return Trusted()
        return Trusted(config.mode, manifest(config.manifest.read_bytes()))

    async def _watch(self) -> None:
        files = {self.config.supergraph: self._reload}
        if self.config.trusted.manifest is not None:
            files[self.config.trusted.manifest] = self._retrust
        seen = {path: _Seen(_signature(path)) for path in files}
        while True:
            await asyncio.sleep(self.config.times.reload)
            for path, load in files.items():
                if not seen[path].settled(_signature(path)):
                    continue
                try:
                    await load()
                except Exception as error:
                    log.error("%s is not served, the last one is: %s", path, error)

    async def _reload(self) -> None:
        before = self._digest
        text = self.config.supergraph.read_bytes()
        if hashlib.sha256(text).hexdigest() == before:
            return
        try:
            planned = await asyncio.to_thread(self._load, text)
        except BaseException:
            self._digest = before
            raise
        self.engine.swap(planned)
        log.info("serving another supergraph, %s", self._digest[:12])

    async def _retrust(self) -> None:
        self.engine.trust(self._trusted())
        log.info("another manifest of trusted documents")


@dataclass(slots=True)
class _Seen:
    """A file as it was seen last; a change counts when it has not changed again since."""

    served: tuple[int, ...]
    last: tuple[int, ...] = ()

    def settled(self, now: tuple[int, ...]) -> bool:
        """Whether there is a new state of the file to be read."""
        settled = now != self.served and now == self.last and bool(now)
        self.last = now
        if settled:
            self.served = now
        return settled


def _affordable(connections: int) -> int:
    """How many connections the limit of open files, raised as far as may be, leaves room for.

    As many again are kept for subgraphs, and some for files.
    """
    try:
        import resource  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return min(connections, 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + 100
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return max(16, min(connections, (soft - 100) // 2))
    return connections


def _signature(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _tell_untrusted(client: str | None, text: str) -> None:
    log.warning("not trusted: client %s, %s", client, hashlib.sha256(text.encode()).hexdigest())


async def serve(config: Config) -> bool:
    """Serve until SIGTERM or SIGINT; a second signal does not wait for requests."""
    router = Router(config)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if router.stopping.is_set():
            for connection in list(router.server.connections):
                connection.abort()
        router.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return await router.serve()
