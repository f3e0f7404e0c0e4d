"""Claims between merchants: reserved at hold, accrued at commit, cleared, reversed, adjusted.

Every function returns the HUB lines its caller posts in the journal of the same event. Locks are
taken in one order: the window's (shared), agreement usage by id, cover by merchant, inserts.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Ask, Raced
from gateway.ledger.model import Line
from gateway.settlement import room, store
from gateway.settlement.agreements import CoverExceeded, cap_refusal
from gateway.settlement.model import (
    HUB_FEE,
    Agreement,
    Fault,
    LegToReserve,
    Obligation,
    Reserved,
    State,
    Type,
    Window,
    cut_of,
    position_lines,
    rate_leg,
    reserve_lines,
    window_id_of,
)
from gateway.settlement.model import WindowState as Ws
from gateway.values import business_day, month_of, new_id

Lines = tuple[Line, ...]
ORIGINS = frozenset({Type.REDEMPTION, Type.FEE, Type.SUBSIDY, Type.DONATION_GOODS})


async def reserve(
    tx: AsyncConnection,
    *,
    cause_id: str,
    epoch: int,
    leg_no: int,
    agreement: Agreement,
    offer_id: str | None,
    face_fen: int,
    at: datetime,
) -> Lines:
    """Take cap and cover for one foreign leg; `reserve_legs` for several at once.

    Raises:
        AgreementCap, CoverExceeded: There is no room; the transaction must be rolled back.
    """
    leg = LegToReserve(leg_no, agreement, offer_id, face_fen)
    made = await reserve_legs(tx, cause_id=cause_id, epoch=epoch, legs=[leg], at=at)
    await db.flush(tx)
    return reserved_lines(made)[leg_no]


async def reserve_legs(
    tx: AsyncConnection,
    *,
    cause_id: str,
    epoch: int,
    legs: Sequence[LegToReserve],
    at: datetime,
    sure: bool = True,
) -> list[Reserved]:
    """Take cap and cover for the foreign legs of a redemption, in lock order.

    Args:
        sure: The agreements may not have been used this month yet. Else Raced, if one was not:
            its row must be made before cover is locked.

    Returns:
        What each leg has taken, for `reserved_lines`.

    Raises:
        AgreementCap, CoverExceeded: With the transaction's batch: there is no room. It must be
            rolled back.
    """
    month = month_of(at)
    terms = {leg.leg_no: rate_leg(leg.agreement, leg.face_fen) for leg in legs}
    if sure:
        await room.open_usage(tx, {leg.agreement.id for leg in legs}, month=month)
    for leg in sorted(legs, key=lambda leg: leg.agreement.id):
        await _take_usage(tx, leg.agreement, terms[leg.leg_no].settlement_fen, at=at)
    for leg in sorted(legs, key=lambda leg: leg.agreement.issuer):
        issuer, fen = leg.agreement.issuer, terms[leg.leg_no].total_fen
        await _take_cover(tx, issuer, fen, column="reserved_fen")
    made = [
        Reserved(
            cause_id=cause_id,
            epoch=epoch,
            leg_no=leg.leg_no,
            agreement_id=leg.agreement.id,
            agreement_version=leg.agreement.version,
            issuer=leg.agreement.issuer,
            redeemer=leg.agreement.redeemer,
            offer_id=leg.offer_id,
            face_fen=leg.face_fen,
            settlement_fen=terms[leg.leg_no].settlement_fen,
            fee_fen=terms[leg.leg_no].fee_fen,
            usage_month=month,
        )
        for leg in legs
    ]
    rest = {"state": "RESERVED", "reserved_at": at}
    await store.insert_reservations(tx, [asdict(each) | rest for each in made])
    return made


def reserved_lines(made: Sequence[Reserved]) -> dict[int, Lines]:
    """HUB lines per leg: the cover reserved, settlement plus fee."""
    return {
        each.leg_no: reserve_lines(each.issuer, each.settlement_fen + each.fee_fen) for each in made
    }


def ask_reserved(cause_id: str, epoch: int) -> Ask:
    """What `release` and `accrue` read of a cause's epoch, to be read with something else."""
    return store.ask_reserved(cause_id, epoch)


async def release(
    tx: AsyncConnection, *, cause_id: str, epoch: int, known: Sequence[Any] | None = None
) -> dict[int, Lines]:
    """Give cap and cover of a hold back. Nothing is left to give the second time.

    Args:
        known: What is reserved, if it is at hand; see `ask_reserved`.
    """
    rows = await store.take_reservations(
        tx, cause_id=cause_id, epoch=epoch, state="RELEASED", known=known
    )
    back = Counter[tuple[str, str]]()
    for row in rows:
        back[row.agreement_id, row.usage_month] -= row.settlement_fen
    await room.move_usage(tx, back)
    moves = _Moves()
    for row in rows:
        moves.add(row.issuer, reserved_fen=-(row.settlement_fen + row.fee_fen))
    await room.move_cover(tx, moves.columns)
    return {
        row.leg_no: reserve_lines(row.issuer, -(row.settlement_fen + row.fee_fen)) for row in rows
    }


