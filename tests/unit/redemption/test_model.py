"""What a status answer means, and what a lower fare gives back."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.ports import Fact, Outcome
from gateway.redemption.model import (
    FOLLOWS,
    MAX_VERSION,
    Leg,
    Next,
    Patience,
    State,
    Step,
    after_status,
    check_move,
    credible,
    kept_after_fare,
    parse_op_key,
    poll_delay,
)

SENT = datetime(2026, 11, 21, 2, tzinfo=UTC)
DEADLINE = SENT + timedelta(seconds=60)
T_FINAL = timedelta(minutes=15)
PATIENCE = Patience(DEADLINE, grace=timedelta(seconds=60), not_found_final=T_FINAL)
SOON = SENT + timedelta(seconds=2)
PAST = DEADLINE + timedelta(seconds=30)  # after the deadline, within the grace
LAST = DEADLINE + timedelta(seconds=60)  # the grace's last instant
LATE = DEADLINE + timedelta(seconds=61)
FINAL = DEADLINE + timedelta(minutes=15, seconds=1)


@pytest.mark.parametrize(
    ("step", "outcome", "now", "resends", "expected"),
    [
        (Step.CONFIRM, Outcome.CONFIRMED, SOON, 0, Next.TAKE),
        (Step.CONFIRM, Outcome.CONFIRMED, FINAL, 0, Next.TAKE),
        (Step.CONFIRM, Outcome.REJECTED, SOON, 0, Next.UNDO),
        (Step.CONFIRM, Outcome.FENCED, SOON, 0, Next.UNDO),
        (Step.CONFIRM, Outcome.NOT_FOUND, SOON, 0, Next.RESEND),
        (Step.CONFIRM, Outcome.NOT_FOUND, SOON, 3, Next.WAIT),  # Time alone settles nothing.
        (Step.CONFIRM, Outcome.NOT_FOUND, PAST, 0, Next.WAIT),
        (Step.CONFIRM, Outcome.NOT_FOUND, LATE, 0, Next.FENCE),
        (Step.CONFIRM, Outcome.NOT_FOUND, FINAL, 0, Next.UNDO),
        (Step.CONFIRM, Outcome.HELD, SOON, 0, Next.WAIT),
        (Step.CONFIRM, Outcome.HELD, LATE, 0, Next.FENCE),
        (Step.CONFIRM, Outcome.IN_FLIGHT, SOON, 0, Next.WAIT),
        (Step.CONFIRM, Outcome.IN_FLIGHT, FINAL, 0, Next.FENCE),
        (Step.CONFIRM, Outcome.NOT_FOUND, DEADLINE, 0, Next.WAIT),
        (Step.CONFIRM, Outcome.IN_FLIGHT, LAST, 0, Next.WAIT),
        (Step.CONFIRM, Outcome.NOT_FOUND, DEADLINE + T_FINAL, 0, Next.FENCE),
        (Step.HOLD, Outcome.HELD, SOON, 0, Next.TAKE),
        (Step.HOLD, Outcome.NOT_FOUND, SOON, 2, Next.RESEND),
        (Step.HOLD, Outcome.NOT_FOUND, SOON, 3, Next.FENCE),
        (Step.HOLD, Outcome.RELEASED, SOON, 0, Next.UNDO),
    ],
)
def test_doubt_ends_by_a_fact_or_a_fence_never_by_time_alone(step, outcome, now, resends, expected):
    decided = after_status(
        outcome, step=step, resends=resends, since=SENT, patience=PATIENCE, now=now
    )
    assert decided is expected


def leg(leg_no: int, points: int, face_fen: int, rate: tuple[int, int] = (1, 1)) -> Leg:
    return Leg(leg_no, "P", "M04", points, face_fen, *rate, True, None, 0, 0)


@pytest.mark.parametrize(
    ("legs", "cash_fen", "fare_fen", "expected"),
    [
        ((leg(1, 8000, 8000), leg(2, 4000, 4000)), 0, 7500, {1: (7500, 7500), 2: (0, 0)}),
        ((leg(1, 12000, 12000),), 0, 9750, {1: (9750, 9750)}),
        ((leg(1, 12000, 12000),), 0, 12000, {}),
        ((leg(1, 12000, 12000),), 0, 13000, {}),  # A higher fare counts as the quote.
        ((leg(1, 113, 4500, (40, 1)),), 0, 4480, {1: (112, 4480)}),  # ceil(4,480 ÷ 40)
        ((leg(1, 2700, 4500, (5, 3)),), 0, 4499, {1: (2700, 4499)}),  # ceil(2,699.4): none back
        ((leg(1, 2000, 2000),), 1000, 500, {1: (0, 0)}),  # Then the cash part is lower, too.
    ],
)
def test_a_lower_fare_comes_off_the_last_leg_first(legs, cash_fen, fare_fen, expected):
    assert kept_after_fare(legs, cash_fen, fare_fen) == expected


def test_polls_come_after_1_2_4_8_15_30_then_each_60_seconds():
    assert [poll_delay(n).total_seconds() for n in range(8)] == [1, 2, 4, 8, 15, 30, 60, 60]


def test_an_op_key_names_redemption_step_and_epoch():
    assert parse_op_key("red_1:confirm:2") == ("red_1", Step.CONFIRM, 2)
    with pytest.raises(ValueError):
        parse_op_key("red_1:confirm")


def test_a_move_the_table_does_not_know_is_a_bug():
    with pytest.raises(AssertionError):
        check_move(State.CANCELLED, State.COMMITTED)
    assert set(FOLLOWS) == set(State)


KEY = "red_1:confirm:1"


@pytest.mark.parametrize(
    "fact",
    [
        Fact(KEY, Outcome.HELD, hold_ref="h1"),
        Fact(KEY, Outcome.CONFIRMED, booking_ref="b1"),
        Fact(KEY, Outcome.REJECTED, reason="sold out"),
        Fact(KEY, Outcome.IN_FLIGHT, version=0),
        Fact(KEY, Outcome.IN_FLIGHT, version=MAX_VERSION),
    ],
)
def test_a_fact_about_what_was_asked_is_taken(fact):
    assert credible(fact, KEY) is fact


@pytest.mark.parametrize(
    ("fact", "why"),
    [
        (Fact("red_2:confirm:1", Outcome.REJECTED), "no answer to red_1:confirm:1"),
        (Fact(KEY, Outcome.HELD), "no answer to"),
        (Fact(KEY, Outcome.CONFIRMED, hold_ref="h1"), "no answer to"),
        (Fact(KEY, Outcome.IN_FLIGHT, version=-1), "version -1"),
        (Fact(KEY, Outcome.IN_FLIGHT, version=MAX_VERSION + 1), f"version {MAX_VERSION + 1}"),
        (Fact(KEY, Outcome.REJECTED, reason="a\x00b"), "cannot be stored"),
        (Fact(KEY, Outcome.HELD, hold_ref="h\x00"), "cannot be stored"),
        (Fact(KEY, Outcome.CONFIRMED, booking_ref="b\x00"), "cannot be stored"),
        (
            Fact(KEY, Outcome.CONFIRMED, booking_ref="b", artefacts={"code": "\x00"}),
            "cannot be stored",
        ),
    ],
)
def test_a_fact_that_cannot_be_true_is_not_taken(fact, why):
    with pytest.raises(ValueError, match=why):
        credible(fact, KEY)
