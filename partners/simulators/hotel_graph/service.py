"""The hotel group's service on Strawberry, over HTTP: tokens, faults, what came."""

import asyncio
import json
import secrets
from collections.abc import Mapping

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from partners.simulators.hotel_graph.desk import Desk
from partners.simulators.hotel_graph.schema import SCHEMA

LONGEST = 1 << 20  # bytes of a request
SCOPE = "offers"
_ISSUER_SECONDS = 5.0


class Refused(Exception):
    """A request that is not answered: a status, and an error's code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.answer = JSONResponse({"error": code}, status_code=status)


class Service:
    """The service.

    Args:
        config: `issuer`, `client_id` and `secret` there, `control_token`.
    """

    def __init__(self, config: Mapping[str, str], desk: Desk, http: httpx2.AsyncClient) -> None:
        self._config = config
        self._desk = desk
        self._http = http

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/subgraph", self.subgraph, methods=["POST"]),
                Route("/control/faults", self.faults, methods=["POST", "DELETE"]),
                Route("/control/seen", self.seen),
            ],
            exception_handlers={Refused: _refusal},
        )

    async def subgraph(self, request: Request) -> Response:
        """One GraphQL request of somebody whose token is good."""
        text = await _body(request)
        client = await self._holder(request.headers.get("authorization", ""))
        headers = {
            name: value for name, value in request.headers.items() if name != "authorization"
        }
        self._desk.note({"client": client, "headers": headers, "body": text})
        if (failed := await self._failure(request)) is not None:
            return failed
        try:
            asked = json.loads(text)
        except ValueError:
            return JSONResponse({"errors": [{"message": "not JSON"}]}, 400)
        asked = asked if isinstance(asked, dict) else {}
        found = await SCHEMA.execute(
            str(asked.get("query", "")),
            variable_values=asked.get("variables"),
            operation_name=asked.get("operationName"),
            context_value=self._desk,
        )
        errors = {"errors": [each.formatted for each in found.errors]} if found.errors else {}
        return JSONResponse(errors | {"data": found.data})

    async def faults(self, request: Request) -> Response:
        """Plant a fault, or take all away."""
        self._require_control(request)
        try:
            if request.method == "POST":
                self._desk.plant(json.loads(await _body(request)))
            else:
                self._desk.clear()
        except (ValueError, AttributeError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({})

    async def seen(self, request: Request) -> Response:
        """The last calls: whose, with what headers and body."""
        self._require_control(request)
        return JSONResponse(self._desk.seen)

    def _require_control(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        wanted = f"Bearer {self._config['control_token']}"
        if not secrets.compare_digest(given.encode(), wanted.encode()):
            raise Refused(401, "invalid_token")

    async def _holder(self, authorization: str) -> str:
        """Whose token it is, asked of the group's own issuer (RFC 7662)."""
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Refused(401, "invalid_token")
        try:
            answer = await self._http.post(
                f"{self._config['issuer']}/oauth/introspect",
                data={"token": token},
                auth=(self._config["client_id"], self._config["secret"]),
                timeout=_ISSUER_SECONDS,
            )
        except httpx2.TransportError as error:
            raise Refused(503, "temporarily_unavailable") from error
        if answer.status_code != 200:
            raise Refused(503, "temporarily_unavailable")
        found = answer.json()
        if not found["active"]:
            raise Refused(401, "invalid_token")
        if SCOPE not in found["scope"].split():
            raise Refused(403, "insufficient_scope")
        return str(found["client_id"])

    async def _failure(self, request: Request) -> Response | None:
        """What a planted fault makes of this call; a slow one is answered late."""
        if self._desk.take("connection_refused"):
            request.state.transport.abort()
            return Response(status_code=500)
        if slow := self._desk.take("latency"):
            await asyncio.sleep(slow["value"])
        if self._desk.take("error_5xx"):
            return JSONResponse({"error": "server_error"}, 500)
        if self._desk.take("malformed_body"):
            return Response(b'{"data": {', media_type="application/json")
        return None


async def _body(request: Request) -> str:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > LONGEST:
            raise Refused(413, "too_long")
    return parts.decode(errors="replace")


async def _refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.answer
