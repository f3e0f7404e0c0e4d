"""DataLoaders: what many rows of one answer need is read by one statement.

A loader lives as long as one operation; its batch reads through the request's reading
transaction. An unknown id loads as None.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection
from strawberry.dataloader import DataLoader

from gateway.audit import service as audit
from gateway.catalog import service as catalog
from gateway.catalog.model import Offer, Price
from gateway.members import service as members
from gateway.members.model import Member
from gateway.merchants import service as merchants
from gateway.merchants.model import Merchant
from gateway.points import service as points
from gateway.points.model import Lot, Programme, Wallet
from gateway.ports import LiveOffer
from gateway.redemption import service as redemptions
from gateway.redemption.model import Redemption
from gateway.settlement import service as settlement
from gateway.settlement.model import Settlement

if TYPE_CHECKING:
    from gateway.api.context import Context

V = TypeVar("V")
Read = Callable[[AsyncConnection, Sequence[str]], Awaitable[Mapping[str, V]]]
PriceKey = tuple[date | None, tuple[str, ...] | None]


class ById(Generic[V]):
    """Values by id, one read for all ids asked at once; what was read is `at_hand`."""

    def __init__(self, context: "Context", read: Read[V]) -> None:
        self._context = context
        self._read = read
        self._known: dict[str, V] = {}
        self._loader: DataLoader[str, V | None] = DataLoader(load_fn=self._batch)

    async def _batch(self, ids: list[str]) -> list[V | None]:
        missing = [id_ for id_ in ids if id_ not in self._known]
        if missing:
            async with self._context.reading() as tx:
                await self.read(tx, missing)
        return [self._known.get(id_) for id_ in ids]

    async def read(self, tx: AsyncConnection, ids: Sequence[str]) -> None:
        """Read values ahead, in a transaction that is open."""
        self._known |= await self._read(tx, ids)

    def at_hand(self, id_: str) -> V | None:
        """The value, if it has been read."""
        return self._known.get(id_)

    def all_at_hand(self) -> list[V]:
        """Every value that has been read."""
        return list(self._known.values())

    async def load(self, id_: str) -> V | None:
        known = self._known.get(id_)
        return known if known is not None else await self._loader.load(id_)

    def prime(self, id_: str, value: V) -> None:
        self._known[id_] = value


class ByOffer(Generic[V]):
    """Values by offer; the offers themselves are at hand."""

    def __init__(self, read: Callable[[list[Offer]], Awaitable[Mapping[str, V]]]) -> None:
        self._read = read
        self._offers: dict[str, Offer] = {}
        self._loader: DataLoader[str, V | None] = DataLoader(load_fn=self._batch)

    async def _batch(self, ids: list[str]) -> list[V | None]:
        found = await self._read([self._offers[id_] for id_ in ids])
        return [found.get(id_) for id_ in ids]

    async def load(self, offer: Offer) -> V | None:
        self._offers[offer.id] = offer
        return await self._loader.load(offer.id)

    async def load_many(self, offers: Sequence[Offer]) -> None:
        """Load what will be asked for."""
        self._offers |= {offer.id: offer for offer in offers}
        await self._loader.load_many([offer.id for offer in offers])


async def _programmes(tx: AsyncConnection, ids: Sequence[str]) -> Mapping[str, Programme]:
    return {programme.id: programme for programme in await points.programmes(tx)}


async def _programmes_by_issuer(tx: AsyncConnection, ids: Sequence[str]) -> Mapping[str, Programme]:
    return {programme.issuer: programme for programme in await points.programmes(tx)}


async def _settlements(tx: AsyncConnection, ids: Sequence[str]) -> Mapping[str, Settlement]:
    return {id_: await settlement.settlement(tx, id_) for id_ in ids}


class Loaders:
    """The loaders of one operation."""

    def __init__(self, context: "Context") -> None:
        self._context = context
        self.shown: dict[tuple[str, str], Any] = {}  # GraphQL objects made once, by type and id
        self.merchants: ById[Merchant] = ById(context, merchants.get_many)
        self.members: ById[Member] = ById(context, members.get_many)
        self.programmes: ById[Programme] = ById(context, _programmes)
        self.programme_of: ById[Programme] = ById(context, _programmes_by_issuer)
        self.offers: ById[Offer] = ById(context, catalog.offers)
        self.redemptions: ById[Redemption] = ById(context, redemptions.redemptions_by_id)
        self.vouchers: ById[Any] = ById(context, redemptions.vouchers)
        self.wallets: ById[list[Wallet]] = ById(context, self._wallets)
        self.settlements: ById[Settlement] = ById(context, _settlements)
        self.heads: ById[str] = ById(context, self._heads)
        self._used: dict[str, ById[int]] = {}
        self._lots: dict[str, ById[list[Lot]]] = {}
        self._prices: dict[PriceKey, ByOffer[list[Price]]] = {}
        self._live: dict[date | None, ByOffer[LiveOffer]] = {}

    async def _wallets(self, tx: AsyncConnection, ids: Sequence[str]) -> Mapping[str, list[Wallet]]:
        return {id_: await points.wallets(tx, id_, now=self._context.now) for id_ in ids}

    async def _heads(self, tx: AsyncConnection, ids: Sequence[str]) -> Mapping[str, str]:
        """The signed heads that settlements' notices go out with, by settlement."""
        await self.settlements.read(tx, ids)
        found: dict[str, str] = {}
        for id_ in ids:
            known = self.settlements.at_hand(id_)
            if known is None or known.approved_at is None:
                continue
            if head := await audit.head_since(tx, known.approved_at):
                found[id_] = head
        return found

    def used(self, month: str | None) -> ById[int]:
        """Fen counted against agreements in a month."""
        name = self._context.month(month)

        async def read(tx: AsyncConnection, ids: Sequence[str]) -> Mapping[str, int]:
            return {id_: await settlement.used_fen(tx, agreement_id=id_, month=name) for id_ in ids}

        if name not in self._used:
            self._used[name] = ById(self._context, read)
        return self._used[name]

    def lots(self, member_id: str) -> ById[list[Lot]]:
        """A member's lots by programme."""

        async def read(tx: AsyncConnection, ids: Sequence[str]) -> Mapping[str, list[Lot]]:
            found: dict[str, list[Lot]] = {id_: [] for id_ in ids}
            for lot in await points.lots(tx, member_id=member_id):
                found.setdefault(lot.programme_id, []).append(lot)
            return found

        if member_id not in self._lots:
            self._lots[member_id] = ById(self._context, read)
        return self._lots[member_id]

    def prices(self, key: PriceKey) -> ByOffer[list[Price]]:
        """Prices of offers for the day of a slot, in the programmes asked for (None: all)."""
        slot_on, programme_ids = key

        async def read(offers: list[Offer]) -> Mapping[str, list[Price]]:
            async with self._context.reading() as tx:
                await self.programmes.read(tx, ())
                return await catalog.prices(
                    tx,
                    offers=offers,
                    programme_ids=programme_ids or (),
                    at=self._context.now,
                    slot_on=slot_on,
                    known=self.programmes.all_at_hand(),
                )

        if key not in self._prices:
            self._prices[key] = ByOffer(read)
        return self._prices[key]

    def live(self, on: date | None) -> ByOffer[LiveOffer]:
        """Live prices, stock and slots of a day: one call a partner, no transaction open."""

        async def read(offers: list[Offer]) -> Mapping[str, LiveOffer]:
            await self._context.end_reads()
            services = self._context.services
            found, warnings = await catalog.live(
                services.partners, offers, on=on, timeout=services.settings.live_timeout_seconds
            )
            for warning in warnings:
                await self._context.warn(warning.merchant)
            return found

        if on not in self._live:
            self._live[on] = ByOffer(read)
        return self._live[on]
