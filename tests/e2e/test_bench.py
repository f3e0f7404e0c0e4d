"""The benchmarks still run, whole, on both databases."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT


@pytest.mark.campaign
async def test_every_benchmark_measures_on_both_databases(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = ("-m", "tests.bench", "--rounds", "1", "--json", str(file))
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT)
    assert await process.wait() == 0
    found = json.loads(file.read_text("utf-8"))
    names = {figure["name"] for figure in found["figures"]}
    on_server = {name for name in names if name.startswith("PostgreSQL, ")}
    no_database = {name for name in names if name.startswith(("matching", "composition"))}
    on_file = names - on_server - no_database
    assert on_file == {name.removeprefix("PostgreSQL, ") for name in on_server}
    assert set(found["statements"]) == {"SQLite", "PostgreSQL"}
    assert found["server"]
    assert found["router"]
