"""A client of a partner's token endpoint, as small as tests need."""

import json
from collections.abc import AsyncGenerator, Callable
from datetime import datetime

import httpx2

from partners import Connection
from partners.conformance.access import token_request


class Bearer(httpx2.Auth):
    """Fetches a token when it has none, and once more when it was refused."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._token: str | None = None

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        for fresh in (False, True):
            if self._token is None or fresh:
                answer = yield token_request(self._connection)
                await answer.aread()
                self._token = json.loads(answer.content).get("access_token")
            request.headers["authorization"] = f"Bearer {self._token}"
            answer = yield request
            if answer.status_code != 401:
                return


def client_for(
    connection: Connection, clock: Callable[[], datetime] | None = None
) -> httpx2.AsyncClient:
    """A client for a connection, telling business time if there is a clock."""

    async def tell(request: httpx2.Request) -> None:
        if clock is not None:
            request.headers["sandbox-now"] = clock().isoformat()

    return httpx2.AsyncClient(
        base_url=connection.base_url,
        auth=Bearer(connection),
        timeout=60,
        trust_env=False,
        event_hooks={"request": [tell]},
    )
