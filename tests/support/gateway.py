"""The whole application over real HTTP, on a seeded database, with scripted partners."""

import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa
from starlette.applications import Starlette

from gateway.app import create_app
from gateway.db import Clock, Database
from gateway.events.webhooks import Webhooks
from gateway.oauth import jose, scopes
from gateway.oauth.core import audience
from gateway.oauth.scopes import Role
from gateway.oauth.server import OAuth
from gateway.ports import Partner
from gateway.redemption.hosted import Partners
from gateway.redemption.service import Redemptions
from gateway.runtime import Runtime, webhook_client
from gateway.settings import Settings
from tests.support.serving import bound, serving

_keys = itertools.count(1)


@dataclass
class Answer:
    """A GraphQL answer over HTTP."""

    status: int
    body: dict[str, Any]
    headers: Any

    @property
    def data(self) -> Any:
        assert "errors" not in self.body, self.body["errors"]
        assert self.status == 200
        return self.body["data"]

    @property
    def codes(self) -> list[str]:
        """Codes of the top-level errors."""
        return [error["extensions"]["code"] for error in self.body.get("errors", [])]


@dataclass
class Gateway:
    """A running gateway, and tokens for whoever one wants to be."""

    runtime: Runtime
    app: Starlette
    http: httpx2.AsyncClient
    statements: list[str] = field(default_factory=list)

    @property
    def base(self) -> str:
        return self.runtime.settings.base_url

    async def token(
        self,
        role: Role,
        *,
        member: str | None = None,
        merchant: str | None = None,
        subject: str | None = None,
        scope: str | None = None,
        limit_fen: int = 0,
        seconds: int = 600,
    ) -> str:
        """An access token as the authorization server signs them; all scopes of the role."""
        now = int(time.time())
        machine = f"merchant-{merchant}" if merchant else None
        claims: dict[str, Any] = {
            "iss": self.base,
            "aud": audience(self.runtime.settings),
            "sub": subject or machine or member or f"usr_{role}",
            "client_id": machine or "member-app",
            "iat": now - 5,
            "exp": now + seconds,
            "jti": f"jti-{next(_keys)}",
            "role": str(role),
            "scope": scopes.join(scopes.of(role, merchant)) if scope is None else scope,
        }
        claims |= {"member": member} if member else {}
        claims |= {"merchant": merchant} if merchant else {}
        claims |= {"limit_fen": limit_fen} if limit_fen else {}
        async with self.runtime.database.transaction() as tx:
            key = await tx.run_sync(self.runtime.oauth.ring.active)
        return jose.encode(claims, key, typ="at+jwt")

    async def member(self, member_id: str) -> "Client":
        return Client(self, await self.token(Role.MEMBER, member=member_id))

    async def merchant(self, merchant_id: str) -> "Client":
        return Client(self, await self.token(Role.PARTNER, merchant=merchant_id))

    async def staff(self, role: Role, subject: str, limit_fen: int = 10**12) -> "Client":
        return Client(self, await self.token(role, subject=subject, limit_fen=limit_fen))

    def anonymous(self) -> "Client":
        return Client(self, None)

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[str]]:
        """The SQL statements that are run inside, without BEGIN and the like."""
        found: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if not statement.startswith(("BEGIN", "SAVEPOINT", "RELEASE")):
                found.append(statement)

        engine = self.runtime.database.engine.sync_engine
        sa.event.listen(engine, "before_cursor_execute", note)
        try:
            yield found
        finally:
            sa.event.remove(engine, "before_cursor_execute", note)


@dataclass
class Client:
    """Somebody with a token."""

    gateway: Gateway
    token: str | None
    language: str = "zh"

    async def ask(self, query: str, **variables: Any) -> Answer:
        headers = {"accept-language": self.language}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        answer = await self.gateway.http.post(
            f"{self.gateway.base}/graphql",
            json={"query": query, "variables": variables},
            headers=headers,
        )
        return Answer(answer.status_code, answer.json(), answer.headers)

    async def data(self, query: str, **variables: Any) -> Any:
        return (await self.ask(query, **variables)).data

    async def do(self, mutation: str, wanted: str = "", **given: Any) -> dict[str, Any]:
        """Run a mutation; its payload, with `replayed` and `errors`. The key is new by default."""
        kind = mutation[0].upper() + mutation[1:] + "Input"
        asked = {"idempotencyKey": f"key-{next(_keys)}"} | given
        text = (
            f"mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {wanted} replayed"
            " errors { code message field context nextStep } } }"
        )
        payload: dict[str, Any] = (await self.data(text, input=asked))[mutation]
        return payload

    async def did(self, mutation: str, wanted: str, **input: Any) -> dict[str, Any]:
        """Run a mutation that is not refused."""
        payload = await self.do(mutation, wanted, **input)
        assert payload["errors"] == [], payload["errors"]
        return payload

    async def refused(self, mutation: str, **input: Any) -> dict[str, Any]:
        """Run a mutation that is refused; its one error."""
        payload = await self.do(mutation, **input)
        (error,) = payload["errors"]
        found: dict[str, Any] = error
        return found


@contextlib.asynccontextmanager
async def running(
    database: Database,
    home: Path,
    *,
    clock: Clock,
    partners: dict[str, Partner],
    connections: Mapping[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[Gateway]:
    """A gateway over HTTP; the worker does not run unless a test drives it.

    Args:
        connections: For their webhook secrets only.
    """
    listening, port = bound()
    more.setdefault("subgraphs_poll_seconds", 60.0)  # Who counts statements counts no look.
    settings = Settings(home=home, port=port, worker_inside=False, **more)
    oauth = OAuth(database, settings)
    everyone = Partners(partners, database, clock)
    secret = oauth.secret("pseudonym")
    sending = webhook_client(settings)
    runtime = Runtime(
        settings=settings,
        database=database,
        clock=clock,
        oauth=oauth,
        connections=connections or {},
        partners=everyone,
        redemptions=Redemptions(database, everyone, clock, settings, secret),
        webhooks=Webhooks(database, sending, settings, vault=oauth.vault, secret=secret),
        secret=secret,
        clients=[],
    )
    app = create_app(settings, runtime=runtime)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(sending)
        await stack.enter_async_context(app.router.lifespan_context(app))
        await stack.enter_async_context(serving(app, listening))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        yield Gateway(runtime, app, http)
