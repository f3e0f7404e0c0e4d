"""The red lines as gates in front of every issue, and the log of what they decided."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.compliance import store
from gateway.compliance.model import (
    BASES,
    COMP,
    Budget,
    BudgetExceeded,
    IssuerExited,
    Licence,
    LicenceInvalid,
    NoConsumptionBasis,
    UnspecifiedRecipient,
    approval_lines,
    budget_account,
    lapse_lines,
    require_four_eyes,
    slice_lines,
)
from gateway.errors import AlreadyRegistered, NotFound
from gateway.ledger import service as ledger
from gateway.ledger.model import Insufficient, Journal, Kind, budget_book
from gateway.members import service as members
from gateway.members.model import SERVICE
from gateway.merchants import service as merchants
from gateway.values import InvalidInput, Rate, amount, business_day, new_id


async def admit_issue(
    tx: AsyncConnection,
    *,
    issuer: str,
    member_id: str,
    basis: str,
    ref: str,
    live: bool,
    now: datetime,
) -> None:
    """Let an issue of points pass the red lines, and log it. The budget is judged in posting.

    Args:
        basis: Why the points may exist, one of `BASES`.
        ref: The purchase, task, contract or event that is the basis.
        live: Whether points are real, so that the operator's licence must be valid.

    Raises:
        NoConsumptionBasis: The basis is not one that makes points, or cites nothing.
        UnspecifiedRecipient: No such member, or it has not agreed to the service.
        LicenceInvalid: Live, and no licence is valid on this business day.
        IssuerExited: The issuer has left.

    Source: requirements C-05, S-100, S-101, S-104.
    """
    if basis not in BASES or not ref.strip():
        raise NoConsumptionBasis(field=("basis",), accepted_bases=BASES)
    known = await members.get_many(tx, [member_id])
    if member_id not in known or not await members.has_consent(
        tx, member_id=member_id, purpose=SERVICE, now=now
    ):
        raise UnspecifiedRecipient(field=("member_id",), row=member_id)
    today = business_day(now)
    parties = await merchants.get_many(tx, [issuer])
    left = parties[issuer].exited_on if issuer in parties else None
    if left is not None and left <= today:
        raise IssuerExited(issuer=issuer)
    if live:
        await require_licence(tx, on=today)
    context = {"issuer": issuer, "basis": basis, "ref": ref}
    await decide(tx, rule="issue", subject=member_id, verdict="admitted", context=context, now=now)


async def propose_budget(
    tx: AsyncConnection,
    *,
    issuer: str,
    year: int,
    budget_fen: int,
    compensation_bps: int,
    actor: str,
    now: datetime,
) -> Budget:
    """Propose an issuer's marketing budget for a year; another person approves it.

    Raises:
        InvalidAmount, InvalidInput: No such budget, year or share of compensation.
    """
    amount(budget_fen, field="budget_fen")
    if not 0 <= compensation_bps <= 10_000:
        raise InvalidInput("compensation_bps", "{least} to {most}", least=0, most=10_000)
    this = business_day(now).year
    if not this - 1 <= year <= this + 5:
        raise InvalidInput("year", "{least} to {most}", least=this - 1, most=this + 5)
    budget = Budget(new_id("bud"), issuer, year, budget_fen, compensation_bps, proposed_by=actor)
    await store.insert_budget(
        tx,
        {
            "budget_id": budget.id,
            "issuer": issuer,
            "year": year,
            "budget_fen": budget_fen,
            "compensation_bps": compensation_bps,
            "proposed_by": actor,
            "proposed_at": now,
        },
    )
    return budget


async def approve_budget(
    tx: AsyncConnection, *, budget_id: str, actor: str, limit_fen: int, now: datetime
) -> Budget:
    """Approve a budget: its fen can be issued in its year, its compensation slice on top.

    A second budget of a year adds to the first. That of a coming year waits for `turn_year`.
    Approving twice is fine.

    Raises:
        NotFound: There is none.
        FourEyesRequired: The proposer approves, or the limit is below the budget.
    """
    row = await store.select_budget(tx, budget_id)
    if row is None:
        raise NotFound(id=budget_id)
    budget = _budget(row)
    if budget.approved_by is not None:
        return budget
    total = budget.budget_fen + budget.compensation_fen
    require_four_eyes(
        proposer=budget.proposed_by, approver=actor, amount_fen=total, limit_fen=limit_fen
    )
    values = {"approved_by": actor, "approved_at": now}
    if not await store.approve_budget(tx, budget_id, values):
        raise AlreadyRegistered(id=budget_id)
    budget = replace(budget, approved_by=actor, approved_at=now)
    body = {"issuer": budget.issuer, "year": budget.year, "total_fen": total}
    body |= {"proposed_by": budget.proposed_by, "limit_fen": limit_fen}
    await audit.record(
        tx, kind="budget.approved", subject=budget_id, actor=actor, body=body, now=now
    )
    if budget.year <= business_day(now).year:
        await _open(tx, budget, now)
    return budget


async def turn_year(tx: AsyncConnection, *, now: datetime) -> int:
    """Let what is left of past years' budgets lapse, and open those approved for this year.

    Returns:
        How many issuers' budgets changed; 0 on every day but the first on which it runs.

    Source: requirements C-24: the budget counts points in the year of issue.
    """
    year = business_day(now).year
    waiting = [_budget(row) for row in await store.select_unopened(tx, year)]
    turned = {budget.issuer for budget in waiting}
    for issuer, last in sorted((await store.last_years(tx)).items()):
        if last < year and await _lapse(tx, issuer, last, now):
            turned.add(issuer)
    for budget in waiting:
        await _open(tx, budget, now)
    return len(turned)


async def _open(tx: AsyncConnection, budget: Budget, now: datetime) -> None:
    if not await store.open_budget(tx, budget.id, now):
        return
    lines = approval_lines(budget.issuer, budget_account(None), budget.budget_fen)
    lines += approval_lines(budget.issuer, budget_account(COMP), budget.compensation_fen)
    journal = Journal(
        kind=Kind.BUDGET,
        op_key=f"budget:{budget.id}",
        lines=lines,
        effective_at=now,
        actor=budget.proposed_by,
        approver=budget.approved_by,
        cause_id=budget.id,
    )
    await ledger.post(tx, [journal], now=now)


async def _lapse(tx: AsyncConnection, issuer: str, year: int, now: datetime) -> bool:
    left = await ledger.book_balances(tx, budget_book(issuer))
    lines = tuple(
        line for account, fen in left.items() for line in lapse_lines(issuer, account, fen)
    )
    if lines:
        journal = Journal(
            kind=Kind.BUDGET,
            op_key=f"lapse:{issuer}:{year}:{business_day(now)}",
            lines=lines,
            effective_at=now,
            actor="gateway",
            cause_id=f"{issuer}:{year}",
        )
        await ledger.post(tx, [journal], now=now)
    return bool(lines)


async def add_slice(
    tx: AsyncConnection, *, issuer: str, slice: str, fen: int, now: datetime
) -> None:
    """Set a part of the yearly budget aside for a campaign, such as PR-12.

    Raises:
        AlreadyRegistered: The year has this slice.
        BudgetExceeded: The budget has less left.
    """
    amount(fen, field="fen")
    year = business_day(now).year
    row = {"issuer": issuer, "slice": slice, "year": year, "slice_fen": fen}
    if not await store.add_slice(tx, row):
        raise AlreadyRegistered(field=("slice",), id=slice)
    journal = Journal(
        kind=Kind.BUDGET,
        op_key=f"slice:{issuer}:{year}:{slice}",
        lines=slice_lines(issuer, slice, fen),
        effective_at=now,
        actor="gateway",
        cause_id=slice,
    )
    try:
        await ledger.post(tx, [journal], now=now)
    except Insufficient as short:
        raise await budget_exceeded(tx, short, rate=Rate(1, 1), now=now) from short


async def budget_left(tx: AsyncConnection, issuer: str, slice: str | None = None) -> int:
    """Fen that can still be issued from the budget or a slice."""
    return await ledger.balance(tx, budget_book(issuer), budget_account(slice))


async def budgets(tx: AsyncConnection, issuer: str) -> list[Budget]:
    """An issuer's budgets, newest year first."""
    return [_budget(row) for row in await store.select_budgets(tx, issuer)]


