"""How offers come into the catalog: partners' feeds, and merchants that have no server."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.catalog import store, tokens
from gateway.catalog.model import (
    GUARANTEE,
    KINDS,
    FeedResult,
    Offer,
    attributes_of,
    require_guarantee,
    require_not_cash_like,
)
from gateway.errors import NotFound, Refused
from gateway.events import service as events
from gateway.events.service import Change
from gateway.merchants import service as merchants
from gateway.merchants.model import Merchant
from gateway.points import service as points
from gateway.points.model import Programme
from gateway.points.service import ValueGuaranteeViolation
from gateway.ports import FeedOffer, FeedPage
from gateway.values import MAX_AMOUNT, InvalidAmount, InvalidInput, amount

_COLUMNS = (
    "own_points", "own_priced_by", "green", "high_value", "guaranteed", "max_offset_pct",
    "part_payment",
)  # fmt: skip
_PRICED_BY = (None, "book", "value")
_DEFAULT_GUARANTEE = {
    "parity": "same slots, quality and refund terms as cash buyers",
    "cancel": "before use, 7 days",
    "compensation": "PR-18",
}


async def apply_feed(
    tx: AsyncConnection, *, merchant_id: str, page: FeedPage, now: datetime
) -> FeedResult:
    """Take over a page of a partner's change feed, and remember its cursor.

    A lower or equal version changes nothing, a tombstone removes the offer, an offer that
    breaks a rule is left out and named; the others of the page are taken.

    Raises:
        NotFound: The merchant is not registered.
    """
    merchant = await merchants.get(tx, merchant_id)
    programme = await points.programme_of(tx, merchant_id)
    ids = [row.id for row in page.offers]
    known, before = await store.owners(tx, ids), await store.get_offers(tx, ids)
    applied, stale, removed, refused = [], [], [], dict[str, str]()
    index: dict[str, Mapping[str, int]] = {}
    for row in page.offers:
        owner, version = known.get(row.id, (merchant_id, -1))
        if owner != merchant_id:
            refused[row.id] = NotFound.code
        elif row.version <= version:
            stale.append(row.id)
        elif row.deleted:
            if await store.bury_offer(tx, row.id, version=row.version, now=now):
                removed.append(row.id)
                index[row.id] = {}
        else:
            try:
                offer = _from_feed(merchant_id, row)
                require_fair_price(offer, programme, before=before.get(row.id))
            except Refused as refusal:
                refused[row.id] = refusal.code
                continue
            known[row.id] = (merchant_id, row.version)
            before[row.id] = offer
            if await store.put_offer(tx, offer, deleted=False, now=now):
                applied.append(row.id)
                index[row.id] = search_words(offer, merchant)
    await store.put_tokens(tx, index)
    await store.save_cursor(tx, merchant_id, page.cursor, now)
    return FeedResult(tuple(applied), tuple(stale), tuple(removed), refused)


def _from_feed(merchant_id: str, row: FeedOffer) -> Offer:
    extra = row.attributes
    offer = Offer(
        id=row.id,
        merchant_id=merchant_id,
        version=row.version,
        name_zh=row.name_zh,
        name_en=row.name_en,
        kind=row.kind,
        category=row.category,
        cash_fen=row.cash_fen,
        own_points=extra.get("own_points"),
        own_priced_by=extra.get("own_priced_by"),
        green=bool(extra.get("green")),
        high_value=bool(extra.get("high_value")),
        guaranteed=bool(extra.get("guaranteed")),
        max_offset_pct=extra.get("max_offset_pct", 100),
        part_payment=extra.get("part_payment", True),
        attributes=attributes_of(extra, _COLUMNS),
    )
    return check(offer)


def check(offer: Offer) -> Offer:
    """Check what is published, by a feed or by hand.

    Raises:
        CashLikeForbidden, GuaranteeMissing: It may not be sold for points.
        InvalidAmount, InvalidInput: A figure or word is not one of ours.
    """
    require_not_cash_like(
        offer_id=offer.id, kind=offer.kind, category=offer.category, name_zh=offer.name_zh
    )
    if offer.kind not in KINDS:
        raise InvalidInput("kind", "one of {values}", values=sorted(KINDS))
    if not offer.name_zh:
        raise InvalidInput("name_zh", "a name in Chinese")
    _whole(offer.cash_fen, field="cash_fen", least=0 if offer.kind == "credential" else 1)
    if offer.own_points is not None:
        free = offer.kind in ("credential", "badge_prize")
        _whole(offer.own_points, field="own_points", least=0 if free else 1)
    if offer.own_priced_by not in _PRICED_BY:
        raise InvalidInput("own_priced_by", "one of {values}", values=("book", "value"))
    percent = offer.max_offset_pct
    if not isinstance(percent, int) or not 0 <= percent <= 100:
        raise InvalidInput("max_offset_pct", "{least} to {most}", least=0, most=100)
    _check_documents(offer)
    require_guarantee(offer.id, offer.guarantee)
    return offer


def _whole(value: object, *, field: str, least: int) -> None:
    """`amount`, of a value that a merchant's JSON may hold in any type."""
    if type(value) is not int:
        raise InvalidAmount(field=(field,), value=str(value))
    amount(value, field=field, least=least)


