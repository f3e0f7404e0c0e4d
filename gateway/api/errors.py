"""Refusals become payload entries, denials and bugs top-level errors; messages name the numbers.

One place ends the transaction of a root mutation field: an answer commits, a refusal rolls back
and is explained in the caller's language. A party's or programme's id is shown by its name,
money as ¥, an instant in the business's time zone.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import strawberry
from graphql import GraphQLError
from sqlalchemy.exc import DBAPIError
from strawberry.extensions import FieldExtension
from strawberry.types.field import StrawberryField

from gateway.api.context import Context, Info, require_legible
from gateway.api.messages import camel, next_step, say
from gateway.api.scalars import JSON
from gateway.batch import Raced
from gateway.db import is_race, is_unavailable
from gateway.errors import Denied, GatewayError, NotFound, PartnerUnavailable, Refused
from gateway.telemetry import metrics

log = logging.getLogger(__name__)

MERCHANT_NAMES = ("issuer", "redeemer", "merchant", "payer", "payee", "beneficiary")
_TRIES = 5  # Who loses a race is run again: it has changed nothing.


class Internal(GatewayError):
    """A bug: its text stays in the log, the caller gets the request id."""

    code = "INTERNAL"
    when = "anything else"
    zh = "系统出错,编号 {request_id}"
    en = "something went wrong, {request_id}"
    next_zh = "请把编号告诉我们"
    next_en = "tell us the id"


@strawberry.type
class UserError:
    """Why the answer is no: a published code, and words for people."""

    code: str
    message: str
    field: list[str] | None
    context: JSON
    next_step: str | None


@strawberry.type
class Payload:
    """What every mutation answers: a refusal is an entry of `errors`, and changed nothing."""

    replayed: bool = False
    errors: list[UserError] = strawberry.field(default_factory=list)


class Effect(FieldExtension):
    """End the field's transaction: commit an answer, roll back a refusal and explain it.

    Args:
        steps: The field drives a saga or asks a partner: its service commits step by step, and
            the field opens no transaction.
    """

    def __init__(self, *, steps: bool = False) -> None:
        self.steps = steps
        self.payload: Any = None

    def apply(self, field: StrawberryField) -> None:
        self.payload = field

    async def resolve_async(self, next_: Any, source: Any, info: Info, **kwargs: Any) -> Any:
        context: Context = info.context
        rates, missed = context.services.rates, False
        rates.take_effect(context.actor, info.field_name)
        try:
            return await self._run(next_, source, info, kwargs)
        except (Refused, PartnerUnavailable) as refusal:
            missed = isinstance(refusal, NotFound)
            metrics.REFUSALS.labels(refusal.code).inc()
            context.refused.append(refusal.code)
            context.forget()
            refusal.field = _as_asked(refusal.field, kwargs.get("input"))
            told = [await explain(refusal, context)]
            return self.payload.type(errors=told, replayed=refusal.replayed)
        finally:
            if not missed:
                rates.hit(context.actor, info.field_name)

    async def _run(self, next_: Any, source: Any, info: Info, kwargs: dict[str, Any]) -> Any:
        context: Context = info.context
        if "input" in kwargs:
            require_legible(kwargs["input"])
        for left in reversed(range(_TRIES)):
            try:
                async with context.unbound() if self.steps else context.writing():
                    return await next_(source, info, **kwargs)
            except (DBAPIError, Raced) as error:
                if not (left and is_race(error)):
                    raise
                log.info("again after a conflict", extra={"request_id": context.request_id})
        raise AssertionError("unreachable")


_ASKED = {"ref": "order", "programme_id": "programme", "member_id": "member"}
_ASKED |= {"code": "onboarding_code", "reference": "partner_member_ref"}


def _as_asked(field: tuple[str, ...], input: object) -> tuple[str, ...]:
    """A service's name for a field as the input has it."""
    if not field or hasattr(input, field[0]):
        return field
    return (_ASKED.get(field[0], field[0]), *field[1:])


async def explain(error: GatewayError, context: Context) -> UserError:
    """A refusal in the caller's language."""
    names = await names_of(error.context, context)
    path = [part if part.isdigit() else camel(part) for part in error.field]
    return UserError(
        code=error.code,
        message=say(error, context.locale, names),
        field=path or None,
        context=error.context,
        next_step=next_step(error, context.locale, names),
    )


