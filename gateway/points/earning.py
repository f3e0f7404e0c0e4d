"""Points from purchases: earned, matured after the return window, taken back on a return."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.compliance import service as compliance
from gateway.compliance.model import budget_account, refund_lines
from gateway.compliance.model import budget_lines as charge
from gateway.errors import AlreadyRegistered, NotFound
from gateway.ledger import service as ledger
from gateway.ledger.model import (
    ISSUED,
    Insufficient,
    Journal,
    Kind,
    Line,
    Part,
    budget_book,
    credit,
    debit,
    member_account,
    points_book,
)
from gateway.members import service as members
from gateway.points import rows, store
from gateway.points.issuing import new_lot, over_budget
from gateway.points.model import (
    RETURN_WINDOW,
    Earning,
    EarningState,
    Lot,
    Programme,
    Return,
    declared_value,
    earned,
)
from gateway.points.programmes import policy, programme
from gateway.values import InvalidAmount, Rate, amount, business_day, new_id


async def earn(
    tx: AsyncConnection,
    *,
    programme_id: str,
    member_id: str,
    ref: str,
    cash_fen: int | None = None,
    nights: int | None = None,
    distance_km: int | None = None,
    fare_class: str | None = None,
    category: str | None = None,
    at: datetime,
    consumed: bool,
    multiplier: Rate | None = None,
    bonus: int = 0,
    basis: str = "PURCHASE",
    actor: str,
    live: bool,
    now: datetime,
) -> Earning:
    """Earn points for a purchase; the programme says how many.

    Args:
        ref: The merchant's own number of the purchase.
        cash_fen: What was paid in cash: only cash earns.
        at: Instant of the purchase.
        consumed: Points are available at once; else when the return window is over.
        multiplier: Of a promotion, floored; `bonus` comes after it.

    Returns:
        The earning; of 0 points where the programme does not count the purchase.

    Raises:
        AlreadyRegistered: The issuer recorded this reference before.
        BudgetExceeded, NoConsumptionBasis, UnspecifiedRecipient, LicenceInvalid, IssuerExited.
        InvalidInput, InvalidAmount: Nights, distance or cash that the policy does not take.

    Source: requirements §4.3, S-030, S-032, S-040.
    """
    of = await programme(tx, programme_id)
    await compliance.admit_issue(
        tx, issuer=of.issuer, member_id=member_id, basis=basis, ref=ref, live=live, now=now
    )
    terms: dict[str, Any] = {"cash_fen": cash_fen, "nights": nights, "distance_km": distance_km}
    tier = (await members.get(tx, member_id)).tiers.get(programme_id)
    terms |= {"fare_class": fare_class, "category": category, "bonus": bonus, "tier": tier}
    points = _countable(earned(of, **terms, multiplier=multiplier), of)
    mature_at = at if consumed else at + RETURN_WINDOW
    state = EarningState.PENDING if points else EarningState.MATURED
    made = Earning(new_id("ern"), of.issuer, of.id, member_id, ref, points, state, mature_at, None)
    terms["multiplier"] = [multiplier.num, multiplier.den] if multiplier else None
    if not await store.add_earning(tx, _row(made, of, at=at, basis=basis, terms=terms)):
        raise AlreadyRegistered(field=("ref",), id=ref)
    if points and consumed:
        return await _earn_at_once(tx, made, of, at=at, basis=basis, actor=actor, now=now)
    if points:
        book, pending = points_book(of.issuer), member_account(member_id, Part.PENDING)
        lines = (debit(book, ISSUED, points), credit(book, pending, points))
        await _post_earn(tx, made, of, lines, at=at, actor=actor, now=now)
    return made


def _countable(points: int, of: Programme) -> int:
    amount(declared_value(points, of.rate), field="points", least=0)
    return amount(points, field="points", least=0)


async def mature(tx: AsyncConnection, *, now: datetime, limit: int) -> int:
    """Turn earnings whose return window is over into lots; a debt is paid first.

    Returns:
        How many; less than `limit` when none is left.
    """
    due = await store.lock_due(tx, now, limit)
    if not due:
        return 0
    wallets = sorted({(row.issuer, row.member_id) for row in due})
    debts = await _debts(tx, wallets)
    lots, journals, changes = [], [], []
    for row in due:
        points = row.points - row.returned_points
        wallet = (row.issuer, row.member_id)
        paid = min(debts[wallet], points)
        debts[wallet] -= paid
        lot = _lot(row, points, paid)
        lots.append(lot)
        pending = member_account(row.member_id, Part.PENDING)
        journals.append(
            Journal(
                kind=Kind.MATURE,
                op_key=f"{row.earning_id}:mature",
                lines=(debit(points_book(row.issuer), pending, points), *_receive(lot, paid)),
                effective_at=row.mature_at,
                actor="gateway",
                cause_id=row.earning_id,
            )
        )
        changes.append({"earning": row.earning_id, "state": "MATURED", "lot_id": lot.id})
    ids = await ledger.post(tx, journals, now=now)
    await _store_lots(tx, lots, journals, ids, now)
    await store.update_earnings(tx, changes)
    return len(due)


async def record_return(
    tx: AsyncConnection,
    *,
    issuer: str,
    ref: str,
    cash_fen: int | None = None,
    actor: str,
    now: datetime,
) -> Return:
    """Take back the points of a purchase that is returned, wholly or in part.

    Pending points go first, then what is left in the purchase's lot; the rest becomes a debt,
    which later earning pays. The budget gets the value back. Returning it twice takes nothing.

    Args:
        cash_fen: What the member gets back in cash; None for all.

    Raises:
        NotFound: The issuer recorded no such purchase.
        InvalidAmount: More than is left of it.

    Source: requirements S-030; contracts §8.3, E14.
    """
    row = await store.lock_earning(tx, issuer, ref)
    if row is None:
        raise NotFound(field=("ref",), id=ref)
    returned_fen = await _returned_fen(row, cash_fen)
    kept = await _kept(tx, row, returned_fen if cash_fen is not None else None)
    points = max(row.points - row.returned_points - kept, 0)
    left = row.points - row.returned_points
    change = {
        "earning": row.earning_id,
        "returned_points": row.returned_points + points,
        "returned_fen": returned_fen,
        "returns": row.returns + 1,
        "state": row.state,
    }
    pending = row.state == EarningState.PENDING
    if pending and points == left:
        change["state"] = EarningState.RETURNED
    await store.update_earnings(tx, [change])
    if points == 0:
        return Return(row.earning_id, ref, 0, 0, 0, 0)
    if pending:
        back = Return(row.earning_id, ref, points, points, 0, 0)
    else:
        free = min(await _free(tx, row), points)
        back = Return(row.earning_id, ref, points, 0, free, points - free)
    await _claw_back(tx, row, back, left=left, actor=actor, now=now)
    return back


async def _claw_back(
    tx: AsyncConnection, row: sa.Row[Any], back: Return, *, left: int, actor: str, now: datetime
) -> None:
    """Post a return, out of the lot and into debt; the budget gets the value back.

    Args:
        left: Points of the purchase that were not returned before.
    """
    book = points_book(row.issuer)
    parts = (
        (Part.PENDING, back.from_pending),
        (Part.AVAIL, back.from_available),
        (Part.OWED, back.owed),
    )
    rate = Rate(row.rate_num, row.rate_den)
    value_fen = declared_value(left, rate) - declared_value(left - back.points, rate)
    journal = Journal(
        kind=Kind.CLAW_BACK,
        op_key=f"{row.earning_id}:return:{row.returns + 1}",
        lines=(
            *(debit(book, member_account(row.member_id, part), n) for part, n in parts if n),
            credit(book, ISSUED, back.points),
            *refund_lines(row.issuer, value_fen),
        ),
        effective_at=now,
        actor=actor,
        cause_id=row.earning_id,
    )
    moves = [(row.lot_id, 0, -back.from_available)] if back.from_available else []
    if moves:
        await store.move_lots(tx, moves)
    ids = await ledger.post(tx, [journal], now=now)
    made = rows.movements(ids[0], moves, kind=Kind.CLAW_BACK, cause_id=row.earning_id, now=now)
    await store.insert(tx, store.movements, made)


async def _earn_at_once(
    tx: AsyncConnection,
    made: Earning,
    of: Programme,
    *,
    at: datetime,
    basis: str,
    actor: str,
    now: datetime,
) -> Earning:
    debts = await _debts(tx, [(of.issuer, made.member_id)], charged=True)
    paid = min(debts[of.issuer, made.member_id], made.points)
    earned_on = business_day(at)
    lot = new_lot(
        of,
        made.member_id,
        made.points,
        basis=basis,
        ref=made.ref,
        earned_on=earned_on,
        end=of.expiry(earned_on),
    )
    lot = replace(lot, remaining=made.points - paid)
    lines = (debit(points_book(of.issuer), ISSUED, made.points), *_receive(lot, paid))
    journal, journal_id = await _post_earn(tx, made, of, lines, at=at, actor=actor, now=now)
    await _store_lots(tx, [lot], [journal], [journal_id], now)
    change = {"earning": made.id, "state": EarningState.MATURED, "lot_id": lot.id}
    await store.update_earnings(tx, [change])
    return replace(made, state=EarningState.MATURED, lot_id=lot.id, paid_debt=paid)


async def _post_earn(
    tx: AsyncConnection,
    made: Earning,
    of: Programme,
    lines: Sequence[Line],
    *,
    at: datetime,
    actor: str,
    now: datetime,
) -> tuple[Journal, str]:
    """Post an earning's points, and charge their value to the yearly budget.

    From now on the issuer knows the member.
    """
    journal = Journal(
        kind=Kind.EARN,
        op_key=f"{made.id}:earn",
        lines=(*lines, *charge(of.issuer, declared_value(made.points, of.rate))),
        effective_at=at,
        actor=actor,
        cause_id=made.id,
    )
    try:
        (journal_id,) = await ledger.post(tx, [journal], now=now)
    except Insufficient as short:
        raise await over_budget(tx, short, of, now) from short
    await members.relate(tx, made.member_id, made.issuer)
    return journal, journal_id


async def _debts(
    tx: AsyncConnection, wallets: Iterable[tuple[str, str]], *, charged: bool = False
) -> dict[tuple[str, str], int]:
    """What members owe their issuers.

    Where someone owes, all balances that the journal will change are locked, in their order.
    """
    owed = {
        (issuer, member_id): (points_book(issuer), member_account(member_id, Part.OWED))
        for issuer, member_id in wallets
    }
    found = await ledger.guarded_balances(tx, list(owed.values()))
    if any(found.values()):
        keys = [
            (points_book(issuer), member_account(member_id, part))
            for issuer, member_id in owed
            for part in (Part.AVAIL, Part.OWED, Part.PENDING)
        ]
        if charged:
            keys += [(budget_book(issuer), budget_account(None)) for issuer, _ in owed]
        found = await ledger.guarded_balances(tx, keys, lock=True)
    return {wallet: found[key] for wallet, key in owed.items()}


def _receive(lot: Lot, paid: int) -> list[Line]:
    """Credits of a new lot's points: what is owed first, then the member's balance."""
    book = points_book(lot.issuer)
    parts = ((Part.OWED, paid), (Part.AVAIL, lot.remaining))
    return [credit(book, member_account(lot.member_id, part), n) for part, n in parts if n]


def _lot(row: sa.Row[Any], points: int, paid: int) -> Lot:
    """The lot of a matured earning, under the terms of the purchase's day."""
    return Lot(
        id=new_id("lot"),
        member_id=row.member_id,
        programme_id=row.programme_id,
        issuer=row.issuer,
        points=points,
        held=0,
        remaining=points - paid,
        rate=Rate(row.rate_num, row.rate_den),
        policy_version=row.policy_version,
        earned_on=row.earned_on,
        expires_at=row.expires_at,
        basis=row.basis,
        ref=row.ref,
    )


