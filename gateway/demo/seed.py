"""Fills an empty database with the demo coalition: parties, programmes, agreements, members.

Offers are not seeded: they come from the partners' feeds. `feed_page` makes such a page from
the catalog for tests and for the simulators' first stock.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.catalog import service as catalog_service
from gateway.compliance import service as compliance
from gateway.demo.data import catalog
from gateway.members import service as members
from gateway.merchants import service as merchants
from gateway.points import service as points
from gateway.ports import FeedOffer, FeedPage
from gateway.promotions import service as promotions
from gateway.settlement import service as settlement
from gateway.values import Rate, start_of

BUDGET_MAKER, BUDGET_CHECKER = "usr_operator", "usr_operator_checker"
STAFF_LIMIT_FEN = 200_000_000  # ¥2,000,000: what the demo's staff may approve
_ATTRIBUTES = (
    *("own_points", "own_priced_by", "green", "high_value", "guaranteed", "max_offset_pct"),
    *("part_payment", "slots", "parity", "guarantee", "pricing", "coupon", "offset_unit", "needs"),
    *("only_categories", "needs_legal_review", "earns", "cash_only", "variable_amount"),
)


async def seed_reference(tx: AsyncConnection, *, now: datetime) -> None:
    """Merchants, licences, programmes with budgets, agreements, promotions, the calendar."""
    data = catalog()
    for row in data["merchants"]:
        await _merchant(tx, row, now=now)
    for row in data["programmes"]:
        await _programme(tx, row, now=now)
    calendars = data["calendars"]
    await promotions.load_calendar(
        tx,
        calendars["days"],
        solar_terms=calendars["solar_terms"],
    )
    for row in data["promotions"]:
        await _promotion(tx, row, now=now)
    for row in data["agreements"]:
        await _agreement(tx, row, now=now)


async def _merchant(tx: AsyncConnection, row: Mapping[str, Any], *, now: datetime) -> None:
    await merchants.register(
        tx,
        id=row["id"],
        slug=row["slug"],
        name_zh=row["name_zh"],
        name_en=row["name_en"],
        category=row["category"],
        cities=row["cities"],
        market=row["market"],
        roles=row["roles"],
        settlement_account=row.get("settlement_account"),
        operator=row.get("operator"),
        now=now,
        code_hours=72,
    )
    if cover := row.get("cover"):
        await settlement.set_cover(tx, merchant_id=row["id"], **cover)
    for licence in row.get("operator", {}).get("licences", ()):
        await compliance.record_licence(
            tx,
            kind=licence["kind"],
            number=licence["number"],
            scope=licence["scope"],
            valid_from=date.fromisoformat(licence["valid_from"]),
            valid_until=date.fromisoformat(licence["valid_until"]),
            now=now,
        )


async def _programme(tx: AsyncConnection, row: Mapping[str, Any], *, now: datetime) -> None:
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
        now=now,
    )
    budget = await compliance.propose_budget(
        tx,
        issuer=row["issuer"],
        year=2026,
        budget_fen=row["yearly_budget_fen"],
        compensation_bps=row["compensation_reserve_bps"],
        actor=BUDGET_MAKER,
        now=now,
    )
    await compliance.approve_budget(
        tx,
        budget_id=budget.id,
        actor=BUDGET_CHECKER,
        limit_fen=STAFF_LIMIT_FEN,
        now=now,
    )


async def _promotion(tx: AsyncConnection, row: Mapping[str, Any], *, now: datetime) -> None:
    known = {"id", "merchant", "name_zh", "rule", "target", "scope", "effect", "calendar"}
    known |= {"judged_by", "sub_budget_fen"}
    await promotions.add_promotion(
        tx,
        id=row["id"],
        merchant_id=row["merchant"],
        name_zh=row["name_zh"],
        target=row["target"],
        effect=row["effect"],
        calendar=row["calendar"],
        scope=row["scope"],
        judged_by=row.get("judged_by", "quote instant"),
        rule=row["rule"],
        sub_budget_fen=row.get("sub_budget_fen"),
        details={name: value for name, value in row.items() if name not in known},
        now=now,
    )
    if fen := row.get("sub_budget_fen"):
        await compliance.add_slice(tx, issuer=row["merchant"], slice=row["id"], fen=fen, now=now)


async def _agreement(tx: AsyncConnection, row: Mapping[str, Any], *, now: datetime) -> None:
    await settlement.add_agreement(
        tx,
        agreement_id=row["id"],
        version=row["version"],
        issuer=row["issuer"],
        redeemer=row["redeemer"],
        kind=row["kind"],
        settlement_bps=row["settlement_bps"],
        fee_bps=row["fee_bps"],
        monthly_cap_fen=row["monthly_cap_fen"],
        valid_from=date.fromisoformat(row["valid_from"]),
        valid_until=date.fromisoformat(row["valid_until"]),
        offers=row["scope"]["offers"],
        categories=row["scope"]["categories"],
        payee=row.get("payee"),
        signed_by=row["signed_by"],
        opening_used=row.get("opening_used_fen"),
        now=now,
    )


async def seed_members(tx: AsyncConnection, *, now: datetime) -> None:
    """The personas and the demo day's members, with consents and one OPENING journal per lot."""
    data = catalog()
    for row in [*data["members"], *data["demo_members"]]:
        await members.register(
            tx,
            member_id=row["id"],
            name_zh=row["name_zh"],
            city=row["city"],
            kind=row["kind"],
            birth_on=date.fromisoformat(row["birth_on"]) if "birth_on" in row else None,
            tiers=row.get("tiers", {}),
            dates=row.get("dates", {}),
            contract=row.get("contract"),
            consents=row["consents"],
            now=now,
        )
        for programme_id, lots in row["lots"].items():
            for lot in lots:
                await _lot(tx, row["id"], programme_id, lot, now=now)
        for spent in row.get("history", ()):
            await points.spend_opening(
                tx,
                member_id=row["id"],
                programme_id=spent["programme"],
                points=spent["points"],
                ref=spent["offer"],
                effective_at=start_of(date.fromisoformat(spent["effective_on"])),
                now=now,
            )


