"""Tables of the catalog: offers, their search tokens, feed cursors, price book and quotes."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.batch import Ask, among, padded, values_of
from gateway.catalog.model import Offer, QuoteLeg, StoredQuote

offers = sa.Table(
    "catalog_offers",
    db.metadata,
    sa.Column("offer_id", sa.String, primary_key=True),
    sa.Column("merchant_id", sa.String, nullable=False, index=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.Column("hosted", sa.Boolean, nullable=False),  # published here, by a merchant with no server
    sa.Column("suspended", sa.String),  # why
    sa.Column("name_zh", sa.String, nullable=False),
    sa.Column("name_en", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("category", sa.String, nullable=False),
    sa.Column("cash_fen", sa.BigInteger, nullable=False),
    sa.Column("own_points", sa.BigInteger),
    sa.Column("own_priced_by", sa.String),
    sa.Column("green", sa.Boolean, nullable=False),
    sa.Column("high_value", sa.Boolean, nullable=False),
    sa.Column("guaranteed", sa.Boolean, nullable=False),
    sa.Column("max_offset_pct", sa.Integer, nullable=False),
    sa.Column("part_payment", sa.Boolean, nullable=False),
    sa.Column("attributes", db.Json, nullable=False),
    sa.Column("changed_at", db.Instant, nullable=False),
    sa.CheckConstraint("cash_fen >= 0", name="cash"),
    sa.CheckConstraint("own_points >= 0", name="own_points"),
    sa.CheckConstraint("max_offset_pct BETWEEN 0 AND 100", name="offset"),
)

search_tokens = sa.Table(
    "catalog_tokens",
    db.metadata,
    sa.Column("token", sa.String, primary_key=True),
    sa.Column("offer_id", sa.ForeignKey("catalog_offers.offer_id"), primary_key=True),
    sa.Column("weight", sa.Integer, nullable=False),
    sa.Index("ix_catalog_tokens_offer_id", "offer_id"),
)

feeds = sa.Table(
    "catalog_feeds",
    db.metadata,
    sa.Column("merchant_id", sa.String, primary_key=True),
    sa.Column("cursor", sa.String, nullable=False),
    sa.Column("read_at", db.Instant, nullable=False),
)

price_book = sa.Table(
    "catalog_price_book",
    db.metadata,
    sa.Column("programme_id", sa.String, primary_key=True),
    sa.Column("offer_id", sa.String, primary_key=True),
    sa.Column("points", sa.BigInteger, nullable=False),
    sa.Column("below_declared_value", sa.Boolean, nullable=False),
    sa.Column("note", sa.String, nullable=False),
    sa.CheckConstraint("points > 0", name="points"),
)

quotes = sa.Table(
    "catalog_quotes",
    db.metadata,
    sa.Column("quote_id", sa.String, primary_key=True),
    sa.Column("member_id", sa.String, nullable=False, index=True),
    sa.Column("offer_id", sa.String, nullable=False),
    sa.Column("merchant_id", sa.String, nullable=False),
    sa.Column("slot", sa.String),
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("bill_fen", sa.BigInteger),
    sa.Column("list_fen", sa.BigInteger, nullable=False),
    sa.Column("shown_fen", sa.BigInteger, nullable=False),
    sa.Column("cash_fen", sa.BigInteger, nullable=False),
    sa.Column("legs", db.Json, nullable=False),
    sa.Column("partner_quote_id", sa.String),
    sa.Column("terms_hash", sa.String, nullable=False),
    sa.Column("expires_at", db.Instant, nullable=False),
    sa.Column("cancel_until", db.Instant),
    sa.Column("category", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("pricing", sa.String, nullable=False),
    sa.Column("quoted_at", db.Instant, nullable=False),
    sa.CheckConstraint("list_fen > 0", name="list"),
    sa.CheckConstraint("cash_fen BETWEEN 0 AND list_fen", name="cash"),
    sa.CheckConstraint("pricing IN ('fixed', 'estimate')", name="pricing"),
    info={"append_only": True},
)

_PLAIN = (
    "merchant_id", "version", "name_zh", "name_en", "kind", "category", "cash_fen", "own_points",
    "own_priced_by", "green", "high_value", "guaranteed", "max_offset_pct", "part_payment",
    "hosted",
)  # fmt: skip


def _offer(row: sa.Row[Any]) -> Offer:
    plain = {name: getattr(row, name) for name in _PLAIN}
    return Offer(id=row.offer_id, suspended=row.suspended, attributes=row.attributes, **plain)


async def put_offer(tx: AsyncConnection, offer: Offer, *, deleted: bool, now: datetime) -> bool:
    """Write an offer if its version is newer than the one known; a suspension stays.

    Returns:
        Whether it was written.
    """
    values: dict[str, Any] = {name: getattr(offer, name) for name in _PLAIN}
    values |= {"attributes": dict(offer.attributes), "deleted": deleted, "changed_at": now}
    made = await tx.execute(db.insert_missing(tx, offers).values(offer_id=offer.id, **values))
    if made.rowcount:
        return True
    c = offers.c
    newer = (c.offer_id == offer.id) & (c.version < offer.version)
    changed = await tx.execute(sa.update(offers).where(newer).values(values))
    return bool(changed.rowcount)


async def bury_offer(tx: AsyncConnection, offer_id: str, *, version: int, now: datetime) -> bool:
    """Apply a tombstone if it is newer than the version known."""
    c = offers.c
    newer = (c.offer_id == offer_id) & (c.version < version)
    values = {"deleted": True, "version": version, "changed_at": now}
    return bool((await tx.execute(sa.update(offers).where(newer).values(values))).rowcount)


async def put_tokens(tx: AsyncConnection, weights: Mapping[str, Mapping[str, int]]) -> None:
    """Replace the tokens of offers: offer id to token to weight; no tokens removes it."""
    if not weights:
        return
    t = search_tokens.c
    await tx.execute(sa.delete(search_tokens).where(t.offer_id.in_(sorted(weights))))
    rows = [
        {"token": token, "offer_id": offer_id, "weight": weight}
        for offer_id, tokens in sorted(weights.items())
        for token, weight in sorted(tokens.items())
    ]
    if rows:
        await tx.execute(sa.insert(search_tokens), rows)


async def owners(tx: AsyncConnection, offer_ids: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Merchant and version of known offers, tombstones included."""
    c = offers.c
    query = sa.select(c.offer_id, c.merchant_id, c.version).where(c.offer_id.in_(list(offer_ids)))
    return {row.offer_id: (row.merchant_id, row.version) for row in await tx.execute(query)}


