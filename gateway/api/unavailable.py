"""The answer to what no route has one for: a database that cannot be used, or a fault of ours.

While the database cannot be used it is 503, and when to come again. What could not begin has had
no effect. What was cut off has had all of its effect or none, and the same idempotency key tells
which: so a client repeats the request as it was. A fault is 500 with the request's id; what it
was stands in the log.
"""

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import telemetry
from gateway.api.endpoint import locale_of
from gateway.api.errors import Internal, top_level
from gateway.db import is_unavailable
from gateway.values import new_id

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1
_NEXT_STEP = {
    "zh": f"{RETRY_AFTER_SECONDS} 秒后用同一幂等键重试",
    "en": f"retry with the same key in {RETRY_AFTER_SECONDS} s",
}


async def answer(request: Request, error: Exception) -> Response:
    """The application's answer to a database error of any route; a bug is raised again."""
    if not is_unavailable(error):
        raise error
    request_id = telemetry.request_id() or new_id("req")
    log.warning("request %s: no database: %s", request_id, str(error).partition("\n")[0])
    locale = locale_of(request.headers.get("accept-language", ""))
    internal = Internal(request_id=request_id, retry_after_seconds=RETRY_AFTER_SECONDS)
    body = top_level(internal, locale=locale, request_id=request_id)
    body["extensions"]["nextStep"] = _NEXT_STEP[locale]
    more = {"retry-after": str(RETRY_AFTER_SECONDS)}
    return JSONResponse({"errors": [body]}, 503, _headers(request_id) | more)


def hidden(request: Request, error: Exception) -> Response:
    """500 INTERNAL: the fault itself is logged under the id that is shown."""
    request_id = telemetry.request_id() or new_id("req")
    log.error("request %s failed", request_id, exc_info=error)
    locale = locale_of(request.headers.get("accept-language", ""))
    body = top_level(Internal(request_id=request_id), locale=locale, request_id=request_id)
    return JSONResponse({"errors": [body]}, 500, _headers(request_id))


def _headers(request_id: str) -> dict[str, str]:
    return {"cache-control": "no-store", "x-request-id": request_id}


HANDLERS: Mapping[Any, Any] = {
    SQLAlchemyError: answer,
    ConnectionError: answer,
    TimeoutError: answer,
}
