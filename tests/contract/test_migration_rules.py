"""Each way to break the old version that still runs is planted, and found."""

from pathlib import Path
from textwrap import indent

import pytest
import sqlalchemy as sa

from gateway import migrations
from gateway.migrations import generate, rules

ROOT = Path(__file__).parents[2]
_REVISION = """\
import sqlalchemy as sa
from alembic import op
from gateway.migrations.changes import make_append_only, outside_transaction, replace_check

revision = "0009"
down_revision = "0008"
{head}

def upgrade() -> None:
{body}
"""
EXPAND = 'KIND = "expand"'
SEALED = frozenset({"ledger_journals"})


def judged(folder: Path, body: str, head: str = EXPAND) -> list[str]:
    path = folder / "0009_planted.py"
    path.write_text(_REVISION.format(head=head, body=indent(body, "    ")), encoding="utf-8")
    return rules.violations(rules.load(path), sealed=SEALED)


ALLOWED = {
    "a table with its index": (
        'op.create_table("t", sa.Column("a", sa.String, nullable=False))\n'
        'op.create_index("ix_t_a", "t", ["a"], unique=True)\n'
        'op.create_unique_constraint("uq_t_a", "t", ["a"])\n'
        'make_append_only(op, "t")'
    ),
    "a nullable column": 'op.add_column("jobs", sa.Column("a", sa.String))',
    "a column with a default": (
        'op.add_column("jobs", sa.Column("a", sa.Integer, nullable=False, server_default="0"))'
    ),
    "an index made concurrently": (
        "with outside_transaction(op):\n"
        '    op.create_index("ix", "jobs", ["key"], postgresql_concurrently=True)'
    ),
    "a unique index of a new column": (
        'op.add_column("jobs", sa.Column("a", sa.String))\n'
        "with outside_transaction(op):\n"
        '    op.create_index("ix", "jobs", ["a"], unique=True, postgresql_concurrently=True)'
    ),
    "a constraint that is not validated": (
        'op.create_check_constraint("ck", "jobs", "a > 0", postgresql_not_valid=True)'
    ),
    "a longer list of states": (
        "replace_check(op, 'jobs', 'ck', old=\"state IN ('A', 'B')\", "
        "new=\"state IN ('A', 'B', 'C')\")"
    ),
    "an old table made append-only": 'make_append_only(op, "jobs")',
}
BROKEN = {
    "a table dropped": ('op.drop_table("jobs")', "drops a table"),
    "a column dropped": ('op.drop_column("jobs", "key")', "drops a column"),
    "a column dropped in a batch": (
        'with op.batch_alter_table("jobs") as batch:\n    batch.drop_column("key")',
        "drops a column",
    ),
    "a constraint dropped": ('op.drop_constraint("ck", "jobs")', "drops a constraint"),
    "an index dropped": ('op.drop_index("ix", "jobs")', "drops an index"),
    "a table renamed": ('op.rename_table("jobs", "work")', "renames a table"),
    "a column renamed": (
        'op.alter_column("jobs", "key", new_column_name="name")',
        "renames a column",
    ),
    "a type changed": ('op.alter_column("jobs", "key", type_=sa.Integer())', "changes a type"),
    "a column made NOT NULL": ('op.alter_column("jobs", "key", nullable=False)', "NOT NULL"),
    "a column made NOT NULL in a batch": (
        'with op.batch_alter_table("jobs") as batch:\n    batch.alter_column("a", nullable=False)',
        "NOT NULL",
    ),
    "a default taken away": (
        'op.alter_column("jobs", "key", server_default=None)',
        "takes a default away",
    ),
    "a new column that must be given": (
        'op.add_column("jobs", sa.Column("a", sa.String, nullable=False))',
        "nullable or has a server default",
    ),
    "a new column with a key": (
        'op.add_column("jobs", sa.Column("a", sa.String, unique=True))',
        "takes no key",
    ),
    "a default in a sealed table": (
        'op.add_column("ledger_journals", sa.Column("a", sa.String, server_default="x"))',
        "digests of sealed rows",
    ),
    "an index that locks": ('op.create_index("ix", "jobs", ["key"])', "CONCURRENTLY"),
    "an index concurrently, in a transaction": (
        'op.create_index("ix", "jobs", ["key"], postgresql_concurrently=True)',
        "CONCURRENTLY",
    ),
    "a unique index of an old column": (
        "with outside_transaction(op):\n"
        '    op.create_index("ix", "jobs", ["key"], unique=True, postgresql_concurrently=True)',
        "a unique index refuses",
    ),
    "a unique key": ('op.create_unique_constraint("uq", "jobs", ["key"])', "a unique key refuses"),
    "a constraint that is validated": (
        'op.create_foreign_key("fk", "jobs", "merchants", ["a"], ["id"])',
        "NOT VALID",
    ),
    "a shorter list of states": (
        "replace_check(op, 'jobs', 'ck', old=\"state IN ('A', 'B')\", new=\"state IN ('A')\")",
        "longer list",
    ),
    "another rule": (
        "replace_check(op, 'jobs', 'ck', old='a > 0', new='a > 1')",
        "longer list",
    ),
    "a statement of one's own": ('op.execute("DELETE FROM jobs")', "cannot be judged"),
    "what nobody knows": ('op.bulk_insert("jobs", [])', "no operation these rules know"),
}


