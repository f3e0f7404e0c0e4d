"""Search grams, slot dates, and what may be published at all."""

from datetime import date

import pytest

from gateway.catalog import model, tokens
from gateway.catalog.model import CashLikeForbidden, GuaranteeMissing
from gateway.catalog.publishing import check, search_words
from gateway.merchants.model import Merchant
from tests.support import coalition


def merchant(merchant_id: str) -> Merchant:
    (row,) = [row for row in coalition.catalog()["merchants"] if row["id"] == merchant_id]
    return Merchant(
        id=row["id"],
        slug=row["slug"],
        name_zh=row["name_zh"],
        name_en=row["name_en"],
        category=row["category"],
        cities=tuple(row["cities"]),
        market=row["market"],
        roles=frozenset(row["roles"]),
        settlement_account=None,
        sandbox=True,
        paused=False,
        operator=row.get("operator"),
    )


@pytest.mark.parametrize(
    ("text", "grams"),
    [
        ("2D电影票", {"2d", "电", "影", "票", "电影", "影票"}),
        ("ＩＭＡＸ", {"imax"}),  # full width
        ("10 kg CO2e", {"10", "kg", "co2e"}),
        ("", set()),
        ("。!", set()),
    ],
)
def test_a_text_is_found_by_one_and_two_characters_and_by_words(text: str, grams: set[str]) -> None:
    assert tokens.of_text(text) == grams


@pytest.mark.parametrize(
    ("query", "grams"),
    [
        ("电影票", {"电影", "影票"}),
        ("票", {"票"}),
        ("imax 电影", {"imax", "电影"}),
        ("XH-01", {"xh", "01"}),
    ],
)
def test_a_query_asks_for_pairs(query: str, grams: set[str]) -> None:
    assert tokens.of_query(query) == grams


@pytest.mark.parametrize(
    ("query", "offer", "found"),
    [
        ("壹购", "HM-03", True),  # an alias of the operator
        ("红米好物", "HM-03", True),
        ("壹购", "XH-01", False),
        ("电影", "XH-01", True),
        ("星汇", "XH-01", True),
        ("cinemas", "XH-01", True),
        ("TICKET", "XH-01", True),
        ("xh-01", "XH-01", True),
        ("奶茶", "CW-01", True),
        ("影电", "XH-01", False),
    ],
)
def test_an_offer_is_found_by_its_names_category_merchant_and_aliases(
    query: str, offer: str, found: bool
) -> None:
    item = coalition.offers()[offer]
    words = search_words(item, merchant(item.merchant_id))
    assert (tokens.of_query(query) <= set(words)) is found


def test_the_name_weighs_more_than_the_merchant() -> None:
    words = search_words(coalition.offers()["XH-01"], merchant("M05"))
    assert words["票"] > words["星汇"]
    assert (
        words[tokens.of_tag("绿色消费")] if "绿色消费" in coalition.offers()["XH-01"].tags else True
    )


def test_green_offers_carry_the_theme_tag() -> None:
    words = search_words(coalition.offers()["HM-03"], merchant("M01"))
    assert tokens.of_tag("绿色消费") in words


@pytest.mark.parametrize(
    ("slot", "on"),
    [
        ("2026-11-22T10:00:00+08:00", date(2026, 11, 22)),
        ("YT801 2026-11-25", date(2026, 11, 25)),
        ("2026-11-20", date(2026, 11, 20)),
        ("rooms/2026-11-20/standard", date(2026, 11, 20)),
        ("2026-13-20", None),
        ("hall-1", None),
        (None, None),
    ],
)
def test_a_slot_names_its_day(slot: str | None, on: date | None) -> None:
    assert model.slot_date(slot) == on


def test_every_offer_of_the_data_can_be_published() -> None:
    for offer in coalition.offers().values():
        assert check(offer) is offer


@pytest.mark.parametrize(
    ("kind", "category", "name"),
    [
        ("gift_card", "日用", "购物礼品"),
        ("voucher", "礼品卡", "百元卡"),
        ("voucher", "日用", "超市储值卡100元"),
        ("voucher", "Gift Card", "card"),
        ("voucher", "prepaid value", "x"),
        ("voucher", "餐饮", "现\u200b金券"),
        ("voucher", "餐饮", "Ｃａｓｈ"),
    ],
)
def test_cash_in_another_form_is_never_an_offer(kind: str, category: str, name: str) -> None:
    with pytest.raises(CashLikeForbidden) as refusal:
        model.require_not_cash_like(offer_id="X-1", kind=kind, category=category, name_zh=name)
    assert refusal.value.context["offer"] == "X-1"


def test_a_guarantee_says_four_things() -> None:
    with pytest.raises(GuaranteeMissing) as refusal:
        model.require_guarantee("X-1", {"parity": "same", "contact": ""})
    assert refusal.value.context == {
        "offer": "X-1",
        "fields": ["cancel", "compensation", "contact"],
    }
