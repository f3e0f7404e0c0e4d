"""The operator's inbox of redemptions that need a person, and what two people decide."""

from datetime import datetime
from typing import Self

import strawberry
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.api import connections
from gateway.api.connections import Connection
from gateway.api.context import Info, given
from gateway.api.errors import Effect, Payload
from gateway.api.operator import SagaCall, calls_of
from gateway.api.redemption_types import Redemption
from gateway.api.scalars import Fen
from gateway.reconciliation.model import ResolutionState
from gateway.redemption import reviews as store
from gateway.redemption import service as redemptions
from gateway.redemption.model import Fault, Resolve, State


@strawberry.type
class PartnerFact:
    """What the partner has said about one step. `source`: answer, webhook, poll, fence, review."""

    op_key: str
    version: int
    outcome: str
    source: str
    booking_ref: str | None
    recorded_at: datetime


@strawberry.type
class SagaFinding:
    """Something about a redemption that finance sees as a break."""

    code: str
    detail: str
    found_at: datetime


@strawberry.type
class ReviewResolution:
    """A decision: proposed by one person, approved by another."""

    id: strawberry.ID
    redemption: strawberry.ID
    outcome: Resolve
    fault: Fault | None
    evidence: str | None
    note: str
    amount_fen: Fen
    state: ResolutionState
    proposed_by: str
    proposed_at: datetime
    approved_by: str | None
    approved_at: datetime | None

    @classmethod
    def of(cls, row: store.Resolution) -> Self:
        return cls(
            id=strawberry.ID(row.id),
            redemption=strawberry.ID(row.redemption_id),
            outcome=row.outcome,
            fault=row.fault,
            evidence=row.evidence,
            note=row.note,
            amount_fen=row.amount_fen,
            state=ResolutionState(row.state),
            proposed_by=row.proposed_by,
            proposed_at=row.proposed_at,
            approved_by=row.approved_by,
            approved_at=row.approved_at,
        )


@strawberry.type
class Review:
    """A redemption whose rules are exhausted. `outcomes` is what may be proposed."""

    redemption: Redemption
    reason: str
    came_from: State
    step: str
    opened_at: datetime
    due_at: datetime
    owner: str | None
    outcomes: list[Resolve]

    @classmethod
    def of(cls, row: store.Review) -> Self:
        return cls(
            redemption=Redemption.of(row.redemption),
            reason=row.reason,
            came_from=row.came_from,
            step=row.step.value,
            opened_at=row.opened_at,
            due_at=row.due_at,
            owner=row.owner,
            outcomes=list(row.outcomes),
        )

    @strawberry.field
    async def calls(self, info: Info) -> list[SagaCall]:
        """Every call to the partner, oldest first."""
        return await calls_of(info, self.redemption.id)

    @strawberry.field
    async def facts(self, info: Info) -> list[PartnerFact]:
        """What the partner has said, step by step, oldest first."""
        names = ("op_key", "version", "outcome", "source", "booking_ref", "recorded_at")
        async with info.context.reading() as tx:
            rows = await store.facts(tx, self.redemption.id)
        return [PartnerFact(**{name: getattr(row, name) for name in names}) for row in rows]

    @strawberry.field
    async def findings(self, info: Info) -> list[SagaFinding]:
        async with info.context.reading() as tx:
            rows = await redemptions.findings(tx, redemption_id=self.redemption.id)
        return [
            SagaFinding(code=row.code, detail=row.detail, found_at=row.found_at) for row in rows
        ]

    @strawberry.field
    async def resolutions(self, info: Info) -> list[ReviewResolution]:
        async with info.context.reading() as tx:
            rows = await store.resolutions(tx, redemption_id=self.redemption.id)
        return [ReviewResolution.of(row) for row in rows]


@strawberry.input
class ReviewsFilter:
    """`closed`: those that a fact or two people have settled, instead of the inbox."""

    redemption: strawberry.ID | None = None
    merchant: strawberry.ID | None = None
    reason: str | None = None
    owner: str | None = None
    closed: bool = False


