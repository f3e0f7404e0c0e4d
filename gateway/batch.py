"""Many statements in one go: writes wait until the transaction reads or ends, reads go together.

A transaction queues its INSERTs and conditional UPDATEs, each with the number of rows it must
touch, and sends them together before it reads anything, takes a savepoint or commits. On a server
a batch is one statement: data-modifying parts of one WITH, in order (a few, where it has a great
many rows), or one row of arrays of records. On a database in this process it is one visit to the
connection's thread.

The parts of a WITH do not see one another, and a row is changed by one of them at most: a write
that may touch a row of the queue again lets the queue go first.

A server's statement is a transaction by itself. So nothing is begun before a transaction reads
without locks, and a last batch that is its only write goes alone: it checks by itself how many
rows it has touched, and fails as a whole if it is another number.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import sqlalchemy as sa
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction

from gateway.sqlite import Script

Values = Mapping[str, Any]
Missed = Callable[["Transaction"], Awaitable[None]]
SHAPES_KEPT = 2_000
MOST_PLACES = 2_000  # of a statement: PostgreSQL has 32,767, and takes long to read long ones


class Raced(Exception):
    """Another transaction changed first what this one had read. Roll back and run it again."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A SELECT and its values. It has no list that grows with the values."""

    statement: Any
    values: Values


_LENGTHS = (1, 2, 5, 10, 20, 50, 100)


def padded(values: Sequence[str]) -> list[str]:
    """Values up to one of a few lengths, the last repeated: a statement for each length is enough.

    None at all are one that nothing has.
    """
    found = list(values) or [""]
    wanted = next((length for length in _LENGTHS if length >= len(found)), len(found))
    return found + found[-1:] * (wanted - len(found))


def among(column: sa.Column[Any], name: str, count: int) -> sa.ColumnElement[bool]:
    """That a column has one of so many values, for `values_of`."""
    return column.in_([sa.bindparam(f"{name}_{number}") for number in range(count)])


def values_of(name: str, values: Sequence[str]) -> dict[str, str]:
    return {f"{name}_{number}": value for number, value in enumerate(values)}


@dataclass(frozen=True, slots=True)
class Write:
    """An INSERT or UPDATE that waits.

    Args:
        rows: Values of one execution each; all with the same names.
        by: Names whose values tell which row is touched; none: it may be any.
        expect: Rows that must be touched, together; None: any number.
        missed: What to do if it was another number: mend it, or raise the refusal.
    """

    statement: Any
    rows: Sequence[Values]
    by: tuple[str, ...] = ()
    expect: int | None = None
    missed: Missed | None = None

    def collides(self, later: "Write") -> bool:
        """Whether a later write may touch a row of this one."""
        if self.statement.table is not later.statement.table:
            return False
        if later.statement.is_insert:
            return False
        if not (self.by and self.by == later.by):
            return True
        return not self._touched().isdisjoint(later._touched())

    def _touched(self) -> set[tuple[Any, ...]]:
        return {tuple(row[name] for name in self.by) for row in self.rows}


@dataclass(frozen=True, slots=True)
class Part:
    """A compiled statement: its text, and how each place in it is filled."""

    text: str
    is_insert: bool
    places: tuple[tuple[str, Any, Any], ...]  # (name, processor or None, value if none is given)
    columns: tuple[tuple[str, Any], ...] = ()  # (name, processor or None) of what it selects

    @property
    def locks(self) -> bool:
        """Whether it keeps the rows it selects from others, until the transaction ends."""
        return " FOR UPDATE" in self.text or " FOR SHARE" in self.text

    def values(self, row: Values) -> tuple[Any, ...]:
        return tuple(
            process(row.get(name, constant)) if process else row.get(name, constant)
            for name, process, constant in self.places
        )

    def rows(self, found: Sequence[Any]) -> list[sa.Row[Any]]:
        """Rows as SQLAlchemy's own, decoded by their columns' types."""
        if not found:
            return []
        processors = [process for _, process in self.columns]
        if any(processors):
            found = [
                tuple(
                    process(value) if process else value
                    for process, value in zip(processors, row, strict=True)
                )
                for row in found
            ]
        else:
            found = [tuple(row) for row in found]
        keys = SimpleResultMetaData([name for name, _ in self.columns])
        made: Any = IteratorResult(keys, iter(found)).all()
        return list(made)


