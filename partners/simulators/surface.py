"""How a vertical plugs into the core.

A vertical is a module `partners/simulators/<kind>.py` with one constant:

    VERTICAL = Vertical(routes=[...], refusal=..., event=..., artefacts=...)

routes      built with `route(path, handler, scope=...)`. A handler is `async def (shop, request)`
            and returns a Response or something JSON can hold. It reads its own vocabulary, calls
            the verbs of `core.Shop` (those of gateway.ports.Partner, same arguments and results)
            and words the result. It catches nothing: a `Declined` is worded by `refusal`, planted
            misbehaviour and a wrong token never reach the handler's answer. An empty scope asks
            for any token; what it may do is then in `request.state.scopes`.
refusal     a `Declined` (code, error_class, context) as the vertical's error document and status
event       a `PartnerEvent` as the body of its webhook
artefacts   a `Booked` as what the member gets: code, seat, qr, confirmation_no, trip_id …
shop        a `Shop` of its own, where a vertical has rules of its own

The token endpoint (`POST /oauth/token`), metadata, the bearer check, `Sandbox-Now` and `/health`
come with the surface. Scopes are `offers`, `redeem`, `statements`, `notices`. The kind's name is
the adapter's: cinemas, hotels, car_shops, rides; `graphql` is `generic.py`. See `cinemas.py`.
"""

import importlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway.ports import PartnerEvent, Statement, StatementLine
from partners.simulators.core import Shop
from partners.simulators.tokens import OAuthError, Tokens
from partners.simulators.words import NOW, Booked, Broken, Declined, Garbled, Hangup, instant

Handler = Callable[[Shop, Request], Awaitable[Any]]
MODULES = {"graphql": "generic"}
STATEMENT_PAGE = 100


@dataclass(frozen=True, slots=True)
class Vertical:
    """The vocabulary of one kind of merchant."""

    routes: Sequence[Route]
    refusal: Callable[[Declined], Response]
    event: Callable[[PartnerEvent], dict[str, Any]]
    artefacts: Callable[[Booked], dict[str, str]]
    shop: type[Shop] = Shop


def load(kind: str) -> Vertical:
    """The vertical of that name.

    Raises:
        ValueError: There is none.
    """
    name = f"partners.simulators.{MODULES.get(kind, kind)}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ValueError(f"no such kind of simulator: {kind}") from None
    vertical: Vertical = module.VERTICAL
    return vertical


def route(path: str, handler: Handler, *, scope: str, method: str = "POST") -> Route:
    """A route whose handler is only called with a good token of that scope."""

    async def endpoint(request: Request) -> Response:
        shop: Shop = request.app.state.shop
        tokens: Tokens = request.app.state.tokens
        vertical: Vertical = request.app.state.vertical
        try:
            request.state.scopes = tokens.check(request.headers.get("authorization"), scope)
        except OAuthError as error:
            return _challenge(error)
        try:
            NOW.set(_business_time(request))
            answer = await handler(shop, request)
        except Declined as no:
            return vertical.refusal(no)
        except Hangup:
            request.state.transport.abort()
            return Response(status_code=500)
        except Broken:
            return PlainTextResponse("Internal Server Error", status_code=500)
        except Garbled:
            return Response(b'{"ok": tr', media_type="application/json")
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    return Route(path, endpoint, methods=[method])


async def body(request: Request) -> dict[str, Any]:
    """A request's JSON object.

    Raises:
        Declined: It is none (BAD_REQUEST).
    """
    try:
        document = json.loads(await request.body())
    except ValueError:
        raise Declined("BAD_REQUEST", rule="a JSON object") from None
    if not isinstance(document, dict):
        raise Declined("BAD_REQUEST", rule="a JSON object")
    return document


def need(document: Mapping[str, Any], name: str, kind: type) -> Any:
    """A field of a request that must be there, of that type.

    Raises:
        Declined: It is missing, or something else (BAD_REQUEST).
    """
    value = document.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Declined("BAD_REQUEST", field=name)
    return value


def day_of(request: Request) -> date:
    """The business day in a request's path.

    Raises:
        Declined: It is none (BAD_REQUEST).
    """
    return day(request.path_params["day"])


def day(text: str) -> date:
    """Read a business day.

    Raises:
        Declined: It is none (BAD_REQUEST).
    """
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        raise Declined("BAD_REQUEST", rule="a day as in 2026-11-20") from None


def pages(statement: Statement, after: str | None) -> tuple[Sequence[StatementLine], str | None]:
    """A page of a statement's lines, and the cursor of the next one; None on the last."""
    start = int(after) if after and after.isdecimal() else 0
    end = start + STATEMENT_PAGE
    return statement.lines[start:end], str(end) if end < len(statement.lines) else None


def application(shop: Shop, tokens: Tokens, vertical: Vertical) -> Starlette:
    """A merchant's whole HTTP surface."""
    app = Starlette(
        routes=[
            Route("/oauth/token", _token, methods=["POST"]),
            Route("/oauth/introspect", _introspect, methods=["POST"]),
            Route("/.well-known/oauth-authorization-server", _metadata),
            Route("/health", _health),
            *vertical.routes,
        ]
    )
    app.state.shop, app.state.tokens, app.state.vertical = shop, tokens, vertical
    return app


async def _token(request: Request) -> Response:
    return await _granted(request, request.app.state.tokens.issue)


async def _introspect(request: Request) -> Response:
    return await _granted(request, request.app.state.tokens.introspect)


async def _granted(request: Request, ask: Callable[..., dict[str, Any]]) -> Response:
    """The answer to a form that a client has sent with its credentials."""
    form = {name: str(value) for name, value in (await request.form()).items()}
    try:
        answer = ask(form, request.headers.get("authorization"))
    except OAuthError as error:
        headers = {"www-authenticate": "Basic"} if error.status == 401 else {}
        return JSONResponse({"error": error.code}, status_code=error.status, headers=headers)
    return JSONResponse(answer, headers={"cache-control": "no-store"})


async def _metadata(request: Request) -> Response:
    issuer = request.app.state.tokens.issuer
    return JSONResponse(
        {
            "issuer": issuer,
            "token_endpoint": f"{issuer}/oauth/token",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic"],
            "token_endpoint_auth_signing_alg_values_supported": ["ES256", "EdDSA"],
            "response_types_supported": [],
        }
    )


async def _health(request: Request) -> Response:
    return JSONResponse({"merchant": request.app.state.shop.id, "ok": True})


def _business_time(request: Request) -> datetime | None:
    text = request.headers.get("sandbox-now")
    if text is None:
        return None
    return instant(text)


def _challenge(error: OAuthError) -> Response:
    return JSONResponse(
        {"error": error.code, "error_description": error.why},
        status_code=error.status,
        headers={"www-authenticate": f'Bearer error="{error.code}"'},
    )
