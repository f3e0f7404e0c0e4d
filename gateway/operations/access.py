"""Who may call, from the terminal: clients listed, ended, a key revoked, a person shut out.

For the hour in which a key or a password has leaked. Nothing is deleted: what they did stays, and
says by whom.
"""

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Database, system_now
from gateway.oauth import service as oauth
from gateway.settings import Settings


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
    database = Database(settings.url)
    try:
        async with database.transaction() as tx:
            yield tx
    finally:
        await database.close()
