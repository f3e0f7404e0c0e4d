"""What the operator asks and does: merchants, budgets, licences, sagas, the sandbox clock."""

import re
from datetime import date, datetime
from typing import Any, Self

import strawberry
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.api import connections
from gateway.api.catalog_types import Merchant, Programme, merchant, programme
from gateway.api.connections import Connection
from gateway.api.context import Info, given
from gateway.api.errors import Effect, Payload
from gateway.api.partner import words
from gateway.api.partner_types import Cover
from gateway.api.redemption_types import Redemption
from gateway.api.scalars import Fen, Points
from gateway.compliance import model as compliance_model
from gateway.compliance import service as compliance
from gateway.db import SandboxOnly
from gateway.ledger import service as ledger
from gateway.merchants import service as merchants
from gateway.points import service as points
from gateway.redemption import service as redemptions
from gateway.redemption.model import CallState, State
from gateway.settlement import service as settlement
from gateway.values import InvalidInput

_CLOCK_YEARS = range(2000, 2100)  # Terms of decades, before and after, stay within a calendar.
ROLES = ("issuer", "redeemer", "beneficiary")


@strawberry.type
class Budget:
    """An issuer's marketing budget of a year; the compensation slice comes on top."""

    id: strawberry.ID
    issuer: strawberry.ID
    year: int
    budget_fen: Fen
    compensation_fen: Fen
    left_fen: Fen
    proposed_by: str
    approved_by: str | None
    approved_at: datetime | None

    @classmethod
    def of(cls, budget: compliance_model.Budget, *, left_fen: int) -> Self:
        return cls(
            id=strawberry.ID(budget.id),
            issuer=strawberry.ID(budget.issuer),
            year=budget.year,
            budget_fen=budget.budget_fen,
            compensation_fen=budget.compensation_fen,
            left_fen=left_fen,
            proposed_by=budget.proposed_by,
            approved_by=budget.approved_by,
            approved_at=budget.approved_at,
        )


@strawberry.type
class Coverage:
    """What stands behind one issuer's points; issuers are never added up."""

    outstanding_points: Points
    outstanding_value_fen: Fen
    budget_left_fen: Fen
    cover: Cover | None
    programme_id: strawberry.Private[str]
    issuer_id: strawberry.Private[str]

    @strawberry.field
    def issuer(self, info: Info) -> Merchant:
        return merchant(info, self.issuer_id)

    @strawberry.field
    def programme(self, info: Info) -> Programme:
        return programme(info, self.programme_id)


@strawberry.type
class SagaCall:
    """One call of a saga to its partner, as the outbox has it."""

    op_key: str
    verb: str
    attempt: int
    state: CallState
    queued_at: datetime
    answered_at: datetime | None
    detail: str | None


@strawberry.type
class Saga:
    """A redemption as the operator sees it, with its calls."""

    redemption: Redemption

    @strawberry.field
    async def calls(self, info: Info) -> list[SagaCall]:
        return await calls_of(info, self.redemption.id)


async def calls_of(info: Info, redemption_id: str) -> list[SagaCall]:
    """The calls of one redemption, oldest first."""
    names = ("op_key", "verb", "attempt", "state", "queued_at", "answered_at", "detail")
    async with info.context.reading() as tx:
        rows = await redemptions.calls(tx, redemption_id)
    return [SagaCall(**{name: getattr(row, name) for name in names}) for row in rows]


@strawberry.input
class PartnersFilter:
    category: str | None = strawberry.UNSET
    city: str | None = strawberry.UNSET


@strawberry.input
class SagasFilter:
    merchant: strawberry.ID | None = None
    states: list[str] | None = None


