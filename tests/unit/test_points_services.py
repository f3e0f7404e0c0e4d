"""What the points services compute between reading and writing."""

from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from gateway.ledger.model import Insufficient, Kind, Line
from gateway.points import holding, issuing, rows
from gateway.points.holding import HoldAlreadyResolved, InsufficientPoints, Taken
from gateway.points.model import (
    EarningState,
    Hold,
    HoldState,
    LegRequest,
    Lot,
    Programme,
    Returned,
)
from gateway.values import Rate

NOW = datetime(2026, 11, 20, 2, tzinfo=UTC)
LATER = NOW + timedelta(days=9)
PROGRAMME = Programme(
    "P-LL", "M04", "乐里积分", "分", Rate(3, 2), 36, {"kind": "x"}, {"zh": "y"}, 110, 4
)
LOT = Lot(
    "lot_1", "m1", "P-LL", "M04", 100, 10, 90, Rate(3, 2), 4, date(2026, 1, 2), LATER, "GIFT", "ord"
)
HOLD = Hold("hld_1", "red_1", 2, 1, "m1", "P-LL", "M04", 70, 5, HoldState.HELD, LATER)


def row(**values) -> SimpleNamespace:
    return SimpleNamespace(**values)


def test_a_lot_goes_into_its_row_and_comes_back() -> None:
    made = rows.lot_row(LOT, op_key="key", now=NOW)
    assert rows.lot(row(**made)) == LOT
    rest = asdict(LOT).keys() - {"id", "rate"}
    assert set(made) == rest | {"lot_id", "rate_num", "rate_den", "op_key", "opened_at"}
    assert (made["op_key"], made["opened_at"]) == ("key", NOW)


def test_a_hold_goes_into_its_row_and_comes_back() -> None:
    made = rows.hold_row(HOLD, now=NOW)
    assert rows.hold(row(**made)) == HOLD
    assert set(made) == asdict(HOLD).keys() - {"id"} | {"hold_id", "held_at"}
    assert made["held_at"] == NOW


def test_a_programme_is_read_with_its_policy() -> None:
    values = {
        "programme_id": "P-LL", "issuer": "M04", "name_zh": "乐里积分", "unit_zh": "分",
        "rate_num": 3, "rate_den": 2, "months": 36, "earn": {"kind": "x"},
        "disclosure": {"zh": "y"}, "compensation_bps": 110, "version": 4,
    }  # fmt: skip
    assert rows.programme(row(**values)) == PROGRAMME


def test_an_earning_is_read() -> None:
    values = {
        "earning_id": "ern_1", "issuer": "M04", "programme_id": "P-LL", "member_id": "m1",
        "ref": "ord", "points": 7, "state": "PENDING", "mature_at": NOW, "lot_id": None,
    }  # fmt: skip
    made = rows.earning(row(**values))
    assert {**asdict(made), "earning_id": made.id} == values | {"id": "ern_1", "paid_debt": 0}
    assert made.state is EarningState.PENDING


def test_movements_are_numbered_from_one() -> None:
    made = rows.movements(
        "jrn_1", [("lot_1", 5, 0), ("lot_2", 0, -3)], kind="HOLD", cause_id="red_1", now=NOW,
        hold_id="hld_1", ends={"lot_2": LATER},
    )  # fmt: skip
    common = {"journal_id": "jrn_1", "kind": "HOLD", "cause_id": "red_1", "hold_id": "hld_1"}
    common |= {"moved_at": NOW}
    first = {"lot_id": "lot_1", "position": 1, "held_delta": 5, "remaining_delta": 0}
    second = {"lot_id": "lot_2", "position": 2, "held_delta": 0, "remaining_delta": -3}
    assert made == [common | first | {"expires_at": None}, common | second | {"expires_at": LATER}]


def test_what_is_missing_is_said() -> None:
    short = holding.short_of("P-LL", 100, [(LOT, 30), (LOT, 25)], field=("legs", "0", "points"))
    said = {"programme": "P-LL", "needed": 100, "available": 55, "missing": 45}
    assert short.context.items() >= said.items()
    assert short.field == ("legs", "0", "points")


def allocation(hold: Hold, lot_id: str, n: int, sink: str | None = None) -> SimpleNamespace:
    return row(**rows.hold_row(hold, now=NOW), lot_id=lot_id, taken=n, sink=sink)


def test_allocations_are_grouped_by_hold_in_order() -> None:
    other = replace(HOLD, id="hld_2", leg_no=2)
    found = [
        allocation(HOLD, "lot_1", 40, "SINK"),
        allocation(HOLD, "lot_2", 30, "SINK"),
        allocation(other, "lot_3", 70),
    ]
    assert holding.taken(found) == [
        Taken(HOLD, [("lot_1", 40), ("lot_2", 30)], "SINK"),
        Taken(other, [("lot_3", 70)], None),
    ]


def in_state(state: HoldState, id: str = "hld_1") -> Taken:
    return Taken(replace(HOLD, id=id, state=state))


def test_what_was_resolved_before_is_left_and_the_other_way_is_refused() -> None:
    held, burned = in_state(HoldState.HELD), in_state(HoldState.POSTED, "hld_2")
    assert holding._open([held, burned], HoldState.POSTED) == [held]
    with pytest.raises(HoldAlreadyResolved) as refusal:
        holding._open([held, burned], HoldState.VOIDED)
    assert refusal.value.context == {"hold": "hld_2", "state": HoldState.POSTED}


