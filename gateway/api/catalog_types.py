"""What everybody may see: merchants, programmes, offers, prices, live quotes."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Self

import strawberry

from gateway import ports
from gateway.api.connections import Edge, PageInfo
from gateway.api.context import Info
from gateway.api.context import Warning as PartnerWarning
from gateway.api.loaders import ById
from gateway.api.scalars import JSON, Fen, Points, Rate
from gateway.catalog import model as catalog
from gateway.merchants import model as merchants
from gateway.points import model as points


@strawberry.federation.type(keys=["id"])
class Merchant:
    """A legal entity that issues points, redeems them, or both."""

    id: strawberry.ID
    slug: str
    name_zh: str
    name_en: str
    category: str
    cities: list[str]
    market: str
    roles: list[str]
    paused: bool

    @classmethod
    def of(cls, merchant: merchants.Merchant) -> Self:
        return cls(
            id=strawberry.ID(merchant.id),
            slug=merchant.slug,
            name_zh=merchant.name_zh,
            name_en=merchant.name_en,
            category=merchant.category,
            cities=list(merchant.cities),
            market=merchant.market,
            roles=sorted(merchant.roles),
            paused=merchant.paused,
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> Self | None:
        found = await info.context.loaders.merchants.load(id)
        return cls.of(found) if found else None

    @strawberry.field
    async def programme(self, info: Info) -> "Programme | None":
        """The programme it issues, if any."""
        found = await info.context.loaders.programme_of.load(self.id)
        return Programme.of(found) if found else None


def merchant(info: Info, id: str) -> "Merchant":
    """A merchant that must exist: itself if it was read ahead, else a promise of it."""
    found: Merchant = _at_hand(info, Merchant, info.context.loaders.merchants, id)
    return found


def programme(info: Info, id: str) -> "Programme":
    """A programme that must exist: itself if it was read ahead, else a promise of it."""
    found: Programme = _at_hand(info, Programme, info.context.loaders.programmes, id)
    return found


def _at_hand(info: Info, kind: Any, loader: ById[Any], id: str) -> Any:
    """The GraphQL object, made once; a coroutine only where something has to be read."""
    shown = info.context.loaders.shown
    key = (kind.__name__, id)
    if key not in shown:
        found = loader.at_hand(id)
        if found is None:
            return _loaded(kind, loader, id)
        shown[key] = kind.of(found)
    return shown[key]


async def _loaded(kind: Any, loader: ById[Any], id: str) -> Any:
    found = await loader.load(id)
    assert found is not None, f"no {kind.__name__} {id}"
    return kind.of(found)


@strawberry.type
class Operator:
    """Who runs the coalition."""

    id: strawberry.ID
    name_zh: str
    name_en: str
    contact: str | None
    aliases: list[str]
    licences: JSON


@strawberry.type
class Coalition:
    """The coalition as a party in data: no brand is in the code."""

    name_zh: str
    service: str
    operator: Operator

    @classmethod
    def of(cls, merchant: merchants.Merchant) -> Self:
        facts: Mapping[str, Any] = merchant.operator or {}
        return cls(
            name_zh=facts.get("brand_zh") or merchant.name_zh,
            service=facts.get("service_zh") or "",
            operator=Operator(
                id=strawberry.ID(merchant.id),
                name_zh=merchant.name_zh,
                name_en=merchant.name_en,
                contact=facts.get("contact"),
                aliases=list(facts.get("aliases") or ()),
                licences=facts.get("licences") or [],
            ),
        )


@strawberry.type
class Programme:
    """One issuer's points: their declared value is never lowered."""

    id: strawberry.ID
    name_zh: str
    unit_zh: str
    value: Rate
    validity: str
    validity_months: int | None
    earn: JSON
    disclosure: JSON
    policy_version: int
    issuer_id: strawberry.Private[str]

    @classmethod
    def of(cls, programme: points.Programme) -> Self:
        return cls(
            id=strawberry.ID(programme.id),
            name_zh=programme.name_zh,
            unit_zh=programme.unit_zh,
            value=Rate.of(programme.rate),
            validity="LIFETIME" if programme.months is None else "MONTHS",
            validity_months=programme.months,
            earn=dict(programme.earn),
            disclosure=dict(programme.disclosure),
            policy_version=programme.policy_version,
            issuer_id=programme.issuer,
        )

    @strawberry.field
    def issuer(self, info: Info) -> Merchant:
        return merchant(info, self.issuer_id)


@strawberry.type
class Acceptance:
    """That a redeemer takes an issuer's points, under an agreement in force."""

    issuer_id: strawberry.Private[str]
    redeemer_id: strawberry.Private[str]
    agreement: strawberry.ID
    until: date

    @strawberry.field
    def issuer(self, info: Info) -> Merchant:
        return merchant(info, self.issuer_id)

    @strawberry.field
    def redeemer(self, info: Info) -> Merchant:
        return merchant(info, self.redeemer_id)


