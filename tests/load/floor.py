"""The floor: the rows of a redemption, written again by asyncpg with as few statements as can be.

What one of our redemptions writes is read off the database: what it inserts and what it changes,
up to the hold, and from there to the commit. The floor writes the same rows under other ids, in
two transactions of two prepared statements each: one that inserts into all tables at once, and
one that changes what existed, guarded and in one order, last, so that hot rows are locked for the
shortest time. It reads nothing, decides nothing and asks no partner.
"""

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import sqlalchemy as sa

from gateway.db import metadata

_SKIPPED = (
    "ledger_seals",
    "oauth_",
    "clock_offset",
    "audit_",
    "jobs",
    "event_feed",
    "event_router",
)
_ID = re.compile(r"[0-9A-Za-z]{20,}")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TUNED = "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off"

Row = dict[str, Any]
Rows = dict[tuple[Any, ...], Row]


@dataclass(frozen=True, slots=True)
class Change:
    """A row that existed: numbers to add and values to set."""

    key: Row
    add: Row
    set: Row


@dataclass
class Step:
    """What one transaction writes: new rows and changes, by table."""

    inserts: dict[str, list[Row]] = field(default_factory=dict)
    changes: dict[str, list[Change]] = field(default_factory=dict)
    before: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(len(rows) for rows in (*self.inserts.values(), *self.changes.values()))


def plain(url: str) -> str:
    return url.replace("postgresql+asyncpg://", "postgresql://")


def _tables() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Our tables with their keys, those first that others refer to."""
    for table in metadata.sorted_tables:
        if not table.name.startswith(_SKIPPED):
            yield table.name, tuple(column.name for column in table.primary_key)


class Camera:
    """Sees what has changed in a database that nobody else writes to."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._seen: dict[str, Rows] = {}

    async def changed(self) -> Step:
        """What was written since the last look."""
        step = Step()
        for table, key in _tables():
            found: Rows = {}
            for record in await self._connection.fetch(f'SELECT * FROM "{table}"'):
                row = dict(record)
                found[tuple(row[name] for name in key)] = row
            before = self._seen.get(table)
            self._seen[table] = found
            if before is None:
                continue
            for name, row in found.items():
                if name not in before:
                    step.inserts.setdefault(table, []).append(row)
                elif row != before[name]:
                    change = _change(before[name], row, key)
                    step.changes.setdefault(table, []).append(change)
                    step.before.setdefault(table, []).append(before[name])
        return step


def _change(before: Row, after: Row, key: Sequence[str]) -> Change:
    add: Row = {}
    values: Row = {}
    for name, value in after.items():
        if value == before[name]:
            continue
        if isinstance(value, int) and not isinstance(value, bool) and before[name] is not None:
            add[name] = value - before[name]
        else:
            values[name] = value
    return Change({name: after[name] for name in key}, add, values)


class Statement:
    """SQL with its values, in which the ids of the redemption that was seen are replaced."""

    def __init__(self, sql: str, values: Sequence[Any], ids: Sequence[str]) -> None:
        self.sql = sql
        self._parts: list[Callable[[Sequence[str]], Any]] = [_part(one, ids) for one in values]

    def values(self, fresh: Sequence[str]) -> list[Any]:
        return [part(fresh) for part in self._parts]


def _part(value: Any, ids: Sequence[str]) -> Callable[[Sequence[str]], Any]:
    """A function that gives the value with other ids in it."""
    if not isinstance(value, str):
        return lambda _: value
    found = [(number, old) for number, old in enumerate(ids) if old in value]
    if not found:
        return lambda _: value
    if len(found) == 1 and found[0][1] == value:
        number = found[0][0]
        return lambda fresh: fresh[number]

    def made(fresh: Sequence[str]) -> str:
        text = value
        for number, old in found:
            text = text.replace(old, fresh[number])
        return text

    return made


