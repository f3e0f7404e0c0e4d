"""What finance asks and does about statements: runs, breaks, resolutions by two people."""

from datetime import date, datetime
from typing import Self

import strawberry
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.api import connections
from gateway.api.connections import Connection
from gateway.api.context import Context, Info
from gateway.api.errors import Effect, Payload
from gateway.api.finance import Payment
from gateway.api.partner import words
from gateway.api.scalars import Fen
from gateway.errors import GatewayError, NotFound
from gateway.reconciliation import model
from gateway.reconciliation import service as reconciliation
from gateway.reconciliation.model import BreakState, RunState
from gateway.redemption import service as redemptions
from gateway.settlement import service as settlement
from gateway.values import InvalidInput, business_day


@strawberry.type
class MerchantResult:
    """One merchant's line of a run; balanced: delivered, readable, and without a break."""

    merchant: strawberry.ID
    balanced: bool
    delivered: bool
    ours_count: int
    ours_fen: Fen
    theirs_count: int
    theirs_fen: Fen
    matched: int
    breaks: int
    exceptions: int

    @classmethod
    def of(cls, row: model.MerchantResult) -> Self:
        return cls(
            merchant=strawberry.ID(row.merchant),
            balanced=row.balanced,
            delivered=row.delivered,
            ours_count=row.ours_count,
            ours_fen=row.ours_fen,
            theirs_count=row.theirs_count,
            theirs_fen=row.theirs_fen,
            matched=row.matched,
            breaks=row.breaks,
            exceptions=row.exceptions,
        )


@strawberry.type
class Resolution:
    """A decision about a break: proposed by one person, approved by another."""

    id: strawberry.ID
    break_id: strawberry.ID
    action: model.Action
    note: str
    state: model.ResolutionState
    amount_fen: Fen
    flows: list[Payment]
    proposed_by: str
    proposed_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    journal: strawberry.ID | None

    @classmethod
    def of(cls, row: model.Resolution) -> Self:
        return cls(
            id=strawberry.ID(row.id),
            break_id=strawberry.ID(row.break_id),
            action=row.action,
            note=row.note,
            state=row.state,
            amount_fen=row.amount_fen,
            flows=[Payment.of(flow) for flow in row.flows],
            proposed_by=row.proposed_by,
            proposed_at=row.proposed_at,
            approved_by=row.approved_by,
            approved_at=row.approved_at,
            journal=strawberry.ID(row.journal_id) if row.journal_id else None,
        )


@strawberry.type
class Break:
    """A difference between our books and a partner's statement, with what probably happened."""

    id: strawberry.ID
    run: strawberry.ID
    code: model.Code
    merchant: strawberry.ID
    issuer: strawberry.ID
    ref: strawberry.ID | None
    ours_fen: Fen
    theirs_fen: Fen
    amount_fen: Fen
    field: str | None
    state: model.BreakState
    opened_at: datetime
    due_at: datetime
    owner: str | None
    closed_at: datetime | None
    hypothesis_zh: str
    hypothesis_en: str
    flows: list[Payment]

    @classmethod
    def of(cls, row: model.Break) -> Self:
        return cls(
            id=strawberry.ID(row.id),
            run=strawberry.ID(row.run_id),
            code=row.code,
            merchant=strawberry.ID(row.merchant),
            issuer=strawberry.ID(row.issuer),
            ref=strawberry.ID(row.ref) if row.ref else None,
            ours_fen=row.ours_fen,
            theirs_fen=row.theirs_fen,
            amount_fen=row.amount_fen,
            field=row.field,
            state=row.state,
            opened_at=row.opened_at,
            due_at=row.due_at,
            owner=row.owner,
            closed_at=row.closed_at,
            hypothesis_zh=row.hypothesis_zh,
            hypothesis_en=row.hypothesis_en,
            flows=[Payment.of(flow) for flow in row.flows],
        )

    @strawberry.field
    def hypothesis(self, info: Info) -> str:
        """What probably happened, in the caller's language."""
        return self.hypothesis_en if info.context.locale == "en" else self.hypothesis_zh

    @strawberry.field
    async def resolutions(self, info: Info) -> list[Resolution]:
        async with info.context.reading() as tx:
            found = await reconciliation.resolutions(tx, break_id=self.id)
        return [Resolution.of(row) for row in found]


