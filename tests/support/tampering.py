"""For tests that change what the database forbids to change."""

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.migrations import triggers


async def allow_changes(tx: AsyncConnection, table: str) -> None:
    """Take the append-only triggers off a table, in this test's database."""
    for statement in triggers.allow_changes(table, tx.dialect.name):
        await tx.exec_driver_sql(statement)
