"""Asking merchants' subgraphs: our token there, a pseudonym, no more than it may know.

A merchant is told who asks only if the member has to do with it: it registered the member, has
dealt with it, or the member agreed to use points there. A redemption is named to its own merchant
only, and only for somebody who may see it. Nothing is open while a merchant is asked, and whatever
it does wrong costs its own fields.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import httpx2
from graphql import FieldNode, OperationDefinitionNode, VariableNode, parse

from gateway import telemetry
from gateway.api.context import Context
from gateway.api.errors import Internal, top_level
from gateway.api.graph import Graph
from gateway.api.messages import UNREAD, fill
from gateway.api.redemption_types import visible_to
from gateway.errors import NotFound, PartnerUnavailable, published
from gateway.federation.services import Answer, ServiceFailure, SubgraphRequest
from gateway.federation.transport import ACCEPT, read_answer
from gateway.members import service as members
from gateway.members.model import pseudonym
from gateway.subgraphs.model import OURS
from gateway.telemetry import metrics, tracing

log = telemetry.log(__name__)

MEMBER = "coalition-member"
_REASON = 200  # characters of what a merchant says
_SEEN_ZH = {
    "SUBGRAPH_UNREACHABLE": "无法连接",
    "SUBGRAPH_TIMEOUT": "未按时回答",
    "SUBGRAPH_HTTP_ERROR": "回答的 HTTP 状态有误",
    "SUBGRAPH_TOO_LARGE": "回答过大",
    "SUBGRAPH_MALFORMED": "回答不合 GraphQL 规范",
    "SUBGRAPH_FAILED": "请求失败",
}


@dataclass(slots=True)
class MerchantGraph:
    """A merchant's subgraph over HTTP.

    Args:
        http: Signs in at the merchant's, keeps deadlines, connects where it may only.
        secret: Key of the members' pseudonyms.
        seconds: The most that one fetch may take.
    """

    merchant_id: str
    url: str
    http: httpx2.AsyncClient
    secret: bytes = field(repr=False)
    seconds: float

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """Ask it; raises ServiceFailure."""
        context: Context = request.state
        asked = await self._allowed(request, context)
        if asked is None:
            return _nobody(request)
        member = await self._member(context)
        await context.end_reads()
        headers = {"content-type": "application/json", "accept": ACCEPT}
        headers |= {"accept-language": context.locale, "x-request-id": context.request_id}
        headers |= {MEMBER: member} if member else {}
        with tracing.span("subgraph", "client", merchant=self.merchant_id):
            answer = await self._send(asked.request.body, headers, request.deadline)
        return asked.whole(answer)

    async def _send(
        self, body: bytes, headers: Mapping[str, str], deadline: float | None
    ) -> Answer:
        clock = asyncio.get_running_loop().time
        left = self.seconds if deadline is None else min(self.seconds, deadline - clock())
        outcome = "failed"
        try:
            async with asyncio.timeout(left):
                found = await self.http.post(self.url, content=body, headers=dict(headers))
            kind = found.headers.get("content-type", "")
            answer = read_answer(found.status_code, kind, found.content)
            outcome = "rejected" if answer.errors else "ok"
        except ServiceFailure:
            outcome = "unavailable"
            raise
        except TimeoutError as error:
            outcome = "unavailable"
            raise ServiceFailure("SUBGRAPH_TIMEOUT", "no answer in time") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            outcome = "unavailable"
            log.info("no connection", merchant=self.merchant_id, why=type(error).__name__)
            raise ServiceFailure("SUBGRAPH_UNREACHABLE", "no connection") from error
        finally:
            metrics.PARTNER_CALLS.labels(self.merchant_id, "subgraph", outcome).inc()
        return answer

    async def _member(self, context: Context) -> str | None:
        """The member's name at this merchant, if the merchant may know that it is asked for."""
        member_id = context.actor.member_id
        if member_id is None:
            return None
        known = context.known_at.get(self.merchant_id)
        if known is None:
            async with context.reading() as tx:
                known = await members.known_at(tx, member_id, self.merchant_id)
            context.known_at[self.merchant_id] = known
        return pseudonym(self.secret, self.merchant_id, member_id) if known else None

    async def _allowed(self, request: SubgraphRequest, context: Context) -> "_Asked | None":
        """The request without redemptions that are not the merchant's; None: nothing is left."""
        calls = calls_of(request.text)
        kept: dict[str, list[int]] = {}
        variables = dict(request.variables)
        for variable, alias in calls.items():
            given = variables[variable]
            here = [n for n, one in enumerate(given) if await self._may_name(one, context)]
            if len(here) < len(given):
                kept[alias] = here
                variables[variable] = [given[n] for n in here]
        if not kept:
            return _Asked(request)
        if not any(variables[variable] for variable in calls):
            return None
        lengths = {alias: len(request.variables[name]) for name, alias in calls.items()}
        fewer = SubgraphRequest(
            request.service, request.kind, request.text, variables, prefix=request.prefix
        )
        return _Asked(fewer, kept, lengths)

    async def _may_name(self, representation: Mapping[str, Any], context: Context) -> bool:
        if representation.get("__typename") != "Redemption":
            return True
        found = await context.loaders.redemptions.load(str(representation.get("id")))
        return (
            found is not None
            and found.merchant_id == self.merchant_id
            and visible_to(context.actor, found)
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What goes out, and which places of the whole it answers for."""

    request: SubgraphRequest
    kept: Mapping[str, Sequence[int]] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)

    def whole(self, answer: Answer) -> Answer:
        """The answer with nulls where nothing was asked, and errors at the right places."""
        if not self.kept or answer.data is None:
            return answer
        data = dict(answer.data)
        for alias, places in self.kept.items():
            entities: list[Any] = [None] * self.lengths[alias]
            found = data.get(alias)
            if isinstance(found, list) and len(found) == len(places):
                for place, entity in zip(places, found, strict=True):
                    entities[place] = entity
                data[alias] = entities
        return Answer(data, [self._moved(error) for error in answer.errors], answer.size)

    def _moved(self, error: Any) -> Any:
        path = error.get("path") if isinstance(error, dict) else None
        if not isinstance(path, list) or len(path) < 2:
            return error
        places = self.kept.get(str(path[0]))
        if places is None or not isinstance(path[1], int) or not 0 <= path[1] < len(places):
            return error
        return error | {"path": [path[0], places[path[1]], *path[2:]]}


def _nobody(request: SubgraphRequest) -> Answer:
    calls = calls_of(request.text)
    return Answer({alias: [None] * len(request.variables[name]) for name, alias in calls.items()})


@lru_cache(maxsize=1_024)
def calls_of(text: str) -> Mapping[str, str]:
    """The entity calls of a fetch: variable of the representations to response key."""
    (operation,) = parse(text).definitions
    assert isinstance(operation, OperationDefinitionNode)
    found = {}
    for node in operation.selection_set.selections:
        if isinstance(node, FieldNode) and node.name.value == "_entities":
            (argument,) = node.arguments or ()
            assert isinstance(argument.value, VariableNode)
            found[argument.value.name.value] = (node.alias or node.name).value
    return found


_COORDINATE = re.compile(r"\b(\w+)\.(\w+)\b")


async def shown(error: Mapping[str, Any], context: Context, graph: Graph) -> dict[str, Any]:
    """An error of an answer as the caller sees it: with a code of ours, a merchant's words aside.

    What our own schema says was worded by it. A null where none may be is a merchant's doing if
    the field is, and else something that is gone.
    """
    extensions = error.get("extensions") or {}
    service, code = extensions.get("service"), extensions.get("code")
    if service == OURS and code in _codes():
        return dict(error)
    if service is None and (named := _COORDINATE.search(str(error.get("message")))):
        service = graph.owner(*named.groups())
    facts: dict[str, Any] = {"locale": context.locale, "request_id": context.request_id}
    facts |= {"path": error["path"]} if error.get("path") else {}
    if service in graph.members:
        return await _unavailable(service, error, context, facts)
    if code == "NON_NULLABLE_FIELD":
        return top_level(NotFound(id=".".join(map(str, error.get("path", ())))), **facts)
    log.error("the graph failed", code=code, reason=str(error.get("message"))[:_REASON])
    return top_level(Internal(request_id=context.request_id), **facts)


async def _unavailable(
    merchant: str, error: Mapping[str, Any], context: Context, facts: dict[str, Any]
) -> dict[str, Any]:
    await context.warn(merchant)
    unavailable = PartnerUnavailable(merchant=merchant)
    found = await context.loaders.merchants.load(merchant)
    name = (found.name_en if context.locale == "en" else found.name_zh) if found else merchant
    told = top_level(unavailable, **facts)
    told["message"] = fill(UNREAD[context.locale], {}, {"merchant": name or merchant})
    told["extensions"] |= {"service": merchant, "reason": _reason(merchant, error, context.locale)}
    return told


def _reason(merchant: str, error: Mapping[str, Any], locale: str) -> str:
    """What the merchant said; what we saw, in the caller's language, if it said nothing."""
    said = "".join(c for c in str(error.get("message", "")) if c.isprintable())
    seen = said.removeprefix(f"{merchant}: ")
    code = (error.get("extensions") or {}).get("code")
    if seen == said or code not in _SEEN_ZH:
        return said[:_REASON]
    status = re.search(r"\d{3}$", seen) if code == "SUBGRAPH_HTTP_ERROR" else None
    zh = _SEEN_ZH[code] + (f":{status.group()}" if status else "")
    return seen[:_REASON] if locale == "en" else zh


@cache
def _codes() -> frozenset[str]:
    return frozenset(leaf.code for leaf in published()) | {"INTERNAL", "MALFORMED_REQUEST"}
