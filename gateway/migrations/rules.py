"""Zero downtime: what a revision may do while the version before it still runs.

Every revision after the first says its `KIND`. An `expand` revision runs before the new version
starts, beside processes of the old one, so it may only add what they need not know. A `contract`
revision takes things away; it names in `STOPPED_USING` the release that no longer uses them, and
runs when no process of an older release is left.

The rules are checked on the operations themselves: `upgrade` runs against a recorder, once as on
SQLite and once as on PostgreSQL.
"""

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import sqlalchemy as sa

EXPAND, CONTRACT = "expand", "contract"
DIALECTS = ("sqlite", "postgresql")
_TAKES_AWAY = {
    "drop_table": "drops a table",
    "drop_column": "drops a column",
    "drop_constraint": "drops a constraint",
    "drop_index": "drops an index",
    "rename_table": "renames a table",
}
_ADDS_SQL = re.compile(
    r"(CREATE TRIGGER|CREATE OR REPLACE FUNCTION refuse_change|ALTER TABLE \w+ VALIDATE CONSTRAINT)"
)
_IN_LIST = re.compile(r"^(?P<column>\w+) IN \((?P<values>.*)\)$", re.DOTALL)


@dataclass
class Recorder:
    """Stands in for `alembic.op`, and notes what an expanding revision may not do.

    Args:
        sealed: Tables whose rows are sealed: a new column there has no default.
    """

    dialect: str
    sealed: frozenset[str] = frozenset()
    found: list[str] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    added: set[tuple[str, str]] = field(default_factory=set)
    concurrent: bool = False

    def get_bind(self) -> Any:
        return SimpleNamespace(dialect=SimpleNamespace(name=self.dialect))

    def get_context(self) -> Any:
        return SimpleNamespace(autocommit_block=self._autocommit)

    @contextlib.contextmanager
    def _autocommit(self) -> Iterator[None]:
        self.concurrent = True
        yield
        self.concurrent = False

    @staticmethod
    def f(name: str) -> str:
        return name

    @contextlib.contextmanager
    def batch_alter_table(self, table: str, **_: Any) -> Iterator[Any]:
        yield _Batch(self, table)

    def create_table(self, name: str, *_: Any, **__: Any) -> None:
        self.made.add(name)

    def add_column(self, table: str, column: sa.Column[Any], **_: Any) -> None:
        where = f"{table}.{column.name}"
        if table in self.made:
            return
        if not column.nullable and column.server_default is None:
            self.found.append(f"{where}: a new column is nullable or has a server default")
        if table in self.sealed and column.server_default is not None:
            self.found.append(f"{where}: a default would change the digests of sealed rows")
        if column.unique or column.primary_key:
            self.found.append(f"{where}: a new column takes no key")
        self.added.add((table, str(column.name)))

    def create_index(
        self, name: str, table: str, columns: list[Any], *, unique: bool = False, **options: Any
    ) -> None:
        if table in self.made:
            return
        fresh = all((table, str(column)) in self.added for column in columns)
        if unique and not fresh:
            self.found.append(f"{name}: a unique index refuses what the old version writes")
        concurrently = options.get("postgresql_concurrently") and self.concurrent
        if self.dialect == "postgresql" and not concurrently:
            self.found.append(f"{name}: an index on a table with rows is made CONCURRENTLY")

    def create_check_constraint(self, name: str, table: str, *_: Any, **options: Any) -> None:
        self._constraint(name, table, options)

    def create_foreign_key(self, name: str, table: str, *_: Any, **options: Any) -> None:
        self._constraint(name, table, options)

    def create_unique_constraint(self, name: str, table: str, *_: Any, **__: Any) -> None:
        if table not in self.made:
            self.found.append(f"{name}: a unique key refuses what the old version writes")

    def _constraint(self, name: str, table: str, options: dict[str, Any]) -> None:
        if table in self.made:
            return
        if self.dialect == "postgresql" and not options.get("postgresql_not_valid"):
            self.found.append(f"{name}: a constraint on a table with rows is NOT VALID first")

    def alter_column(self, table: str, column: str, **changes: Any) -> None:
        where = f"{table}.{column}"
        if changes.get("nullable") is False:
            self.found.append(f"{where}: NOT NULL refuses what the old version writes")
        if changes.get("new_column_name"):
            self.found.append(f"{where}: renames a column")
        if changes.get("type_") is not None:
            self.found.append(f"{where}: changes a type")
        if changes.get("server_default", False) is None:
            self.found.append(f"{where}: takes a default away")

    def execute(self, statement: Any, **_: Any) -> None:
        if not _ADDS_SQL.match(str(statement)):
            self.found.append(f"SQL that cannot be judged: {str(statement)[:60]}")

    def replace_check(self, table: str, name: str, *, old: str, new: str) -> None:
        if not _widens(old, new):
            self.found.append(f"{name}: only a longer list of values lets the old version write")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        what = _TAKES_AWAY.get(name, "is no operation these rules know")

        def note(*given: Any, **_: Any) -> None:
            self.found.append(f"{name} {', '.join(map(str, given[:2]))}: {what}")

        return note


class _Batch:
    """`op` within `batch_alter_table`: the same operations, without the table's name."""

    _NAMED = frozenset(
        {
            "create_check_constraint",
            "create_foreign_key",
            "create_index",
            "create_unique_constraint",
            "drop_constraint",
            "drop_index",
        }
    )

    def __init__(self, recorder: Recorder, table: str) -> None:
        self._recorder, self._table = recorder, table

    def __getattr__(self, name: str) -> Any:
        def do(*given: Any, **options: Any) -> None:
            named = name in self._NAMED
            words = (given[0], self._table, *given[1:]) if named else (self._table, *given)
            getattr(self._recorder, name)(*words, **options)

        return do


def _widens(old: str, new: str) -> bool:
    """Whether `column IN (…)` allows more than it did, and nothing less."""
    before, after = _IN_LIST.match(old.strip()), _IN_LIST.match(new.strip())
    if not before or not after or before["column"] != after["column"]:
        return False
    values = [{one.strip() for one in each["values"].split(",")} for each in (before, after)]
    return values[0] < values[1]


def load(path: Path) -> ModuleType:
    """A revision's module, apart from Alembic's own copy."""
    spec = importlib.util.spec_from_file_location(f"revision_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def violations(module: ModuleType, *, sealed: frozenset[str] = frozenset()) -> list[str]:
    """What a revision does that its kind does not allow, on either database; empty when right."""
    if module.down_revision is None:
        return []
    kind = getattr(module, "KIND", None)
    if kind not in (EXPAND, CONTRACT):
        return [f"{module.revision}: KIND is expand or contract"]
    if kind == CONTRACT:
        named = re.fullmatch(r"\d+\.\d+\.\d+", str(getattr(module, "STOPPED_USING", "")))
        return [] if named else [f"{module.revision}: STOPPED_USING names no release"]
    found: list[str] = []
    for dialect in DIALECTS:
        recorder = Recorder(dialect, sealed)
        module.__dict__["op"] = recorder
        module.__dict__["replace_check"] = _replacing
        module.upgrade()
        found += recorder.found
    return [f"{module.revision}: {each}" for each in dict.fromkeys(found)]


def _replacing(op: Recorder, table: str, name: str, *, old: str, new: str) -> None:
    op.replace_check(table, name, old=old, new=new)
