"""House rules that no linter knows, read from the syntax trees."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EDGES = {"__main__", "app", "cli", "demo", "worker", "operations"}

# Amounts are whole numbers here, and rates are pairs of them.
EXACT = {
    "compliance", "ledger", "points", "promotions", "reconciliation", "redemption", "settlement",
    "values", "catalog/pricing",
}  # fmt: skip

# Edges read the clock; an id carries the time it was made; OAuth lives by system time.
CLOCK_READERS = EDGES | {"db", "values", "oauth", "operations", "telemetry"}

# Who opens transactions besides the edges: what calls partners between two of them, what
# answers OAuth requests, and the API, one a mutation field.
TRANSACTION_OWNERS = EDGES | {
    "api", "catalog/feeds", "catalog/publishing", "catalog/quotes", "db", "events/desk",
    "events/watching", "events/webhooks", "measured", "migrations", "oauth", "operations",
    "reconciliation/service", "redemption", "runtime", "subgraphs/publishing",
}  # fmt: skip

Tree = tuple[str, ast.Module]


def _trees(*folders: str) -> Iterator[Tree]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


GATEWAY = list(_trees("gateway"))
PRODUCT = GATEWAY + list(_trees("partners"))
EVERYTHING = PRODUCT + list(_trees("tests"))


def _within(path: str, places: set[str]) -> bool:
    """Whether a file of gateway/ is one of `places`, or lies in one of them."""
    inside = path.removeprefix("gateway/").removesuffix(".py")
    return any(inside == place or inside.startswith(f"{place}/") for place in places)


def _places(trees: list[Tree], rule: type[ast.AST]) -> Iterator[tuple[str, str, ast.AST]]:
    for path, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, rule):
                yield path, f"{path}:{getattr(node, 'lineno', 0)}", node


def test_money_knows_no_floating_point() -> None:
    found = [
        place
        for path, place, node in _places(GATEWAY, ast.expr)
        if _within(path, EXACT)
        and (
            (isinstance(node, ast.Constant) and isinstance(node.value, float | complex))
            or (isinstance(node, ast.Name) and node.id in {"float", "Decimal"})
            or (isinstance(node, ast.Attribute) and node.attr in {"Float", "Numeric", "REAL"})
        )
    ]
    assert found == []


def test_money_is_not_divided_into_fractions() -> None:
    found = [
        place
        for path, place, node in _places(GATEWAY, ast.BinOp)
        if _within(path, EXACT) and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    ]
    assert found == []


def test_features_read_no_clock() -> None:
    clock = re.compile(
        r"\b(datetime\.(now|utcnow|today)|date\.today|time\.time(_ns)?"
        r"|func\.(now|current_\w+|localtime\w*))\("
    )
    found = [
        place
        for path, place, node in _places(GATEWAY, ast.Call)
        if not _within(path, CLOCK_READERS) and clock.match(ast.unparse(node).removeprefix("sa."))
    ]
    assert found == []


def test_no_rule_lets_the_database_tell_the_time() -> None:
    words = re.compile(r"(?i)\b(current_timestamp|datetime\('now'|now\(\))")
    found = [
        place
        for path, place, node in _places(GATEWAY, ast.Constant)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and words.search(node.value)
        and not _is_docstring(path, node)
    ]
    assert found == []


def test_a_rooms_tables_are_its_own() -> None:
    found = []
    for path, place, node in _places(GATEWAY, ast.stmt):
        room = path.removeprefix("gateway/").split("/")[0]
        for module in _imported(node):
            parts = module.split(".")
            if parts[0] == "gateway" and "store" in parts[2:3] and parts[1] != room:
                found.append(f"{place} imports {module}")
    assert found == []


def test_transactions_are_opened_where_they_are_owned() -> None:
    opening, ending = {"transaction", "reading"}, {"begin", "commit", "rollback"}
    found = []
    for path, place, node in _places(GATEWAY, ast.Call):
        assert isinstance(node, ast.Call)
        *holder, verb = ast.unparse(node.func).split(".")
        if verb in opening and holder and not _within(path, TRANSACTION_OWNERS):
            found.append(place)
        on_database = holder[-1:] in (["tx"], ["connection"], ["engine"], ["database"])
        if verb in ending and on_database and not _within(path, {"db", "migrations"}):
            found.append(place)
    assert found == []


def test_one_module_knows_which_database_it_is() -> None:
    found = []
    for path, place, node in _places(GATEWAY, ast.AST):
        # A backup is the one thing that every database does in its own way.
        if _within(path, {"db", "migrations", "operations/backup"}):
            continue
        branch = isinstance(node, ast.Attribute) and node.attr == "dialect"
        word = isinstance(node, ast.Constant) and node.value in {"sqlite", "postgresql"}
        loads = any(name.startswith("sqlalchemy.dialects") for name in _imported(node))
        if branch or word or loads:
            found.append(place)
    assert found == []


def test_functions_fit_on_a_screen() -> None:
    found = [
        f"{place} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for _, place, node in _places(EVERYTHING, ast.AST)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not place.startswith("gateway/migrations/versions/")
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 60
    ]
    assert found == []


def test_files_can_be_read_at_one_sitting() -> None:
    counts = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path, _ in EVERYTHING}
    generated = "gateway/migrations/versions/"
    found = {path: n for path, n in counts.items() if n > 600 and not path.startswith(generated)}
    assert found == {}


def test_every_module_says_what_it_is() -> None:
    found = [path for path, tree in EVERYTHING if tree.body and ast.get_docstring(tree) is None]
    assert found == []


def test_files_name_no_machine_and_no_registry() -> None:
    paths = r"/(work|root|farm|opt|home/[a-z]\w*|Users/[A-Za-z]\w*)/"
    hosts = r"py" r"pi\.org|python" r"hosted|npm" r"js\.org|debian\.org|ubuntu\.com|crates\.io"
    words = re.compile(rf"(?<![\w.*]){paths}|{hosts}")
    found = []
    for path in _files():
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if words.search(line) and path != Path(__file__):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == []


def test_the_lock_pins_what_the_project_asks_for_and_names_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    assert "//" not in lock
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
    ]
    pinned = {line.split()[0] for line in lock.splitlines() if line[:1].isalnum()}
    assert {re.sub(r"\[.*?\]|;.*", "", name) for name in asked} - pinned == set()
    assert lock.count("\\\n    --hash=sha256:") >= len(pinned)


def test_decisions_name_the_test_that_holds_them() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [path.name[:4] for path in decisions] == [
        f"{n:04}" for n in range(1, len(decisions) + 1)
    ]
    for path in decisions:
        named = re.findall(r"`(tests/[\w/.]+)`", path.read_text("utf-8"))
        assert named, path.name
        assert [name for name in named if not (ROOT / name).exists()] == [], path.name


def test_the_readme_maps_every_room() -> None:
    table = (ROOT / "README.md").read_text("utf-8").partition("| room |")[2]
    mapped = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", table, re.MULTILINE))))
    rooms = {path.stem for path in (ROOT / "gateway").iterdir() if path.name[0] not in "._"}
    assert mapped == rooms


@pytest.mark.parametrize("page", ["README.md", "docs"])
def test_links_lead_somewhere(page: str) -> None:
    target = ROOT / page
    for path in sorted(target.rglob("*.md")) if target.is_dir() else [target]:
        for link in re.findall(r"\]\(([^)#\s]+)\)", path.read_text("utf-8")):
            assert "://" in link or (path.parent / link).exists(), f"{path.name}: {link}"


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def _is_docstring(path: str, node: ast.AST) -> bool:
    tree = next(tree for name, tree in GATEWAY if name == path)
    return any(
        isinstance(holder, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and holder.body
        and isinstance(holder.body[0], ast.Expr)
        and holder.body[0].value is node
        for holder in ast.walk(tree)
    )


def _files() -> Iterator[Path]:
    """Files of the repository: what a build, a run or an editor leaves is no part of it."""
    for entry in sorted(ROOT.iterdir()):
        if entry.name.startswith(".") and entry.name not in {".ci", ".gitignore"}:
            continue
        for path in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
