"""Events, their published types, webhook endpoints and the times of retries. Pure.

An event says that one object changed its state. Its `seq` counts from 1 per object, without a
gap: who has seen number n knows what it has missed. Source: experience §2.6; Standard Webhooks 1.0.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from gateway.values import InvalidInput, canonical

EVERYBODY = "*"
"""Stands for every merchant where an event names those it concerns."""

TYPES: Mapping[str, str] = {
    "redemption.held": "the partner has reserved; the points are held",
    "redemption.confirming": "the partner is asked to confirm",
    "redemption.in_doubt": "what the partner did is not known; it is asked",
    "redemption.committed": "confirmed: the points are spent, the claims accrue",
    "redemption.fulfilled": "consumed: the claims can be settled",
    "redemption.releasing": "given up: the points are back, the partner is told",
    "redemption.released": "given up on both sides; the points are back",
    "redemption.cancelling": "the partner is asked to cancel what was confirmed",
    "redemption.cancelled": "cancelled after the commit: points back, claims reversed",
    "redemption.compensated": "compensation was issued for a leg, which is the object",
    "redemption.late_confirmed": "confirmed after the release; points were taken again",
    "redemption.needs_review": "a person decides",
    "donation.done": "points were given to a beneficiary",
    "donation.reversed": "the member took the donation back",
    "settlement.window.closed": "the week is cut; what clears from now on is in the next one",
    "settlement.published": "the window is netted, its statements are out",
    "settlement.leg.instructed": "a payment is approved; the notice follows",
    "settlement.leg.sent": "the debtor says that it has paid",
    "settlement.leg.booked": "the payment has arrived",
    "settlement.booked": "the last payment of a settlement has arrived",
    "agreement.proposed": "a version of an agreement waits for signatures",
    "agreement.signed": "every party has signed",
    "offer.suspended": "an offer cannot be redeemed for now",
    "offer.resumed": "it can again",
}
"""Every published type and what it means; a type never changes its meaning."""

OVER = frozenset({"redemption.fulfilled", "redemption.released", "redemption.cancelled"})
"""Types after which a redemption's subscription ends."""

LONGEST_ASKED = timedelta(hours=1)
SCHEDULE = (5, 30, 120, 600, 3_600, 10_800, 21_600, 43_200, 86_400, 86_400)
"""Seconds between tries, before jitter: the last one is about three days after the first."""

_PORTS = (443, 8443)


class DeliveryState(StrEnum):
    DUE = "DUE"
    DELIVERED = "DELIVERED"
    DEAD = "DEAD"  # the last try failed: only asked for, it is sent again


class EndpointState(StrEnum):
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"  # by its merchant
    GONE = "GONE"  # it answered 410


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one object, as stored. `merchants` are those it concerns."""

    number: int
    object_id: str
    seq: int
    type: str
    merchants: tuple[str, ...]
    member_id: str | None
    data: Mapping[str, Any]
    occurred_at: datetime

    @property
    def id(self) -> str:
        """`evt_<object>_<seq>`: also the `webhook-id`, the same at every try."""
        return f"evt_{self.object_id}_{self.seq}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a merchant wants its events, and which; secrets are sealed."""

    id: str
    merchant_id: str
    url: str
    types: tuple[str, ...]
    state: EndpointState
    sealed: str
    previous: str | None
    previous_until: datetime | None
    created_at: datetime

    def wants(self, event_type: str) -> bool:
        """Whether a type is among those asked for."""
        return any(_matches(pattern, event_type) for pattern in self.types)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint. `attempts` counts the tries since it was last made due."""

    endpoint_id: str
    number: int
    state: DeliveryState
    attempts: int
    due_at: datetime
    status: int | None
    answer: str | None
    sent_at: datetime | None
    event: Event


@dataclass(frozen=True, slots=True)
class Trouble:
    """Deliveries to active endpoints that fail, or were given up; who wants no more at all."""

    failing: int
    since: datetime | None  # System time: when the oldest of them was first to be sent.
    dead: Mapping[str, int]  # by merchant
    gone: Sequence[str]  # merchants whose endpoint answered 410


def parse_id(event_id: str) -> tuple[str, int]:
    """Object and sequence of an event's id.

    Raises:
        ValueError: It is none.
    """
    object_id, _, seq = event_id.removeprefix("evt_").rpartition("_")
    if not event_id.startswith("evt_") or not object_id or not (seq.isascii() and seq.isdigit()):
        raise ValueError(event_id)
    return object_id, min(int(seq), 2**31 - 1)


def document(event: Event, *, member: str | None) -> dict[str, Any]:
    """What a merchant is told of an event.

    Args:
        member: Its own pseudonym of the member.
    """
    who = {} if member is None else {"member": member}
    return {
        "id": event.id,
        "type": event.type,
        "timestamp": event.occurred_at.isoformat(),
        "object": event.object_id,
        "sequence": event.seq,
        "data": {**event.data, **who},
    }


def body(event: Event, *, member: str | None) -> bytes:
    """The bytes that are signed and sent: the same at every try."""
    return canonical(document(event, member=member))


def pause(attempts: int, *, luck: float) -> timedelta | None:
    """How long to wait after so many failed tries; None: no more.

    Args:
        luck: 0 to 1: the pause is 80 to 120 % of the schedule's, so that not all come at once.
    """
    if attempts > len(SCHEDULE):
        return None
    return timedelta(seconds=SCHEDULE[attempts - 1] * (0.8 + 0.4 * luck))


def asked_wait(header: str | None, *, now: datetime) -> timedelta:
    """How long a receiver wants to be left alone, by its `Retry-After`: an hour at most.

    Args:
        header: Seconds, or a date; anything else, and a date that is over, is no wait.

    Source: RFC 9110 §10.2.3.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:9]), LONGEST_ASKED.seconds))
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return timedelta(0)
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max(until - now, timedelta(0)), LONGEST_ASKED)


def check_types(types: Sequence[str]) -> tuple[str, ...]:
    """Types and patterns such as `redemption.*`, sorted, each once.

    Raises:
        InvalidInput: None is given, or one that matches nothing we publish.
    """
    for number, pattern in enumerate(types):
        if not any(_matches(pattern, known) for known in TYPES):
            raise InvalidInput(f"types.{number}", "a published event type, or `redemption.*`")
    if not types:
        raise InvalidInput("types", "at least one event type")
    return tuple(sorted(set(types)))


def check_url(url: str, *, sandbox: bool) -> str:
    """An address that events may be sent to, as far as its text tells; the rest when connecting.

    Raises:
        InvalidInput: No https address on a usual port; or one with a user, or of a private
            network. In the sandbox loopback may be plain http on any port.
    """
    refusal = InvalidInput("url", "an https address on the public internet, port 443 or 8443")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise refusal from error
    if not host or parts.username is not None or parts.fragment or not url.isascii():
        raise refusal
    address = _address(host)
    loopback = host == "localhost" or (address is not None and address.is_loopback)
    if sandbox and loopback and parts.scheme in ("http", "https"):
        return url
    if parts.scheme != "https" or (port or 443) not in _PORTS:
        raise refusal
    if not (_name(host) if address is None else address.is_global):
        raise refusal
    return url


def _name(host: str) -> bool:
    """Whether it is a name with a domain, and no number that some take for an address."""
    *above, last = host.rstrip(".").split(".")
    return bool(above) and last[:1].isalpha() and last != "localhost"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _matches(pattern: str, event_type: str) -> bool:
    if pattern.endswith(".*"):
        return event_type.startswith(pattern[:-1])
    return pattern == event_type
