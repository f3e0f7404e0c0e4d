"""Token → Actor: who asks, in which role, with which scopes. Source: RFC 9068, RFC 6750."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from joserfc.errors import JoseError

from gateway.db import Database, system_now
from gateway.errors import Denied
from gateway.oauth import jose, scopes, store
from gateway.oauth.keys import KeyRing
from gateway.oauth.scopes import Role
from gateway.oauth.shared import SharedReading

_TYPES = ("at+jwt", "application/at+jwt")
_MAX_TOKEN = 8_192
_REMEMBERED = 10_000
_ROLES = tuple(role.value for role in Role)


class Unauthenticated(Denied):
    code = "UNAUTHENTICATED"
    status = 401
    when = "no token, or one that is expired, revoked or wrong (RFC 6750: `invalid_token`)"
    zh = "请重新登录"
    en = "sign in again"
    next_zh = "请获取新的访问令牌"
    next_en = "get a new access token"


class ScopeMissing(Denied):
    code = "SCOPE_MISSING"
    when = "the token lacks a scope"
    zh = "缺少权限 {scope}"
    en = "scope {scope} missing"
    next_zh = "请申请该权限"
    next_en = "ask for the scope"


class RoleForbidden(Denied):
    code = "ROLE_FORBIDDEN"
    when = "the role may not do this"
    zh = "当前角色不能执行"
    en = "this role may not do that"
    next_zh = "请由有权限的角色执行"
    next_en = "let a role do it that may"


class RateLimited(Denied):
    code = "RATE_LIMITED"
    status = 429
    when = "too many requests"
    zh = "请求过快,{retry_after_seconds} 秒后再试"
    en = "slow down; retry in {retry_after_seconds} s"
    next_zh = "请稍后再试"
    next_en = "wait, then retry"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. `subject` is the person (usr_…) or, for a machine, its client id."""

    subject: str
    role: str
    client_id: str
    merchant_id: str | None = None
    member_id: str | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)
    limit_fen: int = 0

    @property
    def anonymous(self) -> bool:
        return not self.subject


ANONYMOUS = Actor(subject="", role="anonymous", client_id="")


def require_scope(actor: Actor, scope: str) -> None:
    """Refuse an actor whose token lacks `scope`; nobody at all is UNAUTHENTICATED."""
    if actor.anonymous:
        raise Unauthenticated
    if scope not in actor.scopes:
        raise ScopeMissing(scope=scope)


def require_role(actor: Actor, *roles: str) -> None:
    """Refuse an actor in another role than these."""
    if actor.anonymous:
        raise Unauthenticated
    if actor.role not in roles:
        raise RoleForbidden(role=actor.role)


class Revocations:
    """The ids of revoked tokens, grants and subjects, read together.

    Args:
        patience: Seconds for which what was read is believed: how long a token that another
            process revoked may still pass. `forget` makes this process ask at once.
        now: System time, UTC.
    """

    def __init__(
        self,
        database: Database,
        *,
        patience: float = 1.0,
        now: Callable[[], datetime] = system_now,
    ) -> None:
        self._database = database
        self._patience = patience
        self._now = now
        self._shared = SharedReading(self._read, frozenset[str]())

    def forget(self) -> None:
        self._shared.forget()

    async def ids(self) -> frozenset[str]:
        return await self._shared.of(seconds=self._patience)

    async def _read(self) -> frozenset[str]:
        async with self._database.reading() as tx:
            return await tx.run_sync(store.revoked_ids, now=self._now())


@dataclass(frozen=True, slots=True)
class _Checked:
    """A token whose signature and claims were checked before."""

    actor: Actor
    kid: str
    ids: frozenset[str]
    expires: float


class Guard:
    """Checks access tokens of this server, and only of this server.

    Args:
        issuer: What `iss` must be.
        audience: What `aud` must be.
        skew_seconds: How far in the future a token may have been issued.
        now: System time, UTC.
    """

    def __init__(
        self,
        keys: KeyRing,
        revocations: Revocations,
        *,
        issuer: str,
        audience: str,
        skew_seconds: int = 60,
        now: Callable[[], datetime] = system_now,
    ) -> None:
        self._keys = keys
        self.revocations = revocations
        self._issuer = issuer
        self._audience = audience
        self._skew = skew_seconds
        self._now = now
        self._seen: OrderedDict[bytes, _Checked] = OrderedDict()

    async def authenticate(self, authorization: str | None) -> Actor:
        """The actor of an `Authorization: Bearer …` header.

        Raises:
            Unauthenticated: There is none, or its token is not good here and now.
        """
        token = _bearer(authorization)
        now = self._now()
        name = hashlib.sha256(token.encode()).digest()
        checked = self._seen.get(name)
        if checked is None:
            checked = await self._check(token, now)
            self._seen[name] = checked
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        elif checked.expires <= now.timestamp() or not self._keys.cached(checked.kid, now=now):
            self._seen.pop(name, None)
            raise Unauthenticated
        if checked.ids & await self.revocations.ids():
            raise Unauthenticated
        return checked.actor

    async def _check(self, token: str, now: datetime) -> _Checked:
        try:
            kid = jose.header(token).get("kid")
            key = await self._keys.find(kid, now=now)
            if key is None:
                raise Unauthenticated
            header, claims = jose.decode(token, key)
        except JoseError as error:
            raise Unauthenticated from error
        expires = self._verify(header, claims, now.timestamp())
        ids = (claims["jti"], claims["sub"], claims.get("grant"), claims["client_id"])
        names = frozenset(one for one in ids if isinstance(one, str))
        return _Checked(_actor(claims), str(kid), names, expires)

    def _verify(self, header: dict[str, Any], claims: dict[str, Any], now: float) -> float:
        """Every check of RFC 9068 §4; returns when the token expires."""
        if str(header.get("typ", "")).lower() not in _TYPES:
            raise Unauthenticated
        if claims.get("iss") != self._issuer or claims.get("aud") != self._audience:
            raise Unauthenticated
        if "cnf" in claims:  # Bound to a key: not for a mere bearer.
            raise Unauthenticated
        expires, issued = jose.seconds(claims.get("exp")), jose.seconds(claims.get("iat"))
        if expires is None or issued is None:
            raise Unauthenticated
        if expires <= now or issued > now + self._skew:
            raise Unauthenticated
        if not all(isinstance(claims.get(name), str) for name in ("sub", "client_id", "jti")):
            raise Unauthenticated
        if claims.get("role") not in _ROLES:
            raise Unauthenticated
        return expires


def _bearer(authorization: str | None) -> str:
    kind, _, token = (authorization or "").partition(" ")
    token = token.strip(" ")
    if kind.lower() != "bearer" or not token.isascii() or not 0 < len(token) <= _MAX_TOKEN:
        raise Unauthenticated
    return token


def _actor(claims: dict[str, Any]) -> Actor:
    return Actor(
        subject=claims["sub"],
        role=Role(claims["role"]).value,
        client_id=claims["client_id"],
        merchant_id=claims.get("merchant"),
        member_id=claims.get("member"),
        scopes=scopes.split(claims.get("scope")),
        limit_fen=int(claims.get("limit_fen", 0)),
    )
