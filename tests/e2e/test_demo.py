"""`gateway demo` as a stranger runs it: a process, from nothing to the last invariant."""

import json
import os
import subprocess
import sys
from pathlib import Path

from gateway.demo.data import demo_day
from partners.simulators.hotel_graph import packages

ROOT = Path(__file__).parents[2]
PATIENCE = 900  # Far more than it needs on an idle machine.


def run(
    tmp_path: Path, *words: str, database_url: str | None = None, node: bool = True
) -> tuple[int, str]:
    """Play the demo, with Node if it is there or without; its exit code and what it printed."""
    environ = {name: value for name, value in os.environ.items() if name[:8] != "GATEWAY_"}
    environ |= {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environ |= {} if node else {packages.FOLDER: str(tmp_path)}
    environ |= {"GATEWAY_DATABASE_URL": database_url} if database_url else {}
    command = [sys.executable, "-m", "gateway", "demo", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_demo_holds_on_a_database_of_each_kind(tmp_path: Path, empty_database_url: str) -> None:
    embedded = empty_database_url.startswith("sqlite")
    url = None if embedded else empty_database_url
    code, printed = run(tmp_path, database_url=url, node=embedded)
    assert code == 0, printed
    assert "✗" not in printed
    assert _runs(node=embedded) in printed
    assert "¥27.90" in printed
    assert list(tmp_path.glob("gateway-demo-*")) == [], "it leaves nothing behind"


def _runs(*, node: bool) -> str:
    """What the demo says of the hotel's subgraph: both play the same checks."""
    try:
        packages.find(packages.folder() if node else Path())
    except packages.Missing:
        return "the hotel's runs on Python"
    return "the hotel's runs on Node"


def test_a_figure_that_differs_ends_1_and_is_told(tmp_path: Path) -> None:
    changed = json.loads(json.dumps(demo_day()))
    changed["fee_obligations"][0]["amount_fen"] += 1
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(changed), encoding="utf-8")
    code, printed = run(tmp_path, "--expect", str(file))
    assert code == 1, printed
    assert printed.count("✗") == 2, "where it is found, and in the verdict"
    assert "red_D01 FEE M04 HUB_FEE 21" in printed
    assert "red_D01 FEE M04 HUB_FEE 20" in printed
