"""Rows of the store as the room's own words, and back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gateway.points.model import Earning, EarningState, Hold, HoldState, Lot, Programme
from gateway.values import Rate


def programme(row: sa.Row[Any]) -> Programme:
    return Programme(
        id=row.programme_id,
        issuer=row.issuer,
        name_zh=row.name_zh,
        unit_zh=row.unit_zh,
        rate=Rate(row.rate_num, row.rate_den),
        months=row.months,
        earn=row.earn,
        disclosure=row.disclosure,
        compensation_bps=row.compensation_bps,
        policy_version=row.version,
    )


def lot(row: sa.Row[Any]) -> Lot:
    return Lot(
        id=row.lot_id,
        member_id=row.member_id,
        programme_id=row.programme_id,
        issuer=row.issuer,
        points=row.points,
        held=row.held,
        remaining=row.remaining,
        rate=Rate(row.rate_num, row.rate_den),
        policy_version=row.policy_version,
        earned_on=row.earned_on,
        expires_at=row.expires_at,
        basis=row.basis,
        ref=row.ref,
    )


def lot_row(lot: Lot, *, op_key: str, now: datetime) -> dict[str, Any]:
    return {
        "lot_id": lot.id,
        "member_id": lot.member_id,
        "programme_id": lot.programme_id,
        "issuer": lot.issuer,
        "points": lot.points,
        "held": lot.held,
        "remaining": lot.remaining,
        "rate_num": lot.rate.num,
        "rate_den": lot.rate.den,
        "policy_version": lot.policy_version,
        "earned_on": lot.earned_on,
        "expires_at": lot.expires_at,
        "basis": lot.basis,
        "ref": lot.ref,
        "op_key": op_key,
        "opened_at": now,
    }


def hold(row: sa.Row[Any]) -> Hold:
    return Hold(
        id=row.hold_id,
        redemption_id=row.redemption_id,
        epoch=row.epoch,
        leg_no=row.leg_no,
        member_id=row.member_id,
        programme_id=row.programme_id,
        issuer=row.issuer,
        points=row.points,
        returned=row.returned,
        state=HoldState(row.state),
        expires_at=row.expires_at,
    )


def hold_row(hold: Hold, *, now: datetime) -> dict[str, Any]:
    return {
        "hold_id": hold.id,
        "redemption_id": hold.redemption_id,
        "epoch": hold.epoch,
        "leg_no": hold.leg_no,
        "member_id": hold.member_id,
        "programme_id": hold.programme_id,
        "issuer": hold.issuer,
        "points": hold.points,
        "returned": hold.returned,
        "state": hold.state,
        "expires_at": hold.expires_at,
        "held_at": now,
    }


def earning(row: sa.Row[Any]) -> Earning:
    return Earning(
        id=row.earning_id,
        issuer=row.issuer,
        programme_id=row.programme_id,
        member_id=row.member_id,
        ref=row.ref,
        points=row.points,
        state=EarningState(row.state),
        mature_at=row.mature_at,
        lot_id=row.lot_id,
    )


def movements(
    journal_id: str,
    moves: Sequence[tuple[str, int, int]],
    *,
    kind: str,
    cause_id: str,
    now: datetime,
    hold_id: str | None = None,
    ends: dict[str, datetime] | None = None,
) -> list[dict[str, Any]]:
    """Rows of a journal's movements: (lot id, held delta, remaining delta), in order."""
    return [
        {
            "journal_id": journal_id,
            "lot_id": lot_id,
            "kind": kind,
            "position": position,
            "held_delta": held_delta,
            "remaining_delta": remaining_delta,
            "cause_id": cause_id,
            "hold_id": hold_id,
            "expires_at": (ends or {}).get(lot_id),
            "moved_at": now,
        }
        for position, (lot_id, held_delta, remaining_delta) in enumerate(moves, 1)
    ]
