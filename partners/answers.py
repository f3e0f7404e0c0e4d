"""What an adapter's answers share: one call, classified; readers that refuse to guess.

The body decides first, the status second, and what neither settles is doubt: OutcomeUnknown
for a verb with effect, PartnerUnavailable for one that may simply be asked again.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import httpx2

from gateway.errors import GatewayError, OutcomeUnknown, PartnerRejected, PartnerUnavailable
from gateway.ports import Fact, Outcome

T = TypeVar("T")

_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)


async def ask(
    http: httpx2.AsyncClient,
    request: httpx2.Request,
    read: Callable[[Any], T],
    *,
    merchant: str,
    refusal: Callable[[Mapping[str, Any]], GatewayError | None],
    effect: bool,
) -> T:
    """Send one request and read its answer.

    Args:
        read: Makes the result of a 2xx body; KeyError, TypeError and ValueError mean unreadable.
        refusal: The error a body names in the partner's words, None if it names none we know.
        effect: Whether the request may have changed something when no answer is readable.

    Raises:
        PartnerUnavailable: Not sent, not let in, throttled, or no answer to a harmless question.
        OutcomeUnknown: A verb with effect, and no readable answer.
        GatewayError: What `refusal` made of the body.
    """
    doubt = OutcomeUnknown if effect else PartnerUnavailable
    try:
        answer = await http.send(request)
    except _NOT_SENT as error:
        raise PartnerUnavailable(merchant=merchant) from error
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise doubt(merchant=merchant, reason=type(error).__name__) from error
    try:
        body = answer.json()
        said = refusal(body) if isinstance(body, Mapping) else None
    except _UNREADABLE:
        body, said = None, None
    if said is not None:
        raise said if effect or not isinstance(said, OutcomeUnknown) else doubt(merchant=merchant)
    if answer.status_code in (401, 403, 429):
        wait = answer.headers.get("Retry-After", "")
        after: dict[str, Any] = {"retry_after_seconds": int(wait)} if wait.isdecimal() else {}
        raise PartnerUnavailable(merchant=merchant, **after)
    if not answer.is_success:
        raise doubt(merchant=merchant, reason=f"HTTP {answer.status_code}")
    try:
        return read(body)
    except _UNREADABLE as error:
        raise doubt(merchant=merchant, reason="UNREADABLE") from error


def decided(fact: Fact, merchant: str, *allowed: Outcome) -> Fact:
    """The fact, if it answers the verb; a rejection is a no, anything else is no answer."""
    if fact.outcome in allowed:
        return fact
    if fact.outcome is Outcome.REJECTED:
        raise PartnerRejected(merchant=merchant, reason=fact.reason)
    raise OutcomeUnknown(merchant=merchant, reason=fact.outcome.value)


def whole(value: object, *, signed: bool = False) -> int:
    """An integer as JSON wrote it; a fraction, a text or a boolean is unreadable."""
    if type(value) is not int or (value < 0 and not signed):
        raise ValueError(f"{value!r} is no whole number in range")
    return value


def instant(value: str) -> datetime:
    """An instant that names its time zone."""
    read = datetime.fromisoformat(value)
    if read.tzinfo is None:
        raise ValueError(f"{value} names no time zone")
    return read


def text(value: object) -> str:
    """A text that is not empty, as ids are."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no text")
    return value
