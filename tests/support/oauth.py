"""An authorization server on loopback, and clients that behave or misbehave."""

import base64
import contextlib
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx2
from joserfc.jwk import ECKey, OKPKey
from starlette.applications import Starlette

from gateway.db import Database
from gateway.oauth import jose, passwords, service
from gateway.oauth.model import CLIENT_SECRET_BASIC
from gateway.oauth.scopes import Role
from gateway.oauth.server import OAuth
from gateway.settings import Settings
from tests.support.serving import bound, serving

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
PASSWORD = "右边的月亮-7"
BACK = "http://127.0.0.1:49152/callback"
APP = service.MEMBER_APP
_hashes: dict[str, str] = {}


@dataclass
class World:
    """One running server, its database and a browserless HTTP client."""

    oauth: OAuth
    http: httpx2.AsyncClient
    later: timedelta = field(default_factory=timedelta)
    browsers: list[httpx2.AsyncClient] = field(default_factory=list)

    @property
    def base(self) -> str:
        return self.oauth.settings.base_url

    def now(self) -> datetime:
        return datetime.now(UTC) + self.later

    async def merchant(self, merchant_id: str = "M04", key: Any = None) -> Any:
        """Register a merchant's key; returns the private one."""
        key = key or jose.new_key()
        async with self.oauth.database.transaction() as tx:
            public = key.as_dict(private=False)
            await service.register_key(tx, merchant_id=merchant_id, jwk=public, now=self.now())
        return key

    async def with_secret(self, client_id: str = "sandbox-M05", merchant_id: str = "M05") -> str:
        async with self.oauth.database.transaction() as tx:
            await service.register_client(
                tx,
                client_id=client_id,
                name_zh="影院",
                name_en="Cinema",
                auth_method=CLIENT_SECRET_BASIC,
                role=Role.PARTNER,
                merchant_id=merchant_id,
                now=self.now(),
            )
            return await service.new_secret(tx, client_id=client_id, now=self.now())

    async def person(self, login: str = "lin", role: Role = Role.MEMBER, **given: Any) -> Any:
        if PASSWORD not in _hashes:
            _hashes[PASSWORD] = await passwords.hashed(PASSWORD, log_n=12, p=1)
        if role is Role.MEMBER:
            given.setdefault("member_id", f"mbr_{login}")
        if role is Role.PARTNER:
            given.setdefault("merchant_id", "M04")
        async with self.oauth.database.transaction() as tx:
            return await service.seed_user(
                tx,
                login=login,
                password_hash=_hashes[PASSWORD],
                role=role,
                name_zh=login,
                now=self.now(),
                **given,
            )

    def claims(self, client_id: str = "merchant-M04", **change: Any) -> dict[str, Any]:
        now = int(self.now().timestamp())
        claims = {"iss": client_id, "sub": client_id, "aud": self.base, "iat": now}
        claims |= {"exp": now + 60, "jti": secrets.token_urlsafe(12)} | change
        return {name: value for name, value in claims.items() if value is not None}

    async def token(self, **fields: str) -> httpx2.Response:
        return await self.http.post(f"{self.base}/oauth/token", data=fields)

    async def machine(self, key: Any, *, scope: str = "", **change: Any) -> httpx2.Response:
        """Client credentials with an assertion."""
        assertion = jose.encode(self.claims(**change), key, typ="JWT")
        return await self.present(assertion, scope=scope)

    async def present(self, assertion: str, *, scope: str = "") -> httpx2.Response:
        fields = {"grant_type": "client_credentials", "client_assertion": assertion}
        fields |= {"client_assertion_type": ASSERTION} | ({"scope": scope} if scope else {})
        return await self.token(**fields)

    def bearer(self, answer: httpx2.Response) -> str:
        assert answer.status_code == 200, answer.text
        return f"Bearer {answer.json()['access_token']}"


def pkce() -> tuple[str, str]:
    """A verifier and its S256 challenge."""
    verifier = secrets.token_urlsafe(32)
    digest = hashlib.sha256(verifier.encode()).digest()
    return verifier, base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of a form."""
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))


def next_page(answer: httpx2.Response) -> str:
    """Where a redirect leads, as a browser reads it."""
    return urljoin(str(answer.request.url), answer.headers["location"])


class Browser:
    """A person with a browser: follows the pages, fills the forms."""

    def __init__(self, world: World, client_id: str = APP) -> None:
        self.world = world
        self.client_id = client_id
        self.verifier, self.challenge = pkce()
        self.http = httpx2.AsyncClient(base_url=world.base, timeout=30)
        world.browsers.append(self.http)

    def asks(self, **change: str | None) -> dict[str, str]:
        fields: Mapping[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": BACK,
            "state": "s t&ate",
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
            **change,
        }
        return {name: value for name, value in fields.items() if value is not None}

    async def authorize(self, **change: str | None) -> httpx2.Response:
        return await self.http.get("/oauth/authorize", params=self.asks(**change))

    async def log_in(
        self, login: str = "lin", password: str = PASSWORD, **change: str | None
    ) -> httpx2.Response:
        """From the app's link to the answer to the login form."""
        begun = await self.authorize(**change)
        assert begun.status_code == 303, begun.text
        form = await self.http.get(next_page(begun))
        fields = hidden(form.text) | {"login": login, "password": password}
        return await self.http.post("/oauth/login", data=fields)

    async def agree(
        self, login: str = "lin", decision: str = "allow", **change: str | None
    ) -> dict[str, str]:
        """All pages; returns the parameters with which the app is called back."""
        logged_in = await self.log_in(login, **change)
        assert logged_in.status_code == 303, logged_in.text
        form = await self.http.get(next_page(logged_in))
        fields = hidden(form.text) | {"decision": decision}
        back = await self.http.post("/oauth/consent", data=fields)
        assert back.status_code == 303, back.text
        place = urlsplit(back.headers["location"])
        assert f"{place.scheme}://{place.netloc}{place.path}" == BACK
        return dict(parse_qsl(place.query, keep_blank_values=True))

    async def exchange(self, code: str, **change: str | None) -> httpx2.Response:
        fields: Mapping[str, str | None] = {
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "code": code,
            "redirect_uri": BACK,
            "code_verifier": self.verifier,
            **change,
        }
        return await self.world.token(**{k: v for k, v in fields.items() if v is not None})

    async def refresh(self, token: str, **change: str) -> httpx2.Response:
        fields = {"grant_type": "refresh_token", "client_id": self.client_id}
        return await self.world.token(**fields, refresh_token=token, **change)


@contextlib.asynccontextmanager
async def world(database: Database, home: Path, **settings: Any) -> AsyncIterator[World]:
    """A started server with the sandbox's apps."""
    listening, port = bound()
    made = Settings(home=home, port=port, **settings)
    oauth = OAuth(database, made)
    async with httpx2.AsyncClient(timeout=30) as http:
        here = World(oauth, http)
        oauth.now = here.now
        oauth.guard._now = here.now
        await oauth.start()
        async with serving(Starlette(routes=list(oauth.routes())), listening):
            try:
                yield here
            finally:
                for browser in here.browsers:
                    await browser.aclose()


def ed25519() -> OKPKey:
    return OKPKey.generate_key("Ed25519", auto_kid=True)


def p256() -> ECKey:
    return jose.new_key()
