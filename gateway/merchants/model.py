"""A merchant: one legal entity that issues points, redeems them, or both. Pure."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

OPERATOR = "operator"
ISSUER = "issuer"
REDEEMER = "redeemer"


@dataclass(frozen=True, slots=True)
class Merchant:
    """A registered merchant. `operator` holds brand and contact of the one that runs the coalition.

    `exited_on` is the first day on which it issues nothing more; its points stay redeemable.
    """

    id: str
    slug: str
    name_zh: str
    name_en: str
    category: str
    cities: tuple[str, ...]
    market: str
    roles: frozenset[str]
    settlement_account: Mapping[str, Any] | None
    sandbox: bool
    paused: bool
    operator: Mapping[str, Any] | None
    exited_on: date | None = None


def new_code() -> str:
    """An onboarding code of 160 random bits."""
    return f"onb_{secrets.token_urlsafe(20)}"


def code_hash(code: str) -> str:
    """What is stored of an onboarding code."""
    return hashlib.sha256(code.encode()).hexdigest()
