"""Hold points for a redemption, then burn or release them; give burned ones back."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Ask
from gateway.errors import Refused
from gateway.ledger import service as ledger
from gateway.ledger.model import (
    Journal,
    Kind,
    Line,
    Part,
    credit,
    debit,
    member_account,
    points_book,
)
from gateway.points import rows, store
from gateway.points.model import (
    Hold,
    HoldState,
    LegRequest,
    Lot,
    Returned,
    allocate,
    give_back_order,
    redeliver_expiry,
)
from gateway.values import new_id

HubLines = Mapping[int, Sequence[Line]]
Moves = list[tuple[str, int, int]]  # (lot id, held delta, remaining delta)


class InsufficientPoints(Refused):
    code = "INSUFFICIENT_POINTS"
    when = "a leg needs more than AVAIL"
    zh = "还差 {missing} 分(需要 {needed},可用 {available})"
    en = "{missing} points short ({needed} needed, {available} available)"
    next_zh = "用现金或其他积分支付一部分"
    next_en = "pay part in cash or with another programme"


class HoldAlreadyResolved(Refused):
    code = "HOLD_ALREADY_RESOLVED"
    when = "a hold would be resolved a second, different way"
    zh = "该冻结已处理"
    en = "this hold is already resolved"
    next_zh = "请查看该笔兑换"
    next_en = "look at the redemption"


@dataclass(slots=True)
class Taken:
    """A hold and the lots it took, in order of allocation."""

    hold: Hold
    lots: list[tuple[str, int]] = field(default_factory=list)
    sink: str | None = None


async def hold(
    tx: AsyncConnection,
    *,
    redemption_id: str,
    epoch: int,
    legs: Sequence[LegRequest],
    expires_at: datetime,
    actor: str,
    now: datetime,
) -> list[Hold]:
    """Set points aside for all legs of a redemption, or for none. One journal a leg.

    Holding the same epoch again answers with the holds there are. Held points never expire.

    Args:
        legs: Each with the lines its journal posts to HUB.
        expires_at: Kept with the hold; who resolves it judges it.

    Returns:
        One hold a leg, in the order given.

    Raises:
        InsufficientPoints: A leg needs more than its member has free; nothing is held.
    """
    return await _hold(
        tx,
        redemption_id=redemption_id,
        epoch=epoch,
        legs=legs,
        expires_at=expires_at,
        actor=actor,
        now=now,
        first={},
    )


async def rehold(
    tx: AsyncConnection,
    *,
    redemption_id: str,
    epoch: int,
    from_epoch: int,
    hub_lines: HubLines,
    expires_at: datetime,
    actor: str,
    now: datetime,
) -> list[Hold]:
    """Hold again what a released epoch held, from the same lots as far as they have it.

    For a late confirmation: the same lots are taken even when they have ended meanwhile, as long
    as their points are there.

    Raises:
        InsufficientPoints: The points were spent meanwhile.

    Source: contracts §5.5.
    """
    taken = await _load(tx, redemption_id, from_epoch)
    legs = [
        LegRequest(
            one.hold.leg_no,
            one.hold.member_id,
            one.hold.programme_id,
            one.hold.points,
            tuple(hub_lines.get(one.hold.leg_no, ())),
        )
        for one in taken
    ]
    first = {one.hold.leg_no: [lot_id for lot_id, _ in one.lots] for one in taken}
    return await _hold(
        tx,
        redemption_id=redemption_id,
        epoch=epoch,
        legs=legs,
        expires_at=expires_at,
        actor=actor,
        now=now,
        first=first,
    )


async def release(
    tx: AsyncConnection,
    *,
    redemption_id: str,
    epoch: int,
    hub_lines: HubLines,
    actor: str,
    now: datetime,
    known: Sequence[Taken] | None = None,
) -> None:
    """Give held points back to the lots they came from. Releasing twice is fine.

    Args:
        known: The epoch's holds, if they are at hand.

    Raises:
        HoldAlreadyResolved: They were burned.
    """
    known = await _load(tx, redemption_id, epoch) if known is None else known
    taken = _open(known, HoldState.VOIDED)
    if not taken:
        return
    moves = {one.hold.id: [(lot_id, -n, 0) for lot_id, n in one.lots] for one in taken}
    await _move_lots(tx, moves)
    await store.resolve_holds(tx, {one.hold.id: None for one in taken}, state=HoldState.VOIDED)
    await _post(
        tx,
        taken,
        moves,
        kind=Kind.RELEASE,
        step="release",
        lines=lambda one: (
            debit(_book(one), _account(one, Part.HELD), one.hold.points),
            credit(_book(one), _account(one, Part.AVAIL), one.hold.points),
        ),
        hub_lines=hub_lines,
        actor=actor,
        now=now,
    )


async def burn(
    tx: AsyncConnection,
    *,
    redemption_id: str,
    epoch: int,
    sinks: Mapping[int, str],
    hub_lines: HubLines,
    actor: str,
    now: datetime,
    known: Sequence[Taken] | None = None,
) -> None:
    """Spend held points: the partner has confirmed. It cannot fail on balance.

    Args:
        sinks: Account of the points' end by leg: `REDEEMED_OWN`, `REDEEMED_X:<redeemer>`.
        known: The epoch's holds, if they are at hand.

    Raises:
        HoldAlreadyResolved: They were released.
    """
    known = await _load(tx, redemption_id, epoch) if known is None else known
    taken = _open(known, HoldState.POSTED)
    if not taken:
        return
    moves = {one.hold.id: [(lot_id, -n, -n) for lot_id, n in one.lots] for one in taken}
    await _move_lots(tx, moves)
    into = {one.hold.id: sinks[one.hold.leg_no] for one in taken}
    await store.resolve_holds(tx, dict(into), state=HoldState.POSTED)
    await _post(
        tx,
        taken,
        moves,
        kind=Kind.COMMIT,
        step="commit",
        lines=lambda one: (
            debit(_book(one), _account(one, Part.HELD), one.hold.points),
            credit(_book(one), into[one.hold.id], one.hold.points),
        ),
        hub_lines=hub_lines,
        actor=actor,
        now=now,
    )


async def give_back(
    tx: AsyncConnection,
    *,
    redemption_id: str,
    epoch: int,
    kind: Kind,
    points: Mapping[int, int],
    hub_lines: HubLines,
    extend: bool,
    actor: str,
    now: datetime,
) -> list[Returned]:
    """Return burned points to the lots they came from: the lot allocated last first.

    Each kind happens once an epoch and leg; a second time answers the same.

    Args:
        kind: REVERSE or FARE_ADJUST.
        points: By leg; a leg of 0 gets nothing back, and is left out unless HUB has lines of it.
        extend: A fault not the member's: lots end at the later of their end and now + 90 days.

    Returns:
        By leg, in order of allocation.

    Source: contracts §5.6, §5.7.
    """
    assert kind in (Kind.REVERSE, Kind.FARE_ADJUST)
    done = await store.movements_of(tx, redemption_id)
    taken = await _load(tx, redemption_id, epoch)
    if before := _given_back(taken, done, kind):
        return before
    back = {no: points.get(no, 0) for no in {*points, *hub_lines}}
    wanted = [one for one in taken if back.get(one.hold.leg_no) or hub_lines.get(one.hold.leg_no)]
    if not wanted:
        return []
    moves = _back_moves(wanted, done, back)
    ends = await _ends(tx, moves, extend=extend, now=now)
    await _move_lots(tx, moves)
    await store.return_points(tx, {one.hold.id: back[one.hold.leg_no] for one in wanted})
    longer = {lot_id: end for lot_id, end in ends.items() if extend and end is not None}
    await store.extend_lots(tx, longer)
    await _post(
        tx,
        wanted,
        moves,
        kind=kind,
        step=kind.lower(),
        lines=lambda one: _back_lines(one, back[one.hold.leg_no]),
        hub_lines=hub_lines,
        actor=actor,
        now=now,
        ends=longer,
    )
    return [
        Returned(one.hold.leg_no, lot_id, n, ends[lot_id])
        for one in wanted
        for lot_id, _, n in reversed(moves[one.hold.id])
    ]


async def held(tx: AsyncConnection, redemption_id: str) -> list[Hold]:
    """All holds of a redemption, by epoch and leg, resolved ones included."""
    return [rows.hold(row) for row in await store.select_holds(tx, redemption_id)]


async def _hold(
    tx: AsyncConnection,
    *,
    redemption_id: str,
    epoch: int,
    legs: Sequence[LegRequest],
    expires_at: datetime,
    actor: str,
    now: datetime,
    first: Mapping[int, Sequence[str]],
) -> list[Hold]:
    wallets = {(leg.member_id, leg.programme_id) for leg in legs}
    found, existing = await db.read(
        tx, store.ask_open_lots(wallets, lock=True), store.ask_holds(redemption_id, epoch)
    )
    if existing:
        return [rows.hold(row) for row in existing]
    free = {row.lot_id: rows.lot(row) for row in found}
    taken = _taken(
        redemption_id=redemption_id,
        epoch=epoch,
        legs=legs,
        expires_at=expires_at,
        lots=free,
        first=first,
        now=now,
    )
    await store.insert(tx, store.holds, [rows.hold_row(one.hold, now=now) for one in taken])
    moves = {one.hold.id: [(lot_id, n, 0) for lot_id, n in one.lots] for one in taken}
    await _move_lots(tx, moves)
    await _post_hold(tx, taken, moves, legs, actor=actor, now=now)
    return [one.hold for one in taken]


async def take(
    tx: AsyncConnection,
    *,
    redemption_id: str,
    epoch: int,
    legs: Sequence[LegRequest],
    free: Sequence[sa.Row[Any]],
    expires_at: datetime,
    actor: str,
    now: datetime,
) -> list[Taken]:
    """As `hold`, of a new epoch, out of lots that were read before: nothing is read.

    Args:
        free: The rows of `ask_free`.

    Raises:
        InsufficientPoints: A leg needs more than its member has free; nothing is held.
        Raced: With the batch: a lot has changed since it was read.
    """
    lots = {row.lot_id: rows.lot(row) for row in free}
    taken = _taken(
        redemption_id=redemption_id,
        epoch=epoch,
        legs=legs,
        expires_at=expires_at,
        lots=lots,
        first={},
        now=now,
    )
    await store.insert(tx, store.holds, [rows.hold_row(one.hold, now=now) for one in taken])
    moves = {one.hold.id: [(lot_id, n, 0) for lot_id, n in one.lots] for one in taken}
    seen = [(lots[lot_id], n) for one in taken for lot_id, n in one.lots]
    await store.take_lots(tx, [(lot.id, lot.held, lot.remaining, n) for lot, n in seen])
    await _post_hold(tx, taken, moves, legs, actor=actor, now=now)
    return taken


def _taken(
    *,
    redemption_id: str,
    epoch: int,
    legs: Sequence[LegRequest],
    expires_at: datetime,
    lots: Mapping[str, Lot],
    first: Mapping[int, Sequence[str]],
    now: datetime,
) -> list[Taken]:
    """New holds with the lots they take."""
    free = dict(lots)
    taken: list[Taken] = []
    for leg in legs:
        chosen = _choose(leg, free, first.get(leg.leg_no, ()), now)
        if sum(n for _, n in chosen) < leg.points:
            raise short_of(
                leg.programme_id, leg.points, chosen, field=("legs", str(leg.leg_no - 1), "points")
            )
        made = Hold(
            new_id("hld"), redemption_id, epoch, leg.leg_no, leg.member_id, leg.programme_id,
            chosen[0][0].issuer, leg.points, 0, HoldState.HELD, expires_at,
        )  # fmt: skip
        taken.append(Taken(made, [(lot.id, n) for lot, n in chosen]))
        free |= {lot.id: replace(lot, held=lot.held + n) for lot, n in chosen}
    return taken


async def _post_hold(
    tx: AsyncConnection,
    taken: Sequence[Taken],
    moves: Mapping[str, Moves],
    legs: Sequence[LegRequest],
    *,
    actor: str,
    now: datetime,
) -> None:
    await _post(
        tx,
        taken,
        moves,
        kind=Kind.HOLD,
        step="hold",
        lines=lambda one: (
            debit(_book(one), _account(one, Part.AVAIL), one.hold.points),
            credit(_book(one), _account(one, Part.HELD), one.hold.points),
        ),
        hub_lines={leg.leg_no: leg.hub_lines for leg in legs},
        actor=actor,
        now=now,
    )


def _choose(
    leg: LegRequest, free: dict[str, Lot], first: Sequence[str], now: datetime
) -> list[tuple[Lot, int]]:
    """Take a leg's points out of the free lots."""
    mine = [
        lot
        for lot in free.values()
        if (lot.member_id, lot.programme_id) == (leg.member_id, leg.programme_id)
    ]
    return allocate(mine, leg.points, now=now, first=first)


