"""`gateway audit verify`: the whole chain, and a head that somebody kept."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from joserfc.errors import JoseError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import migrations
from gateway.audit import service as audit
from gateway.audit.model import HEAD_TYPE, BadHead, Head, Verified, head_of
from gateway.db import Database
from gateway.oauth import jose
from gateway.oauth import service as oauth


async def verify(
    url: str,
    *,
    kept: Path | None = None,
    jwks: Path | None = None,
    begin: Callable[[int], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Verified:
    """Verify the chain of a database, in one reading transaction.

    Args:
        kept: A file with a signed head as a merchant got it: the compact JWS, or JSON around it.
        jwks: The gateway's keys as the merchant kept them; else those of the database.
        begin: Told how many links there are.
        progress: Told how many are verified.

    Raises:
        BrokenChain: The first bad row.
        BadHead: The kept head cannot be read, or nobody's key has signed it.
    """
    migrations.all_tables()
    database = Database(url)
    try:
        async with database.reading() as tx:
            if begin:
                begin(await audit.length(tx))
            head = await read_head(tx, kept, jwks) if kept else None
            return await audit.verify(tx, kept=head, progress=progress)
    finally:
        await database.close()


async def read_head(tx: AsyncConnection, kept: Path, jwks: Path | None) -> Head:
    """A kept head whose signature fits.

    Raises:
        BadHead: It cannot be read, or no known key has signed it.
    """
    token = token_in(_text(kept))
    try:
        header = jose.header(token)
        if header.get("typ") != HEAD_TYPE:
            raise BadHead(f"{kept.name}: its type is {header.get('typ')}, not {HEAD_TYPE}")
        key = await _key(tx, str(header.get("kid")), jwks)
        return head_of(jose.decode(token, jose.load(key))[1])
    except JoseError as error:
        raise BadHead(f"{kept.name}: the signature does not fit: {error}") from error


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def token_in(text: str) -> str:
    """The compact JWS in a file: as it is, or as `token` or `audit_head` of a JSON document."""
    text = text.strip()
    if not text.startswith("{"):
        return text
    document = json.loads(text)
    inner = document.get("head") or document
    found = inner.get("token") or inner.get("audit_head") or inner.get("auditHead")
    if not isinstance(found, str):
        raise BadHead("the file holds no signed head")
    return found


async def _key(tx: AsyncConnection, kid: str, jwks: Path | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None
    if jwks is not None:
        rows = json.loads(_text(jwks))["keys"]
        found = next((row for row in rows if row.get("kid") == kid), None)
    else:
        found = await oauth.signing_key(tx, kid) or await audit.key_of_head(tx, kid)
    if found is None:
        raise BadHead(f"key {kid} is not known: give the merchant's copy of the keys")
    return dict(found)
