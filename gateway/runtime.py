"""What the application and the worker share: database, clock, partners, redemptions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

import partners as adapters
from gateway.db import Clock, Database
from gateway.events import webhooks
from gateway.events.webhooks import Webhooks
from gateway.oauth.client import partner_client, wire
from gateway.oauth.server import OAuth
from gateway.ports import Partner
from gateway.redemption.hosted import Partners
from gateway.redemption.service import Redemptions
from gateway.settings import Settings

_SENDING = 100  # Events being sent at once.


@dataclass
class Runtime:
    """One process's share of the gateway; `open` makes it, `close` ends its connections."""

    settings: Settings
    database: Database
    clock: Clock
    oauth: OAuth
    connections: Mapping[str, adapters.Connection]
    partners: Mapping[str, Partner]
    redemptions: Redemptions
    webhooks: Webhooks
    secret: bytes
    clients: list[httpx2.AsyncClient]

    @classmethod
    async def open(cls, settings: Settings) -> "Runtime":
        """Connect to the database and make a client for each partner.

        Raises:
            ValueError: The partners file says something that is not known.
        """
        database = Database(settings.url)
        clock = Clock()
        async with database.reading() as tx:
            await clock.refresh(tx)
        oauth = OAuth(database, settings)
        connections = read_connections(settings)
        clients: list[httpx2.AsyncClient] = []

        def client_for(connection: adapters.Connection) -> httpx2.AsyncClient:
            client = partner_client(
                connection,
                clock=clock.now,
                sandbox=settings.sandbox,
                timeout=settings.partner_timeout_seconds,
                concurrency=settings.partner_concurrency,
            )
            clients.append(client)
            return client

        loaded = adapters.load(connections.values(), client_for)
        partners = Partners(loaded, database, clock)
        secret = oauth.secret("pseudonym")
        sender = webhook_client(settings)
        clients.append(sender)
        return cls(
            settings=settings,
            database=database,
            clock=clock,
            oauth=oauth,
            connections=connections,
            partners=partners,
            redemptions=Redemptions(database, partners, clock, settings, secret),
            webhooks=Webhooks(database, sender, settings, vault=oauth.vault, secret=secret),
            secret=secret,
            clients=clients,
        )

    async def close(self) -> None:
        """Close all connections."""
        for client in self.clients:
            await client.aclose()
        await self.database.close()


def webhook_client(settings: Settings) -> httpx2.AsyncClient:
    """The client that events go out with: to public https addresses, in the sandbox to any."""
    line = wire(sandbox=settings.sandbox, concurrency=_SENDING)
    return webhooks.client(transport=line, timeout=settings.webhook_timeout_seconds)


def read_connections(settings: Settings) -> dict[str, adapters.Connection]:
    """The partner connections of the partners file, by merchant; none without a file.

    Raises:
        ValueError: A connection cannot be read; says which and why.
    """
    if not settings.partners_path.exists():
        return {}
    rows = json.loads(settings.partners_path.read_text(encoding="utf-8"))
    made = {}
    for row in rows:
        try:
            made[row["merchant"]] = adapters.parse(row)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{settings.partners_path}: {row.get('merchant')}: {error}") from error
    return made