async def _store_lots(
    tx: AsyncConnection,
    lots: Sequence[Lot],
    journals: Sequence[Journal],
    ids: Sequence[str],
    now: datetime,
) -> None:
    """Store lots with the journals that made them."""
    together = list(zip(lots, journals, ids, strict=True))
    opened = [rows.lot_row(lot, op_key=journal.op_key, now=now) for lot, journal, _ in together]
    await store.insert(tx, store.lots, opened)
    made = [
        row
        for lot, journal, journal_id in together
        if lot.remaining
        for row in rows.movements(
            journal_id,
            [(lot.id, 0, lot.remaining)],
            kind=journal.kind,
            cause_id=journal.cause_id,
            now=now,
        )
    ]
    await store.insert(tx, store.movements, made)


async def _free(tx: AsyncConnection, row: sa.Row[Any]) -> int:
    """What is left, and not held, of a matured earning's lot."""
    if row.lot_id is None:
        return 0
    return rows.lot((await store.lock_lots(tx, [row.lot_id]))[0]).free


async def _returned_fen(row: sa.Row[Any], cash_fen: int | None) -> int:
    """Cash returned of a purchase, this return included."""
    if row.cash_fen is None or cash_fen is None:
        return int(row.cash_fen or 0)
    total = int(row.returned_fen + amount(cash_fen, field="cash_fen"))
    if total > row.cash_fen:
        raise InvalidAmount(field=("cash_fen",), value=cash_fen)
    return total


