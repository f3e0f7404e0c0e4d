"""What must be true before a gateway or a worker starts: looked at first, nothing is written.

A process that cannot start says in one line what is missing, and ends.
"""

import logging

import sqlalchemy as sa
from authlib.common.security import is_secure_transport

from gateway import migrations
from gateway.db import Database, is_unavailable
from gateway.oauth import service as oauth
from gateway.oauth.service import WrongVault
from gateway.runtime import read_connections
from gateway.settings import Settings
from gateway.telemetry import hide

__all__ = ["CannotStart", "WrongVault", "check", "check_database"]

log = logging.getLogger(__name__)


class CannotStart(Exception):
    """The process cannot start as things are; says why and what to do."""


async def check(settings: Settings) -> None:
    """Look at the issuer, the partners file, the database and the key that belongs to it.

    Raises:
        CannotStart: One of them is not as a gateway or a worker needs it.
    """
    if not is_secure_transport(settings.base_url):
        raise CannotStart(
            f"GATEWAY_ISSUER: an https URL, or http on loopback; it is {settings.base_url}"
        )
    try:
        read_connections(settings)
    except (ValueError, OSError) as error:
        raise CannotStart(f"the partners file: {hide(str(error))}") from error
    await check_database(settings, vault=True)


async def check_database(settings: Settings, *, vault: bool = False) -> None:
    """Look at the database.

    Args:
        vault: And at the key that belongs to it.

    Raises:
        CannotStart: It does not answer, its schema is old, or the vault key is not its own.
    """
    database = Database(settings.url, wait_seconds=settings.database_wait_seconds)
    try:
        if database.file is not None and not database.file.exists():
            if not settings.embedded:
                raise CannotStart(_schema(None))
            return  # To connect would make an empty one.
        await _check(database, settings, vault)
    finally:
        await database.close()


async def _check(database: Database, settings: Settings, vault: bool) -> None:
    try:
        found = await migrations.current(database)
    except Exception as error:  # A driver has kinds of its own for what a server refuses.
        kind = type(getattr(error, "orig", None) or error.__cause__ or error).__name__
        log.debug("the database at start", exc_info=error)
        raise CannotStart(
            f"the database does not answer ({kind}): look at GATEWAY_DATABASE_URL, the network and "
            "the database's process"
        ) from error
    if not settings.embedded and (found is None or found in migrations.superseded()):
        raise CannotStart(_schema(found))
    if found is None or not vault:
        return
    try:
        async with database.reading() as tx:
            await oauth.require_vault(tx, settings.vault_key_path)
    except (ValueError, OSError) as error:
        raise CannotStart(hide(str(error))) from error
    except sa.exc.SQLAlchemyError as error:
        if not is_unavailable(error):
            raise
        raise CannotStart("the database does not answer") from error


def _schema(found: str | None) -> str:
    told = f"the database is at {found or 'no revision'}, the newest is {migrations.newest()}"
    return f"{told}: run `gateway db upgrade`"