async def accrue(
    tx: AsyncConnection,
    *,
    cause_id: str,
    epoch: int,
    at: datetime,
    known: Sequence[Any] | None = None,
) -> dict[int, Lines]:
    """Turn what is reserved into obligations, REDEMPTION and FEE. It cannot fail on a limit.

    The cap counts in the month of commitment: a hold of the month before moves over.

    Args:
        known: What is reserved, if it is at hand; see `ask_reserved`.

    Returns:
        HUB lines per leg: the reserve given back, the positions debited and credited.
    """
    rows = await store.take_reservations(
        tx, cause_id=cause_id, epoch=epoch, state="POSTED", known=known
    )
    month, moves = month_of(at), _Moves()
    moved = Counter[tuple[str, str]]()
    made: list[tuple[Obligation, str | None]] = []
    lines: dict[int, Lines] = {}
    for row in rows:
        total = row.settlement_fen + row.fee_fen
        if row.usage_month != month:
            moved[row.agreement_id, row.usage_month] -= row.settlement_fen
            moved[row.agreement_id, month] += row.settlement_fen
        claim = Obligation(
            id=new_id("obl"),
            type=Type.REDEMPTION,
            cause_id=cause_id,
            epoch=epoch,
            leg_no=row.leg_no,
            issuer=row.issuer,
            redeemer=row.redeemer,
            payer=row.issuer,
            payee=row.redeemer,
            amount_fen=row.settlement_fen,
            state=State.ACCRUED,
            accrued_at=at,
            face_fen=row.face_fen,
            offer_id=row.offer_id,
            agreement_id=row.agreement_id,
            agreement_version=row.agreement_version,
            usage_month=month,
        )
        fee = replace(claim, id=new_id("obl"), type=Type.FEE, payee=HUB_FEE, amount_fen=row.fee_fen)
        claims = [each for each in (claim, fee) if each.amount_fen]
        made += [(each, _origin_key(each)) for each in claims]
        lines[row.leg_no] = reserve_lines(row.issuer, -total) + position_lines(claims)
        moves.add(row.issuer, reserved_fen=-total, debit_fen=total)
    await room.move_usage(tx, moved)
    await room.move_cover(tx, moves.columns)
    await store.insert_obligations(tx, made)
    return lines


async def clear(tx: AsyncConnection, *, cause_id: str, at: datetime) -> list[Obligation]:
    """Put a cause's accrued obligations into the open window. Nothing is left the second time.

    Returns:
        The obligations moved, in no order.
    """
    moved, moves = await _clear(tx, cause_id, at)
    await room.move_cover(tx, moves.columns)
    return moved


async def reverse(
    tx: AsyncConnection, *, cause_id: str, epoch: int, fault: str, at: datetime
) -> dict[int, Lines]:
    """Reverse all that is left of a cause's claims, in the open window.

    What had not cleared yet clears with its reversal. The issuer's fee comes back from the
    operator, or from a REDEEMER at fault (an ADJUSTMENT). The cap is given back in the month in
    which it was taken.

    Returns:
        HUB lines per leg; empty when nothing is left to reverse.

    Source: contracts §5.6, §6.1.
    """
    window = await _window(tx, at)
    rows = await store.find_obligations(
        tx, store.obligations.c.cause_id == cause_id, store.obligations.c.epoch == epoch, lock=True
    )
    made: list[Obligation] = []
    given_back = Counter[tuple[str, str]]()
    for row, left in _remaining(rows):
        borne = row.type is Type.FEE and Fault(fault) is Fault.REDEEMER
        made.append(_reversal(row, left, at=at, borne_by=row.redeemer if borne else None))
        if row.type is not Type.FEE and row.agreement_id and row.usage_month:
            given_back[row.agreement_id, row.usage_month] -= left
    if not made:
        return {}
    _, moves = await _clear(tx, cause_id, at, window)
    entered = [_in_window(each, window, at) for each in made]
    await room.move_usage(tx, given_back)
    moves.accrued(entered)
    moves.cleared(entered)
    await room.move_cover(tx, moves.columns)
    await store.insert_obligations(tx, [(each, _origin_key(each)) for each in entered])
    return _lines_by_leg(entered)