@strawberry.type
class OperatorQuery:
    @strawberry.field
    async def partners(
        self,
        info: Info,
        filter: PartnersFilter | None = None,
        first: int = connections.PAGE_SIZE,
        after: str | None = None,
    ) -> Connection[Merchant]:
        async with info.context.reading() as tx:
            found = await merchants.find(tx, **(given(filter) if filter else {}))
        return connections.page(
            found, Merchant.of, key=lambda row: row.id, first=first, after=after
        )

    @strawberry.field
    async def sagas(
        self,
        info: Info,
        filter: SagasFilter | None = None,
        first: int = connections.PAGE_SIZE,
        after: str | None = None,
    ) -> Connection[Saga]:
        """Redemptions and their partner calls, newest first."""
        asked, count = filter or SagasFilter(), connections.size(first)
        start = connections.key_of(after)
        last = await info.context.loaders.redemptions.load(start) if start else None
        if start and last is None:
            raise InvalidInput("after", "a cursor of this list")
        async with info.context.reading() as tx:
            found = await redemptions.redemptions(
                tx,
                merchant_id=asked.merchant,
                states=words(State, asked.states, "filter.states"),
                after=(last.created_at, last.id) if last else None,
                limit=count + 1,
            )
        return connections.page(
            found,
            lambda row: Saga(redemption=Redemption.of(row)),
            key=lambda row: row.id,
            first=count,
            after=None,
        )

    @strawberry.field
    async def budgets(self, info: Info, issuer: strawberry.ID) -> list[Budget]:
        async with info.context.reading() as tx:
            left = await compliance.budget_left(tx, issuer)
            return [
                Budget.of(budget, left_fen=left) for budget in await compliance.budgets(tx, issuer)
            ]

    @strawberry.field
    async def coverage(self, info: Info) -> list[Coverage]:
        """Outstanding points at declared value, budget and cover, issuer by issuer."""
        found = []
        async with info.context.reading() as tx:
            for each in await points.programmes(tx):
                outstanding = await ledger.outstanding(tx, each.issuer)
                cover = await settlement.cover_of(tx, merchant_id=each.issuer)
                found.append(
                    Coverage(
                        outstanding_points=outstanding,
                        outstanding_value_fen=each.rate.floor(outstanding),
                        budget_left_fen=await compliance.budget_left(tx, each.issuer),
                        cover=Cover.of(cover) if cover else None,
                        programme_id=each.id,
                        issuer_id=each.issuer,
                    )
                )
        return found


@strawberry.input
class CoverInput:
    """What an issuer can be trusted to pay."""

    collateral_fen: Fen
    net_debit_cap_fen: Fen


@strawberry.input
class SettlementAccountInput:
    bank_code: str
    number: str


@strawberry.input
class RegisterMerchantInput:
    id: strawberry.ID
    slug: str
    name_zh: str
    cities: list[str]
    market: str
    roles: list[str]
    idempotency_key: str
    name_en: str = ""
    category: str = ""
    settlement_account: SettlementAccountInput | None = None
    cover: CoverInput | None = None


@strawberry.type
class RegisterMerchantPayload(Payload):
    """The onboarding code is shown once: a replay does not show it again."""

    merchant: Merchant | None = None
    onboarding_code: str | None = None


@strawberry.input
class PausePartnerInput:
    merchant: strawberry.ID
    idempotency_key: str
    paused: bool = True


@strawberry.type
class PausePartnerPayload(Payload):
    merchant: Merchant | None = None


@strawberry.input
class ProposeBudgetInput:
    issuer: strawberry.ID
    year: int
    budget_fen: Fen
    idempotency_key: str
    compensation_bps: int = 100


@strawberry.type
class ProposeBudgetPayload(Payload):
    budget: Budget | None = None


@strawberry.input
class ApproveBudgetInput:
    budget: strawberry.ID
    idempotency_key: str


@strawberry.type
class ApproveBudgetPayload(Payload):
    budget: Budget | None = None


@strawberry.input
class RecordLicenceInput:
    """Valid from its first day until the first day without it."""

    kind: str
    number: str
    scope: str
    valid_from: date
    valid_until: date
    idempotency_key: str


@strawberry.type
class Licence:
    kind: str
    number: str
    scope: str
    valid_from: date
    valid_until: date


@strawberry.type
class RecordLicencePayload(Payload):
    licence: Licence | None = None


@strawberry.input
class SetSandboxClockInput:
    at: datetime
    idempotency_key: str


@strawberry.type
class SetSandboxClockPayload(Payload):
    now: datetime | None = None


async def _register_merchant(info: Info, input: RegisterMerchantInput) -> RegisterMerchantPayload:
    context, code = info.context, None
    for name in ("id", "slug"):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", getattr(input, name)):
            raise InvalidInput(name, "1 to 32 letters, digits, - and _")
    for number, role in enumerate(input.roles):
        if role not in ROLES:
            raise InvalidInput(f"roles.{number}", "one of {values}", values=ROLES)
    account = input.settlement_account

    async def register(tx: AsyncConnection) -> str:
        nonlocal code
        made, code = await merchants.register(
            tx,
            id=input.id,
            slug=input.slug,
            name_zh=input.name_zh,
            name_en=input.name_en,
            category=input.category,
            cities=input.cities,
            market=input.market,
            roles=input.roles,
            settlement_account=given(account) if account else None,
            sandbox=context.services.settings.sandbox,
            now=context.now,
            code_hours=context.services.settings.onboarding_code_hours,
        )
        if input.cover is not None:
            await settlement.set_cover(tx, merchant_id=made.id, **given(input.cover))
        return made.id

    done = await context.once("registerMerchant", input, register)
    found = await merchants.get(context.tx, done.id)
    return RegisterMerchantPayload(
        merchant=Merchant.of(found), onboarding_code=code, replayed=done.replayed
    )


