"""The demo's outside clients: HTTP, OAuth and GraphQL only, as anybody's app would do it.

MemberApp, Staff    a person with a browser: authorization code with PKCE through the real forms
Merchant            a merchant's own system: client credentials with a signed assertion
"""

import base64
import hashlib
import itertools
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx2
from joserfc import jws, jwt
from joserfc.jwk import ECKey

CALLBACK = "http://127.0.0.1:49152/callback"  # Never opened: the code is read off the redirect.
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MEMBER_APP, STAFF_CONSOLE = "member-app", "staff-console"
PATIENCE = 120.0  # Seconds for an answer, on a machine of any speed.
_keys = itertools.count(1)
_run = secrets.token_hex(4)


class Unexpected(Exception):
    """The gateway answered what the play has no use for; says what was asked and answered."""


@dataclass(slots=True)
class Wire:
    """The way to one gateway: one pool of connections for all clients."""

    base_url: str
    http: httpx2.AsyncClient
    calls: int = 0

    @classmethod
    def open(cls, base_url: str) -> "Wire":
        return cls(base_url, httpx2.AsyncClient(timeout=PATIENCE, trust_env=False))

    async def aclose(self) -> None:
        await self.http.aclose()


@dataclass
class Caller:
    """Somebody who asks the gateway; without a token unless a subclass gets one."""

    wire: Wire
    language: str = "zh"
    _token: str | None = field(default=None, repr=False)

    async def log_in(self) -> None:
        """Get an access token, if there is none yet."""

    async def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL document.

        Raises:
            Unexpected: There are top-level errors.
        """
        body = await self.post(text, variables)
        if body.get("errors"):
            raise Unexpected(f"{text} {variables}: {body['errors']}")
        data: dict[str, Any] = body["data"]
        return data

    async def post(self, text: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The whole answer."""
        await self.log_in()
        self.wire.calls += 1
        answer = await self.wire.http.post(
            f"{self.wire.base_url}/graphql",
            json={"query": text, "variables": variables},
            headers=self.headers(),
        )
        body: dict[str, Any] = answer.json()
        return body

    async def do(self, mutation: str, wanted: str = "", **given: Any) -> dict[str, Any]:
        """Run a mutation under a new key, unless one is given; its payload with its errors."""
        kind = f"{mutation[0].upper()}{mutation[1:]}Input"
        asked = {"idempotencyKey": f"demo-{_run}-{next(_keys)}"} | given
        text = (
            f"mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {wanted} replayed"
            " errors { code message field context nextStep } } }"
        )
        payload: dict[str, Any] = (await self.query(text, input=asked))[mutation]
        return payload

    async def did(self, mutation: str, wanted: str = "", **given: Any) -> dict[str, Any]:
        """Run a mutation that is taken.

        Raises:
            Unexpected: It is refused.
        """
        payload = await self.do(mutation, wanted, **given)
        if payload["errors"]:
            raise Unexpected(f"{mutation} {given}: {payload['errors']}")
        return payload

    async def refused(self, mutation: str, **given: Any) -> dict[str, Any]:
        """The one error of a mutation that is refused.

        Raises:
            Unexpected: It is taken.
        """
        payload = await self.do(mutation, **given)
        if len(payload["errors"]) != 1:
            raise Unexpected(f"{mutation} {given}: not refused")
        error: dict[str, Any] = payload["errors"][0]
        return error

    async def rows(self, text: str, name: str, **variables: Any) -> list[dict[str, Any]]:
        """Every node of a connection, page by page; `text` takes `$after`."""
        found: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            page = (await self.query(text, after=after, **variables))[name]
            found += [edge["node"] for edge in page["edges"]]
            if not page["pageInfo"]["hasNextPage"]:
                return found
            after = page["pageInfo"]["endCursor"]

    async def download(self, url: str) -> str:
        """A file, with the same token."""
        await self.log_in()
        answer = await self.wire.http.get(url, headers=self.headers())
        if answer.status_code != 200:
            raise Unexpected(f"{url}: {answer.status_code} {answer.text}")
        return answer.text

    def headers(self) -> dict[str, str]:
        named = {"accept-language": self.language}
        return named | ({"authorization": f"Bearer {self._token}"} if self._token else {})


