"""The operator's commands, each in a process of its own where its environment matters."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer.testing

from gateway import migrations
from gateway.cli import app
from gateway.cli.terminal import print_rows
from gateway.db import Database
from tests.support import evidence
from tests.support.tampering import allow_changes


def _run(*words: str, **environ: str) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(app, words, env=environ, catch_exceptions=False)


def test_db_upgrade_makes_the_embedded_default(tmp_path: Path) -> None:
    home = {"GATEWAY_HOME": str(tmp_path / "new" / "home")}
    newest = migrations.newest()
    assert _run("db", "upgrade", **home).output == f"at revision {newest}\n"
    assert _run("db", "upgrade", **home).exit_code == 0
    assert _run("db", "current", **home).output == f"at revision {newest}, newest is {newest}\n"


def test_db_current_ends_1_before_an_upgrade(tmp_path: Path) -> None:
    found = _run("db", "current", GATEWAY_DATABASE_URL=f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    assert found.exit_code == 1
    assert found.output == f"at revision none, newest is {migrations.newest()}\n"


def test_settings_are_shown_without_the_passwords_of_urls() -> None:
    url = "postgresql+asyncpg://gateway:canary@127.0.0.1/gateway"
    found = _run("settings", "--json", GATEWAY_DATABASE_URL=url)
    rows = {row["setting"]: row["value"] for row in json.loads(found.output)}
    assert rows["GATEWAY_DATABASE_URL"] == "postgresql+asyncpg://gateway:***@127.0.0.1/gateway"
    assert rows["GATEWAY_PORT"] == "8000"


def test_an_unknown_setting_is_a_usage_error() -> None:
    found = _run("settings", GATEWAY_HOEM="x")
    assert found.exit_code == 2
    assert "GATEWAY_HOEM" in found.stderr


def test_errors_are_listed_with_both_languages() -> None:
    rows = json.loads(_run("errors", "--json").output)
    sold_out = next(row for row in rows if row["code"] == "SOLD_OUT")
    assert sold_out == {
        "code": "SOLD_OUT",
        "kind": "PartnerRejected",
        "zh": "已兑完",
        "en": "sold out",
    }


def test_stale_docs_end_1_and_are_named(tmp_path: Path) -> None:
    found = _run("docs", "--check", "--root", str(tmp_path))
    assert found.exit_code == 1
    assert "docs/errors.md" in found.stderr
    assert _run("docs", "--root", str(tmp_path)).exit_code == 0
    assert _run("docs", "--check", "--root", str(tmp_path)).exit_code == 0


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_two_processes_may_migrate_at_once(tmp_path: Path, kind: str) -> None:
    """SQLite: one waits for the other's BEGIN IMMEDIATE."""
    databases = [Database(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}") for _ in range(2)]
    await asyncio.gather(*(migrations.upgrade(database) for database in databases))
    found = [await migrations.current(database) for database in databases]
    assert found == [migrations.newest()] * 2
    for database in databases:
        await database.close()


def test_a_backup_is_verified_restored_and_recovered(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    here, there = {"GATEWAY_HOME": str(home)}, {"GATEWAY_HOME": str(elsewhere)}
    copy = tmp_path / "1.backup"
    assert _run("db", "upgrade", **here).exit_code == 0
    asyncio.run(_evidence(f"sqlite+aiosqlite:///{home / 'gateway.db'}"))
    assert _run("backup", str(copy), **here).exit_code == 0
    assert _run("backup", str(copy), **here).exit_code == 1
    assert _run("restore", str(copy), **here).exit_code == 1
    made = _run("restore", str(copy), "--json", **there)
    assert made.exit_code == 0
    assert {"what": "links of the audit chain", "found": "9"} in json.loads(made.output)
    verified = _run("audit", "verify", "--json", **there)
    assert verified.exit_code == 0
    assert {"what": "links", "verified": "9"} in json.loads(verified.output)
    recovered = _run("recover", "--json", **there)
    assert (recovered.exit_code, json.loads(recovered.output)) == (0, [])


def test_audit_verify_ends_1_and_names_the_first_bad_row(tmp_path: Path) -> None:
    home = {"GATEWAY_HOME": str(tmp_path)}
    assert _run("db", "upgrade", **home).exit_code == 0
    url = f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}"
    asyncio.run(_evidence(url, tamper="UPDATE audit_entries SET actor = 'x' WHERE subject = '1'"))
    found = _run("audit", "verify", **home)
    assert found.exit_code == 1
    assert re.search(r"audit_entries aud_\w+: changed", found.stderr)
    (tmp_path / "head").write_text("no head", encoding="utf-8")
    assert _run("audit", "verify", "--head", str(tmp_path / "head"), **home).exit_code == 2


async def _evidence(url: str, *, tamper: str = "") -> None:
    database = Database(url)
    await evidence.sealed(database)
    if tamper:
        async with database.transaction() as tx:
            await allow_changes(tx, "audit_entries")
            await tx.exec_driver_sql(tamper)
    await database.close()


def test_what_is_not_there_is_told_in_both_languages(tmp_path: Path) -> None:
    home = {"GATEWAY_HOME": str(tmp_path)}
    assert _run("db", "upgrade", **home).exit_code == 0
    found = _run("federation", "rollback", "99", **home)
    told = "NOT_FOUND: 没有找到 99 → 请检查编号 · 99 not found → check the id"
    assert (found.exit_code, found.output.split()) == (2, told.split())


def test_a_table_keeps_ids_whole_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    event = "evt_red_01m81bqn9f58v688cp5jx1nr35_2"
    names = ("at", "event", "type", "merchant", "state", "attempts", "answer")
    row = ("2026-11-20T00:08:02", event, "redemption.committed", "M04 M05", "", "12", "500")
    print_rows(names, [row])
    printed = capsys.readouterr().out
    assert event in printed
    assert "answer" in printed


def test_a_taken_port_is_a_usage_error_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = _run("serve", GATEWAY_HOME=str(tmp_path), GATEWAY_PORT=port)
    told = f"127.0.0.1:{port} is in use: GATEWAY_PORT=0 takes a free port"
    assert (found.exit_code, found.output.split()) == (2, told.split())


def test_a_clock_that_is_set_back_says_so(tmp_path: Path) -> None:
    home = {"GATEWAY_HOME": str(tmp_path / "home"), "GATEWAY_MODE": "sandbox"}
    assert _run("db", "upgrade", **home).exit_code == 0
    ahead = _run("clock", "set", "2126-11-21T09:00:00+08:00", **home)
    assert (ahead.exit_code, ahead.stderr) == (0, "")
    back = _run("clock", "set", "2126-11-20T09:00:00+08:00", **home)
    assert back.exit_code == 0
    assert back.stderr.replace("\n", " ").startswith("it goes back, from 2126-11-21T")
    assert "business time is 2126-11-20T09:00:00+08:00" in back.stdout


def test_a_doctor_whose_reader_has_gone_ends_without_a_trace(tmp_path: Path) -> None:
    environ = os.environ | {"GATEWAY_HOME": str(tmp_path / "home")}
    assert _run("db", "upgrade", GATEWAY_HOME=environ["GATEWAY_HOME"]).exit_code == 0
    command = [sys.executable, "-m", "gateway", "doctor"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdout=pipe, stderr=pipe) as doctor:
        assert doctor.stdout is not None
        assert doctor.stderr is not None
        for _ in range(4):  # Then it looks into the database.
            doctor.stdout.readline()
        doctor.stdout.close()
        told = doctor.stderr.read().decode()
    assert "rror" not in told


COMMANDS = [("recover",), ("invariants",), ("audit", "verify"), ("backup", "1.backup")]
NOWHERE = "postgresql+asyncpg://gateway:canary@127.0.0.1:1/gateway"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_mistyped_home_is_told_and_nothing_is_made(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = _run(*words, GATEWAY_HOME=str(tmp_path / "hoem"))
    assert found.exit_code == 2
    assert "gateway.db: no such database" in found.stderr
    assert len([line for line in found.stderr.splitlines() if line.strip()]) == 1
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [*COMMANDS, ("restore", "here")], ids=" ".join)
def test_a_server_that_is_not_reached_is_told_in_a_line(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").touch()
    found = _run(*words, GATEWAY_DATABASE_URL=NOWHERE, GATEWAY_HOME=str(tmp_path))
    assert found.exit_code == (1 if words[0] == "restore" else 3)
    assert found.stderr.strip()
    assert "Traceback" not in found.stderr
    assert "canary" not in found.stderr


def test_a_database_without_a_schema_is_told(tmp_path: Path) -> None:
    (tmp_path / "gateway.db").touch()
    found = _run("invariants", GATEWAY_HOME=str(tmp_path))
    assert found.exit_code == 2
    assert "has no schema" in found.stderr


def test_what_a_path_refuses_is_a_reason(tmp_path: Path) -> None:
    home = {"GATEWAY_HOME": str(tmp_path / "home")}
    assert _run("db", "upgrade", **home).exit_code == 0
    for words in (("restore", str(tmp_path), "--force"), ("backup", "/proc/x")):
        found = _run(*words, **home)
        assert (found.exit_code, "Traceback" in found.stderr) == (1, False)
        assert found.stderr.strip()


def test_since_may_have_a_fraction_of_a_second(tmp_path: Path) -> None:
    home = {"GATEWAY_HOME": str(tmp_path)}
    assert _run("db", "upgrade", **home).exit_code == 0
    for since in ("2026-11-20T10:00:00.123456+08:00", "2026-11-20T10:00:00Z"):
        assert _run("recover", "--since", since, **home).exit_code == 0


def test_a_restore_is_refused_under_a_running_worker_and_not_after_it_was_killed(
    tmp_path: Path,
) -> None:
    home = {"GATEWAY_HOME": str(tmp_path / "home")}
    assert _run("db", "upgrade", **home).exit_code == 0
    copy = str(tmp_path / "1.backup")
    assert _run("backup", copy, **home).exit_code == 0
    worker = subprocess.Popen(
        [sys.executable, "-m", "gateway", "worker"],
        env=os.environ | home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        lock = tmp_path / "home" / "gateway.db.lock"
        until = time.monotonic() + 30
        while not (lock.exists() and lock.stat().st_size) and time.monotonic() < until:
            time.sleep(0.05)
        refused = _run("restore", copy, "--force", **home)
        assert refused.exit_code == 1
        assert f"worker {worker.pid}" in refused.stderr
        worker.kill()
        worker.wait()
        assert _run("restore", copy, "--force", **home).exit_code == 0
    finally:
        worker.kill()
        worker.wait()