async def adjust(
    tx: AsyncConnection,
    *,
    cause_id: str,
    epoch: int,
    kept_face: Mapping[int, int],
    at: datetime,
) -> dict[int, Lines]:
    """Rate legs again on the face they keep; the differences are partial REVERSALs.

    Args:
        kept_face: Fen of face kept, by leg number; 0 keeps nothing. Own legs may be named.

    Returns:
        HUB lines per leg that changes.

    Source: contracts §5.7.
    """
    window = await _window(tx, at)
    o = store.obligations.c
    rows = await store.find_obligations(tx, o.cause_id == cause_id, o.epoch == epoch, lock=True)
    used = {row.agreement_id for row in rows if row.agreement_id}
    versions = await store.find_agreements(tx, store.agreements.c.agreement_id.in_(used))
    known = {(each.id, each.version): each for each in versions}
    made: list[Obligation] = []
    given_back = Counter[tuple[str, str]]()
    for row, left in _remaining(rows):
        if row.leg_no not in kept_face or row.type not in (Type.REDEMPTION, Type.FEE):
            continue
        assert row.agreement_id and row.agreement_version and row.usage_month
        terms = rate_leg(known[row.agreement_id, row.agreement_version], kept_face[row.leg_no])
        is_fee = row.type is Type.FEE
        too_much = left - (terms.fee_fen if is_fee else terms.settlement_fen)
        assert too_much >= 0, "an adjustment only lowers"
        if too_much:
            part = _reversal(row, too_much, at=at)
            made.append(part if row.state is State.ACCRUED else _in_window(part, window, at))
            if not is_fee:
                given_back[row.agreement_id, row.usage_month] -= too_much
    moves = _Moves()
    moves.accrued(made)
    moves.cleared([each for each in made if each.window_id])
    await room.move_usage(tx, given_back)
    await room.move_cover(tx, moves.columns)
    await store.insert_obligations(tx, [(each, None) for each in made])
    return _lines_by_leg(made)


async def compensate(
    tx: AsyncConnection,
    *,
    cause_id: str,
    epoch: int,
    leg_no: int,
    issuer: str,
    redeemer: str,
    fen: int,
    at: datetime,
) -> Lines:
    """A redeemer at fault owes the issuer the declared value of what it gave the member."""
    claim = _claim(Type.COMPENSATION, cause_id, issuer=issuer, redeemer=redeemer, fen=fen, at=at)
    claim = replace(claim, epoch=epoch, leg_no=leg_no, payer=redeemer, payee=issuer)
    return await _enter(tx, claim, origin_key=_origin_key(claim), at=at)


async def owe_goods(
    tx: AsyncConnection,
    *,
    donation_id: str,
    issuer: str,
    payee: str,
    fen: int,
    at: datetime,
    agreement: Agreement | None = None,
) -> Lines:
    """A donation: the issuer owes whoever delivers the goods, at face value, at once.

    Args:
        agreement: The donation agreement; with it, cap and cover are taken.

    Raises:
        AgreementCap, CoverExceeded: There is no room; the transaction must be rolled back.
    """
    window = await _window(tx, at)
    redeemer = agreement.redeemer if agreement else payee
    claim = _claim(
        Type.DONATION_GOODS, donation_id, issuer=issuer, redeemer=redeemer, fen=fen, at=at
    )
    claim = replace(claim, payer=issuer, payee=payee, face_fen=fen)
    if agreement:
        await room.open_usage(tx, [agreement.id], month=month_of(at))
        await _take_usage(tx, agreement, fen, at=at)
        await _take_cover(tx, issuer, fen, column="debit_fen")
        await db.flush(tx)
        claim = replace(
            claim,
            agreement_id=agreement.id,
            agreement_version=agreement.version,
            usage_month=month_of(at),
        )
    entered = _in_window(claim, window, at)
    moves = _Moves()
    if not agreement:
        moves.accrued([entered])
    moves.cleared([entered])
    await room.move_cover(tx, moves.columns)
    await store.insert_obligations(tx, [(entered, _origin_key(entered))])
    return position_lines([entered])


async def correct(
    tx: AsyncConnection,
    *,
    cause_id: str,
    payer: str,
    payee: str,
    fen: int,
    at: datetime,
    key: str,
    corrects_id: str | None = None,
) -> Lines:
    """An ADJUSTMENT in the open window, decided by people elsewhere. `key` counts once."""
    claim = _claim(Type.ADJUSTMENT, cause_id, issuer=payer, redeemer=payee, fen=fen, at=at)
    claim = replace(claim, payer=payer, payee=payee, corrects_id=corrects_id)
    return await _enter(tx, claim, origin_key=key, at=at)


class _Moves:
    """What obligations do to cover, per merchant."""

    def __init__(self) -> None:
        self.columns: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, merchant_id: str, **fen: int) -> None:
        self.columns[merchant_id].update(fen)

    def accrued(self, rows: Iterable[Obligation]) -> None:
        for row in rows:
            self.add(row.payer, debit_fen=row.amount_fen)

    def cleared(self, rows: Iterable[Obligation]) -> None:
        for row in rows:
            self.add(row.payee, credit_fen=row.amount_fen)