def _new_ids(steps: Sequence[Step]) -> list[str]:
    """The words that make what was inserted one of its kind, longest first."""
    found: set[str] = set()
    for step in steps:
        for table, rows in step.inserts.items():
            for columns in _unique(table):
                for row in rows:
                    texts = [row[name] for name in columns if isinstance(row[name], str)]
                    words = [word for text in texts for word in _ID.findall(text)]
                    if words:
                        found.update(words)
                    elif texts:  # A voucher's code, a client's key.
                        found.add(max(texts, key=len))
    return sorted(found - _old_words(steps[0]), key=len, reverse=True)


def _old_words(first: Step) -> set[str]:
    """Words of rows that existed: lots and members are the same in every redemption."""
    texts = [
        value
        for rows in first.before.values()
        for row in rows
        for value in row.values()
        if isinstance(value, str)
    ]
    return {*texts, *(word for text in texts for word in _ID.findall(text))}


def _unique(table: str) -> Iterator[list[str]]:
    """The sets of columns that are unique: the key's first."""
    made = metadata.tables[table]
    for constraint in sorted(made.constraints, key=lambda one: type(one).__name__):
        if isinstance(constraint, sa.PrimaryKeyConstraint | sa.UniqueConstraint):
            yield [column.name for column in constraint.columns]


def fresh_ids(ids: Sequence[str]) -> list[str]:
    """Other words of the same lengths; ids sort by time, as ours do."""
    milliseconds = time.time_ns() // 1_000_000
    now = _base32(milliseconds, 10)
    return [_other(one, now) for one in ids]


def _other(word: str, now: str) -> str:
    if word.isdigit():
        return f"{secrets.randbelow(10 ** len(word)):0{len(word)}d}"
    if not _ID.fullmatch(word):
        return _base32(secrets.randbits(5 * len(word)), len(word))
    rest = len(word) - len(now)
    return now + _base32(secrets.randbits(5 * rest), rest)


def _base32(number: int, digits: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * digits - 5, -1, -5))


def _insert(step: Step, ids: Sequence[str]) -> Statement:
    """One statement that inserts every new row, into all tables."""
    values: list[Any] = []
    parts = []
    for table, rows in step.inserts.items():
        counted = metadata.tables[table].autoincrement_column  # The database's own numbers.
        columns = [name for name in rows[0] if counted is None or name != counted.name]
        tuples = []
        for row in rows:
            first = len(values) + 1
            values += [row[name] for name in columns]
            tuples.append(f"({', '.join(f'${first + n}' for n in range(len(columns)))})")
        named = ", ".join(f'"{name}"' for name in columns)
        insert = f'INSERT INTO "{table}" ({named}) VALUES {", ".join(tuples)}'
        parts.append(f"i{len(parts)} AS ({insert})")
    return Statement(f"WITH {', '.join(parts)} SELECT 1", values, ids)


def _update(step: Step, ids: Sequence[str], types: dict[tuple[str, str], str]) -> Statement | None:
    """One statement that changes every row that existed, by its key, never below zero."""
    values: list[Any] = []
    parts = []
    for table, changes in step.changes.items():
        # Rows of a table whose changes look alike are changed by one UPDATE.
        shapes: dict[tuple[tuple[str, ...], ...], list[Change]] = {}
        for change in changes:
            shape = (tuple(change.key), tuple(change.add), tuple(change.set))
            shapes.setdefault(shape, []).append(change)
        for (keys, adds, sets), alike in shapes.items():
            names = (*keys, *adds, *sets)
            tuples = []
            for change in sorted(alike, key=lambda one: [str(v) for v in one.key.values()]):
                merged = change.key | change.add | change.set
                cells = []
                for name in names:
                    values.append(merged[name])
                    cells.append(f"${len(values)}::{types[table, name]}")
                tuples.append(f"({', '.join(cells)})")
            named = ", ".join(f'"{name}"' for name in names)
            to = [f'"{name}" = t."{name}" + v."{name}"' for name in adds]
            to += [f'"{name}" = v."{name}"' for name in sets]
            where = [f't."{name}" = v."{name}"' for name in keys]
            where += [f't."{name}" + v."{name}" >= 0' for name in adds]
            update = (
                f'UPDATE "{table}" t SET {", ".join(to)} '
                f"FROM (VALUES {', '.join(tuples)}) v({named}) "
                f"WHERE {' AND '.join(where)} RETURNING 1"
            )
            parts.append(f"u{len(parts)} AS ({update})")
    if not parts:
        return None
    counts = " + ".join(f"(SELECT count(*) FROM u{number})" for number in range(len(parts)))
    return Statement(f"WITH {', '.join(parts)} SELECT {counts}", values, ids)


