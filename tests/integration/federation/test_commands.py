"""The commands: a router as a process, plans and compositions as text."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from tests.support.subgraphs import SUPERGRAPH

ROOT = Path(__file__).parents[3]
MINE = {"federation", "cli", "errors"}
FOREIGN = {
    "sqlalchemy", "strawberry", "starlette", "uvicorn", "alembic", "authlib", "structlog", "httpx2",
    "prometheus_client", "asyncpg", "aiosqlite", "yaml", "websockets", "jinja2", "cryptography",
}  # fmt: skip


def run(*arguments: str):
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def supergraph(tmp_path: Path) -> Path:
    path = tmp_path / "supergraph.graphql"
    path.write_text(SUPERGRAPH, encoding="utf-8")
    return path


@pytest.fixture
def router(supergraph: Path) -> Iterator[subprocess.Popen[str]]:
    """`gateway router` as a process, told what to do by its environment."""
    env = {**os.environ, "SUPERGRAPH": str(supergraph), "PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "router"], cwd=ROOT, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        yield process
        process.kill()


def address(router: subprocess.Popen[str]) -> str:
    assert router.stderr is not None
    for line in router.stderr:
        if found := re.search(r"serving (http://\S+)", line):
            return found[1]
    raise AssertionError("it did not start")


def fetched(url: str) -> Any:
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - it is our own
        return json.load(answer)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_router_serves_and_ends_on_a_signal(router, number):
    url = address(router)
    assert fetched(f"{url}?query=%7B__typename%7D") == {"data": {"__typename": "Query"}}
    assert fetched(url.replace("/graphql", "/health"))["status"] == "ok"
    resident = Path(f"/proc/{router.pid}/status")
    if resident.exists():
        found = re.search(r"VmRSS:\s+(\d+)", resident.read_text("utf-8"))
        assert found
        assert int(found[1]) < 150 * 1024
    children = Path(f"/proc/{router.pid}/task/{router.pid}/children")
    assert not children.exists() or children.read_text("utf-8") == ""
    router.send_signal(number)
    assert router.wait(20) == 0


@pytest.mark.slow
def test_a_router_loads_nothing_of_the_product():
    script = """
        import sys
        import gateway.cli, gateway.federation.router, gateway.federation.config
        print("\\n".join(sys.modules))
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, text=True, check=True,
        capture_output=True,
    ).stdout.split()  # fmt: skip
    assert {name.split(".")[0] for name in told} & FOREIGN == set()
    assert {name.split(".")[1] for name in told if name.startswith("gateway.")} <= MINE


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--supergraph", "nowhere.graphql", "--port", "0"], 1, "nowhere.graphql"),
        (["--config", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["--trusted-mode", "only"], 2, "manifest"),
        (["--trusted-mode", "some"], 2, "one of off, log, only"),
        (["--forward-header", "host", "--port", "0"], 1, "one connection"),
    ],
)
def test_a_router_that_cannot_start_says_why(supergraph, arguments, code, told):
    if "--supergraph" not in arguments:
        arguments = ["--supergraph", str(supergraph), *arguments]
    found = run("router", *arguments)
    assert (found.exit_code, told in found.stderr) == (code, True), found.stderr


def test_a_plan_is_printed_with_its_counts(supergraph, tmp_path):
    query = tmp_path / "query.graphql"
    query.write_text("query($c: Boolean!) { offers { name reviews @include(if: $c) } }", "utf-8")
    found = run("federation", "plan", str(supergraph), str(query), "--variables", '{"c": true}')
    assert found.exit_code == 0
    assert "2 fetches (offers 1, reviews 1), depth 2" in found.stdout
    assert found.stdout.count("fetches") == 1
    assert found.stdout.startswith("0: query offers")
    found = run("federation", "plan", str(supergraph), str(query), "--variables", '{"c": false}')
    assert "1 fetches (offers 1), depth 1" in found.stdout
    found = run("federation", "plan", str(supergraph), "{ stars who }", "--json")
    told = json.loads(found.stdout)
    assert (told["fetches"], told["depth"], told["services"]) == (2, 1, {"offers": 1, "reviews": 1})


@pytest.mark.parametrize(
    ("query", "code", "told"),
    [
        ("{", 1, "Syntax Error"), ("{ nothing }", 1, "Cannot query field"),
        ("{ stars } query B { stars }", 1, "must be the only"),
        ("query A { stars } query B { stars }", 2, "name one operation"),
        ("{" + "offers { id } " * 200 + "}", 1, "duplicates"), ("nowhere.graphql", 2, "nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_says_why(supergraph, query, code, told):
    found = run("federation", "plan", str(supergraph), query)
    assert (found.exit_code, told in found.stderr) == (code, True), found.stderr


A = """
extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key"])
type Query { items: [Item] }
type Item @key(fields: "id") { id: ID! name: String }
"""
B = """
extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key"])
type Item @key(fields: "id") { id: ID! left: Int }
"""


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_subgraphs_compose_to_a_supergraph(tmp_path, form):
    for name, sdl in (("a", A), ("b", B)):
        (tmp_path / f"{name}.graphql").write_text(sdl, encoding="utf-8")
    listed = [{"name": n, "url": f"http://{n}.test", "sdl": f"{n}.graphql"} for n in "ab"]
    config = tmp_path / f"subgraphs.{form}"
    config.write_text(json.dumps(listed if form == "json" else {"subgraphs": listed}), "utf-8")
    made = tmp_path / "made.graphql"
    assert run("federation", "compose", str(config), "--output", str(made)).exit_code == 0
    printed = run("federation", "compose", str(config))
    assert printed.stdout.strip() == made.read_text("utf-8").strip()
    found = run("federation", "plan", str(made), "{ items { name left } }")
    assert "2 fetches (a 1, b 1), depth 2" in found.stdout


def test_what_does_not_compose_has_codes(tmp_path):
    (tmp_path / "a.graphql").write_text(A, encoding="utf-8")
    (tmp_path / "b.graphql").write_text(B.replace("left", "name: String left"), encoding="utf-8")
    listed = [{"name": n, "url": "", "sdl": f"{n}.graphql"} for n in "ab"]
    config = tmp_path / "subgraphs.yaml"
    config.write_text(json.dumps(listed), encoding="utf-8")
    found = run("federation", "compose", str(config))
    assert (found.exit_code, found.stdout) == (1, "")
    assert "error INVALID_FIELD_SHARING:" in found.stderr
    told = run("federation", "compose", str(config), "--json").stderr.splitlines()
    assert json.loads(told[0])["code"] == "INVALID_FIELD_SHARING"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{}", "a list"), ("[]", "a list"), ("- 1", "name and sdl"),
        ("- {name: a}", "name and sdl"),
        ("- {name: a, sdl: x, more: y}", "there is no more"), ("a: b: c", "mapping values"),
        ("- {name: a, sdl: x}\n- {name: a, sdl: y}", "two subgraphs"), ("- {name: a, sdl: x}", "x"),
    ],
)  # fmt: skip
def test_a_list_of_subgraphs_names_its_fault(tmp_path, written, told):
    config = tmp_path / "subgraphs.yaml"
    config.write_text(written, encoding="utf-8")
    found = run("federation", "compose", str(config))
    assert (found.exit_code, told in found.stderr) == (2, True), found.stderr
