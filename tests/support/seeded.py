"""The demo coalition in a real database, and partners that answer as they are told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.catalog import service as catalog
from gateway.db import Clock
from gateway.errors import GatewayError
from gateway.members import service as members
from gateway.merchants import service as merchants
from gateway.points import service as points
from gateway.ports import Capability, FeedOffer, FeedPage, LiveOffer, Quote, QuoteRequest, Slot
from gateway.promotions import service as promotions
from gateway.settlement import service as settlement
from gateway.values import Rate, start_of
from tests.support import coalition

OPENED = datetime(2026, 11, 20, tzinfo=UTC)
SECRET = b"a key of tests"
FEED_PLAIN = ("id", "merchant", "name_zh", "name_en", "kind", "category", "cash_fen", "seed")


class FrozenClock(Clock):
    """Business time that stands still."""

    def __init__(self, instant: str) -> None:
        super().__init__()
        self.instant = datetime.fromisoformat(instant).astimezone(UTC)

    def now(self) -> datetime:
        return self.instant


@dataclass
class FakePartner:
    """A partner's quote and live answers; `failure` is raised instead."""

    code: str
    capabilities: Capability = Capability.ALL
    list_fen: Mapping[str, int] = field(default_factory=dict)
    failure: GatewayError | None = None
    live_minutes: int = 3
    asked: list[QuoteRequest] = field(default_factory=list)
    calls: int = 0
    now: datetime = OPENED
    pages: Sequence[FeedPage] = ()
    cursors: list[str | None] = field(default_factory=list)
    slots: Sequence[Slot] = ()
    database: Any = None  # When set, no transaction of it may be open during a call.

    async def quote(self, request: QuoteRequest) -> Quote:
        self.asked.append(request)
        if self.database is not None:
            assert self.database.engine.pool.checkedout() == 0, "no transaction across a call"
        if self.failure:
            raise self.failure
        unit = coalition.offers()[request.offer_id].cash_fen
        regular = unit * request.quantity if request.bill_fen is None else request.bill_fen
        return Quote(
            id=f"pq_{len(self.asked)}",
            list_fen=self.list_fen.get(request.offer_id, regular),
            expires_at=self.now + timedelta(minutes=self.live_minutes),
            terms_hash="terms",
        )

    async def list_offers(self, cursor: str | None) -> FeedPage:
        self.cursors.append(cursor)
        return self.pages[len(self.cursors) - 1]

    async def live(self, offer_ids: Sequence[str], *, on: date | None) -> list[LiveOffer]:
        self.calls += 1
        if self.failure:
            raise self.failure
        known = coalition.offers()
        slots = tuple(self.slots)
        return [LiveOffer(name, known[name].cash_fen, 5, slots) for name in offer_ids]


def feed(merchant_id: str, *, version: int = 1, **changes: Any) -> FeedPage:
    """A merchant's offers of the data as a page of its feed."""
    rows = [row for row in coalition.catalog()["offers"] if row["merchant"] == merchant_id]
    return FeedPage(tuple(feed_offer(row, version, **changes) for row in rows), "end", False)


def feed_offer(row: Mapping[str, Any], version: int = 1, **changes: Any) -> FeedOffer:
    values = {name: row[name] for name in FEED_PLAIN if name not in ("merchant", "seed")}
    extra = {name: value for name, value in row.items() if name not in FEED_PLAIN}
    return FeedOffer(**{"version": version, "attributes": extra, **values, **changes})


async def load(tx: AsyncConnection, *, people: Sequence[str] = ()) -> None:
    """Load merchants, programmes, agreements, promotions and offers; of members, those named."""
    data = coalition.catalog()
    await _load_merchants(tx, data)
    await promotions.load_calendar(
        tx, data["calendars"]["days"], solar_terms=data["calendars"]["solar_terms"]
    )
    for found in coalition.promotions().values():
        await promotions.add_promotion(
            tx,
            id=found.id,
            merchant_id=found.merchant_id,
            name_zh=found.name_zh,
            rule=found.rule_text,
            target=found.target,
            scope=found.scope,
            effect=found.effect,
            calendar=found.rule,
            judged_by=found.judged_by,
            sub_budget_fen=found.sub_budget_fen,
            details=found.details,
            now=OPENED,
        )
    for merchant in data["merchants"]:
        page = feed(merchant["id"])
        result = await catalog.apply_feed(tx, merchant_id=merchant["id"], page=page, now=OPENED)
        assert not result.refused, result
    for row in data["price_book"]:
        await catalog.set_book_price(
            tx,
            programme_id=row["programme"],
            offer_id=row["offer"],
            points_price=row["points"],
            below_declared_value=row["below_declared_value"],
            note=row["note"],
        )
    for row in data["agreements"]:
        await _load_agreement(tx, row)
    for row in data["members"] + data["demo_members"]:
        if row["id"] in people:
            await _load_member(tx, row)


