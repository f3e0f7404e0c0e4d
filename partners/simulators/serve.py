"""Servers: one per merchant on its own port, one control port, in one process."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from partners.simulators import backoffice, config, surface, terms, webhooks
from partners.simulators.tokens import Tokens
from partners.simulators.words import Declined

LOOPBACK = "127.0.0.1"  # Nobody else may make merchants misbehave.
KEEP_ALIVE_SECONDS = 75  # Longer than any client keeps a connection, so that none is cut in use.


class Protocol(H11Protocol):
    """HTTP whose transport a handler can reach, to drop the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # As uvicorn's.
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class Server(uvicorn.Server):
    """A server among others: signals belong to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Door:
    """A listening socket that can be shut and opened again on the same port."""

    def __init__(self, host: str, port: int) -> None:
        self._socket: socket.socket | None = _listen(host, port)
        self.host, self.port = host, self._socket.getsockname()[1]
        self.app: Starlette | None = None
        self._server: Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen and serve; nothing if it does."""
        if self._task is not None:
            return
        assert self.app is not None
        listening = self._socket or _listen(self.host, self.port)
        self._socket = None
        settings = uvicorn.Config(
            self.app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
        )
        self._server = Server(settings)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]))
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)

    async def shut(self) -> None:
        """Close the socket and every connection: from now on, connection refused."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
        self._server = self._task = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Stand:
    """One running merchant: its shop, its tokens, its door."""

    def __init__(self, merchant: config.Merchant, host: str, folder: Path) -> None:
        vertical = surface.load(merchant.kind)
        self.shop = vertical.shop(
            merchant, folder, artefacts=vertical.artefacts, event_body=vertical.event
        )
        self.door = Door(host, merchant.port)
        self.url = f"http://{host}:{self.door.port}"
        self.tokens = Tokens(self.shop.store, merchant, issuer=merchant.issuer or self.url)
        self.door.app = surface.application(self.shop, self.tokens, vertical)


class Simulators:
    """All merchants of a configuration.

    Args:
        folder: Where each merchant keeps its SQLite file.
        only: Ids of the merchants to run; None for all.
    """

    def __init__(
        self, settings: config.Config, folder: Path, *, only: set[str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self.control_token = settings.control_token or secrets.token_urlsafe(16)
        self.stands = {
            merchant.id: Stand(merchant, settings.host, folder)
            for merchant in settings.merchants
            if only is None or merchant.id in only
        }
        self._control = Door(LOOPBACK, settings.control_port)
        self._control.app = control(self.stands, self.control_token)
        self._deliveries: list[asyncio.Task[None]] = []
        self._http: httpx2.AsyncClient | None = None

    def ports(self) -> dict[str, Any]:
        """Where everything listens, as the ports file says it."""
        return {
            "control": f"http://{self._control.host}:{self._control.port}",
            "control_token": self.control_token,
            "merchants": {name: stand.url for name, stand in self.stands.items()},
        }

    async def start(self) -> None:
        self._http = httpx2.AsyncClient(timeout=10, trust_env=False)
        for stand in self.stands.values():
            await stand.door.open()
            self._deliveries.append(asyncio.create_task(webhooks.deliver(stand.shop, self._http)))
            self._deliveries.append(asyncio.create_task(stand.shop.work()))
        await self._control.open()

    async def stop(self) -> None:
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        await asyncio.gather(
            self._control.shut(), *(stand.door.shut() for stand in self.stands.values())
        )
        if self._http is not None:
            await self._http.aclose()
        for stand in self.stands.values():
            stand.shop.store.close()


@contextlib.asynccontextmanager
async def running(
    settings: config.Config, folder: Path, *, only: set[str] | None = None
) -> AsyncIterator[Simulators]:
    """Simulators on the running event loop, for as long as the context lasts."""
    simulators = Simulators(settings, folder, only=only)
    await simulators.start()
    try:
        yield simulators
    finally:
        await simulators.stop()


def control(stands: Mapping[str, Stand], token: str) -> Starlette:
    """The control port: what tests and the demo make merchants do. Asks for `token`."""
    routes: list[Route] = []

    def add(path: str, method: str, act: Callable[[Stand, Any], Any]) -> None:
        async def endpoint(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
                return JSONResponse({"error": "invalid_token"}, status_code=401)
            raw = await request.body()
            document = await request.json() if raw else {}
            name = str(request.path_params.get("id") or document.get("merchant", ""))
            chosen = [stands[name]] if name in stands else list(stands.values())
            if name and name not in stands:
                return JSONResponse({"error": f"no merchant {name}"}, status_code=404)
            try:
                answers = [act(stand, document) for stand in chosen]
                answers = [await a if asyncio.iscoroutine(a) else a for a in answers]
            except Declined as no:
                return JSONResponse({"error": no.code, **no.context}, status_code=409)
            except (KeyError, TypeError, ValueError) as error:
                return JSONResponse({"error": repr(error)}, status_code=400)
            return JSONResponse(answers[0] if len(answers) == 1 else answers)

        routes.append(Route(path, endpoint, methods=[method]))

    add("/faults", "POST", lambda stand, row: stand.shop.faults.add(row))
    add("/faults", "DELETE", lambda stand, row: stand.shop.faults.clear())
    add("/merchants/{id}/stop", "POST", lambda stand, row: stand.door.shut())
    add("/merchants/{id}/start", "POST", lambda stand, row: stand.door.open())
    add("/merchants/{id}/events", "POST", _event)
    add("/merchants/{id}/acts", "POST", lambda stand, row: stand.shop.act(row))
    add("/merchants/{id}/offers", "POST", _offer)
    add("/merchants/{id}/bookings", "GET", _dump)
    add("/merchants/{id}/tokens/expire", "POST", lambda stand, row: stand.tokens.expire_all())
    add("/health", "GET", lambda stand, row: {"merchant": stand.shop.id, "url": stand.url})
    return Starlette(routes=routes)


def _event(stand: Stand, row: Mapping[str, Any]) -> dict[str, Any]:
    """Something the merchant does by itself: fulfil, no_show, cancel, decide."""
    ref = row.get("gateway_ref") or row["booking_ref"]
    now = datetime.fromisoformat(row["now"]).astimezone(UTC) if "now" in row else stand.shop.latest
    now = now or datetime.now(UTC)
    shop, kind, notify = stand.shop, row["event"], row.get("notify", True)
    if kind == "fulfil":
        fare = row.get("final_fare_fen")
        fact = backoffice.fulfil(shop, ref, now=now, final_fare_fen=fare, notify=notify)
    elif kind == "no_show":
        fact = backoffice.fulfil(shop, ref, now=now, state="NO_SHOW", notify=notify)
    elif kind == "cancel":
        reason = row.get("reason", "MERCHANT")
        fact = backoffice.cancel(shop, ref, now=now, reason=reason, notify=notify)
    elif kind == "decide":
        fact = backoffice.decide(shop, ref, confirmed=row["confirmed"], now=now, notify=notify)
    else:
        raise ValueError(f"no such event: {kind}")
    return terms.fact_document(fact)


def _offer(stand: Stand, row: Mapping[str, Any]) -> dict[str, Any]:
    """Change or add an offer, or delete it: {"id", "change": {...} | null}."""
    changed = stand.shop.inventory.change_offer(row["id"], row["change"])
    return {"id": changed.id, "version": changed.version, "deleted": changed.deleted}


def _dump(stand: Stand, row: Mapping[str, Any]) -> dict[str, Any]:
    store = stand.shop.store
    tables = ("bookings", "holds", "stock", "slots", "fences", "notices", "lines", "events")
    return {name: [dict(r) for r in store.rows(f"SELECT * FROM {name}")] for name in tables}  # noqa: S608 - see above


def _listen(host: str, port: int) -> socket.socket:
    """Listen; the protocol is named, for without it asyncio leaves Nagle's delay on (40 ms)."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.set_inheritable(False)
    listening.listen(2048)
    return listening
