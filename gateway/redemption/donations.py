"""Donations: points are burnt, the charity gets goods, a match adds goods. Not a redemption.

No partner hold and no pivot: burn, goods obligation and match are one transaction. Source:
contracts §5.1, §8.3 E10; requirements C-20, S-120.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.compliance.model import budget_lines
from gateway.errors import NotFound
from gateway.events import service as events
from gateway.ledger.model import Journal, Kind, Line
from gateway.merchants import service as merchants
from gateway.points import service as points
from gateway.promotions import service as promotions
from gateway.redemption import store
from gateway.redemption.model import DonationReversalClosed
from gateway.settlement import service as settlement
from gateway.values import InvalidInput, amount, new_id

LEAST_POINTS = 100
REVERSIBLE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Donation:
    """A gift: points burnt at face value, and goods worth the match on top."""

    id: str
    member_id: str
    beneficiary: str
    programme_id: str
    issuer: str
    points: int
    face_fen: int
    match_fen: int
    match_promotion: str | None
    match_period: str | None
    state: str
    donated_at: datetime
    reversed_at: datetime | None


async def donate(
    tx: AsyncConnection,
    *,
    member_id: str,
    beneficiary: str,
    programme_id: str,
    points_given: int,
    key: str,
    now: datetime,
) -> tuple[Donation, bool]:
    """Burn the member's points; the operator delivers goods of their face value and the match.

    Returns:
        The donation, and whether the key was seen before.

    Raises:
        InvalidAmount, InvalidInput: Fewer than 100 points.
        NotFound: No such beneficiary or programme.
        NoAgreement, InsufficientPoints, CoverExceeded: Nothing has changed.
    """
    scope = f"{member_id}:donatePoints"
    asked = {"beneficiary": beneficiary, "programme": programme_id, "points": points_given}
    replay = await db.claim_key(tx, scope=scope, key=key, input=asked, now=now)
    if replay:
        return await donation(tx, replay.object_id), True
    amount(points_given, field="points")
    if points_given < LEAST_POINTS:
        raise InvalidInput("points", "at least {least}", least=LEAST_POINTS)
    if "beneficiary" not in (await merchants.get(tx, beneficiary)).roles:
        raise NotFound(id=beneficiary)
    programme = await points.programme(tx, programme_id)
    face_fen = programme.rate.floor(points_given)
    made = Donation(
        id=new_id("don"),
        member_id=member_id,
        beneficiary=beneficiary,
        programme_id=programme_id,
        issuer=programme.issuer,
        points=points_given,
        face_fen=face_fen,
        match_fen=0,
        match_promotion=None,
        match_period=None,
        state="DONE",
        donated_at=now,
        reversed_at=None,
    )
    made = await _post(tx, made, now=now)
    row = {name: getattr(made, name) for name in made.__slots__}
    await store.add_donation(tx, row)
    await _tell(tx, made, "donation.done", now=now)
    await db.settle_key(tx, scope=scope, key=key, object_id=made.id)
    return made, False


async def _post(tx: AsyncConnection, made: Donation, *, now: datetime) -> Donation:
    agreement = await settlement.agreement_for(
        tx,
        issuer=made.issuer,
        redeemer=made.beneficiary,
        offer_id=None,
        category="公益",
        kind="donation",
        at=now,
    )
    operator = await merchants.operator(tx)
    hub_lines: tuple[Line, ...] = ()
    if made.issuer != operator.id:
        hub_lines = await settlement.owe_goods(
            tx,
            donation_id=made.id,
            issuer=made.issuer,
            payee=agreement.payee or operator.id,
            fen=made.face_fen,
            at=now,
            agreement=agreement,
        )
    match = await promotions.take_match(
        tx, beneficiary=made.beneficiary, face_fen=made.face_fen, at=now
    )
    slice_lines: tuple[Line, ...] = ()
    extra: list[Journal] = []
    if match and match.fen:
        slice_lines = budget_lines(match.merchant_id, match.fen, match.slice)
        made = replace(
            made,
            match_fen=match.fen,
            match_promotion=match.promotion_id,
            match_period=match.period,
        )
        if made.issuer != operator.id:
            journal = Journal(
                kind=Kind.MATCH,
                op_key=f"{made.id}:match",
                lines=slice_lines,
                effective_at=now,
                actor=made.member_id,
                cause_id=made.id,
            )
            extra, slice_lines = [journal], ()
    await points.donate(
        tx,
        donation_id=made.id,
        member_id=made.member_id,
        programme_id=made.programme_id,
        points=made.points,
        beneficiary=made.beneficiary,
        extra=extra,
        hub_lines=hub_lines,
        budget_lines=slice_lines,
        actor=made.member_id,
        now=now,
    )
    return made


async def reverse(
    tx: AsyncConnection, *, member_id: str, donation_id: str, key: str, now: datetime
) -> tuple[Donation, bool]:
    """Take a donation back within 24 hours: points to the same lots, match and goods undone.

    Raises:
        NotFound: Not a donation of this member.
        DonationReversalClosed: More than 24 hours have passed.
    """
    scope = f"{member_id}:reverseDonation"
    replay = await db.claim_key(tx, scope=scope, key=key, input={"donation": donation_id}, now=now)
    row = await store.find_donation(tx, donation_id, lock=True)
    if row is None or row.member_id != member_id:
        raise NotFound(id=donation_id)
    await db.settle_key(tx, scope=scope, key=key, object_id=donation_id)
    if replay or row.state == "REVERSED":
        return _donation(row), replay is not None
    if now >= row.donated_at + REVERSIBLE:
        raise DonationReversalClosed(until=row.donated_at + REVERSIBLE)
    reversed_lines = await settlement.reverse(
        tx, cause_id=donation_id, epoch=1, fault="MEMBER", at=now
    )
    hub_lines = tuple(line for lines in reversed_lines.values() for line in lines)
    if row.match_fen:
        await promotions.give_match_back(
            tx, promotion_id=row.match_promotion, period=row.match_period, fen=row.match_fen
        )
    operator = await merchants.operator(tx)
    back = tuple(
        Line(line.book, line.account, -line.amount)
        for line in (
            budget_lines(operator.id, row.match_fen, row.match_promotion) if row.match_fen else ()
        )
    )
    await points.undonate(
        tx,
        donation_id=donation_id,
        beneficiary=row.beneficiary,
        hub_lines=hub_lines,
        budget_lines=back,
        actor=member_id,
        now=now,
    )
    await store.set_donation_reversed(tx, donation_id, now=now)
    found = await donation(tx, donation_id)
    await _tell(tx, found, "donation.reversed", now=now)
    return found, False


async def _tell(tx: AsyncConnection, made: Donation, event_type: str, *, now: datetime) -> None:
    data = {"beneficiary": made.beneficiary, "programme": made.programme_id, "points": made.points}
    concerned = {made.issuer, made.beneficiary}
    change = events.Change(event_type, made.id, concerned, data, made.member_id)
    await events.record(tx, change, now=now)


async def donation(tx: AsyncConnection, donation_id: str) -> Donation:
    """One donation.

    Raises:
        NotFound: There is none.
    """
    row = await store.find_donation(tx, donation_id)
    if row is None:
        raise NotFound(id=donation_id)
    return _donation(row)


def _donation(row: sa.Row[Any]) -> Donation:
    return Donation(**row._mapping)
