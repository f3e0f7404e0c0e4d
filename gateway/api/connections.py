"""Cursor connections: opaque cursors, pages of at most 100."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import strawberry

from gateway.values import InvalidInput, legible

T = TypeVar("T")
V = TypeVar("V")
PAGE_SIZE = 20
PAGE_LIMIT = 100


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class Edge(Generic[T]):
    node: T
    cursor: str


@strawberry.type
class Connection(Generic[T]):
    """A page of a list."""

    edges: list[Edge[T]]
    page_info: PageInfo


def size(first: int | None) -> int:
    """The number of rows asked for, within 1..100.

    Raises:
        InvalidInput: It is outside.
    """
    if first is None:
        return PAGE_SIZE
    if not 1 <= first <= PAGE_LIMIT:
        raise InvalidInput("first", "{least} to {most}", least=1, most=PAGE_LIMIT)
    return first


def cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def key_of(after: str | None) -> str | None:
    """The row key inside a cursor.

    Raises:
        InvalidInput: It is no cursor of ours.
    """
    if after is None:
        return None
    try:
        padded = after + "=" * (-len(after) % 4)
        key = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True).decode()
        legible(key, "after")
        if not key:
            raise ValueError("no key")
        return key
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise InvalidInput("after", "a cursor of this list") from error


def page(
    rows: Sequence[V],
    show: Callable[[V], T],
    *,
    key: Callable[[V], str],
    first: int | None,
    after: str | None,
) -> Connection[T]:
    """A page of rows that are all at hand, in their order; `key` is unique.

    Raises:
        InvalidInput: `first` or `after` is none.
    """
    count, start = size(first), key_of(after)
    if start is not None:
        keys = [key(row) for row in rows]
        if start not in keys:
            raise InvalidInput("after", "a cursor of this list")
        rows = rows[keys.index(start) + 1 :]
    shown = rows[:count]
    edges = [Edge(node=show(row), cursor=cursor(key(row))) for row in shown]
    return Connection(
        edges=edges,
        page_info=PageInfo(
            has_next_page=len(rows) > count, end_cursor=edges[-1].cursor if edges else None
        ),
    )