@strawberry.type
class ReviewQuery:
    @strawberry.field
    async def reviews(
        self,
        info: Info,
        filter: ReviewsFilter | None = None,
        first: int = connections.PAGE_SIZE,
        after: str | None = None,
    ) -> Connection[Review]:
        """Redemptions that need a person, what is due first first."""
        asked = filter or ReviewsFilter()
        async with info.context.reading() as tx:
            found = await store.reviews(
                tx,
                redemption_id=asked.redemption,
                merchant_id=asked.merchant,
                reason=asked.reason,
                owner=asked.owner,
                closed=asked.closed,
            )
        return connections.page(
            found, Review.of, key=lambda row: row.redemption.id, first=first, after=after
        )


@strawberry.input
class ProposeReviewResolutionInput:
    """`outcome`: COMMIT with the partner's booking as `evidence`, RELEASE, CANCEL with its
    `fault` (MEMBER, REDEEMER or GATEWAY), or KEEP."""

    redemption: strawberry.ID
    outcome: str
    note: str
    idempotency_key: str
    evidence: str | None = None
    fault: str | None = None


@strawberry.type
class ProposeReviewResolutionPayload(Payload):
    resolution: ReviewResolution | None = None


@strawberry.input
class ApproveReviewResolutionInput:
    resolution: strawberry.ID
    idempotency_key: str


@strawberry.type
class ApproveReviewResolutionPayload(Payload):
    resolution: ReviewResolution | None = None
    redemption: Redemption | None = None


@strawberry.input
class FencePartnerOperationInput:
    redemption: strawberry.ID
    idempotency_key: str


@strawberry.type
class FencePartnerOperationPayload(Payload):
    redemption: Redemption | None = None


async def _resolution(tx: AsyncConnection, resolution_id: str) -> ReviewResolution:
    (found,) = await store.resolutions(tx, resolution_id=resolution_id)
    return ReviewResolution.of(found)


@strawberry.type
class ReviewMutation:
    @strawberry.mutation(extensions=[Effect()])
    async def propose_review_resolution(
        self, info: Info, input: ProposeReviewResolutionInput
    ) -> ProposeReviewResolutionPayload:
        """Propose what to do about a redemption that needs a person; another one approves."""
        context = info.context
        asked = given(input)
        asked["redemption_id"] = asked.pop("redemption")
        del asked["idempotency_key"]

        async def propose(tx: AsyncConnection) -> str:
            made = await store.propose(tx, actor=context.actor.subject, now=context.now, **asked)
            return made.id

        done = await context.once("proposeReviewResolution", input, propose)
        made = await _resolution(context.tx, done.id)
        return ProposeReviewResolutionPayload(resolution=made, replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def approve_review_resolution(
        self, info: Info, input: ApproveReviewResolutionInput
    ) -> ApproveReviewResolutionPayload:
        """Approve it: points, cover and obligations move as by a partner's answer."""
        context = info.context

        async def approve(tx: AsyncConnection) -> str:
            made = await store.approve(
                tx,
                resolution_id=input.resolution,
                actor=context.actor.subject,
                limit_fen=context.actor.limit_fen,
                settings=context.services.settings,
                now=context.now,
            )
            return made.id

        done = await context.once("approveReviewResolution", input, approve)
        made = await _resolution(context.tx, done.id)
        found = await redemptions.redemption(context.tx, made.redemption)
        return ApproveReviewResolutionPayload(
            resolution=made, redemption=Redemption.of(found), replayed=done.replayed
        )

    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def fence_partner_operation(
        self, info: Info, input: FencePartnerOperationInput
    ) -> FencePartnerOperationPayload:
        """Fence a hold or confirm in doubt, or ask again about a cancellation.

        Only the partner's answer settles anything; without one the redemption stays as it is.
        """
        context = info.context

        async def named(tx: AsyncConnection) -> str:
            return (await redemptions.redemption(tx, input.redemption)).id

        async with context.writing():
            done = await context.once("fencePartnerOperation", input, named)
        await context.services.redemptions.fence(redemption_id=done.id)
        async with context.reading() as tx:
            found = await redemptions.redemption(tx, done.id)
        return FencePartnerOperationPayload(redemption=Redemption.of(found), replayed=done.replayed)
