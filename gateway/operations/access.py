"""Who may call, from the terminal: people and their apps added, clients ended, people shut out.

For the first start in production, and for the hour in which a key or a password has leaked. Nothing
is deleted: what they did stays, and says by whom.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Database, system_now
from gateway.merchants import service as merchants
from gateway.oauth import passwords
from gateway.oauth import service as oauth
from gateway.oauth.model import PUBLIC
from gateway.oauth.scopes import Role
from gateway.operations import starting
from gateway.settings import Settings
from gateway.values import InvalidInput

PASSWORD_LENGTH = (12, 256)
_NAME_LENGTH = 80
_LOOPBACK = ("http://127.0.0.1/", "http://[::1]/")  # On any port: RFC 8252 §7.3.


async def add_person(
    settings: Settings,
    *,
    login: str,
    password: str,
    role: Role,
    name_zh: str,
    merchant_id: str | None,
    limit_fen: int,
) -> str:
    """A person of the staff, or of a merchant's, who can log in; returns their id.

    Raises:
        InvalidInput: A name is empty, the password short, or the merchant does not go with the
            role.
        AlreadyRegistered: The login name is taken.
        NotFound: There is no such merchant.
    """
    for field, given in (("login", login), ("name", name_zh)):
        if not 1 <= len(given.strip()) <= _NAME_LENGTH:
            raise InvalidInput(field, "1 to {most} characters", most=_NAME_LENGTH)
    least, most = PASSWORD_LENGTH
    if not least <= len(password) <= most:
        raise InvalidInput("password", "{least} to {most} characters", least=least, most=most)
    if (role is Role.PARTNER) != (merchant_id is not None):
        raise InvalidInput("merchant", "given with the role partner, and only then")
    hashed = await passwords.hashed(password)
    async with _writing(settings) as tx:
        if merchant_id is not None:
            await merchants.get(tx, merchant_id)
        user = await oauth.seed_user(
            tx,
            login=login,
            password_hash=hashed,
            role=role,
            name_zh=name_zh.strip(),
            merchant_id=merchant_id,
            limit_fen=limit_fen,
            now=system_now(),
        )
    return user.user_id


async def add_app(
    settings: Settings,
    *,
    client_id: str,
    name_zh: str,
    name_en: str,
    redirect_uris: Sequence[str],
    roles: Iterable[Role],
) -> None:
    """An app that people log in to: a public client, by code and PKCE.

    Raises:
        InvalidInput: An address to return to is neither https nor on loopback.
        AlreadyRegistered: The client id is taken.
    """
    for uri in redirect_uris:
        parts = urlsplit(uri)
        safe = parts.scheme == "https" and parts.hostname
        if not (safe or uri.startswith(_LOOPBACK)) or parts.fragment:
            raise InvalidInput("redirect", "https, or http on 127.0.0.1 or [::1]")
    async with _writing(settings) as tx:
        await oauth.register_client(
            tx,
            client_id=client_id,
            name_zh=name_zh,
            name_en=name_en or name_zh,
            auth_method=PUBLIC,
            redirect_uris=redirect_uris,
            user_roles=roles,
            now=system_now(),
        )


async def clients(settings: Settings) -> list[tuple[str, ...]]:
    """Id, name, role or `people`, merchant, keys that count, and since when it is ended."""
    async with _writing(settings) as tx:
        return [
            (
                each.client_id,
                each.name_zh,
                each.role or "people",
                each.merchant_id or "",
                "\n".join(each.kids),
                each.disabled_at.isoformat() if each.disabled_at else "",
            )
            for each in await oauth.registered(tx)
        ]


async def end_client(settings: Settings, client_id: str) -> None:
    """No new tokens for a client, and those it has are refused.

    Raises:
        NotFound: There is no such client, or it is ended.
    """
    async with _writing(settings) as tx:
        await oauth.require_client(tx, client_id, now=system_now())
        await oauth.disable_client(tx, client_id=client_id, now=system_now())


async def revoke_key(settings: Settings, client_id: str, kid: str) -> None:
    """No assertion and no signature by this key counts any more.

    Raises:
        NotFound: The client has no such key.
    """
    async with _writing(settings) as tx:
        await oauth.revoke_key(tx, client_id=client_id, kid=kid, now=system_now())


async def shut_out(settings: Settings, login: str) -> None:
    """No login for a person, no refresh, and the tokens there are are refused.

    Raises:
        NotFound: Nobody logs in by this name, or they are shut out.
    """
    async with _writing(settings) as tx:
        user_id = await oauth.user_of(tx, login)
        await oauth.disable_user(tx, user_id=user_id, now=system_now())


@contextlib.asynccontextmanager
async def _writing(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """One transaction on a database that is there and migrated; else `CannotStart`."""
    await starting.check_database(settings)
    database = Database(settings.url)
    try:
        async with database.transaction() as tx:
            yield tx
    finally:
        await database.close()
