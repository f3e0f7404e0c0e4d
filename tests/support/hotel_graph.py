"""The hotel group's service as a process, on Node or in Python, and an issuer for it."""

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from partners.simulators.hotel_graph import packages
from tests.support.processes import ROOT
from tests.support.serving import bound, serving

PYTHON, NODE = "Python", "Node"
CLIENT, SECRET, CONTROL = "yunqi-graph", "secret-of-the-service", "token-of-the-control"
TOKENS = {"good": "offers", "narrow": "statements"}


def command(language: str) -> tuple[Sequence[str], dict[str, str]]:
    """How to run it, and in what environment; skips the test where it cannot run on Node."""
    if language == PYTHON:
        return [sys.executable, "-m", "partners.simulators.hotel_graph"], {}
    try:
        node = packages.find(packages.folder())
    except packages.Missing as missing:
        pytest.skip(f"no Node: {missing}")
    return node.command, dict(node.environment)


@dataclass
class Hotel:
    """A running service."""

    url: str
    runs: str
    http: httpx2.AsyncClient
    process: subprocess.Popen[bytes]

    async def ask(
        self,
        query: str,
        token: str = "good",  # noqa: S107 - no secret
        headers: dict[str, str] | None = None,
        **variables: Any,
    ) -> httpx2.Response:
        return await self.http.post(
            f"{self.url}/subgraph",
            json={"query": query, "variables": variables},
            headers={"authorization": f"Bearer {token}"} | (headers or {}),
        )

    async def entities(self, selection: str, *given: dict[str, Any]) -> dict[str, Any]:
        query = f"query($of: [_Any!]!) {{ _entities(representations: $of) {{ {selection} }} }}"
        return (await self.ask(query, of=list(given))).json()

    async def control(self, method: str, path: str, token: str = CONTROL, **row: Any) -> Any:
        headers = {"authorization": f"Bearer {token}"}
        answer = await self.http.request(
            method, f"{self.url}/control/{path}", headers=headers, json=row or None
        )
        return answer.json() if answer.status_code == 200 else answer.status_code


@contextlib.asynccontextmanager
async def issuer() -> AsyncIterator[str]:
    """A token issuer that knows TOKENS; its address."""

    async def introspect(request: Request) -> Response:
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if request.headers["authorization"] != f"Basic {basic}":
            return JSONResponse({"error": "invalid_client"}, 401)
        scope = TOKENS.get(str((await request.form())["token"]))
        told = {"active": True, "client_id": "coalition-gateway", "scope": scope, "exp": 1}
        return JSONResponse(told if scope else {"active": False})

    listening, port = bound()
    app = Starlette(routes=[Route("/oauth/introspect", introspect, methods=["POST"])])
    async with serving(app, listening):
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def hotel(language: str, folder: Path, issued_by: str) -> AsyncIterator[Hotel]:
    """The service with its state in a folder, until the block ends."""
    program, environment = command(language)
    config, ports = folder / "config.json", folder / "ports.json"
    settings = {"issuer": issued_by, "client_id": CLIENT, "secret": SECRET}
    config.write_text(json.dumps(settings | {"control_token": CONTROL}), encoding="utf-8")
    ports.unlink(missing_ok=True)
    arguments = ["--config", config, "--state", folder / "state.json", "--ports-file", ports]
    process = subprocess.Popen(  # noqa: ASYNC220 - it lives on
        [*program, *map(str, arguments)], cwd=ROOT, env=dict(os.environ) | environment
    )
    try:
        async with asyncio.timeout(60), httpx2.AsyncClient(timeout=30, trust_env=False) as http:
            while not ports.exists():
                assert process.poll() is None
                await asyncio.sleep(0.02)
            told = json.loads(ports.read_text(encoding="utf-8"))
            yield Hotel(told["url"], told["runs"], http, process)
    finally:
        process.terminate()
        process.wait(30)
