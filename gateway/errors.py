"""Three kinds of expected error: the answer is no, it is not for you, there is no answer.

GatewayError
├── Refused                  no                     -> payload.errors, with code
│   ├── Invalid              the input, named by field
│   └── PartnerRejected      the partner said no: compensate
├── Denied                   not for this caller    -> top-level error
└── NoAnswer                 a partner left us in doubt
    ├── PartnerUnavailable   it was not reached: safe to retry
    └── OutcomeUnknown       it may have acted: ask status(), never guess

Anything else is a bug: INTERNAL, logged with its trace id, text hidden.

A leaf lives beside the function that raises it and carries what is published about it: its
code, its message and the next step in Chinese and English. `docs/errors.md` is generated from
the leaves. A message names its context by `{name}`; money is `name_fen` in the context and
`{name}` in the message, where it is written as ¥; `{issuer}` and the like show the party's name.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import ClassVar

Context = Mapping[str, object]


class GatewayError(Exception):
    """Base of all expected errors; `code` is published and never changes its meaning.

    Args:
        field: Path of the input field at fault, as in `legs.0.points`; empty if none.
        context: What the message names: points and fen as integers, dates, instants, ids.
    """

    code: ClassVar[str] = "INTERNAL"
    when: ClassVar[str] = ""
    zh: ClassVar[str] = ""
    en: ClassVar[str] = ""
    next_zh: ClassVar[str] = ""
    next_en: ClassVar[str] = ""

    def __init__(self, *, field: Sequence[str] = (), **context: object) -> None:
        self.field = tuple(field)
        self.context = {name: _plain(value) for name, value in context.items()}
        self.replayed = False  # Whether it is told again, to the same idempotency key.
        super().__init__(f"{self.code} {self.context}" if self.context else self.code)

    def told(self, locale: str) -> Mapping[str, object]:
        """The context as people of a language read it: `zh` or `en`."""
        return self.context


class Refused(GatewayError):
    """The answer is no, and nothing has changed."""

    code = "REFUSED"


class Invalid(Refused):
    """The input breaks a rule; `field` says which."""

    code = "REFUSED"


class PartnerRejected(Refused):
    """The partner said no, definitively: compensate."""

    code = "PARTNER_REJECTED"
    when = "any other definitive no of a partner"
    zh = "{merchant}未接受本次兑换,积分未扣除"
    en = "{merchant} declined; nothing was charged"
    next_zh = "看看其他权益"
    next_en = "choose another offer"


class NotFound(Refused):
    """There is no such object, or none that this caller may see: the answer is the same."""

    code = "NOT_FOUND"
    when = "no such object for this caller"
    zh = "没有找到 {id}"
    en = "{id} not found"
    next_zh = "请检查编号"
    next_en = "check the id"


class AlreadyRegistered(Refused):
    code = "ALREADY_REGISTERED"
    when = "the merchant, member reference, purchase or key is registered already"
    zh = "已登记:{id}"
    en = "already registered: {id}"
    next_zh = "请使用已有的登记"
    next_en = "use the existing one"


class Denied(GatewayError):
    """Not for this caller; becomes a top-level error."""

    code = "DENIED"
    status: ClassVar[int] = 403


class NoAnswer(GatewayError):
    """A partner left us in doubt."""

    code = "NO_ANSWER"

    @property
    def retry_after(self) -> timedelta:
        """How long it asked to be left alone; nothing if it did not say."""
        seconds = self.context.get("retry_after_seconds")
        return timedelta(seconds=seconds if isinstance(seconds, int) else 0)


class PartnerUnavailable(NoAnswer):
    """Nothing was sent, or it certainly had no effect: safe to retry."""

    code = "PARTNER_UNAVAILABLE"
    when = "nothing was sent, or all retries failed before sending"
    zh = "{merchant}暂时无响应,积分未扣除"
    en = "{merchant} does not respond; nothing was charged"
    next_zh = "稍后重试"
    next_en = "try again later"


class OutcomeUnknown(NoAnswer):
    """It may have acted. Ask `status(op_key)`; never guess."""

    code = "PARTNER_OUTCOME_UNKNOWN"
    when = "a partner's answer is unknown; members see the state IN_DOUBT, never this error"
    zh = "正在向商户确认,积分已冻结未扣除"
    en = "asking the merchant; points are held, not spent"
    next_zh = "请稍候,系统会自动处理"
    next_en = "wait; it is resolved automatically"


BASE_CODES = frozenset({"INTERNAL", "REFUSED", "DENIED", "NO_ANSWER"})


def published(base: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    """Every loaded error class with a code of its own, once per class, unordered."""
    for leaf in base.__subclasses__():
        if leaf.code not in BASE_CODES:
            yield leaf
        yield from published(leaf)


def _plain(value: object) -> object:
    """What JSON can hold: dates and instants as ISO 8601, tuples as lists."""
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, tuple | set | frozenset | list):
        return [_plain(item) for item in value]
    return value
