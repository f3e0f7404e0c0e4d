"""What the application and the worker share: database, clock, partners, redemptions."""

import gc
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import httpx2
from sqlalchemy.ext.asyncio import AsyncConnection

import partners as adapters
from gateway import telemetry
from gateway.audit import service as audit
from gateway.audit.model import HEAD_TYPE
from gateway.db import Clock, Database, system_now
from gateway.events import webhooks
from gateway.events.webhooks import Webhooks
from gateway.measured import MeasuredDatabase, watched
from gateway.oauth import jose, keys
from gateway.oauth.addresses import LoopbackToo, PublicOnly
from gateway.oauth.breaker import Breaker
from gateway.oauth.client import PartnerClient, lean_wire, partner_client, wire
from gateway.oauth.server import OAuth
from gateway.oauth.service import require_vault
from gateway.ports import Partner
from gateway.redemption.hosted import Partners
from gateway.redemption.service import Redemptions
from gateway.settings import Settings

_SENDING = 100  # Events being sent at once.
_PRIVATE_PARTS = ("d", "k", "p", "q")  # Of a JWK.


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
    secret: bytes = field(repr=False)
    clients: list[httpx2.AsyncClient]
    breakers: Mapping[str, Breaker] = field(default_factory=dict)

    @classmethod
    async def open(cls, settings: Settings) -> "Runtime":
        """Connect to the database and make a client for each partner.

        Raises:
            ValueError: The partners file says something that is not known, or the database has
                sealed keys and the vault key is not its own.
        """
        database = MeasuredDatabase(
            settings.url,
            pool_size=settings.database_connections,
            wait_seconds=settings.database_wait_seconds,
        )
        clock = Clock()
        try:
            async with database.reading() as tx:
                await clock.refresh(tx)
                await require_vault(tx, settings.vault_key_path)
        except BaseException:
            await database.close()
            raise
        oauth = OAuth(database, settings)
        connections = read_connections(settings)
        conceal(settings, connections.values())
        loaded, clients = connect(connections, settings, clock)
        partners = Partners(watched(loaded), database, clock)
        secret = oauth.secret("pseudonym")
        sender = webhook_client(settings)
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
            clients=[*clients.values(), sender],
            breakers={merchant: client.breaker for merchant, client in clients.items()},
        )

    def subgraph_client(self, merchant: str) -> httpx2.AsyncClient:
        """The client that a merchant's subgraph is asked with; the caller closes it.

        The merchant gives the subgraph's address itself: in the sandbox, too, it is a public one
        or on loopback.
        """
        settings = self.settings
        line = lean_wire(concurrency=settings.partner_concurrency)
        return partner_client(
            subgraph_connection(self.connections[merchant]),
            clock=self.clock.now,
            sandbox=settings.sandbox,
            timeout=settings.subgraph_seconds,
            concurrency=settings.partner_concurrency,
            transport=LoopbackToo(line) if settings.sandbox else line,
        )

    async def sign_head(self, tx: AsyncConnection, *, since: datetime, now: datetime) -> str | None:
        """The first signed head of the audit chain since an instant; signed now if there is none.

        Returns:
            A compact JWS; None while nothing is sealed.
        """

        async def sign(claims: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
            await keys.ensure(tx, self.oauth.vault, now=system_now())
            key = await tx.run_sync(self.oauth.ring.active)
            return jose.encode(claims, key, typ=HEAD_TYPE), key.as_dict(private=False)

        issuer = self.settings.base_url
        return await audit.sign_head(tx, sign=sign, issuer=issuer, since=since, now=now)

    async def close(self) -> None:
        """Close all connections."""
        for client in self.clients:
            await client.aclose()
        await self.database.close()


def settle() -> None:
    """Leave out of collections what a process has loaded, once it is ready to serve or to work.

    An old object is looked at again only when a quarter as many have grown old since. Beside all
    that is loaded those are a great many, and ended connections, which are cycles, wait for it.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # It counts how many there are now.


def subgraph_connection(connection: adapters.Connection) -> adapters.Connection:
    """The connection with the scope that a subgraph is asked with: reading, and nothing else."""
    return replace(connection, scope=connection.subgraph_scope)


def conceal(settings: Settings, connections: Iterable[adapters.Connection]) -> None:
    """Keep this process's own secrets out of its logs, whatever text they get into."""
    secrets = [settings.metrics_token, settings.database_password]
    if settings.vault_key_path.exists():
        secrets.append(settings.vault_key_path.read_text(encoding="utf-8").strip())
    for connection in connections:
        secrets += [connection.auth.secret or "", connection.webhook_secret]
        secrets += [str((connection.auth.key or {}).get(part, "")) for part in _PRIVATE_PARTS]
    telemetry.conceal(secrets)


def connect(
    connections: Mapping[str, adapters.Connection], settings: Settings, clock: Clock
) -> tuple[dict[str, Partner], dict[str, PartnerClient]]:
    """The partners and their HTTP clients, by merchant; the caller closes the clients."""
    clients: dict[str, PartnerClient] = {}

    def client_for(connection: adapters.Connection) -> httpx2.AsyncClient:
        client = clients[connection.merchant] = partner_client(
            connection,
            clock=clock.now,
            sandbox=settings.sandbox,
            timeout=settings.partner_timeout_seconds,
            concurrency=settings.partner_concurrency,
        )
        return client

    return adapters.load(connections.values(), client_for), clients


def webhook_client(settings: Settings) -> httpx2.AsyncClient:
    """The client that events go out with: public https addresses; in the sandbox loopback too."""
    line = wire(sandbox=True, concurrency=_SENDING)
    guarded = LoopbackToo(line) if settings.sandbox else PublicOnly(line)
    return webhooks.client(transport=guarded, timeout=settings.webhook_timeout_seconds)


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
