"""Processes as an operator sees them: unready before the end, a worker that answers, doctor."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.support.serving import bound

ROOT = Path(__file__).parents[2]
PATIENCE = 240  # Seconds, on a machine of any speed.


def environment(home: Path, **more: object) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name[:8] != "GATEWAY_"}
    url = f"sqlite+aiosqlite:///{home / 'gateway.db'}"
    given = {"HOME": home, "DATABASE_URL": url, "WORKER_INSIDE": "false"} | more
    named = {f"GATEWAY_{name}": str(value) for name, value in given.items()}
    return kept | {"PYTHONPATH": str(ROOT)} | named


def gateway(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


@contextmanager
def process(*arguments: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "gateway", *arguments]
    made = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    try:
        yield made
    finally:
        made.kill()
        made.wait()


async def _ready(http: httpx2.AsyncClient, made: subprocess.Popen[bytes], status: int) -> str:
    """The body of `/readyz` once it answers with this status."""
    async with asyncio.timeout(PATIENCE):
        while True:
            assert made.poll() is None
            try:
                answer = await http.get("/readyz")
            except httpx2.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == status:
                return answer.text
            await asyncio.sleep(0.02)


async def test_unready_then_gone_and_a_worker_that_answers(tmp_path: Path) -> None:
    listening, port = bound()
    listening.close()
    env = environment(tmp_path, PORT=port, SHUTDOWN_DELAY_SECONDS=30)
    assert gateway("db", "upgrade", env=env).returncode == 0
    base = f"http://127.0.0.1:{port}"
    async with httpx2.AsyncClient(base_url=base, trust_env=False) as http:
        with process("serve", env=env) as made:
            await _ready(http, made, 200)
            made.send_signal(signal.SIGTERM)
            told = json.loads(await _ready(http, made, 503))
            assert told["checks"]["running"] == "stopping"
            async with httpx2.AsyncClient(base_url=base, trust_env=False) as new:
                assert (
                    await new.post("/graphql", json={"query": "{__typename}"})
                ).status_code == 200
            made.send_signal(signal.SIGTERM)  # The second one does not wait.
            assert await asyncio.to_thread(made.wait, PATIENCE) == 0
    env = environment(tmp_path, WORKER_PORT=port)
    async with httpx2.AsyncClient(base_url=base, trust_env=False) as http:
        with process("worker", env=env) as made:
            told = json.loads(await _ready(http, made, 200))
            assert told["checks"]["worker"] == "ok"
            assert "gateway_worker_beat_seconds" in (await http.get("/metrics")).text
            made.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(made.wait, PATIENCE) == 0
    well = gateway("doctor", "--json", env=env)
    rows = json.loads(well.stdout)
    assert {row["check"]: row for row in rows if row["verdict"] != "ok"} == {}
    assert well.returncode == 0
    (tmp_path / "vault.key").chmod(0o644)
    assert gateway("doctor", env=env).returncode == 1
    assert gateway("doctor", env=env | {"GATEWAY_PROT": "1"}).returncode == 2
