"""What other rooms ask of OAuth: clients, their keys, people, first start, housekeeping.

All of it runs in the caller's transaction. `now` is system time: tokens, keys and logins do not
follow the business clock.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import AlreadyRegistered, NotFound
from gateway.oauth import jose, keys, model, signatures, store
from gateway.oauth.model import Client, User
from gateway.oauth.scopes import Role
from gateway.settings import Settings
from gateway.values import InvalidInput, new_id

LOOPBACK = ("http://127.0.0.1/callback", "http://[::1]/callback")  # Any port: RFC 8252 §7.3.
STAFF = (Role.FINANCE, Role.OPERATOR, Role.COMPLIANCE, Role.REGULATOR)
MEMBER_APP, STAFF_CONSOLE, CLI, THIRD_PARTY = (
    "member-app",
    "staff-console",
    "gateway-cli",
    "third-party-app",
)
_FAR = timedelta(days=1)  # Longer than any access token lives.


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A registered public key: the client it belongs to, and its RFC 7638 thumbprint."""

    client_id: str
    kid: str


def client_of(merchant_id: str) -> str:
    """The client id of a merchant's own system."""
    return f"merchant-{merchant_id}"


async def signing_since(tx: AsyncConnection) -> datetime | None:
    """When the key that signs tokens now was made; None if there is none."""
    keys_ = store.signing_keys.c
    found: datetime | None = await tx.scalar(
        sa.select(keys_.created_at).where(keys_.state == "ACTIVE")
    )
    return found


async def opens_signing_key(tx: AsyncConnection, vault: keys.Vault) -> bool:
    """Whether this vault key opens the key that signs tokens."""
    sealed = sa.select(store.signing_keys.c.kid, store.signing_keys.c.sealed)
    row = (await tx.execute(sealed.where(store.signing_keys.c.state == "ACTIVE"))).one()
    try:
        vault.unseal(row.sealed, name=row.kid)
    except InvalidTag:
        return False
    return True


class WrongVault(ValueError):
    """The database has keys that this vault key does not open; nothing was made."""


async def has_sealed_keys(tx: AsyncConnection) -> bool:
    """Whether the database has keys that only its own vault key opens."""
    return bool(await tx.scalar(sa.select(sa.exists(sa.select(store.signing_keys.c.kid)))))


async def require_vault(tx: AsyncConnection, path: Path) -> None:
    """Refuse a vault key that is not the database's; one that is yet to be made is fine.

    Raises:
        WrongVault: The database has sealed keys, and the file is missing or another.
    """
    vault = _vault_at(path)
    if await signing_since(tx) is None:
        if vault is not None or not await has_sealed_keys(tx):
            return
    elif vault is not None and await opens_signing_key(tx, vault):
        return
    what = "is missing" if vault is None else "is another database's"
    raise WrongVault(
        f"the database has sealed keys and {path} {what}: bring back the vault key that belongs "
        "to this database (GATEWAY_VAULT_KEY_FILE says where it is)"
    )


def _vault_at(path: Path) -> keys.Vault | None:
    """The vault of a key file; none is made."""
    return keys.Vault.open(path) if path.exists() else None


async def register_client(
    tx: AsyncConnection,
    *,
    client_id: str,
    name_zh: str,
    name_en: str,
    auth_method: str,
    role: Role | None = None,
    merchant_id: str | None = None,
    redirect_uris: Iterable[str] = (),
    user_roles: Iterable[Role] = (),
    only_scopes: Iterable[str] | None = None,
    now: datetime,
) -> Client:
    """Register a machine (`role`, authenticates) or an app people log in to (`user_roles`).

    Raises:
        AlreadyRegistered: The client id is taken.
    """
    row: dict[str, Any] = {
        "client_id": client_id,
        "name_zh": name_zh,
        "name_en": name_en,
        "auth_method": auth_method,
        "role": role,
        "merchant_id": merchant_id,
        "redirect_uris": list(redirect_uris),
        "user_roles": sorted(user_roles),
        "only_scopes": None if only_scopes is None else sorted(only_scopes),
        "created_at": now,
    }
    if not await tx.run_sync(store.add, store.clients, row):
        raise AlreadyRegistered(id=client_id)
    client = await tx.run_sync(store.client, client_id, now=now)
    assert client
    return client


