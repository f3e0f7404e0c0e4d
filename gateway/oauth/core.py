"""Authlib's synchronous core, bound to Starlette's responses and to one transaction a request.

Authlib decides; this module feeds it and answers for it. A `Core` lives for one request, so
nothing needs a context variable, and runs inside `AsyncConnection.run_sync`, so that what it
takes (a code, an assertion's jti) commits with the answer, also when the answer is an error.

Where Authlib's defaults are not strict enough they are closed here, each named at its place.
"""

import base64
import binascii
import logging
import re
import secrets
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote

import sqlalchemy as sa
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
    OAuth2Payload,
    OAuth2Request,
)
from authlib.oauth2.rfc6749.grants import (
    AuthorizationCodeGrant,
    ClientCredentialsGrant,
    RefreshTokenGrant,
)
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from authlib.oauth2.rfc7636 import CodeChallenge
from joserfc.errors import JoseError
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from gateway.oauth import jose, model, scopes, store
from gateway.oauth.keys import KeyRing
from gateway.oauth.model import Client, Taken, User
from gateway.settings import Settings
from gateway.values import new_id

log = logging.getLogger(__name__)

MAX_BODY = 65_536
CODE_SECONDS = 60
ASSERTION_SECONDS = 600
_AHEAD = 10  # A client's clock may be this far ahead: for `exp` of an assertion.
_PLAIN = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*")  # What RFC 6749 lets an error repeat.
_NAMED = ("grant_type", "response_type", "client_id", "redirect_uri", "scope", "code")


class Exchange(OAuth2Request):
    """One request as Authlib sees it: the body was read before, nothing comes from the query."""

    def __init__(self, method: str, uri: str, fields: Mapping[str, str], headers: Any) -> None:
        super().__init__(method, uri, headers=headers)
        self.payload = _Fields(fields)

    @property
    def form(self) -> Mapping[str, str]:
        fields: Mapping[str, str] = self.payload.data
        return fields


class _Fields(OAuth2Payload):
    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    @property
    def data(self) -> Mapping[str, str]:
        return self._fields

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        return defaultdict(list, {name: [value] for name, value in self._fields.items()})