async def names_of(facts: Mapping[str, object], context: Context) -> dict[str, str]:
    """The names of the parties and programmes an error speaks of; ids without a name are left."""
    names: dict[str, str] = {}
    for key, value in facts.items():
        if not isinstance(value, str):
            continue
        found: Any = None
        with contextlib.suppress(Refused):
            if key in MERCHANT_NAMES:
                found = await context.loaders.merchants.load(value)
            elif key == "programme":
                found = await context.loaders.programmes.load(value)
                if found is not None and context.locale == "en":
                    issuer = await context.loaders.merchants.load(found.issuer)
                    if issuer is not None and issuer.name_en:
                        names[key] = f"{issuer.name_en} points"  # It has no English name.
                        continue
            elif key == "offer":
                found = await context.loaders.offers.load(value)
        if found is not None:
            english = getattr(found, "name_en", None) if context.locale == "en" else None
            names[key] = english or found.name_zh
    return names


def malformed(detail: str, *, locale: str, request_id: str, **more: Any) -> dict[str, Any]:
    """The top-level error of a request that cannot be read."""
    text = f"the request cannot be read: {detail}" if locale == "en" else f"请求格式有误:{detail}"
    step = "correct the request" if locale == "en" else "请更正请求后重试"
    facts: dict[str, Any] = {"code": "MALFORMED_REQUEST", "requestId": request_id}
    facts |= {"context": {"detail": detail}, "nextStep": step}
    return {"message": text, **more, "extensions": facts}


def unknown_document(hash: str, *, locale: str, request_id: str) -> dict[str, Any]:
    """The top-level error of a hash that is none of the client's trusted documents."""
    text = "unknown query hash" if locale == "en" else "未登记的查询"
    step = "register the document" if locale == "en" else "请先登记该查询"
    facts: dict[str, Any] = {"code": "PERSISTED_QUERY_NOT_FOUND", "requestId": request_id}
    return {"message": text, "extensions": facts | {"context": {"hash": hash}, "nextStep": step}}


def top_level(error: GatewayError, *, locale: str, request_id: str, **more: Any) -> dict[str, Any]:
    """The top-level error of a denial or a bug."""
    facts: dict[str, Any] = {"code": error.code, "requestId": request_id}
    if error.context:
        facts["context"] = error.context
    if step := next_step(error, locale, {}):
        facts["nextStep"] = step
    return {"message": say(error, locale, {}), **more, "extensions": facts}


def present(error: GraphQLError, *, locale: str, request_id: str) -> dict[str, Any]:
    """One of graphql-core's errors as the caller sees it; what is a bug is logged and hidden."""
    more: dict[str, Any] = {}
    if error.locations:
        more["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path is not None:
        more["path"] = error.path
    cause = cause_of(error)
    if isinstance(cause, Denied | PartnerUnavailable):
        return top_level(cause, locale=locale, request_id=request_id, **more)
    if isinstance(cause, Refused):  # A query's argument: no payload can carry it.
        return malformed(say(cause, locale, {}), locale=locale, request_id=request_id, **more)
    if error.path is None or (cause is None and not _resolved(error)):
        return malformed(error.message, locale=locale, request_id=request_id, **more)
    log.error("request %s failed", request_id, exc_info=cause or error)
    internal = Internal(request_id=request_id)
    return top_level(internal, locale=locale, request_id=request_id, **more)


def cause_of(error: GraphQLError) -> Exception | None:
    """What a resolver raised, under the executor's own errors; None if it is graphql-core's."""
    cause = error.original_error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause


def raise_unavailable(errors: Sequence[GraphQLError]) -> None:
    """Raise the database's own error if it is why anything is not answered: that is a 503.

    An effect that was done and cannot be read is no half an answer: the same key reads it later.
    """
    for cause in map(cause_of, errors):
        if cause is not None and is_unavailable(cause):
            raise cause


def _resolved(error: GraphQLError) -> bool:
    """Whether an error without a cause came from our answer (a null that may not be)."""
    return error.message.startswith("Cannot return null")
