"""The port every partner is reached through. One merchant's system = one `Partner`.

A partner sees offers, fen, op keys and a pseudonymous member; points never reach it. The words:

op key      our idempotency key of one saga step, `red_<id>:<step>:<epoch>`; the partner keeps it
            with its effect, so that the same key never acts twice and can be asked for
fact        what a partner says about an op key, in an answer, a webhook, a poll or a statement;
            facts about one booking carry a rising version
fence       the partner's promise that an op key can never take effect any more

Every verb classifies its failures into three, and only three, kinds:

PartnerRejected      the partner has said no, in words: compensate
PartnerUnavailable   nothing reached it (not connected, not let in, throttled): safe to retry
OutcomeUnknown       anything else: a time-out after sending, a 5xx, an unreadable answer.
                     What cannot be classified is unknown.

A verb without effect (quote, live, status, statement, offers) never raises OutcomeUnknown:
asking again is harmless, so no answer is PartnerUnavailable.
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Flag, StrEnum, auto
from typing import Any, Protocol

from gateway.errors import PartnerRejected


class SoldOut(PartnerRejected):
    code = "SOLD_OUT"
    when = "no stock"
    zh = "已兑完"
    en = "sold out"
    next_zh = "看看其他有货的门店或权益"
    next_en = "choose a store that has it, or another offer"


class SlotFull(PartnerRejected):
    code = "SLOT_FULL"
    when = "no place left in the slot; alternative and left are given where the partner names one"
    zh = "{slot} 已满"
    en = "{slot} is full"
    next_zh = "请选择其他时段"
    next_en = "choose another slot"


class QuoteExpired(PartnerRejected):
    code = "QUOTE_EXPIRED"
    when = "a quote is used after `expires_at`"
    zh = "报价已于 {expired_at} 过期"
    en = "the quote expired at {expired_at}"
    next_zh = "请重新询价"
    next_en = "ask for a new quote"


class HoldExpired(PartnerRejected):
    code = "HOLD_EXPIRED"
    when = "the hold's time is over"
    zh = "保留时间已过,积分已退回"
    en = "the hold has expired; points are back"
    next_zh = "请重新下单"
    next_en = "hold again"


class PriceChanged(PartnerRejected):
    """The price is another one now.

    An adapter gives `new_list_fen`; what the member sees has old_points, new_points, new_quote.
    """

    code = "QUOTE_STALE"
    when = "the price changed before confirm"
    zh = "价格已变:{old_points} → {new_points} 分"
    en = "the price changed: {old_points} → {new_points} points"
    next_zh = "请查看并接受新报价"
    next_en = "look at the new quote and accept it"


class CancelTooLate(PartnerRejected):
    code = "CANCEL_TOO_LATE"
    when = "past the free limit"
    zh = "已超过可取消时间({until})"
    en = "cancellation was possible until {until}"
    next_zh = "规则在确认前已展示"
    next_en = "the rule is shown before confirm"


KEY_CONFLICT = "KEY_CONFLICT"
"""Reason of an OutcomeUnknown: the partner knows the op key with another body. Asking again cannot
help."""

past_held: ContextVar[bool] = ContextVar("past_held", default=False)
"""Set around calls for a saga past HELD (confirm, status, fence, cancel): no breaker stops them."""


class Capability(Flag):
    """What an adapter's partner can do; conformance skips the checks it does not claim."""

    OFFERS = auto()  # list_offers, live
    REDEEM = auto()  # quote, hold, confirm, status, fence, cancel
    SLOTS = auto()  # offers with times or seats
    ASYNC_CONFIRM = auto()  # confirm may answer PENDING; a webhook or a poll decides
    STATEMENT = auto()  # statement
    NOTICE = auto()  # settlement_notice
    OPERATIONS = auto()  # operations: optional, for recovery after a restore
    ALL = OFFERS | REDEEM | STATEMENT | NOTICE


@dataclass(frozen=True, slots=True)
class FeedOffer:
    """One row of a partner's offer feed. `deleted` is a tombstone: only id and version count.

    `attributes` holds what not every offer has, under the names of the published contract:
    own_points, own_priced_by, green, high_value, guaranteed, max_offset_pct, part_payment,
    parity, slots, pricing, coupon, offset_unit, guarantee, needs, only_categories, stores.
    """

    id: str
    version: int
    deleted: bool = False
    name_zh: str = ""
    name_en: str = ""
    kind: str = ""
    category: str = ""
    cash_fen: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A page of the change feed: offers in feed order; `cursor` continues after them."""

    offers: tuple[FeedOffer, ...]
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class Slot:
    """A time, seat or night that can be booked, under the partner's own id."""

    id: str
    starts_at: datetime
    left: int


