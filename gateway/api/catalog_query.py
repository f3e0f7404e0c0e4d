"""The catalog that everybody with `catalog:read` may see."""

from collections.abc import Iterator
from typing import Any

import strawberry

from gateway.api import connections
from gateway.api.catalog_types import (
    Acceptance,
    Coalition,
    Merchant,
    Offer,
    OfferConnection,
    Programme,
    Warned,
)
from gateway.api.connections import Connection, Edge, PageInfo
from gateway.api.context import Info, given
from gateway.catalog import service as catalog
from gateway.catalog.model import OfferFilter
from gateway.merchants import service as merchants
from gateway.points import service as points
from gateway.settlement import service as settlement
from gateway.values import InvalidInput


@strawberry.input
class MerchantFilter:
    category: str | None = None
    city: str | None = None
    role: str | None = None


@strawberry.input
class OffersFilter:
    """All given conditions hold. `affordable` judges each of the member's wallets on its own."""

    text: str | None = None
    tag: str | None = None
    city: str | None = None
    category: str | None = None
    merchant: strawberry.ID | None = None
    kind: str | None = None
    green: bool | None = None
    affordable: bool | None = None


def selected(info: Info, *path: str) -> set[str]:
    """Names of the fields selected at a path below this field, also through fragments."""

    def inside(selections: Any, rest: tuple[str, ...]) -> Iterator[str]:
        for selection in selections:
            if not hasattr(selection, "arguments"):  # A fragment.
                yield from inside(selection.selections, rest)
            elif not rest:
                yield selection.name
            elif selection.name == rest[0]:
                yield from inside(selection.selections, rest[1:])

    return {name for field in info.selected_fields for name in inside(field.selections, path)}


@strawberry.type
class CatalogQuery:
    """What everybody with `catalog:read` may see."""

    @strawberry.field
    async def coalition(self, info: Info) -> Coalition:
        async with info.context.reading() as tx:
            return Coalition.of(await merchants.operator(tx))

    @strawberry.field
    async def merchants(
        self,
        info: Info,
        filter: MerchantFilter | None = None,
        first: int | None = None,
        after: str | None = None,
    ) -> Connection[Merchant]:
        asked = given(filter) if filter else {}
        role = asked.pop("role", None)
        async with info.context.reading() as tx:
            found = await merchants.find(tx, roles=[role] if role else None, **asked)
        return connections.page(
            found, Merchant.of, key=lambda row: row.id, first=first, after=after
        )

    @strawberry.field
    async def merchant(self, info: Info, id: strawberry.ID) -> Merchant | None:
        found = await info.context.loaders.merchants.load(id)
        return Merchant.of(found) if found else None

    @strawberry.field
    async def programmes(self, info: Info) -> list[Programme]:
        async with info.context.reading() as tx:
            found = await points.programmes(tx)
        return [Programme.of(programme) for programme in sorted(found, key=lambda row: row.id)]

    @strawberry.field
    async def acceptance(
        self,
        info: Info,
        issuer: strawberry.ID | None = None,
        redeemer: strawberry.ID | None = None,
    ) -> list[Acceptance]:
        """Who accepts whose points today; none is implicit."""
        async with info.context.reading() as tx:
            everyone = [merchant.id for merchant in await merchants.find(tx)]
            found = await settlement.agreements_between(
                tx,
                issuers=[issuer] if issuer else everyone,
                redeemers=[redeemer] if redeemer else everyone,
                at=info.context.now,
            )
        return [
            Acceptance(
                issuer_id=agreement.issuer,
                redeemer_id=agreement.redeemer,
                agreement=strawberry.ID(agreement.id),
                until=agreement.valid_until,
            )
            for agreement in found
        ]

    @strawberry.field
    async def offers(
        self,
        info: Info,
        filter: OffersFilter | None = None,
        first: int = connections.PAGE_SIZE,
        after: str | None = None,
    ) -> OfferConnection:
        """Search the catalog; a partner that does not answer costs a warning, never the query."""
        context, wanted = info.context, selected(info, "edges", "node")
        async with context.watched():
            asked = given(filter) if filter else {}
            asked["affordable"] = bool(asked.get("affordable"))
            balances: dict[str, int] = {}
            if asked["affordable"]:
                if context.actor.member_id is None:
                    raise InvalidInput("filter.affordable", "for members only")
                wallets = await context.loaders.wallets.load(context.actor.member_id) or ()
                balances = {wallet.programme_id: wallet.available for wallet in wallets}
            async with context.reading() as tx:
                page = await catalog.search(
                    tx,
                    filter=OfferFilter(**asked),
                    programme_ids=sorted(balances),
                    balances=balances,
                    first=connections.size(first),
                    after=after,
                    at=context.now,
                )
                if "merchant" in wanted:
                    ids = sorted({offer.merchant_id for offer in page.offers})
                    await context.loaders.merchants.read(tx, ids)
            for offer in page.offers:
                context.loaders.offers.prime(offer.id, offer)
            if wanted & {"live", "slots"}:
                await context.loaders.live(None).load_many(page.offers)
        edges = [
            Edge(node=Offer.of(offer), cursor=cursor)
            for offer, cursor in zip(page.offers, page.cursors, strict=True)
        ]
        end = page.cursors[-1] if page.cursors else None
        return OfferConnection(
            edges=edges, page_info=PageInfo(has_next_page=page.more, end_cursor=end)
        )

    @strawberry.field
    async def offer(self, info: Info, id: strawberry.ID) -> Offer | None:
        context = info.context
        async with context.watched():
            found = await context.loaders.offers.load(id)
            if found is not None and selected(info) & {"live", "slots"}:
                await context.loaders.live(None).load(found)
        return Offer.of(found) if found else None

    @strawberry.field
    async def warnings(self, info: Info) -> list[Warned]:
        """The partners that did not answer for the offers beside this field."""
        return [Warned.of(warning) for warning in await info.context.all_warnings()]
