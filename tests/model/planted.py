"""Faults to plant in the services, each of which the comparison with the model must find."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from gateway.batch import Raced
from gateway.errors import Refused
from gateway.points import earning, holding
from gateway.points import model as of_points
from gateway.points.model import HoldState, Lot
from gateway.settlement import claims, room
from gateway.settlement import model as of_settlement
from gateway.settlement import service as settlement
from gateway.values import Rate

Fault = Callable[[pytest.MonkeyPatch], None]
NOTICED = (AssertionError, IntegrityError, Raced, Refused)


def oldest_lot_before_the_one_that_ends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(of_points, "_age", lambda lot: (lot.earned_on, lot.id))


def release_goes_to_the_wrong_lots(patch: pytest.MonkeyPatch) -> None:
    """The lots of a hold get each other's points."""
    right = holding._open

    def wrong(taken: Any, to: HoldState) -> list[holding.Taken]:
        found = right(taken, to)
        if to is HoldState.VOIDED:
            for one in found:
                counts = [n for _, n in reversed(one.lots)]
                one.lots = [(lot, n) for (lot, _), n in zip(one.lots, counts, strict=True)]
        return found

    patch.setattr(holding, "_open", wrong)


def declared_value_rounded_up(patch: pytest.MonkeyPatch) -> None:
    def wrong(points: int, rate: Rate) -> int:
        return -(-points * rate.num // rate.den)

    patch.setattr(earning, "declared_value", wrong)


def cover_not_released(patch: pytest.MonkeyPatch) -> None:
    right = settlement.release

    async def wrong(tx: Any, **given: Any) -> Any:
        async def forgotten(*_: Any) -> None:
            return None

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(room, "move_cover", forgotten)
            return await right(tx, **given)

    patch.setattr(settlement, "release", wrong)


def first_lot_gets_points_back_first(patch: pytest.MonkeyPatch) -> None:
    right = of_points.give_back_order
    patch.setattr(holding, "give_back_order", lambda burned, n: right(burned[::-1], n))


def a_redeemer_at_fault_does_not_bear_the_fee(patch: pytest.MonkeyPatch) -> None:
    right = claims._reversal

    def wrong(row: Any, fen: int, *, at: datetime, borne_by: str | None = None) -> Any:
        return right(row, fen, at=at)

    patch.setattr(claims, "_reversal", wrong)


def settlement_rounded_down(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(of_settlement, "bps_half_up", lambda fen, bps: fen * bps // 10_000)


def returned_points_end_sooner(patch: pytest.MonkeyPatch) -> None:
    def wrong(original: datetime | None, now: datetime) -> datetime | None:
        return None if original is None else now + of_points.EXTENSION

    patch.setattr(holding, "redeliver_expiry", wrong)


def ended_lots_are_spent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lot, "spendable", lambda lot, _now: lot.free)


def debts_forgotten_when_points_mature(patch: pytest.MonkeyPatch) -> None:
    async def wrong(_tx: Any, wallets: Any, **_: Any) -> dict[Any, int]:
        return dict.fromkeys(wallets, 0)

    patch.setattr(earning, "_debts", wrong)


def cap_stays_in_the_month_of_the_hold(patch: pytest.MonkeyPatch) -> None:
    """A commitment of the next month counts nowhere anew."""
    right = room.move_usage

    async def wrong(tx: Any, changes: Any) -> None:
        if all(fen < 0 for fen in changes.values()):
            await right(tx, changes)

    patch.setattr(room, "move_usage", wrong)


def cap_reached_is_cap_exceeded(patch: pytest.MonkeyPatch) -> None:
    right = room.take_usage

    async def wrong(tx: Any, agreement: Any, **given: Any) -> None:
        lower = replace(agreement, monthly_cap_fen=agreement.monthly_cap_fen - 1)
        await right(tx, lower, **given)

    patch.setattr(room, "take_usage", wrong)


FAULTS: tuple[Fault, ...] = (
    oldest_lot_before_the_one_that_ends,
    release_goes_to_the_wrong_lots,
    declared_value_rounded_up,
    cover_not_released,
    first_lot_gets_points_back_first,
    a_redeemer_at_fault_does_not_bear_the_fee,
    settlement_rounded_down,
    returned_points_end_sooner,
    ended_lots_are_spent,
    debts_forgotten_when_points_mature,
    cap_stays_in_the_month_of_the_hold,
    cap_reached_is_cap_exceeded,
)
