"""One Starlette application: /graphql, /oauth, /events and the plain routes, wired.

Reads settings and the clock, opens the database, loads the partners, and with
`worker_inside` runs the worker beside the requests.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

import structlog
from starlette.applications import Starlette
from starlette.routing import Route

import partners as adapters
from gateway import migrations
from gateway.api import routes as plain
from gateway.api.certify import certify
from gateway.api.context import Conformance, Services
from gateway.api.endpoint import Endpoint
from gateway.api.limits import Limits
from gateway.api.schema import build
from gateway.db import Clock, Database
from gateway.oauth.client import PartnerClient, partner_client
from gateway.oauth.server import OAuth
from gateway.ports import Partner
from gateway.redemption.hosted import HostedPartner
from gateway.redemption.service import Redemptions
from gateway.settings import Settings
from gateway.worker import Worker

log = structlog.get_logger()

PSEUDONYMS = "pseudonyms"


class Partners(Mapping[str, Partner]):
    """Every merchant's partner: its own system if it is connected, else hosted by the gateway.

    Iterating gives the connected ones.
    """

    def __init__(self, connected: Mapping[str, Partner], database: Database, clock: Clock) -> None:
        self._connected = dict(connected)
        self._hosted: dict[str, Partner] = {}
        self._database = database
        self._clock = clock

    def __getitem__(self, merchant: str) -> Partner:
        if merchant in self._connected:
            return self._connected[merchant]
        if merchant not in self._hosted:
            self._hosted[merchant] = HostedPartner(merchant, self._database, self._clock)
        return self._hosted[merchant]

    def __iter__(self) -> Iterator[str]:
        return iter(self._connected)

    def __len__(self) -> int:
        return len(self._connected)

    def connected(self, merchant: str) -> bool:
        return merchant in self._connected


def read_connections(settings: Settings) -> list[adapters.Connection]:
    """The partners file's connections; none if there is no file.

    Raises:
        ValueError: One cannot be read.
    """
    path = settings.partners_path
    if not path.exists():
        return []
    return [adapters.parse(document) for document in json.loads(path.read_text())]


@dataclass(slots=True)
class Parts:
    """What a process of the gateway holds: the application, or a worker of its own."""

    settings: Settings
    database: Database
    clock: Clock
    oauth: OAuth
    partners: Partners
    redemptions: Redemptions
    worker: Worker
    webhook_secrets: dict[str, str]


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, *, partners: Mapping[str, Partner] | None = None
) -> AsyncIterator[Parts]:
    """Open everything a process needs, and close it at the end.

    The embedded default brings its database to the newest schema and makes its keys.

    Args:
        partners: Instead of those of the partners file, for tests.
    """
    database, clock = Database(settings.url), Clock()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        if settings.embedded:
            await migrations.upgrade(database)
        oauth = OAuth(database, settings)
        await oauth.start()
        async with database.reading() as tx:
            await clock.refresh(tx)
        connections = [] if partners is not None else read_connections(settings)

        def client_for(connection: adapters.Connection) -> PartnerClient:
            client = partner_client(
                connection,
                clock=clock.now,
                sandbox=settings.sandbox,
                timeout=settings.partner_timeout_seconds,
                concurrency=settings.partner_concurrency,
            )
            stack.push_async_callback(client.aclose)
            return client

        connected = adapters.load(connections, client_for) if partners is None else partners
        everyone = Partners(connected, database, clock)
        secret = oauth.secret(PSEUDONYMS)
        redemptions = Redemptions(database, everyone, clock, settings, secret)
        worker = Worker(database, everyone, clock, settings, redemptions)
        secrets = {c.merchant: c.webhook_secret for c in connections if c.webhook_secret}
        yield Parts(settings, database, clock, oauth, everyone, redemptions, worker, secrets)


def create_app(
    settings: Settings,
    *,
    partners: Mapping[str, Partner] | None = None,
    webhook_secrets: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> Starlette:
    """The application. Its parts are opened at start and are `app.state.parts` from then on."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with opened(settings, partners=partners) as parts:
            app.state.parts = parts
            secrets = {**parts.webhook_secrets, **(webhook_secrets or {})}
            services = _services(parts)
            app.router.routes[:] = [
                Route("/graphql", _endpoint(services, limits), methods=["GET", "POST"]),
                *parts.oauth.routes(),
                *plain.routes(services, secrets),
            ]
            async with _working(parts):
                yield

    return Starlette(lifespan=lifespan)


def _endpoint(services: Services, limits: Limits | None) -> Endpoint:
    return Endpoint(build(), services, limits)


def _services(parts: Parts) -> Services:
    async def run(merchant: str) -> Conformance:
        return await certify(parts.database, parts.partners[merchant], merchant, parts.clock)

    return Services(
        database=parts.database,
        clock=parts.clock,
        partners=parts.partners,
        settings=parts.settings,
        guard=parts.oauth.guard,
        redemptions=parts.redemptions,
        certify=run,
    )


@contextlib.asynccontextmanager
async def _working(parts: Parts) -> AsyncIterator[None]:
    """Run the worker beside the requests, if this process is to."""
    if not parts.settings.worker_inside:
        yield
        return
    stop = asyncio.Event()
    task = asyncio.create_task(parts.worker.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task