@strawberry.type
class Run:
    """One reconciliation of one business day; the same inputs give the same result hash."""

    id: strawberry.ID
    day: date
    number: int
    state: model.RunState
    supersedes: strawberry.ID | None
    inputs_hash: str | None
    result_hash: str | None
    ours_count: int
    ours_fen: Fen
    theirs_count: int
    theirs_fen: Fen
    matched_count: int
    balanced_count: int
    expected_count: int
    break_count: int
    break_fen: Fen
    matched_at: datetime | None
    signed_off_by: str | None
    merchants: list[MerchantResult]

    @classmethod
    def of(cls, row: model.Run) -> Self:
        return cls(
            id=strawberry.ID(row.id),
            day=row.business_date,
            number=row.number,
            state=row.state,
            supersedes=strawberry.ID(row.supersedes) if row.supersedes else None,
            inputs_hash=row.inputs_hash,
            result_hash=row.result_hash,
            ours_count=row.ours_count,
            ours_fen=row.ours_fen,
            theirs_count=row.theirs_count,
            theirs_fen=row.theirs_fen,
            matched_count=row.matched_count,
            balanced_count=row.balanced_count,
            expected_count=row.expected_count,
            break_count=row.break_count,
            break_fen=row.break_fen,
            matched_at=row.matched_at,
            signed_off_by=row.signed_off_by,
            merchants=[MerchantResult.of(each) for each in row.merchants],
        )

    @strawberry.field
    async def breaks(self, info: Info) -> list[Break]:
        async with info.context.reading() as tx:
            found = await reconciliation.breaks(tx, run_id=self.id)
        return [Break.of(row) for row in found]


@strawberry.input
class RunsFilter:
    day: date | None = None


@strawberry.input
class BreaksFilter:
    run: strawberry.ID | None = None
    merchant: strawberry.ID | None = None
    code: str | None = None
    states: list[str] | None = None


@strawberry.type
class ReconciliationQuery:
    @strawberry.field
    async def reconciliation_runs(
        self,
        info: Info,
        filter: RunsFilter | None = None,
        first: int = connections.PAGE_SIZE,
        after: str | None = None,
    ) -> Connection[Run]:
        async with info.context.reading() as tx:
            found = await reconciliation.runs(tx, day=filter.day if filter else None)
        return connections.page(found, Run.of, key=lambda row: row.id, first=first, after=after)

    @strawberry.field
    async def reconciliation_run(self, info: Info, id: strawberry.ID) -> Run | None:
        async with info.context.reading() as tx:
            try:
                return Run.of(await reconciliation.run(tx, id))
            except NotFound:
                return None

    @strawberry.field
    async def breaks(
        self,
        info: Info,
        filter: BreaksFilter | None = None,
        first: int = connections.PAGE_SIZE,
        after: str | None = None,
    ) -> Connection[Break]:
        asked = filter or BreaksFilter()
        async with info.context.reading() as tx:
            found = await reconciliation.breaks(
                tx,
                run_id=asked.run,
                merchant=asked.merchant,
                code=asked.code,
                states=words(BreakState, asked.states, "filter.states"),
            )
        return connections.page(found, Break.of, key=lambda row: row.id, first=first, after=after)


@strawberry.input
class StartReconciliationRunInput:
    day: date
    idempotency_key: str


@strawberry.type
class Undelivered:
    """A merchant whose statement could not be had, and why."""

    merchant: strawberry.ID
    code: str


@strawberry.type
class StartReconciliationRunPayload(Payload):
    """A run that lacks statements is INGESTING: the same key asks for them again."""

    run: Run | None = None
    undelivered: list[Undelivered] | None = None


@strawberry.input
class AssignBreakInput:
    break_id: strawberry.ID
    idempotency_key: str
    owner: str | None = None


@strawberry.type
class AssignBreakPayload(Payload):
    break_: Break | None = strawberry.field(name="break", default=None)


@strawberry.input
class ProposeBreakResolutionInput:
    """`action`: ACCEPT_THEIRS, ACCEPT_OURS, WRITE_OFF or ASK_PARTNER."""

    break_id: strawberry.ID
    action: str
    note: str
    idempotency_key: str


@strawberry.type
class ProposeBreakResolutionPayload(Payload):
    resolution: Resolution | None = None


@strawberry.input
class ApproveBreakResolutionInput:
    resolution: strawberry.ID
    idempotency_key: str


@strawberry.type
class ApproveBreakResolutionPayload(Payload):
    resolution: Resolution | None = None


@strawberry.input
class SignOffReconciliationRunInput:
    run: strawberry.ID
    idempotency_key: str


@strawberry.type
class SignOffReconciliationRunPayload(Payload):
    run: Run | None = None


_FIRST_DAY = date(2000, 1, 1)


async def _booking_refs(tx: AsyncConnection, day: date) -> dict[str, str]:
    """The partners' own references of what cleared on a day."""
    rows = await settlement.statement_rows(tx, merchant=None, day=day)
    found = await redemptions.redemptions_by_id(tx, sorted({row.cause_id for row in rows}))
    return {id_: row.booking_ref for id_, row in found.items() if row.booking_ref}


