"""The catalog's operations: take over offers, search them, price them in points, ask live."""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.catalog import pricing, store, tokens
from gateway.catalog.feeds import pull_feed
from gateway.catalog.live import live
from gateway.catalog.model import PAGE_LIMIT, Offer, OfferFilter, Page, Price
from gateway.catalog.publishing import (
    apply_feed,
    publish_offer,
    set_book_price,
    suspend_offer,
)
from gateway.errors import NotFound
from gateway.merchants import service as merchants
from gateway.points import service as points
from gateway.points.model import Programme
from gateway.promotions import service as promotions
from gateway.settlement import service as settlement
from gateway.settlement.model import Agreement, AgreementKind
from gateway.values import InvalidInput

__all__ = [
    "apply_feed",
    "feed_cursor",
    "live",
    "offer",
    "offers",
    "prices",
    "publish_offer",
    "pull_feed",
    "search",
    "set_book_price",
    "suspend_offer",
]

NATIONWIDE = "全国"
Ranked = list[tuple[Offer, list[Any]]]


async def offer(tx: AsyncConnection, offer_id: str) -> Offer:
    """One offer, also when it is suspended.

    Raises:
        NotFound: There is none.
    """
    found = await store.get_offers(tx, [offer_id])
    if offer_id not in found:
        raise NotFound(field=("offer",), id=offer_id)
    return found[offer_id]


async def offers(tx: AsyncConnection, offer_ids: Iterable[str]) -> dict[str, Offer]:
    """Offers by id, in one statement; those that do not exist are left out."""
    return await store.get_offers(tx, offer_ids)


async def feed_cursor(tx: AsyncConnection, merchant_id: str) -> str | None:
    """Where to continue a merchant's feed; None: at its start."""
    return await store.cursor_of(tx, merchant_id)


async def search(
    tx: AsyncConnection,
    *,
    filter: OfferFilter | None = None,
    programme_ids: Sequence[str] = (),
    balances: Mapping[str, int] | None = None,
    first: int = 20,
    after: str | None = None,
    at: datetime,
) -> Page:
    """Find offers: a page of a deterministic ranking.

    Args:
        programme_ids: Programmes in which `affordable` is judged.
        balances: Programme id to available points; needed for `affordable` only. An offer is
            affordable when one programme alone pays one unit of it: balances are never added.
        first: 1 to 100.
        after: A cursor of an earlier page.

    Returns:
        Best text match first, then offers of the city asked for, then by id; affordable
        offers cheapest first.

    Raises:
        InvalidInput: `first` or `after` cannot be used.
    """
    if not 1 <= first <= PAGE_LIMIT:
        raise InvalidInput("first", "{least} to {most}", least=1, most=PAGE_LIMIT)
    wanted = filter or OfferFilter()
    ask = await _question(tx, wanted)
    place = _rank(after) if after else None
    if wanted.affordable:
        asked = balances or {}
        purse = {programme_id: asked.get(programme_id, 0) for programme_id in programme_ids}
        rows = await _affordable(tx, ask, place, purse, limit=first + 1, at=at)
    else:
        rows = await _ranked(tx, ask, place, first + 1)
    page = rows[:first]
    found = tuple(found for found, _ in page)
    return Page(found, tuple(_cursor(rank) for _, rank in page), len(rows) > first)


async def _question(tx: AsyncConnection, filter: OfferFilter) -> dict[str, Any]:
    """What is asked of the store."""
    grams = tokens.of_query(filter.text or "")
    if filter.tag:
        grams.add(tokens.of_tag(filter.tag))
    hopeless = bool(filter.text and filter.text.strip()) and not tokens.of_query(filter.text or "")
    equal: dict[str, object] = {
        name: value
        for name in ("category", "kind", "green")
        if (value := getattr(filter, name)) is not None
    }
    if filter.merchant is not None:
        equal["merchant_id"] = filter.merchant
    there: list[str] | None = None
    local: list[str] | None = None
    if filter.city is not None:
        everyone = await merchants.find(tx)
        local = [m.id for m in everyone if filter.city in m.cities]
        there = local + [m.id for m in everyone if NATIONWIDE in m.cities and m.id not in local]
    return {
        "grams": grams,
        "merchants": [] if hopeless else there,
        "local": local,
        "equal": equal,
        "cheapest_first": filter.affordable,
    }


async def _ranked(
    tx: AsyncConnection, ask: Mapping[str, Any], after: Sequence[Any] | None, limit: int
) -> Ranked:
    try:
        return await store.search(tx, **ask, after=after, limit=limit)
    except ValueError as error:  # A cursor of a search with another ranking.
        raise InvalidInput("after", "a cursor of an earlier page of this search") from error


