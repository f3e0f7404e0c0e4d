"""What is asked of the database, as statements rather than as text: SQLite's text has no locks."""

from typing import Any

import pytest

from gateway.batch import Transaction
from gateway.redemption import store


class Statements:
    """The statements of each transaction from now on, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_transaction: list[tuple[Transaction, list[Any]]] = []
        execute, read, write = Transaction.execute, Transaction.read, Transaction.write

        async def executed(tx: Transaction, statement: Any, *more: Any, **options: Any) -> Any:
            self._of(tx).append(statement)
            return await execute(tx, statement, *more, **options)

        async def have_read(tx: Transaction, asks: Any) -> Any:
            self._of(tx).extend(ask.statement for ask in asks)
            return await read(tx, asks)

        def written(tx: Transaction, given: Any) -> None:
            self._of(tx).append(given.statement)
            write(tx, given)

        monkeypatch.setattr(Transaction, "execute", executed)
        monkeypatch.setattr(Transaction, "read", have_read)
        monkeypatch.setattr(Transaction, "write", written)

    def _of(self, tx: Transaction) -> list[Any]:
        if not self.by_transaction or self.by_transaction[-1][0] is not tx:
            known = [seen for one, seen in self.by_transaction if one is tx]
            if known:
                return known[0]
            self.by_transaction.append((tx, []))
        return self.by_transaction[-1][1]

    def words(self) -> list[list[str]]:
        """Of each transaction: `select redemptions`, `lock redemptions`, `update redemptions`."""
        return [[word for each in seen for word in _words(each)] for _, seen in self.by_transaction]

    def unlocked(self, table: str) -> list[list[str]]:
        """Transactions that change a table's row without its lock, and not only if as seen."""
        found = []
        for words in self.words():
            changed = words.index(f"update {table}") if f"update {table}" in words else 0
            locked = {f"lock {table}", f"lock what is free of {table}"} & {*words[:changed]}
            if changed and not locked:
                found.append(words)
        return found


def _words(statement: Any) -> list[str]:
    if getattr(statement, "is_select", False):
        arg = statement._for_update_arg
        verb = "select" if arg is None else "lock what is free of" if arg.skip_locked else "lock"
        tables = (getattr(each, "name", None) for each in statement.get_final_froms())
        return [f"{verb} {name}" for name in tables if name]
    if getattr(statement, "is_insert", False):
        return [f"insert {statement.table.name}"]
    if getattr(statement, "is_update", False):
        judged = statement is store._UPDATE_SEEN
        return [f"{'update as seen' if judged else 'update'} {statement.table.name}"]
    return []
