"""Offers, their prices in points, and what is asked of the catalog. Pure."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from gateway.errors import Refused
from gateway.values import Rate

KINDS = frozenset(
    {
        "service", "shipment", "voucher", "coupon", "offset", "slot", "night", "upgrade",
        "flight", "carbon", "draw", "badge_prize", "credential", "donation",
    }
)  # fmt: skip
ELSEWHERE = {  # Kinds with a door of their own: they are never bought by a quote.
    "draw": "draws are entered by enterDraw",
    "badge_prize": "badge prizes are claimed by claimBadgePrize",
    "credential": "credentials are read, not bought",
    "donation": "donations go through donatePoints",
}
OWN_ONLY = frozenset({"draw", "badge_prize", "credential"})
GUARANTEE = ("parity", "cancel", "compensation", "contact")
PAGE_LIMIT = 100
GREEN = "绿色消费"


class OfferSuspended(Refused):
    code = "OFFER_SUSPENDED"
    when = "suspended by parity, review or the operator"
    zh = "该项目已暂停兑换"
    en = "this offer is suspended"
    next_zh = "看看其他权益"
    next_en = "choose another offer"


class BookingRequired(Refused):
    code = "BOOKING_REQUIRED"
    when = "an upgrade without its booking, which the slot names"
    zh = "升级需要已付款的预订"
    en = "an upgrade needs a paid booking"
    next_zh = "请先预订"
    next_en = "book first"


class EnterpriseRestricted(Refused):
    code = "ENTERPRISE_RESTRICTED"
    when = "enterprise points outside the contract's goods, or towards a person"
    zh = "企业积分仅限本企业按合同使用"
    en = "enterprise points serve the enterprise only"
    next_zh = "请选择合同允许的权益"
    next_en = "choose an allowed offer"


class GuaranteeMissing(Refused):
    code = "GUARANTEE_MISSING"
    when = "an offer whose service guarantee is incomplete"
    zh = "缺少权益保障说明"
    en = "service guarantee missing"
    next_zh = "请补全:{fields}"
    next_en = "fill in: {fields}"


class CashLikeForbidden(Refused):
    code = "CASH_LIKE_FORBIDDEN"
    when = "an offer of gift cards, prepaid value or the like"
    zh = "不能兑换现金类商品"
    en = "cash-like goods cannot be offered for points"
    next_zh = "请选择商品或服务"
    next_en = "choose goods or services"


@dataclass(frozen=True, slots=True)
class Offer:
    """One offer of the projection.

    `attributes` holds what not every offer has: green, parity, slots, pricing, coupon,
    offset_unit, guarantee, needs, needs_legal_review, only_categories, earns, stores, tags …
    `hosted` says that the merchant has no server: the gateway keeps the offer for it.
    """

    id: str
    merchant_id: str
    version: int
    name_zh: str
    name_en: str
    kind: str
    category: str
    cash_fen: int
    own_points: int | None
    own_priced_by: str | None
    green: bool = False
    high_value: bool = False
    guaranteed: bool = False
    max_offset_pct: int = 100
    part_payment: bool = True
    hosted: bool = False
    suspended: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pricing(self) -> str:
        """`estimate` where the quote is a ceiling, else `fixed`."""
        return str(self.attributes.get("pricing") or "fixed")

    @property
    def offset(self) -> bool:
        """Whether it takes points off a bill, in units of its cash price."""
        return self.kind == "offset"

    @property
    def guarantee(self) -> Mapping[str, str]:
        guarantee: Mapping[str, str] = self.attributes.get("guarantee") or {}
        return guarantee

    @property
    def coupon(self) -> Mapping[str, Any] | None:
        return self.attributes.get("coupon")

    @property
    def tags(self) -> tuple[str, ...]:
        """Theme tags: those given, and those its flags mean."""
        given: list[str] = list(self.attributes.get("tags") or ())
        meant = ((GREEN, self.green), ("高价值", self.high_value))
        return tuple(dict.fromkeys(given + [tag for tag, holds in meant if holds]))


@dataclass(frozen=True, slots=True)
class Price:
    """What an offer costs in one programme's points.

    Args:
        points: For one unit of the offer.
        rate: Exact fen per point of a leg: list price ÷ points, or the declared value.
        basis: `value`, `own`, `book` or `promotion`.
        formula: How the price comes about, to be shown beside it.
        regular_points: The price without the promotion.
        below_declared_value: A point gives less here than was declared; that is shown.
    """

    programme_id: str
    issuer: str
    points: int
    rate: Rate
    basis: str
    formula: str
    own: bool
    promotion_id: str | None = None
    regular_points: int | None = None
    below_declared_value: bool = False


@dataclass(frozen=True, slots=True)
class OfferFilter:
    """What offers are wanted; None does not filter. `affordable` needs balances."""

    text: str | None = None
    tag: str | None = None
    city: str | None = None
    category: str | None = None
    merchant: str | None = None
    kind: str | None = None
    green: bool | None = None
    affordable: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a cursor connection: `cursors` stand beside `offers`."""

    offers: tuple[Offer, ...]
    cursors: tuple[str, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class FeedResult:
    """What a feed page did: ids applied, stale or gone, and refused ids with their codes."""

    applied: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Warning:  # noqa: A001 - the API's own word for it.
    """A partner that did not answer a catalog query in time."""

    merchant: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class QuoteLeg:
    """One leg of a quote, with the terms it will settle by; `rate` is fen per point."""

    leg_no: int
    programme_id: str
    issuer: str
    points: int
    face_fen: int
    rate_num: int
    rate_den: int
    own: bool
    agreement_id: str | None = None
    agreement_version: int | None = None
    settlement_fen: int = 0
    fee_fen: int = 0
    promotion_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoredQuote:
    """An immutable quote: what a member is asked to accept. Faces and cash sum to the list.

    `shown_fen` is what the catalog showed; the partner's `list_fen` may be another.
    """

    id: str
    member_id: str
    offer_id: str
    merchant_id: str
    slot: str | None
    quantity: int
    bill_fen: int | None
    list_fen: int
    shown_fen: int
    cash_fen: int
    legs: tuple[QuoteLeg, ...]
    partner_quote_id: str | None
    terms_hash: str
    expires_at: datetime
    cancel_until: datetime | None
    category: str
    kind: str
    pricing: str
    quoted_at: datetime

    def __post_init__(self) -> None:
        covered = sum(leg.face_fen for leg in self.legs)
        assert covered + self.cash_fen == self.list_fen, "faces and cash sum to the list price"


_CASH_LIKE = (
    "礼品卡", "购物卡", "储值", "预付", "充值卡", "代金卡", "现金", "红包", "提现",
    "gift card", "gift_card", "giftcard", "prepaid", "stored value", "stored_value", "cash",
)  # fmt: skip


def _plain(text: str) -> str:
    """A text as people read it: wide letters made narrow, what is not seen left out."""
    seen = unicodedata.normalize("NFKC", text).casefold()
    return "".join(mark for mark in seen if unicodedata.category(mark) not in ("Cf", "Mn"))


def require_not_cash_like(*, offer_id: str, kind: str, category: str, name_zh: str) -> None:
    """Refuse what is money in another form. Source: red line 禁止积分回兑法定货币, S-105.

    Raises:
        CashLikeForbidden: Kind, category or name says a gift card, prepaid value or cash.
    """
    for text in (kind, category, name_zh):
        if any(word in _plain(text) for word in _CASH_LIKE):
            raise CashLikeForbidden(field=("category",), offer=offer_id, category=category or kind)


def require_guarantee(offer_id: str, guarantee: Mapping[str, Any]) -> None:
    """Check that a guarantee says parity, cancellation, compensation and contact.

    Raises:
        GuaranteeMissing: The fields it lacks.
    """
    missing = [name for name in GUARANTEE if not guarantee.get(name)]
    if missing:
        raise GuaranteeMissing(field=("guarantee",), offer=offer_id, fields=missing)


def slot_date(slot: str | None) -> date | None:
    """The business day a slot id names, as in `YT801 2026-11-25`; None when it names none."""
    for word in (slot or "").replace("T", " ").replace("/", " ").replace(":", " ").split():
        if len(word) == len("2026-11-21"):
            try:
                return date.fromisoformat(word)
            except ValueError:
                continue
    return None


def attributes_of(extra: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """The attributes that have no column of their own, without empty ones."""
    return {name: value for name, value in extra.items() if name not in known and value is not None}
