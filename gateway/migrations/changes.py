"""What a revision needs beyond Alembic's operations, on both databases. Takes `op`, so that the
rules can be checked without a database."""

import contextlib
from collections.abc import Iterator
from typing import Any

from gateway.migrations.triggers import forbid_changes


@contextlib.contextmanager
def outside_transaction(op: Any) -> Iterator[None]:
    """For CREATE INDEX CONCURRENTLY on PostgreSQL: what came before is committed.

    SQLite has one writer, and stays in the migration's transaction.
    """
    if op.get_bind().dialect.name == "postgresql":
        with op.get_context().autocommit_block():
            yield
    else:
        yield


def make_append_only(op: Any, table: str) -> None:
    """Let the database refuse to change or delete rows of a table."""
    for statement in forbid_changes(table, op.get_bind().dialect.name):
        op.execute(statement)


def replace_check(op: Any, table: str, name: str, *, old: str, new: str) -> None:
    """Put another CHECK in the place of one. In an expanding revision only a longer list of an
    `IN` passes: what the old version writes must still be allowed.

    On PostgreSQL it is NOT VALID first, so that the table is locked for a moment only; on SQLite
    the table is copied, and its triggers are made again.
    """
    assert old != new
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        op.drop_constraint(op.f(name), table, type_="check")
        op.create_check_constraint(op.f(name), table, new, postgresql_not_valid=True)
        return
    triggers = _triggers(bind, table)
    with op.batch_alter_table(table, recreate="always") as batch:
        batch.drop_constraint(op.f(name), type_="check")
        batch.create_check_constraint(op.f(name), new)
    for trigger in triggers:
        op.execute(trigger)


def _triggers(bind: Any, table: str) -> list[str]:
    if not hasattr(bind, "exec_driver_sql"):
        return []  # The rules are checked without a database.
    query = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
    return [str(row[0]) for row in bind.exec_driver_sql(query, (table,))]