async def _kept(tx: AsyncConnection, row: sa.Row[Any], returned_fen: int | None) -> int:
    """Points that stay: what the kept cash alone would have earned under the same terms."""
    if returned_fen is None or row.cash_fen is None or returned_fen == row.cash_fen:
        return 0
    terms: Mapping[str, Any] = row.terms
    multiplier = Rate(*terms["multiplier"]) if terms["multiplier"] else None
    given = {**terms, "cash_fen": row.cash_fen - returned_fen, "multiplier": multiplier}
    return earned(await policy(tx, row.programme_id, row.policy_version), **given)


def _row(
    made: Earning, of: Programme, *, at: datetime, basis: str, terms: dict[str, Any]
) -> dict[str, Any]:
    earned_on = business_day(at)
    return {
        "earning_id": made.id,
        "issuer": made.issuer,
        "ref": made.ref,
        "programme_id": made.programme_id,
        "member_id": made.member_id,
        "points": made.points,
        "cash_fen": terms["cash_fen"],
        "rate_num": of.rate.num,
        "rate_den": of.rate.den,
        "policy_version": of.policy_version,
        "basis": basis,
        "terms": terms,
        "earned_on": earned_on,
        "expires_at": of.expiry(earned_on),
        "mature_at": made.mature_at,
        "state": made.state,
    }