class Core(AuthorizationServer):
    """Authlib's server for one request, in one transaction.

    Args:
        tx: The request's transaction, as `run_sync` hands it out.
        now: System time.
    """

    def __init__(
        self, tx: sa.Connection, settings: Settings, ring: KeyRing, *, now: datetime
    ) -> None:
        super().__init__()
        self.tx = tx
        self.settings = settings
        self.ring = ring
        self.now = now
        self.grant_id: str | None = None  # of the person's grant that tokens will belong to
        methods = [model.PRIVATE_KEY_JWT, model.PUBLIC]
        if settings.sandbox:
            methods.insert(1, model.CLIENT_SECRET_BASIC)
        self.methods = methods
        self.register_client_auth_method(model.PRIVATE_KEY_JWT, _Assertion(self))
        self.register_client_auth_method(model.CLIENT_SECRET_BASIC, _basic)
        self.register_grant(_ClientCredentials)
        self.register_grant(_AuthorizationCode, [_S256()])
        self.register_grant(_RefreshToken)
        self.register_endpoint(_Revocation)
        self.register_token_generator("default", self._tokens)

    def authenticate_client(
        self, request: Exchange, methods: list[str], endpoint: str = "token"
    ) -> Client:
        """One method a request, of this server's (Authlib takes the first that works)."""
        given = [
            "authorization" in request.headers,
            "client_assertion" in request.form or "client_assertion_type" in request.form,
            "client_secret" in request.form,
        ]
        if sum(given) > 1:
            raise InvalidRequestError("One client authentication method per request.")
        client: Client = super().authenticate_client(request, self.methods, endpoint)
        named = request.form.get("client_id")
        if named is not None and named != client.client_id:
            raise InvalidClientError
        return client

    def query_client(self, client_id: str) -> Client | None:
        return store.client(self.tx, client_id, now=self.now)

    def save_token(self, token: Mapping[str, Any], request: Exchange) -> None:
        """Access tokens are self-contained; refresh tokens were stored when made."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens (Authlib raises NotImplementedError)."""

    def create_oauth2_request(self, request: Exchange) -> Exchange:
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> Response:
        """A Starlette response; each redirect is a 303 and names the issuer (RFC 9207)."""
        sent = dict(headers)
        if "Location" in sent:
            place = add_params_to_uri(sent["Location"], [("iss", self.settings.base_url)])
            return RedirectResponse(place, 303, {"Cache-Control": "no-store"})
        return JSONResponse(body, status, sent | {"Cache-Control": "no-store"})

    def handle_error_response(self, request: Exchange, error: OAuth2Error) -> Response:
        """One answer for every failed client authentication; which part failed is logged only."""
        if error.error == "invalid_client":
            log.info("client refused: %s", error.description or "no such client or secret")
            return refuse_client()
        response: Response = super().handle_error_response(request, error)
        return response

    def check_fields(self, request: Exchange) -> None:
        """Authlib repeats fields in errors, and fails on what an error must not hold.

        Raises:
            InvalidRequestError: A field holds a character it must not.
        """
        if any("\x00" in value for value in request.payload.data.values()):
            raise InvalidRequestError("A field holds a NUL.")
        for name in _NAMED:
            if not _PLAIN.fullmatch(request.payload.data.get(name, "")):
                raise InvalidRequestError(f"Malformed '{name}'.")

    def _tokens(  # noqa: PLR0917  # Authlib's signature.
        self,
        grant_type: str,
        client: Client,
        user: User | None = None,
        scope: str | None = None,
        expires_in: int | None = None,
        include_refresh_token: bool = True,
    ) -> dict[str, Any]:
        """An access token as in RFC 9068, and a refresh token for a person's grant.

        Authlib's own generator lives ten days, takes any key of a set and the client as `aud`.
        """
        life = self.settings.access_token_seconds
        issued = int(self.now.timestamp())
        granted = scopes.split(scope)
        claims: dict[str, Any] = {
            "iss": self.settings.base_url,
            "aud": audience(self.settings),
            "sub": user.user_id if user else client.client_id,
            "client_id": client.client_id,
            "iat": issued,
            "exp": issued + life,
            "jti": secrets.token_urlsafe(16),
            "scope": scopes.join(granted),
            "role": user.role if user else client.role,
        }
        owner: User | Client = user or client
        if owner.merchant_id:
            claims["merchant"] = owner.merchant_id
        if user and user.member_id:
            claims["member"] = user.member_id
        if user and user.limit_fen:
            claims["limit_fen"] = user.limit_fen
        if self.grant_id:
            claims["grant"] = self.grant_id
        signed = jose.encode(claims, self.ring.active(self.tx), typ="at+jwt")
        token = {"access_token": signed, "token_type": "Bearer", "expires_in": life}
        if include_refresh_token and self.grant_id:
            token["refresh_token"] = self._refresh_token(client)
        return token | {"scope": claims["scope"]}

    def _refresh_token(self, client: Client) -> str:
        token = secrets.token_urlsafe(32)
        of_grant = sa.select(store.grants.c.expires_at).where(
            store.grants.c.grant_id == self.grant_id
        )
        row = {"token_hash": store.digest(token), "grant_id": self.grant_id}
        row |= {"client_id": client.client_id, "expires_at": self.tx.scalar(of_grant)}
        self.tx.execute(sa.insert(store.refresh_tokens).values(row))
        return token