async def get_offers(tx: AsyncConnection, offer_ids: Iterable[str]) -> dict[str, Offer]:
    """Offers by id, suspended ones included, those gone left out; in id order."""
    c = offers.c
    wanted = c.offer_id.in_(sorted(set(offer_ids)))
    query = sa.select(offers).where(wanted, c.deleted.is_(False)).order_by(c.offer_id)
    return {row.offer_id: _offer(row) for row in await tx.execute(query)}


_OFFER = sa.select(offers).where(
    offers.c.offer_id == sa.bindparam("of_offer"), offers.c.deleted.is_(False)
)
MERCHANT_OF = (
    sa.select(offers.c.merchant_id)
    .where(offers.c.offer_id == sa.bindparam("of_offer"))
    .scalar_subquery()
)


def ask_offer(offer_id: str) -> Ask:
    return Ask(_OFFER, {"of_offer": offer_id})


def offer_of(row: sa.Row[Any]) -> Offer:
    return _offer(row)


async def suspend(tx: AsyncConnection, offer_id: str, reason: str | None) -> None:
    change = sa.update(offers).where(offers.c.offer_id == offer_id).values(suspended=reason)
    await tx.execute(change)


async def search(
    tx: AsyncConnection,
    *,
    grams: Iterable[str],
    merchants: Sequence[str] | None,
    local: Sequence[str] | None,
    equal: Mapping[str, object],
    cheapest_first: bool,
    after: Sequence[Any] | None,
    limit: int,
) -> list[tuple[Offer, list[Any]]]:
    """Offers that have all grams, ranked: one statement.

    Args:
        merchants: Only theirs; None: everybody's.
        local: Merchants of the city asked for, ranked first; None: no city asked.
        equal: Columns with the value wanted.
        after: Rank of the last offer of the page before.

    Returns:
        Offers with their ranks, in order: what fits the text best, local before nationwide,
        for a city everyday goods before high-value ones, then by id (or by price and id).
    """
    c = offers.c
    rank: list[sa.ColumnElement[Any]] = []
    query = sa.select(offers).where(c.deleted.is_(False), c.suspended.is_(None))
    wanted = sorted(set(grams))
    if wanted:
        t = search_tokens.c
        found = (
            sa.select(t.offer_id, (-sa.func.sum(t.weight)).label("score"))
            .where(t.token.in_(wanted))
            .group_by(t.offer_id)
            .having(sa.func.count() == len(wanted))
            .subquery()
        )
        query = query.join(found, found.c.offer_id == c.offer_id)
        rank.append(found.c.score)
    if merchants is not None:
        query = query.where(c.merchant_id.in_(list(merchants)))
    for name, value in equal.items():
        query = query.where(c[name] == value)
    if local is not None:
        rank.append(sa.case((c.merchant_id.in_(list(local)), 0), else_=1))
        rank.append(sa.case((c.high_value, 1), else_=0))
    rank += [c.cash_fen, c.offer_id] if cheapest_first else [c.offer_id]
    if after is not None:
        query = query.where(_comes_after(rank, after))
    ranked = query.add_columns(*(column.label(f"rank_{i}") for i, column in enumerate(rank)))
    rows = await tx.execute(ranked.order_by(*rank).limit(limit))
    return [(_offer(row), list(row)[-len(rank) :]) for row in rows]