def short_of(
    programme_id: str, needed: int, chosen: Sequence[tuple[Lot, int]], *, field: Sequence[str]
) -> InsufficientPoints:
    """The refusal of a debit for which only the chosen points are free."""
    available = sum(n for _, n in chosen)
    return InsufficientPoints(
        field=field,
        programme=programme_id,
        needed=needed,
        available=available,
        missing=needed - available,
    )


def ask_taken(redemption_id: str, epoch: int) -> Ask:
    """The holds of an epoch, for `taken`. They only change with the redemption's row locked."""
    return store.ask_allocations(redemption_id, epoch, lock=False)


def ask_free(wallets: Iterable[tuple[str, str]]) -> Ask:
    """The lots with free points of (member, programme) pairs, for `take`."""
    return store.ask_open_lots(wallets, lock=False)


def taken(found: Sequence[sa.Row[Any]]) -> list[Taken]:
    """Holds with their lots out of the rows of `ask_taken`."""
    taken = []
    for _, group in groupby(found, key=lambda row: row.hold_id):
        of_hold = list(group)
        one = Taken(rows.hold(of_hold[0]), sink=of_hold[0].sink)
        one.lots = [(row.lot_id, row.taken) for row in of_hold]
        taken.append(one)
    return taken


async def _load(tx: AsyncConnection, redemption_id: str, epoch: int) -> list[Taken]:
    (found,) = await db.read(tx, store.ask_allocations(redemption_id, epoch, lock=True))
    return taken(found)


