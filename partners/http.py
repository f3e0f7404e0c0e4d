"""One way to ask a partner over HTTP, and one classification of what may go wrong.

Body first, status second. Only a partner's own words are a no; what cannot be read is unknown:

nothing was sent: not connected, no token      PartnerUnavailable
401 (the client renewed its token once), 403,
429: the partner did not begin                 PartnerUnavailable
sent, and no answer, 5xx or unreadable         OutcomeUnknown; for a verb without effect
                                               PartnerUnavailable: asking again is harmless
a refusal in the body, whatever the status     what the adapter's `refusal` makes of it
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx2

from gateway.errors import GatewayError, OutcomeUnknown, PartnerRejected, PartnerUnavailable
from gateway.ports import (
    KEY_CONFLICT,
    CancelTooLate,
    Fact,
    HoldExpired,
    Outcome,
    PriceChanged,
    QuoteExpired,
    SlotFull,
    SoldOut,
)
from gateway.values import read_json

T = TypeVar("T")
Refusal = Callable[[Any], GatewayError | None]

NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)
UNREADABLE = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip
NOT_LET_IN = (401, 403, 429)

# The words of the published contract. An adapter whose partner has its own maps them to these.
LEAVES: Mapping[str, type[PartnerRejected]] = {
    "SOLD_OUT": SoldOut,
    "SLOT_FULL": SlotFull,
    "QUOTE_EXPIRED": QuoteExpired,
    "HOLD_EXPIRED": HoldExpired,
    "PRICE_CHANGED": PriceChanged,
    "CANCEL_TOO_LATE": CancelTooLate,
}
DOUBTFUL = (KEY_CONFLICT, "KEY_IN_FLIGHT")


class Line:
    """The line to one partner.

    Args:
        code: The merchant's id, named in every error.
        http: Carries base URL, token, deadline, breaker and redaction.
        refusal: Finds the partner's no in a body; None when there is none.
    """

    def __init__(self, code: str, http: httpx2.AsyncClient, refusal: Refusal) -> None:
        self._code = code
        self._http = http
        self._refusal = refusal

    async def ask(
        self,
        method: str,
        path: str,
        read: Callable[[Any], T],
        *,
        op_key: str | None = None,
        document: object = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Send one request and read its answer.

        Args:
            read: Makes the result of the body; whatever it cannot read is no answer.
            op_key: Of a verb with effect; None says that asking again is harmless.
            document: Sent as JSON, unless None.

        Raises:
            PartnerRejected: The partner said no.
            PartnerUnavailable: Nothing reached it, or nothing was asked to happen.
            OutcomeUnknown: It may have acted (only with an op key).
        """
        request = self._http.build_request(
            method, path, json=document, params=params, headers=headers
        )
        try:
            answer = await self._http.send(request)
        except NOT_SENT as error:
            raise self.unavailable(type(error).__name__) from error
        except httpx2.RequestError as error:
            if error.request.url != request.url:  # The token endpoint's: nothing of ours was sent.
                raise self.unavailable(type(error).__name__) from error
            raise self.doubt(op_key, type(error).__name__) from error
        if answer.status_code in NOT_LET_IN:
            wait = retry_after(answer.headers.get("retry-after"))
            raise self.unavailable(f"HTTP {answer.status_code}", wait)
        if answer.status_code >= 500:
            raise self.doubt(op_key, f"HTTP {answer.status_code}")
        try:
            body = read_json(answer.content)
            refused = self._refusal(body)
            if refused is None and answer.is_success:
                return read(body)
        except UNREADABLE as error:
            raise self.doubt(op_key, "unreadable answer") from error
        raise refused or self.doubt(op_key, f"HTTP {answer.status_code}")

    def refused(self, code: str, context: Mapping[str, Any]) -> GatewayError:
        """The error of a refusal in the words of the published contract."""
        if code in DOUBTFUL:
            return OutcomeUnknown(merchant=self._code, reason=code)
        return LEAVES.get(code, PartnerRejected)(
            **{**context, "merchant": self._code, "reason": code}
        )

    def unavailable(self, reason: str, wait: int | None = None) -> PartnerUnavailable:
        known: dict[str, Any] = {} if wait is None else {"retry_after_seconds": wait}
        return PartnerUnavailable(merchant=self._code, reason=reason, **known)

    def doubt(self, op_key: str | None, reason: str) -> GatewayError:
        """What an unreadable answer means: doubt, if something may have happened."""
        if op_key is None:
            return self.unavailable(reason)
        return OutcomeUnknown(merchant=self._code, op_key=op_key, reason=reason)


def retry_after(text: str | None) -> int | None:
    """The seconds of a `Retry-After` header, an hour at most; None if it has none."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return None  # A date is by the partner's clock, which says nothing here.
    return min(int(text), 3600)


def instant(text: object) -> datetime:
    """Read an instant; it must have a time zone.

    Raises:
        ValueError, TypeError: It is none.
    """
    read = datetime.fromisoformat(_text(text))
    if read.tzinfo is None:
        raise ValueError("an instant has a time zone")
    return read.astimezone(UTC)


def maybe_instant(text: object) -> datetime | None:
    """Read an instant that may be missing."""
    return None if text is None else instant(text)


def whole(value: object) -> int:
    """Read fen or a count: an integer, never a fraction or a boolean.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"a whole number is needed, not {type(value).__name__}")
    return value


def fen(value: object) -> int:
    """Read a price, a fee or a version: a whole number that is not negative.

    Raises:
        ValueError: It is something else.
    """
    if whole(value) < 0:
        raise ValueError("a whole number of 0 or more is needed")
    return whole(value)


def decided(fact: Fact, merchant: str, *answers: Outcome) -> Fact:
    """The fact, if it is one of a verb's answers; a rejection is a no, any other is no answer.

    Raises:
        PartnerRejected: The fact says that the partner had said no.
        OutcomeUnknown: It says something that does not decide.
    """
    if fact.outcome in answers:
        return fact
    if fact.outcome is Outcome.REJECTED:
        raise PartnerRejected(merchant=merchant, reason=fact.reason)
    raise OutcomeUnknown(merchant=merchant, op_key=fact.op_key, reason=fact.outcome.value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text is needed, not {type(value).__name__}")
    return value


def text(value: object) -> str:
    """Read a text that must be there.

    Raises:
        ValueError: It is something else.
    """
    return _text(value)


def strings(value: object) -> dict[str, str]:
    """Read artefacts: an object of texts; empty when missing.

    Raises:
        ValueError: It is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("an object is needed")
    return {str(name): _text(item) for name, item in value.items() if item is not None}
