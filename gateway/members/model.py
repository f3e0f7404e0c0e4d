"""A member and its consents. Pure."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from gateway.errors import Refused

PARTNER_PAIR = "partner_pair"
SERVICE = "service"
PURPOSES = frozenset(
    {SERVICE, PARTNER_PAIR, "personalisation", "attribution", "emotional_statement"}
)
LEAST_AGE = 14  # Source: requirements §5.


class ConsentRequired(Refused):
    code = "CONSENT_REQUIRED"
    when = "first use at a partner, or a purpose not agreed to"
    zh = "首次在{redeemer}使用{programme},需单独同意"
    en = "using {programme} at {redeemer} needs your consent"
    next_zh = "同意后重试"
    next_en = "grant and retry"


class AgeRestricted(Refused):
    code = "AGE_RESTRICTED"
    when = "minor: account < 14, draws < 18"
    zh = "未满 {age} 岁不能参加"
    en = "not available under {age}"
    next_zh = "达到年龄后再来"
    next_en = "come back when you are old enough"


@dataclass(frozen=True, slots=True)
class Member:
    """A person or an enterprise. `tiers` by programme; `dates` as MM-DD by what they mark."""

    id: str
    name_zh: str
    kind: str  # person, enterprise
    city: str
    birth_on: date | None = None
    tiers: Mapping[str, str] = field(default_factory=dict)
    dates: Mapping[str, str] = field(default_factory=dict)
    contract: str | None = None


@dataclass(frozen=True, slots=True)
class Consent:
    """What a member agreed to, from when until when. A pair names issuer and redeemer."""

    id: str
    member_id: str
    purpose: str
    issuer: str | None
    redeemer: str | None
    granted_at: datetime
    revoked_at: datetime | None = None


def pseudonym(secret: bytes, merchant_id: str, member_id: str) -> str:
    """A member's reference at one merchant; two merchants cannot join theirs."""
    message = f"{merchant_id}\n{member_id}".encode()
    return f"pm_{hmac.new(secret, message, hashlib.sha256).hexdigest()[:32]}"


def age_on(birth_on: date, day: date) -> int:
    """Completed years of life on a day."""
    return day.year - birth_on.year - ((day.month, day.day) < (birth_on.month, birth_on.day))