class Batches(Protocol):
    """How one kind of database takes a batch."""

    async def write(self, tx: AsyncConnection, writes: Sequence[Write]) -> list[int]:
        """Run the writes in order; the rows each touched."""
        ...

    async def write_alone(self, tx: AsyncConnection, writes: Sequence[Write]) -> bool:
        """Run the writes and commit them, if nothing was begun and all touch what they expect.

        False: nothing has happened; they must go in a transaction.

        Raises:
            Raced: The first that touches other rows has nobody who knows what to do about it.
        """
        ...

    async def read(self, tx: AsyncConnection, asks: Sequence[Ask]) -> list[list[sa.Row[Any]]]:
        """Run the SELECTs; the rows of each."""
        ...


class Compiler:
    """Compiles each statement once for each set of names it is given values for."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self._parts: dict[tuple[Any, tuple[str, ...]], Part] = {}

    def write(self, write: Write) -> Part:
        return self._part(write.statement, tuple(write.rows[0]))

    def read(self, ask: Ask) -> Part:
        return self._part(ask.statement, ())

    def _part(self, statement: Any, names: tuple[str, ...]) -> Part:
        found = self._parts.get((statement, names))
        if found is None:
            if len(self._parts) >= SHAPES_KEPT:
                self._parts.clear()
            found = self._parts[statement, names] = self._compile(statement, names)
        return found

    def _compile(self, statement: Any, names: tuple[str, ...]) -> Part:
        if statement.is_insert:
            statement = statement.inline()  # A number the database gives is not asked back.
        compiled = statement.compile(dialect=self._dialect, column_keys=list(names) or None)
        # What SQLAlchemy makes in Python for each row is not made here: it would be NULL.
        assert not compiled.prefetch, f"give a value: {compiled.prefetch}"
        if statement.is_insert and (key := statement.table.info.get("sealed")):
            assert key in compiled.positiontup, f"{statement.table.name}: unsealed without {key}"
        constants, processors = compiled.params, compiled._bind_processors
        places = [
            (name, processors.get(name), constants.get(name)) for name in compiled.positiontup
        ]
        columns = [
            (
                column.name,
                column.type.dialect_impl(self._dialect).result_processor(self._dialect, None),
            )
            for column in (statement.selected_columns if statement.is_select else ())
        ]
        return Part(str(compiled), statement.is_insert, tuple(places), tuple(columns))


class OneVisit:
    """Batches of a database in this process: statement by statement, in one visit."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._compiler = Compiler(dialect)

    async def write(self, tx: AsyncConnection, writes: Sequence[Write]) -> list[int]:
        parts = [(self._compiler.write(write), write.rows) for write in writes]
        script = Script((part.text, [part.values(row) for row in rows]) for part, rows in parts)
        return list((await _run(tx, script.text, script)).one())

    async def write_alone(self, tx: AsyncConnection, writes: Sequence[Write]) -> bool:
        return False  # To begin and to commit costs no way here.

    async def read(self, tx: AsyncConnection, asks: Sequence[Ask]) -> list[list[sa.Row[Any]]]:
        parts = [self._compiler.read(ask) for ask in asks]
        script = Script(
            (part.text, [part.values(ask.values)]) for part, ask in zip(parts, asks, strict=True)
        )
        found = (await _run(tx, script.text, script)).one()
        return [part.rows(rows) for part, rows in zip(parts, found, strict=True)]


Rows = tuple[Part, Sequence[Values]]
_OTHERS = re.compile(r"other rows than expected by write (\d+)")


