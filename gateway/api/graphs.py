"""Which version of the one graph this process answers, and how it follows changes.

One row says what is live. Every process looks at it, makes the new graph beside the one that
answers, and puts it in its place; requests that run end on the old one. A process whose own schema
is another than the one a version was composed with composes again: so old and new gateways can
stand side by side.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from strawberry.federation import Schema

from gateway import telemetry
from gateway.api.graph import Graph
from gateway.api.local import Local
from gateway.db import Database, system_now
from gateway.federation.caches import Lru
from gateway.federation.services import Service
from gateway.federation.supergraph import Supergraph
from gateway.oauth.guard import Actor
from gateway.subgraphs import service as subgraphs
from gateway.subgraphs.composing import Ours, Verdict, put_together
from gateway.subgraphs.model import (
    Live,
    Operation,
    Subgraph,
    Submitted,
    Version,
    digest,
    document_hash,
)

log = telemetry.log(__name__)

_WAITING = 200  # Operations seen and not yet saved; more are seen again later.
_TRUSTED, _TRUSTED_CHARACTERS = 2_000, 4 << 20
_LONGEST = 16 * 1024  # characters of a saved operation

ServiceFor = Callable[[Subgraph], Service]


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """How a graph is served.

    Args:
        poll_seconds: Pause between two looks at what is live.
    """

    introspection: bool
    poll_seconds: float


class Graphs:
    """The graph of one process. `current` is what a request that begins now is answered with.

    Args:
        service_for: Asks a merchant's subgraph.
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        ours: Ours,
        *,
        service_for: ServiceFor,
        settings: GraphSettings,
    ) -> None:
        self._database = database
        self._ours = ours
        self._service_for = service_for
        self._settings = settings
        self._local = Local(schema)
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._hopeless = 0  # An activation that could not be served is not tried again.
        self._trusted: Lru[tuple[str, str], str] = Lru(_TRUSTED, _TRUSTED_CHARACTERS)
        self._seen: dict[tuple[str, str], Operation] = {}
        self.schema = schema
        self.current = Graph(self._local, introspection=settings.introspection)

    def tell(self) -> None:
        """Another version is live, or may be: look now."""
        self._news.set()

    async def run(self) -> None:
        """Follow what is live until cancelled; what cannot be read leaves the graph as it is."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._settings.poll_seconds)
            self._news.clear()
            await self._look()

    async def _look(self) -> None:
        try:
            await self.refresh()
            await self.save_seen()
        except Exception as error:
            log.warning("the live graph was not read", why=type(error).__name__)

    async def refresh(self) -> bool:
        """Answer with what is live; returns whether that is another graph than before."""
        async with self._turn:
            async with self._database.reading() as tx:
                live = await subgraphs.live(tx)
                if live.activation in (self.current.activation, self._hopeless):
                    return False
                version = None if live.number is None else await subgraphs.version(tx, live.number)
                members = await subgraphs.members_of(tx, live.number)
            try:
                self.current = await asyncio.to_thread(self._make, live, version, members)
            except Exception:
                self._hopeless = live.activation
                log.exception("the live graph cannot be served; the one before stays")
                return False
            log.info("another graph is live", version=live.number, merchants=len(members))
            return True

    def _make(self, live: Live, version: Version | None, members: Sequence[Subgraph]) -> Graph:
        """The graph of a version. Without those that do not compose with our own schema here."""
        introspection, activation = self._settings.introspection, live.activation
        sdl = version.sdl if version and version.ours == digest(self._ours.sdl) else None
        if sdl is None:
            sdl, members = self._composed(members)
        if not members or sdl is None:
            return Graph(self._local, introspection=introspection, activation=activation)
        services: Mapping[str, Service] = {
            each.merchant_id: self._service_for(each) for each in members
        }
        return Graph(
            self._local,
            supergraph=Supergraph.parse(sdl),
            services=services,
            introspection=introspection,
            activation=activation,
        )

    def _composed(self, members: Sequence[Subgraph]) -> tuple[str | None, Sequence[Subgraph]]:
        """Our own schema here with those of the members that fit it."""
        while members:
            given = [Submitted(each.merchant_id, each.url, each.sdl) for each in members]
            made = put_together(self._ours, given)
            if not isinstance(made, Verdict):
                return made[0], members
            named = {name for error in made.errors for name in error.subgraphs}
            left = [each for each in members if each.merchant_id not in named]
            out = [each.merchant_id for each in members if each not in left or left == members]
            log.error("subgraphs do not fit this schema", merchants=out, errors=made.told()[:5])
            members = left if len(left) < len(members) else []
        return None, ()

    async def document(self, client_id: str, name: str) -> str | None:
        """A client's trusted document by its SHA-256; read once, kept until many others are."""
        text = self._trusted.get((client_id, name))
        if text is None and client_id:
            async with self._database.reading() as tx:
                text = await subgraphs.trusted(tx, client_id, name)
            if text is not None:
                self._trusted.put((client_id, name), text, len(text))
        return text

    # -- saved operations ---------------------------------------------------------------------

    def note(self, actor: Actor, text: str) -> None:
        """A client uses a document with merchants' fields; it is saved at the next look."""
        if len(text) <= _LONGEST and len(self._seen) < _WAITING:
            name = document_hash(text)
            made = Operation(name, actor.client_id, text, merchant_id=actor.merchant_id)
            self._seen[actor.client_id, name] = made

    async def save_seen(self) -> None:
        """Save what was noted."""
        if self._seen:
            seen, self._seen = list(self._seen.values()), {}
            async with self._database.transaction() as tx:
                await subgraphs.save_operations(tx, seen, now=system_now())

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Answer with what is live now, and follow it while the block runs."""
        await self._look()
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