@dataclass(frozen=True, slots=True)
class LiveOffer:
    """What an offer costs and has left right now; `left` None = unlimited."""

    offer_id: str
    list_fen: int
    left: int | None
    slots: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What a member wants: `quantity` of an offer, or a bill of `bill_fen` to be offset."""

    offer_id: str
    slot: str | None
    quantity: int
    bill_fen: int | None
    member_ref: str  # pseudonym of the member at this partner


@dataclass(frozen=True, slots=True)
class Quote:
    """The partner's price for the whole request, binding until `expires_at`."""

    id: str
    list_fen: int
    expires_at: datetime
    terms_hash: str
    cancel_until: datetime | None = None  # free cancellation ends; None: until use


@dataclass(frozen=True, slots=True)
class Claim:
    """What one issuer will owe the partner for one leg, in leg order.

    `face_fen` is the part of the list price the leg covers. An own leg (issuer = the partner)
    is listed too, so that a lower final fare can be taken off the last leg first.
    """

    issuer: str
    face_fen: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """A partner's hold, with the time it really granted."""

    op_key: str
    hold_ref: str
    expires_at: datetime


class Outcome(StrEnum):
    """What a partner knows about an op key."""

    NOT_FOUND = "not_found"  # never seen: final only after t_final
    IN_FLIGHT = "in_flight"  # being worked on (also an asynchronous confirm)
    HELD = "held"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    RELEASED = "released"  # a hold that expired or was let go
    FENCED = "fenced"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Fact:
    """What the partner says about one op key. The version rises per booking.

    `artefacts` is what the member gets: code, seat, qr, confirmation_no, ticket_no, trip_id …
    """

    op_key: str
    outcome: Outcome
    version: int = 0
    booking_ref: str | None = None
    hold_ref: str | None = None
    expires_at: datetime | None = None
    reason: str | None = None
    artefacts: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, object] = field(default_factory=dict)  # what a no names


@dataclass(frozen=True, slots=True)
class CancelQuote:
    """What a cancellation now would give back. `refundable` False: too late, nothing comes back."""

    id: str
    refundable: bool
    fee_fen: int
    expires_at: datetime
    until: datetime | None = None


class EventKind(StrEnum):
    """What a partner may tell us on its own."""

    CONFIRMED = "booking.confirmed"
    REJECTED = "booking.rejected"
    FULFILLED = "booking.fulfilled"
    NO_SHOW = "booking.no_show"
    CANCELLED = "booking.cancelled"  # by the partner: its fault


@dataclass(frozen=True, slots=True)
class PartnerEvent:
    """One webhook, mapped. `op_key` is the confirm's; `version` rises per booking."""

    event_id: str
    kind: EventKind
    op_key: str
    version: int
    occurred_at: datetime
    booking_ref: str | None = None
    final_fare_fen: int | None = None  # FULFILLED of an estimate-priced offer
    reason: str | None = None
    artefacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One obligation as the partner books it; reversals negative; no fee rows."""

    line: int
    gateway_ref: str | None  # our redemption id
    partner_ref: str | None
    type: str  # REDEMPTION, REVERSAL, ...
    issuer: str
    amount_fen: int
    business_date: date
    offer_id: str | None = None
    member_ref: str | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """A partner's statement of one business day, with its trailer."""

    merchant: str
    business_date: date
    version: int
    lines: tuple[StatementLine, ...]
    trailer_count: int
    trailer_sum_fen: int


@dataclass(frozen=True, slots=True)
class SettlementNotice:
    """Tells a merchant one leg of a settlement, as its debtor or creditor.

    `audit_head` is the signed head of the gateway's audit chain, a compact JWS, to be kept: who
    rewrites the books later contradicts every merchant's copy.
    """

    settlement_id: str
    leg_id: str
    payer: str
    payee: str
    amount_fen: int
    net_hash: str
    audit_head: str | None = None


@dataclass(frozen=True, slots=True)
class NoticeReceipt:
    """The merchant's answer to a notice: its reference and when it took it."""

    receipt_ref: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Operation:
    """One op key of ours that a partner has seen, and what is true of it now.

    What else it knows is for whoever has to explain a booking that we know nothing of.
    """

    at: datetime  # business time at which the partner first saw it
    fact: Fact
    gateway_ref: str | None = None
    offer_id: str | None = None
    member_ref: str | None = None
    list_fen: int | None = None
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """A webhook the partner has sent, as it was: its id and its body."""

    event_id: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OperationsPage:
    """A page of what happened since an instant; `cursor` continues after it."""

    operations: tuple[Operation, ...]
    events: tuple[Told, ...]
    cursor: str
    more: bool


