"""The OAuth endpoints: token, revoke, jwks, metadata; the pages people see are in `pages`.

The edge of this room: it reads system time, opens one transaction a request and answers.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from authlib.common.security import is_secure_transport
from authlib.oauth2.rfc6749 import OAuth2Error
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.db import Database
from gateway.oauth import model, pages, scopes, service
from gateway.oauth.core import Core, Exchange, audience, form
from gateway.oauth.guard import Guard, Revocations
from gateway.oauth.keys import KeyRing, Vault
from gateway.settings import Settings

_METADATA = "/.well-known/oauth-authorization-server"


def system_now() -> datetime:
    """System time: tokens, logins and keys do not follow the business clock."""
    return datetime.now(UTC)


class OAuth:
    """The authorization server of one gateway.

    Args:
        now: System time, UTC; tests hand in their own.

    Raises:
        ValueError: The issuer is neither https nor on loopback.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        now: Callable[[], datetime] = system_now,
    ) -> None:
        if not is_secure_transport(settings.base_url):
            raise ValueError("GATEWAY_ISSUER: an https URL, or http on loopback")
        self.database = database
        self.settings = settings
        self.now = now
        self.vault = Vault.open(settings.vault_key_path)
        self.ring = KeyRing(database, self.vault, token_seconds=settings.access_token_seconds)
        self.guard = Guard(
            self.ring,
            Revocations(database, now=now),
            issuer=settings.base_url,
            audience=audience(settings),
            skew_seconds=settings.clock_skew_seconds,
            now=now,
        )

    async def start(self) -> None:
        """Make the signing keys and the sandbox's apps if they are missing; safe to repeat."""
        async with self.database.transaction() as tx:
            await service.bootstrap(tx, self.vault, settings=self.settings, now=self.now())
        await self.ring.load()

    def secret(self, purpose: str) -> bytes:
        """32 secret bytes for one purpose of another room, the same at every start."""
        return self.vault.derive(purpose)

    def routes(self) -> list[Route]:
        """Routes for the application, at its root."""
        return routes(self)

    def core(self, tx: Connection) -> Core:
        """Authlib's core for one request in one transaction."""
        return Core(tx, self.settings, self.ring, now=self.now())


def routes(oauth: OAuth) -> list[Route]:
    """All routes of the authorization server."""
    endpoints = _Endpoints(oauth)
    path = urlsplit(oauth.settings.base_url).path
    wellknown = [_METADATA, _METADATA + path] if path else [_METADATA]
    return [
        Route("/oauth/token", endpoints.token, methods=["POST"]),
        Route("/oauth/revoke", endpoints.revoke, methods=["POST"]),
        Route("/oauth/jwks", endpoints.jwks, methods=["GET"]),
        *(Route(place, endpoints.metadata, methods=["GET"]) for place in wellknown),
        *pages.routes(oauth),
    ]


class _Endpoints:
    def __init__(self, oauth: OAuth) -> None:
        self._oauth = oauth

    async def token(self, request: Request) -> Response:
        return await self._answer(request, lambda core, asked: core.create_token_response(asked))

    async def revoke(self, request: Request) -> Response:
        answer = await self._answer(
            request, lambda core, asked: core.create_endpoint_response("revocation", asked)
        )
        self._oauth.guard.revocations.forget()
        return answer

    async def _answer(
        self, request: Request, act: Callable[[Core, Exchange], Response]
    ) -> Response:
        """Read the form, then run Authlib in one transaction, which keeps what it took."""
        try:
            fields = await form(request)
        except OAuth2Error as error:
            return _error(error)

        def run(tx: Connection) -> Response:
            core = self._oauth.core(tx)
            uri = f"{self._oauth.settings.base_url}{request.url.path}"
            asked = Exchange(request.method, uri, fields, request.headers)
            try:
                core.check_fields(asked)
                return act(core, asked)
            except OAuth2Error as error:
                return core.handle_error_response(asked, error)

        async with self._oauth.database.transaction() as tx:
            response = await tx.run_sync(run)
        if response.status_code == 400:  # A replay may have revoked a grant.
            self._oauth.guard.revocations.forget()
        return response

    async def jwks(self, _request: Request) -> Response:
        keys = await self._oauth.ring.public(now=self._oauth.now())
        return JSONResponse({"keys": keys}, headers={"Cache-Control": "public, max-age=60"})

    async def metadata(self, _request: Request) -> Response:
        return JSONResponse(metadata(self._oauth.settings))


def metadata(settings: Settings) -> dict[str, Any]:
    """What this server can do, and nothing it cannot. Source: RFC 8414, RFC 9207."""
    base = settings.base_url
    methods = [model.PRIVATE_KEY_JWT, model.PUBLIC]
    if settings.sandbox:
        methods.insert(1, model.CLIENT_SECRET_BASIC)
    signed = {"auth_methods_supported": methods}
    signed["auth_signing_alg_values_supported"] = ["ES256", "EdDSA", "Ed25519"]
    return {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "revocation_endpoint": f"{base}/oauth/revoke",
        "jwks_uri": f"{base}/oauth/jwks",
        "scopes_supported": sorted(scopes.ALL_SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": ["zh-CN", "en"],
        **{f"token_endpoint_{name}": value for name, value in signed.items()},
        **{f"revocation_endpoint_{name}": value for name, value in signed.items()},
    }


def _error(error: OAuth2Error) -> Response:
    status, body, headers = error()
    return JSONResponse(body, status, dict(headers) | {"Cache-Control": "no-store"})