async def budget_exceeded(
    tx: AsyncConnection, short: Insufficient, *, rate: Rate, now: datetime
) -> BudgetExceeded:
    """The refusal that explains why a journal could not be charged to a budget.

    Args:
        rate: Fen per point, in which the budget is told in points.
    """
    issuer = short.book.partition(":")[2]
    name = short.account.partition(":")[2] or None
    year = business_day(now).year
    approved = [
        budget
        for budget in await budgets(tx, issuer)
        if budget.year == year and budget.approved_by is not None
    ]
    budget_fen = sum(budget.budget_fen for budget in approved)
    if name == COMP:
        budget_fen = sum(budget.compensation_fen for budget in approved)
    elif name is not None:
        budget_fen = await store.slice_fen(tx, issuer, name, year)
    return BudgetExceeded(
        issuer=issuer,
        slice=name,
        budget_fen=budget_fen,
        budget_points=budget_fen * rate.den // rate.num,
        left_fen=short.available,
        left_points=short.available * rate.den // rate.num,
    )


async def record_licence(
    tx: AsyncConnection,
    *,
    kind: str,
    number: str,
    scope: str,
    valid_from: date,
    valid_until: date,
    now: datetime,
) -> None:
    """Record a licence of the operator, valid in [valid_from, valid_until)."""
    row: dict[str, Any] = {"kind": kind, "number": number, "scope": scope, "recorded_at": now}
    await store.insert_licence(tx, row | {"valid_from": valid_from, "valid_until": valid_until})


