"""A merchant's endpoint for our webhooks: real HTTP, signatures checked by the library."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.support.serving import bound, serving


@dataclass
class Receiver:
    """What has come, in order. `answers` says what a call gets: a status by event and try."""

    url: str
    secrets: list[str] = field(default_factory=list)
    answers: Callable[[dict[str, Any], int], int] = lambda event, attempt: 204
    calls: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0
    inside: int = 0
    most_inside: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: float = 0.0
    content: str = ""
    more: dict[str, str] = field(default_factory=dict)  # headers of every answer
    gate: asyncio.Event | None = None
    _inside: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _tries: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    async def answer(self, request: Request) -> Response:
        try:
            raw = await request.body()
        except ClientDisconnect:  # It was killed while it sent.
            return Response(status_code=400)
        for secret in self.secrets:
            try:
                Webhook(secret).verify(raw, dict(request.headers), json_parse=False)
                break
            except WebhookVerificationError:
                continue
        else:
            self.refused += 1
            return PlainTextResponse("wrong signature", 401)
        event = json.loads(raw)
        assert request.headers["webhook-id"] == event["id"]
        self.calls.append(event)
        self.headers.append(dict(request.headers))
        self._inside[event["object"]] += 1
        inside = self._inside[event["object"]]
        self.most_inside[event["object"]] = max(self.most_inside[event["object"]], inside)
        try:
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(self.seconds)
        finally:
            self._inside[event["object"]] -= 1
        self._tries[event["id"]] += 1
        status = self.answers(event, self._tries[event["id"]])
        if 200 <= status < 300:
            self.taken.append(event)
        return PlainTextResponse(self.content, status, headers=self.more)

    def order(self, object_id: str) -> list[int]:
        """Sequences taken of one object, in order of arrival."""
        return [event["sequence"] for event in self.taken if event["object"] == object_id]


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """An endpoint on a free loopback port."""
    listening, port = bound()
    made = Receiver(f"http://127.0.0.1:{port}/hook")
    app = Starlette(routes=[Route("/hook", made.answer, methods=["POST"])])
    async with serving(app, listening):
        yield made