async def register_key(
    tx: AsyncConnection,
    *,
    merchant_id: str,
    jwk: Mapping[str, Any],
    name_zh: str = "",
    name_en: str = "",
    now: datetime,
) -> ClientKey:
    """Register a merchant's public key; its client is made with the first one.

    The caller has checked who asks: an onboarding code names the merchant, or a token does.

    Raises:
        InvalidInput: Not a public EC P-256 or Ed25519 key.
        AlreadyRegistered: The key is known, here or at another merchant.
    """
    public = jose.public_jwk(jwk, field="jwk")
    client_id = client_of(merchant_id)
    if not await tx.run_sync(store.client, client_id, now=now):
        await register_client(
            tx,
            client_id=client_id,
            name_zh=name_zh or merchant_id,
            name_en=name_en or merchant_id,
            auth_method=model.PRIVATE_KEY_JWT,
            role=Role.PARTNER,
            merchant_id=merchant_id,
            now=now,
        )
    row = {"kid": public["kid"], "client_id": client_id, "jwk": public, "created_at": now}
    if not await tx.run_sync(store.add, store.client_keys, row):
        raise AlreadyRegistered(id=public["kid"], field=("jwk",))
    return ClientKey(client_id, public["kid"])


async def registered(tx: AsyncConnection) -> list[model.Registered]:
    """All clients by id, also those that are ended."""
    return await tx.run_sync(store.registered)


async def revoke_key(tx: AsyncConnection, *, client_id: str, kid: str, now: datetime) -> None:
    """Accept no assertion and no signature by this key any more.

    Tokens that were got with it live on, at most `GATEWAY_ACCESS_TOKEN_SECONDS`.

    Raises:
        NotFound: The client has no such key.
    """
    mine = (store.client_keys.c.kid == kid) & (store.client_keys.c.client_id == client_id)
    revoke = sa.update(store.client_keys).where(mine).values(revoked_at=now)
    if (await tx.execute(revoke)).rowcount != 1:
        raise NotFound(id=kid)


async def new_secret(
    tx: AsyncConnection, *, client_id: str, now: datetime, others_until: datetime | None = None
) -> str:
    """Give a client a new secret, of 256 random bits, shown once. For the sandbox.

    Args:
        others_until: When its other secrets end; None leaves them as they are.
    """
    mine = store.client_secrets.c.client_id == client_id
    if others_until is not None:
        await tx.execute(
            sa.update(store.client_secrets).where(mine).values(expires_at=others_until)
        )
    secret = secrets.token_urlsafe(32)
    row = {"secret_hash": store.digest(secret), "client_id": client_id, "created_at": now}
    await tx.execute(sa.insert(store.client_secrets).values(row))
    return secret


async def require_client(tx: AsyncConnection, client_id: str, *, now: datetime) -> None:
    """Refuse an id that is no client's.

    Raises:
        NotFound: There is no such client, or it is disabled.
    """
    if await tx.run_sync(lambda plain: store.client(plain, client_id, now=now)) is None:
        raise NotFound(id=client_id)


async def disable_client(tx: AsyncConnection, *, client_id: str, now: datetime) -> None:
    """End a client: no new tokens, and those it has are refused."""
    mine = store.clients.c.client_id == client_id
    await tx.execute(sa.update(store.clients).where(mine).values(disabled_at=now))
    await tx.run_sync(store.revoke, client_id, until=now + _FAR)


async def seed_user(
    tx: AsyncConnection,
    *,
    login: str,
    password_hash: str,
    role: Role,
    name_zh: str,
    member_id: str | None = None,
    merchant_id: str | None = None,
    limit_fen: int = 0,
    user_id: str | None = None,
    now: datetime,
) -> User:
    """Make a person who can log in.

    Args:
        password_hash: From `passwords.hashed`, computed before the transaction.
        member_id: Of a member; others have none.
        merchant_id: Of a merchant's own staff (role partner).
        limit_fen: The amount up to which this person may approve.

    Raises:
        AlreadyRegistered: The login name is taken.
    """
    user = User(
        user_id=user_id or new_id("usr"),
        login=normal(login),
        role=role,
        name_zh=name_zh,
        member_id=member_id,
        merchant_id=merchant_id,
        limit_fen=limit_fen,
    )
    row = asdict(user) | {"password_hash": password_hash, "created_at": now}
    if not await tx.run_sync(store.add, store.users, row):
        raise AlreadyRegistered(id=login)
    return user


