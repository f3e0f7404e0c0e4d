"""What finance does: close a window, propose and approve its settlement."""

import strawberry
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.api.context import Info
from gateway.api.errors import Effect, Payload
from gateway.api.finance import Settlement, SettlementWindow
from gateway.settlement import service as settlement
from gateway.settlement.model import WindowState


@strawberry.input
class CloseSettlementWindowInput:
    """The window named, or the one that is open: of a week that has begun, unless it is named."""

    idempotency_key: str
    window: strawberry.ID | None = None


@strawberry.type
class CloseSettlementWindowPayload(Payload):
    window: SettlementWindow | None = None


@strawberry.input
class ProposeSettlementInput:
    window: strawberry.ID
    idempotency_key: str


@strawberry.type
class ProposeSettlementPayload(Payload):
    settlement: Settlement | None = None


@strawberry.input
class ApproveSettlementInput:
    """`net_hash` is what the approver has seen."""

    settlement: strawberry.ID
    net_hash: str
    idempotency_key: str


@strawberry.type
class ApproveSettlementPayload(Payload):
    settlement: Settlement | None = None


async def _prepare(info: Info, window_id: str) -> None:
    """Net and publish a closed window, each in a transaction of its own, so the cut is short."""
    context = info.context
    async with context.services.database.transaction() as tx:
        found = await settlement.window(tx, window_id)
        if found.state is WindowState.CLOSED:
            await settlement.net_window(tx, window_id=window_id, now=context.now)
            await settlement.publish_window(tx, window_id=window_id, now=context.now)


@strawberry.type
class FinanceMutation:
    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def close_settlement_window(
        self, info: Info, input: CloseSettlementWindowInput
    ) -> CloseSettlementWindowPayload:
        """Cut the open window; then net and publish it."""
        context = info.context

        async def close(tx: AsyncConnection) -> str:
            named = input.window
            closed = await settlement.close_window(
                tx, window_id=named, begun=named is None, now=context.now
            )
            return closed.id

        async with context.writing():
            done = await context.once("closeSettlementWindow", input, close)
        await _prepare(info, done.id)
        async with context.reading() as tx:
            found = await settlement.window(tx, done.id)
        return CloseSettlementWindowPayload(
            window=SettlementWindow.of(found), replayed=done.replayed
        )

    @strawberry.mutation(extensions=[Effect()])
    async def propose_settlement(
        self, info: Info, input: ProposeSettlementInput
    ) -> ProposeSettlementPayload:
        """Propose the payments of a published window."""
        context = info.context

        async def propose(tx: AsyncConnection) -> str:
            made = await settlement.propose_settlement(
                tx, window_id=input.window, actor=context.actor.subject, now=context.now
            )
            return made.id

        done = await context.once("proposeSettlement", input, propose)
        found = await settlement.settlement(context.tx, done.id)
        return ProposeSettlementPayload(settlement=Settlement.of(found), replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def approve_settlement(
        self, info: Info, input: ApproveSettlementInput
    ) -> ApproveSettlementPayload:
        """Approve what was proposed by another person: instructions and notices go out."""
        context = info.context

        async def approve(tx: AsyncConnection) -> str:
            made = await settlement.approve_settlement(
                tx,
                settlement_id=input.settlement,
                net_hash=input.net_hash,
                actor=context.actor.subject,
                limit_fen=context.actor.limit_fen,
                now=context.now,
            )
            return made.id

        done = await context.once("approveSettlement", input, approve)
        found = await settlement.settlement(context.tx, done.id)
        return ApproveSettlementPayload(settlement=Settlement.of(found), replayed=done.replayed)