async def _budget(tx: AsyncConnection, issuer: str, budget_id: str) -> Budget:
    found = await compliance.budgets(tx, issuer)
    left = await compliance.budget_left(tx, issuer)
    return next(Budget.of(row, left_fen=left) for row in found if row.id == budget_id)


@strawberry.type
class OperatorMutation:
    @strawberry.mutation(extensions=[Effect()])
    async def register_merchant(
        self, info: Info, input: RegisterMerchantInput
    ) -> RegisterMerchantPayload:
        """Register a merchant; its one-use code lets it register its first key."""
        return await _register_merchant(info, input)

    @strawberry.mutation(extensions=[Effect()])
    async def pause_partner(self, info: Info, input: PausePartnerInput) -> PausePartnerPayload:
        """Stop a merchant from taking part, or let it again."""

        async def pause(tx: AsyncConnection) -> str:
            await merchants.pause(tx, id=input.merchant, paused=input.paused)
            return input.merchant

        done = await info.context.once("pausePartner", input, pause)
        found = await merchants.get(info.context.tx, done.id)
        return PausePartnerPayload(merchant=Merchant.of(found), replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def propose_budget(self, info: Info, input: ProposeBudgetInput) -> ProposeBudgetPayload:
        """Propose a marketing budget of a year; another person approves it."""
        context = info.context

        async def propose(tx: AsyncConnection) -> str:
            await merchants.get(tx, input.issuer)
            made = await compliance.propose_budget(
                tx,
                issuer=input.issuer,
                year=input.year,
                budget_fen=input.budget_fen,
                compensation_bps=input.compensation_bps,
                actor=context.actor.subject,
                now=context.now,
            )
            return made.id

        done = await context.once("proposeBudget", input, propose)
        found = await _budget(context.tx, input.issuer, done.id)
        return ProposeBudgetPayload(budget=found, replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def approve_budget(self, info: Info, input: ApproveBudgetInput) -> ApproveBudgetPayload:
        """Approve a budget: another person than its proposer, with a sufficient limit."""
        context = info.context

        async def approve(tx: AsyncConnection) -> str:
            made = await compliance.approve_budget(
                tx,
                budget_id=input.budget,
                actor=context.actor.subject,
                limit_fen=context.actor.limit_fen,
                now=context.now,
            )
            return f"{made.issuer} {made.id}"

        done = await context.once("approveBudget", input, approve)
        issuer, budget_id = done.id.split(" ")
        found = await _budget(context.tx, issuer, budget_id)
        return ApproveBudgetPayload(budget=found, replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def record_licence(self, info: Info, input: RecordLicenceInput) -> RecordLicencePayload:
        """Record a licence of the operator."""
        context = info.context
        if input.valid_until <= input.valid_from:
            raise InvalidInput("valid_until", "after valid_from")
        for name in ("kind", "number", "scope"):
            if not getattr(input, name).strip():
                raise InvalidInput(name, "a text")
        facts: dict[str, Any] = given(input)
        del facts["idempotency_key"]

        async def record(tx: AsyncConnection) -> str:
            await compliance.record_licence(tx, now=context.now, **facts)
            return input.number

        done = await context.once("recordLicence", input, record)
        return RecordLicencePayload(licence=Licence(**facts), replayed=done.replayed)

    @strawberry.mutation(extensions=[Effect()])
    async def set_sandbox_clock(
        self, info: Info, input: SetSandboxClockInput
    ) -> SetSandboxClockPayload:
        """Move the one business clock of all processes; in live mode `SANDBOX_ONLY`."""
        context = info.context
        if not context.services.settings.sandbox:
            raise SandboxOnly
        if input.at.year not in _CLOCK_YEARS:
            raise InvalidInput(
                "at", "in the years {least} to {most}", least=_CLOCK_YEARS[0], most=_CLOCK_YEARS[-1]
            )

        async def move(tx: AsyncConnection) -> str:
            await context.services.clock.set(tx, input.at)
            return input.at.isoformat()

        done = await context.once("setSandboxClock", input, move)
        return SetSandboxClockPayload(now=context.now, replayed=done.replayed)