@pytest.mark.parametrize("body", ALLOWED.values(), ids=ALLOWED)
def test_what_adds_is_an_expansion(tmp_path: Path, body: str) -> None:
    assert judged(tmp_path, body) == []


@pytest.mark.parametrize(("body", "why"), BROKEN.values(), ids=BROKEN)
def test_what_takes_away_is_not(tmp_path: Path, body: str, why: str) -> None:
    found = judged(tmp_path, body)
    assert any(why in each for each in found), found
    assert judged(tmp_path, body, 'KIND = "contract"\nSTOPPED_USING = "0.2.0"') == []


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("", "KIND is expand or contract"),
        ('KIND = "both"', "KIND is expand or contract"),
        ('KIND = "contract"', "STOPPED_USING names no release"),
        ('KIND = "contract"\nSTOPPED_USING = "soon"', "STOPPED_USING names no release"),
    ],
)
def test_a_revision_says_its_kind(tmp_path: Path, head: str, why: str) -> None:
    (found,) = judged(tmp_path, "pass", head)
    assert why in found


# -- what is written ------------------------------------------------------------------------------


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> sa.MetaData:
    """A copy of all tables, to change."""
    copy = sa.MetaData(naming_convention=migrations.all_tables().naming_convention)
    for table in migrations.all_tables().sorted_tables:
        table.to_metadata(copy)
    monkeypatch.setattr(migrations, "all_tables", lambda: copy)
    monkeypatch.setattr(migrations, "append_only", lambda: ["jobs"])
    return copy


def written(stopped_using: str | None = None) -> str:
    """The revision for the tables as they are, from those of the newest one."""
    found = generate.text(
        revision="0099",
        down_revision=str(migrations.newest()),
        title="next",
        stopped_using=stopped_using,
    )
    assert found
    return found


def test_the_next_revision_is_written_from_the_difference(
    tables: sa.MetaData, tmp_path: Path
) -> None:
    jobs = tables.tables["jobs"]
    jobs.append_column(sa.Column("colour", sa.String))
    sa.Index("ix_jobs_colour", jobs.c.colour)
    sa.Table("paints", tables, sa.Column("id", sa.String, primary_key=True))
    (states,) = [rule for rule in jobs.constraints if rule.name == "ck_jobs_state"]
    states.sqltext = sa.text("state IN ('DUE', 'DONE', 'DEAD', 'PAUSED')")
    text = written()
    assert 'KIND = "expand"' in text
    for wanted in (
        'op.add_column("jobs", sa.Column("colour", sa.String(), nullable=True))',
        'op.create_table(\n        "paints"',
        'make_append_only(op, "jobs")',
        "with outside_transaction(op):",
        "postgresql_concurrently=True",
        "new=\"state IN ('DUE', 'DONE', 'DEAD', 'PAUSED')\"",
    ):
        assert wanted in text, text
    path = tmp_path / "0099_next.py"
    path.write_text(text, encoding="utf-8")
    assert rules.violations(rules.load(path)) == []


def test_what_is_taken_away_needs_a_contract(tables: sa.MetaData, tmp_path: Path) -> None:
    tables.remove(tables.tables["ledger_seals"])
    path = tmp_path / "0099_next.py"
    path.write_text(written(), encoding="utf-8")
    assert any("drops a table" in each for each in rules.violations(rules.load(path)))
    path.write_text(written("0.2.0"), encoding="utf-8")
    assert 'STOPPED_USING = "0.2.0"' in path.read_text("utf-8")
    assert rules.violations(rules.load(path)) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the revisions, to write in."""
    for path in generate.files():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    style = f'extend = "{ROOT / "pyproject.toml"}"\nsrc = ["{ROOT}"]\n'
    (tmp_path / "ruff.toml").write_text(style, encoding="utf-8")
    monkeypatch.setattr(generate, "VERSIONS", tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.py")}


def test_what_is_refused_leaves_every_file_as_it_was(
    tables: sa.MetaData, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.remove(tables.tables["ledger_seals"])
    before = contents(folder)
    with pytest.raises(generate.Undecided, match="drops a table"):
        generate.write("drop the old chain")
    monkeypatch.setattr("sys.argv", ["generate", "drop the old chain", "--contract", "nonsense"])
    with pytest.raises(SystemExit) as ended:
        generate.main()
    assert ended.value.code == 2
    assert contents(folder) == before
    made = generate.write("drop the old chain", stopped_using="0.2.0")
    assert made
    assert made.name.endswith("_drop_the_old_chain.py")
    assert generate.pending() == [made]


def test_the_check_names_what_is_wrong(folder: Path) -> None:
    assert generate.wrong() == []
    (first,) = folder.glob("0001*.py")
    first.write_text(first.read_text("utf-8") + "# a remark\n", encoding="utf-8")
    assert [f"{first.name}: released, and changed since"] == generate.wrong()
    for path in generate.pending():
        path.write_text(path.read_text("utf-8") + "# a remark\n", encoding="utf-8")
    if generate.pending():
        assert "run `make migration`" in generate.wrong()[-1]
