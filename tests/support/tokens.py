"""A client of a partner's token endpoint, as small as tests need."""

import json
import time
import uuid
from base64 import b64encode
from collections.abc import AsyncGenerator
from urllib.parse import quote, urlencode

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey

from partners import Connection

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Bearer(httpx2.Auth):
    """Fetches a token when it has none or it was refused, once."""

    requires_response_body = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._token: str | None = None

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        for fresh in (False, True):
            if self._token is None or fresh:
                answer = yield token_request(self._connection)
                await answer.aread()
                self._token = json.loads(answer.content).get("access_token")
            request.headers["authorization"] = f"Bearer {self._token}"
            answer = yield request
            if answer.status_code != 401:
                return


def token_request(connection: Connection, **claims: object) -> httpx2.Request:
    """A token request as the connection says; claims overrule those of its assertion."""
    form = {"grant_type": "client_credentials", "scope": connection.scope}
    headers = {"content-type": "application/x-www-form-urlencoded"}
    auth = connection.auth
    if auth.secret is not None:
        pair = f"{quote(auth.client_id)}:{quote(auth.secret)}"
        headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    else:
        now = int(time.time())
        assertion = {
            "iss": auth.client_id,
            "sub": auth.client_id,
            "aud": connection.audience,
            "iat": now,
            "exp": now + 60,
            "jti": uuid.uuid4().hex,
            **claims,
        }
        key = ECKey.import_key(dict(auth.key or {}))
        form["client_assertion_type"] = ASSERTION_TYPE
        form["client_assertion"] = jwt.encode({"alg": "ES256", "kid": key.kid}, assertion, key)
    content = urlencode(form).encode()
    return httpx2.Request("POST", connection.token_url, headers=headers, content=content)


def client_for(connection: Connection) -> httpx2.AsyncClient:
    """A client for a connection."""
    return httpx2.AsyncClient(
        base_url=connection.base_url, auth=Bearer(connection), timeout=5, trust_env=False
    )
