"""Points prices and the splitting of list prices, exact to the fen."""

from datetime import datetime
from typing import Any

import pytest

from gateway.catalog import pricing
from gateway.catalog.model import Price
from gateway.catalog.pricing import (
    LegInput,
    LegLimit,
    LegSum,
    OffsetCap,
    PartPaymentNotAllowed,
    Split,
    Tender,
)
from gateway.errors import Refused
from gateway.settlement.model import rate_leg
from gateway.values import InvalidAmount, InvalidInput, Rate
from tests.support import coalition

REDEMPTIONS = coalition.read("demo_day")["redemptions"]
RIDE = coalition.read("demo_day")["scenes"][0]["steps"][0]


def price(programme_id: str, offer_id: str, at: str | None = None) -> Price:
    """The price of an offer, with its promotion running at an instant if one does."""
    programme = coalition.programmes()[programme_id]
    offer = coalition.offers()[offer_id]
    running = [
        (int(found.effect["points"]), found.id)
        for found in coalition.promotions().values()
        if at
        and found.kind == "price"
        and found.target == {"offer": offer_id}
        and found.runs(coalition.days(), at=datetime.fromisoformat(at))
    ]
    found = pricing.price(
        offer,
        programme_id=programme_id,
        issuer=programme.issuer,
        unit_zh=programme.unit_zh,
        value=programme.rate,
        book=coalition.book_price(programme_id, offer_id),
        promotion=min(running, default=None),
    )
    assert found
    return found


def split(
    offer_id: str,
    legs: list[tuple[str, int | None]],
    *,
    quantity: int = 1,
    bill_fen: int | None = None,
    cash_fen: int | None = None,
    list_fen: int | None = None,
    at: str | None = None,
) -> Split:
    offer = coalition.offers()[offer_id]
    total = list_fen or bill_fen or offer.cash_fen * quantity
    tenders = [
        Tender(
            pricing.leg_rate(offer, price(name, offer_id, at), list_fen=total, quantity=quantity),
            points,
        )
        for name, points in legs
    ]
    return pricing.split(
        tenders,
        offer_id=offer_id,
        list_fen=total,
        cash_fen=cash_fen,
        part_payment=offer.part_payment,
        max_offset_pct=offer.max_offset_pct,
        rest_in_cash=offer.offset,
    )


CASES = [
    pytest.param(row, last_leg, id=f"{row['id']} {last_leg}")
    for row in REDEMPTIONS
    for last_leg in ("open", "named")
    if (row["id"], last_leg) != ("red_D17", "named")  # 113 named points cover 4,520 fen.
]


@pytest.mark.parametrize(("row", "last_leg"), CASES)
def test_a_redemption_of_the_demo_day_splits_and_settles_exactly(
    row: dict[str, Any], last_leg: str
) -> None:
    legs: list[tuple[str, int | None]] = [(leg["programme"], leg["points"]) for leg in row["legs"]]
    if last_leg == "open":
        legs[-1] = (legs[-1][0], None)
    parts = split(
        row["offer"],
        legs,
        quantity=row["quantity"],
        cash_fen=row["cash_fen"],
        at=row["committed_at"],
    )
    assert parts.cash_fen == row["cash_fen"]
    assert sum(leg.face_fen for leg in parts.legs) + parts.cash_fen == row["list_fen"]
    for part, leg in zip(parts.legs, row["legs"], strict=True):
        assert (part.points, part.face_fen) == (leg["points"], leg["face_fen"])
        own = leg["issuer"] == row["redeemer"]
        assert own == leg["own"]
        if not own:
            agreement = coalition.agreements()[leg["issuer"], row["redeemer"]]
            terms = rate_leg(agreement, part.face_fen)
            assert agreement.id == leg["agreement"]
            assert (terms.settlement_fen, terms.fee_fen) == (leg["settlement_fen"], leg["fee_fen"])


def test_a_ride_is_split_at_its_ceiling() -> None:
    parts = split("KX-03", [(leg["programme"], leg.get("points")) for leg in RIDE["legs"]])
    expected = [(leg["points"], leg["face_fen"]) for leg in RIDE["expect"]["legs"]]
    assert [(leg.points, leg.face_fen) for leg in parts.legs] == expected
    terms = rate_leg(coalition.agreements()["M04", "M07"], parts.legs[0].face_fen)
    assert (terms.settlement_fen, terms.fee_fen) == (7_200, 36)