def taken_of(legs: list[LegRequest], lots: list[Lot], first=None) -> list[Taken]:
    return holding._taken(
        redemption_id="red_1", epoch=2, legs=legs, expires_at=LATER,
        lots={lot.id: lot for lot in lots}, first=first or {}, now=NOW,
    )  # fmt: skip


def test_a_second_leg_finds_what_the_first_has_left() -> None:
    lots = [replace(LOT, id=f"lot_{n}", held=0, remaining=50, earned_on=date(2026, 1, n))
            for n in (1, 2)]  # fmt: skip
    legs = [LegRequest(1, "m1", "P-LL", 30), LegRequest(2, "m1", "P-LL", 60)]
    first, second = taken_of(legs, lots)
    assert first.lots == [("lot_1", 30)]
    assert second.lots == [("lot_1", 20), ("lot_2", 40)]
    assert replace(second.hold, id="hld") == Hold(
        "hld", "red_1", 2, 2, "m1", "P-LL", "M04", 60, 0, HoldState.HELD, LATER
    )
    assert first.hold.id.startswith("hld_")
    with pytest.raises(InsufficientPoints) as refusal:
        taken_of([legs[0], replace(legs[1], points=71)], lots)
    assert refusal.value.field == ("legs", "1", "points")
    assert refusal.value.context["missing"] == 1


def test_only_the_members_own_lots_of_the_programme_are_taken() -> None:
    lots = [
        replace(LOT, id="lot_1", member_id="m2"),
        replace(LOT, id="lot_2", programme_id="P-CA"),
        replace(LOT, id="lot_3"),
    ]
    (taken,) = taken_of([LegRequest(1, "m1", "P-LL", 80)], lots)
    assert taken.lots == [("lot_3", 80)]


def test_the_lots_asked_for_are_taken_first() -> None:
    lots = [replace(LOT, id=f"lot_{n}", earned_on=date(2026, 1, n)) for n in (1, 2)]
    (taken,) = taken_of([LegRequest(1, "m1", "P-LL", 85)], lots, {1: ["lot_2"]})
    assert taken.lots == [("lot_2", 80), ("lot_1", 5)]


def moved(hold_id: str, lot_id: str, n: int, **more) -> SimpleNamespace:
    return row(hold_id=hold_id, lot_id=lot_id, remaining_delta=n, **more)


def test_the_lot_allocated_last_is_filled_first_as_far_as_it_was_spent() -> None:
    burned = Taken(replace(HOLD, state=HoldState.POSTED), [("lot_1", 40), ("lot_2", 30)])
    done = [moved("hld_1", "lot_1", -40), moved("hld_1", "lot_2", -30), moved("hld_9", "lot_2", -9)]
    assert holding._back_moves([burned], done, {1: 50}) == {
        "hld_1": [("lot_2", 0, 30), ("lot_1", 0, 20)]
    }
    done.append(moved("hld_1", "lot_2", 10))  # Given back before.
    assert holding._back_moves([burned], done, {1: 50}) == {
        "hld_1": [("lot_2", 0, 20), ("lot_1", 0, 30)]
    }
    with pytest.raises(HoldAlreadyResolved) as refusal:
        holding._back_moves([in_state(HoldState.HELD)], [], {1: 50})
    assert refusal.value.context == {"hold": "hld_1", "state": HoldState.HELD}


def test_what_was_given_back_is_told_again_in_order_of_allocation() -> None:
    taken = [Taken(replace(HOLD, id="hld_2", leg_no=2)), Taken(HOLD)]
    rest = {"kind": Kind.REVERSE, "lot_expires_at": NOW, "expires_at": None}
    done = [
        moved("hld_2", "lot_3", 5, **rest | {"position": 1, "expires_at": LATER}),
        moved("hld_1", "lot_2", 30, **rest | {"position": 1}),
        moved("hld_1", "lot_1", 20, **rest | {"position": 2}),
        moved("hld_1", "lot_1", -9, **rest | {"position": 3, "kind": Kind.FARE_ADJUST}),
        moved("hld_8", "lot_1", 7, **rest | {"position": 1}),
    ]
    assert holding._given_back(taken, done, Kind.REVERSE) == [
        Returned(1, "lot_1", 20, NOW),
        Returned(1, "lot_2", 30, NOW),
        Returned(2, "lot_3", 5, LATER),
    ]


def test_a_new_lot_is_wholly_free_and_its_points_are_issued() -> None:
    lot = issuing.new_lot(
        PROGRAMME, "m1", 60, basis="GIFT", ref="ord", earned_on=date(2026, 1, 2), end=LATER
    )
    assert lot.id.startswith("lot_")
    assert replace(lot, id="lot_1") == replace(LOT, points=60, held=0, remaining=60)
    assert issuing._issue_lines(lot) == (
        Line("PTS:M04", "ISSUED", 60),
        Line("PTS:M04", "M:m1:AVAIL", -60),
    )


async def test_another_balance_that_is_too_low_is_not_the_budget() -> None:
    short = Insufficient(book="PTS:M04", account="M:m1:AVAIL", needed=5, available=3)
    assert await issuing.over_budget(None, short, PROGRAMME, NOW) is short
