"""How a call to a partner ended. Pure."""

from dataclasses import dataclass

from gateway.errors import OutcomeUnknown, PartnerRejected
from gateway.ports import Fact
from gateway.redemption.model import CallState, credible


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended: a fact, a no, or no answer."""

    state: CallState
    fact: Fact | None = None
    refusal: PartnerRejected | None = None
    detail: str | None = None


def answered(fact: Fact, op_key: str) -> Fact:
    """`credible`, of an answer to a call; else the outcome is unknown."""
    try:
        return credible(fact, op_key)
    except ValueError as error:
        raise OutcomeUnknown(op_key=op_key, reason=str(error)) from error
