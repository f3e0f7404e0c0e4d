"""Write migration 0001 from the tables: `make migration`, while nothing is released.

After the first release 0001 never changes again, and a change of a table comes with a migration
of its own.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.autogenerate.api import AutogenContext
from alembic.runtime.migration import MigrationContext

from gateway import db
from gateway.migrations import all_tables, append_only

FIRST = Path(__file__).parent / "versions" / "0001_first.py"

_HEAD = '''\
"""The first schema. Written by `make migration`; not changed by hand."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from gateway.migrations.triggers import forbid_changes

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY: tuple[str, ...] = ({names})


def upgrade() -> None:
    """Make every table, index and trigger."""
{body}
    for table in APPEND_ONLY:
        for statement in forbid_changes(table, op.get_bind().dialect.name):
            op.execute(statement)
'''


def first() -> str:
    """The text of migration 0001."""
    with sa.create_engine("sqlite://").connect() as connection:
        options: dict[str, Any] = {"compare_type": True}
        blank = MigrationContext.configure(connection, opts=options)
        made = produce_migrations(blank, all_tables())
    assert made.upgrade_ops is not None
    body = render_python_code(made.upgrade_ops, render_item=_render)
    body = "\n".join(line for line in body.splitlines() if not line.strip().startswith("# ###"))
    names = "".join(f'"{name}", ' for name in append_only())
    text = _HEAD.format(names=names, body=body)
    for action in (["check", "--fix-only"], ["format"]):
        text = _ruff(*action, "--quiet", "--stdin-filename", str(FIRST), "-", text=text)
    return text


def _render(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """Types as the database has them: a migration does not change with the product's code."""
    if kind == "type" and isinstance(item, db.Instant):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, sa.JSON):
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


def _ruff(*words: str, text: str) -> str:
    command = [sys.executable, "-m", "ruff", *words]
    done = subprocess.run(command, input=text, capture_output=True, check=True, encoding="utf-8")
    return done.stdout


def main() -> None:
    text = first()
    FIRST.parent.mkdir(exist_ok=True)
    FIRST.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