def _open(taken: Sequence[Taken], to: HoldState) -> list[Taken]:
    """The holds to be resolved; none when that was done before."""
    for one in taken:
        if one.hold.state not in (HoldState.HELD, to):
            raise HoldAlreadyResolved(hold=one.hold.id, state=one.hold.state)
    return [one for one in taken if one.hold.state is HoldState.HELD]


async def _move_lots(tx: AsyncConnection, moves: Mapping[str, Moves]) -> None:
    await store.move_lots(tx, [move for of_hold in moves.values() for move in of_hold])


def _back_moves(
    wanted: Sequence[Taken], done: Sequence[sa.Row[Any]], points: Mapping[int, int]
) -> dict[str, Moves]:
    """What the lots of each burned hold get back, given what happened to them before."""
    spent = Counter[tuple[str, str]]()
    for row in done:
        spent[row.hold_id, row.lot_id] -= row.remaining_delta
    moves: dict[str, Moves] = {}
    for one in wanted:
        if one.hold.state is not HoldState.POSTED:
            raise HoldAlreadyResolved(hold=one.hold.id, state=one.hold.state)
        burned = [(lot_id, spent[one.hold.id, lot_id]) for lot_id, _ in one.lots]
        given = give_back_order(burned, points[one.hold.leg_no])
        moves[one.hold.id] = [(lot_id, 0, n) for lot_id, n in given]
    return moves


