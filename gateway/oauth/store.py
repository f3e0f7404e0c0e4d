"""Tables of the authorization server. Secrets, codes and tokens are kept as SHA-256 only.

Everything here is measured on system time. What may be used once (code, refresh token,
assertion, login) is taken by one conditional statement, so that of any number of requests, in
any number of processes, one wins.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from gateway.db import Instant, Json, insert_missing, metadata
from gateway.oauth.model import Client, Login, Registered, Taken, User
from gateway.oauth.scopes import Role

clients = sa.Table(
    "oauth_clients",
    metadata,
    sa.Column("client_id", sa.String, primary_key=True),
    sa.Column("name_zh", sa.String, nullable=False),
    sa.Column("name_en", sa.String, nullable=False),
    sa.Column("auth_method", sa.String, nullable=False),
    sa.Column("role", sa.String),  # of a machine; null for an app people log in to
    sa.Column("merchant_id", sa.String, index=True),
    sa.Column("redirect_uris", Json, nullable=False),
    sa.Column("user_roles", Json, nullable=False),
    sa.Column("only_scopes", Json),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("disabled_at", Instant),
    sa.CheckConstraint(
        "auth_method IN ('private_key_jwt', 'client_secret_basic', 'none')", name="auth_method"
    ),
    sa.CheckConstraint("auth_method <> 'none' OR role IS NULL", name="machines_authenticate"),
    sa.CheckConstraint("role <> 'partner' OR merchant_id IS NOT NULL", name="whose"),
)

client_secrets = sa.Table(
    "oauth_client_secrets",
    metadata,
    sa.Column("secret_hash", sa.String, primary_key=True),
    sa.Column("client_id", sa.ForeignKey("oauth_clients.client_id"), nullable=False, index=True),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
)

client_keys = sa.Table(
    "oauth_client_keys",
    metadata,
    sa.Column("kid", sa.String, primary_key=True),  # RFC 7638: a key names one client
    sa.Column("client_id", sa.ForeignKey("oauth_clients.client_id"), nullable=False, index=True),
    sa.Column("jwk", Json, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("revoked_at", Instant),
)

signing_keys = sa.Table(
    "oauth_signing_keys",
    metadata,
    sa.Column("kid", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("jwk", Json, nullable=False),  # public
    sa.Column("sealed", sa.String, nullable=False),  # the private key, encrypted
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("retired_at", Instant),
    sa.CheckConstraint("state IN ('NEXT', 'ACTIVE', 'RETIRED')", name="state"),
    sa.CheckConstraint("(state = 'RETIRED') = (retired_at IS NOT NULL)", name="retired"),
    sa.Index(
        "uq_oauth_signing_keys_one_of_each",
        "state",
        unique=True,
        sqlite_where=sa.text("state <> 'RETIRED'"),
        postgresql_where=sa.text("state <> 'RETIRED'"),
    ),
)

users = sa.Table(
    "oauth_users",
    metadata,
    sa.Column("user_id", sa.String, primary_key=True),
    sa.Column("login", sa.String, nullable=False, unique=True),
    sa.Column("password_hash", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("name_zh", sa.String, nullable=False),
    sa.Column("member_id", sa.String, index=True),
    sa.Column("merchant_id", sa.String),
    sa.Column("limit_fen", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("disabled_at", Instant),
    sa.CheckConstraint("(role = 'member') = (member_id IS NOT NULL)", name="member"),
    sa.CheckConstraint("(role = 'partner') = (merchant_id IS NOT NULL)", name="merchant"),
    sa.CheckConstraint("limit_fen >= 0", name="limit_fen"),
)

logins = sa.Table(
    "oauth_logins",
    metadata,
    sa.Column("login_id", sa.String, primary_key=True),
    sa.Column("browser_hash", sa.String, nullable=False),
    sa.Column("csrf", sa.String, nullable=False),
    sa.Column("parameters", Json, nullable=False),
    sa.Column("user_id", sa.ForeignKey("oauth_users.user_id")),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("decided_at", Instant),
)

grants = sa.Table(
    "oauth_grants",
    metadata,
    sa.Column("grant_id", sa.String, primary_key=True),
    sa.Column("client_id", sa.ForeignKey("oauth_clients.client_id"), nullable=False),
    sa.Column("user_id", sa.ForeignKey("oauth_users.user_id"), nullable=False, index=True),
    sa.Column("scope", sa.String, nullable=False),
    sa.Column("granted_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("revoked_at", Instant),
)

codes = sa.Table(
    "oauth_codes",
    metadata,
    sa.Column("code_hash", sa.String, primary_key=True),
    sa.Column("grant_id", sa.ForeignKey("oauth_grants.grant_id"), nullable=False),
    sa.Column("client_id", sa.String, nullable=False),
    sa.Column("redirect_uri", sa.String, nullable=False),
    sa.Column("code_challenge", sa.String, nullable=False),  # S256
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("used_at", Instant),
)

refresh_tokens = sa.Table(
    "oauth_refresh_tokens",
    metadata,
    sa.Column("token_hash", sa.String, primary_key=True),
    sa.Column("grant_id", sa.ForeignKey("oauth_grants.grant_id"), nullable=False, index=True),
    sa.Column("client_id", sa.String, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("used_at", Instant),
)

used_jtis = sa.Table(
    "oauth_used_jtis",
    metadata,
    sa.Column("client_id", sa.String, primary_key=True),
    sa.Column("jti", sa.String, primary_key=True),
    sa.Column("expires_at", Instant, nullable=False, index=True),
)

revoked = sa.Table(
    "oauth_revoked",
    metadata,
    sa.Column("id", sa.String, primary_key=True),  # of a token (jti), a grant or a subject
    sa.Column("expires_at", Instant, nullable=False, index=True),
)

tries = sa.Table(
    "oauth_tries",
    metadata,
    sa.Column("key", sa.String, primary_key=True),  # an account or an address
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
)


def digest(secret: str) -> str:
    """How a random secret is stored: with >= 128 random bits, SHA-256 is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def add(tx: sa.Connection, table: sa.Table, row: dict[str, Any]) -> bool:
    """Insert a row unless its key is there; says whether it was inserted."""
    return bool(tx.execute(insert_missing(tx, table).values(row)).rowcount == 1)