class Listing(Protocol):
    """The optional verb of a partner that claims `Capability.OPERATIONS`."""

    async def operations(self, since: datetime, cursor: str | None) -> OperationsPage:
        """List the op keys of hold, confirm and cancel first seen since an instant, oldest first,
        and the webhooks sent since then. Nothing happens by asking.

        Args:
            since: Business time. A partner may list more than was asked for.
            cursor: Of the page before; None for the first.
        """
        ...


class Partner(Protocol):
    """One merchant's system.

    All methods may raise PartnerUnavailable (not reached; safe to retry). Those with an
    `op_key` may raise OutcomeUnknown (sent, and no readable answer).
    """

    code: str  # merchant id, as in M05
    capabilities: Capability

    async def list_offers(self, cursor: str | None) -> FeedPage:
        """Read the change feed after `cursor`; None reads from the start. Tombstones included."""
        ...

    async def live(self, offer_ids: Sequence[str], *, on: date | None) -> list[LiveOffer]:
        """Ask prices, stock and slots of many offers in one call.

        Args:
            offer_ids: The partner's own ids, at most 100.
            on: Business day whose slots are wanted; None for the partner's next days.

        Returns:
            What the partner knows, in any order; an offer it does not sell is left out.
        """
        ...

    async def quote(self, request: QuoteRequest) -> Quote:
        """Ask a binding price.

        Raises:
            SoldOut, SlotFull: There is nothing to sell.
            PartnerRejected: The offer is gone, or not for this request.
        """
        ...

    async def hold(
        self, quote_id: str, *, op_key: str, ttl_seconds: int, claims: Sequence[Claim]
    ) -> Reservation:
        """Reserve what was quoted. The same op key books once; the time granted is echoed.

        Raises:
            QuoteExpired, SoldOut, SlotFull, PriceChanged, PartnerRejected: No.
            OutcomeUnknown: Ask `status(op_key)`.
        """
        ...

    async def confirm(
        self, hold_ref: str, *, op_key: str, deadline: datetime, gateway_ref: str
    ) -> Fact:
        """Take the reservation: the point of no return. Refused by the partner after `deadline`.

        Args:
            gateway_ref: Our redemption id, printed on the partner's statement.

        Returns:
            CONFIRMED with artefacts, or IN_FLIGHT when the partner decides later.

        Raises:
            HoldExpired, PartnerRejected: No; the reservation is gone.
            OutcomeUnknown: Ask `status(op_key)`; never confirm under another key.
        """
        ...

    async def status(self, op_key: str) -> Fact:
        """Ask what became of an op key of hold, confirm or cancel. NOT_FOUND is an answer."""
        ...

    async def fence(self, op_key: str) -> Fact:
        """Make sure an op key of hold or confirm never takes effect any more.

        A hold that exists is let go; fencing a hold's key is how a reservation is released.
        Fencing again gives the same answer.

        Returns:
            FENCED, or CONFIRMED when the partner had confirmed before: then nothing is fenced.

        Raises:
            OutcomeUnknown: Fence again.
        """
        ...

    async def cancel_quote(self, booking_ref: str) -> CancelQuote:
        """Ask what cancelling a booking would give back.

        Raises:
            CancelTooLate: The booking is used, or its limit is over.
        """
        ...

    async def cancel(self, cancel_quote_id: str, *, op_key: str) -> Fact:
        """Cancel a booking as quoted. The same key cancels once.

        Returns:
            CANCELLED.

        Raises:
            CancelTooLate, PartnerRejected: No; the booking stands.
            OutcomeUnknown: Ask `status(op_key)`.
        """
        ...

    def event(self, body: Mapping[str, Any]) -> PartnerEvent:
        """Map a webhook's body, whose signature was checked.

        Raises:
            ValueError: The body is none this partner sends.
        """
        ...

    async def statement(self, day: date) -> Statement:
        """Pull the statement of one business day, all pages, with its trailer.

        Raises:
            PartnerRejected: It does not exist (yet); reason in the context.
        """
        ...

    async def settlement_notice(self, notice: SettlementNotice, *, op_key: str) -> NoticeReceipt:
        """Tell the merchant a leg; the same key counts once."""
        ...
