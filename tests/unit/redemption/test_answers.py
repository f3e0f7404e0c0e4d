"""How a call ended, how long to wait after it, and what two people may decide."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import NoAnswer, OutcomeUnknown, PartnerRejected, PartnerUnavailable
from gateway.ports import KEY_CONFLICT, Fact, Outcome
from gateway.redemption.answers import Answer, answered, conflicting, pause, seconds, silent
from gateway.redemption.model import (
    CallState,
    Redemption,
    Resolve,
    State,
    poll_delay,
    ways_out,
)
from gateway.values import back_off

NOON = datetime(2026, 11, 20, 4, tzinfo=UTC)


def redemption(id: str = "red_1") -> Redemption:
    words = dict.fromkeys(
        ("member_id", "quote_id", "merchant_id", "offer_id", "kind", "category", "pricing"), "x"
    )
    return Redemption(
        id=id,
        slot=None,
        quantity=1,
        list_fen=4_500,
        cash_fen=0,
        partner_quote_id="pq",
        points_hold_until=NOON,
        created_at=NOON,
        **words,
    )


def test_a_job_waits_twice_as_long_each_time_up_to_an_hour() -> None:
    hour = timedelta(hours=1)
    for tries in range(1, 40):
        plain = min(timedelta(seconds=2 ** min(tries, 20)), hour)
        assert plain * 4 / 5 <= back_off(tries, key="job", most=hour) <= plain * 6 / 5
    assert back_off(0, key="job", most=hour) <= timedelta(seconds=2.4)


def test_a_pause_is_spread_but_never_shorter_than_asked() -> None:
    one = redemption()
    for polls in range(12):
        waited, plain = pause(one, polls, None), poll_delay(polls)
        assert plain * 4 / 5 <= waited <= plain * 6 / 5
        assert waited == pause(one, polls, None)  # The same again.
    assert len({pause(redemption(id=f"red_{n}"), 9, None) for n in range(50)}) > 25
    asked = PartnerUnavailable(retry_after_seconds=90)
    assert pause(one, 0, asked) == timedelta(seconds=90)
    assert pause(one, 0, PartnerUnavailable(retry_after_seconds=86_400)) == timedelta(minutes=5)
    assert (seconds(asked), seconds(None), seconds(NoAnswer(retry_after_seconds="x"))) == (90, 0, 0)


def test_only_a_conflict_of_keys_is_one() -> None:
    assert conflicting(OutcomeUnknown(reason=KEY_CONFLICT))
    assert not conflicting(OutcomeUnknown(reason="KEY_IN_FLIGHT"))
    assert not conflicting(None)


def test_an_answer_about_something_else_is_no_answer() -> None:
    fact = Fact("red_1:hold:1", Outcome.HELD, hold_ref="h")
    assert answered(fact, "red_1:hold:1") is fact
    with pytest.raises(OutcomeUnknown):
        answered(fact, "red_2:hold:1")
    assert Answer(CallState.ANSWERED, fact=fact).said == "held"
    lost = PartnerUnavailable()
    assert silent(lost) is lost
    refused = silent(PartnerRejected())
    assert refused.context == {"reason": "PARTNER_REJECTED"}
    assert Answer(CallState.UNKNOWN, silence=refused).said == "PARTNER_OUTCOME_UNKNOWN"
    assert Answer(CallState.REJECTED).said is None


@pytest.mark.parametrize(
    ("came_from", "committed", "outcomes"),
    [
        (State.HOLDING, False, {Resolve.COMMIT, Resolve.RELEASE}),
        (State.IN_DOUBT, False, {Resolve.COMMIT, Resolve.RELEASE}),
        (State.RELEASED, False, {Resolve.COMMIT, Resolve.RELEASE}),
        (State.IN_DOUBT, True, {Resolve.CANCEL, Resolve.KEEP}),
        (State.FULFILLED, True, {Resolve.CANCEL, Resolve.KEEP}),
        (State.CANCELLED, True, {Resolve.KEEP}),
    ],
)
def test_what_may_be_decided_fits_what_was(
    came_from: State, committed: bool, outcomes: set[Resolve]
) -> None:
    assert set(ways_out(came_from, committed=committed)) == outcomes