async def licences(tx: AsyncConnection) -> list[Licence]:
    """All licences, that which ends last first."""
    return [
        Licence(row.kind, row.number, row.scope, row.valid_from, row.valid_until)
        for row in await store.select_licences(tx)
    ]


async def require_licence(tx: AsyncConnection, *, on: date) -> None:
    """Check that a licence is valid on a business day.

    Raises:
        LicenceInvalid: None is; the context names the one that ended last, if there was one.
    """
    if await store.licence_on(tx, on):
        return
    ended = [licence for licence in await licences(tx) if licence.valid_until <= on]
    last = ended[0] if ended else None
    raise LicenceInvalid(
        licence=last.number if last else None, expired_on=last.valid_until if last else on
    )


async def decide(
    tx: AsyncConnection,
    *,
    rule: str,
    subject: str,
    verdict: str,
    context: Mapping[str, object],
    now: datetime,
) -> str:
    """Log what a rule decided about a subject; the log is append-only.

    A refusal rolls its transaction back, so whoever wants it logged does so in one of its own.

    Returns:
        Id of the decision.
    """
    row: dict[str, Any] = {"decision_id": new_id("dec"), "rule": rule, "subject": subject}
    row |= {"verdict": verdict, "context": dict(context), "decided_at": now}
    await store.insert_decision(tx, row)
    return str(row["decision_id"])


async def decisions(
    tx: AsyncConnection, *, subject: str | None = None, limit: int
) -> list[Mapping[str, Any]]:
    """The decision log, newest first."""
    return [row._asdict() for row in await store.select_decisions(tx, subject, limit)]


def _budget(row: sa.Row[Any]) -> Budget:
    return Budget(
        id=row.budget_id,
        issuer=row.issuer,
        year=row.year,
        budget_fen=row.budget_fen,
        compensation_bps=row.compensation_bps,
        proposed_by=row.proposed_by,
        approved_by=row.approved_by,
        approved_at=row.approved_at,
    )
