"""What a merchant asks about its own agreements, claims, bills and settlement legs.

Finance may ask the same of every merchant; to a merchant others' rows do not exist.
"""

from datetime import date
from enum import StrEnum
from typing import Annotated, TypeVar

import strawberry

from gateway.api import connections
from gateway.api.catalog_types import Merchant
from gateway.api.connections import Connection
from gateway.api.context import Info
from gateway.api.partner_types import (
    Agreement,
    Bill,
    Cover,
    Obligation,
    SettlementLeg,
)
from gateway.api.scalars import Fen
from gateway.compliance import service as compliance
from gateway.merchants import model as merchant_model
from gateway.oauth.scopes import Role
from gateway.settlement import service as settlement
from gateway.settlement.model import LegState, State
from gateway.values import InvalidInput


def merchant_of(info: Info) -> str:
    """The merchant that asks."""
    merchant_id = info.context.actor.merchant_id
    assert merchant_id is not None, "the policy lets merchants in only"
    return merchant_id


def _own(info: Info, asked: str | None) -> str | None:
    """The merchant whose rows are meant: its own for a merchant, any or all for finance.

    A merchant that asks for another one's gets what an unknown merchant would have: nothing.
    """
    if info.context.actor.role == Role.PARTNER:
        own = merchant_of(info)
        return own if asked in (None, own) else ""
    return asked


@strawberry.type
class Partner:
    """The merchant that asks, with what only it may see."""

    source: strawberry.Private[merchant_model.Merchant]

    @strawberry.field
    def merchant(self) -> Merchant:
        return Merchant.of(self.source)

    @strawberry.field
    def settlement_account(self) -> str | None:
        """The account it is paid to."""
        account = self.source.settlement_account
        return str(account.get("number")) if account else None

    @strawberry.field
    async def cover(self, info: Info) -> Cover | None:
        async with info.context.reading() as tx:
            found = await settlement.cover_of(tx, merchant_id=self.source.id)
        return Cover.of(found) if found else None

    @strawberry.field
    async def budget_left_fen(self, info: Info) -> Fen:
        """What can still be issued from this year's budget."""
        async with info.context.reading() as tx:
            return await compliance.budget_left(tx, self.source.id)


@strawberry.input
class ObligationsFilter:
    """All given conditions hold. `cause` is a redemption or donation."""

    merchant: strawberry.ID | None = None
    cause: strawberry.ID | None = None
    window: strawberry.ID | None = None
    settlement: strawberry.ID | None = None
    day: date | None = None
    states: list[str] | None = None


@strawberry.input
class SettlementLegsFilter:
    merchant: strawberry.ID | None = None
    settlement: strawberry.ID | None = None
    states: list[str] | None = None


@strawberry.type
class PartnerQuery:
    @strawberry.field
    async def partner(self, info: Info) -> Partner | None:
        """The merchant that asks."""
        found = await info.context.loaders.merchants.load(merchant_of(info))
        return Partner(source=found) if found else None

    @strawberry.field
    async def agreements(
        self,
        info: Info,
        merchant: strawberry.ID | None = None,
        first: int = connections.PAGE_SIZE,
        after: str | None = None,
    ) -> Connection[Agreement]:
        """Agreements it is a party to, proposed and signed, every version."""
        async with info.context.reading() as tx:
            found = await settlement.agreements(tx, merchant=_own(info, merchant))
        return connections.page(
            found,
            Agreement.of,
            key=lambda row: f"{row.id} {row.version}",
            first=first,
            after=after,
        )

    @strawberry.field
    async def obligations(
        self,
        info: Info,
        filter: ObligationsFilter | None = None,
        first: int = connections.PAGE_SIZE,
        after: str | None = None,
    ) -> Connection[Obligation]:
        """Claims in which it is payer or payee, by id."""
        count, asked = connections.size(first), filter or ObligationsFilter()
        async with info.context.reading() as tx:
            found = await settlement.obligations(
                tx,
                merchant=_own(info, asked.merchant),
                cause_id=asked.cause,
                window_id=asked.window,
                settlement_id=asked.settlement,
                day=asked.day,
                states=words(State, asked.states, "filter.states"),
                after=connections.key_of(after),
                limit=count + 1,
            )
        return connections.page(
            found, Obligation.of, key=lambda row: row.id, first=count, after=None
        )

    @strawberry.field
    async def bills(
        self,
        info: Info,
        day: Annotated[date, strawberry.argument(name="date")],
        type: str | None = None,
    ) -> Bill:
        """What cleared for it as a redeemer on a business day; reversals are negative."""
        async with info.context.reading() as tx:
            rows = await settlement.statement_rows(tx, merchant=merchant_of(info), day=day)
        lines = [Obligation.of(row) for row in rows if type in (None, str(row.type))]
        return Bill(
            merchant=strawberry.ID(merchant_of(info)),
            day=day,
            lines=lines,
            count=len(lines),
            sum_fen=sum(line.statement_fen for line in lines),
        )

    @strawberry.field
    async def settlement_legs(
        self,
        info: Info,
        filter: SettlementLegsFilter | None = None,
        first: int = connections.PAGE_SIZE,
        after: str | None = None,
    ) -> Connection[SettlementLeg]:
        """Payments it is told about, with its notices and answers."""
        asked = filter or SettlementLegsFilter()
        async with info.context.reading() as tx:
            found = await settlement.legs(
                tx,
                settlement_id=asked.settlement,
                merchant=_own(info, asked.merchant),
                states=words(LegState, asked.states, "filter.states"),
            )
        return connections.page(
            found, SettlementLeg.of, key=lambda row: row.id, first=first, after=after
        )


W = TypeVar("W", bound=StrEnum)


def words(kind: type[W], given: list[str] | None, field: str) -> list[W] | None:
    """States by their names.

    Raises:
        InvalidInput: One is none.
    """
    try:
        return None if given is None else [kind(name) for name in given]
    except ValueError as error:
        raise InvalidInput(field, "one of {values}", values=[*kind]) from error
