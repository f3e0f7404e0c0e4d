"""The packages of server.cjs: installed beside the project's own, looked for before it is started.

`python -m partners.simulators.hotel_graph.packages` installs them as package-lock.json says, into
the virtual environment; it is the only step that needs a network, and does without if it must.
`--lock` resolves package.json again.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = "HOTEL_GRAPH_PACKAGES"
"""Names another folder for the packages, by environment."""

_SECONDS = 120.0
_FILES = ("package.json", "package-lock.json")
_NPM = (
    *("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"),
    *("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000"),
)
_DONE, _WHY = "installed.json", "why.txt"


class Missing(Exception):
    """The service cannot run on Node; says why."""


@dataclass(frozen=True, slots=True)
class Node:
    """How to run server.cjs."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


def folder() -> Path:
    """Where the packages are."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else Path(sys.prefix) / "hotel-graph"


def find(where: Path) -> Node:
    """Node, with the packages of this lock.

    Raises:
        Missing: Something is not there.
    """
    node = shutil.which("node")
    if node is None:
        raise Missing("node is not found")
    if not _installed(where):
        why = where / _WHY
        raise Missing(
            why.read_text(encoding="utf-8") if why.exists() else "its packages are not installed"
        )
    modules = {"NODE_PATH": str(where / "node_modules"), "NO_COLOR": "1"}
    return Node((node, str(HERE / "server.cjs")), modules)


def install(where: Path) -> None:
    """Install the packages, unless they are there.

    Raises:
        Missing: They cannot be; `find` says the same until they are.
    """
    if _installed(where):
        return
    where.mkdir(parents=True, exist_ok=True)
    (where / _WHY).unlink(missing_ok=True)
    try:
        _install(where)
    except Missing as missing:
        (where / _WHY).write_text(str(missing), encoding="utf-8")
        raise
    (where / _DONE).write_text(_lock(), encoding="utf-8")


def _install(where: Path) -> None:
    if shutil.which("node") is None:
        raise Missing("node is not found")
    for name in _FILES:
        shutil.copyfile(HERE / name, where / name)
    _npm(where, "ci")


def lock() -> None:
    """Resolve package.json again: versions and hashes, and no address of anybody's."""
    _npm(HERE, "install", "--package-lock-only", "--omit-lockfile-registry-resolved")
    document: dict[str, Any] = json.loads(_lock())
    for package in document["packages"].values():
        package.pop("funding", None)
    text = json.dumps(document, ensure_ascii=False, indent=2)
    (HERE / "package-lock.json").write_text(f"{text}\n", encoding="utf-8")


def _npm(where: Path, *arguments: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm is not found")
    try:
        done = subprocess.run(  # noqa: S603  # Our own arguments.
            [npm, *arguments, *_NPM],
            cwd=where,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Missing(f"npm did not end within {_SECONDS:.0f} s") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        raise Missing(f"npm could not install: {said[0] if said else done.returncode}")


def _installed(where: Path) -> bool:
    done = where / _DONE
    return done.exists() and done.read_text(encoding="utf-8") == _lock()


def _lock() -> str:
    return (HERE / "package-lock.json").read_text(encoding="utf-8")


def main() -> None:
    """Install, or say in one line why not; nothing else depends on it."""
    try:
        if sys.argv[1:] == ["--lock"]:
            lock()
        else:
            install(folder())
    except (Missing, OSError) as missing:
        sys.stderr.write(f"no Node for the hotel's subgraph ({missing}): Python plays it\n")


if __name__ == "__main__":
    main()