@strawberry.type
class Price:
    """What an offer costs in one programme's points."""

    points: Points
    rate: Rate
    basis: str
    formula: str
    own: bool
    promotion: strawberry.ID | None
    regular_points: Points | None
    programme_id: strawberry.Private[str]

    @classmethod
    def of(cls, price: catalog.Price) -> Self:
        return cls(
            points=price.points,
            rate=Rate.of(price.rate),
            basis=price.basis,
            formula=price.formula,
            own=price.own,
            promotion=strawberry.ID(price.promotion_id) if price.promotion_id else None,
            regular_points=price.regular_points,
            programme_id=price.programme_id,
        )

    @strawberry.field
    def programme(self, info: Info) -> Programme:
        return programme(info, self.programme_id)

    @strawberry.field
    async def affordable(self, info: Info) -> bool | None:
        """Whether the member has these points in this programme; null for others than members."""
        if info.context.actor.member_id is None:
            return None
        wallets = await info.context.loaders.wallets.load(info.context.actor.member_id)
        return any(
            wallet.programme_id == self.programme_id and wallet.available >= self.points
            for wallet in wallets or ()
        )


@strawberry.type
class Slot:
    """A time, seat or night that can be booked."""

    id: strawberry.ID
    starts_at: datetime
    left: int


@strawberry.type
class LiveQuote:
    """What an offer costs and has left right now; `left` null is unlimited."""

    list_fen: Fen
    left: int | None
    slots: list[Slot]

    @classmethod
    def of(cls, live: ports.LiveOffer) -> Self:
        return cls(
            list_fen=live.list_fen,
            left=live.left,
            slots=[
                Slot(id=strawberry.ID(slot.id), starts_at=slot.starts_at, left=slot.left)
                for slot in live.slots
            ],
        )


@strawberry.type
class Guarantee:
    """What the merchant promises to a points buyer."""

    parity: str | None
    cancel: str | None
    compensation: str | None
    contact: str | None


@strawberry.type
class Parity:
    """Whether a points buyer gets the same slots as a cash buyer."""

    ok: bool


@strawberry.federation.type(keys=["id"])
class Offer:
    """A named service or good that can be had for points."""

    id: strawberry.ID
    name_zh: str
    name_en: str
    kind: str
    category: str
    cash_fen: Fen
    pricing: str
    green: bool
    high_value: bool
    guaranteed: bool
    max_offset_pct: int
    part_payment: bool
    suspended: bool
    tags: list[str]
    attributes: JSON
    merchant_id: strawberry.Private[str]
    source: strawberry.Private[catalog.Offer]

    @classmethod
    def of(cls, offer: catalog.Offer) -> Self:
        return cls(
            id=strawberry.ID(offer.id),
            name_zh=offer.name_zh,
            name_en=offer.name_en,
            kind=offer.kind,
            category=offer.category,
            cash_fen=offer.cash_fen,
            pricing=offer.pricing,
            green=offer.green,
            high_value=offer.high_value,
            guaranteed=offer.guaranteed,
            max_offset_pct=offer.max_offset_pct,
            part_payment=offer.part_payment,
            suspended=offer.suspended is not None,
            tags=list(offer.tags),
            attributes=dict(offer.attributes),
            merchant_id=offer.merchant_id,
            source=offer,
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> Self | None:
        found = await info.context.loaders.offers.load(id)
        return cls.of(found) if found else None

    @strawberry.field
    def merchant(self, info: Info) -> Merchant:
        return merchant(info, self.merchant_id)

    @strawberry.field
    async def prices(
        self,
        info: Info,
        programmes: list[strawberry.ID] | None = None,
        slot_on: date | None = None,
    ) -> list[Price]:
        """Its price in each programme accepted for it; a member sees its own programmes first."""
        key = (slot_on, tuple(programmes) if programmes is not None else None)
        found = await info.context.loaders.prices(key).load(self.source)
        return [Price.of(price) for price in found or ()]

    @strawberry.field
    async def live(self, info: Info, on: date | None = None) -> LiveQuote | None:
        """Price, stock and slots from the merchant's system; null when it does not answer."""
        found = await info.context.loaders.live(on).load(self.source)
        return LiveQuote.of(found) if found else None

    @strawberry.field
    async def slots(self, info: Info, on: date | None = None) -> list[Slot] | None:
        """The slots of `live`."""
        found = await info.context.loaders.live(on).load(self.source)
        return LiveQuote.of(found).slots if found else None

    @strawberry.field
    def guarantee(self) -> Guarantee:
        facts = self.source.guarantee
        names = ("parity", "cancel", "compensation", "contact")
        return Guarantee(**{name: facts.get(name) for name in names})

    @strawberry.field
    def parity(self) -> Parity:
        return Parity(ok=not self.suspended)


@strawberry.type(name="Warning")
class Warned:
    """A partner that did not answer in time; the rest of the answer stands."""

    code: str
    message: str
    stale_at: datetime | None
    merchant: strawberry.ID

    @classmethod
    def of(cls, warning: PartnerWarning) -> Self:
        return cls(
            code=warning.code,
            message=warning.message,
            stale_at=warning.stale_at,
            merchant=strawberry.ID(warning.merchant),
        )


@strawberry.type
class OfferConnection:
    """A page of offers, with the partners that did not answer for it."""

    edges: list[Edge[Offer]]
    page_info: PageInfo

    @strawberry.field
    async def warnings(self, info: Info) -> list[Warned]:
        return [Warned.of(warning) for warning in await info.context.all_warnings()]