def client(tx: sa.Connection, client_id: str, *, now: datetime) -> Client | None:
    """A client that is not disabled, with the secrets it may use now."""
    row = tx.execute(
        sa.select(clients).where(clients.c.client_id == client_id, clients.c.disabled_at.is_(None))
    ).one_or_none()
    if row is None:
        return None
    lasting = sa.or_(client_secrets.c.expires_at.is_(None), client_secrets.c.expires_at > now)
    secrets = sa.select(client_secrets.c.secret_hash).where(
        client_secrets.c.client_id == client_id, lasting
    )
    return Client(
        client_id=row.client_id,
        name_zh=row.name_zh,
        name_en=row.name_en,
        auth_method=row.auth_method,
        role=Role(row.role) if row.role else None,
        merchant_id=row.merchant_id,
        redirect_uris=tuple(row.redirect_uris),
        user_roles=frozenset(Role(role) for role in row.user_roles),
        only_scopes=None if row.only_scopes is None else frozenset(row.only_scopes),
        secret_hashes=frozenset(tx.scalars(secrets)),
    )


def registered(tx: sa.Connection) -> list[Registered]:
    """All clients, also those that are ended, by id."""
    kids: dict[str, list[str]] = {}
    live = sa.select(client_keys.c.client_id, client_keys.c.kid).where(
        client_keys.c.revoked_at.is_(None)
    )
    for client_id, kid in tx.execute(live.order_by(client_keys.c.created_at)):
        kids.setdefault(client_id, []).append(kid)
    return [
        Registered(
            client_id=row.client_id,
            name_zh=row.name_zh,
            role=row.role,
            merchant_id=row.merchant_id,
            disabled_at=row.disabled_at,
            kids=tuple(kids.get(row.client_id, ())),
        )
        for row in tx.execute(sa.select(clients).order_by(clients.c.client_id))
    ]


def keys_of(tx: sa.Connection, client_id: str) -> dict[str, dict[str, Any]]:
    """A client's public keys that are not revoked, by kid."""
    query = sa.select(client_keys.c.kid, client_keys.c.jwk).where(
        client_keys.c.client_id == client_id, client_keys.c.revoked_at.is_(None)
    )
    return {row.kid: row.jwk for row in tx.execute(query)}


def _user(row: sa.Row[Any] | None) -> User | None:
    if row is None:
        return None
    return User(
        user_id=row.user_id,
        login=row.login,
        role=Role(row.role),
        name_zh=row.name_zh,
        member_id=row.member_id,
        merchant_id=row.merchant_id,
        limit_fen=row.limit_fen,
    )


def user(tx: sa.Connection, user_id: str) -> User | None:
    """A person who is not disabled."""
    where = (users.c.user_id == user_id) & users.c.disabled_at.is_(None)
    return _user(tx.execute(sa.select(users).where(where)).one_or_none())


def user_by_login(tx: sa.Connection, login: str) -> tuple[User | None, str | None]:
    """A person and the hash of the password; (None, None) if unknown or disabled."""
    where = (users.c.login == login) & users.c.disabled_at.is_(None)
    row = tx.execute(sa.select(users).where(where)).one_or_none()
    return _user(row), row.password_hash if row else None


def login(tx: sa.Connection, login_id: str, browser: str, *, now: datetime) -> Login | None:
    """An undecided login request, for the browser that began it only."""
    row = tx.execute(
        sa.select(logins).where(
            logins.c.login_id == login_id,
            logins.c.browser_hash == digest(browser),
            logins.c.expires_at > now,
            logins.c.decided_at.is_(None),
        )
    ).one_or_none()
    if row is None:
        return None
    return Login(row.login_id, row.csrf, dict(row.parameters), row.user_id, row.expires_at)


def set_login_user(tx: sa.Connection, login_id: str, user_id: str) -> None:
    tx.execute(sa.update(logins).where(logins.c.login_id == login_id).values(user_id=user_id))


