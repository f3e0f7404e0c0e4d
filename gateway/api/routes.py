"""What is not GraphQL: webhooks, the bank's file, bills, the audit head, pages for people."""

import csv
import io
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import date

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway import telemetry
from gateway.api import pages
from gateway.api.context import Services
from gateway.api.endpoint import BODY_LIMIT, Unreadable, body_of, locale_of
from gateway.api.errors import malformed, top_level
from gateway.api.messages import say
from gateway.audit import service as audit
from gateway.errors import Denied, NotFound
from gateway.merchants import service as merchants
from gateway.oauth import signatures
from gateway.oauth.guard import ANONYMOUS, Actor, require_role, require_scope
from gateway.oauth.scopes import Role
from gateway.settlement import service as settlement
from gateway.settlement.model import Obligation, guard_formula
from gateway.values import InvalidInput, legible, new_id, read_json

BILL_COLUMNS = (
    "line",
    "obligation",
    "gateway_ref",
    "type",
    "issuer",
    "offer",
    "amount_fen",
    "business_date",
)
HEAD_HEADER = "audit-head"
Handler = Callable[[Request], Awaitable[Response]]


def routes(services: Services, secrets: Mapping[str, str]) -> list[Route]:
    """All routes but GraphQL's and OAuth's.

    Args:
        secrets: Webhook secret by merchant.
    """
    plain = _Plain(services, secrets)
    return [
        Route("/events/{merchant}", _answering(plain.event), methods=["POST"]),
        Route("/bank/{settlement}.csv", _answering(plain.bank), methods=["GET"]),
        Route("/bills/{day}.csv", _answering(plain.bill), methods=["GET"]),
        Route("/bills/{day}.head", _answering(plain.bill_head), methods=["GET"]),
        Route("/audit/head", plain.head, methods=["GET"]),
        *pages.routes(),
    ]


def _answering(handler: Handler) -> Handler:
    """Word the refusals and denials of a plain route as JSON with their code."""

    async def answer(request: Request) -> Response:
        request_id, headers = telemetry.request_id() or new_id("req"), {}
        locale = locale_of(request.headers.get("accept-language", ""))
        try:
            legible([request.path_params, dict(request.query_params)], "address")
            return await handler(request)
        except InvalidInput as error:
            detail = say(error, locale, {})
            status, body = 400, malformed(detail, locale=locale, request_id=request_id)
        except Unreadable as error:
            status, body = (
                error.status,
                malformed(error.detail, locale=locale, request_id=request_id),
            )
        except Denied as error:
            status, body = error.status, top_level(error, locale=locale, request_id=request_id)
            if status == 401:
                headers = {"www-authenticate": "Bearer"}
        except NotFound as error:
            status, body = 404, top_level(error, locale=locale, request_id=request_id)
        return JSONResponse({"errors": [body]}, status, headers)

    return answer


class _Plain:
    def __init__(self, services: Services, secrets: Mapping[str, str]) -> None:
        self.services = services
        self.secrets = secrets

    async def event(self, request: Request) -> Response:
        """A partner's webhook: signature over the raw bytes, stored, answered, applied.

        A repeated one is 2xx and does nothing; a wrong signature is 401.
        """
        merchant = request.path_params["merchant"]
        body = await body_of(request, BODY_LIMIT)
        secret = self.secrets.get(merchant)
        event_id = signatures.verify_event(body, request.headers, [secret] if secret else [])
        legible(event_id, "webhook-id")
        try:
            document = read_json(body)
        except (ValueError, RecursionError) as error:
            raise Unreadable("the event is not JSON") from error
        if not isinstance(document, dict):
            raise Unreadable("the event is no object")
        await self.services.redemptions.inbox.receive(merchant, event_id, document)
        self.services.wake()
        return Response(status_code=204)

    async def bank(self, request: Request) -> Response:
        """The bank's file of an approved settlement."""
        actor = await self._actor(request)
        require_role(actor, Role.FINANCE)
        require_scope(actor, "finance:read")
        settlement_id = request.path_params["settlement"]
        async with self.services.database.reading() as tx:
            text = await settlement.bank_csv(tx, settlement_id)
        return _download(text, f"{settlement_id}.csv")

    async def bill(self, request: Request) -> Response:
        """A merchant's bill of one business day, with its trailer; finance names the merchant.

        The signed head of the audit chain comes with it as a header, once the day is over; the
        file itself stays what its readers parse. `/bills/{day}.head` has it as a file.
        """
        day, named = _day(request), await self._billed(request)
        async with self.services.database.reading() as tx:
            merchant = (await merchants.get(tx, named)).id
            rows = await settlement.statement_rows(tx, merchant=merchant, day=day)
            head = await audit.head_of_day(tx, day)
        answer = _download(_bill(rows), f"{merchant}-{day}.csv")
        if head is not None:
            answer.headers[HEAD_HEADER] = head
        return answer

    async def bill_head(self, request: Request) -> Response:
        """The signed head that the bills of a business day go out with, to be kept beside them."""
        day, _ = _day(request), await self._billed(request)
        async with self.services.database.reading() as tx:
            head = await audit.head_of_day(tx, day)
        if head is None:
            raise NotFound(id=f"{day}.head")
        headers = {"content-disposition": f'attachment; filename="{day}.head"'}
        headers["cache-control"] = "no-store"
        return Response(head, media_type="application/jose", headers=headers)

    async def _billed(self, request: Request) -> str:
        """Whose bill is asked for, by somebody who may have it."""
        actor = await self._actor(request)
        require_role(actor, Role.PARTNER, Role.FINANCE)
        if actor.role == Role.PARTNER:
            require_scope(actor, "statement:read")
            merchant = actor.merchant_id
        else:
            require_scope(actor, "finance:read")
            merchant = request.query_params.get("merchant")
        if not merchant:
            raise Unreadable("merchant: say whose bill")
        return merchant

    async def _actor(self, request: Request) -> Actor:
        given = request.headers.get("authorization")
        return ANONYMOUS if given is None else await self.services.guard.authenticate(given)

    async def head(self, _request: Request) -> Response:
        """The newest signed head of the audit chain; `/oauth/jwks` has the key of `token`."""
        async with self.services.database.reading() as tx:
            found = await audit.newest_head(tx)
        if found is None:
            return JSONResponse({"head": None}, headers={"cache-control": "no-store"})
        shown = {name: found[name] for name in ("number", "seal", "kid", "jwk", "token")}
        shown |= {name: found[name].isoformat() for name in ("made_at", "business_date")}
        return JSONResponse({"head": shown}, headers={"cache-control": "no-store"})


def _day(request: Request) -> date:
    try:
        return date.fromisoformat(request.path_params["day"])
    except ValueError as error:
        raise Unreadable("a day as in 2026-11-20") from error


def _download(text: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


def _bill(rows: Iterable[Obligation]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(BILL_COLUMNS)
    count = total = 0
    for count, row in enumerate(rows, start=1):
        total += row.statement_fen
        cells = [count, row.id, row.cause_id, row.type, row.issuer, row.offer_id or ""]
        cells += [row.statement_fen, row.business_date or ""]
        writer.writerow(
            [cell if isinstance(cell, int) else guard_formula(str(cell)) for cell in cells]
        )
    writer.writerow(["trailer", count, "", "", "", "", total, ""])
    return out.getvalue()