class OneStatement:
    """Batches of a server: one statement, one round trip."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._compiler = Compiler(dialect)
        self._texts: dict[tuple[Any, ...], str] = {}

    async def write(self, tx: AsyncConnection, writes: Sequence[Write]) -> list[int]:
        counts = [0] * len(writes)
        for numbers, parts in _fitting(self._parts(writes)):
            found = await self._count(tx, parts)
            for number, count in zip(numbers, found, strict=True):
                counts[number] += count
        return counts

    async def _count(self, tx: AsyncConnection, parts: Sequence[Rows]) -> Sequence[int]:
        key = tuple((part.text, len(rows)) for part, rows in parts)
        text = self._text(key, lambda: _counted(parts))
        return (await _run(tx, text, _values(parts))).one()

    async def write_alone(self, tx: AsyncConnection, writes: Sequence[Write]) -> bool:
        if _begun(tx):
            return False
        parts = self._parts(writes)
        if sum(len(part.places) * len(rows) for part, rows in parts) > MOST_PLACES:
            return False
        expected = [write.expect for write in writes]
        key = tuple(
            (part.text, len(rows), expect)
            for (part, rows), expect in zip(parts, expected, strict=True)
        )
        text = self._text(key, lambda: _checked(parts, expected))
        try:
            await _run_alone(tx, text, _values(parts))
        except DBAPIError as error:
            found = _OTHERS.search(str(error.orig))
            if found is None:
                raise
            first = writes[int(found[1])]
            if first.missed is None:
                raise Raced(f"{first.statement.table.name}: not {first.expect}") from None
            return False
        return True

    async def read(self, tx: AsyncConnection, asks: Sequence[Ask]) -> list[list[sa.Row[Any]]]:
        parts = [self._compiler.read(ask) for ask in asks]
        text = self._text(tuple(part.text for part in parts), lambda: _reading(parts))
        values = tuple(
            value
            for part, ask in zip(parts, asks, strict=True)
            for value in part.values(ask.values)
        )
        run = _run if _begun(tx) or any(part.locks for part in parts) else _run_alone
        found = (await run(tx, text, values)).one()
        return [part.rows(rows) for part, rows in zip(parts, found, strict=True)]

    def _parts(self, writes: Sequence[Write]) -> list[Rows]:
        return [(self._compiler.write(write), write.rows) for write in writes]

    def _text(self, key: tuple[Any, ...], make: Callable[[], str]) -> str:
        """The text for a shape, made once."""
        if key not in self._texts:
            if len(self._texts) >= SHAPES_KEPT:
                self._texts.clear()
            self._texts[key] = make()
        return self._texts[key]


def _fitting(parts: Sequence[Rows]) -> Iterator[tuple[list[int], list[Rows]]]:
    """Parts in order, with their numbers, as many at a time as one statement has places for."""
    numbers: list[int] = []
    batch: list[Rows] = []
    left = MOST_PLACES
    for number, (part, rows) in enumerate(parts):
        begin = 0
        while begin < len(rows):
            taken = rows[begin : begin + left // len(part.places)]
            if taken:
                numbers.append(number)
                batch.append((part, taken))
                begin += len(taken)
                left -= len(taken) * len(part.places)
            else:
                yield numbers, batch
                numbers, batch, left = [], [], MOST_PLACES
    if batch:
        yield numbers, batch


def _values(parts: Sequence[Rows]) -> tuple[Any, ...]:
    return tuple(value for part, rows in parts for row in rows for value in part.values(row))


# Only compiled statements and names of ours (w0_0, w0_1, …) are put together here; values have
# places. So S608 finds nothing in these.


def _reading(parts: Sequence[Part]) -> str:
    places = _Places()
    arrays = [
        f"ARRAY(SELECT r FROM ({places.moved(part)}) AS r) AS a{number}"  # noqa: S608 - see above
        for number, part in enumerate(parts)
    ]
    return f"SELECT {', '.join(arrays)}"


def _counted(parts: Sequence[Rows]) -> str:
    """A row with how many rows each write has touched."""
    named, counts = _named(parts, lambda _part: True)
    totals = [f"{total} AS n{number}" for number, total in enumerate(counts)]
    return f"WITH {', '.join(named)} SELECT {', '.join(totals)}"


def _checked(parts: Sequence[Rows], expected: Sequence[int | None]) -> str:
    """An error at the first write that touches other rows than expected; those after it do not run.

    A plain INSERT inserts all its rows or fails. It needs no check, and runs when all are made.
    """
    named, totals = _named(parts, lambda part: not part.is_insert or "ON CONFLICT" in part.text)
    cases = [
        f"WHEN {total} {'< 0' if expect is None else f'<> {expect}'} "
        # What is constant is computed too soon.
        f"THEN CAST('other rows than expected by write {number} ' || pg_backend_pid() AS INTEGER)"
        for number, (total, expect) in enumerate(zip(totals, expected, strict=True))
        if total
    ]
    result = f"CASE {' '.join(cases)} ELSE 1 END" if cases else "1"
    return f"WITH {', '.join(named)} SELECT {result}"


def _named(
    parts: Sequence[Rows], is_counted: Callable[[Part], bool]
) -> tuple[list[str], list[str]]:
    """The parts of a WITH, and for each write the number of rows touched; empty: not counted."""
    places, named, totals = _Places(), [], []
    for number, (part, rows) in enumerate(parts):
        counted = is_counted(part)
        names = []
        for position, text in enumerate(_statements(part, len(rows), places)):
            names.append(f"w{number}_{position}")
            named.append(f"{names[-1]} AS ({text}{' RETURNING 1' if counted else ''})")
        total = " + ".join(f"(SELECT count(*) FROM {name})" for name in names)  # noqa: S608 - see above
        totals.append(total if counted else "")
    return named, totals


class _Places:
    """Numbers the places of one text after those of the texts before."""

    def __init__(self) -> None:
        self._used = 0

    def moved(self, part: Part, text: str | None = None) -> str:
        used = self._used
        self._used += len(part.places)
        return _PLACE.sub(lambda found: f"${int(found[1]) + used}", text or part.text)


_PLACE = re.compile(r"\$(\d+)")
_INSERT = re.compile(r"(INSERT .* VALUES )(\(.*\))( ON CONFLICT DO NOTHING)?", re.DOTALL)


def _statements(part: Part, count: int, places: _Places) -> Iterator[str]:
    """The texts for so many rows: one of an INSERT, one for each row of an UPDATE."""
    if not part.is_insert:
        yield from (places.moved(part) for _ in range(count))
        return
    found = _INSERT.fullmatch(part.text)
    assert found, part.text
    head, row, tail = found.groups()
    yield head + ", ".join(places.moved(part, row) for _ in range(count)) + (tail or "")


async def _run(tx: AsyncConnection, text: str, values: Any) -> sa.CursorResult[Any]:
    return await AsyncConnection.exec_driver_sql(tx, text, values)


def _begun(tx: AsyncConnection) -> bool:
    """Whether a server knows of a transaction."""
    line: Any = cast(sa.Connection, tx.sync_connection).connection.driver_connection
    return bool(line.is_in_transaction())


async def _run_alone(tx: AsyncConnection, text: str, values: Any) -> sa.CursorResult[Any]:
    """Run a statement that is a transaction by itself."""
    line: Any = cast(sa.Connection, tx.sync_connection).connection.dbapi_connection
    line.autocommit = True
    try:
        return await _run(tx, text, values)
    finally:
        line.autocommit = False


class Transaction(AsyncConnection):
    """A connection whose writes may wait. Whoever reads by it sees them: they go first."""

    __slots__ = ("_waiting",)

    def __init__(self, engine: AsyncEngine, sync_connection: sa.Connection | None = None) -> None:
        super().__init__(engine, sync_connection)
        self._waiting: list[Write] = []

    def write(self, write: Write) -> None:
        """Let a write wait; nothing is sent."""
        self._waiting.append(write)

    def touches_again(self, write: Write) -> bool:
        return any(earlier.collides(write) for earlier in self._waiting)

    async def flush(self) -> None:
        """Send what waits, and judge the rows it touched, in order.

        Raises:
            Raced: Another number than expected, where nobody knows what to do about it.
        """
        while self._waiting:
            writes, self._waiting = self._waiting, []
            counts = await cast(Engine, self.engine).batches.write(self, writes)
            for write, count in zip(writes, counts, strict=True):
                if write.expect is None or count == write.expect:
                    continue
                if write.missed is None:
                    raise Raced(f"{write.statement.table.name}: {count}, not {write.expect}")
                await write.missed(self)

    async def finish(self) -> None:
        """Send what waits as the last of the transaction; raises as `flush`."""
        batches = cast(Engine, self.engine).batches
        if self._waiting and await batches.write_alone(self, self._waiting):
            self._waiting = []
        await self.flush()

    async def read(self, asks: Sequence[Ask]) -> list[list[sa.Row[Any]]]:
        """Run several SELECTs together; the rows of each."""
        await self.flush()
        return await cast(Engine, self.engine).batches.read(self, asks)

    async def execute(self, *args: Any, **options: Any) -> Any:
        if self._waiting:
            await self.flush()
        return await super().execute(*args, **options)

    async def run_sync(self, *args: Any, **options: Any) -> Any:
        if self._waiting:
            await self.flush()
        return await super().run_sync(*args, **options)

    def begin_nested(self) -> AsyncTransaction:
        return Savepoint(self, nested=True)


class Savepoint(AsyncTransaction):
    """A savepoint: what waited goes before it, and what waits inside goes with it."""

    __slots__ = ()

    async def start(self, is_ctxmanager: bool = False) -> AsyncTransaction:
        await cast(Transaction, self.connection).flush()
        return await super().start(is_ctxmanager)

    async def __aexit__(self, type_: Any, value: Any, traceback: Any) -> None:
        tx = cast(Transaction, self.connection)
        if type_ is not None:
            tx._waiting.clear()
            await super().__aexit__(type_, value, traceback)
            return
        try:
            await tx.flush()
        except BaseException as error:
            await super().__aexit__(type(error), error, error.__traceback__)
            raise
        await super().__aexit__(None, None, None)


class Engine(AsyncEngine):
    """An engine whose connections know how their database takes a batch."""

    __slots__ = ("batches",)
    _connection_cls = Transaction

    def __init__(self, sync_engine: sa.Engine, batches: Batches) -> None:
        super().__init__(sync_engine)
        self.batches = batches
