"""The demo coalition's data as the product's own types, for pure tests."""

import json
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from gateway.catalog.model import Offer, attributes_of
from gateway.points.model import Programme
from gateway.promotions.calendar import Days, read_days
from gateway.promotions.model import Promotion
from gateway.settlement.model import Agreement, AgreementKind
from gateway.values import Rate

DATA = Path(__file__).parents[2] / "gateway/demo/data"
COLUMNS = (
    "id", "merchant", "name_zh", "name_en", "kind", "category", "cash_fen", "own_points",
    "own_priced_by", "green", "high_value", "guaranteed", "max_offset_pct", "part_payment", "seed",
)  # fmt: skip


@cache
def read(name: str) -> Any:
    """One of the data files."""
    return json.loads((DATA / f"{name}.json").read_text())


def catalog() -> dict[str, Any]:
    data: dict[str, Any] = read("catalog")
    return data


@cache
def offers() -> dict[str, Offer]:
    found = {}
    for row in catalog()["offers"]:
        plain = {name: row[name] for name in COLUMNS if name not in ("merchant", "seed")}
        found[row["id"]] = Offer(
            merchant_id=row["merchant"],
            version=1,
            attributes=attributes_of(row, COLUMNS),
            **plain,
        )
    return found


@cache
def programmes() -> dict[str, Programme]:
    return {
        row["id"]: Programme(
            id=row["id"],
            issuer=row["issuer"],
            name_zh=row["name_zh"],
            unit_zh=row["unit_zh"],
            rate=Rate(row["value"]["num_fen"], row["value"]["den_points"]),
            months=row["validity"].get("months"),
            earn=row["earn"],
            disclosure=row["disclosure"],
            compensation_bps=row["compensation_reserve_bps"],
            policy_version=1,
        )
        for row in catalog()["programmes"]
    }


@cache
def agreements() -> dict[tuple[str, str], Agreement]:
    def tuple_or_none(values: list[str] | None) -> tuple[str, ...] | None:
        return None if values is None else tuple(values)

    return {
        (row["issuer"], row["redeemer"]): Agreement(
            id=row["id"],
            version=row["version"],
            issuer=row["issuer"],
            redeemer=row["redeemer"],
            kind=AgreementKind(row["kind"]),
            settlement_bps=row["settlement_bps"],
            fee_bps=row["fee_bps"],
            monthly_cap_fen=row["monthly_cap_fen"],
            valid_from=date.fromisoformat(row["valid_from"]),
            valid_until=date.fromisoformat(row["valid_until"]),
            offers=tuple_or_none(row["scope"]["offers"]),
            categories=tuple_or_none(row["scope"]["categories"]),
            payee=row.get("payee"),
            signed_by=tuple(row["signed_by"]),
            signed_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        for row in catalog()["agreements"]
    }


@cache
def promotions() -> dict[str, Promotion]:
    known = {
        "id", "merchant", "name_zh", "rule", "target", "scope", "effect", "calendar", "judged_by",
        "sub_budget_fen",
    }  # fmt: skip
    return {
        row["id"]: Promotion(
            id=row["id"],
            merchant_id=row["merchant"],
            name_zh=row["name_zh"],
            rule_text=row["rule"],
            target=row["target"],
            scope=row["scope"],
            effect=row["effect"],
            rule=row["calendar"],
            judged_by=row.get("judged_by", "quote instant"),
            sub_budget_fen=row.get("sub_budget_fen"),
            details={name: row[name] for name in row if name not in known},
        )
        for row in catalog()["promotions"]
    }


@cache
def days() -> Days:
    calendars = catalog()["calendars"]
    rows = read_days(calendars["days"], solar_terms=calendars["solar_terms"])
    return {day.on: day for day in rows}


def book_price(programme_id: str, offer_id: str) -> int | None:
    for row in catalog()["price_book"]:
        if (row["programme"], row["offer"]) == (programme_id, offer_id):
            return int(row["points"])
    return None