@dataclass
class Person(Caller):
    """A person with a browser, who logs in and agrees on the gateway's own pages."""

    login: str = ""
    password: str = field(default="", repr=False)
    client_id: str = MEMBER_APP

    async def log_in(self) -> None:
        if self._token is None:
            verifier = secrets.token_urlsafe(32)
            code = await self._agree(verifier)
            self._token = await self._exchange(code, verifier)

    async def _agree(self, verifier: str) -> str:
        """Through the pages: from the app's link to the code it is called back with."""
        digest = hashlib.sha256(verifier.encode()).digest()
        state = secrets.token_urlsafe(8)
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "state": state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        page = await self._get("/oauth/authorize", {}, params=asked)
        cookies = {"cookie": page.headers["set-cookie"].partition(";")[0]}
        form = await self._get(_next(page), cookies)
        credentials = {"login": self.login, "password": self.password}
        page = await self._submit("/oauth/login", form, cookies, credentials)
        form = await self._get(_next(page), cookies)
        page = await self._submit("/oauth/consent", form, cookies, {"decision": "allow"})
        back = dict(parse_qsl(urlsplit(_next(page)).query))
        if back.get("state") != state or "code" not in back:
            raise Unexpected(f"login of {self.login}: {back}")
        return back["code"]

    async def _exchange(self, code: str, verifier: str) -> str:
        fields = {"grant_type": "authorization_code", "client_id": self.client_id, "code": code}
        fields |= {"redirect_uri": CALLBACK, "code_verifier": verifier}
        return await _token(self.wire, fields)

    async def _get(self, path: str, cookies: Mapping[str, str], **more: Any) -> httpx2.Response:
        return await self._browse("GET", path, cookies, **more)

    async def _submit(
        self, path: str, form: httpx2.Response, cookies: Mapping[str, str], fields: dict[str, str]
    ) -> httpx2.Response:
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form.text))
        return await self._browse("POST", path, cookies, data=hidden | fields)

    async def _browse(
        self, method: str, path: str, cookies: Mapping[str, str], **more: Any
    ) -> httpx2.Response:
        url = urljoin(self.wire.base_url, path)
        self.wire.http.cookies.clear()  # Each person has a browser of their own.
        answer = await self.wire.http.request(method, url, headers=dict(cookies), **more)
        if answer.status_code >= 400:
            raise Unexpected(f"login of {self.login}: {answer.status_code} {answer.text[:500]}")
        return answer


class MemberApp(Person):
    """A member in the member app."""

    async def wallet(self, programme: str) -> dict[str, int]:
        """Available and held points of one programme."""
        found = await self.query("{ me { wallets { programme { id } available held } } }")
        for row in found["me"]["wallets"]:
            if row["programme"]["id"] == programme:
                return {"available": row["available"], "held": row["held"]}
        return {"available": 0, "held": 0}


@dataclass
class Merchant(Caller):
    """A merchant's own system with its private key."""

    merchant_id: str = ""
    key: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def client_id(self) -> str:
        return f"merchant-{self.merchant_id}"

    async def log_in(self) -> None:
        if self._token is None:
            fields = {
                "grant_type": "client_credentials",
                "client_assertion_type": ASSERTION,
                "client_assertion": self._assertion(),
            }
            self._token = await _token(self.wire, fields)

    def sign(self, text: str) -> str:
        """A detached JWS over a text, by the merchant's key."""
        protected = {"alg": "ES256", "kid": self.key["kid"]}
        key = ECKey.import_key(dict(self.key))
        return jws.detach_content(jws.serialize_compact(protected, text.encode(), key))

    def _assertion(self) -> str:
        now = int(time.time())
        claims = {"iss": self.client_id, "sub": self.client_id, "aud": self.wire.base_url}
        times = {"iat": now, "exp": now + 60, "jti": secrets.token_urlsafe(16)}
        header = {"alg": "ES256", "typ": "JWT", "kid": self.key["kid"]}
        return jwt.encode(header, claims | times, ECKey.import_key(dict(self.key)))


async def _token(wire: Wire, fields: Mapping[str, str]) -> str:
    answer = await wire.http.post(f"{wire.base_url}/oauth/token", data=dict(fields))
    if answer.status_code != 200:
        raise Unexpected(f"no token: {answer.status_code} {answer.text}")
    token: str = answer.json()["access_token"]
    return token


def _next(answer: httpx2.Response) -> str:
    """Where a redirect leads, as a browser reads it."""
    if "location" not in answer.headers:
        raise Unexpected(f"no redirect: {answer.status_code} {answer.text[:500]}")
    return urljoin(str(answer.request.url), answer.headers["location"])
