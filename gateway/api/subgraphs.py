"""A merchant's own subgraph: checked, published, unpublished, listed."""

from datetime import datetime
from typing import Self

import strawberry

from gateway.api.context import Context, Info
from gateway.api.errors import Effect, Payload
from gateway.api.partner import merchant_of
from gateway.subgraphs import model
from gateway.subgraphs import service as subgraphs
from gateway.subgraphs.composing import Verdict
from gateway.subgraphs.publishing import Request, Unpublishing

_SHOWN = 50


@strawberry.type
class Subgraph:
    """A published version of a merchant's subgraph. `live` says whether it is answered with."""

    id: strawberry.ID
    version: int
    url: str
    sdl: str
    sdl_sha256: str
    published_at: datetime
    live: bool

    @classmethod
    def of(cls, found: model.Subgraph, *, live: bool) -> Self:
        return cls(
            id=strawberry.ID(found.id),
            version=found.number,
            url=found.url,
            sdl=found.sdl,
            sdl_sha256=model.digest(found.sdl),
            published_at=found.published_at,
            live=live,
        )


@strawberry.type
class BrokenOperation:
    """An operation that clients use and that would not be valid any more."""

    hash: str
    name: str
    client: strawberry.ID
    error: str


@strawberry.type
class SubgraphReport:
    """What a subgraph changes: hints of composition, breaking changes, operations they hit."""

    hints: list[str]
    changes: list[str]
    operations: list[BrokenOperation]

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        return cls(
            hints=list(verdict.hints[:_SHOWN]),
            changes=list(verdict.impact.changes[:_SHOWN]),
            operations=[
                BrokenOperation(
                    hash=each.hash,
                    name=each.name,
                    client=strawberry.ID(each.client_id),
                    error=each.error,
                )
                for each in verdict.impact.operations[:_SHOWN]
            ],
        )


@strawberry.type
class SubgraphQuery:
    @strawberry.field
    async def subgraphs(self, info: Info) -> list[Subgraph]:
        """The versions of the merchant's subgraph, newest first."""
        async with info.context.reading() as tx:
            found = await subgraphs.published(tx, merchant_of(info))
            live = await subgraphs.members_of(tx, (await subgraphs.live(tx)).number)
        answered = {each.id for each in live}
        return [Subgraph.of(each, live=each.id in answered) for each in found]


@strawberry.input
class PublishSubgraphInput:
    """A federation SDL and where it is served. The rules for it are in docs/partners.md.

    With `check` it is only looked at. With `allowBreaking` it may take away what clients use.
    """

    sdl: str
    url: str
    idempotency_key: str
    check: bool = False
    allow_breaking: bool = False


@strawberry.type
class PublishSubgraphPayload(Payload):
    """`subgraph` is null for a check; `report` is null for a replay, or if nothing changed."""

    subgraph: Subgraph | None = None
    report: SubgraphReport | None = None


@strawberry.input
class UnpublishSubgraphInput:
    """With `check` it is only looked at. With `allowBreaking` it may take away what clients use."""

    idempotency_key: str
    check: bool = False
    allow_breaking: bool = False


@strawberry.type
class UnpublishSubgraphPayload(Payload):
    """`subgraph` is the one that was live, null for a check; `report` is null for a replay."""

    subgraph: Subgraph | None = None
    report: SubgraphReport | None = None


@strawberry.type
class SubgraphMutation:
    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def publish_subgraph(
        self, info: Info, input: PublishSubgraphInput
    ) -> PublishSubgraphPayload:
        """Publish the merchant's subgraph, or its next version: composed, activated, or refused."""
        context = info.context
        submitted = model.Submitted(merchant_of(info), input.url, input.sdl)
        publishing = context.services.publishing
        if input.check:
            verdict = await publishing.check(submitted)
            verdict.require(breaking=input.allow_breaking)
            return PublishSubgraphPayload(report=SubgraphReport.of(verdict))
        asked = Request(
            submitted,
            scope=context.scope("publishSubgraph"),
            key=input.idempotency_key,
            actor=context.actor.subject,
            breaking=input.allow_breaking,
        )
        made, found, replayed = await publishing.publish(asked)
        return PublishSubgraphPayload(
            subgraph=Subgraph.of(made, live=await _live(context, made)),
            report=SubgraphReport.of(found) if found else None,
            replayed=replayed,
        )

    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def unpublish_subgraph(
        self, info: Info, input: UnpublishSubgraphInput
    ) -> UnpublishSubgraphPayload:
        """Take the merchant's subgraph out of the graph; its versions stay."""
        context = info.context
        publishing = context.services.publishing
        if input.check:
            verdict = await publishing.check_unpublishing(merchant_of(info))
            verdict.require(breaking=input.allow_breaking)
            return UnpublishSubgraphPayload(report=SubgraphReport.of(verdict))
        asked = Unpublishing(
            merchant_of(info),
            scope=context.scope("unpublishSubgraph"),
            key=input.idempotency_key,
            actor=context.actor.subject,
            breaking=input.allow_breaking,
        )
        gone, found, replayed = await publishing.unpublish(asked)
        return UnpublishSubgraphPayload(
            subgraph=Subgraph.of(gone, live=await _live(context, gone)),
            report=SubgraphReport.of(found) if found else None,
            replayed=replayed,
        )


async def _live(context: Context, made: model.Subgraph) -> bool:
    async with context.reading() as tx:
        members = await subgraphs.members_of(tx, (await subgraphs.live(tx)).number)
    return made.id in {each.id for each in members}