@pytest.mark.parametrize(
    ("programme", "offer", "at", "points", "formula"),
    [
        ("P-XH", "XH-01", None, 2_250, "¥45.00 = 2,250 星分"),
        ("P-LL", "XH-01", None, 4_500, "¥45.00 ÷ 1 分钱 = 4,500 邻里分"),
        ("P-CA", "XH-01", None, 450, "¥45.00 ÷ 10 分钱 = 450 车主分"),
        ("P-YQ", "XH-01", None, 2_700, "¥45.00 ÷ 5/3 分钱 = 2,700 房晚分"),
        ("P-YT", "XH-01", None, 600, "¥45.00 ÷ 15/2 分钱 = 600 里程"),
        ("P-JY", "XH-01", None, 113, "¥45.00 ÷ 40 分钱 = 113 璟分(进位)"),
        ("P-CA", "AX-01", None, 20_000, "¥1,000.00 = 20,000 车主分"),
        ("P-CA", "CA-03", "2026-10-31T23:59:59+08:00", 5_000, "¥600.00 = 5,000 车主分(原 6,000)"),
        ("P-CA", "CA-03", "2026-11-01T00:00:00+08:00", 6_000, "¥600.00 = 6,000 车主分"),
        ("P-HM", "QH-02", None, 249_900, "¥2,499.00 ÷ 1 分钱 = 249,900 绿积分"),
    ],
)
def test_a_price_says_how_it_comes_about(
    programme: str, offer: str, at: str | None, points: int, formula: str
) -> None:
    found = price(programme, offer, at)
    assert (found.points, found.formula) == (points, formula)


def test_a_promotion_price_holds_in_the_own_programme_only() -> None:
    at = "2026-10-15T12:00:00+08:00"
    assert price("P-CA", "CA-03", at).promotion_id == "PR-01"
    assert price("P-LL", "CA-03", at).points == 60_000
    assert price("P-LL", "CA-03", at).promotion_id is None


@pytest.mark.parametrize(
    ("offer", "legs", "bill", "cash", "expected"),
    [
        ("CA-07", [("P-CA", 2_000)], 40_000, None, ([(2_000, 20_000)], 20_000)),
        ("CA-07", [("P-CA", 2_000)], 40_000, 20_000, ([(2_000, 20_000)], 20_000)),
        ("YQ-03", [("P-YQ", 6_000)], 30_000, None, ([(6_000, 10_000)], 20_000)),
        ("LL-04", [("P-LL", 1_800)], 1_800, None, ([(1_800, 1_800)], 0)),
        ("LL-04", [("P-LL", None)], 1_805, None, ([(1_805, 1_805)], 0)),
        ("HR-06", [("P-HR", 5_000)], 10_000, 5_000, ([(5_000, 5_000)], 5_000)),
        ("CA-07", [("P-CA", None)], 33_330, 16_665, ([(1_667, 16_665)], 16_665)),
    ],
)
def test_a_bill_is_offset_and_the_rest_is_cash(
    offer: str,
    legs: list[tuple[str, int | None]],
    bill: int,
    cash: int | None,
    expected: tuple[list[tuple[int, int]], int],
) -> None:
    parts = split(offer, legs, bill_fen=bill, cash_fen=cash)
    assert ([(leg.points, leg.face_fen) for leg in parts.legs], parts.cash_fen) == expected