@dataclass
class Saga:
    """A redemption to be written again: two transactions, and what must exist before."""

    ids: list[str]
    transactions: list[list[tuple[Statement, int]]]
    before: dict[str, list[Row]]
    rows: int

    @property
    def keys(self) -> dict[str, list[str]]:
        """By table, the keys of the rows that existed and are changed."""
        named = {table: list(metadata.tables[table].primary_key) for table in self.before}
        return {
            table: [" ".join(str(row[column.name]) for column in named[table]) for row in rows]
            for table, rows in self.before.items()
        }


async def learned(
    connection: asyncpg.Connection, hold: Callable[[], Awaitable[Any]], commit: Any
) -> Saga:
    """Watch one redemption: `hold` quotes and holds, `commit` confirms what it returned."""
    camera = Camera(connection)
    await camera.changed()
    held = await hold()
    first = await camera.changed()
    await commit(held)
    second = await camera.changed()
    types = {
        (row["table_name"], row["column_name"]): row["data_type"]
        for row in await connection.fetch(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        )
    }
    ids = _new_ids([first, second])
    transactions = []
    for step in (first, second):
        parts = [(_insert(step, ids), 1)] if step.inserts else []
        update = _update(step, ids, types)
        if update:
            parts.append((update, sum(len(changes) for changes in step.changes.values())))
        transactions.append(parts)
    made = set(first.inserts)
    before = dict(first.before)
    for table, rows in second.before.items():
        if table not in made:
            before.setdefault(table, []).extend(rows)
    return Saga(ids, transactions, before, first.rows + second.rows)


async def prepare(url: str, sagas: Sequence[Saga]) -> None:
    """Put the rows there that the sagas change: what our first redemptions of a month made."""
    connection = await asyncpg.connect(plain(url))
    try:
        for saga in sagas:
            for table, rows in saga.before.items():
                for row in rows:
                    named = ", ".join(f'"{name}"' for name in row)
                    places = ", ".join(f"${n + 1}" for n in range(len(row)))
                    await connection.execute(
                        f'INSERT INTO "{table}" ({named}) VALUES ({places}) ON CONFLICT DO NOTHING',
                        *row.values(),
                    )
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


@dataclass
class Floor:
    """The floor at work.

    Args:
        url: Its database: a copy of ours as it was before the first redemption.
    """

    url: str
    sagas: Sequence[Saga]
    done: int = 0
    seconds: float = 0.0

    async def run(self, seconds: float, *, connections: int) -> int:
        """Write redemptions on so many connections for so long; how many it wrote."""
        until = time.monotonic() + seconds
        began, before = time.monotonic(), self.done

        async def one(number: int) -> None:
            mine = self.sagas[number::connections] or self.sagas
            connection = await asyncpg.connect(plain(self.url))
            ready: dict[str, Any] = {}
            try:
                await connection.execute(_TUNED)
                for saga in itertools.cycle(mine):
                    if time.monotonic() >= until:
                        return
                    await self._write(connection, ready, saga)
            finally:
                await connection.close()

        await asyncio.gather(*(one(number) for number in range(connections)))
        self.seconds += time.monotonic() - began
        return self.done - before

    async def _write(
        self, connection: asyncpg.Connection, ready: dict[str, Any], saga: Saga
    ) -> None:
        fresh = fresh_ids(saga.ids)
        for parts in saga.transactions:
            async with connection.transaction():
                for statement, expected in parts:
                    if statement.sql not in ready:
                        ready[statement.sql] = await connection.prepare(statement.sql)
                    found = await ready[statement.sql].fetchval(*statement.values(fresh))
                    assert found == expected, f"{found} of {expected} rows"
        self.done += 1