async def form(request: Request) -> dict[str, str]:
    """The fields of a form, each once; none of them in the URL.

    Raises:
        InvalidRequestError: It cannot be read, is too long, repeats a field or has a query.
    """
    if request.url.query:
        raise InvalidRequestError("Parameters belong in the body.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise InvalidRequestError("The body must be application/x-www-form-urlencoded.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise InvalidRequestError("The body is too long.", status_code=413)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise InvalidRequestError("The body cannot be read.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidRequestError("A parameter is given twice.")
    return fields


def audience(settings: Settings) -> str:
    """The one resource these tokens are for."""
    return f"{settings.base_url}/graphql"


def refuse_client() -> Response:
    """The one answer to every failed client authentication."""
    return JSONResponse(
        {"error": "invalid_client", "error_description": "Client authentication failed."},
        401,
        {"Cache-Control": "no-store", "WWW-Authenticate": 'Basic realm="oauth"'},
    )


def _basic(query_client: Any, request: Exchange) -> Client | None:
    """HTTP Basic; garbage is no client (Authlib answers 500). Source: RFC 6749 §2.3.1."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        client_id, colon, secret = base64.b64decode(text, validate=True).decode().partition(":")
        client_id, secret = unquote(client_id, errors="strict"), unquote(secret, errors="strict")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise InvalidClientError from None
    if not colon or not _PLAIN.fullmatch(client_id):
        raise InvalidClientError
    client: Client | None = query_client(client_id)
    given = store.digest(secret)
    known = client.secret_hashes if client else frozenset()
    if not any(secrets.compare_digest(given, one) for one in known):
        raise InvalidClientError
    return client


class _Assertion(JWTBearerClientAssertion):
    """private_key_jwt as strict as FAPI 2.0 asks. Source: RFC 7523, draft-ietf-oauth-rfc7523bis.

    Authlib takes assertions for ten years, with more than one audience, by any algorithm.
    """

    CLIENT_AUTH_METHOD = model.PRIVATE_KEY_JWT

    def __init__(self, core: Core) -> None:
        super().__init__()
        self._core = core

    def __call__(self, query_client: Any, request: Exchange) -> Client | None:
        text = request.form.get("client_assertion")
        if request.form.get("client_assertion_type") != self.CLIENT_ASSERTION_TYPE or not text:
            return None
        _, claims = self.extract_assertion(text)
        client_id = claims.get("sub")
        if not isinstance(client_id, str) or not _PLAIN.fullmatch(client_id):
            raise InvalidClientError("sub: a client's id is needed")
        client: Client | None = query_client(client_id)
        if client is None or client.auth_method != self.CLIENT_AUTH_METHOD:
            raise InvalidClientError(f"{client_id}: no client with a key")
        try:
            key = self._key(text, client)
            _, claims = jose.decode(text, key)
        except JoseError as error:
            raise InvalidClientError(f"{client_id}: signature or algorithm") from error
        self.verify_claims(claims)
        return client

    def extract_assertion(self, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            found: tuple[dict[str, Any], dict[str, Any]] = super().extract_assertion(text)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidClientError("the assertion cannot be read") from error
        return found

    def _key(self, text: str, client: Client) -> jose.PublicKey:
        """The registered key that the header names; without a name, the only one."""
        known = store.keys_of(self._core.tx, client.client_id)
        kid = jose.header(text).get("kid")
        if kid is None and len(known) == 1:
            (kid,) = known
        if not isinstance(kid, str) or kid not in known:
            raise InvalidClientError(f"{client.client_id}: kid is no registered key")
        return jose.load(known[kid])

    def verify_claims(self, claims: dict[str, Any]) -> None:
        now, skew = self._core.now.timestamp(), self._core.settings.clock_skew_seconds
        who = claims.get("sub")
        if claims.get("iss") != who:
            raise InvalidClientError(f"{who}: iss is not sub")
        if claims.get("aud") != self._core.settings.base_url:  # One string: lists are refused.
            raise InvalidClientError(f"{who}: aud is not {self._core.settings.base_url}")
        expires = jose.seconds(claims.get("exp"))
        if expires is None or not now - skew < expires <= now + ASSERTION_SECONDS + _AHEAD:
            raise InvalidClientError(f"{who}: exp is not in the next {ASSERTION_SECONDS} s")
        for name in ("iat", "nbf"):
            since = jose.seconds(claims.get(name, 0))
            if since is None or since > now + skew:
                raise InvalidClientError(f"{who}: {name} is ahead of our clock")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= 256 or "\x00" in jti:
            raise InvalidClientError(f"{who}: jti is needed")
        until = self._core.now + timedelta(seconds=expires - now + skew)
        row = {"client_id": claims["sub"], "jti": jti, "expires_at": until}
        if not store.add(self._core.tx, store.used_jtis, row):
            raise InvalidClientError(f"{who}: jti was used before")


class _S256(CodeChallenge):
    """PKCE for every client, by S256 only (Authlib: public clients, and `plain` too)."""

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        asked = grant.request.payload.data
        if asked.get("code_challenge_method") != "S256" or not asked.get("code_challenge"):
            raise InvalidRequestError("PKCE with S256 is required.")
        if len(asked["code_challenge"]) != 43:
            raise InvalidRequestError("Invalid 'code_challenge'")
        super().validate_code_challenge(grant, redirect_uri)

    def get_authorization_code_challenge_method(self, authorization_code: Taken) -> str:
        return "S256"


class _ClientCredentials(ClientCredentialsGrant):
    def validate_requested_scope(self) -> None:
        """All the client may have, or what it asked for: never less than it asked for."""
        client: Client = self.request.client
        asked = scopes.split(self.request.payload.scope)
        if beyond := asked - client.widest():
            raise InvalidScopeError(f"Not for this client: {scopes.join(beyond)}.")
        chosen = scopes.join(asked or client.widest())
        self.request.payload = _Fields({**self.request.form, "scope": chosen})


class _AuthorizationCode(AuthorizationCodeGrant):
    @staticmethod
    def validate_authorization_redirect_uri(request: Exchange, client: Client) -> str:
        """Exactly one that is registered; Authlib would repeat a wrong one in its answer."""
        uri: str = request.payload.redirect_uri or ""
        if not client.check_redirect_uri(uri):
            raise InvalidRequestError("The redirect_uri is not registered for this client.")
        return uri

    def validate_requested_scope(self) -> None:
        if not self.request.client.may_ask(scopes.split(self.request.payload.scope)):
            raise InvalidScopeError

    def save_authorization_code(self, code: str, request: Exchange) -> None:
        core: Core = self.server
        user: User = request.user
        asked = scopes.split(request.payload.scope) or None
        granted = request.client.for_user(user, asked)
        assert granted, "the consent page offers nothing where there is nothing"
        life = timedelta(seconds=core.settings.refresh_token_seconds)
        grant = {"grant_id": new_id("gnt"), "client_id": request.client.client_id}
        whole: dict[str, Any] = grant | {"user_id": user.user_id, "scope": scopes.join(granted)}
        whole |= {"granted_at": core.now, "expires_at": core.now + life}
        core.tx.execute(sa.insert(store.grants).values(whole))
        row = grant | {"code_hash": store.digest(code)}
        row |= {"redirect_uri": request.payload.redirect_uri}
        row |= {"code_challenge": request.payload.data["code_challenge"]}
        until = core.now + timedelta(seconds=CODE_SECONDS)
        core.tx.execute(sa.insert(store.codes).values(row | {"expires_at": until}))

    def query_authorization_code(self, code: str, client: Client) -> Taken | None:
        """Take it here, at once (Authlib asks, issues and deletes: eight at once got eight)."""
        core: Core = self.server
        taken = store.take_code(core.tx, code, client.client_id, now=core.now)
        core.grant_id = taken.grant_id if taken else None
        return taken

    def delete_authorization_code(self, authorization_code: Taken) -> None:
        """It stays, used, so that a replay is noticed."""

    def authenticate_user(self, authorization_code: Taken) -> User | None:
        return store.user(self.server.tx, authorization_code.user_id)


class _RefreshToken(RefreshTokenGrant):
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Taken | None:
        """Take it here, at once; a token used twice ends the whole grant."""
        core: Core = self.server
        found = store.refresh_token(core.tx, refresh_token, self.request.client.client_id)
        if found is None:
            return None
        self._validate_token_scope(found)  # A wrong scope must not cost the token.
        if not store.take_refresh_token(core.tx, refresh_token, now=core.now):
            return None
        core.grant_id = found.grant_id
        return found

    def authenticate_user(self, refresh_token: Taken) -> User | None:
        user = store.user(self.server.tx, refresh_token.user_id)
        if user is None:
            raise InvalidGrantError
        return user

    def issue_token(self, user: User, refresh_token: Taken) -> Any:
        """Never more than the person's role still allows."""
        asked = scopes.split(self.request.payload.scope) or scopes.split(refresh_token.scope)
        granted = self.request.client.for_user(user, asked)
        if not granted:
            raise InvalidGrantError
        return self.generate_token(user=user, scope=scopes.join(granted))

    def revoke_old_credential(self, refresh_token: Taken) -> None:
        """It was used up when it was taken."""


class _Revocation(RevocationEndpoint):
    """RFC 7009: one's own tokens; an unknown token or hint is no error."""

    def check_params(self, request: Exchange, client: Client) -> None:
        if "token" not in request.form:
            raise InvalidRequestError("Missing 'token'.")

    def query_token(self, token: str, hint: str | None) -> "_Revocable | None":
        core: Core = self.server
        refresh = core.tx.execute(
            sa.select(store.refresh_tokens).where(
                store.refresh_tokens.c.token_hash == store.digest(token)
            )
        ).one_or_none()
        if refresh is not None:
            return _Revocable(refresh.client_id, grant_id=refresh.grant_id)
        return _access_token(token, core)

    def revoke_token(self, token: "_Revocable", request: Exchange) -> None:
        core: Core = self.server
        if token.grant_id:
            store.revoke_grant(core.tx, token.grant_id, now=core.now)
        if token.jti:
            store.revoke(core.tx, token.jti, until=core.now + timedelta(days=1))


class _Revocable:
    """A token that somebody wants revoked: a whole grant, or one access token."""

    def __init__(
        self, client_id: str, *, grant_id: str | None = None, jti: str | None = None
    ) -> None:
        self._client_id = client_id
        self.grant_id = grant_id
        self.jti = jti

    def check_client(self, client: Client) -> bool:
        return client.client_id == self._client_id


def _access_token(token: str, core: Core) -> _Revocable | None:
    """One of our access tokens that has not expired."""
    try:
        kid = jose.header(token).get("kid")
        key = core.ring.cached(kid, now=core.now) if isinstance(kid, str) else None
        if key is None:
            return None
        header, claims = jose.decode(token, key)
    except JoseError:
        return None
    if header.get("typ") != "at+jwt" or claims["exp"] <= core.now.timestamp():
        return None
    return _Revocable(claims["client_id"], jti=claims["jti"])
