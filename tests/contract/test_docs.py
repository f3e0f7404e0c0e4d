"""The generated pages of docs/ say what the code says."""

from pathlib import Path

import typer

from gateway import docgen
from gateway.cli import app

ROOT = Path(__file__).parents[2]
COMMAND = typer.main.get_command(app)


def test_generated_pages_are_up_to_date() -> None:
    assert docgen.stale(ROOT, COMMAND) == [], "run `make docs`"


def test_a_page_that_differs_is_named_and_can_be_written_again(tmp_path: Path) -> None:
    docgen.write(tmp_path, COMMAND)
    assert docgen.stale(tmp_path, COMMAND) == []
    page = tmp_path / "docs/settings.md"
    page.write_text(page.read_text("utf-8").replace("300", "301"), encoding="utf-8")
    (tmp_path / "docs/cli.md").unlink()
    assert docgen.stale(tmp_path, COMMAND) == ["docs/settings.md", "docs/cli.md"]
