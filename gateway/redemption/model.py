"""A redemption: its states, what may follow what, and the timing of doubt. Pure: no I/O, no clock.

    HOLDING ── HELD ── CONFIRMING ── COMMITTED ── FULFILLED
       │        │         │   │          │
       └────────┴─ IN_DOUBT ──┘     CANCELLING ── CANCELLED
                │
           RELEASING ── RELEASED ── LATE_CONFIRMED

Confirm is the pivot: before it everything can be undone, after it nothing may say no. What a
partner may have done is IN_DOUBT until a fact or a fence settles it; time alone settles nothing.
Source: contracts §5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.errors import Refused
from gateway.ports import Fact, Outcome, PartnerEvent
from gateway.values import MAX_AMOUNT, InvalidInput, legible

MAX_VERSION = 2**31 - 1


class State(StrEnum):
    HOLDING = "HOLDING"
    HELD = "HELD"
    CONFIRMING = "CONFIRMING"
    IN_DOUBT = "IN_DOUBT"
    COMMITTED = "COMMITTED"
    FULFILLED = "FULFILLED"
    RELEASING = "RELEASING"
    RELEASED = "RELEASED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    LATE_CONFIRMED = "LATE_CONFIRMED"
    NEEDS_REVIEW = "NEEDS_REVIEW"


S = State
FOLLOWS: Mapping[State, frozenset[State]] = {
    S.HOLDING: frozenset({S.HELD, S.IN_DOUBT, S.RELEASED, S.NEEDS_REVIEW}),
    S.HELD: frozenset({S.CONFIRMING, S.RELEASING, S.RELEASED}),
    S.CONFIRMING: frozenset({S.COMMITTED, S.IN_DOUBT, S.RELEASING, S.RELEASED, S.NEEDS_REVIEW}),
    S.IN_DOUBT: frozenset(
        {
            S.HELD,
            S.COMMITTED,
            S.RELEASING,
            S.RELEASED,
            S.CANCELLED,
            S.FULFILLED,
            S.NEEDS_REVIEW,
        }
    ),
    S.COMMITTED: frozenset({S.FULFILLED, S.CANCELLING, S.CANCELLED, S.NEEDS_REVIEW}),
    S.LATE_CONFIRMED: frozenset({S.FULFILLED, S.CANCELLING, S.CANCELLED, S.NEEDS_REVIEW}),
    S.FULFILLED: frozenset({S.NEEDS_REVIEW}),
    S.RELEASING: frozenset({S.RELEASED, S.NEEDS_REVIEW}),
    S.RELEASED: frozenset({S.LATE_CONFIRMED, S.NEEDS_REVIEW}),
    S.CANCELLING: frozenset({S.CANCELLED, S.COMMITTED, S.IN_DOUBT, S.FULFILLED, S.NEEDS_REVIEW}),
    S.CANCELLED: frozenset({S.NEEDS_REVIEW}),
    S.NEEDS_REVIEW: frozenset({S.COMMITTED, S.RELEASING, S.RELEASED, S.CANCELLED, S.FULFILLED}),
}
BURNED = frozenset({S.COMMITTED, S.LATE_CONFIRMED, S.FULFILLED, S.CANCELLING, S.CANCELLED})
WORKED = (S.HOLDING, S.HELD, S.CONFIRMING, S.IN_DOUBT, S.RELEASING, S.CANCELLING)
"""States the worker looks at when they are due."""


class Step(StrEnum):
    """The steps that call the partner; each has an op key of its own per epoch."""

    HOLD = "hold"
    CONFIRM = "confirm"
    CANCEL = "cancel"


class Fault(StrEnum):
    """Who is the cause of a cancellation: it decides fee, expiry and compensation (§5.6)."""

    MEMBER = "MEMBER"
    REDEEMER = "REDEEMER"
    GATEWAY = "GATEWAY"


class Resolve(StrEnum):
    """What two people may decide about a redemption whose rules are exhausted."""

    COMMIT = "COMMIT"  # the partner has it booked: burn
    RELEASE = "RELEASE"  # the partner has nothing: points back
    CANCEL = "CANCEL"  # it was cancelled after all: points back, obligations reversed
    KEEP = "KEEP"  # it stays what it was


class CallState(StrEnum):
    """An outbox row: PENDING before the bytes leave; a PENDING one after a crash is unknown."""

    PENDING = "PENDING"
    ANSWERED = "ANSWERED"
    REJECTED = "REJECTED"
    NOT_SENT = "NOT_SENT"
    UNKNOWN = "UNKNOWN"


class AlreadyUsed(Refused):
    code = "ALREADY_USED"
    when = "a voucher or coupon is used before"
    zh = "该券已于 {used_at} 使用"
    en = "used at {used_at}"
    next_zh = "每券只能使用一次"
    next_en = "a voucher is used once"


class VoucherExpired(Refused):
    code = "VOUCHER_EXPIRED"
    when = "after the voucher's last day"
    zh = "该券已于 {last_on} 到期"
    en = "the voucher ended on {last_on}"
    next_zh = "请联系商户"
    next_en = "ask the merchant"


class OwnerMismatch(Refused):
    code = "OWNER_MISMATCH"
    when = "the voucher names another holder"
    zh = "券面持有人不符"
    en = "the voucher names another holder"
    next_zh = "请持有人本人到场使用"
    next_en = "bring the holder"


class DonationReversalClosed(Refused):
    code = "DONATION_REVERSAL_CLOSED"
    when = "more than 24 h after a donation"
    zh = "捐赠超过 24 小时,不能撤回"
    en = "24 hours have passed"
    next_zh = "感谢您的捐赠"
    next_en = "thank you for giving"


class CashOutForbidden(Refused):
    code = "CASH_OUT_FORBIDDEN"
    when = "money is asked for points"
    zh = "积分不能兑换现金,可退回 {points} 分"
    en = "points cannot become money; {points} points can come back"
    next_zh = "请选择退回积分"
    next_en = "take the refund in points"


_ASKED = {
    S.HOLDING: Step.HOLD,
    S.CONFIRMING: Step.CONFIRM,
    S.RELEASING: Step.HOLD,  # Its fence.
    S.CANCELLING: Step.CANCEL,
}


@dataclass(frozen=True, slots=True)
class Leg:
    """The part of a redemption paid with one programme's points."""

    leg_no: int
    programme_id: str
    issuer: str
    points: int
    face_fen: int
    rate_num: int  # fen per point, exact
    rate_den: int
    own: bool
    agreement_id: str | None
    settlement_fen: int
    fee_fen: int
    returned_points: int = 0


