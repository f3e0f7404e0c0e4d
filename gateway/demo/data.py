"""The demo coalition's reference data: catalog, the demo day, the arithmetic vectors."""

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data"


@cache
def catalog() -> dict[str, Any]:
    """Merchants, programmes, offers, agreements, promotions, members, calendars."""
    document: dict[str, Any] = _read("catalog.json")
    return document


@cache
def demo_day() -> dict[str, Any]:
    """The redemptions of 2026-11-20, the scenes after it, and every expected figure."""
    document: dict[str, Any] = _read("demo_day.json")
    return document


@cache
def seed_vectors() -> list[dict[str, Any]]:
    """The arithmetic claims of the source texts, with inputs and exact results."""
    vectors: list[dict[str, Any]] = _read("seed_vectors.json")
    return vectors


def _read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))