async def _take_usage(tx: AsyncConnection, agreement: Agreement, fen: int, *, at: datetime) -> None:
    month = month_of(at)

    async def missed(tx: AsyncConnection) -> None:
        left = agreement.monthly_cap_fen - await store.used(tx, agreement.id, month)
        if left >= fen:
            raise Raced(f"{agreement.id} is used in {month} for the first time")
        raise cap_refusal(agreement, left_fen=left, at=at)

    await room.take_usage(tx, agreement, month=month, fen=fen, missed=missed)


async def _take_cover(tx: AsyncConnection, issuer: str, fen: int, *, column: str) -> None:
    async def missed(_tx: AsyncConnection) -> None:
        raise CoverExceeded(issuer=issuer)

    await room.take_cover(tx, issuer, fen, column=column, missed=missed)


async def _window(tx: AsyncConnection, at: datetime) -> Window:
    """The open window, shared with other postings until the transaction ends; the first is made."""
    window = await store.open_window(tx)
    if window is None:
        first = window_id_of(at)
        await store.add_window(tx, Window(first, Ws.OPEN, opened_at=at, cuts_at=cut_of(first)))
        window = await store.open_window(tx)
    assert window, "one window is open"
    return window


async def _clear(
    tx: AsyncConnection, cause_id: str, at: datetime, window: Window | None = None
) -> tuple[list[Obligation], _Moves]:
    window = window or await _window(tx, at)
    moved = await store.clear(
        tx, cause_id=cause_id, window_id=window.id, at=at, day=business_day(at)
    )
    moves = _Moves()
    moves.cleared(moved)
    return moved, moves


async def _enter(
    tx: AsyncConnection, claim: Obligation, *, origin_key: str | None, at: datetime
) -> Lines:
    """Post a claim that is clearable at once."""
    entered = _in_window(claim, await _window(tx, at), at)
    moves = _Moves()
    moves.accrued([entered])
    moves.cleared([entered])
    await room.move_cover(tx, moves.columns)
    await store.insert_obligations(tx, [(entered, origin_key)])
    return position_lines([entered])


def _claim(
    type: Type, cause_id: str, *, issuer: str, redeemer: str, fen: int, at: datetime
) -> Obligation:
    return Obligation(
        id=new_id("obl"),
        type=type,
        cause_id=cause_id,
        epoch=1,
        leg_no=1,
        issuer=issuer,
        redeemer=redeemer,
        payer=issuer,
        payee=redeemer,
        amount_fen=fen,
        state=State.ACCRUED,
        accrued_at=at,
    )


def _in_window(claim: Obligation, window: Window, at: datetime) -> Obligation:
    return replace(
        claim,
        state=State.IN_WINDOW,
        window_id=window.id,
        cleared_at=at,
        business_date=business_day(at),
    )


def _reversal(
    row: Obligation, fen: int, *, at: datetime, borne_by: str | None = None
) -> Obligation:
    """`fen` of a row back, from its payee; or from another party that bears it."""
    return Obligation(
        id=new_id("obl"),
        type=Type.ADJUSTMENT if borne_by else Type.REVERSAL,
        cause_id=row.cause_id,
        epoch=row.epoch,
        leg_no=row.leg_no,
        issuer=row.issuer,
        redeemer=row.redeemer,
        payer=borne_by or row.payee,
        payee=row.payer,
        amount_fen=fen,
        state=State.ACCRUED,
        accrued_at=at,
        offer_id=row.offer_id,
        agreement_id=row.agreement_id,
        agreement_version=row.agreement_version,
        usage_month=row.usage_month,
        corrects_id=row.id,
    )


def _remaining(rows: Sequence[Obligation]) -> list[tuple[Obligation, int]]:
    """The original claims among a cause's rows, with what corrections have left of each."""
    corrected = Counter[str]()
    for row in rows:
        if row.corrects_id:
            corrected[row.corrects_id] += row.amount_fen
    left = [(row, row.amount_fen - corrected[row.id]) for row in rows if row.type in ORIGINS]
    return [(row, fen) for row, fen in left if fen > 0]


def _origin_key(claim: Obligation) -> str | None:
    """What may exist once: a claim per cause, epoch, leg and type. Corrections name their row."""
    if claim.corrects_id:
        return None
    return f"{claim.cause_id}:{claim.epoch}:{claim.leg_no}:{claim.type}"


def _lines_by_leg(rows: Iterable[Obligation]) -> dict[int, Lines]:
    legs: dict[int, list[Obligation]] = defaultdict(list)
    for row in rows:
        legs[row.leg_no].append(row)
    return {leg_no: position_lines(legs[leg_no]) for leg_no in sorted(legs)}
