"""Which webhooks can be true, field by field; and for which step a redemption waits."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.ports import PartnerEvent
from gateway.redemption.model import MAX_VERSION, Incredible, State, Step, credible_event
from gateway.values import MAX_AMOUNT
from tests.unit.redemption.test_answers import redemption

NOON = datetime(2026, 11, 20, 4, tzinfo=UTC)
TOLD: dict[str, Any] = {
    "event_id": "evt_1",
    "kind": "CONFIRMED",
    "op_key": "red_1:confirm:1",
    "version": 3,
    "occurred_at": NOON,
    "booking_ref": "b1",
    "final_fare_fen": 0,
    "reason": None,
    "artefacts": {"code": "QR 1"},
}
TEXT = "{}: a text"
CONTROL = "{}: no control characters"


def event(**given: Any) -> PartnerEvent:
    return PartnerEvent(**TOLD | given)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"version": 0, "final_fare_fen": None, "booking_ref": None, "artefacts": {}},
        {"version": MAX_VERSION, "final_fare_fen": MAX_AMOUNT, "reason": "满座"},
    ],
    ids=str,
)
def test_what_can_be_true_is_taken_as_it_is(given: dict[str, Any]) -> None:
    said = event(**given)
    assert credible_event(said) is said


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"occurred_at": NOON.replace(tzinfo=None)}, "occurred_at: an instant with a time zone"),
        ({"occurred_at": "now"}, "occurred_at: an instant with a time zone"),
        *(
            ({"version": wrong}, f"version: a whole number from 0 to {MAX_VERSION}")
            for wrong in (-1, MAX_VERSION + 1, True, 1.0, "1", None)
        ),
        *(
            ({"final_fare_fen": wrong}, f"final_fare_fen: a whole number from 0 to {MAX_AMOUNT}")
            for wrong in (-1, MAX_AMOUNT + 1, False, "9")
        ),
        *(({name: 7}, TEXT.format(name)) for name in ("event_id", "op_key")),
        *(({name: None}, TEXT.format(name)) for name in ("event_id", "op_key")),
        *(({name: 7}, TEXT.format(name)) for name in ("booking_ref", "reason")),
        *(
            ({name: "a\u0007"}, CONTROL.format(name))
            for name in ("event_id", "op_key", "booking_ref", "reason")
        ),
        *(({"artefacts": wrong}, "artefacts: texts by name") for wrong in (None, [], "code")),
        ({"artefacts": {"code": 7}}, TEXT.format("artefacts")),
        ({"artefacts": {7: "code"}}, TEXT.format("artefacts")),
        ({"artefacts": {"code": "a\u0007"}}, CONTROL.format("artefacts")),
    ],
    ids=str,
)
def test_what_cannot_be_true_is_named_by_its_field(given: dict[str, Any], why: str) -> None:
    with pytest.raises(Incredible) as found:
        credible_event(event(**given))
    assert str(found.value) == why


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize(
    ("state", "asked"),
    [
        (State.HOLDING, Step.HOLD),
        (State.RELEASING, Step.HOLD),
        (State.CONFIRMING, Step.CONFIRM),
        (State.CANCELLING, Step.CANCEL),
        (State.HELD, None),
        (State.COMMITTED, None),
    ],
)
def test_an_answer_decides_while_its_step_is_asked(
    state: State, asked: Step | None, step: Step
) -> None:
    assert replace(redemption(), state=state).waits_for(step) == (step is asked)
    doubted = replace(redemption(), state=State.IN_DOUBT, doubt=asked)
    assert doubted.waits_for(step) == (step is asked)
