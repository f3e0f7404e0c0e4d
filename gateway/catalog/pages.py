"""What the offers of a page need beside themselves, read in one visit whatever is wanted."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.catalog import store
from gateway.catalog.model import Offer, Price
from gateway.catalog.service import by_pair, prices_of
from gateway.merchants import service as merchants
from gateway.merchants.model import Merchant
from gateway.points import service as points
from gateway.points.model import Programme
from gateway.promotions import service as promotions
from gateway.settlement import service as settlement
from gateway.settlement.model import Agreement


@dataclass(slots=True)
class Facts:
    """What was read; of offers, programmes by id, and merchants by id."""

    at: datetime
    offers: Sequence[Offer]
    programmes: Mapping[str, Programme] = field(default_factory=dict)
    merchants: Mapping[str, Merchant] = field(default_factory=dict)
    book: Mapping[tuple[str, str], int] = field(default_factory=dict)
    promoted: Sequence[Any] = ()
    pairs: Mapping[tuple[str, str], Sequence[Agreement]] = field(default_factory=dict)

    async def prices(
        self,
        tx: AsyncConnection,
        *,
        programme_ids: Collection[str],
        slot_on: date | None,
        worded: bool,
    ) -> dict[str, list[Price]]:
        """The offers' prices, as `service.prices` has them; days are read for a promotion only.

        Args:
            programme_ids: Programmes wanted; none: all.
            worded: Whether prices say how they come about.
        """
        asked = set(programme_ids)
        wanted = {
            name: found
            for name, found in self.programmes.items()
            if not programme_ids or name in asked
        }
        running = await promotions.prices_of(
            tx,
            self.promoted,
            programmes={found.id: found.issuer for found in wanted.values()},
            at=self.at,
            slot_on=slot_on,
        )
        return {
            each.id: prices_of(each, wanted, self.book, running, self.pairs, worded=worded)
            for each in self.offers
        }


async def facts(
    tx: AsyncConnection,
    *,
    offers: Sequence[Offer],
    at: datetime,
    programmes: bool,
    named: bool,
    issuers: bool,
    prices: bool,
) -> Facts:
    """Read what a page of offers needs.

    Args:
        named: The offers' merchants.
        issuers: The programmes' merchants; with them all programmes.
        prices: What `Facts.prices` needs; with it all programmes.
    """
    made, redeemers = Facts(at, offers), sorted({each.merchant_id for each in offers})
    asks = {}
    if programmes or issuers or prices:
        asks["programmes"] = points.ask_all_programmes()
    if named and redeemers and not issuers:
        asks["merchants"] = merchants.ask_several(redeemers)
    if prices and offers:
        ids = [each.id for each in offers]
        asks["book"] = store.ask_books(ids)
        asks["promoted"] = promotions.ask_prices(ids)
        asks["agreements"] = settlement.ask_towards(redeemers, at=at)
    if not asks:
        return made
    found = dict(zip(asks, await db.read(tx, *asks.values()), strict=True))
    rows = points.all_programmes(found.get("programmes", ()))
    made.programmes = {each.id: each for each in rows}
    if issuers:
        both = sorted({each.issuer for each in rows} | set(redeemers if named else ()))
        made.merchants = await merchants.get_many(tx, both)
    else:
        made.merchants = merchants.by_id(found.get("merchants", ()))
    made.book = {(row.offer_id, row.programme_id): row.points for row in found.get("book", ())}
    made.promoted = found.get("promoted", ())
    made.pairs = by_pair(settlement.towards(found.get("agreements", ())))
    return made
