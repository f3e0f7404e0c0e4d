"""The SQLite driver as `db` uses it: a statement is one visit to the connection's thread.

aiosqlite visits its thread to make a cursor, to execute, to fetch and to close; the visits cost
more than the statements. Here one visit does all four. Rows are read whole, as SQLAlchemy does
with every cursor that is not server-side. A script, too, is one visit.
"""

import sqlite3
from collections.abc import Callable
from typing import Any

import aiosqlite


class Connection(aiosqlite.Connection):
    """aiosqlite's connection with cursors of ours."""

    def cursor(self) -> "Cursor":  # type: ignore[override]  # Ours is not derived from theirs.
        return Cursor(self)

    async def visit(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Do some work in the connection's thread."""
        return await self._execute(lambda: work(self._conn))  # type: ignore[no-untyped-call]  # aiosqlite's.


class Script(tuple[tuple[str, list[tuple[Any, ...]]], ...]):
    """Statements to be run in one visit, each with the values of its executions.

    Its one row has a value for each statement: the rows of a SELECT, else how many it touched.
    """

    @property
    def text(self) -> str:
        return ";\n".join(text for text, _ in self)

    def run(self, connection: sqlite3.Connection) -> tuple[Any, ...]:
        return tuple(self._one(connection, text, rows) for text, rows in self)

    def _one(self, connection: sqlite3.Connection, text: str, rows: list[tuple[Any, ...]]) -> Any:
        if len(rows) > 1:
            cursor = connection.executemany(text, rows)
        else:
            cursor = connection.execute(text, rows[0])
        done = cursor.fetchall() if cursor.description else cursor.rowcount
        cursor.close()
        return done


class Cursor:
    """What one statement left behind: nothing stays open in the database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> "Cursor":
        return self

    async def execute(self, text: str, values: Any = ()) -> "Cursor":
        def work(connection: sqlite3.Connection) -> None:
            if isinstance(values, Script):
                self._rows = [values.run(connection)]
                self.description = [(f"s{n}", *[None] * 6) for n in range(len(values))]
                return
            self._keep(connection.execute(text, values))

        await self._connection.visit(work)
        return self

    async def executemany(self, text: str, rows: Any) -> "Cursor":
        def work(connection: sqlite3.Connection) -> None:
            self._keep(connection.executemany(text, rows))

        await self._connection.visit(work)
        return self

    def _keep(self, cursor: sqlite3.Cursor) -> None:
        self.description = cursor.description
        self._rows = cursor.fetchall() if cursor.description else []
        self.rowcount = cursor.rowcount  # Known once the rows of RETURNING are read.
        self.lastrowid = cursor.lastrowid
        cursor.close()

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        self._rows = []


def connect(path: str, **options: Any) -> Connection:
    """A connection to be awaited, for SQLAlchemy's `async_creator_fn`."""
    made = Connection(lambda: sqlite3.connect(path, **options), iter_chunk_size=64)
    made._thread.daemon = True  # As SQLAlchemy does: a forgotten connection keeps nobody alive.
    return made