async def _affordable(
    tx: AsyncConnection,
    ask: Mapping[str, Any],
    after: Sequence[Any] | None,
    purse: Mapping[str, int],
    *,
    limit: int,
    at: datetime,
) -> Ranked:
    """Ranked offers that one balance alone pays for, read batch by batch."""
    rows: Ranked = []
    while purse and len(rows) < limit:
        batch = await _ranked(tx, ask, after, PAGE_LIMIT)
        known = await prices(tx, offers=[o for o, _ in batch], programme_ids=list(purse), at=at)
        rows += [
            (found, rank)
            for found, rank in batch
            if any(0 < price.points <= purse[price.programme_id] for price in known[found.id])
        ]
        if len(batch) < PAGE_LIMIT:
            break
        after = batch[-1][1]
    return rows[:limit]


def _cursor(rank: Sequence[Any]) -> str:
    plain = json.dumps(list(rank), separators=(",", ":"), default=int)
    return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


def _rank(cursor: str) -> list[Any]:
    try:
        plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        rank = json.loads(plain)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("after", "a cursor of an earlier page") from error
    if not isinstance(rank, list) or not rank or not isinstance(rank[-1], str):
        raise InvalidInput("after", "a cursor of an earlier page")
    if not all(isinstance(part, int) for part in rank[:-1]):
        raise InvalidInput("after", "a cursor of an earlier page")
    return rank


async def prices(
    tx: AsyncConnection,
    *,
    offers: Sequence[Offer],
    programme_ids: Sequence[str],
    at: datetime,
    slot_on: date | None = None,
    known: Sequence[Programme] | None = None,
) -> dict[str, list[Price]]:
    """What offers cost in programmes: five statements, whatever their number.

    Args:
        programme_ids: Programmes wanted; none: all.
        known: All programmes, if they are at hand.
        slot_on: Business day of the night asked for; None: tonight.

    Returns:
        Offer id to prices, its merchant's own programme first, then by programme id. Another
        programme has a price only where an agreement covers the offer.
    """
    wanted = {
        p.id: p
        for p in (await points.programmes(tx) if known is None else known)
        if not programme_ids or p.id in set(programme_ids)
    }
    ids = [found.id for found in offers]
    book = await store.book_prices(tx, ids, wanted)
    running = await promotions.price_points(
        tx,
        offer_ids=ids,
        programmes={p.id: p.issuer for p in wanted.values()},
        at=at,
        slot_on=slot_on,
    )
    agreements = await settlement.agreements_between(
        tx,
        issuers=sorted({p.issuer for p in wanted.values()}),
        redeemers=sorted({found.merchant_id for found in offers}),
        at=at,
        kind=None,
    )
    pairs = by_pair(agreements)
    return {found.id: prices_of(found, wanted, book, running, pairs) for found in offers}


def by_pair(agreements: Iterable[Agreement]) -> dict[tuple[str, str], list[Agreement]]:
    """Agreements by issuer and redeemer."""
    pairs: dict[tuple[str, str], list[Agreement]] = {}
    for agreement in agreements:
        pairs.setdefault((agreement.issuer, agreement.redeemer), []).append(agreement)
    return pairs


def prices_of(
    found: Offer,
    programmes: Mapping[str, Programme],
    book: Mapping[tuple[str, str], int],
    running: Mapping[tuple[str, str], tuple[int, str]],
    pairs: Mapping[tuple[str, str], Sequence[Agreement]],
    *,
    worded: bool = True,
) -> list[Price]:
    """An offer's prices in these programmes, its merchant's own first; see `prices`."""
    result = []
    for programme in programmes.values():
        key = (found.id, programme.id)
        if programme.issuer != found.merchant_id:
            between = pairs.get((programme.issuer, found.merchant_id), ())
            if not any(covers(agreement, found) for agreement in between):
                continue
        price = price_of(
            found, programme, book=book.get(key), promotion=running.get(key), worded=worded
        )
        if price is not None:
            result.append(price)
    return sorted(result, key=lambda price: (not price.own, price.programme_id))


def price_of(
    found: Offer,
    programme: Programme,
    *,
    book: int | None,
    promotion: tuple[int, str] | None,
    worded: bool = True,
) -> Price | None:
    """The price of an offer in a programme; see `pricing.price`."""
    return pricing.price(
        found,
        programme_id=programme.id,
        issuer=programme.issuer,
        unit_zh=programme.unit_zh,
        value=programme.rate,
        book=book,
        promotion=promotion,
        worded=worded,
    )


def covers(agreement: Agreement, found: Offer) -> bool:
    """Whether an agreement is of an offer's kind and has it in its scope."""
    donation = agreement.kind is AgreementKind.DONATION
    return donation == (found.kind == "donation") and agreement.covers(found.id, found.category)
