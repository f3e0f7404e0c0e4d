"""`gateway serve` and `gateway worker` say in one line why they cannot start, and write nothing."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from gateway import migrations
from gateway.db import Database, system_now
from gateway.oauth import service as oauth
from gateway.oauth.keys import Vault
from gateway.operations import checks, doctor, starting
from gateway.operations.health import Health
from gateway.runtime import Runtime
from gateway.settings import Settings

ROOT = Path(__file__).parents[2]


def environment(**given: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name[:8] != "GATEWAY_"}
    return kept | {"PYTHONPATH": str(ROOT)} | {f"GATEWAY_{k.upper()}": v for k, v in given.items()}


def ended(word: str, **given: str) -> tuple[int, str]:
    """How a command ends that is expected to end by itself, and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", word],
        env=environment(**given),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


@contextlib.contextmanager
def served(**given: str) -> Iterator[list[str]]:
    """A running `gateway serve` on a database of its own, and its first lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve"],
        env=environment(**given),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    try:
        yield [process.stdout.readline().strip() for _ in range(2)]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        process.stdout.close()


@pytest.fixture
async def used(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a gateway that has been started once: its database has sealed keys."""
    settings = Settings(home=tmp_path / "home", database_url=database_url)
    await sealed(settings)
    return settings


async def sealed(settings: Settings) -> None:
    database = Database(settings.url)
    await migrations.upgrade(database)
    async with database.transaction() as tx:
        vault = Vault.open(settings.vault_key_path)
        await oauth.bootstrap(tx, vault, settings=settings, now=system_now())
    await database.close()


def files(folder: Path) -> list[str]:
    """What lies there, but for the logs and the lock beside the database's file."""
    return sorted(each.name for each in folder.iterdir() if "gateway.db" not in each.name)


@pytest.mark.parametrize("word", ["serve", "worker"])
def test_a_database_without_tables_says_what_to_run(
    empty_database_url: str, tmp_path: Path, word: str
) -> None:
    code, said = ended(word, database_url=empty_database_url, home=str(tmp_path / "home"))
    assert code == 1, said
    assert said.strip().endswith("run `gateway db upgrade`")
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("word", ["serve", "worker"])
def test_a_database_that_is_away_is_one_line(tmp_path: Path, word: str) -> None:
    url = "postgresql+asyncpg://u:canary-80@127.0.0.1:1/x"
    code, said = ended(word, database_url=url, home=str(tmp_path / "home"))
    assert code == 1, said
    (line,) = said.strip().splitlines()
    assert line.startswith("the database does not answer (ConnectionRefusedError)")
    assert "canary-80" not in line


async def test_a_lost_vault_key_refuses_the_start_and_makes_no_other(used: Settings) -> None:
    await starting.check(used)
    kept = used.vault_key_path.read_text()
    used.vault_key_path.unlink()
    with pytest.raises(starting.CannotStart, match="is missing: bring back the vault key"):
        await starting.check(used)
    with pytest.raises(oauth.WrongVault):
        await Runtime.open(used)
    assert not used.vault_key_path.exists()
    Vault.open(used.vault_key_path)
    with pytest.raises(starting.CannotStart, match="is another database's"):
        await starting.check(used)
    used.vault_key_path.write_text(kept)
    await starting.check(used)


async def test_the_embedded_start_is_refused_before_it_writes(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    await sealed(settings)
    settings.vault_key_path.unlink()
    before = files(tmp_path)
    code, said = ended("serve", home=str(tmp_path), port="0")
    assert code == 1, said
    (line,) = said.strip().splitlines()
    assert "bring back the vault key" in line
    assert files(tmp_path) == before


async def test_the_doctor_does_not_promise_another_key(used: Settings) -> None:
    async def vault(settings: Settings) -> checks.Finding:
        found = [each async for each in doctor.examine(settings, books=False)]
        return next(each for each in found if each.check == "vault key")

    used.vault_key_path.unlink()
    assert "before any start" in (await vault(used)).next_en
    away = replace(used, database_url="postgresql+asyncpg://u@127.0.0.1:1/x")
    assert "used database: bring it back" in (await vault(away)).next_en
    new = replace(used, database_url="", home=used.home / "new")
    assert "the first start makes it" in (await vault(new)).next_en


async def test_a_key_sealed_by_another_vault_is_unready(used: Settings, tmp_path: Path) -> None:
    database = Database(used.url)
    health = Health(database, signing=True, working=False, kept=0)
    health.vault = Vault.open(used.vault_key_path)
    assert all(each.ok for each in await health.checks())
    health.vault = Vault.open(tmp_path / "other.key")
    keys = next(each for each in await health.checks() if each.name == "keys")
    assert (keys.ok, keys.why) == (False, "sealed by another vault key")
    await database.close()


async def test_it_says_where_it_listens(used: Settings) -> None:
    home, url = str(used.home), used.database_url
    with served(home=home, database_url=url, port="0", worker_inside="false") as lines:
        place = lines[0].split()[1]
        assert lines == [f"listening {place}", f"API       http://{place}/graphql"]
        async with httpx2.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"http://{place}/livez")).status_code == 200


async def test_an_issuer_in_clear_and_a_broken_partners_file_are_named(used: Settings) -> None:
    with pytest.raises(starting.CannotStart, match="GATEWAY_ISSUER: an https URL"):
        await starting.check(replace(used, issuer="http://gateway.example"))
    used.partners_path.write_text('[{"merchant": "M05", "adapter": "canary"}]')
    with pytest.raises(starting.CannotStart, match=r"the partners file: .*M05"):
        await starting.check(used)
    used.partners_path.write_text("[")
    with pytest.raises(starting.CannotStart, match="the partners file"):
        await starting.check(used)