async def user_of(tx: AsyncConnection, login: str) -> str:
    """The id of a person who can log in by this name.

    Raises:
        NotFound: There is none, or they are shut out.
    """
    user, _ = await tx.run_sync(store.user_by_login, normal(login))
    if user is None:
        raise NotFound(id=login)
    return user.user_id


async def disable_user(tx: AsyncConnection, *, user_id: str, now: datetime) -> None:
    """Shut a person out: no login, no refresh, and the tokens there are are refused."""
    mine = store.users.c.user_id == user_id
    await tx.execute(sa.update(store.users).where(mine).values(disabled_at=now))
    await tx.run_sync(store.revoke, user_id, until=now + _FAR)


async def disable_member(tx: AsyncConnection, *, member_id: str, now: datetime) -> None:
    """Shut out whoever logs in as a member, as erasure asks."""
    query = sa.select(store.users.c.user_id).where(store.users.c.member_id == member_id)
    for user_id in list(await tx.scalars(query)):
        await disable_user(tx, user_id=user_id, now=now)


async def verify_signature(
    tx: AsyncConnection, *, client_id: str, payload: bytes, signature: str
) -> str:
    """Check a detached JWS over `payload` against a client's registered keys.

    Returns:
        The kid that signed.

    Raises:
        InvalidInput: It is none of this client's signatures over exactly these bytes.
    """
    known = await tx.run_sync(store.keys_of, client_id)
    kid = signatures.verify(payload, signature, known)
    if kid is None:
        raise InvalidInput("signature", "a detached JWS over these bytes by a registered key")
    return kid


async def signing_key(tx: AsyncConnection, kid: str) -> dict[str, Any] | None:
    """The public part of a signing key, also of a retired one; None when it is gone."""
    keys_ = store.signing_keys.c
    found = await tx.scalar(sa.select(keys_.jwk).where(keys_.kid == kid))
    return dict(found) if found else None


async def bootstrap(
    tx: AsyncConnection, vault: keys.Vault, *, settings: Settings, now: datetime
) -> None:
    """What first start needs, idempotent: signing keys; in the sandbox, the public demo apps."""
    await keys.ensure(tx, vault, now=now)
    if not settings.sandbox:
        return
    apps = (
        (MEMBER_APP, "会员应用", "Member app", (Role.MEMBER,), None),
        (STAFF_CONSOLE, "员工工作台", "Staff console", STAFF, None),
        (CLI, "命令行", "Command line", tuple(Role), None),
        (THIRD_PARTY, "第三方应用", "Third-party app", (Role.MEMBER,), _THIRD_PARTY_SCOPES),
    )
    for client_id, zh, en, roles, only in apps:
        if not await tx.run_sync(store.client, client_id, now=now):
            await register_client(
                tx,
                client_id=client_id,
                name_zh=zh,
                name_en=en,
                auth_method=model.PUBLIC,
                redirect_uris=LOOPBACK,
                user_roles=roles,
                only_scopes=only,
                now=now,
            )


async def sweep(tx: AsyncConnection, *, now: datetime) -> None:
    """Delete expired codes, assertions, logins and revocations."""
    await tx.run_sync(store.sweep, now=now)


async def rotate_due(
    tx: AsyncConnection, vault: keys.Vault, *, settings: Settings, now: datetime
) -> bool:
    """Rotate the signing keys when they have signed for `key_rotation_days`; for the worker."""
    if not settings.key_rotation_days:
        return False
    life = timedelta(days=settings.key_rotation_days)
    seconds = settings.access_token_seconds
    return await keys.rotate_older(tx, vault, life=life, token_seconds=seconds, now=now)


def normal(login: str) -> str:
    """A login name as it is stored and compared."""
    return login.strip().casefold()


_THIRD_PARTY_SCOPES = ("catalog:read", "points:read", "points:redeem")
