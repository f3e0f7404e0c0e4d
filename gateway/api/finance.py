"""What finance asks: windows, settlements, journals, trial balance."""

from datetime import datetime
from typing import Self

import strawberry

from gateway.api import connections
from gateway.api.connections import Connection
from gateway.api.context import Info
from gateway.api.partner_types import Obligation, SettlementLeg
from gateway.api.scalars import Fen
from gateway.errors import NotFound
from gateway.ledger import model as ledger_model
from gateway.ledger import service as ledger
from gateway.settlement import model as claims
from gateway.settlement import service as settlement


@strawberry.type
class Position:
    """A party's net in a window: positive is owed to it. They sum to zero."""

    party: strawberry.ID
    fen: Fen


@strawberry.type
class Payment:
    """What one party will pay another."""

    payer: strawberry.ID
    payee: strawberry.ID
    fen: Fen

    @classmethod
    def of(cls, flow: claims.Flow) -> Self:
        return cls(payer=strawberry.ID(flow.payer), payee=strawberry.ID(flow.payee), fen=flow.fen)


@strawberry.type
class SettlementWindow:
    """A week of clearing, cut at `cutsAt`."""

    id: strawberry.ID
    state: claims.WindowState
    opened_at: datetime
    cuts_at: datetime
    closed_at: datetime | None
    net_hash: str | None
    count: int | None
    sum_fen: Fen | None

    @classmethod
    def of(cls, window: claims.Window) -> Self:
        return cls(
            id=strawberry.ID(window.id),
            state=window.state,
            opened_at=window.opened_at,
            cuts_at=window.cuts_at,
            closed_at=window.closed_at,
            net_hash=window.net_hash,
            count=window.count,
            sum_fen=window.sum_fen,
        )

    @strawberry.field
    async def positions(self, info: Info) -> list[Position]:
        async with info.context.reading() as tx:
            found = await settlement.positions(tx, window_id=self.id)
        return [Position(party=strawberry.ID(party), fen=found[party]) for party in sorted(found)]

    @strawberry.field
    async def payments(self, info: Info) -> list[Payment]:
        """What bilateral netting gives."""
        async with info.context.reading() as tx:
            found = await settlement.payments(tx, window_id=self.id)
        return [Payment.of(flow) for flow in found]

    @strawberry.field
    async def settlements(self, info: Info) -> list["Settlement"]:
        async with info.context.reading() as tx:
            found = await settlement.settlements(tx, window_id=self.id)
        return [Settlement.of(row) for row in found]


@strawberry.type
class Settlement:
    """The payments of a window: proposed by one person, approved by another."""

    id: strawberry.ID
    window: strawberry.ID
    model: claims.Netting
    state: claims.SettlementState
    net_hash: str
    total_fen: Fen
    proposed_by: str
    proposed_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    bank_csv_sha256: str | None

    @classmethod
    def of(cls, row: claims.Settlement) -> Self:
        return cls(
            id=strawberry.ID(row.id),
            window=strawberry.ID(row.window_id),
            model=row.model,
            state=row.state,
            net_hash=row.net_hash,
            total_fen=row.total_fen,
            proposed_by=row.proposed_by,
            proposed_at=row.proposed_at,
            approved_by=row.approved_by,
            approved_at=row.approved_at,
            bank_csv_sha256=row.bank_csv_sha256,
        )

    @strawberry.field
    async def legs(self, info: Info) -> list[SettlementLeg]:
        async with info.context.reading() as tx:
            found = await settlement.legs(tx, settlement_id=self.id)
        return [SettlementLeg.of(leg) for leg in found]

    @strawberry.field
    async def obligations(
        self, info: Info, first: int = connections.PAGE_SIZE, after: str | None = None
    ) -> Connection[Obligation]:
        """What was netted, by id."""
        count = connections.size(first)
        async with info.context.reading() as tx:
            found = await settlement.obligations(
                tx, window_id=self.window, after=connections.key_of(after), limit=count + 1
            )
        return connections.page(
            found, Obligation.of, key=lambda row: row.id, first=count, after=None
        )

    @strawberry.field
    async def audit_head(self, info: Info) -> str | None:
        """The signed head of the audit chain that its notices bring; null until it is signed."""
        return await info.context.loaders.heads.load(self.id)

    @strawberry.field
    def bank_csv_url(self, info: Info) -> str | None:
        """Where the bank's file is downloaded, with the same token."""
        base = info.context.services.settings.base_url
        return f"{base}/bank/{self.id}.csv" if self.bank_csv_sha256 else None


@strawberry.type
class JournalLine:
    """Debits are positive. Points and fen never stand in one book."""

    book: str
    account: str
    amount: Fen


@strawberry.type
class Journal:
    """The transfers of one event, committed together; never changed."""

    id: strawberry.ID
    kind: ledger_model.Kind
    op_key: str
    cause: strawberry.ID
    actor: str
    approver: str | None
    note: str | None
    effective_at: datetime
    lines: list[JournalLine]

    @classmethod
    def of(cls, id_: str, journal: ledger_model.Journal) -> Self:
        return cls(
            id=strawberry.ID(id_),
            kind=journal.kind,
            op_key=journal.op_key,
            cause=strawberry.ID(journal.cause_id),
            actor=journal.actor,
            approver=journal.approver,
            note=journal.note,
            effective_at=journal.effective_at,
            lines=[
                JournalLine(book=line.book, account=line.account, amount=line.amount)
                for line in journal.lines
            ],
        )


@strawberry.type
class TrialRow:
    """One account of one book: debits less credits. Books are never added up."""

    book: str
    account: str
    balance: Fen


@strawberry.input
class JournalsFilter:
    """`cause` is a redemption, donation, earning, settlement …"""

    cause: strawberry.ID | None = None
    since: datetime | None = None


@strawberry.type
class FinanceQuery:
    @strawberry.field
    async def settlement_windows(
        self, info: Info, first: int = connections.PAGE_SIZE, after: str | None = None
    ) -> Connection[SettlementWindow]:
        async with info.context.reading() as tx:
            found = await settlement.windows(tx)
        return connections.page(
            found, SettlementWindow.of, key=lambda row: row.id, first=first, after=after
        )

    @strawberry.field
    async def settlement(self, info: Info, id: strawberry.ID) -> Settlement | None:
        async with info.context.reading() as tx:
            try:
                return Settlement.of(await settlement.settlement(tx, id))
            except NotFound:
                return None

    @strawberry.field
    async def journals(
        self, info: Info, filter: JournalsFilter | None = None, first: int = connections.PAGE_SIZE
    ) -> Connection[Journal]:
        """Newest first; narrow it by cause or instant to see older ones."""
        asked, count = filter or JournalsFilter(), connections.size(first)
        async with info.context.reading() as tx:
            found = await ledger.entries(
                tx, cause_id=asked.cause, since=asked.since, limit=count + 1
            )
        return connections.page(
            found, lambda row: Journal.of(*row), key=lambda row: row[0], first=count, after=None
        )

    @strawberry.field
    async def trial_balance(self, info: Info, book: str) -> list[TrialRow]:
        """Every account of one book, as in PTS:M04, BUDGET:M04 or HUB."""
        async with info.context.reading() as tx:
            found = await ledger.trial_balance(tx, book)
        return [
            TrialRow(book=book, account=account, balance=balance)
            for account, balance in sorted(found.items())
        ]