def _check_documents(offer: Offer) -> None:
    """Check the shape of what a merchant may say freely, because prices rest on it."""
    extra = offer.attributes
    if extra.get("pricing", "fixed") not in ("fixed", "estimate"):
        raise InvalidInput("pricing", "one of {values}", values=("fixed", "estimate"))
    if not isinstance(offer.part_payment, bool):
        raise InvalidInput("part_payment", "true or false")
    if not isinstance(extra.get("guarantee", {}), Mapping):
        raise InvalidInput("guarantee", "an object")
    tags = extra.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidInput("tags", "a list of words")
    if (coupon := extra.get("coupon")) is not None:
        _check_coupon(coupon)


def _check_coupon(coupon: object) -> None:
    if not isinstance(coupon, Mapping) or ("off_fen" in coupon) == ("off_pct" in coupon):
        raise InvalidInput("coupon", "an object with off_fen or off_pct")
    most = {"off_pct": 100}
    for name in ("off_fen", "off_pct", "max_off_fen", "min_spend_fen"):
        value = coupon.get(name, 1)
        if type(value) is not int or not 0 <= value <= most.get(name, MAX_AMOUNT):
            raise InvalidInput(f"coupon.{name}", "a whole number in range")


def search_words(offer: Offer, merchant: Merchant) -> dict[str, int]:
    """The tokens of an offer: its names, category, merchant and the merchant's aliases."""
    operator = merchant.operator or {}
    aliases = [*operator.get("aliases", ()), operator.get("brand_zh", "")]
    weights = tokens.weigh(
        {
            4: [offer.name_zh, offer.name_en, offer.id],
            2: [offer.category],
            1: [merchant.name_zh, merchant.name_en, merchant.slug, *aliases],
        }
    )
    return weights | {tokens.of_tag(tag): 1 for tag in offer.tags}