def _back_lines(one: Taken, points: int) -> tuple[Line, ...]:
    """Out of the sink to what the member has; nothing, where only HUB has something."""
    if not points:
        return ()
    return (
        debit(_book(one), one.sink or "", points),
        credit(_book(one), _account(one, Part.AVAIL), points),
    )


def _given_back(taken: Sequence[Taken], done: Sequence[sa.Row[Any]], kind: Kind) -> list[Returned]:
    """What was given back before under this kind, by leg and in order of allocation."""
    legs = {one.hold.id: one.hold.leg_no for one in taken}
    found = [row for row in done if row.kind == kind and row.hold_id in legs]
    found.sort(key=lambda row: (legs[row.hold_id], -row.position))
    return [
        Returned(
            legs[row.hold_id],
            row.lot_id,
            row.remaining_delta,
            row.expires_at or row.lot_expires_at,
        )
        for row in found
    ]


async def _ends(
    tx: AsyncConnection, moves: Mapping[str, Moves], *, extend: bool, now: datetime
) -> dict[str, datetime | None]:
    """When the lots that get points back end."""
    locked = await store.lock_lots(tx, {lot_id for of in moves.values() for lot_id, _, _ in of})
    if not extend:
        return {row.lot_id: row.expires_at for row in locked}
    return {row.lot_id: redeliver_expiry(row.expires_at, now) for row in locked}


async def _post(
    tx: AsyncConnection,
    taken: Sequence[Taken],
    moves: Mapping[str, Moves],
    *,
    kind: Kind,
    step: str,
    lines: Callable[[Taken], tuple[Line, ...]],
    hub_lines: HubLines,
    actor: str,
    now: datetime,
    ends: dict[str, datetime] | None = None,
) -> None:
    """Post one journal a leg, and name its lots."""
    journals = [
        Journal(
            kind=kind,
            op_key=f"{one.hold.redemption_id}:{step}:{one.hold.epoch}:{one.hold.leg_no}",
            lines=(*lines(one), *hub_lines.get(one.hold.leg_no, ())),
            effective_at=now,
            actor=actor,
            cause_id=one.hold.redemption_id,
        )
        for one in taken
    ]
    ids = await ledger.enter(tx, journals, now=now)
    made = [
        row
        for one, journal_id in zip(taken, ids, strict=True)
        for row in rows.movements(
            journal_id,
            moves[one.hold.id],
            kind=kind,
            cause_id=one.hold.redemption_id,
            now=now,
            hold_id=one.hold.id,
            ends=ends,
        )
    ]
    await store.insert(tx, store.movements, made)


def _book(one: Taken) -> str:
    return points_book(one.hold.issuer)


def _account(one: Taken, part: Part) -> str:
    return member_account(one.hold.member_id, part)