async def _load_merchants(tx: AsyncConnection, data: Mapping[str, Any]) -> None:
    for row in data["merchants"]:
        names = ("id", "slug", "name_zh", "name_en", "category", "cities", "market", "roles")
        plain = {name: row[name] for name in names}
        await merchants.register(
            tx, **plain, operator=row.get("operator"), now=OPENED, code_hours=72
        )
        if "cover" in row:
            await settlement.set_cover(tx, merchant_id=row["id"], **row["cover"])
    for row in data["programmes"]:
        await points.publish_policy(
            tx,
            programme_id=row["id"],
            issuer=row["issuer"],
            name_zh=row["name_zh"],
            unit_zh=row["unit_zh"],
            rate=Rate(row["value"]["num_fen"], row["value"]["den_points"]),
            earn=row["earn"],
            months=row["validity"].get("months"),
            disclosure=row["disclosure"],
            compensation_bps=row["compensation_reserve_bps"],
            now=OPENED,
        )


async def load_noodles(tx: AsyncConnection) -> None:
    """A new merchant without a server, its programme, and an agreement with M04."""
    await merchants.register(
        tx,
        id="M17",
        slug="zhiwei",
        name_zh="知味面馆",
        name_en="Zhiwei Noodles",
        category="noodles",
        cities=["上海"],
        market="T1-2",
        roles=["issuer", "redeemer"],
        now=OPENED,
        code_hours=72,
    )
    await points.publish_policy(
        tx,
        programme_id="P-ZW",
        issuer="M17",
        name_zh="知味积分",
        unit_zh="面分",
        rate=Rate(1, 1),
        earn={"kind": "per_amount", "points": 1, "per_fen": 100},
        months=None,
        disclosure=coalition.programmes()["P-LL"].disclosure,
        compensation_bps=100,
        now=OPENED,
    )
    await settlement.add_agreement(
        tx,
        issuer="M04",
        redeemer="M17",
        settlement_bps=9_000,
        fee_bps=50,
        monthly_cap_fen=1_000_000,
        valid_from=date(2026, 11, 21),
        valid_until=date(2028, 1, 1),
        signed_by=("M04", "M17"),
        now=OPENED,
    )


async def _load_agreement(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    await settlement.add_agreement(
        tx,
        issuer=row["issuer"],
        redeemer=row["redeemer"],
        settlement_bps=row["settlement_bps"],
        fee_bps=row["fee_bps"],
        monthly_cap_fen=row["monthly_cap_fen"],
        valid_from=date.fromisoformat(row["valid_from"]),
        valid_until=date.fromisoformat(row["valid_until"]),
        kind=row["kind"],
        offers=row["scope"]["offers"],
        categories=row["scope"]["categories"],
        payee=row.get("payee"),
        agreement_id=row["id"],
        version=row["version"],
        signed_by=row["signed_by"],
        opening_used=row.get("used_fen"),  # As the demo day leaves it.
        now=start_of(date(2026, 1, 1)),
    )


async def _load_member(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    await members.register(
        tx,
        member_id=row["id"],
        name_zh=row["name_zh"],
        kind=row["kind"],
        city=row["city"],
        consents=row["consents"],
        tiers=row.get("tiers"),
        dates=row.get("dates"),
        contract=row.get("contract"),
        now=OPENED - timedelta(days=3000),
    )
    for programme_id, lots in row["lots"].items():
        programme = coalition.programmes()[programme_id]
        for lot in lots:
            earned_on = date.fromisoformat(lot["earned_on"])
            await points.open_lot(
                tx,
                member_id=row["id"],
                programme_id=programme_id,
                points=lot["left"],
                earned_on=earned_on,
                basis=lot["basis"],
                ref=lot["ref"],
                expires_at=programme.expiry(earned_on),
                now=OPENED,
            )
