"""Offers as the catalog writes them, cut down to what tests need."""

from typing import Any


def offer(offer_id: str, cash_fen: int, kind: str, **more: Any) -> dict[str, Any]:
    """One offer, as a stand-in's configuration lists it."""
    cancel = "free until 24 h before" if more.get("slots") else "before use, 7 days"
    return {
        "id": offer_id,
        "name_zh": f"{offer_id}号权益",
        "name_en": f"offer {offer_id}",
        "category": "测试",
        "kind": kind,
        "cash_fen": cash_fen,
        "own_points": cash_fen,
        "own_priced_by": "value",
        "green": False,
        "high_value": False,
        "guaranteed": True,
        "max_offset_pct": 100,
        "part_payment": True,
        "slots": None,
        "parity": bool(more.get("slots")),
        "guarantee": {"cancel": cancel, "contact": "partner@merchant.example"},
        **more,
    }
