"""The hotel group's own GraphQL service beside the others: on Node if it can, else in Python."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from gateway.demo import sandbox
from gateway.demo.install import Install
from gateway.demo.processes import NotStarted, Process
from partners.simulators.hotel_graph import packages

MERCHANT = "M03"
_WITHIN = 60.0
_PYTHON = ("-m", "partners.simulators.hotel_graph")


def _settings(made: Install) -> dict[str, str]:
    """Where its tokens come from, how it is known there, and who may make it misbehave."""
    document = json.loads(made.simulators_file.read_text(encoding="utf-8"))
    (stand,) = (each for each in document["merchants"] if each["id"] == MERCHANT)
    name = sandbox.OWN_SERVICES[MERCHANT]
    (client,) = (each for each in stand["clients"] if each["client_id"] == name)
    ports = json.loads(made.ports_file.read_text(encoding="utf-8"))
    known = {"issuer": ports["merchants"][MERCHANT], "client_id": name, "secret": client["secret"]}
    return known | {"control_token": ports["control_token"]}


@dataclass
class HotelGraph:
    """The running service.

    `why_python` says what keeps it from Node, if something does.
    """

    made: Install
    url: str = ""
    runs: str = ""
    why_python: str = ""
    process: Process | None = None

    async def start(self) -> None:
        """Start it; on Node, and where that does not work, in Python.

        Raises:
            NotStarted: Neither works.
        """
        try:
            node = packages.find(packages.folder())
            await self._start(node.command[0], node.command[1:], node.environment)
        except (packages.Missing, NotStarted) as error:
            self.stop()
            self.why_python = str(error).partition("\n")[0]
            await self._start(None, _PYTHON, {})

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.end()
            self.process.gone()

    async def fault(self, fault: str, **more: Any) -> None:
        """Have it misbehave; see partners/simulators/hotel_graph."""
        await self._control("POST", "faults", {"fault": fault, **more})

    async def clear(self) -> None:
        """Have it behave."""
        await self._control("DELETE", "faults")

    async def seen(self) -> list[dict[str, Any]]:
        """What it was asked."""
        found: list[dict[str, Any]] = await self._control("GET", "seen")
        return found

    async def _start(
        self, program: str | None, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        config, ports = self.made.sandbox / "hotel.json", self.made.sandbox / "hotel-ports.json"
        sandbox.write_secret(config, _settings(self.made))
        ports.unlink(missing_ok=True)
        files = {"config": config, "ports-file": ports}
        files["state"] = self.made.sandbox / "state" / "hotel-graph.json"
        named = [word for name, path in files.items() for word in (f"--{name}", str(path))]
        self.process = Process(
            "hotel-graph",
            [*arguments, *named],
            self.made.home,
            program=program,
            more_environment=environment,
        )
        try:
            async with asyncio.timeout(_WITHIN):
                while not ports.exists():
                    self.process.alive()
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise NotStarted(f"the hotel's service: not ready within {_WITHIN:.0f} s") from error
        told = json.loads(ports.read_text(encoding="utf-8"))
        self.url, self.runs = told["url"], told["runs"]

    async def _control(self, method: str, path: str, row: object = None) -> Any:
        headers = {"authorization": f"Bearer {_settings(self.made)['control_token']}"}
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
            url = f"{self.url}/control/{path}"
            answer = await http.request(method, url, headers=headers, json=row)
        if answer.status_code != 200:
            raise ValueError(f"{path}: {answer.status_code} {answer.text}")
        return answer.json()
