"""Make lots and spend them outside a redemption: openings, issues, gifts, expiry."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.compliance import service as compliance
from gateway.compliance.model import budget_lines as charge
from gateway.errors import NotFound
from gateway.ledger import service as ledger
from gateway.ledger.model import (
    BUDGET,
    EXPIRED,
    ISSUED,
    REDEEMED_OWN,
    Insufficient,
    Journal,
    Kind,
    Line,
    Part,
    credit,
    debit,
    member_account,
    points_book,
)
from gateway.members import service as members
from gateway.points import rows, store
from gateway.points.holding import short_of
from gateway.points.model import Lot, Programme, allocate, declared_value
from gateway.points.programmes import programme
from gateway.values import amount, business_day, new_id, start_of


async def open_lot(
    tx: AsyncConnection,
    *,
    member_id: str,
    programme_id: str,
    points: int,
    earned_on: date,
    basis: str,
    ref: str,
    expires_at: datetime | None,
    now: datetime,
) -> Lot:
    """Load points a member had before the gateway: one OPENING journal, charged to no budget.

    Opening the same (programme, member, ref) again answers with the lot there is.

    Raises:
        NotFound: No such programme.
    """
    of = await programme(tx, programme_id)
    assert expires_at is None or of.months is not None, f"{programme_id} points are for life"
    op_key = f"open:{programme_id}:{member_id}:{ref}"
    known = await store.lot_by_op_key(tx, op_key)
    if known is not None:
        return rows.lot(known)
    lot = new_lot(of, member_id, points, basis=basis, ref=ref, earned_on=earned_on, end=expires_at)
    journal = Journal(
        kind=Kind.OPENING,
        op_key=op_key,
        lines=_issue_lines(lot),
        effective_at=start_of(earned_on),
        actor="gateway",
        cause_id=lot.id,
    )
    await _open(tx, lot, journal, now=now)
    return lot


async def issue(
    tx: AsyncConnection,
    *,
    programme_id: str,
    member_id: str,
    points: int,
    basis: str,
    ref: str,
    slice: str | None,
    kind: Kind,
    op_key: str,
    hub_lines: Sequence[Line] = (),
    actor: str,
    approver: str | None = None,
    live: bool = False,
    now: datetime,
) -> Lot:
    """Give a member points that no purchase earned: compensation, goodwill, a prize.

    Issuing under the same op key again answers with the lot there is.

    Args:
        basis: COMPENSATION, ADJUSTMENT, DRAW_PRIZE ...; `ref` is the event it rests on.
        slice: Of the budget: COMP, or a promotion's id; None for the budget itself.
        kind: COMPENSATE, ADJUST or DRAW_PRIZE.
        hub_lines: What the same journal posts to HUB, when another merchant owes it.

    Raises:
        BudgetExceeded: The slice has less left.
        NoConsumptionBasis, UnspecifiedRecipient, LicenceInvalid, IssuerExited: A red line.
    """
    amount(points, field="points")
    known = await store.lot_by_op_key(tx, op_key)
    if known is not None:
        return rows.lot(known)
    of = await programme(tx, programme_id)
    await compliance.admit_issue(
        tx, issuer=of.issuer, member_id=member_id, basis=basis, ref=ref, live=live, now=now
    )
    today = business_day(now)
    lot = new_lot(
        of, member_id, points, basis=basis, ref=ref, earned_on=today, end=of.expiry(today)
    )
    value_fen = declared_value(points, of.rate)
    journal = Journal(
        kind=kind,
        op_key=op_key,
        lines=(*_issue_lines(lot), *charge(of.issuer, value_fen, slice), *hub_lines),
        effective_at=now,
        actor=actor,
        approver=approver,
        cause_id=ref,
    )
    try:
        await _open(tx, lot, journal, now=now)
    except Insufficient as short:
        raise await over_budget(tx, short, of, now) from short
    return lot


async def issued(tx: AsyncConnection, op_key: str) -> bool:
    """Whether points were issued under an op key."""
    return await store.lot_by_op_key(tx, op_key) is not None


async def expire(tx: AsyncConnection, *, now: datetime, limit: int) -> int:
    """Expire the free points of lots that have ended; held ones wait until they are released.

    Returns:
        How many lots; less than `limit` when none is left.
    """
    ended = [rows.lot(row) for row in await store.lock_expired(tx, now, limit)]
    if not ended:
        return 0
    journals = []
    for lot in ended:
        book, account = points_book(lot.issuer), member_account(lot.member_id, Part.AVAIL)
        assert lot.expires_at is not None
        journals.append(
            Journal(
                kind=Kind.EXPIRE,
                # A lot expires in parts when some of it was held, and may be filled again.
                op_key=f"{lot.id}:expire:{new_id('exp')}",
                lines=(debit(book, account, lot.free), credit(book, EXPIRED, lot.free)),
                effective_at=lot.expires_at,
                actor="gateway",
                cause_id=lot.id,
            )
        )
    await store.move_lots(tx, [(lot.id, 0, -lot.free) for lot in ended])
    ids = await ledger.post(tx, journals, now=now)
    made = [
        row
        for lot, journal_id in zip(ended, ids, strict=True)
        for row in rows.movements(
            journal_id, [(lot.id, 0, -lot.free)], kind=Kind.EXPIRE, cause_id=lot.id, now=now
        )
    ]
    await store.insert(tx, store.movements, made)
    return len(ended)


async def spend(
    tx: AsyncConnection,
    *,
    kind: Kind,
    op_key: str,
    cause_id: str,
    member_id: str,
    programme_id: str,
    points: int,
    sink: str,
    lines: Sequence[Line] = (),
    extra: Sequence[Journal] = (),
    actor: str,
    effective_at: datetime,
    now: datetime,
) -> list[tuple[str, int]]:
    """Take points for good, in one step, with whatever else the event posts.

    Spending under the same cause again takes nothing.

    Args:
        sink: Account the points end in.
        lines: What the same journal posts to HUB and BUDGET.
        extra: Journals posted together with it.

    Returns:
        (lot id, points) in order of allocation.

    Raises:
        InsufficientPoints: The member has less free.
    """
    amount(points, field="points")
    done = [row for row in await store.movements_of(tx, cause_id) if row.kind == kind]
    if done:
        return [(row.lot_id, -row.remaining_delta) for row in done]
    locked = await store.lock_open_lots(tx, [(member_id, programme_id)])
    chosen = allocate([rows.lot(row) for row in locked], points, now=effective_at)
    if sum(n for _, n in chosen) < points:
        raise short_of(programme_id, points, chosen, field=("points",))
    book = points_book(chosen[0][0].issuer)
    journal = Journal(
        kind=kind,
        op_key=op_key,
        lines=(
            debit(book, member_account(member_id, Part.AVAIL), points),
            credit(book, sink, points),
            *lines,
        ),
        effective_at=effective_at,
        actor=actor,
        cause_id=cause_id,
    )
    moves = [(lot.id, 0, -n) for lot, n in chosen]
    await store.move_lots(tx, moves)
    ids = await ledger.post(tx, [journal, *extra], now=now)
    made = rows.movements(ids[0], moves, kind=kind, cause_id=cause_id, now=now)
    await store.insert(tx, store.movements, made)
    return [(lot.id, n) for lot, n in chosen]


async def spend_opening(
    tx: AsyncConnection,
    *,
    member_id: str,
    programme_id: str,
    points: int,
    ref: str,
    effective_at: datetime,
    now: datetime,
) -> None:
    """Load an own redemption from before the gateway: it spent points of loaded lots."""
    await spend(
        tx,
        kind=Kind.COMMIT,
        op_key=f"spent:{programme_id}:{member_id}:{ref}",
        cause_id=ref,
        member_id=member_id,
        programme_id=programme_id,
        points=points,
        sink=REDEEMED_OWN,
        actor="gateway",
        effective_at=effective_at,
        now=now,
    )


async def donate(
    tx: AsyncConnection,
    *,
    donation_id: str,
    member_id: str,
    programme_id: str,
    points: int,
    beneficiary: str,
    extra: Sequence[Journal] = (),
    hub_lines: Sequence[Line] = (),
    budget_lines: Sequence[Line] = (),
    actor: str,
    now: datetime,
) -> list[tuple[str, int]]:
    """Burn points for a charity's goods, with the match and who owes the goods. C-20.

    Args:
        extra: The match, when another issuer pays it.
        hub_lines: The issuer's debt for the goods.
        budget_lines: The match out of the issuer's own slice.

    Returns:
        (lot id, points) in order of allocation.

    Raises:
        InsufficientPoints: The member has less free.
        BudgetExceeded: A slice cannot bear the match.
    """
    of = await programme(tx, programme_id)
    try:
        return await spend(
            tx,
            kind=Kind.DONATE,
            op_key=f"{donation_id}:donate",
            cause_id=donation_id,
            member_id=member_id,
            programme_id=programme_id,
            points=points,
            sink=f"DONATED:{beneficiary}",
            lines=(*budget_lines, *hub_lines),
            extra=extra,
            actor=actor,
            effective_at=now,
            now=now,
        )
    except Insufficient as short:
        raise await over_budget(tx, short, of, now) from short


async def undonate(
    tx: AsyncConnection,
    *,
    donation_id: str,
    beneficiary: str,
    extra: Sequence[Journal] = (),
    hub_lines: Sequence[Line] = (),
    budget_lines: Sequence[Line] = (),
    actor: str,
    now: datetime,
) -> None:
    """Give a donation's points back to their lots, with the other lines mirrored by the caller.

    Undoing it twice is fine.

    Raises:
        NotFound: There is no such donation.
    """
    done = await store.movements_of(tx, donation_id)
    if any(row.kind == Kind.REVERSE for row in done):
        return
    given: list[sa.Row[Any]] = [row for row in done if row.kind == Kind.DONATE]
    if not given:
        raise NotFound(id=donation_id)
    moves = [(row.lot_id, 0, -row.remaining_delta) for row in reversed(given)]
    points = sum(n for _, _, n in moves)
    book = points_book(given[0].issuer)
    journal = Journal(
        kind=Kind.REVERSE,
        op_key=f"{donation_id}:undonate",
        lines=(
            debit(book, f"DONATED:{beneficiary}", points),
            credit(book, member_account(given[0].member_id, Part.AVAIL), points),
            *budget_lines,
            *hub_lines,
        ),
        effective_at=now,
        actor=actor,
        cause_id=donation_id,
    )
    await store.move_lots(tx, moves)
    ids = await ledger.post(tx, [journal, *extra], now=now)
    made = rows.movements(ids[0], moves, kind=Kind.REVERSE, cause_id=donation_id, now=now)
    await store.insert(tx, store.movements, made)


def new_lot(
    of: Programme,
    member_id: str,
    points: int,
    *,
    basis: str,
    ref: str,
    earned_on: date,
    end: datetime | None,
) -> Lot:
    """A lot under a programme's policy, wholly free."""
    return Lot(
        id=new_id("lot"),
        member_id=member_id,
        programme_id=of.id,
        issuer=of.issuer,
        points=points,
        held=0,
        remaining=points,
        rate=of.rate,
        policy_version=of.policy_version,
        earned_on=earned_on,
        expires_at=end,
        basis=basis,
        ref=ref,
    )


async def over_budget(
    tx: AsyncConnection, short: Insufficient, of: Programme, now: datetime
) -> Exception:
    """What a guarded balance that was too low means to who issues."""
    if short.book.startswith(BUDGET):
        return await compliance.budget_exceeded(tx, short, rate=of.rate, now=now)
    return short


def _issue_lines(lot: Lot) -> tuple[Line, ...]:
    book = points_book(lot.issuer)
    return (
        debit(book, ISSUED, lot.points),
        credit(book, member_account(lot.member_id, Part.AVAIL), lot.points),
    )


async def _open(tx: AsyncConnection, lot: Lot, journal: Journal, *, now: datetime) -> None:
    """Store a lot with the journal that makes it."""
    ids = await ledger.post(tx, [journal], now=now)
    await store.insert(tx, store.lots, [rows.lot_row(lot, op_key=journal.op_key, now=now)])
    made = rows.movements(
        ids[0], [(lot.id, 0, lot.points)], kind=journal.kind, cause_id=journal.cause_id, now=now
    )
    await store.insert(tx, store.movements, made)
    await members.relate(tx, lot.member_id, lot.issuer)