@pytest.mark.parametrize(
    ("offer", "legs", "given", "error", "context"),
    [
        (
            "CA-07",
            [("P-CA", 2_010)],
            {"bill_fen": 40_000},
            OffsetCap,
            {"max_pct": 50, "max_fen": 20_000, "max_points": 2_000},
        ),
        (
            "CA-07",
            [("P-CA", None)],
            {"bill_fen": 40_000},
            OffsetCap,
            {"max_pct": 50, "max_fen": 20_000, "max_points": 2_000},
        ),
        ("XH-01", [("P-LL", 4_000)], {}, LegSum, {"sum_fen": 4_000, "list_fen": 4_500}),
        (
            "XH-01",
            [("P-LL", 4_000)],
            {"cash_fen": 600},
            LegSum,
            {"sum_fen": 4_600, "list_fen": 4_500},
        ),
        ("XH-01", [("P-LL", 5_000)], {}, LegSum, {"sum_fen": 5_000, "list_fen": 4_500}),
        (
            "XH-01",
            [("P-LL", 5_000), ("P-XH", None)],
            {},
            LegSum,
            {"sum_fen": 5_000, "list_fen": 4_500},
        ),
        (
            "LL-04",
            [("P-LL", 2_000)],
            {"bill_fen": 1_800},
            LegSum,
            {"sum_fen": 2_000, "list_fen": 1_800},
        ),
        ("YQ-01", [("P-YQ", 10_000)], {}, PartPaymentNotAllowed, {"offer": "YQ-01"}),
        (
            "YQ-01",
            [("P-YQ", 15_000)],
            {"cash_fen": 25_000},
            PartPaymentNotAllowed,
            {"offer": "YQ-01"},
        ),
        (
            "YQ-01",
            [("P-YQ", 15_000), ("P-JY", None)],
            {},
            PartPaymentNotAllowed,
            {"offer": "YQ-01"},
        ),
        (
            "XH-01",
            [("P-LL", 4_500), ("P-XH", None)],
            {},
            InvalidInput,
            {"field": "legs.1.points", "rule": "nothing is left for this leg"},
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    offer: str,
    legs: list[tuple[str, int | None]],
    given: dict[str, int],
    error: type[Refused],
    context: dict[str, object],
) -> None:
    with pytest.raises(error) as refusal:
        split(offer, legs, **given)
    assert refusal.value.context == context


@pytest.mark.parametrize(
    ("given", "error", "context"),
    [
        (
            {"legs": [LegInput("P-HM", 1_005)], "cash_fen": 1_995},
            InvalidInput,
            {"field": "legs.0.points", "rule": "step of 10", "step": 10},
        ),
        (
            {"legs": [LegInput("P-HM"), LegInput("P-LL", 10)]},
            InvalidInput,
            {"field": "legs.0.points", "rule": "only the last leg may be left open"},
        ),
        ({"legs": []}, InvalidInput, {"field": "legs", "rule": "1 to 3 legs", "most": 3}),
        (
            {"legs": [LegInput(f"P-{n}", 10) for n in range(4)]},
            LegLimit,
            {"max": 3, "given": 4},
        ),
        (
            {"legs": [LegInput("P-HM", 10), LegInput("P-HM")]},
            InvalidInput,
            {"field": "legs", "rule": "each programme once"},
        ),
        ({"legs": [LegInput("P-HM", 0)]}, InvalidAmount, {"value": 0}),
        ({"legs": [LegInput("P-HM", -10)]}, InvalidAmount, {"value": -10}),
        ({"legs": [LegInput("P-HM")], "cash_fen": -1}, InvalidAmount, {"value": -1}),
        ({"legs": [LegInput("P-HM")], "quantity": 0}, InvalidAmount, {"value": 0}),
        ({"legs": [LegInput("P-HM")], "bill_fen": 2**53}, InvalidAmount, {"value": 2**53}),
    ],
)
def test_a_request_that_breaks_a_rule_is_refused_before_anything_is_looked_up(
    given: dict[str, Any], error: type[Refused], context: dict[str, object]
) -> None:
    asked = {"cash_fen": None, "quantity": 1, "bill_fen": None} | given
    with pytest.raises(error) as refusal:
        pricing.check_request(**asked, step=10)
    assert refusal.value.context == context


@pytest.mark.parametrize(
    ("offer", "programme", "list_fen", "points"),
    [
        ("XH-01", "P-LL", 4_600, 4_600),  # by value: follows the partner's price
        ("XH-01", "P-XH", 4_600, 2_250),  # by book: stays
        ("CW-03", "P-CW", 350, 350),  # own, but priced by value: follows
        ("AX-01", "P-CA", 110_000, 20_000),  # by the price book: stays
    ],
)
def test_the_partners_list_price_is_the_truth(
    offer: str, programme: str, list_fen: int, points: int
) -> None:
    parts = split(offer, [(programme, None)], list_fen=list_fen)
    assert [(leg.points, leg.face_fen) for leg in parts.legs] == [(points, list_fen)]


def test_an_odd_rate_rounds_up_only_in_the_open_leg() -> None:
    two = [Tender(Rate(5, 3), 100), Tender(Rate(5, 3), None)]
    parts = pricing.split(
        two,
        offer_id="X",
        list_fen=1_000,
        cash_fen=1,
        part_payment=True,
        max_offset_pct=100,
        rest_in_cash=False,
    )
    assert [(leg.points, leg.face_fen) for leg in parts.legs] == [(100, 166), (500, 833)]
