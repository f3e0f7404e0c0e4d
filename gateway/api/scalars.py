"""Scalars: 64-bit fen and points, business dates, instants with a zone, JSON; and exact rates.

What is no integer (a fraction, a text, a boolean) is malformed. Whether a readable integer is
allowed is the service's question: `INVALID_AMOUNT`.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, NewType

import strawberry
from graphql import GraphQLError, IntValueNode, ValueNode, print_ast

from gateway import values

if TYPE_CHECKING:
    Fen = int
    Points = int
    JSON = object
else:
    Fen = NewType("Fen", int)
    Points = NewType("Points", int)
    JSON = NewType("JSON", object)

_LEAST, _MOST = -(2**63), 2**63 - 1


@strawberry.type
class Rate:
    """An exact ratio num/den; no decimal can hold 5/3 fen a point."""

    num: int
    den: int

    @classmethod
    def of(cls, rate: values.Rate) -> "Rate":
        return cls(num=rate.num, den=rate.den)


@strawberry.input
class RateInput:
    num: int
    den: int


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise GraphQLError(f"a whole number is needed, not {value!r}")
    if not _LEAST <= value <= _MOST:
        raise GraphQLError("a number of at most 64 bits is needed")
    return value


def _integer_literal(node: ValueNode, _variables: object = None) -> int:
    if not isinstance(node, IntValueNode):
        raise GraphQLError(f"a whole number is needed, not {print_ast(node)}")
    return _integer(int(node.value))


def _text(what: str, read: Callable[[str], Any]) -> Callable[[object], Any]:
    def parse(value: object) -> Any:
        if not isinstance(value, str):
            raise GraphQLError(f"{what} is needed")
        try:
            return read(value)
        except ValueError as error:
            raise GraphQLError(f"{what} is needed, not {value!r}") from error

    return parse


def _instant(text: str) -> datetime:
    read = datetime.fromisoformat(text)
    if read.tzinfo is None:
        raise ValueError("an instant has a time zone")
    return read.astimezone(UTC)


def _day(text: str) -> date:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        raise ValueError("a day")
    return date.fromisoformat(text)


def _print_instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


SCALARS: dict[object, Any] = {
    Fen: strawberry.scalar(
        name="Fen",
        description="Chinese money in fen: a signed 64-bit integer.",
        serialize=_integer,
        parse_value=_integer,
        parse_literal=_integer_literal,
    ),
    Points: strawberry.scalar(
        name="Points",
        description="Points of one programme: a signed 64-bit integer.",
        serialize=_integer,
        parse_value=_integer,
        parse_literal=_integer_literal,
    ),
    JSON: strawberry.scalar(name="JSON", description="Any JSON value.", parse_value=lambda v: v),
    date: strawberry.scalar(
        name="Date",
        description="A business day of Asia/Shanghai, as in 2026-11-20.",
        serialize=date.isoformat,
        parse_value=_text("a day as in 2026-11-20", _day),
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="An instant in RFC 3339, with its zone.",
        serialize=_print_instant,
        parse_value=_text("an instant as in 2026-11-20T10:00:00+08:00", _instant),
    ),
}