async def publish_offer(
    tx: AsyncConnection,
    *,
    merchant_id: str,
    id: str,
    name_zh: str,
    kind: str,
    category: str,
    cash_fen: int,
    own_points: int | None = None,
    own_priced_by: str | None = None,
    name_en: str = "",
    guarantee: Mapping[str, str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    now: datetime,
) -> Offer:
    """Publish an offer of a merchant that has no server, or its next version.

    Args:
        guarantee: parity, cancel, compensation, contact; None takes the coalition's default.
        attributes: What not every offer has, as in a feed.

    Raises:
        NotFound: There is no such merchant, or the offer is another one's.
        CashLikeForbidden, GuaranteeMissing, InvalidInput, InvalidAmount: See `check`.
        ValueGuaranteeViolation: The points price is above the cash price ÷ declared value, or
            a guaranteed price would rise.
    """
    merchant = await merchants.get(tx, merchant_id)
    owner, version = (await store.owners(tx, [id])).get(id, (merchant_id, 0))
    if owner != merchant_id:
        raise NotFound(id=id)
    extra = dict(attributes or {})
    extra["guarantee"] = dict(guarantee) if guarantee is not None else await _default(tx, merchant)
    offer = check(
        Offer(
            id=id,
            merchant_id=merchant_id,
            version=version + 1,
            name_zh=name_zh,
            name_en=name_en,
            kind=kind,
            category=category,
            cash_fen=cash_fen,
            own_points=own_points,
            own_priced_by=own_priced_by or ("book" if own_points is not None else None),
            green=bool(extra.get("green")),
            high_value=bool(extra.get("high_value")),
            guaranteed=bool(extra.get("guaranteed")),
            max_offset_pct=extra.get("max_offset_pct", 100),
            part_payment=extra.get("part_payment", True),
            hosted=await store.cursor_of(tx, merchant_id) is None,
            attributes=attributes_of(extra, _COLUMNS),
        )
    )
    before = (await store.get_offers(tx, [id])).get(id)
    require_fair_price(offer, await points.programme_of(tx, merchant_id), before=before)
    await store.put_offer(tx, offer, deleted=False, now=now)
    await store.put_tokens(tx, {id: search_words(offer, merchant)})
    return offer


async def _default(tx: AsyncConnection, merchant: Merchant) -> dict[str, str]:
    """The coalition's guarantee; the operator answers for a merchant that names no contact."""
    operator = (await merchants.operator(tx)).operator or {}
    contact = operator.get("contact") or merchant.slug
    assert set(_DEFAULT_GUARANTEE) | {"contact"} == set(GUARANTEE)
    return _DEFAULT_GUARANTEE | {"contact": str(contact)}


def require_fair_price(offer: Offer, programme: Programme | None, *, before: Offer | None) -> None:
    """Check an offer's price in its merchant's own points. Source: requirements S-012, S-014.

    Raises:
        InvalidInput: It has one, and its merchant has no programme.
        ValueGuaranteeViolation: It is above the cash price ÷ declared value, or a guaranteed
            price would rise.
    """
    if offer.own_points is None:
        return
    if programme is None:
        raise InvalidInput("own_points", "the merchant has no programme")
    most = programme.rate.ceil_divide(offer.cash_fen)
    if before and before.guaranteed and before.own_points is not None:
        most = min(most, before.own_points)
    if offer.own_points > most:
        raise ValueGuaranteeViolation(
            field=("own_points",),
            programme=programme.id,
            offer=offer.id,
            promised=most,
            asked=offer.own_points,
        )


async def set_book_price(
    tx: AsyncConnection,
    *,
    programme_id: str,
    offer_id: str,
    points_price: int,
    below_declared_value: bool = False,
    note: str = "",
) -> None:
    """Set what an offer costs in a programme that is not its merchant's.

    Args:
        below_declared_value: Flags a price that gives less than the declared value; it is shown.

    Raises:
        NotFound: There is no such offer or programme.
        ValueGuaranteeViolation: The price gives less, and is not flagged.
    """
    amount(points_price, field="points")
    programme = await points.programme(tx, programme_id)
    offer = (await store.get_offers(tx, [offer_id])).get(offer_id)
    if offer is None:
        raise NotFound(id=offer_id)
    most = programme.rate.ceil_divide(offer.cash_fen)
    if points_price > most and not below_declared_value:
        raise ValueGuaranteeViolation(
            field=("points",),
            programme=programme_id,
            offer=offer_id,
            promised=most,
            asked=points_price,
        )
    await store.put_book_price(
        tx,
        programme_id=programme_id,
        offer_id=offer_id,
        points=points_price,
        below_declared_value=below_declared_value,
        note=note,
    )


async def suspend_offer(
    tx: AsyncConnection,
    *,
    offer_id: str,
    reason: str | None,
    now: datetime,
    merchant_id: str | None = None,
) -> Offer:
    """Suspend an offer, or resume it when there is no reason; a feed does not change that.

    Args:
        merchant_id: The merchant that asks, for its own offers only; None: the operator.

    Raises:
        NotFound: There is no such offer for this caller.
    """
    found = (await store.get_offers(tx, [offer_id])).get(offer_id)
    if found is None or merchant_id not in (None, found.merchant_id):
        raise NotFound(id=offer_id)
    await store.suspend(tx, offer_id, reason)
    word, data = ("suspended", {"reason": reason}) if reason else ("resumed", {})
    told = Change(f"offer.{word}", offer_id, {found.merchant_id}, data)
    await events.record(tx, told, now=now)
    return (await store.get_offers(tx, [offer_id]))[offer_id]
