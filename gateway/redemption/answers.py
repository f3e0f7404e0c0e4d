"""How a call to a partner ended, and how long to wait after one that said nothing. Pure."""

from dataclasses import dataclass
from datetime import timedelta

from gateway.errors import NoAnswer, OutcomeUnknown, PartnerRejected, PartnerUnavailable
from gateway.ports import KEY_CONFLICT, Fact, Outcome
from gateway.redemption.model import CallState, Patience, Redemption, credible, poll_delay
from gateway.settings import Settings
from gateway.values import spread

_RETRY_AFTER = 30  # seconds, if the partner does not say
_LONGEST_WAIT = timedelta(minutes=5)  # However long a partner asks to be left alone.


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended: a fact, a no, or no answer."""

    state: CallState
    fact: Fact | None = None
    refusal: PartnerRejected | None = None
    silence: NoAnswer | None = None
    detail: str | None = None

    @property
    def said(self) -> str | None:
        """In a word, for the log."""
        if self.fact:
            return str(self.fact.outcome)
        return self.silence.code if self.silence else None


def answered(fact: Fact, op_key: str) -> Fact:
    """`credible`, of an answer to a call; else the outcome is unknown."""
    try:
        return credible(fact, op_key)
    except ValueError as error:
        raise OutcomeUnknown(op_key=op_key, reason=str(error)) from error


def told(answer: Answer, op_key: str) -> Fact | None:
    """What an answer says about its op key: a no is a fact, too, with what it names."""
    if answer.refusal is None:
        return answer.fact
    no = answer.refusal
    return Fact(op_key, Outcome.REJECTED, reason=no.code, context=no.context)


def unreached(redemption: Redemption, silence: NoAnswer | None = None) -> PartnerUnavailable:
    """What the caller is told when nothing was ever sent."""
    wait = seconds(silence) or _RETRY_AFTER
    return PartnerUnavailable(merchant=redemption.merchant_id, retry_after_seconds=wait)


def silent(error: NoAnswer | PartnerRejected) -> NoAnswer:
    """A status that was refused is as good as none."""
    return error if isinstance(error, NoAnswer) else OutcomeUnknown(reason=error.code)


def conflicting(silence: NoAnswer | None) -> bool:
    """Whether the partner has this op key with another body: asking again cannot help (§4.2)."""
    return silence is not None and silence.context.get("reason") == KEY_CONFLICT


def seconds(silence: NoAnswer | None) -> int:
    """How long the partner asked to be left alone."""
    return silence.retry_after // timedelta(seconds=1) if silence else 0


def pause(redemption: Redemption, polls: int, silence: NoAnswer | None) -> timedelta:
    """How long until it is looked at again: contracts §5.4, spread, or longer if asked for."""
    asked = min(silence.retry_after, _LONGEST_WAIT) if silence else timedelta(0)
    return max(spread(poll_delay(polls), f"{redemption.id}:{polls}"), asked)


def patience(redemption: Redemption, settings: Settings) -> Patience:
    """How long a step in doubt is waited for."""
    return Patience(
        deadline=redemption.deadline or redemption.points_hold_until,
        grace=timedelta(seconds=settings.confirm_grace_seconds),
        not_found_final=timedelta(seconds=settings.not_found_final_seconds),
    )
