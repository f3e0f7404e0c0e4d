"""Links of the chain, its heads, and what verification says. Pure.

A link seals one committed row: `seal = SHA-256(number | previous | table | row id | digest)`, where
the digest is that of the row's canonical JSON. One chain runs over all sealed tables: one number,
one head and one signature say everything, and no table can be rewritten while another stays.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

FIRST = "0" * 64  # What the first link rests on.
HEAD_TYPE = "audit-head+jws"  # `typ` of a signed head: no access token, no other signature
_FAR_MS = 253_402_300_000_000  # the year 9999: an id that somebody made up may say more
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


class Fault(StrEnum):
    """What is wrong with the first bad row."""

    CHANGED = "changed"
    DELETED = "deleted"
    INSERTED = "inserted"
    SWAPPED = "swapped"
    SEAL_CHANGED = "seal changed"
    SEAL_DELETED = "seal deleted"
    TAIL_CUT = "tail cut"
    REWRITTEN = "rewritten"
    UNSEALED = "not sealed"
    HEAD_CHANGED = "head changed"
    HEADS_DELETED = "heads deleted"


class BrokenChain(Exception):
    """The chain does not verify.

    Args:
        table: Of the first bad row.
        row_id: Its id; of a seal or a head, its number.
        fault: What differs.
        number: Of the link that says so; None for a row that has none.
    """

    def __init__(
        self, *, table: str, row_id: str, fault: Fault, number: int | None, detail: str = ""
    ) -> None:
        link = "" if number is None else f" (link {number})"
        super().__init__(f"{table} {row_id}: {fault}{link}{detail and f': {detail}'}")
        self.table = table
        self.row_id = row_id
        self.fault = fault
        self.number = number
        self.detail = detail


class BadHead(ValueError):
    """A head that somebody kept cannot be read, or its signature does not fit."""


@dataclass(frozen=True, slots=True)
class Link:
    """The chain's newest link, or what it rests on when it is empty."""

    number: int = 0
    seal: str = FIRST


@dataclass(frozen=True, slots=True)
class Head:
    """What a signed head says: how many rows were sealed at an instant, and the last seal."""

    number: int
    seal: str
    made_at: datetime
    business_date: date
    issuer: str

    def claims(self) -> dict[str, Any]:
        """As they are signed; `count` is the number of sealed rows."""
        return {
            "iss": self.issuer,
            "iat": int(self.made_at.timestamp()),
            "number": self.number,
            "count": self.number,
            "seal": self.seal,
            "at": self.made_at.isoformat(),
            "business_date": self.business_date.isoformat(),
        }


def head_of(claims: Mapping[str, Any]) -> Head:
    """Read the claims of a signed head.

    Raises:
        BadHead: They are none.
    """
    try:
        return Head(
            number=int(claims["number"]),
            seal=str(claims["seal"]),
            made_at=datetime.fromisoformat(claims["at"]),
            business_date=date.fromisoformat(claims["business_date"]),
            issuer=str(claims["iss"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadHead(f"no head of an audit chain: {error!r}") from error


def signed_head(token: str, jwk: Mapping[str, Any]) -> Head:
    """What a head says that a key has signed.

    Raises:
        BadHead: It was not signed with that key, or is no head.
    """
    try:
        found = jwt.decode(token, ECKey.import_key(dict(jwk)), algorithms=["ES256"])
    except (JoseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadHead("the signature does not fit") from error
    if found.header.get("typ") != HEAD_TYPE:
        raise BadHead(f"its type is {found.header.get('typ')}, not {HEAD_TYPE}")
    return head_of(found.claims)


@dataclass(frozen=True, slots=True)
class Verified:
    """A chain that fits: how many links, by table, and how many heads agree."""

    links: int
    seal: str
    tables: Mapping[str, int]
    heads: int

    def document(self) -> dict[str, Any]:
        return asdict(self)


def _text(value: object) -> str:
    assert isinstance(value, date | datetime), f"no canonical form for {type(value)}"
    return value.isoformat()


_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_text
).encode


def digest(row: Mapping[str, Any]) -> str:
    """SHA-256 of a row's canonical JSON. What is null or has no parts is left out: so a column
    or table that an expanding migration adds later leaves the digests of old rows as they are."""
    present = {name: value for name, value in row.items() if value is not None and value != []}
    return hashlib.sha256(_encode(present).encode()).hexdigest()


def seal_of(number: int, previous: str, table: str, row_id: str, row_digest: str) -> str:
    """The seal of one link."""
    text = f"{number}|{previous}|{table}|{row_id}|{row_digest}"
    return hashlib.sha256(text.encode()).hexdigest()


def instant_ms(row_id: str) -> int:
    """When an id was made, in milliseconds; of one that somebody made up, anything."""
    found = 0
    for digit in row_id.partition("_")[2][:10]:
        found = found * 32 + max(_DIGITS.find(digit), 0)
    return min(found, _FAR_MS)


def id_floor(row_id: str, *, margin_ms: int) -> str:
    """The least id a row can have that was made at most `margin_ms` before another.

    The first ten digits of an id are its milliseconds, in base 32: see `values.new_id`.
    """
    prefix, _, digits = row_id.partition("_")
    instant_ms = 0
    for digit in digits[:10]:
        instant_ms = instant_ms * 32 + _DIGITS.index(digit)
    rest, found = max(instant_ms - margin_ms, 0), ""
    for _ in range(10):
        rest, last = divmod(rest, 32)
        found = _DIGITS[last] + found
    return f"{prefix}_{found}"