@dataclass(frozen=True, slots=True)
class Redemption:
    """One redemption as stored; `doubt` names the step whose outcome is unknown."""

    id: str
    member_id: str
    quote_id: str
    merchant_id: str
    offer_id: str
    slot: str | None
    quantity: int
    list_fen: int
    cash_fen: int
    kind: str
    category: str
    pricing: str
    partner_quote_id: str
    points_hold_until: datetime
    created_at: datetime
    state: State = State.HOLDING
    epoch: int = 1
    doubt: Step | None = None
    reason: str | None = None
    fault: Fault | None = None
    hold_ref: str | None = None
    booking_ref: str | None = None
    fact_version: int = 0
    partner_hold_until: datetime | None = None
    deadline: datetime | None = None
    cancel_until: datetime | None = None
    doubt_since: datetime | None = None
    due_at: datetime | None = None
    polls: int = 0
    resends: int = 0
    fenced: bool = False
    auto_confirm: bool = False
    final_fare_fen: int | None = None
    cancel_quote_id: str | None = None
    committed_at: datetime | None = None
    fulfilled_at: datetime | None = None
    released_at: datetime | None = None
    cancelled_at: datetime | None = None
    retry_of: str | None = None
    told: int = 0  # events recorded of it: the sequence of the last one
    legs: tuple[Leg, ...] = ()

    def op_key(self, step: Step) -> str:
        """The idempotency key of one step of this epoch."""
        return f"{self.id}:{step}:{self.epoch}"

    def waits_for(self, step: Step) -> bool:
        """Whether what this step's call has come to still decides something here.

        An answer that comes after another has moved the redemption on decides nothing.
        """
        if self.state is State.IN_DOUBT:
            return self.doubt is step
        return _ASKED.get(self.state) is step

    @property
    def last_step(self) -> Step:
        """The last step that was asked of the partner."""
        if self.committed_at is not None:
            return Step.CANCEL
        return Step.HOLD if self.deadline is None else Step.CONFIRM

    @property
    def hold_until(self) -> datetime:
        """The earlier of the partner's and the points' hold limit."""
        partner = self.partner_hold_until or self.points_hold_until
        return min(partner, self.points_hold_until)

    @property
    def points(self) -> int:
        """Points of all legs together: only ever shown for a single leg (K8)."""
        assert len(self.legs) == 1
        return self.legs[0].points


def parse_op_key(op_key: str) -> tuple[str, Step, int]:
    """Redemption id, step and epoch of an op key.

    Raises:
        ValueError: It is none of ours.
    """
    redemption_id, step, epoch = op_key.split(":")
    return redemption_id, Step(step), int(epoch)


class Incredible(ValueError):
    """A partner says what cannot be, or cannot be kept."""


def credible(fact: Fact, op_key: str) -> Fact:
    """A fact, if it is about what was asked and can be kept.

    Raises:
        Incredible: It speaks of another op key, names no booking, or cannot be stored.
    """
    unnamed = {Outcome.HELD: fact.hold_ref, Outcome.CONFIRMED: fact.booking_ref}
    if fact.op_key != op_key or unnamed.get(fact.outcome, op_key) is None:
        raise Incredible(f"{fact.op_key} {fact.outcome} is no answer to {op_key}")
    if not 0 <= fact.version <= MAX_VERSION:
        raise Incredible(f"version {fact.version}")
    said = [fact.hold_ref, fact.booking_ref, fact.reason, dict(fact.artefacts)]
    try:
        legible(said, "answer")
    except InvalidInput as error:
        raise Incredible("a text that cannot be stored") from error
    return fact