def _comes_after(
    rank: Sequence[sa.ColumnElement[Any]], after: Sequence[Any]
) -> sa.ColumnElement[bool]:
    """(a, b, …) > (x, y, …), in the plain words of both databases."""
    either = []
    for at, (column, value) in enumerate(zip(rank, after, strict=True)):
        same = [earlier == known for earlier, known in zip(rank[:at], after[:at], strict=True)]
        either.append(sa.and_(*same, column > value))
    return sa.or_(*either)


async def save_cursor(tx: AsyncConnection, merchant_id: str, cursor: str, now: datetime) -> None:
    row = {"merchant_id": merchant_id, "cursor": cursor, "read_at": now}
    await tx.execute(db.insert_missing(tx, feeds).values(row))
    change = sa.update(feeds).where(feeds.c.merchant_id == merchant_id)
    await tx.execute(change.values(cursor=cursor, read_at=now))


async def cursor_of(tx: AsyncConnection, merchant_id: str) -> str | None:
    query = sa.select(feeds.c.cursor).where(feeds.c.merchant_id == merchant_id)
    cursor: str | None = await tx.scalar(query)
    return cursor


async def put_book_price(
    tx: AsyncConnection,
    *,
    programme_id: str,
    offer_id: str,
    points: int,
    below_declared_value: bool,
    note: str,
) -> None:
    b = price_book.c
    row = {"points": points, "below_declared_value": below_declared_value, "note": note}
    key = {"programme_id": programme_id, "offer_id": offer_id}
    await tx.execute(db.insert_missing(tx, price_book).values(row | key))
    this = (b.programme_id == programme_id) & (b.offer_id == offer_id)
    await tx.execute(sa.update(price_book).where(this).values(row))


async def book_prices(
    tx: AsyncConnection, offer_ids: Iterable[str], programme_ids: Iterable[str]
) -> dict[tuple[str, str], int]:
    """(offer, programme) to points of the price book: one statement."""
    b = price_book.c
    query = sa.select(b.offer_id, b.programme_id, b.points).where(
        b.offer_id.in_(list(offer_ids)), b.programme_id.in_(list(programme_ids))
    )
    return {(row.offer_id, row.programme_id): row.points for row in await tx.execute(query)}


_BOOK = sa.select(price_book.c.programme_id, price_book.c.points).where(
    price_book.c.offer_id == sa.bindparam("of_offer")
)


def ask_book(offer_id: str) -> Ask:
    """An offer's points by programme, as the price book has them."""
    return Ask(_BOOK, {"of_offer": offer_id})


@cache
def _books(count: int) -> sa.Select[Any]:
    b = price_book.c
    return sa.select(b.offer_id, b.programme_id, b.points).where(among(b.offer_id, "offer", count))


def ask_books(offer_ids: Sequence[str]) -> Ask:
    """Points by offer and programme, as the price book has them."""
    ids = padded(offer_ids)
    return Ask(_books(len(ids)), values_of("offer", ids))


_INSERT_QUOTE = sa.insert(quotes)
_QUOTE = sa.select(quotes).where(quotes.c.quote_id == sa.bindparam("quote"))


async def put_quote(tx: AsyncConnection, quote: StoredQuote) -> None:
    row = {name: getattr(quote, name) for name in StoredQuote.__dataclass_fields__}
    row |= {"quote_id": row.pop("id"), "legs": [_leg_row(leg) for leg in quote.legs]}
    await db.write(tx, _INSERT_QUOTE, [row])


def _leg_row(leg: QuoteLeg) -> dict[str, Any]:
    return {name: getattr(leg, name) for name in QuoteLeg.__dataclass_fields__}


def ask_quote(quote_id: str) -> Ask:
    return Ask(_QUOTE, {"quote": quote_id})


def quote_of(row: sa.Row[Any]) -> StoredQuote:
    values = dict(row._mapping)
    values["id"] = values.pop("quote_id")
    values["legs"] = tuple(QuoteLeg(**leg) for leg in values["legs"])
    return StoredQuote(**values)
