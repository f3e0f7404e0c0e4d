"""The packages of the hotel group's service on Node: locked without an address, or else missed."""

import json
import re
from pathlib import Path

import pytest

from partners.simulators.hotel_graph import packages

HERE = packages.HERE


def test_the_lock_names_versions_and_hashes_and_nobodys_address() -> None:
    text = (HERE / "package-lock.json").read_text(encoding="utf-8")
    assert "resolved" not in text
    assert "http" not in text
    wanted = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads(text)["packages"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    for name, package in locked.items():
        if name:
            assert re.fullmatch(r"sha512-[\w+/=]+", package["integrity"])
    for name, version in wanted.items():
        assert locked[f"node_modules/{name}"]["version"] == version


def test_why_there_is_no_node_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(packages.Missing, match="node is not found"):
        packages.install(tmp_path / "modules")
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2; exit 1\n")
        (tmp_path / name).chmod(0o755)
        if name == "node":
            with pytest.raises(packages.Missing, match="npm is not found"):
                packages.install(tmp_path / "modules")
    with pytest.raises(packages.Missing, match="npm error code ENOTFOUND"):
        packages.install(tmp_path / "modules")
    with pytest.raises(packages.Missing, match="npm error code ENOTFOUND"):
        packages.find(tmp_path / "modules")
    with pytest.raises(packages.Missing, match="its packages are not installed"):
        packages.find(tmp_path / "others")
    (tmp_path / "npm").write_text("#!/bin/sh\nexit 0\n")
    packages.install(tmp_path / "modules")
    assert packages.find(tmp_path / "modules").command[0] == str(tmp_path / "node")
