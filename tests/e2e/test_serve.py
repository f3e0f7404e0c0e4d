"""`gateway serve` on the embedded default: first start, its people, and a second start."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import pytest

from gateway.db import SandboxOnly
from gateway.demo import tokens
from gateway.demo.clients import MemberApp, Merchant, Wire
from gateway.errors import NotFound
from gateway.oauth import jose
from gateway.settings import Settings

ROOT = Path(__file__).parents[2]


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name[:8] != "GATEWAY_"}
    return kept | {"PYTHONPATH": str(ROOT), "GATEWAY_HOME": str(home), "GATEWAY_PORT": "0"}


@contextlib.contextmanager
def started(home: Path, word: str) -> Iterator[IO[str]]:
    """A command that runs until it is told to end, and then ends well: what it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", word],
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    try:
        yield process.stdout
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        process.stdout.close()


@contextlib.contextmanager
def served(home: Path) -> Iterator[tuple[str, str]]:
    """A running `gateway serve`: its base URL and the password of its people."""
    with started(home, "serve") as output:
        printed = "".join(output.readline() for _ in range(6))
        url = re.search(r"API\s+(\S+)/graphql", printed)
        password = re.search(r"password\s+(\S+)", printed)
        assert url, printed
        assert password, printed
        yield url[1], password[1]


async def look(url: str, password: str) -> dict[str, object]:
    """What a member sees of one offer, once the partners' feeds are read."""
    wire = Wire.open(url)
    member = MemberApp(wire, login="mbr_demo_01", password=password)
    text = '{ offer(id: "XH-01") { nameZh live { left } prices { points programme { id } } } }'
    try:
        while (offer := (await member.query(text))["offer"]) is None:
            await asyncio.sleep(0.05)
    finally:
        await wire.aclose()
    found: dict[str, object] = offer
    return found


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def certified(home: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "certify-partner", code, "--json"]
    return subprocess.run(
        command, cwd=ROOT, env=environment(home), capture_output=True, text=True, check=False
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


async def test_it_starts_seeded_and_starts_again_on_its_folder(home: Path) -> None:
    with served(home) as (url, password):
        first = await look(url, password)
    assert first["nameZh"] == "2D电影票"
    assert [mode(home), mode(home / "partners.json")] == [0o700, 0o600]
    with served(home) as (url, again):
        assert again == password
        assert (await look(url, password))["prices"] == first["prices"]


async def test_a_merchant_gets_in_with_the_key_of_its_own_folder(home: Path) -> None:
    with served(home) as (url, _):
        key = json.loads((home / "sandbox/keys/M05.json").read_text())
        wire = Wire.open(url)
        partner = await Merchant(wire, merchant_id="M05", key=key).query(
            "{ partner { merchant { id } } }"
        )
        await wire.aclose()
        assert partner["partner"]["merchant"]["id"] == "M05"
        done = await asyncio.to_thread(certified, home, "xinghui")
        report = json.loads(done.stdout)
        assert done.returncode == 0, report["headline"]
        assert report["ready"]


async def test_everybody_in_the_sandbox_can_have_a_token(home: Path) -> None:
    nobody = Settings(home=home, issuer="http://127.0.0.1:1")
    with pytest.raises(ValueError, match="make serve"):
        await tokens.token(nobody, "M05")
    with served(home) as (url, _):
        here = Settings(home=home, issuer=url)
        own = home / "own.json"
        own.write_text((home / "sandbox/keys/M05.json").read_text())
        roles = {"mbr_lina": "member", "usr_operator": "operator", "M05": "partner"}
        for who, role in roles.items():
            given = own if who == "M05" else None
            token = await tokens.token(here, who, key=given)
            assert (await _claims(url, token))["role"] == role
        with pytest.raises(NotFound):
            await tokens.token(here, "nobody")
        with pytest.raises(SandboxOnly):
            await tokens.token(Settings(home=home, mode="live"), "M05")
    with pytest.raises(ValueError, match=f"no gateway at {url}"):
        await tokens.token(here, "M05")


async def _claims(url: str, token: str) -> dict[str, Any]:
    wire = Wire.open(url)
    try:
        keys = (await wire.http.get(f"{url}/oauth/jwks")).json()["keys"]
    finally:
        await wire.aclose()
    (signed_by,) = [key for key in keys if key["kid"] == jose.header(token)["kid"]]
    return jose.decode(token, jose.load(signed_by))[1]


def command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command beside the server, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )


@contextlib.contextmanager
def stand_ins(home: Path) -> Iterator[dict[str, Any]]:
    """`gateway simulators` beside no server, and what it says once it listens."""
    with started(home, "simulators") as output:
        yield json.loads(output.readline())


def test_the_recovery_drill_of_the_book(home: Path) -> None:
    """Backup, disaster, restore; the stand-ins run on their own, and recovery reaches them."""
    with served(home):
        assert command(home, "backup", str(home / "of.backup")).returncode == 0
    ports = json.loads((home / "sandbox/ports.json").read_text())["merchants"]
    partners = (home / "partners.json").read_text()
    assert command(home, "restore", str(home / "of.backup"), "--force").returncode == 0
    with stand_ins(home) as listening:
        assert listening["merchants"] == ports
        done = command(home, "recover")
        assert done.returncode == 0, done.stdout + done.stderr
    assert (home / "partners.json").read_text() == partners
    taken = urlsplit(ports["M05"])
    with socket.create_server((str(taken.hostname), int(taken.port or 0))), stand_ins(home) as now:
        assert now["merchants"]["M05"] != ports["M05"]
        assert command(home, "recover").returncode == 0


def test_the_stand_ins_end_with_a_server_that_is_killed(home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve"],
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout
    process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    at = urlsplit(json.loads((home / "sandbox/ports.json").read_text())["control"])
    while True:
        try:
            socket.create_connection((str(at.hostname), int(at.port or 0))).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