def credible_event(event: PartnerEvent) -> PartnerEvent:
    """A webhook, if every field of it can be true and can be kept.

    Raises:
        Incredible: One cannot; the text begins with its name.
    """
    if getattr(event.occurred_at, "tzinfo", None) is None:
        raise Incredible("occurred_at: an instant with a time zone")
    _number(event.version, "version", MAX_VERSION)
    if event.final_fare_fen is not None:
        _number(event.final_fare_fen, "final_fare_fen", MAX_AMOUNT)
    for field in ("event_id", "op_key"):
        _words(getattr(event, field), field)
    for field in ("booking_ref", "reason"):
        if getattr(event, field) is not None:
            _words(getattr(event, field), field)
    artefacts: object = event.artefacts
    if not isinstance(artefacts, Mapping):
        raise Incredible("artefacts: texts by name")
    for text in (*artefacts, *artefacts.values()):
        _words(text, "artefacts")
    return event


def _number(value: object, field: str, most: int) -> None:
    if type(value) is not int or not 0 <= value <= most:
        raise Incredible(f"{field}: a whole number from 0 to {most}")


def _words(value: object, field: str) -> None:
    if not isinstance(value, str):
        raise Incredible(f"{field}: a text")
    try:
        legible(value, field)
    except InvalidInput as error:
        raise Incredible(f"{field}: {error.context['rule']}") from error


def ways_out(came_from: State, *, committed: bool) -> tuple[Resolve, ...]:
    """What may be decided about a redemption that needs a person.

    Args:
        came_from: The state before.
        committed: Whether its points are burned, or were.
    """
    if came_from is State.CANCELLED:
        return (Resolve.KEEP,)
    return (Resolve.CANCEL, Resolve.KEEP) if committed else (Resolve.COMMIT, Resolve.RELEASE)


def check_move(old: State, new: State) -> None:
    """A move the table does not know is a bug."""
    assert new in FOLLOWS[old], f"{old} is never followed by {new}"


_POLLS = (1, 2, 4, 8, 15, 30)


def poll_delay(polls: int) -> timedelta:
    """Polls in doubt come after 1, 2, 4, 8, 15, 30 s, then each 60 s. Source: contracts §5.4."""
    return timedelta(seconds=_POLLS[polls] if polls < len(_POLLS) else 60)


class Next(StrEnum):
    """What to do about a step in doubt, after asking its status."""

    TAKE = "take"  # it took effect
    UNDO = "undo"  # it never will
    RESEND = "resend"
    FENCE = "fence"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Patience:
    """The limits of waiting, in business time."""

    deadline: datetime  # of the confirm, or the hold's limit
    grace: timedelta
    not_found_final: timedelta
    resends: int = 3


def after_status(
    outcome: Outcome,
    *,
    step: Step,
    resends: int,
    since: datetime,
    patience: Patience,
    now: datetime,
) -> Next:
    """Decide what a status answer means for a hold or confirm in doubt.

    Never `UNDO` on time alone: only on the partner's no, its fence, or its NOT_FOUND after
    t_final (R3).
    """
    done = {Step.HOLD: {Outcome.HELD, Outcome.CONFIRMED}, Step.CONFIRM: {Outcome.CONFIRMED}}
    if outcome in done[step]:
        return Next.TAKE
    if outcome in (Outcome.REJECTED, Outcome.FENCED, Outcome.RELEASED, Outcome.CANCELLED):
        return Next.UNDO
    late = now > patience.deadline + patience.grace
    if outcome is Outcome.NOT_FOUND:
        if now > max(since, patience.deadline) + patience.not_found_final:
            return Next.UNDO
        if not late and now < patience.deadline and resends < patience.resends:
            return Next.RESEND
        return Next.FENCE if late or step is Step.HOLD else Next.WAIT
    return Next.FENCE if late else Next.WAIT


def kept_after_fare(
    legs: tuple[Leg, ...], cash_fen: int, fare_fen: int
) -> dict[int, tuple[int, int]]:
    """What each leg keeps when the final fare is lower than the quote.

    The difference comes off the last leg first, then the one before, the cash part at the end.

    Returns:
        Leg number to (kept points, kept face in fen), for the legs that change only.
        Kept points = ceil(kept face ÷ rate). Source: contracts §5.7.
    """
    list_fen = sum(leg.face_fen for leg in legs) + cash_fen
    rest = max(list_fen - fare_fen, 0)
    kept: dict[int, tuple[int, int]] = {}
    for leg in sorted(legs, key=lambda leg: -leg.leg_no):
        off = min(rest, leg.face_fen)
        if off:
            face = leg.face_fen - off
            points = min(leg.points, -(-face * leg.rate_den // leg.rate_num))
            kept[leg.leg_no] = (points, face)
        rest -= off
    return kept