async def _start(info: Info, input: StartReconciliationRunInput) -> StartReconciliationRunPayload:
    """Snapshot ours; pull statements with no transaction open; match once all are there."""
    context = info.context
    if not _FIRST_DAY <= input.day <= business_day(context.now):
        raise InvalidInput("day", "a business day that has begun")

    async def start(tx: AsyncConnection) -> str:
        made = await reconciliation.start_run(
            tx,
            day=input.day,
            actor=context.actor.subject,
            now=context.now,
            booking_refs=await _booking_refs(tx, input.day),
        )
        return made.id

    async with context.writing():
        done = await context.once("startReconciliationRun", input, start)
    failed = await _finish(context, done.id)
    async with context.reading() as tx:
        found = await reconciliation.run(tx, done.id)
    return StartReconciliationRunPayload(
        run=Run.of(found),
        undelivered=[
            Undelivered(merchant=strawberry.ID(merchant), code=error.code)
            for merchant, error in sorted(failed.items())
        ],
        replayed=done.replayed,
    )


async def _finish(context: Context, run_id: str) -> dict[str, GatewayError]:
    """Pull what a run lacks, and match it if nothing is missing any more."""
    services = context.services
    async with services.database.reading() as tx:
        found = await reconciliation.run(tx, run_id)
    if found.state not in (RunState.CREATED, RunState.INGESTING):
        return {}
    failed = await reconciliation.pull(services.database, services.partners, services.clock, run_id)
    if not failed:
        async with services.database.transaction() as tx:
            await reconciliation.match_run(tx, run_id=run_id, now=context.now)
    return failed


async def _break(tx: AsyncConnection, break_id: str) -> Break:
    (found,) = await reconciliation.breaks(tx, break_id=break_id)
    return Break.of(found)


async def _resolution(tx: AsyncConnection, done_id: str) -> Resolution:
    break_id, resolution_id = done_id.split(" ")
    found = await reconciliation.resolutions(tx, break_id=break_id)
    return next(Resolution.of(row) for row in found if row.id == resolution_id)


@strawberry.type
class ReconciliationMutation:
    @strawberry.mutation(extensions=[Effect(steps=True)])
    async def start_reconciliation_run(
        self, info: Info, input: StartReconciliationRunInput
    ) -> StartReconciliationRunPayload:
        """Reconcile a business day: pull every merchant's statement and match it."""
        return await _start(info, input)

    @strawberry.mutation(extensions=[Effect()])
    async def assign_break(self, info: Info, input: AssignBreakInput) -> AssignBreakPayload:
        """Give a break an owner; the caller by default."""
        owner = input.owner or info.context.actor.subject

        async def assign(tx: AsyncConnection) -> str:
            return (await reconciliation.assign_break(tx, break_id=input.break_id, owner=owner)).id

        done = await info.context.once("assignBreak", input, assign)
        found = await _break(info.context.tx, done.id)
        return AssignBreakPayload(break_=found, replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def propose_break_resolution(
        self, info: Info, input: ProposeBreakResolutionInput
    ) -> ProposeBreakResolutionPayload:
        """Propose what to do about a break; another person approves it."""
        context = info.context

        async def propose(tx: AsyncConnection) -> str:
            made = await reconciliation.propose_resolution(
                tx,
                break_id=input.break_id,
                action=input.action,
                note=input.note,
                actor=context.actor.subject,
                now=context.now,
            )
            return f"{made.break_id} {made.id}"

        done = await context.once("proposeBreakResolution", input, propose)
        found = await _resolution(context.tx, done.id)
        return ProposeBreakResolutionPayload(resolution=found, replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def approve_break_resolution(
        self, info: Info, input: ApproveBreakResolutionInput
    ) -> ApproveBreakResolutionPayload:
        """Approve it: the adjustment is posted, the break closes."""
        context = info.context

        async def approve(tx: AsyncConnection) -> str:
            made = await reconciliation.approve_resolution(
                tx,
                resolution_id=input.resolution,
                actor=context.actor.subject,
                limit_fen=context.actor.limit_fen,
                now=context.now,
            )
            return f"{made.break_id} {made.id}"

        done = await context.once("approveBreakResolution", input, approve)
        found = await _resolution(context.tx, done.id)
        return ApproveBreakResolutionPayload(resolution=found, replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def sign_off_reconciliation_run(
        self, info: Info, input: SignOffReconciliationRunInput
    ) -> SignOffReconciliationRunPayload:
        """Lock a matched run; each of its breaks has an owner or is closed."""
        context = info.context

        async def sign_off(tx: AsyncConnection) -> str:
            made = await reconciliation.sign_off_run(
                tx, run_id=input.run, actor=context.actor.subject, now=context.now
            )
            return made.id

        done = await context.once("signOffReconciliationRun", input, sign_off)
        found = await reconciliation.run(context.tx, done.id)
        return SignOffReconciliationRunPayload(run=Run.of(found), replayed=done.replayed)
