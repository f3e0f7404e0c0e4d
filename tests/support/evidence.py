"""Sealed rows to tamper with: journals, decisions and entries of all kinds, on a real database."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from joserfc.jwk import ECKey
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.audit import store
from gateway.audit.model import HEAD_TYPE
from gateway.compliance import service as compliance
from gateway.db import Database
from gateway.ledger import service as ledger
from gateway.ledger.model import HUB, Journal, Kind, credit, debit
from gateway.oauth import jose

NOW = datetime(2026, 11, 20, 2, tzinfo=UTC)
KEY = jose.new_key()


def fee(op_key: str, fen: int) -> Journal:
    lines = (debit(HUB, "POS:M04", fen), credit(HUB, "POS:HUB_FEE", fen))
    return Journal(Kind.FEE, op_key, lines, NOW, "usr_1", "agr_1")


async def write(tx: AsyncConnection, name: str) -> None:
    """One row of three sealed tables."""
    await ledger.post(tx, [fee(name, 10 + len(name))], now=NOW)
    body = {"total_fen": 100, "note": name}
    await compliance.decide(
        tx, rule="issue", subject=name, verdict="admitted", context=body, now=NOW
    )
    await audit.record(
        tx, kind="settlement.approved", subject=name, actor="usr_2", body=body, now=NOW
    )


async def sealed(database: Database, count: int = 3) -> None:
    """`count` rows of each table, each in a transaction of its own, all sealed."""
    await sealed_after(database, 0, count=count)


async def sealed_after(database: Database, before: int, *, count: int = 1) -> None:
    """The same after so many rows that are there and not sealed; all are."""
    for number in range(count):
        async with database.transaction() as tx:
            await write(tx, f"{number}")
    async with database.transaction() as tx:
        assert await audit.seal(tx, limit=1_000) == before + 3 * count


def signer(key: ECKey = KEY) -> audit.Signer:
    async def sign(claims: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        return jose.encode(claims, key, typ=HEAD_TYPE), key.as_dict(private=False)

    return sign


async def sign_head(tx: AsyncConnection, *, since: datetime = NOW, now: datetime = NOW) -> str:
    token = await audit.sign_head(tx, sign=signer(), issuer="http://gateway", since=since, now=now)
    assert token
    return token


async def rewrite(tx: AsyncConnection) -> None:
    """Make a new chain over the rows as they are: as somebody would who may change everything."""
    await tx.execute(store.seals.delete())
    await audit.seal(tx, limit=1_000)
