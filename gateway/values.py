"""The small words everything shares: exact rates, instants, business days, ids. Pure.

Points and fen are plain integers. A rate is a pair of integers, because 5/3 fen a point is no
decimal. Instants are UTC; the business day is that of Shanghai, which has no daylight saving.
"""

import hashlib
import json
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from math import gcd
from typing import Any

from gateway.errors import Invalid
from gateway.rules import RULES

SHANGHAI = timezone(timedelta(hours=8), "Asia/Shanghai")
MAX_AMOUNT = 2**53 - 1  # What every JSON reader holds exactly.
TEXT_BYTES = 2_000  # In UTF-8: what an index of either database can hold.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u.


class InvalidInput(Invalid):
    code = "INVALID_INPUT"
    when = "a field breaks its rule"
    zh = "{field}:{rule}"
    en = "{field}: {rule}"
    next_zh = "请更正后重试"
    next_en = "correct the field and send again"

    def __init__(self, where: str, rule: str, **facts: object) -> None:
        super().__init__(field=where.split("."), **facts)
        self._zh = _filled(RULES.get(rule, rule), self.context)
        self.context |= {"field": where, "rule": _filled(rule, self.context)}

    def told(self, locale: str) -> Mapping[str, object]:
        return self.context if locale == "en" else {**self.context, "rule": self._zh}


def _filled(rule: str, facts: Mapping[str, object]) -> str:
    """A rule with its numbers and words."""
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        rule = rule.replace(f"{{{name}}}", shown)
    return rule


class InvalidAmount(Invalid):
    code = "INVALID_AMOUNT"
    when = "a readable integer that is negative, zero where it must not be, or above 2^53 - 1"
    zh = "金额或积分应为整数"
    en = "amounts are whole numbers in range"
    next_zh = "请更正后重试"
    next_en = "correct the amount and send again"