async def _lot(
    tx: AsyncConnection, member_id: str, programme_id: str, lot: Mapping[str, Any], *, now: datetime
) -> None:
    expires = lot.get("expires_at")
    await points.open_lot(
        tx,
        member_id=member_id,
        programme_id=programme_id,
        points=lot["points"],
        earned_on=date.fromisoformat(lot["earned_on"]),
        basis=lot["basis"],
        ref=lot["ref"],
        expires_at=datetime.fromisoformat(expires) if expires else None,
        now=now,
    )


def feed_page(merchant_id: str) -> FeedPage:
    """One merchant's offers as its feed gives them, from the catalog."""
    rows = [row for row in catalog()["offers"] if row["merchant"] == merchant_id]
    return FeedPage(tuple(_feed_offer(row) for row in rows), cursor="1", more=False)


def _feed_offer(row: Mapping[str, Any]) -> FeedOffer:
    return FeedOffer(
        id=row["id"],
        version=1,
        name_zh=row["name_zh"],
        name_en=row["name_en"],
        kind=row["kind"],
        category=row["category"],
        cash_fen=row["cash_fen"],
        attributes={name: row[name] for name in _ATTRIBUTES if name in row},
    )


async def seed_price_book(tx: AsyncConnection) -> None:
    """Points prices in programmes other than the merchant's own; after the feeds."""
    for row in catalog()["price_book"]:
        await catalog_service.set_book_price(
            tx,
            programme_id=row["programme"],
            offer_id=row["offer"],
            points_price=row["points"],
            below_declared_value=row["below_declared_value"],
            note=row["note"],
        )


async def seed_offers(
    tx: AsyncConnection, *, now: datetime, merchant_ids: Iterable[str] | None = None
) -> None:
    """Offers straight from the catalog, for tests without partners."""
    wanted = merchant_ids or [row["id"] for row in catalog()["merchants"]]
    for merchant_id in wanted:
        await catalog_service.apply_feed(
            tx, merchant_id=merchant_id, page=feed_page(merchant_id), now=now
        )
    await seed_price_book(tx)
