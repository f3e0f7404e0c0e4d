"""A merchant's token endpoint: client credentials, by signed assertion or by secret.

Tokens are opaque and kept as hashes; they live on system time, whatever business time is.
Source: RFC 6749 §4.4 and §5.2, RFC 6750 §3, RFC 7523 with one audience, the issuer; RFC 7662 for
another service of the merchant that has been sent a token.
"""

import base64
import binascii
import hashlib
import json
import secrets
import time
import warnings
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import KeySet

from partners.simulators.config import Client, Merchant
from partners.simulators.store import Store

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ["ES256", "EdDSA", "Ed25519"]
INTROSPECTION = "introspection"  # The scope of a client that may ask about tokens.
SKEW_SECONDS = 60
LONGEST_ASSERTION_SECONDS = 600


class OAuthError(Exception):
    """An error of RFC 6749 §5.2 or RFC 6750 §3.1."""

    def __init__(self, code: str, status: int = 400, *, why: str = "") -> None:
        super().__init__(code, why)
        self.code = code
        self.status = status
        self.why = why


class Tokens:
    """Issues and checks the access tokens of one merchant.

    Args:
        issuer: The merchant's URL as an issuer: the only audience an assertion may name.
    """

    def __init__(self, store: Store, config: Merchant, *, issuer: str) -> None:
        self._store = store
        self._config = config
        self._clients = {client.id: client for client in config.clients}
        self.issuer = issuer

    def issue(self, form: Mapping[str, str], authorization: str | None) -> dict[str, Any]:
        """Answer a token request.

        Raises:
            OAuthError: invalid_client, invalid_request, invalid_scope, unsupported_grant_type.
        """
        client = self._authenticate(form, authorization)
        if form.get("grant_type") != "client_credentials":
            raise OAuthError("unsupported_grant_type")
        asked = form.get("scope", "").split() or list(client.scopes)
        if not set(asked) <= set(client.scopes):
            raise OAuthError("invalid_scope")
        token = secrets.token_urlsafe(32)
        with self._store.transaction() as db:
            db.execute("DELETE FROM tokens WHERE expires < ?", (time.time() - 3600,))
            db.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?)",
                (
                    _hash(token),
                    client.id,
                    " ".join(asked),
                    time.time() + self._config.token_seconds,
                ),
            )
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self._config.token_seconds,
            "scope": " ".join(asked),
        }

    def check(self, authorization: str | None, scope: str) -> frozenset[str]:
        """Check a bearer token; an empty scope asks for none.

        Returns:
            All its scopes.

        Raises:
            OAuthError: invalid_token (401) or insufficient_scope (403).
        """
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise OAuthError("invalid_token", 401, why="a bearer token is needed")
        row = self._store.row("SELECT * FROM tokens WHERE hash = ?", _hash(token))
        if row is None:
            raise OAuthError("invalid_token", 401, why="not one of ours")
        if row["expires"] <= time.time():
            raise OAuthError("invalid_token", 401, why="expired")
        granted = frozenset(str(row["scope"]).split())
        if scope and scope not in granted:
            raise OAuthError("insufficient_scope", 403)
        return granted

    def introspect(self, form: Mapping[str, str], authorization: str | None) -> dict[str, Any]:
        """What a token is good for, for a service of the merchant's own.

        Raises:
            OAuthError: invalid_client; insufficient_scope for a client that may not ask.
        """
        if INTROSPECTION not in self._authenticate(form, authorization).scopes:
            raise OAuthError("insufficient_scope", 403)
        row = self._store.row("SELECT * FROM tokens WHERE hash = ?", _hash(form.get("token", "")))
        if row is None or row["expires"] <= time.time():
            return {"active": False}
        told = {"active": True, "client_id": row["client_id"], "scope": row["scope"]}
        return told | {"exp": int(row["expires"])}

    def expire_all(self) -> None:
        """Make every token expired, at once."""
        with self._store.transaction() as db:
            db.execute("UPDATE tokens SET expires = ?", (time.time() - 1,))

    def _authenticate(self, form: Mapping[str, str], authorization: str | None) -> Client:
        """Find who asks; one method a request, and one answer for every failure."""
        if authorization is not None and "client_assertion" in form:
            raise OAuthError("invalid_request", why="one client authentication a request")
        if authorization is not None:
            return self._by_secret(authorization)
        if form.get("client_assertion_type") == ASSERTION_TYPE:
            return self._by_assertion(form.get("client_assertion", ""))
        raise OAuthError("invalid_client", 401)

    def _by_secret(self, authorization: str) -> Client:
        kind, _, encoded = authorization.partition(" ")
        try:
            text = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise OAuthError("invalid_client", 401) from None
        name, _, secret = text.partition(":")
        client = self._clients.get(unquote(name))
        expected = client.secret if client is not None else None
        right = secrets.compare_digest(unquote(secret).encode(), (expected or "").encode())
        if kind.lower() != "basic" or client is None or not expected or not right:
            raise OAuthError("invalid_client", 401)
        return client

    def _by_assertion(self, assertion: str) -> Client:
        client = self._clients.get(_subject(assertion))
        if client is None or client.jwks is None:
            raise OAuthError("invalid_client", 401)
        try:
            keys = KeySet.import_key_set(dict(client.jwks))  # type: ignore[arg-type]  # joserfc checks it.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # EdDSA's name is deprecated.
                claims = jwt.decode(assertion, keys, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, TypeError, KeyError):
            raise OAuthError("invalid_client", 401, why="signature") from None
        self._check_claims(client, claims)
        return client

    def _check_claims(self, client: Client, claims: Mapping[str, Any]) -> None:
        now = time.time()
        expires, begins = claims.get("exp"), claims.get("nbf", claims.get("iat", now))
        if claims.get("iss") != client.id or claims.get("sub") != client.id:
            raise OAuthError("invalid_client", 401, why="iss and sub are the client's id")
        if claims.get("aud") != self.issuer:
            raise OAuthError("invalid_client", 401, why="aud is the issuer, as one string")
        if not isinstance(expires, int | float) or not isinstance(begins, int | float):
            raise OAuthError("invalid_client", 401, why="exp and iat are numbers")
        if not now - SKEW_SECONDS < expires <= now + LONGEST_ASSERTION_SECONDS + SKEW_SECONDS:
            raise OAuthError("invalid_client", 401, why="exp")
        if begins > now + SKEW_SECONDS:
            raise OAuthError("invalid_client", 401, why="iat")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not jti:
            raise OAuthError("invalid_client", 401, why="jti")
        with self._store.transaction() as db:
            db.execute("DELETE FROM assertions WHERE expires < ?", (now - SKEW_SECONDS,))
            used = db.execute(
                "INSERT OR IGNORE INTO assertions VALUES (?, ?, ?)", (client.id, jti, expires)
            )
        if used.rowcount == 0:
            raise OAuthError("invalid_client", 401, why="jti was used")


def _subject(assertion: str) -> str:
    """Whom an assertion claims to be from, before anything of it is checked."""
    parts = assertion.split(".")
    try:
        payload = parts[1] + "=" * (-len(parts[1]) % 4)
        return str(json.loads(base64.urlsafe_b64decode(payload))["sub"])
    except (IndexError, KeyError, TypeError, ValueError):
        raise OAuthError("invalid_client", 401) from None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