@dataclass(frozen=True, slots=True)
class Rate:
    """An exact ratio num/den, kept as given: fen per point, or the factor of a promotion."""

    num: int
    den: int

    def __post_init__(self) -> None:
        assert self.num > 0, "a rate is positive"
        assert self.den > 0, "a rate is positive"

    def floor(self, amount: int) -> int:
        """floor(amount × rate)."""
        return amount * self.num // self.den

    def ceil_divide(self, amount: int) -> int:
        """ceil(amount ÷ rate): the points that cover `amount` fen."""
        return -(-amount * self.den // self.num)

    def __ge__(self, other: "Rate") -> bool:
        return self.num * other.den >= other.num * self.den

    def reduced(self) -> "Rate":
        """The same ratio in lowest terms."""
        shared = gcd(self.num, self.den)
        return Rate(self.num // shared, self.den // shared)


def bps_half_up(amount: int, bps: int) -> int:
    """half_up(amount × bps ÷ 10,000), for amounts >= 0. Source: requirements §4.4."""
    assert amount >= 0
    return (amount * bps + 5_000) // 10_000


def half_up(num: int, den: int) -> int:
    """half_up(num ÷ den), for num >= 0."""
    assert num >= 0
    return (2 * num + den) // (2 * den)


def amount(value: int, *, field: str, least: int = 1) -> int:
    """Check that an amount of fen or points lies in `least`..2^53 - 1.

    Raises:
        InvalidAmount: It does not.
    """
    if not least <= value <= MAX_AMOUNT:
        raise InvalidAmount(field=field.split("."), value=value)
    return value


def legible(value: object, where: str, *, depth: int = 32) -> None:
    """Check that a caller's texts, at any depth, can be stored, indexed and shown.

    Raises:
        InvalidInput: A control character, too long a text, or a number beyond 2^53 - 1.
    """
    match value:
        case None | bool():
            return
        case str():
            _legible_text(value, where)
        case Mapping():
            legible(list(value.items()), where, depth=depth)
        case list() | tuple():
            if not depth:
                raise InvalidInput(where, "not nested so deeply")
            for item in value:
                legible(item, where, depth=depth - 1)
        case int():
            if abs(value) > MAX_AMOUNT:
                raise InvalidInput(where, "numbers of at most 2^53 - 1")
        case _ if value == value * 2 != 0:  # type: ignore[operator]  # Only floats are left.
            raise InvalidInput(where, "finite numbers")


def _legible_text(text: str, where: str) -> None:
    if any((mark < " " and mark not in "\t\n\r") or mark == "\x7f" for mark in text):
        raise InvalidInput(where, "no control characters")
    if len(text.encode(errors="surrogatepass")) > TEXT_BYTES:
        raise InvalidInput(where, "at most {most} bytes in UTF-8", most=TEXT_BYTES)
    if any("\ud800" <= mark <= "\udfff" for mark in text):
        raise InvalidInput(where, "Unicode text")


def read_json(text: bytes) -> Any:
    """Read JSON that a partner sent: finite numbers, and texts a database can hold.

    Raises:
        ValueError: It is none.
    """
    read = json.loads(text)
    again = json.dumps(read, ensure_ascii=False, allow_nan=False).encode()  # No half characters.
    if b"\\u0000" in again:
        raise ValueError("a text holds NUL")
    return read


def new_id(prefix: str) -> str:
    """An id such as `red_0k3…`: 48 bits of milliseconds, then 80 random bits; sorts by time."""
    number = int(datetime.now(UTC).timestamp() * 1000) << 80 | secrets.randbits(80)
    digits = ""
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits = _ALPHABET[digit] + digits
    return f"{prefix}_{digits}"


def made_at(id: str) -> datetime:
    """When `new_id` made an id, to the millisecond (system time)."""
    number = 0
    for digit in id.rpartition("_")[2]:
        number = number * 32 + _ALPHABET.index(digit)
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=number >> 80)


def spread(delay: timedelta, key: str) -> timedelta:
    """A delay off by up to a fifth, so that what failed together does not come back together.

    The same key is off by the same, which keeps a run repeatable.
    """
    permille = 800 + zlib.crc32(key.encode()) % 401
    return delay * permille // 1000


def back_off(tries: int, *, key: str, most: timedelta) -> timedelta:
    """How long to wait after a number of failed tries: 2 s, twice as long each time, spread."""
    doubled = timedelta(seconds=2 ** min(max(tries, 1), 30))
    return spread(min(doubled, most), f"{key}:{tries}")


def fingerprint(document: Mapping[str, object] | Sequence[object]) -> str:
    """SHA-256, in hex, of a document's canonical JSON (sorted keys, no spaces, UTF-8)."""
    return hashlib.sha256(canonical(document)).hexdigest()


def canonical(document: Mapping[str, object] | Sequence[object]) -> bytes:
    """Canonical JSON of a document: sorted keys, no spaces, UTF-8; instants as ISO 8601."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_json
    ).encode()


def _json(value: object) -> str:
    assert isinstance(value, date | datetime), f"no canonical form for {type(value)}"
    return value.isoformat()


def business_day(instant: datetime) -> date:
    """The day in Shanghai on which an instant falls."""
    return instant.astimezone(SHANGHAI).date()


def start_of(day: date) -> datetime:
    """The first instant of a business day, in UTC."""
    return datetime.combine(day, time(), SHANGHAI).astimezone(UTC)


def month_of(instant: datetime) -> str:
    """The calendar month of an instant's business day, as in `2026-11`."""
    return f"{business_day(instant):%Y-%m}"


def next_month(day: date) -> date:
    """The first day of the calendar month after `day`'s."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def end_of_term(earned: date, *, months: int) -> datetime:
    """When points with a term end: with the month in which the last month falls.

    Returns:
        The first instant of the month after. Source: requirements §4.9.
    """
    months_since_zero = earned.year * 12 + earned.month - 1 + months
    last_month = date(months_since_zero // 12, months_since_zero % 12 + 1, 1)
    return start_of(next_month(last_month))


def yuan(fen: int) -> str:
    """Fen for people: ¥1,234.50, with the sign in front."""
    whole, cents = divmod(abs(fen), 100)
    return f"{'-' if fen < 0 else ''}¥{whole:,}.{cents:02d}"
