"""Write the next revision from the difference between schema and tables: `make migration`.

A released revision never changes: `released.py` keeps its hash. The revision after the last
released one is written again each time, until it is released too.

    make migration ARGS="what it is for"
    make migration ARGS="drop_what --contract 0.2.0"   # the release that stopped using it
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext

from gateway import db, migrations
from gateway.migrations import rules
from gateway.migrations.released import RELEASED

VERSIONS = Path(__file__).parent / "versions"

_HEAD = '''\
"""{title}. Written by `make migration` until its release."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from gateway.migrations.changes import make_append_only, outside_transaction, replace_check

revision = "{revision}"
down_revision = "{down_revision}"
branch_labels = None
depends_on = None

KIND = "{kind}"
{stopped}

def upgrade() -> None:
    """{title}."""
{body}
'''


class Undecided(Exception):
    """The difference takes something away, and nobody said which release stopped using it."""


def files() -> list[Path]:
    """All revisions, in order."""
    return sorted(VERSIONS.glob("[0-9]*.py"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pending() -> list[Path]:
    """The revisions that are not released yet."""
    return [path for path in files() if path.stem[:4] not in RELEASED]


def difference(base: str) -> "Difference":
    """What the tables have that a database at `base` has not."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        config = migrations.configuration(connection)
        command.upgrade(config, base)
        options: dict[str, Any] = {"compare_type": True, "compare_server_default": True}
        tables = migrations.all_tables()
        made = produce_migrations(MigrationContext.configure(connection, opts=options), tables)
        assert made.upgrade_ops is not None
        checks = list(_other_checks(connection, tables))
        query = "SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'trigger'"
        guarded = {str(row[0]) for row in connection.exec_driver_sql(query)}
    engine.dispose()
    found = list(_flat(made.upgrade_ops.ops))
    return Difference(found, checks, [t for t in migrations.append_only() if t not in guarded])


class Difference:
    """Operations, changed CHECKs (table, name, old, new) and tables that became append-only."""

    def __init__(
        self,
        operations: list[ops.MigrateOperation],
        checks: list[tuple[str, str, str, str]],
        guarded: list[str],
    ) -> None:
        self.operations = operations
        self.checks = checks
        self.guarded = guarded

    def __bool__(self) -> bool:
        return bool(self.operations or self.checks or self.guarded)


def text(
    *, revision: str, down_revision: str, title: str, stopped_using: str | None = None
) -> str | None:
    """The text of the next revision; None when nothing differs.

    Raises:
        Undecided: It takes something away, and `stopped_using` is not given.
    """
    found = difference(down_revision)
    if not found:
        return None
    made = _HEAD.format(
        title=title[:1].upper() + title[1:].rstrip("."),
        revision=revision,
        down_revision=down_revision,
        kind=rules.CONTRACT if stopped_using else rules.EXPAND,
        stopped=f'STOPPED_USING = "{stopped_using}"\n' if stopped_using else "",
        body="\n".join(f"    {line}" for line in "\n".join(_body(found)).splitlines()),
    )
    for action in (["check", "--fix-only"], ["format"]):
        name = str(VERSIONS / f"{revision}.py")
        made = _ruff(*action, "--quiet", "--stdin-filename", name, "-", text=made)
    return made


def _body(found: Difference) -> Iterator[str]:
    """Statements: new tables and columns first, then the rest, indexes of old tables at the end."""
    new = {each.table_name for each in found.operations if isinstance(each, ops.CreateTableOp)}
    late: list[ops.MigrateOperation] = []
    for each in found.operations:
        if isinstance(each, ops.CreateIndexOp) and each.table_name not in new:
            late.append(each)
        else:
            yield _render_one(each)
    for table, name, old, wanted in found.checks:
        yield f"replace_check(op, {table!r}, {name!r}, old={old!r}, new={wanted!r})"
    for table in found.guarded:
        yield f"make_append_only(op, {table!r})"
    if late:
        yield "with outside_transaction(op):"
        for index in late:
            assert isinstance(index, ops.CreateIndexOp)
            index.kw["postgresql_concurrently"] = True
            index.if_not_exists = True
            yield "\n".join(f"    {line}" for line in _render_one(index).splitlines())


_PLAIN = (ops.CreateTableOp, ops.CreateIndexOp, ops.DropTableOp, ops.DropIndexOp, ops.AddColumnOp)


def _render_one(operation: ops.MigrateOperation) -> str:
    plain = isinstance(operation, _PLAIN)
    if isinstance(operation, ops.CreateTableOp):
        operation.info = {}
    holder = ops.UpgradeOps([operation])
    if not plain:  # SQLite copies the table.
        table = getattr(operation, "table_name", None) or getattr(operation, "source_table", "")
        holder = ops.UpgradeOps([ops.ModifyTableOps(str(table), [operation])])
    rendered = render_python_code(holder, render_item=_render, render_as_batch=not plain)
    kept = [line for line in rendered.splitlines() if not line.strip().startswith("# ###")]
    return "\n".join(line.removeprefix("    ") for line in kept)


def _flat(operations: Iterable[ops.MigrateOperation]) -> Iterator[ops.MigrateOperation]:
    for each in operations:
        if isinstance(each, ops.ModifyTableOps):
            yield from _flat(each.ops)
        else:
            yield each


def _other_checks(
    connection: sa.Connection, tables: sa.MetaData
) -> Iterator[tuple[str, str, str, str]]:
    """CHECKs of tables that exist whose text is another one now: Alembic does not compare them."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    for table in tables.sorted_tables:
        if table.name not in there:
            continue
        known = {
            str(each["name"]): " ".join(str(each["sqltext"]).split())
            for each in inspector.get_check_constraints(table.name)
        }
        for rule in table.constraints:
            if isinstance(rule, sa.CheckConstraint):
                wanted = " ".join(str(rule.sqltext).split())
                old = known.get(str(rule.name))
                if old is None:
                    raise Undecided(f"{table.name} has a new CHECK {rule.name}: write it by hand")
                if old != wanted:
                    yield table.name, str(rule.name), old, wanted


def _render(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """Types as the database has them: a migration does not change with the product's code."""
    if kind == "type" and isinstance(item, db.Instant):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, sa.JSON):
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


def _ruff(*words: str, text: str) -> str:
    command_ = [sys.executable, "-m", "ruff", *words]
    done = subprocess.run(command_, input=text, capture_output=True, check=True, encoding="utf-8")
    return done.stdout


def again(path: Path) -> str | None:
    """What a revision that is not released would be now."""
    module = rules.load(path)
    return text(
        revision=module.revision,
        down_revision=module.down_revision,
        title=_title(module),
        stopped_using=getattr(module, "STOPPED_USING", None),
    )


def write(title: str | None, *, stopped_using: str | None = None) -> Path | None:
    """Write the next revision, in place of the one that is not released; None without one.

    Args:
        title: What it is for; None keeps the title of the one in its place.

    Raises:
        Undecided: It breaks the rules of its kind; every file is as it was.
    """
    replaced = pending()
    title = title or next((_title(rules.load(path)) for path in replaced), "next")
    last = next(path.stem[:4] for path in reversed(files()) if path not in replaced)
    revision = f"{int(last) + 1:04}"
    made = text(revision=revision, down_revision=last, title=title, stopped_using=stopped_using)
    if made is not None:
        _require_rules(made)
    for path in replaced:
        path.unlink()
    if made is None:
        return None
    path = VERSIONS / f"{revision}_{re.sub(r'[^a-z0-9]+', '_', title.lower()).strip('_')}.py"
    path.write_text(made, encoding="utf-8")
    return path


def _require_rules(made: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "next.py")
        path.write_text(made, encoding="utf-8")
        broken = rules.violations(rules.load(path), sealed=migrations.sealed())
    if broken:
        raise Undecided("\n".join(broken))


def _release(text: str) -> str:
    if not re.fullmatch(r"\d+\.\d+\.\d+", text):
        raise argparse.ArgumentTypeError(f"{text}: a release, as in 0.2.0")
    return text


def wrong() -> list[str]:
    """What is wrong with the revisions there are: changed, against the rules, or out of date."""
    found: list[str] = []
    for path in files():
        if digest(path) != RELEASED.get(path.stem[:4], digest(path)):
            found.append(f"{path.name}: released, and changed since")
        found += rules.violations(rules.load(path), sealed=migrations.sealed())
    for path in pending():
        if again(path) != path.read_text("utf-8"):
            found.append(f"{path.name}: not what the tables say: run `make migration`")
    if not pending() and difference(str(migrations.newest())):
        found.append("the tables are not what the newest revision makes: run `make migration`")
    return found


def _title(module: ModuleType) -> str:
    return str(module.__doc__).partition(". Written")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the next revision.")
    parser.add_argument("title", nargs="*", help="what it is for; as before by default")
    told = "the release that stopped using it"
    parser.add_argument("--contract", metavar="RELEASE", type=_release, help=told)
    parser.add_argument("--check", action="store_true", help="write nothing; end 1 if one is wrong")
    given = parser.parse_args()
    if given.check:
        if found := wrong():
            sys.exit("\n".join(found))
        sys.stdout.write(f"{len(files())} revisions keep to the rules\n")
        return
    try:
        path = write(" ".join(given.title) or None, stopped_using=given.contract)
    except Undecided as error:
        sys.exit(f"{error}\nSplit it: expand now, contract in a later revision (--contract).")
    sys.stdout.write(f"{path.name if path else 'nothing differs'}\n")


if __name__ == "__main__":
    main()