def take_login(tx: sa.Connection, login_id: str, *, now: datetime) -> bool:
    """Decide a login request; False if it was decided before."""
    free = (logins.c.login_id == login_id) & logins.c.decided_at.is_(None)
    return tx.execute(sa.update(logins).where(free).values(decided_at=now)).rowcount == 1


def take_code(tx: sa.Connection, code: str, client_id: str, *, now: datetime) -> Taken | None:
    """Use up a code of this client; a second use revokes what the first one got."""
    mine = (codes.c.code_hash == digest(code)) & (codes.c.client_id == client_id)
    free = codes.c.used_at.is_(None) & (codes.c.expires_at > now)
    taken = tx.execute(sa.update(codes).where(mine, free).values(used_at=now)).rowcount == 1
    row = tx.execute(sa.select(codes, grants).join(grants).where(mine)).one_or_none()
    if row is None:
        return None
    if not taken:
        if row.used_at is not None:
            revoke_grant(tx, row.grant_id, now=now)
        return None
    return Taken(
        grant_id=row.grant_id,
        client_id=client_id,
        user_id=row.user_id,
        scope=row.scope,
        redirect_uri=row.redirect_uri,
        code_challenge=row.code_challenge,
    )


def refresh_token(tx: sa.Connection, token: str, client_id: str) -> Taken | None:
    """What a client's refresh token stands for, used or not."""
    mine = (refresh_tokens.c.token_hash == digest(token)) & (
        refresh_tokens.c.client_id == client_id
    )
    query = sa.select(grants).join(refresh_tokens).where(mine)
    row = tx.execute(query).one_or_none()
    return Taken(row.grant_id, client_id, row.user_id, row.scope) if row else None


def take_refresh_token(tx: sa.Connection, token: str, *, now: datetime) -> bool:
    """Use up a refresh token; a second use revokes its whole grant. Source: RFC 9700 §4.14.2."""
    mine = refresh_tokens.c.token_hash == digest(token)
    alive = sa.exists().where(
        grants.c.grant_id == refresh_tokens.c.grant_id, grants.c.revoked_at.is_(None)
    )
    free = refresh_tokens.c.used_at.is_(None) & (refresh_tokens.c.expires_at > now)
    take = sa.update(refresh_tokens).where(mine, free, alive).values(used_at=now)
    if tx.execute(take).rowcount == 1:
        return True
    row = tx.execute(sa.select(refresh_tokens).where(mine)).one_or_none()
    if row is not None and row.used_at is not None:
        revoke_grant(tx, row.grant_id, now=now)
    return False


def revoke_grant(tx: sa.Connection, grant_id: str, *, now: datetime) -> None:
    """End a grant: its refresh tokens at once, its access tokens by the list of the revoked."""
    where = (grants.c.grant_id == grant_id) & grants.c.revoked_at.is_(None)
    tx.execute(sa.update(grants).where(where).values(revoked_at=now))
    revoke(tx, grant_id, until=now + timedelta(days=1))


def revoke(tx: sa.Connection, id: str, *, until: datetime) -> None:
    """Refuse tokens with this jti, grant or subject until all of them have expired."""
    add(tx, revoked, {"id": id, "expires_at": until})


def revoked_ids(tx: sa.Connection, *, now: datetime) -> frozenset[str]:
    return frozenset(tx.scalars(sa.select(revoked.c.id).where(revoked.c.expires_at > now)))


def count_try(tx: sa.Connection, key: str, *, limit: int, now: datetime) -> int:
    """Count a try to log in; at most `limit` in a minute from the first.

    Returns:
        0 when it may go on, else the seconds to wait.
    """
    minute = timedelta(minutes=1)
    add(tx, tries, {"key": key, "started_at": now, "count": 0})
    old = tries.c.started_at <= now - minute
    again = {
        "started_at": sa.case((old, now), else_=tries.c.started_at),
        "count": sa.case((old, 1), else_=tries.c.count + 1),
    }
    mine = tries.c.key == key
    counted = sa.update(tries).where(mine, sa.or_(old, tries.c.count < limit)).values(again)
    if tx.execute(counted).rowcount == 1:
        return 0
    started: datetime = tx.execute(sa.select(tries.c.started_at).where(mine)).scalar_one()
    return max(1, -int((now - started - minute).total_seconds() // 1))


def forgive_try(tx: sa.Connection, key: str) -> None:
    """A right password is no try."""
    mine = (tries.c.key == key) & (tries.c.count > 0)
    tx.execute(sa.update(tries).where(mine).values(count=tries.c.count - 1))


def sweep(tx: sa.Connection, *, now: datetime) -> None:
    """Delete what has expired and can be asked for no more."""
    for table in (used_jtis, revoked, logins):
        tx.execute(sa.delete(table).where(table.c.expires_at <= now))
    yesterday = now - timedelta(days=1)
    tx.execute(sa.delete(tries).where(tries.c.started_at <= yesterday))
    tx.execute(sa.delete(codes).where(codes.c.expires_at <= yesterday))
    tx.execute(sa.delete(refresh_tokens).where(refresh_tokens.c.expires_at <= yesterday))
